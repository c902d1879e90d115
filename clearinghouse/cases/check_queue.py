"""The queue of passphrase checks.

A check takes a fraction of a second of a core, so only few run at a time, and an attacker could
delay everybody else. Three rules limit what he can do:

- Withdrawals have a lane of their own. While both lanes have waiting requests, they alternate.
- In each lane, the request with more work is served first. Without work, a request may wait only
  while fewer than `FREE` wait; otherwise it is asked for work, twice as much as any request in the
  lane has done, up to a bound. So work buys the front of the queue, not the end.
- Among requests with equal work the oldest is served first, until it has waited for `LATE` seconds.
  From then on the newest is first (adaptive LIFO; Maurer, "Fail at Scale", ACM Queue 13(8), 2015):
  in a flood, a new request has the same chance as those of the flood, instead of queueing after
  them. A request that has waited for `PATIENCE` seconds is asked for work again, with which it is
  the newest.

There is no limit per case number: somebody who knows a survivor's number could use it up.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeVar

T = TypeVar("T")

FREE: Final = 16  # requests without work that wait in a lane
LANE_MAX: Final = 256  # requests that wait in a lane; beyond it the last one is asked for work
LATE: Final = 2.0  # seconds
PATIENCE: Final = 10.0  # seconds; clients wait for a response for at least 30
EFFORT_FIRST: Final = 2**15  # hashes asked for while no request with work waits


class Lane(Enum):
    """Which kind of request waits."""

    WITHDRAWING = "withdrawing"
    OTHERS = "others"


class CheckQueueFull(Exception):
    """Too many requests wait.

    Attributes:
        effort: hashes of work with which a request would be served before them.
    """

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
    """A queue that runs few checks at a time, in a fair order.

    It belongs to one event loop.

    Args:
        at_once: checks that run at a time.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, *, at_once: int, clock: Callable[[], float]) -> None:
        self._at_once = at_once
        self._clock = clock
        self._running = 0
        self._lanes: dict[Lane, list[_Waiting]] = {lane: [] for lane in Lane}  # oldest first
        self._last = Lane.OTHERS

    def check_free(self, lane: Lane, effort: int) -> None:
        """Check that a request with this much work may wait.

        Raises:
            CheckQueueFull: it has no work, and too many requests wait.
        """
        if not effort and len(self._lanes[lane]) >= FREE:
            raise CheckQueueFull(self.effort_required(lane))

    def effort_required(self, lane: Lane) -> int:
        """Return how many hashes of work a request needs to be served first in a lane."""
        return max(EFFORT_FIRST, *(2 * waiting.effort for waiting in self._lanes[lane]), 0)

    async def run(self, lane: Lane, effort: int, check: Callable[[], T]) -> T:
        """Run a check in a thread when its turn comes.

        Raises:
            CheckQueueFull: its turn does not come soon; it needs (more) work.
        """
        await self._wait(lane, effort)
        try:
            return await asyncio.to_thread(check)
        finally:
            self._release()

    def _release(self) -> None:
        self._running -= 1
        self._start_next()

    async def _wait(self, lane: Lane, effort: int) -> None:
        self.check_free(lane, effort)
        waiting = _Waiting(effort, self._clock(), asyncio.get_running_loop().create_future())
        in_lane = self._lanes[lane]
        in_lane.append(waiting)
        self._start_next()
        if len(in_lane) > LANE_MAX:
            last = self._ordered(lane)[-1]
            in_lane.remove(last)
            last.turn.cancel()
        try:
            await asyncio.wait((waiting.turn,), timeout=PATIENCE)
        except asyncio.CancelledError:
            if waiting.granted:
                self._release()
            raise
        finally:
            if waiting in in_lane:
                in_lane.remove(waiting)
        if not waiting.granted:
            raise CheckQueueFull(self.effort_required(lane))

    def _start_next(self) -> None:
        """Start the next requests, up to the number that may run at a time."""
        while self._running < self._at_once:
            order = (Lane.OTHERS, Lane.WITHDRAWING)
            lanes = order if self._last is Lane.WITHDRAWING else order[::-1]
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
        """Return the waiting requests of a lane, the next one first."""
        waiting = self._lanes[lane]
        late = self._clock() - waiting[0].since > LATE
        return sorted(reversed(waiting) if late else waiting, key=lambda request: -request.effort)
