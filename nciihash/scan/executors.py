"""Executors of a scan: the cores of this machine, or those of a Ray cluster.

Both yield the outcome of every block once, in the order in which blocks finish; both scan a block
with `nciihash.scan.worker`.

On Ray, a block is a task. If a machine is lost, Ray retries its tasks on others, a bounded number
of times, and machines that join the cluster are used. The bank is memory-mapped, so the processes
of a machine share it. Ray Data is made for data that streams through it. Here, blocks are a few
names and results a few rows; Ray Data would also need pandas on every machine, and by default it
retries a block that crashes its process without limit.
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
    describe_os_error,
)
from nciihash.scan.plan import Block
from nciihash.scan.sources import ScanSource, open_source
from nciihash.scan.worker import BlockResult, Job, Scanner, open_bank, open_scanner

_RETRIES: Final = 10  # of a block, when its machine is lost
_AHEAD: Final = 2  # blocks per core that are submitted to Ray at the same time


@dataclass(frozen=True, slots=True)
class BlockFailure:
    """A block that could not be read, or whose machines were lost repeatedly.

    A later run may scan it.
    """

    number: int
    reason: str


BlockOutcome: TypeAlias = BlockResult | BlockFailure


def local(job: Job, blocks: Iterable[Block], jobs: int) -> Generator[BlockOutcome, None, None]:
    """Scan blocks in threads. They release the GIL while they search or wait for a child process.

    Args:
        job: what to scan and how.
        blocks: the unfinished blocks.
        jobs: number of blocks to scan at the same time.

    Raises:
        NciihashError: the bank or the source cannot be opened, or no child process can start.
    """
    # this process wrote or verified the bank when the scan was started or continued
    bank, source = open_bank(job, verify=False), open_source(job.source)
    scanners = [Scanner(job, bank, source) for _ in range(jobs)]
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
    remaining = iter(blocks)
    pending: set[Future[BlockOutcome]] = set()
    try:
        while True:
            pending |= {
                pool.submit(scan_next, b) for b in islice(remaining, jobs + 1 - len(pending))
            }
            if not pending:
                return
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        for scanner in scanners:
            scanner.stop()
        pool.shutdown(cancel_futures=True)
        for scanner in scanners:
            scanner.close()


def ray(job: Job, blocks: Iterable[Block]) -> Generator[BlockOutcome, None, None]:
    """Scan blocks on the Ray cluster that this process has joined, or else on one that it joins.

    That is the cluster at RAY_ADDRESS, or the one on this machine. All its machines need this
    package, and must see the source and the bank under the same names.

    Raises:
        ExtraMissing: Ray is not installed.
        EngineUnavailable: there is no cluster.
        BankError: a machine of the cluster has another bank under that name.
        NciihashError: any other error that ends a scan, on any machine.
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
    shared, source = cluster.put(job), open_source(job.source)
    remaining = iter(blocks)
    pending: dict[Any, int] = {}
    try:
        while True:
            cores = int(cluster.cluster_resources().get("CPU", 1))
            for block in islice(remaining, max(0, _AHEAD * cores - len(pending))):
                pending[task.remote(shared, block)] = block.number
            if not pending:
                return
            # with a timeout, so that machines which have joined meanwhile get tasks
            done, _ = cluster.wait(list(pending), num_returns=1, timeout=5)
            for reference in done:
                number = pending.pop(reference)
                try:
                    outcome = cluster.get(reference)
                except errors.RayTaskError:
                    raise  # a bug in nciihash
                except errors.RayError as error:
                    yield BlockFailure(number, f"Its machine was lost repeatedly ({_name(error)}).")
                    continue
                if isinstance(outcome, NciihashError):
                    raise outcome
                yield check_visibility(outcome, source)
    finally:
        for reference in pending:
            with suppress(Exception):  # the cluster itself may be gone
                cluster.cancel(reference, force=True)
        if joined:
            cluster.shutdown()


def check_visibility(outcome: BlockOutcome, source: ScanSource) -> BlockOutcome:
    """Return a failure if a machine could not open a file that this one can.

    Such a machine cannot access the source. Otherwise its files would count as deleted, and their
    matches would be lost.
    """
    if isinstance(outcome, BlockResult):
        for refusal in outcome.refused:
            missing = refusal.code in {NotAFile.code, UnreadableFile.code}
            if missing and source.can_open(refusal.name):
                return BlockFailure(
                    outcome.number,
                    f"A machine of the cluster cannot open {refusal.name}; this one can. Make the "
                    "source available under the same name on all machines.",
                )
    return outcome


def _in_worker(job: Job, block: Block) -> BlockOutcome | NciihashError:
    """Scan a block in a process of the cluster; return an error that ends the scan."""
    try:
        return _outcome(_scanner(job), block)
    except NciihashError as error:
        return error


@lru_cache(maxsize=1)
def _scanner(job: Job) -> Scanner:
    """Return the scanner of a job, which the tasks of a process share."""
    return open_scanner(job)


def _outcome(scanner: Scanner, block: Block) -> BlockOutcome:
    import pyarrow as pa

    try:
        return scanner.scan(block)
    except (OSError, pa.ArrowException) as error:
        reason = describe_os_error(error) if isinstance(error, OSError) else str(error)
        return BlockFailure(block.number, " ".join(reason.split()) or _name(error))


def _name(error: BaseException) -> str:
    return type(error).__name__


def unfinished(blocks: Iterable[Block], done: set[int]) -> Iterator[Block]:
    """Return the blocks whose numbers are not in `done`."""
    return (block for block in blocks if block.number not in done)
