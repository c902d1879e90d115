"""Limits on uvicorn's connections: how many there are, and how long slow clients may take.

Bodies are the concern of `nciihash.gate.uploads`. Addresses of clients are not read.

The parser is h11. httptools needs 0.2 ms less for an upload of 300 KB, but it ends a request that
offers another protocol (`Upgrade: h2c`, as Java's HttpClient does by default) before its body,
which would be checked as an empty file.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS_SECONDS: Final = 20.0
ANSWER_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Limits on the connections of an address.

    Attributes:
        connections: that may be open. Beyond it the longest idle one is closed, or the new one if
            none is idle.
        headers_seconds: from the first byte of a request until its headers are complete.
        between_seconds: without a request, after which a connection is closed.
        answer_seconds: in which the client must read some of an answer.
    """

    connections: int = 10_000
    headers_seconds: float = HEADERS_SECONDS
    between_seconds: float = 600.0
    answer_seconds: float = ANSWER_SECONDS


class ConnectionCount:
    """The open connections of an address. Belongs to one event loop.

    Attributes:
        limits: on the connections.
        open: the open connections.
        idle: those without a request in progress, the longest idle first.
    """

    def __init__(self, limits: HttpLimits) -> None:
        self.limits = limits
        self.open: set[LimitedConnection] = set()
        self.idle: dict[LimitedConnection, None] = {}

    def protocol(self, **arguments: Any) -> "LimitedConnection":  # noqa: ANN401 - uvicorn's own
        """Return uvicorn's protocol for a new connection; called by uvicorn."""
        return LimitedConnection(self, **arguments)


class LimitedConnection(H11Protocol):
    """A connection of uvicorn within limits."""

    def __init__(self, count: ConnectionCount, **arguments: Any) -> None:  # noqa: ANN401
        super().__init__(**arguments)
        self._count = count
        self._timer: asyncio.TimerHandle | None = None  # of headers or of an idle connection
        self._receiving = False  # whether the headers of a request have started to arrive
        self._answer_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Take a new connection, or close one if there are too many."""
        super().connection_made(transport)
        self._count.open.add(self)
        if len(self._count.open) > self._count.limits.connections:
            oldest = next(iter(self._count.idle), self)
            oldest.transport.abort()
            self._count.idle.pop(oldest, None)
            if oldest is self:
                return
        self._wait(receiving=True)  # a new connection is there to be used

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._count.open.discard(self)
        self._count.idle.pop(self, None)
        self._stop_waiting()
        self._stop_watching()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._count.idle.pop(self, None)
            self._stop_waiting()
        elif not self._receiving:
            self._wait(receiving=True)

    def on_response_complete(self) -> None:
        """Wait for the next request; close the connection if a part of a body is unread."""
        unread = self.conn.their_state is h11.SEND_BODY
        super().on_response_complete()  # starts the next request if it was pipelined
        if self.transport.is_closing():
            self._watch_answer()
        elif unread:
            self.transport.close()
        elif self.cycle.response_complete:
            self._wait(receiving=bool(self.conn.trailing_data[0]))

    def pause_writing(self) -> None:
        """Note that the client does not read as fast as the answer is written."""
        super().pause_writing()
        self._watch_answer()

    def resume_writing(self) -> None:
        """Note that the client has read the answer."""
        self._stop_watching()
        super().resume_writing()

    def _wait(self, *, receiving: bool) -> None:
        """Limit the time until the headers of a request are complete, or until one starts."""
        self._stop_waiting()
        self._receiving = receiving
        self._count.idle.pop(self, None)
        self._count.idle[self] = None
        limits = self._count.limits
        seconds = limits.headers_seconds if receiving else limits.between_seconds
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _stop_waiting(self) -> None:
        self._receiving = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch_answer(self) -> None:
        """Close the connection if the client reads nothing of what is buffered within the limit."""
        self._stop_watching()
        before = self.transport.get_write_buffer_size()

        def check() -> None:
            if self.transport.get_write_buffer_size() < before:
                self._watch_answer()
            else:
                self.transport.abort()

        seconds = self._count.limits.answer_seconds
        self._answer_timer = self.loop.call_later(seconds, check)

    def _stop_watching(self) -> None:
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None
