"""The HTTP dialects of one address, served by uvicorn."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from nciihash.gate.config import Address
from nciihash.gate.dialects.requests import problem
from nciihash.gate.transport.http_connections import ConnectionCount, HttpLimits
from nciihash.gate.transport.sockets import BACKLOG, inode, tls_context, unix_listener


class HttpServer:
    """A server of HTTP routes at one address.

    Args:
        address: where it listens.
        routes: of all its dialects.
        limits: on its connections.
        close_seconds: for requests in progress when the server is closed.

    Attributes:
        address: where it listens.
        port: at which it listens, also if the configured one is 0; 0 for a Unix socket.
    """

    def __init__(
        self,
        address: Address,
        routes: Sequence[BaseRoute],
        limits: HttpLimits,
        *,
        close_seconds: int,
    ) -> None:
        self.address = address
        self.port = 0
        self._count = ConnectionCount(limits)
        app = Starlette(routes=routes, exception_handlers={HTTPException: _refuse})
        # a caller that does not follow a redirect may take its status for "not blocked"
        app.router.redirect_slashes = False
        self._server = _Server(
            uvicorn.Config(
                app,
                http=self._count.protocol,  # type: ignore[arg-type] # called like a class
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # addresses of clients are never read
                timeout_keep_alive=int(limits.between_seconds),
                timeout_graceful_shutdown=close_seconds,
            )
        )
        self._running: asyncio.Task[None] | None = None
        self._socket_file: tuple[int, int] | None = None  # device and inode of the Unix socket

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._count.open)

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken or invalid, or the certificate cannot be read.
        """
        listener = await self._listen()
        self._server.servers = [listener]
        if self.address.path is None:
            self.port = listener.sockets[0].getsockname()[1]
        self._running = asyncio.create_task(self._server.serve(), name="http")

    def close(self) -> None:
        """Stop accepting, and close connections when their request in progress is finished."""
        self._server.should_exit = True
        for listener in self._server.servers:
            listener.close()

    async def wait_closed(self) -> None:
        """Return when all connections are closed, at the latest after `close_seconds`."""
        if self._running is not None:
            await self._running
        path = self.address.path
        if path is not None and inode(path) == self._socket_file:  # still this server's
            path.unlink(missing_ok=True)

    async def _listen(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        if not self._server.config.loaded:
            self._server.config.load()
        tls = tls_context(self.address)
        if (path := self.address.path) is not None:
            listener = unix_listener(path)
            self._socket_file = inode(path)
            return await loop.create_unix_server(
                self._server.new_connection, sock=listener, backlog=BACKLOG
            )
        return await loop.create_server(
            self._server.new_connection,
            self.address.host,
            self.address.port,
            backlog=BACKLOG,
            ssl=tls,
            ssl_handshake_timeout=None if tls is None else self._count.limits.headers_seconds,
        )


class _Server(uvicorn.Server):
    """A uvicorn server without signal handlers, which is started with its listeners."""

    servers: list[asyncio.Server]

    def new_connection(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        protocol = self.config.http_protocol_class(  # type: ignore[call-arg] # uvicorn's own
            config=self.config, server_state=self.server_state, app_state={}
        )
        assert isinstance(protocol, asyncio.Protocol)  # noqa: S101 - for mypy
        return protocol

    async def startup(self, sockets: object = None) -> None:  # noqa: ARG002 - of uvicorn
        """Note that the server is started: its listeners are."""
        self.started = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the gate."""
        yield


async def _refuse(_: Request, error: Exception) -> Response:
    """Answer a path or a method that does not exist."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it alone
    title = HTTPStatus(error.status_code).phrase
    return problem(
        error.status_code,
        title.lower().replace(" ", "_"),
        title,
        "docs/gate.md has the paths and methods of each dialect.",
        headers=error.headers,
    )
