"""Scan one block: its parts in, rows of matches out. All engines do this, and nothing else."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from nciihash.bank.frozen import FrozenBank, NearPairs, fingerprint
from nciihash.errors import BankError, FileRefused, UnsupportedFormat
from nciihash.media.limits import LIMITS
from nciihash.media.reading import check_video_size, file_name, name_fields
from nciihash.sandbox.parent import Sandbox
from nciihash.scan.parquet import by_type, not_hashes, packed, plain
from nciihash.scan.plan import Block, FileRefusal, Kind, Part
from nciihash.scan.sources import ScanSource, store
from nciihash.sdk.lookup import look_up
from nciihash.signals import Item, Match, SignalType

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS: Final = 1 << 14  # hashes that are looked for in one query
_NAMED: Final = 20  # rows of a Parquet file that are named as refused; all are counted

# The columns of results, with Arrow's names of their types. `source` and `row` say where in which
# Parquet file a hash stood; `time` is the second of a video.
COLUMNS: Final = {
    "source": "string",
    "row": "int64",
    "file": "string",
    "file_bytes": "string",
    "time": "float64",
    "id": "string",
    "item": "string",
    "type": "string",
    "variant": "string",
    "distance": "int16",
    "band": "string",
}
_CARRIED: Final = ("file", "file_bytes", "time")  # from a Parquet file of hashes to the results


@dataclass(frozen=True, slots=True)
class Job:
    """What every block of a scan has in common; it travels to other machines.

    Attributes:
        source: a path or a URL.
        kind: what is there.
        bank: the path of a bank that stands still.
        fingerprint: that bank's.
        signals: which types of hash to make of files.
        fast: as `nciihash.hashing.hasher.hash_file` takes it.
        sandboxed: decode in a child process.
    """

    source: str
    kind: Kind
    bank: str
    fingerprint: str
    signals: tuple[SignalType, ...]
    fast: bool = False
    sandboxed: bool = True


@dataclass(frozen=True, slots=True)
class BlockResult:
    """A block's result.

    Attributes:
        number: the block's.
        scanned: files or hashes that were looked for.
        foreign: files that are neither pictures nor videos.
        failed: how many were refused, by code.
        refused: those, all files and some rows of each Parquet file.
        seconds: processor time that the block took, less what a child process decoded.
        matches: an Arrow table of `COLUMNS`.
    """

    number: int
    scanned: int
    foreign: int
    failed: Counter[str]
    refused: tuple[FileRefusal, ...]
    seconds: float
    matches: "pa.Table" = field(repr=False)


class ScanStopped(Exception):
    """The scanner was stopped in the middle of a block."""


class Scanner:
    """Scans blocks, one at a time; several may share a bank.

    Args:
        job: what to scan and how.
        still: the job's bank, which was opened before.
        where: the job's source.
    """

    def __init__(self, job: Job, still: FrozenBank, where: ScanSource) -> None:
        self._job = job
        self._still = still
        self._where = where
        # decoders of videos share the processors out among the blocks
        self._box = Sandbox(replace(LIMITS, threads=1))
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Break off the block that another thread is at, for good."""
        self._stopped.set()
        self._box.stop()

    def close(self) -> None:
        """End the child process."""
        self._box.close()

    def scan(self, block: Block) -> BlockResult:
        """Look for everything in a block.

        Raises:
            Stopped: it was broken off.
            SandboxUnavailable: the child process cannot start; nothing was decoded.
            OSError, pyarrow.ArrowException: a Parquet file, or a store, cannot be read.
        """
        start = time.thread_time()
        done = _Collected()
        for part in block.parts:
            if self._job.kind is Kind.HASHES:
                self._scan_rows(part, done)
            else:
                self._scan_file(part, done)
        return done.of(block, start)

    def _check(self) -> None:
        if self._stopped.is_set():
            raise ScanStopped

    def _scan_file(self, part: Part, done: "_Collected") -> None:
        self._check()
        path = Path(part.name)
        try:
            check_video_size(part.size, LIMITS)  # before it is fetched
            with self._where.at_hand(part.name) as at:
                item = self._hash(at)
        except FileRefused as refusal:
            self._check()  # a child that was stopped refuses what it was at
            if isinstance(refusal, UnsupportedFormat):
                done.foreign += 1
            else:
                reason = " ".join(str(refusal).split())
                done.refuse(part.name, refusal.code, reason)
            return
        done.scanned += 1
        for _, outcome in look_up([(path, item)], self._still.query, None):
            assert not isinstance(outcome, FileRefused)  # noqa: S101 - it was hashed
            found = [match for _, match in outcome.found if isinstance(match, Match)]
            done.add_file(part.name, found, named=bool(self._still.tables))

    def _hash(self, path: Path) -> Item:
        job = self._job
        # the trimmed picture as well, as in `nciihash match`
        if job.sandboxed:
            return self._box.hash_file(path, variants="match", signals=job.signals, fast=job.fast)
        # loads the decoders, which this was told to use
        from nciihash.hashing.hasher import hash_file

        return hash_file(path, variants="match", signals=job.signals, fast=job.fast)

    def _scan_rows(self, part: Part, done: "_Collected") -> None:
        """Look for the hashes of some row groups."""
        from pyarrow import parquet

        with self._where.opened(part.name) as opened, parquet.ParquetFile(opened) as file:
            wanted = ("type", "value", *_CARRIED)
            columns = [name for name in wanted if name in file.schema_arrow.names]
            groups = range(part.first, part.last)
            row, left = part.row, _NAMED
            # in this thread: the other cores have blocks of their own
            batches = file.iter_batches(_ROWS, groups, columns, use_threads=False)
            for batch in batches:
                self._check()
                left = self._scan_batch(part.name, row, batch, done, left)
                row += len(batch)
        if row != part.row + part.count:
            raise OSError(f"{part.name} was changed since the scan began")

    def _scan_batch(
        self, source: str, row: int, batch: "pa.RecordBatch", done: "_Collected", left: int
    ) -> int:
        """Look for the hashes of some rows; name up to `left` that hold none, give what is left."""
        import pyarrow.compute as pc

        types = plain(batch.column("type"))
        values = plain(batch.column("value"))
        good = 0
        found = []
        for type, rows in by_type(types):
            places, hashes = packed(type, values, rows)
            good += len(places)
            near = self._still.near(type, hashes)
            if len(near.query):
                found.append((type, near, places[near.query]))
        done.scanned += good
        if bad := len(batch) - good:
            done.failed["bad_hash"] += bad
            for place in not_hashes(types, values)[:left]:
                name = f"row {row + place:,} of {file_name(source)}"
                done.refused.append(FileRefusal(name, "bad_hash", "It holds no hash of its type."))
                left -= 1
        if found:
            columns = [
                pc.cast(plain(batch.column(name)), COLUMNS[name])
                if name in batch.schema.names
                else None
                for name in _CARRIED
            ]
            done.add_rows(source, row, _Queries(*columns), found, self._still)
        return left


@dataclass(frozen=True, slots=True)
class _Queries:
    """Columns of a batch: the files, the bytes of their names, and seconds that hashes are of."""

    files: "pa.Array"
    bytes: "pa.Array | None"
    times: "pa.Array | None"


class _Collected:
    """What a block has given so far."""

    def __init__(self) -> None:
        self.scanned = self.foreign = 0
        self.failed: Counter[str] = Counter()
        self.refused: list[FileRefusal] = []
        self._tables: list[pa.Table] = []

    def refuse(self, name: str, code: str, reason: str) -> None:
        self.failed[code] += 1
        self.refused.append(FileRefusal(name, code, reason))

    def add_file(self, name: str, found: list[Match], *, named: bool) -> None:
        """Add what a file matches; of an index file neither items nor variants are known."""
        rows = [
            {
                **name_fields(name),
                "id": match.id,
                "item": match.item if named else None,
                "type": match.type.value,
                "variant": match.variant.value if named else None,
                "distance": match.distance,
                "band": match.band.value,
            }
            for match in found
        ]
        if rows:
            self._tables.append(_table({c: [r.get(c) for r in rows] for c in COLUMNS}))

    def add_rows(
        self,
        source: str,
        row: int,
        queries: _Queries,
        found: list[tuple[SignalType, NearPairs, NDArray[np.int64]]],
        still: FrozenBank,
    ) -> None:
        """Add what the hashes of some rows match, in the order of rows."""
        import pyarrow as pa

        tables = []
        for type, near, places in found:
            count = len(places)
            strong = near.distance.astype(np.int64) * 2 <= type.threshold + 1  # signals.band
            taken = pa.array(places)
            columns = {
                "source": [file_name(source)] * count,
                "row": places + row,
                "file": queries.files.take(taken),
                "file_bytes": None if queries.bytes is None else queries.bytes.take(taken),
                "time": None if queries.times is None else queries.times.take(taken),
                "id": still.names(type, near.row),
                "item": still.items(type, near.row),
                "type": [type.value] * count,
                "variant": still.variants(type, near.row),
                "distance": near.distance.astype(np.int16),
                "band": np.where(strong, "strong", "likely").tolist(),
            }
            nothing = [None] * count
            tables.append(_table({k: nothing if v is None else v for k, v in columns.items()}))
        table = pa.concat_tables(tables)
        if len(tables) > 1:  # each is in the order of rows
            order = np.argsort(table.column("row").to_numpy(), kind="stable")
            table = table.take(pa.array(order))
        self._tables.append(table)

    def of(self, block: Block, start: float) -> BlockResult:
        import pyarrow as pa

        matches = pa.concat_tables(self._tables) if self._tables else _schema().empty_table()
        return BlockResult(
            number=block.number,
            scanned=self.scanned,
            foreign=self.foreign,
            failed=self.failed,
            refused=tuple(self.refused),
            seconds=time.thread_time() - start,
            matches=matches,
        )


def open_scanner(job: Job) -> Scanner:
    """Open and check the bank, and open the source, of a job: each once in a process.

    Raises:
        BankError: this machine sees another bank than the one that the scan began with, or none.
        BankCorrupt, IndexFileInvalid, OSError: it cannot be opened.
        ExtraMissing, SourceInvalid: a package for the source is not installed here.
    """
    return Scanner(job, open_bank(job, verify=True), store(job.source))


def open_bank(job: Job, *, verify: bool) -> FrozenBank:
    """Open a job's bank, if it is the one that the scan began with.

    Args:
        job: what to scan and how.
        verify: as `FrozenBank.open` takes it.

    Raises:
        BankError, BankCorrupt, IndexFileInvalid, OSError: as `open_scanner` does.
    """
    path = Path(job.bank)
    if fingerprint(path) != job.fingerprint:
        raise BankError(f"{path} is another bank here than the one that this scan began with.")
    return FrozenBank.open(path, verify=verify)


def _schema() -> "pa.Schema":
    import pyarrow as pa

    return pa.schema([(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()])


def _table(columns: dict[str, object]) -> "pa.Table":
    import pyarrow as pa

    return pa.table(columns, schema=_schema())
