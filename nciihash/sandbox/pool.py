"""Hash many files, in several processes at once; a refused one does not keep the others."""

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
from nciihash.signals import Item, SignalType

Hashing: TypeAlias = tuple[Path, Item | FileRefused]

_AHEAD: Final = 32  # files a process that may be done before their turn comes to be told


def cores() -> int:
    """Count the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def hash_files(
    paths: Iterable[Path],
    *,
    signals: Sequence[SignalType],
    variants: str = "none",
    fast: bool = False,
    sandboxed: bool = True,
    jobs: int = 1,
) -> Generator[Hashing, None, None]:
    """Hash files in their order.

    Args:
        paths: the files.
        signals: which types of hash to make.
        variants: which altered copies to hash too, as `nciihash.hashing.hasher.hash_file` takes
            them.
        fast: allow up to 4 bits of difference for speed, as `nciihash.hashing.hasher.hash_file`
            says.
        sandboxed: decode in child processes that can do no harm, else in this one.
        jobs: how many child processes work at once; without them it makes no difference.

    Yields:
        Each path with its hashes, or with the reason why there are none.

    Raises:
        SandboxUnavailable: a child process cannot start; nothing was decoded.
    """
    if not sandboxed:
        # loads the decoders, which this was told to use
        from nciihash.hashing.hasher import hash_file

        for path in paths:
            try:
                yield path, hash_file(path, variants=variants, signals=signals, fast=fast)
            except FileRefused as refusal:
                yield path, refusal
        return
    # decoders of videos share the processors out among the files, if there are several
    limits = LIMITS if jobs == 1 else replace(LIMITS, threads=1)
    boxes = [Sandbox(limits) for _ in range(max(1, jobs))]
    free: SimpleQueue[Sandbox] = SimpleQueue()
    for box in boxes:
        free.put(box)

    def hash_next(path: Path) -> Item | FileRefused:
        box = free.get()
        try:
            return box.hash_file(path, variants=variants, signals=signals, fast=fast)
        except FileRefused as refusal:
            return refusal
        finally:
            free.put(box)

    waiting: deque[tuple[Path, Future[Item | FileRefused]]] = deque()
    pool = ThreadPoolExecutor(len(boxes))
    try:
        for path in paths:
            waiting.append((path, pool.submit(hash_next, path)))
            if len(waiting) > _AHEAD * len(boxes):
                path, done = waiting.popleft()
                yield path, done.result()
        while waiting:
            path, done = waiting.popleft()
            yield path, done.result()
    finally:
        if waiting:  # broken off: the children are not to finish what nobody waits for
            for box in boxes:
                box.stop()
        pool.shutdown(cancel_futures=True)
        for box in boxes:
            box.close()
