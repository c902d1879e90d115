"""Limits on uvicorn's connections against slow and idle clients (Slowloris).

Closes connections whose request headers do not arrive, that send something other than a request
after a response, or whose client does not read the response. Bodies are the concern of
`clearinghouse.http.body_limits`. Client addresses are not read here: limit connections per address
at the proxy.
"""

import asyncio
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS_SECONDS: Final = 20.0  # since the connection, or the first byte of a later request
RESPONSE_SECONDS: Final = 60.0  # without the client reading any of a response


class ConnectionLimiter:
    """Limits the number of connections and closes slow ones. Belongs to one event loop.

    Args:
        most: the maximum number of connections. Beyond it the longest idle connection is closed,
            or the new one if none is idle.
        headers_seconds: until the headers of a request must be complete.
        answer_seconds: in which the client must read some of a response.

    Attributes:
        idle: the connections without a request in progress, the longest idle first.
    """

    def __init__(
        self,
        most: int,
        *,
        headers_seconds: float = HEADERS_SECONDS,
        response_seconds: float = RESPONSE_SECONDS,
    ) -> None:
        self.most = most
        self.headers_seconds = headers_seconds
        self.response_seconds = response_seconds
        self.idle: dict[H11Protocol, None] = {}

    def protocol(self) -> type[asyncio.Protocol]:
        """Return a uvicorn protocol class whose connections have these limits."""
        limiter = self

        class LimitedConnection(_Connection):
            def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own
                super().__init__(*args, **kwargs)
                self.limiter = limiter

        return LimitedConnection


class _Connection(H11Protocol):
    limiter: ConnectionLimiter
    _headers_timer: asyncio.TimerHandle | None = None
    _response_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        if len(self.connections) > self.limiter.most:
            oldest = next(iter(self.limiter.idle), self)
            oldest.transport.abort()
            self.limiter.idle.pop(oldest, None)
            if oldest is self:
                return
        self.limiter.idle[self] = None
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self.limiter.idle.pop(self, None)
        self._cancel_headers()
        self._stop_watching()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.limiter.idle.pop(self, None)
            self._cancel_headers()
        else:
            self._expect_headers()

    def on_response_complete(self) -> None:
        self.limiter.idle[self] = None
        super().on_response_complete()  # starts the next request if it was pipelined
        if self.transport.is_closing():
            self._watch_response()
        elif not self.cycle.response_complete:
            self.limiter.idle.pop(self, None)
        elif self.conn.their_state is h11.SEND_BODY or self.conn.trailing_data[0]:
            self._expect_headers()  # an unread body continues, or a request has started to arrive

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_response()

    def resume_writing(self) -> None:
        self._stop_watching()
        super().resume_writing()

    def _watch_response(self) -> None:
        """Close the connection if the client reads nothing of what is buffered within the limit."""
        self._stop_watching()
        before = self.transport.get_write_buffer_size()

        def check() -> None:
            if self.transport.get_write_buffer_size() < before:
                self._watch_response()
            else:
                self.transport.abort()

        self._response_timer = self.loop.call_later(self.limiter.response_seconds, check)

    def _stop_watching(self) -> None:
        if self._response_timer is not None:
            self._response_timer.cancel()
            self._response_timer = None

    def _expect_headers(self) -> None:
        if self._headers_timer is None:
            self._headers_timer = self.loop.call_later(
                self.limiter.headers_seconds, self.transport.abort
            )

    def _cancel_headers(self) -> None:
        if self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None
