"""Attack: slow request bodies that occupy connections and memory for as long as possible."""

import json
import socket
import time
from urllib.parse import urlsplit

import pytest

from support.service_process import ServiceProcess

SENT = 1_900_000  # bytes, just below the limit of a request


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slow-body")
    with ServiceProcess(folder, CLEARINGHOUSE_BODY_SECONDS="1") as running:
        yield running


def start_request(service):
    """Send most of a body of nearly 2 MiB; return the connection."""
    url = urlsplit(service.address)
    connection = socket.create_connection((url.hostname, url.port), timeout=60)
    connection.sendall(
        b"POST /v1/cases HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
        b"Content-Length: 2000000\r\n\r\n" + b" " * SENT
    )
    return connection


def read_response(connection):
    """Read until the service closes the connection."""
    received = b""
    try:
        while part := connection.recv(2**16):
            received += part
    except ConnectionError:
        pass
    return received


def test_a_stalled_body_times_out_however_much_was_sent(service, record_property):
    with start_request(service) as connection:
        start = time.monotonic()
        head, _, body = read_response(connection).partition(b"\r\n\r\n")
        seconds = time.monotonic() - start
    record_property("got", f"{seconds:.1f} s for {SENT:,} bytes, with a timeout of 1 s")
    assert head.startswith(b"HTTP/1.1 408")
    assert json.loads(body)["code"] == "too_slow"
    assert seconds < 30  # not the 464 s that its bytes would take at 4 KiB a second


def test_a_body_sent_byte_by_byte_times_out_too(service, record_property):
    with start_request(service) as connection:
        connection.settimeout(0.2)
        start, bytes_sent = time.monotonic(), 0
        while True:
            try:
                connection.sendall(b" ")
                bytes_sent += 1
                if not connection.recv(1):
                    break
                break  # a response: it was cut
            except TimeoutError:
                if time.monotonic() - start > 30:
                    pytest.fail("it was not cut")
            except ConnectionError:
                break
        seconds = time.monotonic() - start
    record_property("got", f"{seconds:.1f} s for {bytes_sent} more bytes, one at a time")
    assert seconds < 30
