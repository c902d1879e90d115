"""The queue of passphrase checks: who may wait, and in which order they run."""

import asyncio
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearinghouse.cases import check_queue
from clearinghouse.cases.check_queue import (
    EFFORT_FIRST,
    FREE,
    LANE_MAX,
    LATE,
    CheckQueue,
    CheckQueueFull,
    Lane,
)

OTHERS, WITHDRAWING = Lane.OTHERS, Lane.WITHDRAWING


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Harness:
    """A queue whose checks finish when the test says so."""

    def __init__(self, monkeypatch, at_once=1):
        self.clock = Clock()
        self.queue = CheckQueue(at_once=at_once, clock=self.clock)
        self.order = []
        self.running = []
        monkeypatch.setattr(asyncio, "to_thread", self._thread)

    async def _thread(self, name):
        self.order.append(name)
        self.running.append(asyncio.get_running_loop().create_future())
        await self.running[-1]
        return name

    async def arrive(self, name, lane=OTHERS, effort=0):
        """Start a request; return its task."""
        task = asyncio.create_task(self.queue.run(lane, effort, name))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return task

    def finish_one(self):
        """Finish the oldest check, unless its caller was cancelled."""
        if not (check := self.running.pop(0)).done():
            check.set_result(None)

    async def finish_some(self, count=1):
        """Finish the oldest checks."""
        for _ in range(count):
            self.finish_one()
            for _ in range(10):
                await asyncio.sleep(0)

    async def finish_all(self):
        while self.running:
            await self.finish_some()


def run_with_queue(work, monkeypatch, **options):
    async def run():
        await work(Harness(monkeypatch, **options))

    asyncio.run(run())


def test_requests_without_work_wait_until_the_lane_is_full(monkeypatch):
    async def work(harness):
        tasks = [await harness.arrive(n) for n in range(1 + FREE)]
        late = await harness.arrive("late")
        with pytest.raises(CheckQueueFull) as caught:
            await late
        assert caught.value.effort == EFFORT_FIRST
        worked = await harness.arrive("worked", effort=EFFORT_FIRST)
        await harness.finish_some(2)
        assert await worked == "worked"
        await harness.finish_all()
        assert await asyncio.gather(*tasks) == list(range(1 + FREE))
        assert harness.order == [0, "worked", *range(1, 1 + FREE)]

    run_with_queue(work, monkeypatch)


def test_at_most_one_other_check_runs_before_a_withdrawal(monkeypatch):
    """Whether the others did work or not."""

    async def work(harness):
        others = [await harness.arrive(f"other {n}", effort=2**19) for n in range(LANE_MAX)]
        tasks = [await harness.arrive(f"withdrawal {n}", WITHDRAWING) for n in range(3)]
        before = len(harness.order)
        await harness.finish_some(6)
        ran = harness.order[before:]
        assert [name for name in ran if "withdrawal" in name] == [
            "withdrawal 0",
            "withdrawal 1",
            "withdrawal 2",
        ]
        assert max(ran.index(f"withdrawal {n}") - 2 * n for n in range(3)) <= 1
        assert await asyncio.gather(*tasks)
        await harness.finish_all()
        await asyncio.gather(*others)

    run_with_queue(work, monkeypatch)


def test_more_work_is_served_first_also_among_withdrawals(monkeypatch):
    async def work(harness):
        await harness.arrive("running")
        tasks = [await harness.arrive(f"idle {n}", WITHDRAWING) for n in range(FREE)]
        tasks += [
            await harness.arrive(f"worked {n}", WITHDRAWING, effort=EFFORT_FIRST) for n in range(20)
        ]
        effort = harness.queue.effort_required(WITHDRAWING)
        assert effort == 2 * EFFORT_FIRST
        tasks.append(await harness.arrive("first", WITHDRAWING, effort=effort))
        await harness.finish_all()
        expected = [
            "first",
            *(f"worked {n}" for n in range(20)),
            *(f"idle {n}" for n in range(FREE)),
        ]
        assert harness.order == ["running", *expected]
        assert len(await asyncio.gather(*tasks)) == len(expected)

    run_with_queue(work, monkeypatch)


def test_when_the_queue_is_late_the_newest_of_equals_is_first(monkeypatch):
    async def work(harness):
        await harness.arrive("running")
        for n in range(3):
            await harness.arrive(n, effort=EFFORT_FIRST)
        harness.clock.now = LATE
        await harness.finish_some()
        assert harness.order[-1] == 0
        harness.clock.now = LATE + 0.1
        await harness.arrive("newest", effort=EFFORT_FIRST)
        await harness.arrive("less", effort=EFFORT_FIRST // 2)
        await harness.finish_all()
        assert harness.order == ["running", 0, "newest", 2, 1, "less"]

    run_with_queue(work, monkeypatch)


def test_a_full_lane_asks_the_last_request_for_work(monkeypatch):
    async def work(harness):
        tasks = [await harness.arrive(n, effort=EFFORT_FIRST) for n in range(1 + LANE_MAX)]
        more = await harness.arrive("more", effort=2 * EFFORT_FIRST)
        with pytest.raises(CheckQueueFull) as caught:
            await tasks[-1]
        assert caught.value.effort == 4 * EFFORT_FIRST
        with pytest.raises(CheckQueueFull):
            await (await harness.arrive("as much", effort=EFFORT_FIRST))
        harness.clock.now = LATE + 0.1
        newest = await harness.arrive("newest", effort=EFFORT_FIRST)
        with pytest.raises(CheckQueueFull):
            await tasks[1]  # in a flood it is the oldest that would be last
        await harness.finish_some(2)
        assert harness.order == [0, "more", "newest"]
        await harness.finish_all()
        await asyncio.gather(more, newest, *tasks[2:-1])

    run_with_queue(work, monkeypatch)


def test_a_request_that_waited_too_long_is_asked_for_more_work(monkeypatch):
    monkeypatch.setattr(check_queue, "PATIENCE", 0.01)

    async def work(harness):
        await harness.arrive("running")
        task = await harness.arrive("waits", effort=EFFORT_FIRST)
        with pytest.raises(CheckQueueFull):
            await task
        assert harness.queue.effort_required(OTHERS) == EFFORT_FIRST, "it no longer waits"
        again = await harness.arrive("again", effort=2 * EFFORT_FIRST)
        await harness.finish_some(2)
        assert await again == "again"
        assert harness.order == ["running", "again"]

    run_with_queue(work, monkeypatch)


@given(st.lists(st.sampled_from(["arrive", "withdraw", "worked", "cancel", "finish"]), max_size=60))
def test_no_turn_is_ever_lost(steps):
    """Callers that are cancelled, before or at their turn, leave the queue unchanged."""

    async def work(harness):
        tasks = []
        for step in steps:
            match step:
                case "finish" if harness.running:
                    harness.finish_one()
                    await asyncio.sleep(0)  # turns are granted but not yet taken
                case "cancel" if tasks:
                    tasks[len(tasks) // 2].cancel()
                case "arrive" | "withdraw" | "worked":
                    lane = WITHDRAWING if step == "withdraw" else OTHERS
                    run = partial(harness.queue.run, lane, EFFORT_FIRST * (step == "worked"), step)
                    tasks.append(asyncio.create_task(run()))
                    await asyncio.sleep(0)
        for _ in range(200):
            await harness.finish_all()
            await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert harness.queue._running == 0
        assert not any(harness.queue._lanes.values())

    with pytest.MonkeyPatch.context() as patch:
        run_with_queue(work, patch, at_once=2)
