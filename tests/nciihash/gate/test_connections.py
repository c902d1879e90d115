"""The server of byte streams, over real sockets: its limits, and how it closes."""

import asyncio
import logging
import resource
import socket
import ssl
import stat
from contextlib import asynccontextmanager, suppress

import pytest

from nciihash.gate.config import Address
from nciihash.gate.transport.connections import Connection, StreamLimits
from nciihash.gate.transport.sockets import unix_listener
from nciihash.gate.transport.stream_server import StreamServer
from support.certificates import self_signed

NEVER = 10_000.0  # seconds
PATIENT = StreamLimits(
    between_seconds=NEVER, idle_seconds=NEVER, request_seconds=NEVER, close_seconds=NEVER
)
LARGE = 32 << 20  # bytes: more than fits into the buffers of the sockets


def limits(**changes):
    """Return limits that never end a connection, except for those that are changed."""
    values = {name: getattr(PATIENT, name) for name in StreamLimits.__slots__}
    return StreamLimits(**values | changes)


async def echo(connection):
    while data := await connection.read_some():
        with connection.busy():
            await connection.write(data)


async def receive(connection):
    """Take part in one request that never ends."""
    await connection.read_some()
    with connection.busy():
        while await connection.read_some():
            pass


@asynccontextmanager
async def serving(handler=echo, limit=PATIENT, address=Address()):  # noqa: B008 - it is immutable
    server = StreamServer(address, handler, limit)
    await server.start()
    try:
        yield server
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def connected(server, **options):
    if server.address.path is not None:
        reader, writer = await asyncio.open_unix_connection(server.address.path)
    else:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, **options)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def asked(stream, data=b"hello"):
    """Send a request to `echo`, and check its answer."""
    reader, writer = stream
    writer.write(data)
    await writer.drain()
    assert await reader.readexactly(len(data)) == data


async def send_without_end(writer, data):
    while True:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0)


async def is_closed(stream):
    """Whether the connection ends; waits until it does."""
    with suppress(ConnectionError):
        return await stream[0].read() == b""
    return True


async def counted(value, expected):
    """Wait until a number reaches what is expected."""
    while value() != expected:  # noqa: ASYNC110 - real sockets notify nobody
        await asyncio.sleep(0)


@pytest.fixture
def certificate(tmp_path):
    return self_signed(tmp_path / "certificate.pem")


def trusting(certificate):
    return ssl.create_default_context(cafile=certificate)


def test_it_serves_tcp():
    async def scenario():
        async with serving() as server, connected(server) as stream:
            assert server.port
            await asked(stream)
            await asked(stream, bytes(range(256)) * 10)
            stream[1].write_eof()
            assert await is_closed(stream)
            await counted(lambda: server.connections, 0)

    asyncio.run(scenario())


def test_a_peer_may_close_its_direction_and_still_gets_the_answer():
    async def answer_at_the_end(connection):
        size = 0
        while data := await connection.read_some():
            size += len(data)
        await connection.write(str(size).encode())

    async def scenario():
        async with serving(answer_at_the_end) as server, connected(server) as (reader, writer):
            writer.write(b"x" * 1_000_000)
            writer.write_eof()
            assert await reader.read() == b"1000000"

    asyncio.run(scenario())


def test_it_serves_tls(certificate):
    async def scenario():
        address = Address(certificate=certificate)
        options = {"ssl": trusting(certificate), "server_hostname": "localhost"}
        async with serving(address=address) as server, connected(server, **options) as stream:
            await asked(stream)
            await asked(stream, b"x" * 3_000_000)

    asyncio.run(scenario())


def test_a_peer_that_makes_no_handshake_is_closed_and_counts_as_a_connection(certificate):
    async def scenario():
        limit = limits(idle_seconds=0.01)
        async with serving(limit=limit, address=Address(certificate=certificate)) as server:
            async with connected(server) as stream:
                assert await is_closed(stream)
            async with connected(server) as stream:
                stream[1].write(b"GET / HTTP/1.1\r\n\r\n")
                with suppress(ConnectionError):
                    assert b"HTTP" not in await stream[0].read()
            await counted(lambda: server.connections, 0)

    asyncio.run(scenario())


def test_handshakes_in_progress_are_limited(certificate):
    async def scenario():
        limit = limits(connections=1)
        async with (
            serving(limit=limit, address=Address(certificate=certificate)) as server,
            connected(server) as silent,
        ):
            await counted(lambda: server.connections, 1)
            options = {"ssl": trusting(certificate), "server_hostname": "localhost"}
            async with connected(server, **options) as stream:
                await asked(stream)
                assert await is_closed(silent)
                assert server.connections == 1

    asyncio.run(scenario())


def test_a_certificate_that_cannot_be_read_is_an_error_at_start(tmp_path):
    async def scenario():
        server = StreamServer(Address(certificate=tmp_path / "missing.pem"), echo, PATIENT)
        with pytest.raises(FileNotFoundError):
            await server.start()

    asyncio.run(scenario())


def test_a_connection_without_a_request_is_closed():
    async def scenario():
        async with serving(limit=limits(between_seconds=0.01)) as server:
            async with connected(server) as stream:
                assert await is_closed(stream)
            async with connected(server) as stream:
                await asked(stream)
                assert await is_closed(stream)
            assert server.cut == 2

    asyncio.run(scenario())


def test_a_peer_that_stops_within_a_request_is_cut():
    async def scenario():
        async with serving(receive, limits(idle_seconds=0.01)) as server:
            async with connected(server) as stream:
                stream[1].write(b"a request that")
                assert await is_closed(stream)
            assert server.cut == 1

    asyncio.run(scenario())


def test_a_peer_that_sends_for_too_long_is_cut_however_steady_it_is():
    async def scenario():
        async with serving(receive, limits(request_seconds=0.05)) as server:
            async with connected(server) as (_, writer):
                with pytest.raises(ConnectionError):
                    await send_without_end(writer, b"x")
            assert server.cut == 1

    asyncio.run(scenario())


def test_a_peer_that_does_not_read_is_cut():
    async def answer(connection):
        await connection.read_some()
        with connection.busy():
            await connection.write(b"x" * LARGE)
        pytest.fail("It was written.")

    async def scenario():
        for limit in (limits(idle_seconds=0.01), limits(request_seconds=0.01)):
            async with serving(answer, limit) as server:
                async with connected(server) as (reader, writer):
                    reader._transport.pause_reading()
                    writer.write(b"request")
                    await counted(lambda server=server: server.cut, 1)
                assert server.connections == 0

    asyncio.run(scenario())


def test_the_time_to_read_a_long_answer_is_limited_in_total():
    async def answer(connection):
        await connection.read_some()
        with connection.busy():
            while True:
                await connection.write(b"x" * 10_000)

    async def scenario():
        async with (
            serving(answer, limits(request_seconds=0.02)) as server,
            connected(server) as (reader, writer),
        ):
            writer.write(b"request")
            while not server.cut:
                assert await reader.read(1000)
                await asyncio.sleep(0)

    asyncio.run(scenario())


def test_a_connection_buffers_no_more_than_its_bound():
    async def scenario():
        sizes = []
        proceed = asyncio.Event()

        async def slow(connection):
            await proceed.wait()
            with connection.busy():
                while data := await connection.read_some():
                    sizes.append(len(data))
                    assert len(data) <= 1000

        async with serving(slow, limits(buffer=1000)) as server:
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.setblocking(False)
                sent = 0
                for _ in range(1000):  # until the buffers of the operating system are full
                    with suppress(BlockingIOError):
                        while True:
                            sent += client.send(b"x" * 100_000)
                            assert sent < LARGE
                    await asyncio.sleep(0)
                proceed.set()
                client.shutdown(socket.SHUT_WR)
                await counted(lambda: sum(sizes), sent)

    asyncio.run(scenario())


def test_too_many_connections_close_the_longest_idle():
    async def scenario():
        async with (
            serving(limit=limits(connections=2)) as server,
            connected(server) as first,
            connected(server) as second,
        ):
            await asked(first)
            await asked(second)
            await asked(first)
            async with connected(server) as third:
                await asked(third)
                assert await is_closed(second)
                await asked(first)
                assert (server.connections, server.refused) == (2, 1)

    asyncio.run(scenario())


def test_too_many_connections_are_refused_if_none_is_idle():
    async def scenario():
        async with (
            serving(receive, limits(connections=2)) as server,
            connected(server) as first,
            connected(server) as second,
        ):
            first[1].write(b"x")
            second[1].write(b"x")
            await counted(lambda: len(server.idle), 0)
            await counted(lambda: server.connections, 2)
            async with connected(server) as third:
                assert await is_closed(third)
            assert (server.connections, server.refused) == (2, 1)
            first[1].write(b"x")
            await first[1].drain()
            assert not first[0].at_eof()

    asyncio.run(scenario())


@pytest.fixture
def descriptors():
    """Return how many connections with both ends in this process are possible, at most 10,000."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield min(10_000, (min(hard, 1 << 20) - 300) // 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_thousands_of_idle_connections(descriptors, tmp_path):
    async def scenario():
        path = tmp_path / "socket"
        async with serving(limit=limits(connections=descriptors), address=Address(path=path)) as it:
            clients = []
            try:
                for number in range(descriptors):
                    client = socket.socket(socket.AF_UNIX)
                    client.setblocking(False)
                    clients.append(client)
                    await asyncio.get_running_loop().sock_connect(client, str(path))
                    if number % 100 == 99:
                        await counted(lambda: it.connections, len(clients))
                await counted(lambda: it.connections, descriptors)
                loop = asyncio.get_running_loop()
                for client in clients[::100]:
                    await loop.sock_sendall(client, b"hello")
                    assert await loop.sock_recv(client, 10) == b"hello"
                async with connected(it) as another:
                    await asked(another)
                assert (it.connections, it.refused) == (descriptors, 1)
                assert await loop.sock_recv(clients[1], 10) == b""  # the longest idle
            finally:
                for client in clients:
                    client.close()
            await counted(lambda: it.connections, 0)

    asyncio.run(scenario())


def test_closing_finishes_the_request_in_progress():
    async def scenario():
        proceed = asyncio.Event()
        states = []

        async def answer(connection):
            while data := await connection.read_some():
                with connection.busy():
                    await proceed.wait()
                    await connection.write(data)
                    states.append(connection.draining)

        async with (
            serving(answer) as server,
            connected(server) as idle,
            connected(server) as working,
        ):
            working[1].write(b"hello")
            await counted(lambda: (len(server.idle), server.connections), (1, 2))
            server.close()
            assert await is_closed(idle)
            with pytest.raises(ConnectionError):
                async with connected(server):
                    pass
            working[1].write(b"another request")
            proceed.set()
            assert await working[0].read(5) == b"hello"
            assert await is_closed(working)
            await server.wait_closed()
            assert server.connections == 0
        assert states == [True]

    asyncio.run(scenario())


def test_closing_is_bounded():
    async def stuck(connection):
        await connection.read_some()
        with connection.busy():
            await asyncio.Event().wait()

    async def scenario():
        async with (
            serving(stuck, limits(close_seconds=0.01)) as server,
            connected(server) as stream,
        ):
            stream[1].write(b"x")
            await counted(lambda: (len(server.idle), server.connections), (0, 1))
            server.close()
            await server.wait_closed()
            assert await is_closed(stream)
            assert server.connections == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("secure", [False, True])
def test_a_peer_that_is_still_sending_gets_the_last_answer(secure, certificate):
    async def refuse(connection):
        with connection.busy():
            await connection.read_some()
            await connection.write(b"too large")
        await connection.linger()

    async def scenario():
        address = Address(certificate=certificate if secure else None)
        options = {"ssl": trusting(certificate), "server_hostname": "localhost"} if secure else {}
        limit = limits(linger_seconds=NEVER)
        async with (
            serving(refuse, limit, address) as server,
            connected(server, **options) as (reader, writer),
        ):
            writer.write(b"x" * LARGE)
            await writer.drain()
            assert await reader.readexactly(9) == b"too large"

    asyncio.run(scenario())


def test_lingering_ends():
    async def refuse(connection):
        await connection.write(b"too large")
        await connection.linger()

    async def scenario():
        async with serving(refuse, limits(linger_seconds=0.01)) as server:
            async with connected(server) as (_, writer):
                with pytest.raises(ConnectionError):
                    await send_without_end(writer, b"x" * 1000)
            await counted(lambda: server.connections, 0)

    asyncio.run(scenario())


def test_a_fault_of_a_handler_closes_one_connection_and_logs_no_message(caplog):
    async def fail(connection):
        data = await connection.read_some()
        if data == b"holiday.jpg":
            raise ValueError(data.decode())
        await connection.write(data)

    async def scenario():
        async with serving(fail) as server:
            async with connected(server) as stream:
                stream[1].write(b"holiday.jpg")
                assert await is_closed(stream)
            async with connected(server) as stream:
                await asked(stream)

    with caplog.at_level(logging.DEBUG):
        asyncio.run(scenario())
    assert "ValueError (test_connections.py:" in caplog.text
    assert "holiday" not in caplog.text
    assert "127.0.0.1" not in caplog.text


def test_the_log_has_no_addresses(caplog, certificate):
    async def scenario():
        secure = Address(certificate=certificate)
        limit = limits(connections=2, idle_seconds=0.01, between_seconds=0.01)
        async with serving(limit=limit) as plain, serving(limit=limit, address=secure) as tls:
            for server in (plain, tls):
                async with connected(server) as one, connected(server), connected(server):
                    one[1].write(b"x" * 100)
                    assert await is_closed(one) in (True, False)
                with socket.create_connection(("127.0.0.1", server.port)) as client:
                    options = b"\1\0\0\0\0\0\0\0"  # reset the connection when it is closed
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, options)
                    client.send(b"x")
                await counted(lambda server=server: server.connections, 0)

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())
    assert not caplog.records


def test_a_unix_socket_replaces_one_that_a_killed_process_left(tmp_path):
    path = tmp_path / "gate.socket"

    async def scenario():
        unix_listener(path).close()
        async with serving(address=Address(path=path)) as server, connected(server) as stream:
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            assert list(tmp_path.iterdir()) == [path]
            await asked(stream)
            another = StreamServer(Address(path=path), echo, PATIENT)
            with pytest.raises(OSError, match="Another process listens"):
                await another.start()
            await asked(stream)
        assert not path.exists()

    asyncio.run(scenario())


def test_a_unix_socket_replaces_no_other_file(tmp_path):
    path = tmp_path / "gate.socket"
    path.write_text("settings")
    with pytest.raises(FileExistsError, match="not a socket"):
        unix_listener(path)
    assert path.read_text() == "settings"
    with pytest.raises(FileNotFoundError):
        unix_listener(tmp_path / "missing" / "gate.socket")


def test_closing_removes_only_its_own_unix_socket(tmp_path):
    path = tmp_path / "gate.socket"

    async def scenario():
        async with serving(address=Address(path=path)):
            path.unlink()
            unix_listener(path).close()
        assert path.exists()

    asyncio.run(scenario())


def test_a_handler_finds_out_that_the_peer_is_gone():
    async def scenario():
        errors = []
        proceed = asyncio.Event()

        async def answer(connection: Connection):
            await connection.read_some()
            with connection.busy():
                await proceed.wait()
                for _ in range(100):
                    try:
                        await connection.write(b"x" * 100_000)
                    except ConnectionError as error:
                        errors.append(error)
                        raise

        async with serving(answer) as server:
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.send(b"x")
                await counted(lambda: (len(server.idle), server.connections), (0, 1))
            proceed.set()
            await counted(lambda: server.connections, 0)
        assert errors

    asyncio.run(scenario())
