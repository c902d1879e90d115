import asyncio
import contextlib
import http.server
import json
import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nciihash.client import AsyncPlatformClient, Client, PlatformClient
from nciihash.client.address import server_address
from nciihash.client.sans_io import PATIENCE, REPLY_MAX, Outgoing, Patience, asking
from nciihash.client.transport import AsyncTransport, Transport
from nciihash.errors import (
    CursorExpired,
    InvalidRequest,
    ProtocolError,
    ServiceRefused,
    ServiceUnreachable,
)
from nciihash.signals import Verdict
from nciihash.wire import FeedbackTaken

CASE, PASSPHRASE = "K7Q4-29XD-MM3R", "correct horse battery staple six words"
KEY = "nciik_thisisnotarealkeyatall"
TAKEN = FeedbackTaken(recorded=1, unknown=0)


def taken():
    return httpx.Response(200, json=TAKEN.model_dump())


def problem(status, code="some_code", title="No", detail="Do this.", headers=None):
    return httpx.Response(
        status,
        headers={"content-type": "application/problem+json"} | (headers or {}),
        content=json.dumps({"title": title, "status": status, "detail": detail, "code": code}),
    )


class Script:
    """Answers requests one after another, and keeps them and the pauses between."""

    def __init__(self, *answers, patience=PATIENCE):
        self.answers = list(answers)
        self.requests = []
        self.pauses = []
        self.now = 1000.0
        self.transport = self.way(
            "http://127.0.0.1:1",
            patience=patience,
            http=httpx.MockTransport(self.answer),
            clock=lambda: self.now,
            sleep=self.sleep,
        )

    def answer(self, request):
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        # an answer is read once, and several tests may give this one
        body = httpx.ByteStream(b"".join(answer.stream))
        return httpx.Response(answer.status_code, headers=answer.headers, stream=body)

    def talk(self, method):
        request = Outgoing(method, "/v1/feedback", "Bearer x", b"{}", idempotency_key="ab" * 16)
        patience, clock = self.transport.patience, self.transport.clock
        return asking(request, FeedbackTaken, status=200, patience=patience, clock=clock)


class InThread(Script):
    way = Transport

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds

    def call(self, method="POST"):
        return self.transport.run(self.talk(method))


class InAsyncio(Script):
    way = AsyncTransport

    async def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds

    def call(self, method="POST"):
        return asyncio.run(self.transport.run(self.talk(method)))


@pytest.fixture(params=[InThread, InAsyncio])
def script(request):
    """Give the way to make a script, for each kind of client: both keep the same promises."""
    return request.param


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("https://example.org", "https://example.org/"),
        (" https://example.org:8443/hashes/ ", "https://example.org:8443/hashes"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/"),
        ("http://127.8.9.1", "http://127.8.9.1/"),
        ("http://[::1]:8000", "http://[::1]:8000/"),
        ("http://localhost:8000", "http://localhost:8000/"),
    ],
)
def test_addresses_that_can_be_right(given, read):
    assert str(server_address(given)) == read


@pytest.mark.parametrize(
    "given",
    [
        "",
        "example.org",
        "http://example.org",
        "http://192.168.1.1",
        "http://0.0.0.0",
        "http://localhost.example.org",
        "http://127.0.0.1.example.org",
        "https://",
        "https://user:secret@example.org",
        "https://example.org/?key=secret",
        "https://example.org/#secret",
        "https://example.org:port",
        "ftp://example.org",
        "file:///etc/passwd",
        "https://exa\nmple.org",
    ],
)
def test_addresses_that_cannot_be_right(given):
    with pytest.raises(InvalidRequest) as caught:
        server_address(given)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_passing_refusals_are_tried_again_under_the_same_key(status, script):
    scripted = script(problem(status), httpx.Response(status), taken())
    assert scripted.call() == TAKEN
    assert len(scripted.requests) == 3
    assert {request.headers["idempotency-key"] for request in scripted.requests} == {"ab" * 16}
    assert {request.content for request in scripted.requests} == {b"{}"}


@pytest.mark.parametrize(
    "fault",
    [
        httpx.ConnectError("x"),
        httpx.ConnectTimeout("x"),
        httpx.ReadTimeout("x"),
        httpx.ReadError("x"),
        httpx.WriteError("x"),
        httpx.RemoteProtocolError("x"),
    ],
)
def test_broken_connections_are_tried_again(fault, script):
    scripted = script(fault, fault, taken())
    assert scripted.call() == TAKEN
    assert len(scripted.pauses) == 2


def test_pauses_are_drawn_from_a_growing_range(script):
    patience = Patience(attempts=6, base=1.0, cap=4.0, total=1000)
    drawn = [[] for _ in range(5)]
    for _ in range(200):
        scripted = script(*[problem(503)] * 6, patience=patience)
        with pytest.raises(ServiceRefused):
            scripted.call()
        for row, pause in zip(drawn, scripted.pauses, strict=True):
            row.append(pause)
    for row, most in zip(drawn, (1, 2, 4, 4, 4), strict=True):
        # Of 200 even draws none within a tenth of either end: once in 10**9 runs.
        assert 0 <= min(row) < 0.1 * most
        assert 0.9 * most < max(row) <= most


def test_retry_after_is_honoured(script):
    scripted = script(problem(429, headers={"retry-after": "7"}), taken())
    scripted.call()
    assert scripted.pauses[0] >= 7


def test_a_retry_after_beyond_patience_is_told_at_once(script):
    scripted = script(problem(429, headers={"retry-after": "3600"}))
    with pytest.raises(ServiceRefused) as caught:
        scripted.call()
    assert (scripted.pauses, caught.value.retry_after) == ([], 3600)


def test_attempts_are_bounded_in_number_and_time(script):
    scripted = script(*[httpx.ConnectError("x")] * 4, patience=Patience(attempts=4))
    with pytest.raises(ServiceUnreachable, match="No connection"):
        scripted.call()
    assert len(scripted.requests) == 4

    slow = script(*[problem(503, headers={"retry-after": "25"})] * 9, patience=Patience(attempts=9))
    with pytest.raises(ServiceRefused):
        slow.call()
    assert len(slow.requests) == 3  # after 0, 25 and 50 seconds; 75 would be past the minute


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 415, 422, 500])
def test_other_refusals_are_told_at_once(status, script):
    scripted = script(problem(status, "a_code", "It is so", "Do this."))
    with pytest.raises(ServiceRefused) as caught:
        scripted.call()
    error = caught.value
    assert (error.status, error.problem, str(error)) == (status, "a_code", "It is so. Do this.")
    assert len(scripted.requests) == 1


def test_an_expired_cursor_has_a_class_of_its_own(script):
    with pytest.raises(CursorExpired) as caught:
        script(problem(410, "cursor_expired")).call()
    assert caught.value.status == 410


@pytest.mark.parametrize(
    ("answers", "uncertain"),
    [
        ([httpx.ConnectError("x")] * 6, False),  # never sent
        ([httpx.ConnectError("x"), httpx.ReadTimeout("x"), *[httpx.ConnectError("x")] * 4], True),
        ([httpx.ReadError("x")] * 6, True),
        ([problem(503)] * 6, False),
        ([httpx.Response(504)] * 6, True),
        ([problem(500)], True),
        ([problem(422)], False),
        # Had the first been carried out, its answer would have come again.
        ([httpx.ReadTimeout("x"), problem(422)], False),
        ([httpx.ReadTimeout("x"), *[problem(429)] * 5], True),
        ([httpx.Response(200, text="<html>")], True),
        ([httpx.Response(301, headers={"location": "https://other.example"})], False),
        ([httpx.ReadTimeout("x"), httpx.Response(403, text="a proxy's words")], True),
    ],
)
def test_it_is_told_whether_a_write_may_have_been_carried_out(answers, uncertain, script):
    scripted = script(*answers)
    with pytest.raises((ServiceUnreachable, ServiceRefused, ProtocolError)) as caught:
        scripted.call()
    assert caught.value.uncertain is uncertain


def test_a_read_is_never_uncertain(script):
    with pytest.raises(ServiceUnreachable) as caught:
        script(*[httpx.ReadError("x")] * 6).call("GET")
    assert not caught.value.uncertain


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>Please log in</html>"),
        httpx.Response(200, json={"recorded": 1}),
        httpx.Response(200, json={"recorded": 1, "unknown": 0, "more": PASSPHRASE}),
        httpx.Response(200, json=[PASSPHRASE]),
        httpx.Response(200, headers={"content-type": "application/json"}, content=b"{"),
        httpx.Response(200, headers={"content-type": "text/html"}, content=TAKEN.model_dump_json()),
        httpx.Response(201, json=TAKEN.model_dump()),
        httpx.Response(302, headers={"location": "https://other.example"}),
        httpx.Response(404, text="not found"),
        httpx.Response(404, headers={"content-type": "application/problem+json"}, content=b"{}"),
        httpx.Response(
            200,
            headers={"content-type": "application/json", "content-encoding": "gzip"},
            stream=httpx.ByteStream(b"\x1f\x8b"),
        ),
    ],
)
def test_an_answer_of_another_form_is_a_protocol_error(answer, script):
    scripted = script(answer)
    with pytest.raises(ProtocolError) as caught:
        scripted.call()
    assert PASSPHRASE not in str(caught.value)
    assert caught.value.__cause__ is None
    assert len(scripted.requests) == 1  # and redirects are not followed


def test_words_from_the_service_cannot_command_a_terminal(script):
    with pytest.raises(ServiceRefused) as caught:
        script(problem(400, "c\x1b[2J", "A\x1b]0;title\x07\nB", "x" * 10_000)).call()
    assert str(caught.value).isprintable()
    assert caught.value.problem.isprintable()
    assert len(str(caught.value)) < 1100


def test_what_is_sent_says_nothing_about_this_machine(script):
    scripted = script(taken())
    scripted.call()
    (request,) = scripted.requests
    assert request.headers["user-agent"] == "nciihash/0.1.0"
    assert set(request.headers) == {
        *("accept", "accept-encoding", "authorization", "connection", "content-length"),
        *("content-type", "host", "idempotency-key", "user-agent"),
    }


def test_cookies_are_not_sent_back(script):
    scripted = script(taken(), taken())
    scripted.answers[0].headers["set-cookie"] = "who=me; Path=/"
    scripted.call()
    scripted.call()
    assert "cookie" not in scripted.requests[1].headers


def test_secrets_hide_in_representations():
    client = PlatformClient("https://example.org", KEY)
    assert repr(client) == "PlatformClient('https://example.org/')"
    request = Outgoing("GET", "/v1/case", f"Bearer {KEY}", PASSPHRASE.encode())
    assert repr(request) == "Outgoing(GET /v1/case)"
    client.close()


@pytest.mark.parametrize("key", ["", "   ", "two words", "line\nbreak", "schlüssel", "x" * 501])
def test_a_key_that_cannot_be_one_is_refused_without_being_shown(key):
    with pytest.raises(InvalidRequest) as caught:
        PlatformClient("https://example.org", key)
    assert not key.strip() or key not in str(caught.value)


# --- over real connections --------------------------------------------------------------------


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
        thread = threading.Thread(target=running.serve_forever)
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
    patience = Patience(total=0.3)
    with (
        Client(address(server), patience=patience) as client,
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
        awaiting(server, lambda client: client.feed(), patience=Patience(attempts=1, total=0.3))
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
PATIENT = Patience(total=3600.0, answer=3600.0, base=3600.0, cap=3600.0)


def broken_off(place, begun):
    """Break off a call that another thread is in, once it is known to have begun."""
    errors = []
    with PlatformClient(place, KEY, patience=PATIENT) as client:

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
    patience = Patience(attempts=1, total=1.5)
    with Client(address(server), patience=patience) as client:
        with pytest.raises(ProtocolError):
            client.status(CASE, PASSPHRASE)
        with pytest.raises(ServiceUnreachable, match="in time"):
            client.status(CASE, PASSPHRASE)


def test_a_silent_service_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        patience = Patience(attempts=2, base=0.01, answer=0.2)
        port = silent.getsockname()[1]
        with (
            Client(f"http://127.0.0.1:{port}", patience=patience) as client,
            pytest.raises(ServiceUnreachable, match="in time") as caught,
        ):
            client.withdraw(CASE, PASSPHRASE)
    assert caught.value.uncertain


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    patience = Patience(attempts=2, base=0.01)
    with (
        Client(f"http://127.0.0.1:{port}", patience=patience) as client,
        pytest.raises(ServiceUnreachable, match="No connection") as caught,
    ):
        client.withdraw(CASE, PASSPHRASE)
    assert not caught.value.uncertain
    for secret in (CASE, PASSPHRASE, "Case "):
        assert secret not in str(caught.value)


def test_an_untrusted_certificate_is_not_tried_again(script):
    fault = httpx.ConnectError("x")
    fault.__cause__ = ssl.SSLCertVerificationError("x")
    scripted = script(fault)
    with pytest.raises(ServiceUnreachable, match="certificate"):
        scripted.call()
    assert len(scripted.requests) == 1


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
        Client(place, patience=Patience(attempts=1, total=0.3)) as client,
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
