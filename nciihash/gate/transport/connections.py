"""The connections of a `StreamServer`: reading, writing, and their limits."""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from nciihash.gate.config import UploadLimits

if TYPE_CHECKING:
    from nciihash.gate.transport.stream_server import StreamServer


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Limits on the connections of a server.

    Attributes:
        connections: that may be open. Beyond it the longest idle one is closed, or the new one if
            none is idle.
        between_seconds: without a request, after which a connection is closed.
        idle_seconds: within a request, without a byte from the peer, or in which it must have read
            what was written.
        request_seconds: in which a request must be received, and its answer read.
        linger_seconds: in which a peer may read a last answer although it is still sending.
        close_seconds: for requests in progress when the server is closed.
        buffer: bytes that one connection may send in advance.
    """

    connections: int = 10_000
    between_seconds: float = 600.0
    idle_seconds: float = 30.0
    request_seconds: float = 600.0
    linger_seconds: float = 5.0
    close_seconds: float = 30.0
    buffer: int = 1 << 16

    @classmethod
    def of(cls, limits: UploadLimits) -> "StreamLimits":
        """Return the limits that the configuration sets."""
        return cls(
            connections=limits.connections,
            idle_seconds=limits.idle_seconds,
            request_seconds=limits.request_seconds,
        )


class Connection(asyncio.BufferedProtocol):
    """A connection of a `StreamServer`. Belongs to one event loop and one task."""

    _transport: asyncio.Transport

    def __init__(self, server: "StreamServer") -> None:
        self._server = server
        self._limits = server.limits
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._ended = False  # nothing more will be received
        self._error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._writable = True
        self._handshake = False  # a TLS handshake is in progress
        self._receive_until: float | None = None  # loop time; None between requests
        self._answer_seconds = 0.0  # left for writing, in this request

    @property
    def draining(self) -> bool:
        """Whether the server is being closed: this request is the last of the connection."""
        return self._server.draining

    async def read_some(self, within: float | None = None) -> bytes:
        """Return what was received, at least a byte; or nothing at the end.

        Between requests the end also comes when the server is closed.

        Args:
            within: seconds to wait, if the limits are not less.

        Raises:
            TimeoutError: the peer is too slow.
            ConnectionError: the connection was lost.
        """
        now = self._loop.time()
        if self._receive_until is None:
            until = now + self._limits.between_seconds
            if self.draining:
                return b""
        else:
            until = min(now + self._limits.idle_seconds, self._receive_until)
            if now >= self._receive_until:
                raise TimeoutError
        if within is not None:
            until = min(until, now + within)
        if not self._received and not self._ended:
            self._reader = self._loop.create_future()
            try:
                await self._wait(self._reader, until)
            finally:
                self._reader = None
        if not self._received and self._error is not None:
            raise ConnectionResetError
        data = bytes(self._received)
        self._received.clear()
        if not self._ended:
            self._transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """Send bytes, and return when they have been passed to the operating system.

        Raises:
            TimeoutError: the peer does not read.
            ConnectionError: the connection was lost.
        """
        if self._transport.is_closing():
            raise ConnectionResetError
        self._transport.write(data)
        if self._writable:
            return
        start = self._loop.time()
        seconds = self._limits.idle_seconds
        if self._receive_until is not None:
            seconds = min(seconds, self._answer_seconds)
        self._writer = self._loop.create_future()
        try:
            await self._wait(self._writer, start + seconds)
        finally:
            self._writer = None
            self._answer_seconds -= self._loop.time() - start

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Mark a request in progress: its time is limited, and it is finished before a close."""
        self._receive_until = self._loop.time() + self._limits.request_seconds
        self._answer_seconds = self._limits.request_seconds
        self._server.idle.pop(self, None)
        try:
            yield
        finally:
            self._receive_until = None
            self._server.finished(self)

    async def linger(self) -> None:
        """Wait until the peer has read a last answer; what it still sends is dropped.

        Without this the operating system answers what was not read by resetting the connection, and
        the peer may lose the answer (RFC 9112 section 9.6).
        """
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(self._limits.linger_seconds):
                with self.busy():
                    while await self.read_some():
                        pass

    async def _wait(self, waiter: asyncio.Future[None], until: float) -> None:
        timer = self._loop.call_at(until, _expire, waiter)
        try:
            await waiter
        finally:
            timer.cancel()

    def _pause_if_full(self) -> None:
        # After a handshake, asyncio passes on what it received before `start_tls` returns.
        if len(self._received) >= self._limits.buffer and not self._handshake:
            self._transport.pause_reading()

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the handler."""
        self._transport = transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=0)
        self._server.accepted(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - of asyncio
        """Return memory for what is received next."""
        return self._server.scratch[: max(1, self._limits.buffer - len(self._received))]

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was received."""
        self._received += self._server.scratch[:nbytes]
        self._pause_if_full()
        _wake(self._reader)

    def eof_received(self) -> bool:
        """Note that the peer sends no more; return whether it may still receive."""
        self._ended = True
        _wake(self._reader)
        return self._server.tls is None  # TLS cannot close one direction alone

    def connection_lost(self, exc: Exception | None) -> None:
        """End what the handler waits for."""
        self._ended = True
        self._error = exc
        _wake(self._reader)
        if self._writer is not None and not self._writer.done():
            self._writer.set_exception(ConnectionResetError())

    def pause_writing(self) -> None:
        """Note that the peer does not read as fast as the handler writes."""
        self._writable = False

    def resume_writing(self) -> None:
        """Note that everything written was passed on."""
        self._writable = True
        _wake(self._writer)

    # Called by the server.

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Make the TLS handshake.

        Raises:
            OSError: it failed, or took too long.
        """
        transport = await self._loop.start_tls(
            self._transport,
            self,
            context,
            server_side=True,
            ssl_handshake_timeout=self._limits.idle_seconds,
            ssl_shutdown_timeout=self._limits.linger_seconds,
        )
        if transport is None:
            raise ConnectionResetError
        self._transport = transport
        # At 0, asyncio would pause before anything is written, and not resume.
        transport.set_write_buffer_limits(high=1, low=0)
        self._handshake = False
        self._pause_if_full()

    def hold(self) -> None:
        """Receive nothing until the TLS handshake."""
        self._handshake = True
        self._transport.pause_reading()

    def end(self) -> None:
        """Receive nothing more, so that the handler returns."""
        self._ended = True
        _wake(self._reader)

    def close(self) -> None:
        """Close the connection after what was written."""
        self._transport.close()

    def abort(self) -> None:
        """Close the connection now."""
        self._transport.abort()


def _expire(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
