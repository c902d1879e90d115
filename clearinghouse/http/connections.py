"""Connections as uvicorn serves them, with an end to whoever keeps one without using it.

What the service itself can cut: headers that do not arrive, what follows an answered request and is
no request, answers that nobody takes. Of bodies `clearinghouse.http.body_limits` takes care.
Addresses are never looked at here; a bound on connections for each address is a proxy's task.
"""

import asyncio
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS_SECONDS: Final = 20.0  # from the first moment of a connection or the first byte after
ANSWER_SECONDS: Final = 60.0  # in which nothing of an answer was taken


class ConnectionLimiter:
    """The open connections without a request under way, the longest unused first.

    Belongs to one event loop.

    Args:
        most: connections; where there are as many, the longest unused one makes room, and where
            none is unused, the new one is closed.
        headers_seconds: for a request's headers to be complete.
        answer_seconds: for the caller to take some of an answer.
    """

    def __init__(
        self,
        most: int,
        *,
        headers_seconds: float = HEADERS_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self.most = most
        self.headers_seconds = headers_seconds
        self.answer_seconds = answer_seconds
        self.unused: dict[H11Protocol, None] = {}

    def protocol(self) -> type[asyncio.Protocol]:
        """Make the class of connections that keep to these bounds."""
        lines = self

        class LimitedConnection(_Line):
            def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own
                super().__init__(*args, **kwargs)
                self.lines = lines

        return LimitedConnection


class _Line(H11Protocol):
    lines: ConnectionLimiter
    _timer: asyncio.TimerHandle | None = None
    _answer_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        if len(self.connections) > self.lines.most:
            longest = next(iter(self.lines.unused), self)
            longest.transport.abort()
            self.lines.unused.pop(longest, None)
            if longest is self:
                return
        self.lines.unused[self] = None
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lines.unused.pop(self, None)
        self._cancel()
        self._unwatch_answer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.lines.unused.pop(self, None)
            self._cancel()
        else:
            self._expect_headers()

    def on_response_complete(self) -> None:
        self.lines.unused[self] = None
        super().on_response_complete()  # may begin the next request, if that has arrived
        if self.transport.is_closing():
            self._watch_answer()
        elif not self.cycle.response_complete:
            self.lines.unused.pop(self, None)
        elif self.conn.their_state is h11.SEND_BODY or self.conn.trailing_data[0]:
            self._expect_headers()  # a body that nobody wanted goes on, or a request has begun

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_answer()

    def resume_writing(self) -> None:
        self._unwatch_answer()
        super().resume_writing()

    def _watch_answer(self) -> None:
        """End the connection if by then the caller has taken nothing of what waits for it now."""
        self._unwatch_answer()
        left = self.transport.get_write_buffer_size()

        def look() -> None:
            if self.transport.get_write_buffer_size() < left:
                self._watch_answer()
            else:
                self.transport.abort()

        self._answer_timer = self.loop.call_later(self.lines.answer_seconds, look)

    def _unwatch_answer(self) -> None:
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None

    def _expect_headers(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.lines.headers_seconds, self.transport.abort)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
