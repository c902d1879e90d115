"""Limits on uvicorn's connections: how many there are, and how long slow clients may take.

Bodies are the concern of `nciihash.gate.dialects.uploads`. Addresses of clients are not read.

The parser is httptools, which takes 0.2 ms less than h11 for an upload of 300 KB. It ends a request
that offers another protocol before its body, which would then be checked as an empty file. So the
offer is removed: Java's HttpClient makes it by default (`Upgrade: h2c`). httptools has no limits on
headers, so they are here.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADERS_SECONDS: Final = 20.0
ANSWER_SECONDS: Final = 60.0

_HEADER_BYTES: Final = 65_536  # of a request; and of what a body has besides its content
_PIPELINED: Final = 16  # requests that may wait on one connection
_END: Final = b"\r\n\r\n"
_UPGRADE: Final = re.compile(rb"(?i)\r\nupgrade[ \t]*:[^\r\n]*")


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


class LimitedConnection(HttpToolsProtocol):
    """A connection of uvicorn within limits."""

    def __init__(self, count: ConnectionCount, **arguments: Any) -> None:  # noqa: ANN401
        super().__init__(**arguments)
        self._count = count
        self._head = b""  # of the next request, until it is complete
        self._parsing = False  # whether the parser is within a request
        self._progress = False  # whether the parser has found something in the latest bytes
        self._fruitless = 0  # bytes in which it has found nothing since
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
        """Take bytes of requests; the parser gets the headers of one when they are complete."""
        if not self._parsing:
            data = self._head + data
            end = data.find(_END, 0, _HEADER_BYTES)
            if end < 0 and len(data) < _HEADER_BYTES:
                self._head = data
                if not self._receiving:
                    self._wait(receiving=True)
                return
            self._head = b""
            if end < 0:
                self.send_400_response("The headers are too long.")
                return
            if _UPGRADE.search(data, 0, end):
                data = _UPGRADE.sub(b"", data[:end]) + data[end:]
        self._progress = False
        super().data_received(data)
        if self.transport.is_closing():
            return
        self._fruitless = 0 if self._progress else self._fruitless + len(data)
        if self._fruitless > _HEADER_BYTES:  # in the headers of a pipelined request, or in trailers
            self.transport.abort()
        elif self.cycle is not None and not self.cycle.response_complete:
            self._count.idle.pop(self, None)
            self._stop_waiting()

    def on_message_begin(self) -> None:
        """Note that a request has started; called by the parser, as the following."""
        self._parsing = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. An offer of another protocol is only left in a pipelined request.

        Raises:
            ValueError: it is such an offer. The client gets an error.
        """
        if name.lower() == b"upgrade":
            raise ValueError
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start to answer a request.

        Raises:
            ValueError: too many requests wait.
        """
        self._progress = True
        super().on_headers_complete()
        if len(self.pipeline) > _PIPELINED:
            raise ValueError

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._progress = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that a request has been received."""
        self._progress = True
        self._parsing = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request; close the connection if a part of a body is unread."""
        unread = self.cycle.response_complete and self.cycle.more_body
        super().on_response_complete()  # starts the next request if it was pipelined
        if self.transport.is_closing():
            self._watch_answer()
        elif unread:
            self.transport.close()
        elif self.cycle.response_complete:
            self._wait(receiving=self._parsing or bool(self._head))

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
