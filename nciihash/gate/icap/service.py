"""Answer ICAP requests (RFC 3507): pass on HTTP messages without a match, and stop the others.

A message passes with `204`, or is echoed where the client does not allow 204. A stopped one is
replaced by an HTTP response, with `X-Infection-Found` for clients that read nothing else. That is
the answer too if an upload could not be checked and the dialect fails closed: an ICAP error would
let it pass in clients that ignore errors (OpenCloud, or Squid with `bypass=on`).
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from typing import Final

from nciihash.gate.config import DialectConfig, GateConfig
from nciihash.gate.connections import Connection, StreamLimits, StreamServer
from nciihash.gate.gate import Gate
from nciihash.gate.icap.answers import refusal
from nciihash.gate.icap.content import DETECTABLE, Content
from nciihash.gate.icap.http_head import HttpHead, prefers_json
from nciihash.gate.icap.messages import (
    CONTINUE,
    LAST_CHUNK,
    BadRequest,
    Data,
    End,
    Event,
    Head,
    Pause,
    RequestParser,
    chunk,
    encapsulate,
    response,
)
from nciihash.gate.outcome import Decision, Dialect, Outcome

# What each service path does. `avscan` is what clients of virus scanners ask for by default.
SERVICES: Final[Mapping[str, frozenset[str]]] = {
    "nciihash": frozenset({"REQMOD", "RESPMOD"}),
    "avscan": frozenset({"REQMOD", "RESPMOD"}),
    "reqmod": frozenset({"REQMOD"}),
    "respmod": frozenset({"RESPMOD"}),
}
OPTIONS_TTL: Final = 300  # seconds for which a client may keep the answer to OPTIONS
WRITE: Final = 1 << 16  # bytes of a chunk that is echoed

_STRICTNESS: Final = (
    Decision.CLEAR,
    Decision.UNREADABLE,
    Decision.UNCHECKED,
    Decision.REVIEW,
    Decision.BLOCK,
)


async def serve(gate: Gate, config: DialectConfig) -> StreamServer:
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

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def handle(self, connection: Connection) -> None:
        """Answer the requests of a connection until it ends."""
        parser = RequestParser()
        while True:
            if not parser.buffered:
                data = await connection.read_some()
                if not data:
                    return
                parser.feed(data)
            with connection.busy():
                exchange = _Exchange(self._gate, connection, parser)
                keep = await exchange.run()
            if not keep:
                await connection.linger()
                return


def tag(version: str, config: GateConfig) -> str:
    """Return the ISTag, with quotes: it changes with the bank and the policy (section 4.7).

    Args:
        version: of the bank.
        config: of the gate.
    """
    settings = config.dialects[Dialect.ICAP]
    what = (version, settings.policy, settings.level, settings.share, settings.dry_run)
    return f'"{hashlib.sha256(repr(what).encode()).hexdigest()[:30]}"'


class _Exchange:
    """One request and its answer."""

    def __init__(self, gate: Gate, connection: Connection, parser: RequestParser) -> None:
        self._gate = gate
        self._connection = connection
        self._parser = parser
        self._close = False

    async def run(self) -> bool:
        """Answer the request; return whether the connection stays open."""
        try:
            head = await self._next()
            if not isinstance(head, Head):
                raise BadRequest
            self._close = head.close or self._connection.draining
            await self._answer(head)
            self._parser.next_request()
        except BadRequest as error:
            self._close = True
            await self._respond(error.status)
        except TimeoutError:
            self._close = True
            await self._respond(408)
            raise
        return not self._close

    async def _next(self) -> Event:
        while (event := self._parser.next_event()) is None:
            data = await self._connection.read_some()
            if not data:
                raise ConnectionResetError
            self._parser.feed(data)
        return event

    async def _answer(self, head: Head) -> None:
        methods = SERVICES.get(head.service)
        if methods is None or head.method not in methods | {"OPTIONS"}:
            await self._drain(head)
            await self._respond(404 if methods is None else 405)
        elif head.method == "OPTIONS":
            await self._drain(head)
            await self._respond(200, self._options(methods))
        else:
            await _Modification(self._gate, self, head).run()

    def _options(self, methods: frozenset[str]) -> list[tuple[str, str]]:
        return [
            ("Methods", ", ".join(sorted(methods))),
            ("Service", "nciihash gate"),
            ("Max-Connections", str(self._gate.config.limits.connections)),
            ("Options-TTL", str(OPTIONS_TTL)),
            ("Allow", "204"),
            ("Preview", str(DETECTABLE)),
            ("Transfer-Preview", "*"),
        ]

    async def _drain(self, head: Head) -> None:
        """Read a body that is not needed, but not the rest after a preview."""
        if head.has_body:
            while not isinstance(await self._next(), End | Pause):
                pass
        else:
            await self._next()

    async def _respond(
        self,
        status: int,
        fields: list[tuple[str, str]] | None = None,
        encapsulated: str = "null-body=0",
    ) -> None:
        common = [("ISTag", tag(self._gate.bank_state().version, self._gate.config))]
        if self._close:
            common.append(("Connection", "close"))
        await self._connection.write(response(status, [*common, *(fields or [])], encapsulated))

    # For `_Modification`.

    next_event = _next
    respond = _respond

    async def write(self, data: bytes) -> None:
        """Send bytes of a body."""
        await self._connection.write(data)

    async def proceed(self) -> None:
        """Ask for the rest of a body after its preview."""
        await self._connection.write(CONTINUE)
        self._parser.proceed()
