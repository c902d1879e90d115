"""A deadline for a whole request, where httpx has a timeout for each read only.

A server that sends one byte now and then keeps every read within its timeout and blocks its client
forever. So the network streams, which httpx exposes through its `trace` extension, are patched to
limit each read and write to the time that is left for the request.
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
    """The part of `httpcore.NetworkStream` that is patched."""

    read: Callable[..., bytes]
    write: Callable[..., None]

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - the type depends on `info`
        """Return the socket for `"socket"`, and other details by other names."""


class Deadline:
    """The deadlines of the current requests, one per thread; `abort` makes all of them pass."""

    def __init__(self) -> None:
        self._current = threading.local()
        self._lock = threading.Lock()
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._aborted = False

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Limit all reads and writes of this thread in the block to `seconds` together.

        Raises:
            httpx.ReadTimeout, httpx.WriteTimeout: from a read or a write that starts after the
                deadline or does not finish before it.
        """
        self._current.end = time.monotonic() + seconds
        try:
            yield
        finally:
            self._current.end = None

    def bind(self, stream: Stream) -> None:
        """Make a connection observe the deadline of the request that uses it."""
        read, write = stream.read, stream.write
        if isinstance(sock := stream.get_extra_info("socket"), socket.socket):
            with self._lock:
                self._sockets.add(sock)
                if self._aborted:
                    _shut_down(sock)

        def bounded_read(max_bytes: int, timeout: float | None = None) -> bytes:
            return read(max_bytes, self._remaining(timeout, httpx.ReadTimeout))

        def bounded_write(buffer: bytes, timeout: float | None = None) -> None:
            write(buffer, self._remaining(timeout, httpx.WriteTimeout))

        stream.read, stream.write = bounded_read, bounded_write

    def abort(self) -> None:
        """Make the reads and writes of all threads fail, the current ones and all later ones."""
        with self._lock:
            self._aborted = True
            for sock in self._sockets:
                _shut_down(sock)

    def _remaining(
        self, timeout: float | None, error: type[httpx.TimeoutException]
    ) -> float | None:
        end: float | None = getattr(self._current, "end", None)
        if end is None:
            return timeout
        remaining = end - time.monotonic()
        if remaining <= 0:
            raise error("the response takes too long")
        return remaining if timeout is None else min(timeout, remaining)


def _shut_down(sock: socket.socket) -> None:
    """Wake the thread that waits for a socket; closing the socket would not.

    `SSLSocket.shutdown` is bypassed, since another thread is using the TLS state.
    """
    with suppress(OSError):  # already closed
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
