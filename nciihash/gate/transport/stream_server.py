"""A server of protocols over byte streams (clamd, ICAP), with limits on slow and idle peers.

The handler of a connection reads with `Connection.read_some` and answers with `Connection.write`:

    async def echo(connection: Connection) -> None:
        while data := await connection.read_some():
            with connection.busy():
                await connection.write(data)

    server = StreamServer(address, echo, StreamLimits())
    await server.start()

A handler may let `TimeoutError` and `ConnectionError` propagate: the connection is then closed.
Addresses of peers are not read here, and what handlers raise is logged without its message.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

from nciihash.gate.config import Address
from nciihash.gate.logs import RateLimitedLog, describe
from nciihash.gate.transport.connections import Connection, StreamLimits
from nciihash.gate.transport.sockets import BACKLOG, inode, tls_context, unix_listener

_log: Final = logging.getLogger("nciihash.gate")


class StreamServer:
    """A server that runs a handler for each connection, within limits.

    Args:
        address: where it listens.
        handler: called in a task for each connection; the connection is closed when it returns.
        limits: on connections.

    Attributes:
        idle: connections without a request in progress, the longest idle first.
        tls: the TLS configuration, if the address has a certificate.
        port: at which it listens, also if the configured one is 0; 0 for a Unix socket.
        draining: whether it is being closed.
        refused: connections closed because too many were open.
        cut: connections closed because the peer was too slow.
    """

    def __init__(
        self,
        address: Address,
        handler: Callable[[Connection], Awaitable[None]],
        limits: StreamLimits,
    ) -> None:
        self.address = address
        self.limits = limits
        self.idle: dict[Connection, None] = {}
        self.tls: ssl.SSLContext | None = None
        self.port = 0
        self.draining = False
        self.refused = 0
        self.cut = 0
        # Shared: asyncio fills it and calls `buffer_updated` without a switch of tasks in between.
        self.scratch = memoryview(bytearray(limits.buffer))
        self._handler = handler
        self._errors = RateLimitedLog(_log)
        self._open: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._socket_file: tuple[int, int] | None = None  # device and inode of the Unix socket

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._open)

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken or invalid, or the certificate cannot be read.
        """
        self.tls = tls_context(self.address)
        loop = asyncio.get_running_loop()
        if self.address.path is None:
            self._server = await loop.create_server(
                lambda: Connection(self), self.address.host, self.address.port, backlog=BACKLOG
            )
            self.port = self._server.sockets[0].getsockname()[1]
            return
        listener = unix_listener(self.address.path)
        self._socket_file = inode(self.address.path)
        self._server = await loop.create_unix_server(
            lambda: Connection(self), sock=listener, backlog=BACKLOG
        )

    def close(self) -> None:
        """Stop accepting, and close connections when their request in progress is finished."""
        if self._server is not None:
            self._server.close()
        if not self.draining and self._socket_file is not None:
            path = self.address.path
            if path is not None and inode(path) == self._socket_file:  # still this server's
                path.unlink(missing_ok=True)
        self.draining = True
        for connection in self.idle:
            connection.end()

    async def wait_closed(self) -> None:
        """Return when all connections are closed, at the latest after `close_seconds`."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self.limits.close_seconds)
        for connection in self._open:
            connection.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def accepted(self, connection: Connection) -> None:
        """Start the handler of a connection, unless too many are open."""
        if self.draining:
            connection.abort()
            return
        if len(self._open) >= self.limits.connections:
            self.refused += 1
            oldest = next(iter(self.idle), None)
            if oldest is None:
                connection.abort()
                return
            self._drop(oldest)
            oldest.abort()
        if self.tls is not None:
            connection.hold()
        self._open.add(connection)
        self.idle[connection] = None
        task = asyncio.get_running_loop().create_task(self._run(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def finished(self, connection: Connection) -> None:
        """Count a connection as idle."""
        if connection in self._open:
            self.idle[connection] = None

    def _drop(self, connection: Connection) -> None:
        self._open.discard(connection)
        self.idle.pop(connection, None)

    async def _run(self, connection: Connection) -> None:
        try:
            if self.tls is not None:
                await connection.start_tls(self.tls)
            await self._handler(connection)
        except TimeoutError:
            self.cut += 1
            connection.abort()
        except (ConnectionError, ssl.SSLError):
            connection.abort()
        except Exception as error:  # noqa: BLE001 - its message is not logged
            self._errors.error("Closed a connection after a fault of the gate: %s", describe(error))
            connection.abort()
        finally:
            self._drop(connection)
            connection.close()
