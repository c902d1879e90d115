"""Give a request as a whole a deadline, where a connection by itself times each read alone.

A server that sends one byte now and then keeps every read within its timeout and holds its client
for ever. So the streams of the connections, which httpx shows through its `trace` extension, are
taught to give each read no more than what is left of the request.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import httpx


class Stream(Protocol):
    """What is read and written of a connection, as httpcore names it."""

    read: Callable[..., bytes]
    write: Callable[..., None]


class Deadline:
    """The end of the request that a thread is in the middle of; each thread has its own."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

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

        def bounded_read(max_bytes: int, timeout: float | None = None) -> bytes:
            return read(max_bytes, self._left(timeout, httpx.ReadTimeout))

        def bounded_write(buffer: bytes, timeout: float | None = None) -> None:
            write(buffer, self._left(timeout, httpx.WriteTimeout))

        stream.read, stream.write = bounded_read, bounded_write

    def _left(self, timeout: float | None, late: type[httpx.TimeoutException]) -> float | None:
        end: float | None = getattr(self._of_thread, "end", None)
        if end is None:
            return timeout
        left = end - time.monotonic()
        if left <= 0:
            raise late("the answer takes too long")
        return left if timeout is None else min(timeout, left)
