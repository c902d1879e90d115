"""A server that answers ICAP requests (RFC 3507)."""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from nciihash.gate.config import DialectConfig, GateConfig
from nciihash.gate.dialects.icap.content import DETECTABLE
from nciihash.gate.dialects.icap.exchange import Exchange
from nciihash.gate.dialects.icap.modification import Modification
from nciihash.gate.dialects.icap.parser import BadRequest, RequestParser
from nciihash.gate.outcome import Dialect
from nciihash.gate.transport.connections import Connection, StreamLimits
from nciihash.gate.transport.stream_server import StreamServer

if TYPE_CHECKING:
    from nciihash.gate.gate import Gate

# What each service path does. `avscan` is what clients of virus scanners ask for by default.
SERVICES: Final[Mapping[str, frozenset[str]]] = {
    "nciihash": frozenset({"REQMOD", "RESPMOD"}),
    "avscan": frozenset({"REQMOD", "RESPMOD"}),
    "reqmod": frozenset({"REQMOD"}),
    "respmod": frozenset({"RESPMOD"}),
}
OPTIONS_TTL: Final = 300  # seconds for which a client may keep the answer to OPTIONS


async def serve(gate: "Gate", config: DialectConfig) -> StreamServer:
    """Start a server; `close` and `wait_closed` end it.

    Raises:
        OSError: the address is taken or invalid, or the certificate cannot be read.
    """
    service = IcapService(gate)
    server = StreamServer(config.listen, service.handle, StreamLimits.of(gate.config.limits))
    await server.start()
    return server


class IcapService:
    """Answers the requests of ICAP connections.

    Args:
        gate: decides about uploads.
    """

    def __init__(self, gate: "Gate") -> None:
        self._gate = gate

    async def handle(self, connection: Connection) -> None:
        """Answer the requests of a connection until it ends.

        Raises:
            TimeoutError: the client is too slow; it was answered with 408.
            ConnectionError: the connection was lost.
        """
        parser = RequestParser()
        keep = True
        while keep:
            while parser.idle:
                data = await connection.read_some()
                if not data:
                    return
                parser.feed(data)
            with connection.busy():
                keep = await self._exchange(connection, parser)
        await connection.linger()

    async def _exchange(self, connection: Connection, parser: RequestParser) -> bool:
        """Answer a request; return whether another one may follow."""
        exchange = Exchange(
            connection, parser, tag(self._gate.bank.state().version, self._gate.config)
        )
        try:
            await self._answer(exchange)
        except BadRequest as error:
            if exchange.answered:  # its echo can only be cut off
                raise ConnectionResetError from error
            exchange.close = True
            await exchange.answer(error.status)
            return False
        except TimeoutError:
            if not exchange.answered:
                exchange.close = True
                await exchange.answer(408)
            raise
        try:
            parser.next_request()
        except BadRequest:
            return False
        return not exchange.close

    async def _answer(self, exchange: Exchange) -> None:
        head = await exchange.head()
        methods = SERVICES.get(head.service)
        if methods is None or head.method not in methods | {"OPTIONS"}:
            await exchange.skip_body()
            await exchange.answer(404 if methods is None else 405)
        elif head.method == "OPTIONS":
            await exchange.skip_body()
            await exchange.answer(200, options(methods, self._gate.config))
        else:
            await Modification(self._gate, exchange, head).run()


def options(methods: frozenset[str], config: GateConfig) -> list[tuple[str, str]]:
    """Return the header fields that answer OPTIONS (section 4.10.2)."""
    return [
        ("Methods", ", ".join(sorted(methods))),
        ("Service", "nciihash gate"),
        ("Max-Connections", str(config.limits.connections)),
        ("Options-TTL", str(OPTIONS_TTL)),
        ("Allow", "204"),
        ("Preview", str(DETECTABLE)),
        ("Transfer-Preview", "*"),
    ]


def tag(version: str, config: GateConfig) -> str:
    """Return the ISTag, with quotes: it changes with the bank and the policy (section 4.7).

    Args:
        version: of the bank.
        config: of the gate.
    """
    settings = config.dialects[Dialect.ICAP]
    what = (version, settings.policy, settings.level, settings.share, settings.dry_run)
    return f'"{hashlib.sha256(repr(what).encode()).hexdigest()[:30]}"'
