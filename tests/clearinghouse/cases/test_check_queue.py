"""Who waits for a check of a passphrase, and in which order they come."""

import asyncio
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearinghouse.cases import check_queue
from clearinghouse.cases.check_queue import (
    FIRST,
    FREE,
    LATE,
    MOST,
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


class Scene:
    """A queue in which each check ends when the test says so."""

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

    async def come(self, name, lane=OTHERS, effort=0):
        """Let somebody come; return the task that waits."""
        task = asyncio.create_task(self.queue.run(lane, effort, name))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return task

    def finish(self):
        """Let the oldest check end, unless its caller was cancelled."""
        if not (check := self.running.pop(0)).done():
            check.set_result(None)

    async def end(self, count=1):
        """Let the oldest checks end."""
        for _ in range(count):
            self.finish()
            for _ in range(10):
                await asyncio.sleep(0)

    async def end_all(self):
        while self.running:
            await self.end()


def scene(work, monkeypatch, **options):
    async def run():
        await work(Scene(monkeypatch, **options))

    asyncio.run(run())


def test_those_without_work_wait_in_turn_and_the_next_is_asked_for_work(monkeypatch):
    async def work(scene):
        tasks = [await scene.come(n) for n in range(1 + FREE)]
        late = await scene.come("late")
        with pytest.raises(CheckQueueFull) as caught:
            await late
        assert caught.value.effort == FIRST
        worked = await scene.come("worked", effort=FIRST)
        await scene.end(2)
        assert await worked == "worked"
        await scene.end_all()
        assert await asyncio.gather(*tasks) == list(range(1 + FREE))
        assert scene.order == [0, "worked", *range(1, 1 + FREE)]

    scene(work, monkeypatch)


def test_a_withdrawal_is_next_but_one_however_many_others_wait(monkeypatch):
    """With any work, and without it."""

    async def work(scene):
        others = [await scene.come(f"other {n}", effort=2**19) for n in range(MOST)]
        tasks = [await scene.come(f"withdrawal {n}", WITHDRAWING) for n in range(3)]
        before = len(scene.order)
        await scene.end(6)
        came = scene.order[before:]
        assert [name for name in came if "withdrawal" in name] == [
            "withdrawal 0",
            "withdrawal 1",
            "withdrawal 2",
        ]
        assert max(came.index(f"withdrawal {n}") - 2 * n for n in range(3)) <= 1
        assert await asyncio.gather(*tasks)
        await scene.end_all()
        await asyncio.gather(*others)

    scene(work, monkeypatch)


def test_more_work_goes_first_also_among_withdrawals(monkeypatch):
    async def work(scene):
        await scene.come("running")
        tasks = [await scene.come(f"idle {n}", WITHDRAWING) for n in range(FREE)]
        tasks += [await scene.come(f"worked {n}", WITHDRAWING, effort=FIRST) for n in range(20)]
        her = scene.queue.asked(WITHDRAWING)
        assert her == 2 * FIRST
        tasks.append(await scene.come("her", WITHDRAWING, effort=her))
        await scene.end_all()
        expected = ["her", *(f"worked {n}" for n in range(20)), *(f"idle {n}" for n in range(FREE))]
        assert scene.order == ["running", *expected]
        assert len(await asyncio.gather(*tasks)) == len(expected)

    scene(work, monkeypatch)


def test_when_the_queue_is_behind_the_newest_of_equals_goes_first(monkeypatch):
    async def work(scene):
        await scene.come("running")
        for n in range(3):
            await scene.come(n, effort=FIRST)
        scene.clock.now = LATE
        await scene.end()
        assert scene.order[-1] == 0
        scene.clock.now = LATE + 0.1
        await scene.come("newest", effort=FIRST)
        await scene.come("less", effort=FIRST // 2)
        await scene.end_all()
        assert scene.order == ["running", 0, "newest", 2, 1, "less"]

    scene(work, monkeypatch)


def test_a_full_lane_asks_whoever_would_be_last_for_work(monkeypatch):
    async def work(scene):
        tasks = [await scene.come(n, effort=FIRST) for n in range(1 + MOST)]
        more = await scene.come("more", effort=2 * FIRST)
        with pytest.raises(CheckQueueFull) as caught:
            await tasks[-1]
        assert caught.value.effort == 4 * FIRST
        with pytest.raises(CheckQueueFull):
            await (await scene.come("as much", effort=FIRST))
        scene.clock.now = LATE + 0.1
        newest = await scene.come("newest", effort=FIRST)
        with pytest.raises(CheckQueueFull):
            await tasks[1]  # in a flood it is the oldest who would be last
        await scene.end(2)
        assert scene.order == [0, "more", "newest"]
        await scene.end_all()
        await asyncio.gather(more, newest, *tasks[2:-1])

    scene(work, monkeypatch)


def test_whoever_waits_for_long_is_asked_for_more_work(monkeypatch):
    monkeypatch.setattr(check_queue, "PATIENCE", 0.01)

    async def work(scene):
        await scene.come("running")
        task = await scene.come("waits", effort=FIRST)
        with pytest.raises(CheckQueueFull):
            await task
        assert scene.queue.asked(OTHERS) == FIRST, "it no longer waits"
        again = await scene.come("again", effort=2 * FIRST)
        await scene.end(2)
        assert await again == "again"
        assert scene.order == ["running", "again"]

    scene(work, monkeypatch)


@given(st.lists(st.sampled_from(["come", "withdraw", "worked", "cancel", "end"]), max_size=60))
def test_no_turn_is_ever_lost(steps):
    """Callers that are cancelled, before or at their turn, leave the queue as they found it."""

    async def work(scene):
        tasks = []
        for step in steps:
            match step:
                case "end" if scene.running:
                    scene.finish()
                    await asyncio.sleep(0)  # turns are granted, and not yet taken
                case "cancel" if tasks:
                    tasks[len(tasks) // 2].cancel()
                case "come" | "withdraw" | "worked":
                    lane = WITHDRAWING if step == "withdraw" else OTHERS
                    run = partial(scene.queue.run, lane, FIRST * (step == "worked"), step)
                    tasks.append(asyncio.create_task(run()))
                    await asyncio.sleep(0)
        for _ in range(200):
            await scene.end_all()
            await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert scene.queue._running == 0
        assert not any(scene.queue._lanes.values())

    with pytest.MonkeyPatch.context() as patch:
        scene(work, patch, at_once=2)
