"""The queue of those whose passphrase is to be checked.

A check takes a fraction of a second of a core, so that only few run at a time, and a stranger could
keep everybody else waiting. Three rules bound what he gets:

- Withdrawals have a lane of their own. While both lanes have somebody waiting, they take turns.
- In each lane, whoever did more work goes first. Without any work, a request waits only while fewer
  than `FREE` wait; otherwise it is asked for work, twice as much as anybody waiting in the lane has
  done, up to a bound. Work buys the next place, not a place at the end.
- Among requests with the same work the first goes first, until the lane is so far behind that its
  oldest has waited for `LATE` seconds. From then on the newest goes first (adaptive LIFO; Maurer,
  "Fail at Scale", ACM Queue 13(8), 2015): in a flood whoever comes has the same chance as the
  flood, instead of a place at its end. Whoever waited for `PATIENCE` seconds is asked for work once
  more, with which she is the newest again.

There is no bound for each case number: somebody who knows a survivor's number could use it up.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeVar

T = TypeVar("T")

FREE: Final = 16  # requests without work that wait in a lane
MOST: Final = 256  # requests that wait in a lane; the one that would be last is asked for work
LATE: Final = 2.0  # seconds
PATIENCE: Final = 10.0  # seconds; clients wait for an answer for 30 at least
FIRST: Final = 2**15  # hashes asked for while nobody who did work waits


class Lane(Enum):
    """Who waits."""

    WITHDRAWING = "withdrawing"
    OTHERS = "others"


class CheckQueueFull(Exception):
    """Too many wait. `effort` is how many hashes would go ahead of them."""

    def __init__(self, effort: int) -> None:
        super().__init__()
        self.effort = effort


@dataclass(eq=False, slots=True)
class _Waiting:
    effort: int
    since: float
    turn: asyncio.Future[None]
    granted: bool = False


class CheckQueue:
    """Run checks, few at a time, in a fair order.

    Belongs to one event loop.

    Args:
        at_once: checks that run at a time.
        clock: seconds that never go back.
    """

    def __init__(self, *, at_once: int, clock: Callable[[], float]) -> None:
        self._at_once = at_once
        self._clock = clock
        self._running = 0
        self._lanes: dict[Lane, list[_Waiting]] = {lane: [] for lane in Lane}  # oldest first
        self._last = Lane.OTHERS

    def admit(self, lane: Lane, effort: int) -> None:
        """Look whether somebody who did so much work may wait.

        Raises:
            Crowded: not without any.
        """
        if not effort and len(self._lanes[lane]) >= FREE:
            raise CheckQueueFull(self.asked(lane))

    def asked(self, lane: Lane) -> int:
        """Return the hashes by which one goes ahead of everybody in a lane, as far as one can."""
        return max(FIRST, *(2 * waiting.effort for waiting in self._lanes[lane]), 0)

    async def run(self, lane: Lane, effort: int, check: Callable[[], T]) -> T:
        """Run a check in a thread when it is its turn.

        Raises:
            Crowded: it will not be for long.
        """
        await self._wait(lane, effort)
        try:
            return await asyncio.to_thread(check)
        finally:
            self._release()

    def _release(self) -> None:
        self._running -= 1
        self._go_on()

    async def _wait(self, lane: Lane, effort: int) -> None:
        self.admit(lane, effort)
        waiting = _Waiting(effort, self._clock(), asyncio.get_running_loop().create_future())
        lane_now = self._lanes[lane]
        lane_now.append(waiting)
        self._go_on()
        if len(lane_now) > MOST:
            last = self._ordered(lane)[-1]
            lane_now.remove(last)
            last.turn.cancel()
        try:
            await asyncio.wait((waiting.turn,), timeout=PATIENCE)
        except asyncio.CancelledError:
            if waiting.granted:
                self._release()
            raise
        finally:
            if waiting in lane_now:
                lane_now.remove(waiting)
        if not waiting.granted:
            raise CheckQueueFull(self.asked(lane))

    def _go_on(self) -> None:
        """Grant their turns to those who are next."""
        while self._running < self._at_once:
            turn = (Lane.OTHERS, Lane.WITHDRAWING)
            lanes = turn if self._last is Lane.WITHDRAWING else turn[::-1]
            lane = next((lane for lane in lanes if self._lanes[lane]), None)
            if lane is None:
                return
            chosen = self._ordered(lane)[0]
            self._lanes[lane].remove(chosen)
            self._last = lane
            self._running += 1
            chosen.granted = True
            chosen.turn.set_result(None)

    def _ordered(self, lane: Lane) -> list[_Waiting]:
        """Return those who wait in a lane, the next one first."""
        waiting = self._lanes[lane]
        late = self._clock() - waiting[0].since > LATE
        return sorted(reversed(waiting) if late else waiting, key=lambda one: -one.effort)
