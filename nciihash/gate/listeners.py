"""The servers of a gate: one for each address of dialects over HTTP, and one for each other."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeAlias

from starlette.routing import BaseRoute

from nciihash.errors import NciihashError, describe_os_error
from nciihash.gate.config import Address, DialectConfig
from nciihash.gate.dialects import clamd, hma, http, icap, pictrs, piefed
from nciihash.gate.gate import Gate
from nciihash.gate.outcome import Dialect
from nciihash.gate.transport.http_connections import HttpLimits
from nciihash.gate.transport.http_server import HttpServer

CLOSE_SECONDS: Final = 30  # for requests in progress when the gate is ended


class CannotListen(NciihashError):
    """An address of a dialect cannot be listened at."""


class Server(Protocol):
    """A server that listens."""

    @property
    def address(self) -> Address:
        """The configured address."""

    @property
    def port(self) -> int:
        """The port, also if the configured one is 0."""

    @property
    def connections(self) -> int:
        """The number of open connections."""

    def close(self) -> None:
        """Stop accepting, and close connections when their request in progress is finished."""

    async def wait_closed(self) -> None:
        """Return when all connections are closed."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A server, and the dialects that it serves."""

    dialects: Sequence[Dialect]
    server: Server

    @property
    def url(self) -> str:
        """The address, for people and programs: for example `http://127.0.0.1:8480`."""
        address = self.server.address
        over_http = self.dialects[0] in _ROUTES
        scheme = "http" if over_http else self.dialects[0].value
        if address.certificate is not None:
            scheme += "s"
        if address.path is not None:
            return f"{scheme}+unix://{address.path}"
        host = f"[{address.host}]" if ":" in address.host else address.host
        return f"{scheme}://{host}:{self.server.port}"


Routes: TypeAlias = Callable[[Gate], list[BaseRoute]]
StreamServing: TypeAlias = Callable[[Gate, DialectConfig], Awaitable[Server]]

_ROUTES: Final[dict[Dialect, Routes]] = {
    Dialect.HTTP: http.routes,
    Dialect.PICTRS: pictrs.routes,
    Dialect.HMA: hma.routes,
    Dialect.PIEFED: piefed.routes,
}
_STREAMS: Final[dict[Dialect, StreamServing]] = {
    Dialect.CLAMD: clamd.serve,
    Dialect.ICAP: icap.serve,
}


async def listen(gate: Gate) -> list[Listener]:
    """Start the servers of all dialects of a gate's configuration.

    Raises:
        CannotListen: one cannot be started; none is running.
    """
    listeners: list[Listener] = []
    try:
        for dialects in _by_address(gate):
            server = await _start(gate, dialects)
            listeners.append(Listener(dialects, server))
            for dialect in dialects:
                gate.metrics.watch_connections(dialect, partial(_connections, server))
    except BaseException:
        for listener in listeners:
            listener.server.close()
        raise
    return listeners


def _by_address(gate: Gate) -> list[list[Dialect]]:
    """Return the dialects, those over HTTP with the same address together."""
    shared: dict[Address, list[Dialect]] = {}
    alone: list[list[Dialect]] = []
    for dialect, settings in gate.config.dialects.items():
        if dialect in _ROUTES:
            shared.setdefault(settings.listen, []).append(dialect)
        else:
            alone.append([dialect])
    return [*shared.values(), *alone]


async def _start(gate: Gate, dialects: Sequence[Dialect]) -> Server:
    settings = gate.config.dialects[dialects[0]]
    try:
        if dialects[0] not in _ROUTES:
            return await _STREAMS[dialects[0]](gate, settings)
        server = HttpServer(
            settings.listen,
            [route for dialect in dialects for route in _ROUTES[dialect](gate)],
            HttpLimits(connections=gate.config.limits.connections),
            close_seconds=CLOSE_SECONDS,
        )
        await server.start()
        return server
    except OSError as error:
        names = ", ".join(dialect.value for dialect in dialects)
        raise CannotListen(
            f"The gate cannot listen for {names} at the configured address: "
            f"{describe_os_error(error)} Choose another one, or end what uses it."
        ) from error


def _connections(server: Server) -> int:
    return server.connections
