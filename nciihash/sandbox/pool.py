"""Hash many files in several child processes; a refused file does not stop the others."""

import os
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Final, TypeAlias

from nciihash.errors import FileRefused
from nciihash.media.limits import LIMITS
from nciihash.sandbox.parent import Sandbox
from nciihash.signals import Item, Level, SignalType

Hashing: TypeAlias = tuple[Path, Item | FileRefused]

_AHEAD: Final = 32  # files per process that are hashed ahead of the results that are yielded


def cores() -> int:
    """Return the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def hash_files(
    paths: Iterable[Path],
    *,
    signals: Sequence[SignalType],
    variants: str = "none",
    fast: bool = False,
    level: Level | None = None,
    sandboxed: bool = True,
    jobs: int = 1,
) -> Generator[Hashing, None, None]:
    """Hash files and yield the results in the order of the paths.

    Args:
        paths: the files.
        signals: the types of hash to compute.
        variants: which altered copies to hash too, as for `nciihash.hashing.hasher.hash_file`.
        fast: decode large JPEG files at a reduced size, as for `nciihash.hashing.hasher.hash_file`.
        level: how thoroughly to search for each file, as for `nciihash.hashing.hasher.hash_file`.
        sandboxed: decode in confined child processes, else in this process.
        jobs: the number of child processes; ignored if not `sandboxed`.

    Yields:
        Each path with its hashes, or with the `FileRefused` that says why there are none.

    Raises:
        SandboxUnavailable: a child process cannot start; nothing was decoded.
    """
    if not sandboxed:
        # imported here because it loads the decoders
        from nciihash.hashing.hasher import hash_file

        for path in paths:
            try:
                yield (
                    path,
                    hash_file(path, variants=variants, signals=signals, fast=fast, level=level),
                )
            except FileRefused as refusal:
                yield path, refusal
        return
    # with several jobs, one decoder thread each: the jobs already use all CPUs
    limits = LIMITS if jobs == 1 else replace(LIMITS, threads=1)
    sandboxes = [Sandbox(limits) for _ in range(max(1, jobs))]
    idle: SimpleQueue[Sandbox] = SimpleQueue()
    for sandbox in sandboxes:
        idle.put(sandbox)

    def hash_next(path: Path) -> Item | FileRefused:
        sandbox = idle.get()
        try:
            return sandbox.hash_file(
                path, variants=variants, signals=signals, fast=fast, level=level
            )
        except FileRefused as refusal:
            return refusal
        finally:
            idle.put(sandbox)

    pending: deque[tuple[Path, Future[Item | FileRefused]]] = deque()
    pool = ThreadPoolExecutor(len(sandboxes))
    try:
        for path in paths:
            pending.append((path, pool.submit(hash_next, path)))
            if len(pending) > _AHEAD * len(sandboxes):
                path, future = pending.popleft()
                yield path, future.result()
        while pending:
            path, future = pending.popleft()
            yield path, future.result()
    finally:
        if pending:  # the caller stopped early: don't finish results that nobody will read
            for sandbox in sandboxes:
                sandbox.stop()
        pool.shutdown(cancel_futures=True)
        for sandbox in sandboxes:
            sandbox.close()
