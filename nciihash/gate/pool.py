"""Hash uploads in confined child processes: some for pictures, and others for videos.

Each lane, of pictures or of videos, has a bounded queue, and a thread for each of its children. A
thread sends an upload to its child and then calls what the caller wants done with the hashes, so
that matching does not run in the event loop either.

A JPEG is decoded at a reduced size if it is large (`fast`), which takes a fraction of the time.
Its hash is then within 4 bits of the exact one.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self, TypeVar

from nciihash.gate.config import UploadLimits
from nciihash.gate.lane import Data, Job, Lane, LaneState, PoolFull
from nciihash.media.formats import video_format
from nciihash.media.limits import LIMITS, Limits
from nciihash.media.reading import HEAD
from nciihash.sandbox.pool import cores
from nciihash.signals import Item, Level, Media

__all__ = ["HashPool", "LaneState", "PoolFull", "file_limits"]

T = TypeVar("T")


class HashPool:
    """Hashes uploads in child processes. Belongs to one event loop.

        async with HashPool(limits) as pool:
            item = await pool.hash(data, level=Level.WINDOWS, then=lambda item: item)

    Args:
        limits: on uploads; `queue` is of each lane.
        jobs: child processes for pictures; None for one for each core.
        video_jobs: child processes for videos.
    """

    def __init__(
        self, limits: UploadLimits, *, jobs: int | None = None, video_jobs: int = 1
    ) -> None:
        children = {Media.IMAGE: jobs or cores(), Media.VIDEO: video_jobs}
        self._lanes = {
            media: Lane(file_limits(limits), count, limits.queue, media)
            for media, count in children.items()
        }

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Start the children.

        Raises:
            SandboxUnavailable: one cannot start; the message says what to do. None is left.
        """
        workers = [worker for lane in self._lanes.values() for worker in lane.workers]
        starting = (asyncio.to_thread(worker.start) for worker in workers)
        try:
            results = await asyncio.gather(*starting, return_exceptions=True)
        except asyncio.CancelledError:
            await self.close()
            raise
        if failures := [result for result in results if isinstance(result, BaseException)]:
            await self.close()
            raise failures[0]

    async def hash(
        self,
        data: Data,
        *,
        level: Level,
        then: Callable[[Item], T],
        taken: Callable[[], None] = lambda: None,
    ) -> T:
        """Hash an upload as a query, and return what `then` returns about it.

        A cancelled upload leaves the queue. A picture that is being hashed is hashed to its end all
        the same, within its limit of time; a video's child is ended.

        Args:
            data: the upload, which must not be changed meanwhile.
            level: how thoroughly to search for a picture. Videos, and pictures at `fast`, are
                hashed without parts (`Item.parts`), so that a `Matcher` searches for them at `fast`
                whatever its level is.
            then: called with the item, in another thread.
            taken: called when the upload does not wait any longer, in that thread too.

        Raises:
            FileRefused: the upload cannot be hashed; `ProgramFault` if it ended three children.
            PoolFull: too many uploads of its kind wait, or this one has waited for too long.
            SandboxUnavailable: no child can start, or the pool is not started or was closed.
            Exception: whatever `then` raises.
        """
        video = video_format(bytes(data[:HEAD])) is not None
        lane = self._lanes[Media.VIDEO if video else Media.IMAGE]
        job = Job(data, None if video or level is Level.FAST else level, then, taken)
        try:
            return await lane.run(job)
        finally:
            del job  # an error's traceback would keep the job, and the job's future the error

    def state(self) -> Mapping[Media, LaneState]:
        """Return the state of both lanes."""
        return {media: lane.state() for media, lane in self._lanes.items()}

    async def close(self, drain: float = 0.0) -> None:
        """Accept no more uploads, and end the children.

        Args:
            drain: seconds to wait at most for the uploads in the pool. After that, those that are
                left raise `SandboxUnavailable`.
        """
        deadline = time.monotonic() + drain
        lanes = self._lanes.values()
        await asyncio.gather(*(asyncio.to_thread(lane.close, deadline) for lane in lanes))


def file_limits(limits: UploadLimits) -> Limits:
    """Return the limits of the child processes.

    A JPEG may have four times as many pixels as other pictures, since it is decoded at a reduced
    size.
    """
    return Limits(
        max_bytes=limits.image_bytes,
        max_pixels=limits.pixels,
        reduced_pixels=limits.pixels * (LIMITS.reduced_pixels // LIMITS.max_pixels),
        seconds=limits.image_seconds,
        video_bytes=limits.video_bytes,
        video_seconds=limits.video_seconds,
        threads=1,
    )
