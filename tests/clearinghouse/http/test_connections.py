"""Slow clients and too many connections, at a real socket."""

import asyncio
import json
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

LARGE = b"x" * 32 * 2**20  # more than the system's buffers hold


async def hello(request):
    return Response(str(len(await request.body())))


async def large(_request):
    return Response(LARGE)


async def unread(_request):
    return Response("no", 401)


@contextmanager
def running(lines, seconds=0.3):
    app = Starlette(
        routes=[
            Route("/", hello, methods=["GET", "POST"]),
            Route("/large", large),
            Route("/unread", unread, methods=["POST"]),
        ]
    )
    app.add_middleware(BodyLimits, body_max=2**20, octets=frozenset(), seconds=seconds)
    config = uvicorn.Config(
        app, port=0, log_level="critical", http=lines.protocol(), timeout_keep_alive=60
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
    line = socket.create_connection(address, timeout=60)
    line.settimeout(60)  # long past any bound: a test that gets there fails
    return line


def rest(line):
    """Read until the other side has ended the connection."""
    got = b""
    try:
        while part := line.recv(2**16):
            got += part
    except ConnectionError:
        pass
    return got


def asked(line):
    """Ask for something small, and read the whole answer, of which the body is one byte."""
    line.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while not answer.partition(b"\r\n\r\n")[2]:
        part = line.recv(2**16)
        assert part, "the connection was closed"
        answer += part
    return answer


def holds_back(line):
    return line.transport.get_write_buffer_size() > 0


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HT",  # the second request of a connection
        # the rest of a body that nobody waits for
        b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc",
    ],
    ids=["nothing", "a line", "a header", "a second request", "a body"],
)
def test_headers_that_do_not_arrive_end_the_connection(sent):
    lines = ConnectionLimiter(10, headers_seconds=0.3)
    with running(lines) as address, connected(address) as line:
        line.sendall(sent)
        answer = rest(line)
    assert answer.count(b"HTTP/1.1") == (
        sent.startswith((b"POST", b"GET / HTTP/1.1\r\nHost: x\r\n\r"))
    )


def test_headers_that_trickle_end_it_too():
    lines = ConnectionLimiter(10, headers_seconds=0.5)
    with running(lines) as address, connected(address) as line:
        line.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX: ")
        with suppress(ConnectionError):
            while True:
                line.sendall(b"x")
                time.sleep(0.05)


def test_a_body_that_stops_is_answered_and_cut():
    with running(ConnectionLimiter(10)) as address, connected(address) as line:
        line.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        head, _, body = rest(line).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in head
    assert json.loads(body)["code"] == "too_slow"


def test_a_body_that_keeps_a_slow_phones_pace_passes():
    with running(ConnectionLimiter(10), seconds=2.0) as address, connected(address) as line:
        line.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 400000\r\nConnection: close\r\n\r\n"
        )
        for _ in range(10):  # three seconds in all, and each part earns ten
            line.sendall(b" " * 40_000)
            time.sleep(0.3)
        assert rest(line).startswith(b"HTTP/1.1 200")


def test_an_answer_that_nobody_takes_ends_the_connection():
    lines = ConnectionLimiter(10, answer_seconds=0.3)
    with running(lines) as address, connected(address) as line:
        line.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        line.recv(1)
        deadline = time.monotonic() + 60
        with connected(address) as other:
            while b"200" in asked(other) and any(map(holds_back, list(lines.unused))):
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert len(rest(line)) < len(LARGE)


def test_an_answer_that_is_taken_slowly_arrives_whole():
    lines = ConnectionLimiter(10, answer_seconds=1.0)
    with running(lines) as address, connected(address) as line:
        line.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        got = 0
        while part := line.recv(2**20):
            got += len(part)
            time.sleep(0.02)
    assert got > len(LARGE)


def test_a_connection_more_than_allowed_takes_the_place_of_the_longest_unused():
    lines = ConnectionLimiter(3, headers_seconds=120)
    with running(lines) as address, ExitStack() as stack:
        first, second, third = (stack.enter_context(connected(address)) for _ in range(3))
        for line in (first, second, third):
            assert b"200" in asked(line)
        assert b"200" in asked(first), "now the second is the longest unused"
        fourth = stack.enter_context(connected(address))
        assert b"200" in asked(fourth)
        assert rest(second) == b""
        for line in (first, third):
            assert b"200" in asked(line)


def test_where_all_are_in_use_the_new_one_is_closed():
    lines = ConnectionLimiter(2, headers_seconds=120)
    with running(lines, seconds=120) as address, ExitStack() as stack:
        busy = [stack.enter_context(connected(address)) for _ in range(2)]
        for line in busy:
            line.sendall(
                b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n"
            )
            assert line.recv(2**16).startswith(b"HTTP/1.1 100"), "it is being served"
        new = stack.enter_context(connected(address))
        assert rest(new) == b""
        for line in busy:
            line.sendall(b"{}")
            assert line.recv(2**16).startswith(b"HTTP/1.1 200")


def test_after_its_body_a_request_may_take_as_long_as_it_needs():
    """A long poll waits, and so does whoever waits for a passphrase to be checked."""
    answered = []

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
            answered.append(message)

        scope = {
            "type": "http",
            "path": "/",
            "headers": [(b"content-length", b"2"), (b"content-type", b"application/json")],
        }
        await BodyLimits(slow, body_max=10, octets=frozenset(), seconds=0.1)(scope, receive, send)

    asyncio.run(serve())
    assert answered[0]["status"] == 200


class QuickLoop(asyncio.SelectorEventLoop):
    """An event loop whose waiting takes no time: its clock moves on instead."""

    def __init__(self):
        super().__init__()
        self._now = 0.0
        select = self._selector.select

        def moving(timeout=None):
            self._now += timeout or 0.0
            return select(0)

        self._selector.select = moving

    def time(self):
        return self._now


def sent(*steps, stops=False):
    """Send a body in steps of (seconds to wait, bytes); return the status and the seconds taken.

    With `stops` nothing follows although more was announced.
    """
    answered = []

    async def app(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def serve():
        left = list(steps)

        async def receive():
            if not left:
                await asyncio.Event().wait()  # it stops, and the connection stays
            pause, size = left.pop(0)
            await asyncio.sleep(pause)
            return {
                "type": "http.request",
                "body": b"x" * size,
                "more_body": bool(left) or stops,
            }

        async def send(message):
            answered.append(message)

        scope = {
            "type": "http",
            "path": "/",
            "headers": [(b"transfer-encoding", b"chunked"), (b"content-type", b"application/json")],
        }
        await BodyLimits(app, body_max=2 * 2**20, octets=frozenset())(scope, receive, send)
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=QuickLoop) as runner:
        seconds = runner.run(serve())
    return answered[0]["status"], seconds


def test_a_body_that_stops_is_cut_however_much_of_it_came():
    assert sent((0, 1_900_000), stops=True) == (408, 20.0)


def test_a_body_that_was_fast_at_first_cannot_trickle_afterwards():
    status, seconds = sent((0, 1_900_000), *[(15, 1)] * 100)
    assert status == 408
    assert seconds <= 20.5


@pytest.mark.parametrize(
    "steps",
    [
        [(1, 8_000)] * 77,  # 200 files with their altered copies on a slow phone: 611 KB
        [(16, 70_000)] * 9,  # the same with pauses, as in a train
        [(19, 80_000)],
        [(0.5, 2_100)] * 900,  # as slow as may be
    ],
)
def test_a_slow_phone_gets_through(steps):
    status, seconds = sent(*steps)
    assert status == 200
    assert seconds == pytest.approx(sum(pause for pause, _ in steps))
