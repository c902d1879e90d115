"""Give a request as a whole a deadline, where a connection by itself times each read alone.

A server that sends one byte now and then keeps every read within its timeout and holds its client
for ever. So the streams of the connections, which httpx shows through its `trace` extension, are
taught to give each read no more than what is left of the request.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol
from weakref import WeakSet

import httpx


class Stream(Protocol):
    """What is read and written of a connection, as httpcore names it."""

    read: Callable[..., bytes]
    write: Callable[..., None]

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - whatever is asked for
        """Give the socket, among other things."""


class Deadline:
    """The end of the request that a thread is in the middle of; each thread has its own.

    `break_off` brings the end of all of them.
    """

    def __init__(self) -> None:
        self._of_thread = threading.local()
        self._lock = threading.Lock()
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._broken_off = False

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Give the reads and writes in the block no more than so many seconds together.

        Raises:
            httpx.ReadTimeout, httpx.WriteTimeout: out of a read or a write that begins too late,
                or does not end in time.
        """
        self._of_thread.end = time.monotonic() + seconds
        try:
            yield
        finally:
            self._of_thread.end = None

    def bind(self, stream: Stream) -> None:
        """Make a connection keep the deadline of whichever request uses it."""
        read, write = stream.read, stream.write
        if isinstance(end := stream.get_extra_info("socket"), socket.socket):
            with self._lock:
                self._sockets.add(end)
                if self._broken_off:
                    _shut(end)

        def bounded_read(max_bytes: int, timeout: float | None = None) -> bytes:
            return read(max_bytes, self._left(timeout, httpx.ReadTimeout))

        def bounded_write(buffer: bytes, timeout: float | None = None) -> None:
            write(buffer, self._left(timeout, httpx.WriteTimeout))

        stream.read, stream.write = bounded_read, bounded_write

    def break_off(self) -> None:
        """Let the reads and writes that threads are in fail now, and with them all later ones."""
        with self._lock:
            self._broken_off = True
            for end in self._sockets:
                _shut(end)

    def _left(self, timeout: float | None, late: type[httpx.TimeoutException]) -> float | None:
        end: float | None = getattr(self._of_thread, "end", None)
        if end is None:
            return timeout
        left = end - time.monotonic()
        if left <= 0:
            raise late("the answer takes too long")
        return left if timeout is None else min(timeout, left)


def _shut(end: socket.socket) -> None:
    """Wake whoever waits for a socket; closing it would not.

    The layer of TLS is passed by, since another thread is in the middle of it.
    """
    with suppress(OSError):  # it is closed already
        socket.socket.shutdown(end, socket.SHUT_RDWR)
