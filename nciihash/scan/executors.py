"""Where blocks are scanned: on this machine's cores, or on those of a Ray cluster.

Both give every block of a scan once, in whatever order they are done, and do with each what
`nciihash.scan.worker` does.

On Ray a block is a task. A task whose machine is lost is run again by Ray, a bounded number of
times; machines that join are used; and since a bank is mapped, the processes of a machine share it
in memory. Ray Data, which would do the same in a stream, is for data that passes through it: here
blocks are a few names and results a few rows, it would want pandas on every machine, and by default
begins a block that keeps ending its process again without end.
"""

import importlib
import os
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from itertools import islice
from queue import SimpleQueue
from typing import Any, Final, TypeAlias

from nciihash.errors import (
    EngineUnavailable,
    ExtraMissing,
    NciihashError,
    NotAFile,
    UnreadableFile,
    explained,
)
from nciihash.scan.plan import Block
from nciihash.scan.sources import ScanSource, store
from nciihash.scan.worker import BlockResult, Job, Scanner, open_bank, open_scanner

_RETRIES: Final = 10  # times that a block is begun again when machines are lost under it
_AHEAD: Final = 2  # blocks for each core that Ray is given before the first are done


@dataclass(frozen=True, slots=True)
class BlockFailure:
    """A block that could not be read, or whose machines were lost again and again.

    It may be done by a later run.
    """

    number: int
    reason: str


BlockOutcome: TypeAlias = BlockResult | BlockFailure


def local(job: Job, blocks: Iterable[Block], jobs: int) -> Generator[BlockOutcome, None, None]:
    """Scan blocks in threads of this process, which leave Python to search, or to wait for a child.

    Args:
        job: what to scan and how.
        blocks: what is left of it.
        jobs: how many are scanned at once.

    Raises:
        NciihashError: the bank or the source cannot be opened, or no child process can start.
    """
    # this process has made or checked the bank when the scan was begun or taken up again
    still, where = open_bank(job, verify=False), store(job.source)
    scanners = [Scanner(job, still, where) for _ in range(jobs)]
    free: SimpleQueue[Scanner] = SimpleQueue()
    for scanner in scanners:
        free.put(scanner)

    def scan_next(block: Block) -> BlockOutcome:
        scanner = free.get()
        try:
            return _outcome(scanner, block)
        finally:
            free.put(scanner)

    pool = ThreadPoolExecutor(jobs)
    left = iter(blocks)
    waiting: set[Future[BlockOutcome]] = set()
    try:
        while True:
            waiting |= {pool.submit(scan_next, b) for b in islice(left, jobs + 1 - len(waiting))}
            if not waiting:
                return
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for each in done:
                yield each.result()
    finally:
        for scanner in scanners:
            scanner.stop()
        pool.shutdown(cancel_futures=True)
        for scanner in scanners:
            scanner.close()


def ray(job: Job, blocks: Iterable[Block]) -> Generator[BlockOutcome, None, None]:
    """Scan blocks on a Ray cluster: the one that this process is joined to, or that it finds.

    The cluster is looked for at RAY_ADDRESS, then on this machine. All its machines need this
    package, and see the source and the bank under the same names.

    Raises:
        ExtraMissing: Ray is not installed.
        EngineUnavailable: no cluster is there.
        BankError: one of its machines sees another bank.
        NciihashError: whatever else ends a scan, on any machine.
    """
    if find_spec("ray") is None:
        raise ExtraMissing(
            'The engine `ray` needs Ray, which is not installed: pip install "nciihash[ray]", on '
            "every machine of the cluster. Or scan with --engine local."
        )
    cluster: Any = importlib.import_module("ray")
    errors: Any = importlib.import_module("ray.exceptions")
    joined = not cluster.is_initialized()
    if joined:
        try:
            address = os.environ.get("RAY_ADDRESS") or "auto"
            cluster.init(address=address, log_to_driver=False, logging_level="ERROR")
        except ConnectionError:
            raise EngineUnavailable(
                "There is no Ray cluster here. Start one with `ray start --head`, or name one in "
                "RAY_ADDRESS; or scan with --engine local."
            ) from None
    task = cluster.remote(num_cpus=1, max_retries=_RETRIES)(_in_worker)
    shared, where = cluster.put(job), store(job.source)
    left = iter(blocks)
    waiting: dict[Any, int] = {}
    try:
        while True:
            cores = int(cluster.cluster_resources().get("CPU", 1))
            for block in islice(left, max(0, _AHEAD * cores - len(waiting))):
                waiting[task.remote(shared, block)] = block.number
            if not waiting:
                return
            # a moment, so that machines which join meanwhile are given something
            done, _ = cluster.wait(list(waiting), num_returns=1, timeout=5)
            for each in done:
                number = waiting.pop(each)
                try:
                    outcome = cluster.get(each)
                except errors.RayTaskError:
                    raise  # a fault of ours
                except errors.RayError as error:
                    yield BlockFailure(
                        number, f"Its machine was lost again and again ({_name(error)})."
                    )
                    continue
                if isinstance(outcome, NciihashError):
                    raise outcome
                yield believed(outcome, where)
    finally:
        for each in waiting:
            with suppress(Exception):  # the cluster may be what has gone
                cluster.cancel(each, force=True)
        if joined:
            cluster.shutdown()


def believed(outcome: BlockOutcome, where: ScanSource) -> BlockOutcome:
    """Doubt a machine that does not see a file which this one sees: it lacks the source.

    Else its files would count as gone, and their matches would be lost.
    """
    if isinstance(outcome, BlockResult):
        for each in outcome.refused:
            if each.code in {NotAFile.code, UnreadableFile.code} and where.sees(each.name):
                reason = f"A machine of the cluster cannot open {each.name}; this one can."
                return BlockFailure(outcome.number, f"{reason} Let all see the source by one name.")
    return outcome


def _in_worker(job: Job, block: Block) -> BlockOutcome | NciihashError:
    """Scan a block in one of the cluster's processes; give an error that ends the scan as such."""
    try:
        return _outcome(_scanner(job), block)
    except NciihashError as error:
        return error


@lru_cache(maxsize=1)
def _scanner(job: Job) -> Scanner:
    """Open a job once in each of the cluster's processes: this is what tasks have in common."""
    return open_scanner(job)


def _outcome(scanner: Scanner, block: Block) -> BlockOutcome:
    import pyarrow as pa

    try:
        return scanner.scan(block)
    except (OSError, pa.ArrowException) as error:
        told = explained(error) if isinstance(error, OSError) else str(error)
        return BlockFailure(block.number, " ".join(told.split()) or _name(error))


def _name(error: BaseException) -> str:
    return type(error).__name__


def left(blocks: Iterable[Block], done: set[int]) -> Iterator[Block]:
    """Give the blocks that are still to be done."""
    return (block for block in blocks if block.number not in done)
