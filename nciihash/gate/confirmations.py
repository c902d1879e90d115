"""Look-ups that wait for a clearinghouse, in threads of their own.

With a veiled bank, an upload that resembles something in it is confirmed at the clearinghouse. If
that is slow or away, such uploads wait for seconds. In the threads that hash they would delay all
others, and in the event loop's they would delay the regular work.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from nciihash.errors import NciihashError

T = TypeVar("T")

_THREADS: Final = 16
_MOST: Final = 64  # look-ups that run or wait


class ConfirmationsFull(NciihashError):
    """Too many look-ups wait for the clearinghouse: try again later."""

    code = "confirmations_full"


class Confirmations:
    """Runs look-ups that wait for a clearinghouse. Belongs to one event loop.

    Attributes:
        pending: how many run or wait.
    """

    def __init__(self) -> None:
        self.pending = 0
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="confirm")

    async def run(self, look_up: Callable[[], T]) -> T:
        """Return the result of a look-up. A cancelled one that waits is not started.

        Raises:
            ConfirmationsFull: too many run or wait.
            Exception: whatever the look-up raises.
        """
        if self.pending >= _MOST:
            raise ConfirmationsFull(
                "Too many uploads wait for the clearinghouse to confirm matches. Find out why it "
                "is slow."
            )
        running = self._threads.submit(look_up)
        self.pending += 1
        loop = asyncio.get_running_loop()
        running.add_done_callback(lambda _: _call_soon(loop, self._finished))
        return await asyncio.wrap_future(running)

    def close(self) -> None:
        """Start no more look-ups; those that run are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _finished(self) -> None:
        self.pending -= 1


def _call_soon(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)
