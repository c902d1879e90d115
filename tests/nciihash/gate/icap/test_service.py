"""ICAP with a real gate: what passes, what is stopped, and how each of them is answered."""

import gzip
import json
import time

import pytest

from nciihash.gate.config import UploadLimits
from nciihash.gate.dialects.icap.messages import LAST_CHUNK
from nciihash.gate.policy import Action, Fail, MediaPolicy
from nciihash.hashing.hasher import hash_bytes
from support.icap import IcapClient, chunks, icap_gate, request
from support.pictures import encode, textured

BANKED, OTHER = textured(1), textured(2)
COPY = encode(BANKED.resize((400, 286)), "JPEG", quality=70)
PASS = encode(OTHER, "JPEG", quality=90)
JPEG = "Content-Type: image/jpeg\r\n"
FORM = "Content-Type: multipart/form-data; boundary=xyz\r\n"
HTML = b"<html>" + b"words " * 2000


@pytest.fixture(scope="module")
def icap(tmp_path_factory):
    items = {"item": hash_bytes(encode(BANKED, "PNG"))}
    with icap_gate(tmp_path_factory.mktemp("gate"), items) as running:
        yield running


@pytest.fixture
def client(icap):
    with IcapClient(icap.port) as client:
        yield client


def form(*files):
    part = b'--xyz\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n%b\r\n'
    return b"".join([*(part % file for file in files), b"--xyz--\r\n"])


def ask(client, *arguments, **options):
    """Send a request and return the answer; after a preview, send the rest if it is asked for."""
    client.send(request(*arguments, **options))
    return client.answer()


def test_options(client):
    client.send(b"OPTIONS icap://127.0.0.1/nciihash ICAP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
    status, fields, _, _ = client.answer()
    assert status == 200
    assert fields["methods"] == "REQMOD, RESPMOD"
    assert fields["preview"] == "4096"
    assert fields["transfer-preview"] == "*"
    assert fields["allow"] == "204"
    assert fields["max-connections"] == "10000"
    assert fields["encapsulated"] == "null-body=0"
    assert fields.keys() >= {"service", "options-ttl", "istag"}


@pytest.mark.parametrize("method", ["REQMOD", "RESPMOD"])
def test_a_picture_without_a_match_passes(client, method):
    assert ask(client, method, PASS, http=JPEG)[0] == 204


@pytest.mark.parametrize("method", ["REQMOD", "RESPMOD"])
def test_a_copy_is_replaced_by_a_page_with_the_reference(icap, client, method):
    status, fields, head, body = ask(client, method, COPY, http=JPEG)
    assert status == 200
    assert fields["encapsulated"] == f"res-hdr=0, res-body={len(head)}"
    assert list(fields)[-1] == "encapsulated"  # where Nextcloud's client stops reading
    name = fields["x-virus-id"]
    assert name.startswith("NCII.match.strong.")
    assert fields["x-infection-found"] == f"Type=0; Resolution=2; Threat={name};"
    reference = name.removeprefix("NCII.match.strong.")
    assert head.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert b"Content-Length: %d\r\n" % len(body) in head
    assert f"<code>{reference}</code>".encode() in body
    assert icap.gate.decisions.get(reference, now=0) is not None


def test_a_client_that_prefers_json_receives_a_problem_document(client):
    http = "Accept: application/json\r\n" + JPEG
    _, _, head, body = ask(client, "REQMOD", COPY, http=http)
    problem = json.loads(body)
    assert b"Content-Type: application/problem+json\r\n" in head
    assert problem["status"] == 403
    assert problem["reference"]


def test_a_form_is_stopped_if_one_of_its_files_is(client):
    assert ask(client, "REQMOD", form(PASS, COPY, PASS), http=FORM)[2].startswith(b"HTTP/1.1 403")
    assert ask(client, "REQMOD", form(PASS, PASS), http=FORM)[0] == 204
    assert ask(client, "REQMOD", form(), http=FORM)[0] == 204


def test_a_compressed_body_is_read(client):
    http = f"{JPEG}Content-Encoding: gzip\r\n"
    assert ask(client, "RESPMOD", gzip.compress(COPY), http=http)[2].startswith(b"HTTP/1.1 403")
    assert ask(client, "RESPMOD", gzip.compress(PASS), http=http)[0] == 204


@pytest.mark.parametrize(
    ("http", "body"),
    [(JPEG, PASS), (FORM, form(PASS)), ("Content-Encoding: gzip\r\n", gzip.compress(PASS))],
)
@pytest.mark.parametrize("method", ["REQMOD", "RESPMOD"])
def test_a_message_is_echoed_where_204_is_not_allowed(client, method, http, body):
    sent = request(method, body, http=http, fields="", size=777)
    client.send(sent)
    status, fields, head, echoed = client.answer()
    assert status == 200
    assert "x-infection-found" not in fields
    assert head in sent
    assert http.encode() in head
    assert echoed == body


def test_a_message_without_a_body_passes(client):
    assert ask(client, "REQMOD", None)[0] == 204
    status, fields, head, body = ask(client, "RESPMOD", None, fields="")
    assert (status, body) == (200, b"")
    assert fields["encapsulated"] == f"res-hdr=0, null-body={len(head)}"
    assert ask(client, "REQMOD", b"")[0] == 204


def test_a_small_body_is_answered_from_its_preview(client):
    small = encode(textured(3, 64, 64), "JPEG")
    assert len(small) < 4096
    assert ask(client, "REQMOD", small, http=JPEG, fields="", preview=4096)[0] == 204


@pytest.mark.parametrize("http", ["Content-Type: text/html\r\n", "Content-Type: image/png\r\n", ""])
def test_what_is_no_picture_is_answered_from_its_preview(client, http):
    for _ in range(2):
        assert ask(client, "RESPMOD", HTML, http=http, fields="", preview=4096)[0] == 204


@pytest.mark.parametrize("fields", ["", "Allow: 204\r\n"])
def test_the_rest_of_a_picture_is_asked_for(client, fields):
    client.send(request("REQMOD", COPY, http=JPEG, fields=fields, preview=4096))
    assert client.head() == (100, {})
    client.send(chunks(COPY[4096:]) + LAST_CHUNK)
    assert client.answer()[2].startswith(b"HTTP/1.1 403")
    client.send(request("REQMOD", PASS, http=JPEG, fields=fields, preview=4096))
    assert client.head() == (100, {})
    client.send(chunks(PASS[4096:], 500) + LAST_CHUNK)
    status, _, _, body = client.answer()
    assert (status, body) == ((204, b"") if fields else (200, PASS))


def test_a_picture_is_checked_whatever_its_type_says(client):
    http = "Content-Type: text/html\r\n"
    client.send(request("RESPMOD", COPY, http=http, preview=4096))
    assert client.head()[0] == 100
    client.send(chunks(COPY[4096:]) + LAST_CHUNK)
    assert client.answer()[2].startswith(b"HTTP/1.1 403")


def test_requests_may_be_pipelined(client):
    client.send(request("REQMOD", PASS) + request("REQMOD", COPY) + request("RESPMOD", PASS))
    assert [client.answer()[0] for _ in range(3)] == [204, 200, 204]


def test_a_connection_ends_when_the_client_asks_for_it(client):
    status, fields, _, _ = ask(client, "REQMOD", PASS, fields="Allow: 204\r\nConnection: close\r\n")
    assert (status, fields["connection"]) == (204, "close")
    assert client.ended


@pytest.mark.parametrize("policy", [Fail.OPEN, Fail.CLOSED])
@pytest.mark.parametrize("http", [JPEG, FORM])
def test_what_cannot_be_read_passes_or_not_as_configured(icap, client, policy, http):
    body = COPY[:9000] if http == JPEG else form(COPY[:9000])
    with icap.configured(unreadable=policy):
        status, fields, head, page = ask(client, "REQMOD", body, http=http)
    if policy is Fail.OPEN:
        assert status == 204
    else:
        assert head.startswith(b"HTTP/1.1 403")
        assert fields["x-virus-id"] == "NCII.unreadable.corrupt"
        assert b"Reference" not in page


@pytest.mark.parametrize("policy", [Fail.OPEN, Fail.CLOSED])
def test_what_cannot_be_checked_passes_or_not_as_configured(icap, client, policy):
    icap.gate.bank.changes = {"as_of": 0.0}
    try:
        with icap.configured(unchecked=policy):
            status, fields, head, page = ask(client, "REQMOD", PASS, http=JPEG)
            assert ask(client, "REQMOD", b'{"a": 1}', http="Content-Type: text/json\r\n")[0] == 204
    finally:
        icap.gate.bank.changes = {}
    if policy is Fail.OPEN:
        assert status == 204
    else:
        assert status == 200
        assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"\r\nRetry-After: " in head
        assert fields["x-virus-id"] == "NCII.unchecked.bank_stale"
        assert b"Reference" not in page


def test_text_passes_although_it_cannot_be_read(icap, client):
    with icap.configured(unsupported=Fail.CLOSED, unreadable=Fail.CLOSED):
        assert ask(client, "RESPMOD", HTML, http="Content-Type: text/html\r\n")[0] == 204
        assert ask(client, "RESPMOD", HTML, http="Content-Type: image/webp\r\n")[0] == 200


def test_a_form_that_cannot_be_read_passes_or_not_as_configured(icap, client):
    unfinished = form(PASS)[:-9]
    with icap.configured(unsupported=Fail.CLOSED, unreadable=Fail.CLOSED):
        answer = ask(client, "REQMOD", unfinished, http=FORM)
    assert answer[1]["x-virus-id"] == "NCII.unreadable.corrupt"
    assert ask(client, "REQMOD", unfinished, http=FORM)[0] == 204


def test_the_files_of_a_form_that_cannot_be_read_are_checked(client):
    assert ask(client, "REQMOD", form(COPY, PASS)[:-900], http=FORM)[0] == 200


def test_a_review_is_what_the_policy_says(icap, client):
    image = MediaPolicy(strong=Action.REVIEW, likely=Action.REVIEW)
    with icap.configured(image=image, review_as=Action.CLEAR):
        assert ask(client, "REQMOD", COPY, http=JPEG)[0] == 204
    with icap.configured(image=image, review_as=Action.BLOCK):
        _, fields, head, _ = ask(client, "REQMOD", COPY, http=JPEG)
    assert head.startswith(b"HTTP/1.1 403")
    assert fields["x-virus-id"].startswith("NCII.review.")


@pytest.mark.parametrize("fields", ["", "Allow: 204\r\n"])
@pytest.mark.parametrize("kind", ["text/html", "application/zip"])
def test_what_is_no_picture_takes_no_memory(icap, client, fields, kind):
    """Also without a preview: it is decided from its start, and echoed while it is received."""
    http, body = f"Content-Type: {kind}\r\n", HTML * 30
    memory = icap.gate.memory
    icap.wait_until_idle()
    assert memory.reserve(memory.total - 9000)
    try:
        with icap.configured(unchecked=Fail.CLOSED):
            client.send(request("RESPMOD", body, http=http, fields=fields, size=5000))
            status, _, _, echoed = client.answer()
    finally:
        memory.release(memory.total - 9000)
    assert (status, echoed) == ((204, b"") if fields else (200, body))
    icap.wait_until_idle()


STREAM = "Content-Type: multipart/x-mixed-replace; boundary=xyz\r\n"


@pytest.mark.parametrize("http", ["Content-Encoding: br\r\n", STREAM])
def test_a_body_that_cannot_be_read_is_echoed_while_it_is_received(icap, client, http):
    """For example a camera's pictures, which never end."""
    part = b"--xyz\r\nContent-Type: image/jpeg\r\n\r\n%b\r\n" % encode(textured(3, 64, 64), "JPEG")
    client.send(request("RESPMOD", part * 40, http=http, fields="")[: -len(LAST_CHUNK)])
    assert client.head()[0] == 200
    client.finish()
    assert client.ended is False  # of the echo


@pytest.mark.parametrize("preview", [0, 100])
def test_a_body_that_cannot_be_read_is_answered_from_its_preview(icap, client, preview):
    sent = request("RESPMOD", PASS, http="Content-Encoding: br\r\n", fields="", preview=preview)
    client.send(sent)
    assert client.answer()[0] == 204
    with icap.configured(unsupported=Fail.CLOSED, unreadable=Fail.CLOSED):
        client.send(sent)
        assert client.answer()[1]["x-virus-id"] == "NCII.unreadable.unsupported"


SMALL = UploadLimits(image_bytes=20_000, video_bytes=20_000)


def test_a_body_beyond_the_limits_is_echoed_while_it_is_received(icap, client):
    with icap.configured(limits=SMALL):
        client.send(request("REQMOD", PASS * 30, http=JPEG, fields="", size=5000))
        status, _, _, body = client.answer()
    assert (status, body) == (200, PASS * 30)
    icap.wait_until_idle()


def test_a_body_beyond_the_limits_is_stopped_if_so_configured(icap, client):
    with icap.configured(limits=SMALL, unsupported=Fail.CLOSED, unreadable=Fail.CLOSED):
        for fields in ("", "Allow: 204\r\n"):
            client.send(request("REQMOD", PASS * 30, http=JPEG, fields=fields, size=5000))
            assert client.answer()[1]["x-virus-id"] == "NCII.unreadable.too_large"
    icap.wait_until_idle()


def test_files_before_the_limit_of_an_echoed_form_are_checked(icap, client):
    with icap.configured(limits=SMALL):
        small = encode(BANKED.resize((200, 143)), "JPEG")
        client.send(request("REQMOD", form(small, PASS * 9), http=FORM, fields="", size=5000))
        assert client.answer()[2].startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize("policy", [Fail.OPEN, Fail.CLOSED])
@pytest.mark.parametrize("fields", ["", "Allow: 204\r\n"])
def test_no_memory_for_a_body(icap, client, policy, fields):
    memory = icap.gate.memory
    icap.wait_until_idle()
    assert memory.reserve(memory.total - 9000)
    try:
        with icap.configured(unchecked=policy):
            client.send(request("REQMOD", PASS, http=JPEG, fields=fields, size=3000))
            status, answered, _, body = client.answer()
    finally:
        memory.release(memory.total - 9000)
    if policy is Fail.CLOSED:
        assert answered["x-virus-id"] == "NCII.unchecked.queue_full"
    else:
        assert (status, body) == ((204, b"") if fields else (200, PASS))
    icap.wait_until_idle()


def test_the_tag_changes_with_the_bank_and_the_policy(icap, client):
    def tag():
        return ask(client, "REQMOD", None)[1]["istag"]

    first = tag()
    assert first == tag()
    assert len(first) <= 32
    assert first[0] == first[-1] == '"'
    with icap.configured(unsupported=Fail.CLOSED, unreadable=Fail.CLOSED):
        assert tag() != first
    icap.gate.bank.changes = {"version": "0" * 16}
    try:
        assert tag() != first
    finally:
        icap.gate.bank.changes = {}
    assert first == tag()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"REQMOD icap://a/nciihash ICAP/1.0\r\n\r\n", 400),
        (b"REQMOD icap://a/nciihash ICAP/9.0\r\n\r\n", 505),
        (b"FILEMOD icap://a/nciihash ICAP/1.0\r\n\r\n", 501),
        (request("REQMOD", PASS)[:-9] + b"-5\r\n\r\n", 400),
        (request("REQMOD", None, fields="Content-Length: 5\r\n Folded: 1\r\n"), 400),
    ],
)
def test_a_malformed_request_is_refused_and_the_connection_closed(client, sent, status):
    client.send(sent)
    answered, fields, _, _ = client.answer()
    assert (answered, fields["connection"]) == (status, "close")
    client.finish()
    assert client.ended


@pytest.mark.parametrize(
    ("method", "service", "status"),
    [
        ("REQMOD", "unknown", 404),
        ("REQMOD", "", 404),
        ("REQMOD", "respmod", 405),
        ("RESPMOD", "reqmod", 405),
        ("RESPMOD", "avscan", 204),
        ("REQMOD", "reqmod", 204),
    ],
)
def test_services(client, method, service, status):
    assert ask(client, method, PASS, service=service)[0] == status
    assert ask(client, method, PASS)[0] == 204  # on the same connection
    client.send(request(method, PASS, service=service, preview=100))
    assert client.answer()[0] == (100 if status == 204 else status)


def test_what_follows_an_answered_preview_is_no_request(icap, client):
    inner = request("REQMOD", COPY)
    client.send(request("RESPMOD", HTML, http="Content-Type: text/html\r\n", preview=4096) + inner)
    assert client.answer()[0] == 204
    client.finish()
    assert client.ended


def test_nothing_of_a_message_is_logged(icap, client, caplog):
    secret = "Content-Type: image/jpeg\r\nX-Name: holiday-secret\r\n"
    with caplog.at_level(0):
        ask(client, "REQMOD", COPY, http=secret)
        ask(client, "REQMOD", form(b"holiday-secret"), http=FORM)
        client.send(b"REQMOD icap://a/holiday-secret ICAP/1.0\r\nholiday-secret\r\n\r\n")
        client.answer()
    assert "holiday-secret" not in caplog.text
    assert "127.0.0.1" not in caplog.text


def test_a_connection_that_breaks_releases_its_upload(icap):
    memory = icap.gate.memory
    with IcapClient(icap.port) as client:
        client.send(request("REQMOD", PASS)[:-2000])
        while not memory.used:
            time.sleep(0.001)
    icap.wait_until_idle()
