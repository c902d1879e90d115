"""The pool hashes uploads as the sandbox does, whatever happens to its children and callers."""

import asyncio
import contextlib
import gc
import os
import signal
import threading
import weakref
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from nciihash.errors import (
    CorruptFile,
    EmptyFile,
    FileRefused,
    ProgramFault,
    SandboxUnavailable,
    TooLarge,
    UnsupportedFormat,
)
from nciihash.gate.config import UploadLimits
from nciihash.gate.pool import HashPool, PoolFull, file_limits
from nciihash.hashing import hasher
from nciihash.sandbox import Sandbox
from nciihash.sandbox import parent as sandbox
from nciihash.sandbox.pool import cores
from nciihash.signals import Item, Level, Media
from support.pictures import encode, png, scene, textured
from support.sandboxes import gone
from support.videos import make_video, moving_frames

PICTURE = encode(scene(400, 300), "JPEG")
VIDEO = make_video(moving_frames(30))


def same(item: Item) -> Item:
    return item


def query(data: bytes, level: Level | None = None) -> Item:
    return hasher.hash_bytes(data, variants="match", fast=True, level=level)


def run(limits: UploadLimits, test: Callable, **options: int):
    """Run a test with a started pool of one child for pictures."""

    async def body():
        async with HashPool(limits, **{"jobs": 1} | options) as pool:
            return await test(pool)

    return asyncio.run(body())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - of processes, which set no event
            await asyncio.sleep(0.01)


def child(pool: HashPool, media: Media) -> int:
    return pool._lanes[media].workers[0].sandbox._child.pid


def test_pictures_and_videos_are_hashed_as_queries():
    large = encode(textured(3).resize((2000, 1500)), "JPEG")

    async def body(pool):
        for level in (Level.WINDOWS, Level.THOROUGH):
            found = await pool.hash(PICTURE, level=level, then=same)
            assert found == query(PICTURE, level)
            assert found.parts
        assert await pool.hash(PICTURE, level=Level.FAST, then=same) == query(PICTURE)
        found = await pool.hash(bytearray(large), level=Level.FAST, then=same)
        assert found == query(large)
        assert found.reduced
        found = await pool.hash(VIDEO, level=Level.WINDOWS, then=same)
        assert (found, found.media) == (query(VIDEO), Media.VIDEO)

    run(UploadLimits(), body)


def test_files_that_cannot_be_hashed_are_refused():
    limits = UploadLimits(image_bytes=1 << 20, video_bytes=len(VIDEO) - 1, pixels=120_000)
    refused = {
        b"": EmptyFile,
        b"text": UnsupportedFormat,
        PICTURE[:700]: CorruptFile,
        png(600, 600, b""): TooLarge,
        bytes(2 << 20): TooLarge,
        VIDEO: TooLarge,
        VIDEO[: len(VIDEO) // 2]: CorruptFile,
    }

    async def body(pool):
        for data, kind in refused.items():
            with pytest.raises(kind):
                await pool.hash(data, level=Level.FAST, then=same)
        assert sum(state.deaths for state in pool.state().values()) == 0

    run(limits, body)


def test_a_jpeg_may_have_more_pixels_than_other_pictures():
    picture = Image.fromarray(np.asarray(textured(5).resize((1600, 1200))))
    limits = UploadLimits(pixels=1_000_000)

    async def body(pool):
        jpeg = encode(picture, "JPEG")
        assert (await pool.hash(jpeg, level=Level.FAST, then=same)).reduced
        with pytest.raises(TooLarge):
            await pool.hash(encode(picture, "BMP"), level=Level.FAST, then=same)
        large = encode(picture.resize((2400, 1800)), "JPEG")
        with pytest.raises(TooLarge):
            await pool.hash(large, level=Level.FAST, then=same)

    run(limits, body)


def test_the_limits_are_those_of_the_configuration():
    limits = UploadLimits(
        image_bytes=1, video_bytes=2, pixels=3, image_seconds=4.0, video_seconds=5.0
    )
    found = file_limits(limits)
    assert (found.max_bytes, found.video_bytes, found.max_pixels) == (1, 2, 3)
    assert (found.seconds, found.video_seconds, found.threads) == (4.0, 5.0, 1)


def test_the_callers_function_runs_in_a_thread_and_its_errors_are_raised():
    async def body(pool):
        def describe(item):
            return item.media, threading.current_thread()

        media, thread = await pool.hash(PICTURE, level=Level.FAST, then=describe)
        assert media is Media.IMAGE
        assert thread is not threading.current_thread()
        with pytest.raises(ZeroDivisionError):
            await pool.hash(PICTURE, level=Level.FAST, then=lambda _: 1 / 0)
        assert pool.state()[Media.IMAGE].children == 1

    run(UploadLimits(), body)


def test_a_video_delays_no_picture():
    """While the only child for videos is stopped in the middle of one, pictures are hashed."""

    async def body(pool):
        stopped = child(pool, Media.VIDEO)
        os.kill(stopped, signal.SIGSTOP)
        video = asyncio.create_task(pool.hash(VIDEO, level=Level.FAST, then=same))
        await until(lambda: pool.state()[Media.VIDEO].running == 1)
        for _ in range(20):
            assert await pool.hash(PICTURE, level=Level.FAST, then=same) == query(PICTURE)
        assert not video.done()
        os.kill(stopped, signal.SIGCONT)
        assert await video == query(VIDEO)

    run(UploadLimits(), body)


def held(pool: HashPool, data: bytes, hold: threading.Event):
    """Start to hash a file whose worker then waits for an event."""

    def wait(item):
        hold.wait(60)
        return item

    return asyncio.create_task(pool.hash(data, level=Level.FAST, then=wait))


def test_each_lane_has_a_bounded_queue():
    async def body(pool):
        hold = threading.Event()
        running = held(pool, PICTURE, hold)
        await until(lambda: pool.state()[Media.IMAGE].running == 1)
        waiting = [held(pool, PICTURE, hold) for _ in range(3)]
        await asyncio.sleep(0)
        assert pool.state()[Media.IMAGE].waiting == 3
        with pytest.raises(PoolFull, match="3 images wait"):
            await pool.hash(PICTURE, level=Level.FAST, then=same)
        assert await pool.hash(VIDEO, level=Level.FAST, then=same) == query(VIDEO)
        hold.set()
        assert await asyncio.gather(running, *waiting) == [query(PICTURE)] * 4
        assert pool.state()[Media.IMAGE].running == pool.state()[Media.IMAGE].waiting == 0

    run(UploadLimits(queue=3), body)


def test_an_idle_child_takes_an_upload_without_a_queue():
    async def body(pool):
        for _ in range(20):
            assert await pool.hash(PICTURE, level=Level.FAST, then=same) == query(PICTURE)

    run(UploadLimits(queue=0), body)


def test_a_cancelled_upload_leaves_the_queue():
    async def body(pool):
        hold, hashed = threading.Event(), []
        running = held(pool, PICTURE, hold)
        await until(lambda: pool.state()[Media.IMAGE].running == 1)
        waiting = [
            asyncio.create_task(pool.hash(PICTURE, level=Level.FAST, then=hashed.append))
            for _ in range(2)
        ]
        await until(lambda: pool.state()[Media.IMAGE].waiting == 2)
        waiting[0].cancel()
        await until(lambda: pool.state()[Media.IMAGE].waiting == 1)
        replacement = held(pool, PICTURE, hold)
        await until(lambda: pool.state()[Media.IMAGE].waiting == 2)
        hold.set()
        await asyncio.gather(running, waiting[1], replacement)
        assert hashed == [query(PICTURE)]
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]

    run(UploadLimits(queue=2), body)


def test_a_picture_whose_caller_is_gone_frees_its_child():
    async def body(pool):
        hold = threading.Event()
        task = held(pool, PICTURE, hold)
        await until(lambda: pool.state()[Media.IMAGE].running == 1)
        before = child(pool, Media.IMAGE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        hold.set()
        assert await pool.hash(PICTURE, level=Level.FAST, then=same) == query(PICTURE)
        assert child(pool, Media.IMAGE) == before

    run(UploadLimits(), body)


def test_a_video_whose_caller_is_gone_is_not_hashed_to_its_end():
    async def body(pool):
        stopped = child(pool, Media.VIDEO)
        os.kill(stopped, signal.SIGSTOP)  # it would never end by itself
        task = asyncio.create_task(pool.hash(VIDEO, level=Level.FAST, then=same))
        await until(lambda: pool.state()[Media.VIDEO].running == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await pool.hash(VIDEO, level=Level.FAST, then=same) == query(VIDEO)
        assert gone(stopped)
        assert pool.state()[Media.VIDEO].deaths == 0

    run(UploadLimits(), body)


def kill_when_sending(monkeypatch, pool, media, times):
    """Kill the child when it has requested a file, so many times; return the killed ones."""
    killed, send = [], sandbox.send_bytes

    def act_and_send(*arguments):
        if len(killed) < times:
            killed.append(child(pool, media))
            os.kill(killed[-1], signal.SIGSEGV)
            # until all of its threads have ended
            os.waitid(os.P_PID, killed[-1], os.WEXITED | os.WNOWAIT)
        return send(*arguments)

    monkeypatch.setattr(sandbox, "send_bytes", act_and_send)
    return killed


@pytest.mark.parametrize(("media", "data"), [(Media.IMAGE, PICTURE), (Media.VIDEO, VIDEO)])
def test_an_upload_that_ends_two_children_is_hashed_by_the_third(monkeypatch, media, data):
    async def body(pool):
        killed = kill_when_sending(monkeypatch, pool, media, 2)
        assert await pool.hash(data, level=Level.FAST, then=same) == query(data)
        assert len({*killed, child(pool, media)}) == 3
        state = pool.state()[media]
        assert (state.deaths, state.children) == (2, 1)

    run(UploadLimits(), body)


def test_an_upload_that_ends_three_children_is_refused_and_the_next_one_hashed(monkeypatch):
    async def body(pool):
        killed = kill_when_sending(monkeypatch, pool, Media.IMAGE, 3)
        with pytest.raises(ProgramFault, match="3 times"):
            await pool.hash(PICTURE, level=Level.FAST, then=same)
        assert len(killed) == pool.state()[Media.IMAGE].deaths == 3
        await until(lambda: pool.state()[Media.IMAGE].children == 1)
        assert await pool.hash(PICTURE, level=Level.FAST, then=same) == query(PICTURE)

    run(UploadLimits(), body)


def test_an_idle_child_that_was_killed_is_replaced_before_an_upload_arrives():
    async def body(pool):
        for media in Media:
            killed = child(pool, media)
            os.kill(killed, signal.SIGKILL)
            assert gone(killed)
        await until(lambda: all(state.children == 1 for state in pool.state().values()))
        assert await pool.hash(PICTURE, level=Level.FAST, then=same) == query(PICTURE)

    run(UploadLimits(), body)


def test_children_that_cannot_start_are_reported_at_the_start(monkeypatch):
    monkeypatch.setattr(sandbox, "_BOOT", "raise SystemExit(1)")
    threads = threading.active_count()

    async def start():
        pool = HashPool(UploadLimits(), jobs=2)
        with pytest.raises(SandboxUnavailable, match="did not start correctly"):
            await pool.start()
        assert all(state.children == 0 for state in pool.state().values())
        with pytest.raises(SandboxUnavailable):
            await pool.hash(PICTURE, level=Level.FAST, then=same)

    asyncio.run(start())
    assert threading.active_count() == threads


def test_children_that_can_no_longer_start_are_reported_for_each_upload(monkeypatch, caplog):
    async def body(pool):
        with monkeypatch.context() as patched:
            patched.setattr(sandbox, "_BOOT", "raise SystemExit(1)")
            os.kill(child(pool, Media.IMAGE), signal.SIGKILL)
            await until(lambda: pool.state()[Media.IMAGE].children == 0)
            with pytest.raises(SandboxUnavailable):
                await pool.hash(PICTURE, level=Level.FAST, then=same)
            await until(lambda: "A child process for images cannot start" in caplog.text)
        assert await pool.hash(PICTURE, level=Level.FAST, then=same) == query(PICTURE)

    run(UploadLimits(), body)


def test_a_pool_that_is_not_started_hashes_nothing():
    async def body():
        with pytest.raises(SandboxUnavailable, match="not started"):
            await HashPool(UploadLimits(), jobs=1).hash(PICTURE, level=Level.FAST, then=same)

    asyncio.run(body())


def test_closing_waits_for_the_uploads_in_the_pool():
    async def body(pool):
        tasks = [
            asyncio.create_task(pool.hash(data, level=Level.FAST, then=same))
            for data in (PICTURE, VIDEO, PICTURE)
        ]
        await asyncio.sleep(0)
        children = [child(pool, media) for media in Media]
        closing = asyncio.create_task(pool.close(drain=60))
        await until(lambda: not pool._lanes[Media.IMAGE].open)
        with pytest.raises(SandboxUnavailable, match="closed"):
            await pool.hash(PICTURE, level=Level.FAST, then=same)
        assert await asyncio.gather(*tasks) == [query(PICTURE), query(VIDEO), query(PICTURE)]
        await closing
        assert all(map(gone, children))

    run(UploadLimits(), body)


def test_closing_at_once_ends_the_uploads_in_the_pool():
    async def body(pool):
        children = [child(pool, media) for media in Media]
        for pid in children:
            os.kill(pid, signal.SIGSTOP)
        tasks = [
            asyncio.create_task(pool.hash(data, level=Level.FAST, then=same))
            for data in (PICTURE, PICTURE, VIDEO, VIDEO)
        ]
        await until(lambda: all(state.running == 1 for state in pool.state().values()))
        await pool.close()
        for task in tasks:
            with pytest.raises(SandboxUnavailable, match="closed"):
                await task
        assert all(map(gone, children))
        assert all(state.children == 0 for state in pool.state().values())
        await pool.close()

    run(UploadLimits(), body)


def test_no_thread_or_child_is_left():
    threads = threading.active_count()
    for _ in range(3):
        run(UploadLimits(), lambda pool: pool.hash(PICTURE, level=Level.FAST, then=same))
    assert threading.active_count() == threads


class Data(bytearray):
    """A bytearray that a weak reference can refer to."""


@pytest.mark.parametrize("data", [PICTURE, PICTURE[:700], VIDEO, VIDEO[:2000], b"text"])
def test_the_bytes_and_the_hashes_are_released_without_the_garbage_collector(data):
    async def body(pool):
        upload = Data(data)
        references = [weakref.ref(upload)]

        def note(item):
            references.extend(weakref.ref(part.luma) for part in item.parts)

        with contextlib.suppress(FileRefused):
            await pool.hash(upload, level=Level.WINDOWS, then=note)
        await until(lambda: all(state.running == 0 for state in pool.state().values()))
        del upload
        await asyncio.sleep(0.05)  # until the worker's thread waits for the next upload
        return [reference() for reference in references]

    gc.disable()
    try:
        assert not any(run(UploadLimits(), body))
    finally:
        gc.enable()


def test_by_default_there_is_a_child_for_each_core():
    lanes = HashPool(UploadLimits())._lanes
    assert [len(lane.workers) for lane in lanes.values()] == [cores(), 1]


def test_many_uploads_at_once_are_each_hashed_right(tmp_path):
    pictures = [encode(scene(200, 150, seed=seed), "JPEG") for seed in range(40)]
    with Sandbox() as single:
        expected = [single.hash_bytes(data, variants="match", fast=True) for data in pictures]

    async def body(pool):
        hashing = (pool.hash(data, level=Level.FAST, then=same) for data in pictures * 3)
        assert await asyncio.gather(*hashing) == expected * 3

    run(UploadLimits(queue=200), body, jobs=3)


def test_an_upload_that_waits_for_too_long_leaves_the_queue(monkeypatch):
    async def body(pool):
        hold = threading.Event()
        running = held(pool, PICTURE, hold)
        await until(lambda: pool.state()[Media.IMAGE].running == 1)
        monkeypatch.setattr("nciihash.gate.lane._WAIT_SECONDS", 0.0)
        with pytest.raises(PoolFull, match="too long"):
            await pool.hash(PICTURE, level=Level.FAST, then=same)
        assert pool.state()[Media.IMAGE].waiting == 0
        hold.set()
        assert await running == query(PICTURE)

    run(UploadLimits(), body)


def test_a_lane_survives_any_failure_to_replace_a_child(monkeypatch, caplog):
    async def body(pool):
        monkeypatch.setattr("nciihash.gate.lane._CHECK_SECONDS", 0.01)
        worker = pool._lanes[Media.IMAGE].workers[0]
        start = worker.sandbox.start

        def fail():
            raise MemoryError("secret")

        worker.sandbox.start = fail
        os.kill(child(pool, Media.IMAGE), signal.SIGKILL)
        await until(lambda: "could not be replaced" in caplog.text)
        worker.sandbox.start = start
        assert await pool.hash(PICTURE, level=Level.FAST, then=same) == query(PICTURE)

    run(UploadLimits(), body)
    assert caplog.text.count("could not be replaced") == 1
    assert "secret" not in caplog.text
