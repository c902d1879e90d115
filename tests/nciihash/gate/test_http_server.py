"""The server of the HTTP dialects: framing, limits and slow clients, without a gate."""

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nciihash.gate.config import Address
from nciihash.gate.transport.http_connections import HttpLimits
from nciihash.gate.transport.http_server import HttpServer

POST = b"POST /size HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST /size HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
LAST = b"GET /early HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def size(request: Request):
    return Response(str(len(await request.body())))


async def early(_: Request):
    return Response("early")  # before the body


async def endless(_: Request):
    return Response(bytes(64 << 20))


@asynccontextmanager
async def serving(address=None, **limits):
    routes = [
        Route("/size", size, methods=["POST", "GET"]),
        Route("/early", early, methods=["POST", "GET"]),
        Route("/endless", endless),
    ]
    server = HttpServer(
        address or Address("127.0.0.1", 0), routes, HttpLimits(**limits), close_seconds=1
    )
    await server.start()
    try:
        yield server
    finally:
        server.close()
        await server.wait_closed()


async def exchange(server, *pieces):
    """Send pieces one after another, and return what arrives until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    received = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        received = await asyncio.wait_for(reader.read(), 60)
    except ConnectionError:
        pass
    finally:
        writer.close()
    return received


async def none_open(server):
    while server.connections:  # noqa: ASYNC110 - the server has no event for it
        await asyncio.sleep(0.001)


def answers(*pieces, **limits):
    async def run():
        async with serving(**limits) as server:
            received = await exchange(server, *pieces)
            return [part.partition(b"\r\n\r\n")[2] for part in received.split(b"HTTP/1.1 ")[1:]]

    return asyncio.run(run())


def status(*pieces, **limits):
    async def run():
        async with serving(**limits) as server:
            return (await exchange(server, *pieces))[9:12]

    return asyncio.run(run())


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_requests_may_arrive_in_pieces(step):
    sent = POST + POST + LAST
    pieces = [sent[start : start + step] for start in range(0, len(sent), step)]
    assert answers(*pieces) == [b"5", b"5", b"early"]


def test_the_end_of_a_chunked_body_is_found():
    body = b"\r\n5;name=value\r\nhello\r\n0\r\nTrailer: x\r\n\r\n"
    assert answers(CHUNKED + body + LAST) == [b"5", b"early"]


OFFER = (
    b"POST /size HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    b"%s: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 5\r\n\r\n"
)


@pytest.mark.parametrize("name", [b"Upgrade", b"upgrade", b"UPGRADE"])
@pytest.mark.parametrize("split", [10, 100, 1000])
def test_an_offer_of_another_protocol_does_not_end_the_request(name, split):
    sent = (OFFER % name) + b"hello" + LAST
    assert answers(sent[:split], sent[split:]) == [b"5", b"early"]


def test_an_offer_in_a_pipelined_request_is_refused():
    found = answers(POST + OFFER % b"Upgrade" + b"hello")
    assert found[-1] == b"Invalid HTTP request received."
    assert b"0" not in found


def test_too_many_pipelined_requests_are_refused():
    found = answers(POST * 100)
    assert found[-1] == b"Invalid HTTP request received."
    assert len(found) < 100


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /size HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"GET /size HTTP/1.1\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 100_000,
        POST[:-5] + b"x" * 0 + b"GARBAGE\r\n\r\n" * 3,
        b"\x00" * 70_000,
    ],
)
def test_headers_that_are_too_long_or_no_headers_are_refused(sent):
    assert status(sent) in {b"400", b""}


@pytest.mark.parametrize(
    "sent",
    [
        CHUNKED + b"\r\n0\r\nTrailer: " + b"x" * 300_000,
        CHUNKED + b"\r\n0\r\n" + b"Trailer: x\r\n" * 30_000,
        CHUNKED + b"\r\n5;" + b"x" * 300_000,
        POST + b"GET /size HTTP/1.1\r\nX: " + b"y" * 300_000,
    ],
)
def test_what_never_becomes_a_body_is_cut(sent):
    async def run():
        async with serving() as server:
            pieces = [sent[start : start + 10_000] for start in range(0, len(sent), 10_000)]
            await exchange(server, *pieces)
            return server.connections

    assert asyncio.run(run()) == 0


def test_a_client_that_does_not_finish_its_headers_is_cut():
    assert status(b"GET /size HTTP/1.1\r\n", headers_seconds=0.05) == b""
    assert status(b"", headers_seconds=0.05) == b""


def test_an_idle_connection_is_closed():
    assert answers(POST, between_seconds=0.05) == [b"5"]


def test_an_answer_before_the_body_closes_the_connection():
    assert answers(POST[:-5].replace(b"/size", b"/early") + b"hel") == [b"early"]


def test_a_client_that_does_not_read_its_answer_is_cut():
    async def run():
        async with serving(answer_seconds=0.05) as server:
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(client, b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
                await loop.sock_recv(client, 100)
                await none_open(server)

    asyncio.run(asyncio.wait_for(run(), 60))


def test_the_longest_idle_connection_is_closed_first():
    async def run():
        async with serving(connections=2) as server:
            first = await asyncio.open_connection("127.0.0.1", server.port)
            second = await asyncio.open_connection("127.0.0.1", server.port)
            for reader, writer in (first, second, first):  # `second` is idle for longest now
                writer.write(POST)
                await reader.readuntil(b"\r\n\r\n5")
            assert await exchange(server, LAST)
            assert await second[0].read() == b""
            first[1].write(LAST)
            assert b"early" in await first[0].read()
            for _, writer in (first, second):
                writer.close()

    asyncio.run(asyncio.wait_for(run(), 60))


def test_only_its_own_socket_file_is_removed(tmp_path):
    path = tmp_path / "socket"

    async def run():
        async with serving(Address(path=path)) as server:
            path.unlink()
            path.write_text("of another program")
            assert server.port == 0

    asyncio.run(run())
    assert path.read_text() == "of another program"


WORDS = st.lists(
    st.sampled_from(
        [
            *(POST, LAST, CHUNKED, b"\r\n", b"\r\n\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"\x00"),
            *(
                b"Content-Length: 5\r\n",
                b"Upgrade: h2c\r\n",
                b"POST / HTTP/1.1\r\n",
                b"hello",
                b":",
            ),
        ]
    ),
    max_size=8,
).map(b"".join)


@given(sent=WORDS | st.binary(max_size=100), split=st.integers(1, 60))
def test_any_bytes_leave_a_server_that_answers(sent, split):
    async def run():
        async with serving(headers_seconds=0.02, between_seconds=0.02) as server:
            await exchange(server, sent[:split], sent[split:])
            assert b"early" in await exchange(server, LAST)
            await none_open(server)

    asyncio.run(asyncio.wait_for(run(), 60))
