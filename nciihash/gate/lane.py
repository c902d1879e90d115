"""Uploads of one kind that wait to be hashed, and the child processes that hash them."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, TypeAlias, TypeVar

from nciihash.errors import FileRefused, NciihashError, ProgramFault, SandboxUnavailable
from nciihash.gate.logs import RateLimitedLog, describe
from nciihash.media.limits import Limits
from nciihash.sandbox.parent import Sandbox
from nciihash.signals import Item, Level, Media, VariantSet

T = TypeVar("T")

Data: TypeAlias = bytes | bytearray

_ATTEMPTS: Final = 3  # children that one upload may end
_WAIT_SECONDS: Final = 300.0  # for a child process; callers have given up by then
_CHECK_SECONDS: Final = 2.0  # between checks of whether an idle child has ended
_log: Final = logging.getLogger("nciihash.gate")


class PoolFull(NciihashError):
    """Too many uploads wait to be hashed: try again later, or start more child processes."""

    code = "pool_full"


@dataclass(frozen=True, slots=True)
class LaneState:
    """The state of the child processes for pictures, or of those for videos.

    Attributes:
        waiting: uploads that wait for a child process.
        running: uploads that are being hashed.
        deaths: child processes that ended in the middle of an upload, since the gate started.
        children: child processes that are running.
    """

    waiting: int = 0
    running: int = 0
    deaths: int = 0
    children: int = 0


class Job(Generic[T]):
    """An upload, and the future of the caller that waits for it.

    Attributes:
        future: belongs to the caller's event loop.
    """

    __slots__ = ("_loop", "data", "future", "level", "taken", "then")

    def __init__(
        self,
        data: Data,
        level: Level | None,
        then: Callable[[Item], T],
        taken: Callable[[], None],
    ) -> None:
        self.data = data
        self.level = level
        self.then = then
        self.taken = taken
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self._loop.create_future()

    def succeed(self, result: T) -> None:
        """Return a result to the caller; from any thread."""
        self._notify(self.future.set_result, result)

    def fail(self, error: BaseException) -> None:
        """Raise an error in the caller; from any thread."""
        self._notify(self.future.set_exception, error)

    def _notify(self, settle: Callable[[Any], None], outcome: object) -> None:
        def settle_unless_cancelled() -> None:
            if not self.future.done():
                settle(outcome)

        with suppress(RuntimeError):  # the loop is closed, so that nobody waits
            self._loop.call_soon_threadsafe(settle_unless_cancelled)


class Lane:
    """A queue of uploads of one kind, and the workers that take them from it.

    Args:
        limits: of the workers' children.
        children: how many workers there are.
        queue: uploads that may wait.
        media: what the uploads are.

    Attributes:
        open: whether it accepts uploads.
    """

    def __init__(self, limits: Limits, children: int, queue: int, media: Media) -> None:
        self.media = media
        self.workers = [_Worker(self, limits) for _ in range(children)]
        self._queue = queue
        self._jobs: deque[Job[Any]] = deque()
        self._change = threading.Condition()
        self.open = True

    async def run(self, job: Job[T]) -> T:
        """Wait for a worker and hash an upload; see `HashPool.hash`."""
        with self._change:
            if not self.open:
                raise closed()
            if not any(worker.started for worker in self.workers):
                raise SandboxUnavailable("The pool is not started. Start it first.")
            idle = sum(worker.job is None for worker in self.workers)
            if len(self._jobs) >= idle + self._queue:
                raise PoolFull(
                    f"{self._queue} {self.media}s wait to be hashed. Try again later, or start "
                    "more child processes."
                )
            self._jobs.append(job)
            self._change.notify()
        timer = asyncio.get_running_loop().call_later(_WAIT_SECONDS, self._expire, job)
        try:
            return await job.future
        except asyncio.CancelledError:
            self._cancel(job)
            raise
        finally:
            timer.cancel()
            del job, timer  # as in `HashPool.hash`

    def _expire(self, job: Job[Any]) -> None:
        """Remove an upload that still waits, and refuse it."""
        with self._change:
            if job not in self._jobs:
                return
            self._jobs.remove(job)
        job.fail(PoolFull(f"The {self.media} has waited for a child process for too long."))

    def _cancel(self, job: Job[Any]) -> None:
        with self._change:
            if job in self._jobs:
                self._jobs.remove(job)
            elif self.media is Media.VIDEO:
                for worker in self.workers:
                    if worker.job is job:
                        worker.sandbox.stop()

    def take(self, worker: "_Worker") -> Job[Any] | None:
        """Return the next upload for a worker; None if it should first check its child.

        Raises:
            EOFError: the lane is closed, and no upload is left.
        """
        with self._change:
            if not self._jobs and self.open:
                self._change.wait(_CHECK_SECONDS)
            if self._jobs:
                worker.job = self._jobs.popleft()
            elif not self.open:
                raise EOFError
            return worker.job

    def release(self, worker: "_Worker") -> None:
        """Note that a worker's upload is done; from then on nothing stops its child."""
        with self._change:
            worker.job = None

    def state(self) -> LaneState:
        """Return the state."""
        with self._change:
            running = sum(worker.job is not None for worker in self.workers)
            return LaneState(
                waiting=len(self._jobs),
                running=running,
                deaths=sum(worker.deaths for worker in self.workers),
                children=sum(worker.sandbox.alive for worker in self.workers),
            )

    def close(self, deadline: float) -> None:
        """Accept no more, wait for the workers until the deadline, and end their children.

        Args:
            deadline: a time of `time.monotonic`.
        """
        with self._change:
            self.open = False
            self._change.notify_all()
        for worker in self.workers:
            worker.join(deadline)
        with self._change:
            abandoned = [*self._jobs]
            self._jobs.clear()
            for worker in self.workers:
                worker.sandbox.stop()
        for job in abandoned:
            job.fail(closed())
        for worker in self.workers:
            worker.join(None)
            worker.sandbox.close()


class _Worker:
    """A thread and the child process that it sends uploads to.

    Attributes:
        sandbox: the child process.
        job: the upload that is being hashed; guarded by the lane.
        deaths: how often the child has ended in the middle of an upload.
        started: whether the thread was started.
    """

    def __init__(self, lane: Lane, limits: Limits) -> None:
        self.sandbox = Sandbox(limits)
        self.job: Job[Any] | None = None
        self.deaths = 0
        self._lane = lane
        self._limits = limits
        self._errors = RateLimitedLog(_log)
        self._thread = threading.Thread(
            target=self._run, name=f"hash-{lane.media.value}", daemon=True
        )

    @property
    def started(self) -> bool:
        """Whether the worker was started."""
        return self._thread.ident is not None

    def start(self) -> None:
        """Start the child and the thread.

        Raises:
            SandboxUnavailable: the child does not start.
        """
        self.sandbox.start()
        self._thread.start()

    def join(self, deadline: float | None) -> None:
        """Wait until the thread has ended, or until the deadline; None for none."""
        if self.started:
            self._thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        with suppress(EOFError):
            while True:
                if (job := self._lane.take(self)) is not None:
                    self._work(job)
                    del job  # and the upload
                if self._lane.open and not self.sandbox.alive:
                    self._replace()

    def _work(self, job: Job[Any]) -> None:
        """Hash an upload, call the caller's function, and return the result to the caller."""
        try:
            job.taken()
            settle = partial(job.succeed, job.then(self._hash(job.data, job.level)))
        except BaseException as error:  # noqa: BLE001 - the caller gets every error
            settle = partial(job.fail, error)
        self._lane.release(self)
        settle()
        del job, settle  # as in `HashPool.hash`

    def _hash(self, data: Data, level: Level | None) -> Item:
        """Hash an upload.

        Raises:
            FileRefused: it cannot be hashed.
            SandboxUnavailable: the child does not start, or was stopped.
        """
        for _ in range(_ATTEMPTS):
            before = self.sandbox.deaths
            try:
                return self.sandbox.hash_bytes(
                    data, variants=VariantSet.MATCH.value, fast=True, level=level
                )
            except (FileRefused, SandboxUnavailable):
                if self.sandbox.stopped:
                    raise closed() from None
                if self.sandbox.deaths == before:
                    raise
                self.deaths += 1
        raise ProgramFault(
            f"The file made the program that decodes files fail {_ATTEMPTS} times, so it is "
            "damaged or malicious. That program is isolated, so nothing else was affected."
        )

    def _replace(self) -> None:
        """Start another child, so that the next upload does not wait for that."""
        if self.sandbox.stopped:
            self.sandbox.close()
            self.sandbox = Sandbox(self._limits)
        try:
            self.sandbox.start()
        except SandboxUnavailable as error:
            self._errors.error("A child process for %ss cannot start: %s", self._lane.media, error)
        except Exception as error:  # noqa: BLE001 - otherwise the lane would stop
            self._errors.error("A child process could not be replaced: %s", describe(error))


def closed() -> SandboxUnavailable:
    """Return the error of uploads that come after the pool was closed."""
    return SandboxUnavailable("The pool of child processes was closed.")
