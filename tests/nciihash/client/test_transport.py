import asyncio
import contextlib
import http.server
import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nciihash.client import AsyncPlatformClient, Client, PlatformClient
from nciihash.client.sans_io import REPLY_MAX, Request, RetryPolicy
from nciihash.errors import (
    InvalidRequest,
    ProtocolError,
    ServiceUnreachable,
)
from nciihash.signals import Verdict

CASE, PASSPHRASE = "K7Q4-29XD-MM3R", "correct horse battery staple six words"

KEY = "nciik_thisisnotarealkeyatall"


def test_secrets_hide_in_representations():
    client = PlatformClient("https://example.org", KEY)
    assert repr(client) == "PlatformClient('https://example.org/')"
    request = Request("GET", "/v1/case", f"Bearer {KEY}", PASSPHRASE.encode())
    assert repr(request) == "Request(GET /v1/case)"
    client.close()


@pytest.mark.parametrize("key", ["", "   ", "two words", "line\nbreak", "schlüssel", "x" * 501])
def test_a_key_that_cannot_be_one_is_refused_without_being_shown(key):
    with pytest.raises(InvalidRequest) as caught:
        PlatformClient("https://example.org", key)
    assert not key.strip() or key not in str(caught.value)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen.append(self.path)
        self.server.respond(self)

    do_POST = do_GET  # noqa: N815 - as `http.server` calls it

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.seen = []
        # it looks for its end every half second otherwise
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
    with Client(address(server)) as client, pytest.raises(ProtocolError, match="another one"):
        client.status(CASE, PASSPHRASE)
    assert server.seen == ["/v1/case"]


def test_an_endless_answer_is_cut_off(server):
    sent = 0

    def respond(handler):
        nonlocal sent
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        try:
            while sent < 4 * REPLY_MAX:
                sent += handler.wfile.write(b" " * 2**20)
        except OSError:
            pass  # the client has hung up

    server.respond = respond
    with Client(address(server)) as client, pytest.raises(ProtocolError, match="larger"):
        client.status(CASE, PASSPHRASE)
    assert sent < 2 * REPLY_MAX


def test_an_answer_that_trickles_in_is_given_up(server):
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


def awaiting(server, call, **options):
    """Make a call from asyncio."""

    async def run():
        async with AsyncPlatformClient(address(server), KEY, **options) as client:
            return await call(client)

    return asyncio.run(run())


def test_an_endless_answer_is_cut_off_in_asyncio(server):
    sent = 0

    def respond(handler):
        nonlocal sent
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        with contextlib.suppress(OSError):  # the client hangs up
            while sent < 4 * REPLY_MAX:
                sent += handler.wfile.write(b" " * 2**20)

    server.respond = respond
    with pytest.raises(ProtocolError, match="larger"):
        awaiting(server, lambda client: client.feed())
    assert sent < 2 * REPLY_MAX


def test_an_answer_that_trickles_in_is_given_up_in_asyncio(server):
    def respond(handler):
        with contextlib.suppress(OSError):  # the client hangs up
            for _ in range(600):
                handler.wfile.write(b"H")
                time.sleep(0.1)

    server.respond = respond
    with pytest.raises(ServiceUnreachable, match="in time") as caught:
        awaiting(server, lambda client: client.feed(), retry=RetryPolicy(attempts=1, total=0.3))
    assert not caught.value.uncertain
    assert server.seen == ["/v1/feed?limit=1000&wait=0.000"]


def test_a_redirect_is_not_followed_in_asyncio(server):
    def respond(handler):
        handler.send_response(307)
        handler.send_header("Location", f"{address(server)}/elsewhere")
        handler.end_headers()

    server.respond = respond
    with pytest.raises(ProtocolError, match="another one"):
        awaiting(server, lambda client: client.veil())
    assert server.seen == ["/v1/veil"]


# Were it not broken off, a call would take an hour.
PATIENT = RetryPolicy(total=3600.0, answer=3600.0, base=3600.0, cap=3600.0)


def broken_off(place, begun):
    """Break off a call that another thread is in, once it is known to have begun."""
    errors = []
    with PlatformClient(place, KEY, retry=PATIENT) as client:

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
        with pytest.raises(ServiceUnreachable, match="broken off"):
            client.feed()
    (error,) = errors
    assert "broken off" in str(error)
    return error


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
def test_a_call_is_broken_off_from_another_thread(server, answer):
    begun, over = threading.Event(), threading.Event()

    def respond(handler):
        handler.wfile.write(answer)
        begun.set()
        over.wait()

    server.respond = respond
    try:
        assert broken_off(address(server), begun).uncertain
    finally:
        over.set()
    assert len(server.seen) == 1


def test_a_pause_between_attempts_is_broken_off(server):
    begun = threading.Event()

    def respond(handler):
        handler.send_response(503)
        handler.end_headers()
        begun.set()

    server.respond = respond
    assert not broken_off(address(server), begun).uncertain
    assert len(server.seen) == 1


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nX-Long: "])
def test_headers_that_trickle_in_are_given_up(server, begun):
    def respond(handler):
        # also on a connection that has carried a whole answer before
        if len(server.seen) == 1:
            handler.protocol_version = "HTTP/1.1"
            handler.close_connection = False  # what the request's head had already decided
            handler.send_response(200)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", "2")
            handler.end_headers()
            handler.wfile.write(b"{}")
            return
        handler.close_connection = True
        try:
            handler.wfile.write(begun)
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


def test_a_silent_service_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        retry = RetryPolicy(attempts=2, base=0.01, answer=0.2)
        port = silent.getsockname()[1]
        with (
            Client(f"http://127.0.0.1:{port}", retry=retry) as client,
            pytest.raises(ServiceUnreachable, match="in time") as caught,
        ):
            client.withdraw(CASE, PASSPHRASE)
    assert caught.value.uncertain


def test_nobody_listens():
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
    """Make a certificate for `localhost` that nobody but itself vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "certificate.pem"
    path.write_bytes(signed.public_bytes(pem) + key.private_bytes(pem, *plain))
    return path


def test_https_is_spoken_with_those_who_prove_who_they_are(server, certificate, monkeypatch):
    def respond(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        handler.wfile.write(b"[]")

    server.respond = respond
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    # The handshake belongs to the thread of its connection, not to the one that accepts.
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    server.handle_error = lambda *args: None  # a refused handshake is not this test's error
    place = f"https://localhost:{server.server_address[1]}"
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with Client(place) as client, pytest.raises(ServiceUnreachable, match="certificate"):
        client.status(CASE, PASSPHRASE)
    assert server.seen == []

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with Client(place) as client, pytest.raises(ProtocolError):
        client.status(CASE, PASSPHRASE)
    assert server.seen == ["/v1/case"]

    begun, over = threading.Event(), threading.Event()

    def wait(handler):
        begun.set()
        over.wait()

    server.respond = wait
    try:
        assert broken_off(place, begun).uncertain
    finally:
        over.set()

    def trickle(handler):
        with contextlib.suppress(OSError):  # the client hangs up
            for _ in range(200):
                handler.wfile.write(b"H")
                time.sleep(0.1)

    server.respond = trickle
    with (
        Client(place, retry=RetryPolicy(attempts=1, total=0.3)) as client,
        pytest.raises(ServiceUnreachable, match="in time"),
    ):
        client.status(CASE, PASSPHRASE)


def test_a_proxy_for_the_world_is_not_used_for_this_machine(server, monkeypatch):
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
    assert server.seen == ["/v1/case"]
