"""A background thread that runs for the length of a `with` block."""

import asyncio
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Self

from nciihash.errors import NciihashError, describe_os_error


class BackgroundThread(ABC):
    """A thread that runs for the length of a `with` or `async with` block.

    Errors in starting are raised in the caller's thread. When the block has ended, the thread has
    ended and its resources are closed. In asyncio, starting and ending run in other threads, so
    that they do not block the event loop.
    """

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @abstractmethod
    def _open(self) -> None:
        """Open the resources of the thread."""

    @abstractmethod
    def _run(self) -> None:
        """Run until `_stopping` is set."""

    @abstractmethod
    def _interrupt(self) -> None:
        """Interrupt whatever `_run` is waiting for; `_stopping` is set."""

    @abstractmethod
    def _close(self) -> None:
        """Close the resources."""

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise RuntimeError(
                f"This {type(self).__name__} is already running. Create another one."
            )
        self._stopping.clear()
        self._open()
        # A daemon thread, so that a program which exits without leaving the block can exit. The
        # work tolerates that, as it tolerates a power cut.
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is None:
            return
        self._stopping.set()
        try:
            self._interrupt()
            self._thread.join()
        finally:
            self._thread = None
            self._close()

    async def __aenter__(self) -> Self:
        starting = asyncio.ensure_future(asyncio.to_thread(self.__enter__))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            with suppress(Exception):  # if it failed to start, `__exit__` has nothing to do
                await starting
            await asyncio.to_thread(self.__exit__)
            raise

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.__exit__)


def failure(error: Exception, work: str) -> str:
    """Return why the work of a background thread failed, as a sentence.

    Args:
        error: what was raised.
        work: the work, as the subject of a sentence: "Following".
    """
    match error:
        case NciihashError():
            return str(error)
        case OSError():
            return describe_os_error(error)
    return (
        f"{work} failed with an unexpected error ({type(error).__name__}). It is retried; please "
        "report it."
    )
