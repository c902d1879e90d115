"""Work that a thread does beside a service, from the beginning of a `with` block to its end."""

import asyncio
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Self


class Background(ABC):
    """Something that goes on in a thread while a block runs: `with`, or in asyncio `async with`.

    What can fail at the beginning fails there, in the caller's thread. At the end of the block the
    thread has ended and everything is closed. In asyncio, beginning and end wait in other threads,
    so that the loop goes on meanwhile.
    """

    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @abstractmethod
    def _open(self) -> None:
        """Open what the work needs."""

    @abstractmethod
    def _run(self) -> None:
        """Work until `_over` is set."""

    @abstractmethod
    def _interrupt(self) -> None:
        """Wake the work from whatever it waits for; `_over` is set."""

    @abstractmethod
    def _close(self) -> None:
        """Close what was opened."""

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise RuntimeError(f"This {type(self).__name__} runs already: make another one.")
        self._over.clear()
        self._open()
        # A daemon, so that a program which ends without leaving the block does end. The work
        # bears that, as it bears a power cut.
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is None:
            return
        self._over.set()
        try:
            self._interrupt()
            self._thread.join()
        finally:
            self._thread = None
            self._close()

    async def __aenter__(self) -> Self:
        begun = asyncio.ensure_future(asyncio.to_thread(self.__enter__))
        try:
            return await asyncio.shield(begun)
        except asyncio.CancelledError:
            with suppress(Exception):  # it need not have begun to be ended
                await begun
            await asyncio.to_thread(self.__exit__)
            raise

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.__exit__)
