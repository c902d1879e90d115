"""Slow clients and too many connections, over real sockets."""

import asyncio
import json
import selectors
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from clearinghouse.http.body_limits import BodyLimits
from clearinghouse.http.connections import ConnectionLimiter

LARGE = b"x" * 32 * 2**20  # more than fits into the buffers of the sockets


async def hello(request):
    return Response(str(len(await request.body())))


async def large(_request):
    return Response(LARGE)


async def unread(_request):
    return Response("no", 401)


@contextmanager
def running(limiter, seconds=0.3):
    app = Starlette(
        routes=[
            Route("/", hello, methods=["GET", "POST"]),
            Route("/large", large),
            Route("/unread", unread, methods=["POST"]),
        ]
    )
    app.add_middleware(BodyLimits, body_max=2**20, octets=frozenset(), seconds=seconds)
    config = uvicorn.Config(
        app, port=0, log_level="critical", http=limiter.protocol(), timeout_keep_alive=60
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()
    finally:
        server.force_exit = server.should_exit = True
        thread.join()


def connected(address):
    connection = socket.create_connection(address, timeout=60)
    connection.settimeout(60)  # longer than any limit: a test that reaches it fails
    return connection


def read_to_end(connection):
    """Read until the server closes the connection."""
    received = b""
    try:
        while part := connection.recv(2**16):
            received += part
    except ConnectionError:
        pass
    return received


def get(connection):
    """Send a request and return the whole response, whose body is one byte."""
    connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    response = b""
    while not response.partition(b"\r\n\r\n")[2]:
        part = connection.recv(2**16)
        assert part, "the connection was closed"
        response += part
    return response


def is_backed_up(connection):
    return connection.transport.get_write_buffer_size() > 0


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HT",  # the second request of a connection
        # the rest of a body that the application does not read
        b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc",
    ],
    ids=["nothing", "a request line", "a header", "a second request", "a body"],
)
def test_a_connection_without_complete_headers_is_closed(sent):
    limiter = ConnectionLimiter(10, headers_seconds=0.3)
    with running(limiter) as address, connected(address) as connection:
        connection.sendall(sent)
        response = read_to_end(connection)
    assert response.count(b"HTTP/1.1") == (
        sent.startswith((b"POST", b"GET / HTTP/1.1\r\nHost: x\r\n\r"))
    )


def test_headers_that_trickle_are_cut_off():
    limiter = ConnectionLimiter(10, headers_seconds=0.5)
    with running(limiter) as address, connected(address) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX: ")
        with suppress(ConnectionError):
            while True:
                connection.sendall(b"x")
                time.sleep(0.05)


def test_a_body_that_stops_is_refused():
    with running(ConnectionLimiter(10)) as address, connected(address) as connection:
        connection.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        head, _, body = read_to_end(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in head
    assert json.loads(body)["code"] == "too_slow"


def test_a_body_at_the_rate_of_a_slow_phone_is_accepted():
    with running(ConnectionLimiter(10), seconds=2.0) as address, connected(address) as connection:
        connection.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 400000\r\nConnection: close\r\n\r\n"
        )
        for _ in range(10):  # three seconds in all; each part extends the deadline by ten
            connection.sendall(b" " * 40_000)
            time.sleep(0.3)
        assert read_to_end(connection).startswith(b"HTTP/1.1 200")


def test_a_response_that_is_not_read_closes_the_connection():
    limiter = ConnectionLimiter(10, response_seconds=0.3)
    with running(limiter) as address, connected(address) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.recv(1)
        deadline = time.monotonic() + 60
        with connected(address) as other:
            while b"200" in get(other) and any(map(is_backed_up, list(limiter.idle))):
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert len(read_to_end(connection)) < len(LARGE)


def test_a_response_that_is_read_slowly_is_complete():
    limiter = ConnectionLimiter(10, response_seconds=1.0)
    with running(limiter) as address, connected(address) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = 0
        while part := connection.recv(2**20):
            received += len(part)
            time.sleep(0.02)
    assert received > len(LARGE)


def test_beyond_the_limit_the_longest_idle_connection_is_closed():
    limiter = ConnectionLimiter(3, headers_seconds=120)
    with running(limiter) as address, ExitStack() as stack:
        first, second, third = (stack.enter_context(connected(address)) for _ in range(3))
        for connection in (first, second, third):
            assert b"200" in get(connection)
        assert b"200" in get(first), "now the second has been idle for longest"
        fourth = stack.enter_context(connected(address))
        assert b"200" in get(fourth)
        assert read_to_end(second) == b""
        for connection in (first, third):
            assert b"200" in get(connection)


def test_if_none_is_idle_the_new_connection_is_closed():
    limiter = ConnectionLimiter(2, headers_seconds=120)
    with running(limiter, seconds=120) as address, ExitStack() as stack:
        busy = [stack.enter_context(connected(address)) for _ in range(2)]
        for connection in busy:
            connection.sendall(
                b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n"
            )
            assert connection.recv(2**16).startswith(b"HTTP/1.1 100"), "the request is in progress"
        new = stack.enter_context(connected(address))
        assert read_to_end(new) == b""
        for connection in busy:
            connection.sendall(b"{}")
            assert connection.recv(2**16).startswith(b"HTTP/1.1 200")


def test_a_request_may_take_any_time_after_its_body():
    """For long polls, and for passphrase checks in a queue."""
    messages = []

    async def slow(scope, receive, send):
        await receive()
        await asyncio.sleep(0.2)
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0.2)
        assert not waiting.done()
        waiting.cancel()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def serve():
        parts = [{"type": "http.request", "body": b"{}", "more_body": False}]

        async def receive():
            return parts.pop() if parts else await asyncio.Event().wait()

        async def send(message):
            messages.append(message)

        scope = {
            "type": "http",
            "path": "/",
            "headers": [(b"content-length", b"2"), (b"content-type", b"application/json")],
        }
        await BodyLimits(slow, body_max=10, octets=frozenset(), seconds=0.1)(scope, receive, send)

    asyncio.run(serve())
    assert messages[0]["status"] == 200


class QuickLoop(asyncio.SelectorEventLoop):
    """An event loop that skips waits: its clock advances instead."""

    def __init__(self):
        selector = selectors.DefaultSelector()
        super().__init__(selector)
        self._now = 0.0
        select = selector.select

        def advance(timeout=None):
            self._now += timeout or 0.0
            return select(0)

        selector.select = advance

    def time(self):
        return self._now


def send_body(*steps, stops=False):
    """Send a body in steps of (pause in seconds, bytes); return the status and the seconds taken.

    With `stops`, nothing follows although `more_body` was true.
    """
    messages = []

    async def app(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def serve():
        remaining = list(steps)

        async def receive():
            if not remaining:
                await asyncio.Event().wait()  # the connection stays open
            pause, size = remaining.pop(0)
            await asyncio.sleep(pause)
            return {
                "type": "http.request",
                "body": b"x" * size,
                "more_body": bool(remaining) or stops,
            }

        async def send(message):
            messages.append(message)

        scope = {
            "type": "http",
            "path": "/",
            "headers": [(b"transfer-encoding", b"chunked"), (b"content-type", b"application/json")],
        }
        await BodyLimits(app, body_max=2 * 2**20, octets=frozenset())(scope, receive, send)
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=QuickLoop) as runner:
        seconds = runner.run(serve())
    return messages[0]["status"], seconds


def test_a_body_that_stops_is_cut_off_however_much_was_received():
    assert send_body((0, 1_900_000), stops=True) == (408, 20.0)


def test_a_body_that_was_fast_cannot_trickle_later():
    status, seconds = send_body((0, 1_900_000), *[(15, 1)] * 100)
    assert status == 408
    assert seconds <= 20.5


@pytest.mark.parametrize(
    "steps",
    [
        [(1, 8_000)] * 77,  # 200 files with their altered copies on a slow phone: 611 KB
        [(16, 70_000)] * 9,  # the same with pauses, as on a train
        [(19, 80_000)],
        [(0.5, 2_100)] * 900,  # just above the minimum rate
    ],
)
def test_slow_phones_are_served(steps):
    status, seconds = send_body(*steps)
    assert status == 200
    assert seconds == pytest.approx(sum(pause for pause, _ in steps))
