"""ICAP requests in the forms that OpenCloud's and Nextcloud's clients send, byte for byte.

As read in their sources: `opencloud-eu/icap-client` (2025) and `nextcloud/files_antivirus` (2026).
Neither is a package that can be installed here.
"""

import re

import pytest

from nciihash.gate.policy import Fail
from nciihash.hashing.hasher import hash_bytes
from support.icap import IcapClient, icap_gate
from support.pictures import encode, textured

BANKED = textured(1)
COPY = encode(BANKED.resize((400, 286)), "JPEG", quality=70)
PASS = encode(textured(2), "JPEG", quality=90)
SMALL = encode(textured(3, 64, 64), "JPEG")


@pytest.fixture(scope="module")
def icap(tmp_path_factory):
    items = {"item": hash_bytes(encode(BANKED, "PNG"))}
    with icap_gate(tmp_path_factory.mktemp("gate"), items) as running:
        yield running


def opencloud(port, data):
    """Check a file as OpenCloud does; return the ICAP status, and what it shows of a finding.

    It opens a connection for each request, and reads an answer until an empty line ends what has
    arrived.
    """
    with IcapClient(port) as client:
        client.send(
            b"OPTIONS icap://127.0.0.1/avscan ICAP/1.0\r\nAllow: 204\r\nHost: gate\r\n"
            b"Encapsulated:  null-body=0\r\n\r\n"
        )
        _, fields = client.head()
    preview = int(fields["preview"])
    head = (
        b"POST http://127.0.0.1:9000/data/secret-token HTTP/1.1\r\nHost: 127.0.0.1:9000\r\n"
        b"User-Agent: Go-http-client/1.1\r\nContent-Length: %d\r\nContent-Type: image/jpeg\r\n"
        b"Accept-Encoding: gzip\r\n\r\n"
    ) % len(data)
    first = data[:preview]
    sections = b"req-hdr=0, req-body=%d" % len(head)
    with IcapClient(port) as client:
        client.send(
            b"REQMOD icap://127.0.0.1/avscan ICAP/1.0\r\nAllow: 204\r\nHost: gate\r\n"
            b"Preview: %d\r\nEncapsulated:  %b\r\n\r\n" % (len(first), sections)
        )
        client.send(head + b"%x\r\n%b\r\n0" % (len(first), first))
        client.send(b"; ieof\r\n\r\n" if len(data) <= preview else b"\r\n\r\n")
        status, fields = client.head()
        if status == 100:
            rest = data[preview:]
            client.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(rest), rest))
            status, fields = client.head()
    threat = re.search(r"Threat=(.*);", fields.get("x-infection-found", ""))
    return status, threat and threat[1]


def nextcloud(port, data, mode="REQMOD"):
    """Check a file as Nextcloud does; return the ICAP status, and what it shows of a finding.

    Its requests have no Content-Type, and its responses a wrong Content-Length. If a file ends
    where a chunk does, it sends the last chunk twice.
    """
    request = b"PUT / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n"
    sections, heads = f"req-hdr=0, req-body={len(request)}", request
    if mode == "RESPMOD":
        request = request.replace(b"PUT", b"GET")
        response = b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n"
        heads = request + response
        sections = f"req-hdr=0, res-hdr={len(request)}, res-body={len(heads)}"
    with IcapClient(port) as client:
        client.send(
            f"{mode} icap://127.0.0.1/avscan ICAP/1.0\r\nAllow: 204\r\nHost: 127.0.0.1\r\n"
            f"User-Agent: NC-ICAP-CLIENT/0.5.0\r\nConnection: close\r\n"
            f"Encapsulated: {sections}\r\n\r\n".encode()
            + heads
        )
        client.send(b"%x\r\n%b\r\n" % (len(data), data))
        client.send(b"0\r\n\r\n" * 2)
        status, fields, _, _ = client.answer()
        assert client.ended
    return status, fields.get("x-infection-found")


@pytest.mark.parametrize("data", [PASS, SMALL, b"Not a picture. " * 500])
def test_opencloud_accepts_what_has_no_match(icap, data):
    assert opencloud(icap.port, data) == (204, None)


def test_opencloud_is_shown_a_match_and_its_reference(icap):
    status, threat = opencloud(icap.port, COPY)
    assert status == 200
    assert threat.startswith("NCII.match.strong.")


def test_opencloud_refuses_what_cannot_be_checked_if_so_configured(icap):
    """It ignores ICAP's errors, so the gate answers with a finding."""
    icap.gate.bank.changes = {"as_of": 0.0}
    try:
        with icap.configured(unchecked=Fail.CLOSED):
            assert opencloud(icap.port, PASS) == (200, "NCII.unchecked.bank_stale")
    finally:
        icap.gate.bank.changes = {}


@pytest.mark.parametrize("mode", ["REQMOD", "RESPMOD"])
def test_nextcloud(icap, mode):
    assert nextcloud(icap.port, PASS, mode) == (204, None)
    assert nextcloud(icap.port, b"Not a picture.", mode) == (204, None)
    status, finding = nextcloud(icap.port, COPY, mode)
    assert status == 200
    assert finding.startswith("Type=0; Resolution=2; Threat=NCII.match.strong.")


def test_nextcloud_reads_the_status_line_after_encapsulated(icap):
    """It takes the number at `res-body` as the length of the HTTP head that follows."""
    head = b"PUT / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n"
    with IcapClient(icap.port) as client:
        client.send(
            b"REQMOD icap://127.0.0.1/avscan ICAP/1.0\r\nConnection: close\r\n"
            b"Encapsulated: req-hdr=0, req-body=%d\r\n\r\n" % len(head)
        )
        client.send(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(COPY), COPY))
        _, fields, http, _ = client.answer()
    assert re.fullmatch(r"res-hdr=0, res-body=\d+", fields["encapsulated"])
    assert http.startswith(b"HTTP/1.1 403 Forbidden\r\n")
