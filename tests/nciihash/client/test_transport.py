import asyncio
import contextlib
import http.server
import socket
import ssl
import threading
import time
from collections.abc import Callable

import pytest

from nciihash.client import AsyncPlatformClient, Client, PlatformClient
from nciihash.client.sans_io import RESPONSE_MAX, Request, RetryPolicy
from nciihash.errors import InvalidRequest, ProtocolError, ServiceUnreachable
from nciihash.signals import Verdict
from support.certificates import self_signed

CASE, PASSPHRASE = "K7Q4-29XD-MM3R", "correct horse battery staple six words"

KEY = "nciik_thisisnotarealkeyatall"


def test_repr_contains_no_secrets():
    client = PlatformClient("https://example.org", KEY)
    assert repr(client) == "PlatformClient('https://example.org/')"
    request = Request("GET", "/v1/case", f"Bearer {KEY}", PASSPHRASE.encode())
    assert repr(request) == "Request(GET /v1/case)"
    client.close()


@pytest.mark.parametrize("key", ["", "   ", "two words", "line\nbreak", "schlüssel", "x" * 501])
def test_an_invalid_key_is_refused_and_not_quoted(key):
    with pytest.raises(InvalidRequest) as caught:
        PlatformClient("https://example.org", key)
    assert not key.strip() or key not in str(caught.value)


class Server(http.server.ThreadingHTTPServer):
    """Records the paths of requests, and answers each with `respond`."""

    respond: Callable[[http.server.BaseHTTPRequestHandler], object]

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.paths = []


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        self.server.paths.append(self.path)
        self.server.respond(self)

    do_POST = do_GET  # noqa: N815 - as `http.server` calls it

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as running:
        # by default it checks for its shutdown every half second only
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def address(server):
    return f"http://127.0.0.1:{server.server_address[1]}"


def test_a_redirect_is_not_followed(server):
    def respond(handler):
        handler.send_response(307)
        handler.send_header("Location", f"{address(server)}/elsewhere")
        handler.end_headers()

    server.respond = respond
    with Client(address(server)) as client, pytest.raises(ProtocolError, match="redirects"):
        client.status(CASE, PASSPHRASE)
    assert server.paths == ["/v1/case"]


def test_an_endless_response_is_limited(server):
    sent = 0

    def respond(handler):
        nonlocal sent
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        try:
            while sent < 4 * RESPONSE_MAX:
                sent += handler.wfile.write(b" " * 2**20)
        except OSError:
            pass  # the client has closed the connection

    server.respond = respond
    with Client(address(server)) as client, pytest.raises(ProtocolError, match="larger"):
        client.status(CASE, PASSPHRASE)
    assert sent < 2 * RESPONSE_MAX


def test_a_response_that_trickles_in_times_out(server):
    def respond(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        try:
            for _ in range(600):
                handler.wfile.write(b" ")
                time.sleep(0.1)
        except OSError:
            pass

    server.respond = respond
    retry = RetryPolicy(total=0.3)
    with (
        Client(address(server), retry=retry) as client,
        pytest.raises(ServiceUnreachable, match="in time"),
    ):
        client.status(CASE, PASSPHRASE)


def call_in_asyncio(server, call, **options):
    """Return the result of a call of an asyncio client."""

    async def run():
        async with AsyncPlatformClient(address(server), KEY, **options) as client:
            return await call(client)

    return asyncio.run(run())


def test_an_endless_response_is_limited_in_asyncio(server):
    sent = 0

    def respond(handler):
        nonlocal sent
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        with contextlib.suppress(OSError):  # the client closes the connection
            while sent < 4 * RESPONSE_MAX:
                sent += handler.wfile.write(b" " * 2**20)

    server.respond = respond
    with pytest.raises(ProtocolError, match="larger"):
        call_in_asyncio(server, lambda client: client.feed())
    assert sent < 2 * RESPONSE_MAX


def test_a_response_that_trickles_in_times_out_in_asyncio(server):
    def respond(handler):
        with contextlib.suppress(OSError):  # the client closes the connection
            for _ in range(600):
                handler.wfile.write(b"H")
                time.sleep(0.1)

    server.respond = respond
    with pytest.raises(ServiceUnreachable, match="in time") as caught:
        call_in_asyncio(
            server, lambda client: client.feed(), retry=RetryPolicy(attempts=1, total=0.3)
        )
    assert not caught.value.uncertain
    assert server.paths == ["/v1/feed?limit=1000&wait=0.000"]


def test_a_redirect_is_not_followed_in_asyncio(server):
    def respond(handler):
        handler.send_response(307)
        handler.send_header("Location", f"{address(server)}/elsewhere")
        handler.end_headers()

    server.respond = respond
    with pytest.raises(ProtocolError, match="redirects"):
        call_in_asyncio(server, lambda client: client.veil())
    assert server.paths == ["/v1/veil"]


# without being aborted, a call would take an hour
PATIENT = RetryPolicy(total=3600.0, read_timeout=3600.0, base=3600.0, cap=3600.0)


def abort_call(server_url, begun):
    """Abort a call of another thread once it has begun; return the error that it raises."""
    errors = []
    with PlatformClient(server_url, KEY, retry=PATIENT) as client:

        def call():
            try:
                client.feedback({"ab" * 16: Verdict.BLOCKED})
            except ServiceUnreachable as error:
                errors.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        begun.wait()
        client.break_off()
        thread.join()
        with pytest.raises(ServiceUnreachable, match="aborted"):
            client.feed()
    (error,) = errors
    assert "aborted" in str(error)
    return error


@pytest.mark.parametrize("response", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
def test_a_call_is_aborted_from_another_thread(server, response):
    begun, over = threading.Event(), threading.Event()

    def respond(handler):
        handler.wfile.write(response)
        begun.set()
        over.wait()

    server.respond = respond
    try:
        assert abort_call(address(server), begun).uncertain
    finally:
        over.set()
    assert len(server.paths) == 1


def test_a_pause_between_attempts_is_aborted(server):
    begun = threading.Event()

    def respond(handler):
        handler.send_response(503)
        handler.end_headers()
        begun.set()

    server.respond = respond
    assert not abort_call(address(server), begun).uncertain
    assert len(server.paths) == 1


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nX-Long: "])
def test_headers_that_trickle_in_time_out(server, head):
    def respond(handler):
        # also on a connection that has carried a complete response before
        if len(server.paths) == 1:
            handler.protocol_version = "HTTP/1.1"
            handler.close_connection = False  # undo what the request's headers decided
            handler.send_response(200)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", "2")
            handler.end_headers()
            handler.wfile.write(b"{}")
            return
        handler.close_connection = True
        try:
            handler.wfile.write(head)
            for _ in range(200):
                handler.wfile.write(b"H")
                time.sleep(0.1)
        except OSError:
            pass

    server.respond = respond
    retry = RetryPolicy(attempts=1, total=1.5)
    with Client(address(server), retry=retry) as client:
        with pytest.raises(ProtocolError):
            client.status(CASE, PASSPHRASE)
        with pytest.raises(ServiceUnreachable, match="in time"):
            client.status(CASE, PASSPHRASE)


def test_a_silent_service_times_out():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        retry = RetryPolicy(attempts=2, base=0.01, read_timeout=0.2)
        port = silent.getsockname()[1]
        with (
            Client(f"http://127.0.0.1:{port}", retry=retry) as client,
            pytest.raises(ServiceUnreachable, match="in time") as caught,
        ):
            client.withdraw(CASE, PASSPHRASE)
    assert caught.value.uncertain


def test_a_refused_connection_is_unreachable():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    retry = RetryPolicy(attempts=2, base=0.01)
    with (
        Client(f"http://127.0.0.1:{port}", retry=retry) as client,
        pytest.raises(ServiceUnreachable, match="No connection") as caught,
    ):
        client.withdraw(CASE, PASSPHRASE)
    assert not caught.value.uncertain
    for secret in (CASE, PASSPHRASE, "Case "):
        assert secret not in str(caught.value)


@pytest.fixture
def certificate(tmp_path):
    """Return the path of a new self-signed certificate for `localhost`."""
    return self_signed(tmp_path / "certificate.pem")


def test_https_requires_a_trusted_certificate(server, certificate, monkeypatch):
    def respond(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        handler.wfile.write(b"[]")

    server.respond = respond
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    # the handshake is for the thread of the connection, not for the one that accepts
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    server.handle_error = lambda *args: None  # the refused handshake is intended
    url = f"https://localhost:{server.server_address[1]}"
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with Client(url) as client, pytest.raises(ServiceUnreachable, match="certificate"):
        client.status(CASE, PASSPHRASE)
    assert server.paths == []

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with Client(url) as client, pytest.raises(ProtocolError):
        client.status(CASE, PASSPHRASE)
    assert server.paths == ["/v1/case"]

    begun, over = threading.Event(), threading.Event()

    def wait(handler):
        begun.set()
        over.wait()

    server.respond = wait
    try:
        assert abort_call(url, begun).uncertain
    finally:
        over.set()

    def trickle(handler):
        with contextlib.suppress(OSError):  # the client closes the connection
            for _ in range(200):
                handler.wfile.write(b"H")
                time.sleep(0.1)

    server.respond = trickle
    with (
        Client(url, retry=RetryPolicy(attempts=1, total=0.3)) as client,
        pytest.raises(ServiceUnreachable, match="in time"),
    ):
        client.status(CASE, PASSPHRASE)


def test_a_proxy_is_not_used_for_loopback(server, monkeypatch):
    def respond(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        handler.wfile.write(b"[]")

    server.respond = respond
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with Client(address(server)) as client, pytest.raises(ProtocolError):
        client.status(CASE, PASSPHRASE)
    assert server.paths == ["/v1/case"]
