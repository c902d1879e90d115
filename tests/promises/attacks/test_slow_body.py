"""Bodies that keep a connection, and what was read of them, for as long as they can."""

import json
import socket
import time
from urllib.parse import urlsplit

import pytest

from support.service_process import ServiceProcess

SENT = 1_900_000  # bytes, just below what a request may have


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slow-body")
    with ServiceProcess(folder, CLEARINGHOUSE_BODY_SECONDS="1") as running:
        yield running


def begun(service):
    """Begin to send a body of nearly 2 MiB as fast as it goes."""
    to = urlsplit(service.address)
    line = socket.create_connection((to.hostname, to.port), timeout=60)
    line.sendall(
        b"POST /v1/cases HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
        b"Content-Length: 2000000\r\n\r\n" + b" " * SENT
    )
    return line


def answer(line):
    """Read until the service has ended the connection."""
    got = b""
    try:
        while part := line.recv(2**16):
            got += part
    except ConnectionError:
        pass
    return got


def test_a_body_that_stops_keeps_its_connection_no_longer_for_what_it_has_sent(
    service, record_property
):
    with begun(service) as line:
        start = time.monotonic()
        head, _, body = answer(line).partition(b"\r\n\r\n")
        kept = time.monotonic() - start
    record_property("got", f"{kept:.1f} s for {SENT:,} bytes, of 1 s that may bring nothing")
    assert head.startswith(b"HTTP/1.1 408")
    assert json.loads(body)["code"] == "too_slow"
    assert kept < 30  # and not the 464 that its bytes would have earned at 4 KiB a second


def test_a_body_that_goes_on_byte_by_byte_is_cut_as_well(service, record_property):
    with begun(service) as line:
        line.settimeout(0.2)
        start, bytes_sent = time.monotonic(), 0
        while True:
            try:
                line.sendall(b" ")
                bytes_sent += 1
                if not line.recv(1):
                    break
                break  # an answer: it was cut
            except TimeoutError:
                if time.monotonic() - start > 30:
                    pytest.fail("it was not cut")
            except ConnectionError:
                break
        kept = time.monotonic() - start
    record_property("got", f"{kept:.1f} s for {bytes_sent} more bytes, one at a time")
    assert kept < 30
