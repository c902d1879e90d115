"""ICAP clients that are slow, endless or dishonest: each is cut, and nothing is kept of it."""

import gzip
import time
from dataclasses import replace

import pytest

from nciihash.gate.config import UploadLimits
from nciihash.gate.dialects.icap.messages import LAST_CHUNK
from nciihash.gate.transport.connections import StreamLimits
from nciihash.hashing.hasher import hash_bytes
from support.icap import IcapClient, chunks, icap_gate, request
from support.pictures import encode, textured

BANKED = textured(1)
COPY = encode(BANKED.resize((400, 286)), "JPEG", quality=70)
PASS = encode(textured(2), "JPEG", quality=90)
FORM = "Content-Type: multipart/form-data; boundary=xyz\r\n"
PART = b'--xyz\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n'
LIMITS = StreamLimits(connections=4, linger_seconds=0.05, close_seconds=1.0)
IMPATIENT = replace(LIMITS, idle_seconds=0.1, request_seconds=0.5)


@pytest.fixture(scope="module")
def icap(tmp_path_factory):
    items = {"item": hash_bytes(encode(BANKED, "PNG"))}
    with icap_gate(tmp_path_factory.mktemp("gate"), items, LIMITS) as running:
        yield running


@pytest.fixture
def client(icap):
    with IcapClient(icap.port) as client:
        yield client
    icap.wait_until_idle()


@pytest.fixture(scope="module")
def impatient(icap):
    """A server that does not wait long."""
    return icap.serve(IMPATIENT)


@pytest.fixture
def slow(icap, impatient):
    """A client of the impatient server."""
    with IcapClient(impatient.port) as client:
        yield client
    icap.wait_until_idle()


def flood(client, data):
    """Send the same bytes until the server closes the connection."""
    while True:
        try:
            client.send(data)
        except OSError:
            return


STUCK = {
    "request line": b"REQMOD icap://a/nciih",
    "head": request("REQMOD", PASS)[:80],
    "encapsulated head": request("REQMOD", PASS)[:200],
    "chunk size": request("REQMOD", PASS)[: -len(LAST_CHUNK)] + b"5",
    "body": request("REQMOD", PASS)[:-20],
    "trailers": request("REQMOD", PASS)[:-2],
}


@pytest.mark.parametrize("part", STUCK)
def test_a_client_that_stops_within_a_request_is_cut(impatient, slow, part):
    cut = impatient.cut
    slow.send(STUCK[part])
    status, fields, _, _ = slow.answer()
    assert (status, fields["connection"]) == (408, "close")
    assert slow.ended
    assert impatient.cut == cut + 1


def test_a_client_that_stops_after_a_continue_is_cut(slow):
    slow.send(request("REQMOD", PASS, preview=100))
    assert slow.head()[0] == 100
    assert slow.answer()[0] == 408
    assert slow.ended


def test_a_client_that_sends_byte_by_byte_is_cut_in_the_end(slow):
    slow.send(request("REQMOD", PASS)[:-1000])
    flooded = 0
    try:
        while True:  # the rest of a chunk, slower than the time for a request allows
            slow.send(b"x")
            flooded += 1
            time.sleep(0.01)
    except OSError:
        assert flooded < 1000


def test_a_client_that_does_not_read_its_echo_is_cut(icap, impatient, slow):
    cut = impatient.cut
    with icap.configured(limits=UploadLimits(image_bytes=10_000, video_bytes=10_000)):
        slow.send(request("REQMOD", PASS, fields="")[: -len(LAST_CHUNK)])
        flood(slow, chunks(bytes(1 << 16)))
    while impatient.cut == cut:
        time.sleep(0.001)


ENDLESS = {
    "head": (b"REQMOD icap://a/nciihash ICAP/1.0\r\n", b"X-A: b\r\n"),
    "line": (b"REQMOD icap://a/nciihash ICAP/1.0\r\nX-A: ", b"b" * 1000),
    "empty lines": (b"", b"\r\n"),
    "chunk extensions": (request("REQMOD", PASS)[: -len(LAST_CHUNK)] + b"5", b";a=b"),
    "zeros of a chunk size": (request("REQMOD", PASS)[: -len(LAST_CHUNK)], b"0" * 100),
    "trailers": (request("REQMOD", PASS)[:-2], b"X-A: b\r\n"),
    "preview": (request("REQMOD", PASS, preview=1000)[: -len(LAST_CHUNK)], b"1\r\na\r\n"),
}


@pytest.mark.parametrize("part", ENDLESS)
def test_an_endless_part_is_refused(client, part):
    start, again = ENDLESS[part]
    client.send(start)
    flood(client, again * 50)


def test_an_endless_body_is_not_kept(icap, slow):
    """It is cut when the time for a request is over; until then its bytes are dropped."""
    most = 0
    with icap.configured(limits=UploadLimits(image_bytes=100_000, video_bytes=100_000)):
        slow.send(request("REQMOD", PASS)[: -len(LAST_CHUNK)])
        try:
            while True:
                slow.send(chunks(bytes(1 << 16)))
                most = max(most, icap.gate.memory.used)
        except OSError:
            assert most <= 100_000


@pytest.mark.parametrize(
    "data",
    [
        b"fffffffffffffffff\r\n",
        b"-1\r\na\r\n",
        b"99999999999999999999\r\n",
        b"5\r\nabc\r\n" + LAST_CHUNK,
        b"2\r\nabc\r\n" + LAST_CHUNK,
        b"3\r\nabc" + LAST_CHUNK,
        b"3\nabc\n0\n\n",
    ],
)
def test_chunks_that_lie_are_refused(client, data):
    client.send(request("REQMOD", None).replace(b"null-body", b"req-body") + data + b"\r\n" * 20)
    assert client.answer()[0] == 400
    assert client.ended


def test_a_huge_chunk_that_is_announced_takes_no_memory(icap, slow):
    slow.send(request("REQMOD", None).replace(b"null-body", b"req-body") + b"fffffffffffff\r\nabc")
    assert icap.gate.memory.used <= 3
    assert slow.answer()[0] == 408


def test_the_content_length_of_a_message_does_not_matter(client):
    """Nextcloud sends a wrong one; the chunks are what a client of ours passes on."""
    for length in ("0", "1", "99999999", "-5", "x"):
        client.send(request("REQMOD", COPY, http=f"Content-Length: {length}\r\n"))
        assert client.answer()[2].startswith(b"HTTP/1.1 403")


def test_transfer_encoding_within_a_message_does_not_hide_a_picture(client):
    """The body of an encapsulated message has no transfer coding any more (RFC 3507, 4.4.2)."""
    for http in (
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
    ):
        client.send(request("REQMOD", COPY, http=http))
        assert client.answer()[2].startswith(b"HTTP/1.1 403")


def test_a_request_hidden_in_a_head_is_refused(client):
    hidden = request("REQMOD", COPY, http="A: b\r\n\r\nGET / HTTP/1.1\r\n")
    client.send(hidden)
    assert client.answer()[0] == 400
    assert client.ended


def test_a_second_content_type_does_not_hide_a_form(client):
    body = PART + COPY + b"\r\n--xyz--\r\n"
    for http in ("Content-Type: text/plain\r\n" + FORM, FORM + "Content-Type: text/plain\r\n"):
        client.send(request("REQMOD", body, http=http))
        assert client.answer()[2].startswith(b"HTTP/1.1 403")


def test_a_form_of_thousands_of_parts_is_cut_short(icap, client):
    body = b"".join(PART + b"x\r\n" for _ in range(5000)) + b"--xyz--\r\n"
    client.send(request("REQMOD", body, http=FORM))
    assert client.answer()[0] == 204  # it cannot be read, and such files pass


def test_a_bomb_is_not_inflated_beyond_the_limit(icap, client):
    bomb = gzip.compress(bytes(64 << 20))
    with icap.configured(limits=UploadLimits(image_bytes=1 << 20)):
        client.send(request("REQMOD", bomb, http="Content-Encoding: gzip\r\n"))
        assert client.answer()[0] == 204  # too large to be read, and such files pass


def test_idle_connections_are_closed_for_others(icap):
    clients = [IcapClient(icap.port) for _ in range(LIMITS.connections + 3)]
    try:
        clients[-1].send(request("REQMOD", PASS))
        assert clients[-1].answer()[0] == 204
        assert icap.server.connections <= LIMITS.connections
        assert clients[0].ended
    finally:
        for client in clients:
            client.__exit__()


def test_the_server_still_answers(client):
    client.send(request("REQMOD", COPY))
    assert client.answer()[2].startswith(b"HTTP/1.1 403")
