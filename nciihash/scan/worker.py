"""Scan one block: match its parts against the bank, and collect rows of matches."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from nciihash.bank.frozen import FrozenBank, RowMatches, fingerprint
from nciihash.errors import BankError, FileRefused, UnsupportedFormat
from nciihash.media.limits import LIMITS
from nciihash.media.reading import check_video_size, file_name, name_fields
from nciihash.sandbox.parent import Sandbox
from nciihash.scan.parquet import dense, invalid_rows, masks_by_type, read_hashes
from nciihash.scan.plan import Block, FileRefusal, Kind, Part
from nciihash.scan.sources import ScanSource, open_source
from nciihash.sdk.match_fields import MATCH_COLUMNS, match_fields, match_row
from nciihash.sdk.matcher import Matcher
from nciihash.signals import Item, Level, Match, SignalType, VariantSet

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS: Final = 1 << 14  # hashes that are matched in one query
_EXAMPLES: Final = 20  # invalid rows that are named for a part of a Parquet file; all are counted

# The columns of results, with Arrow's names of their types. `source` and `row` are the Parquet file
# of a hash and its row there; `time` is the second of a video. `review` is null for hashes, whose
# pictures are not known.
COLUMNS: Final = {
    "source": "string",
    "row": "int64",
    "file": "string",
    "file_bytes": "string",
    "time": "float64",
    **MATCH_COLUMNS,
}
# The columns that are copied from a Parquet file of hashes to the results.
_COPIED: Final = ("file", "file_bytes", "time")


@dataclass(frozen=True, slots=True)
class Job:
    """What all blocks of a scan have in common; it is sent to other machines.

    Attributes:
        source: a path or a URL.
        kind: what the source holds.
        bank: path of a frozen bank.
        fingerprint: of that bank.
        signals: types of hash to compute from files.
        level: how thoroughly to search for files.
        fast: passed to `nciihash.hashing.hasher.hash_file`.
        sandboxed: open files in a child process.
    """

    source: str
    kind: Kind
    bank: str
    fingerprint: str
    signals: tuple[SignalType, ...]
    level: Level = Level.FAST
    fast: bool = False
    sandboxed: bool = True


@dataclass(frozen=True, slots=True)
class BlockResult:
    """The result of a block.

    Attributes:
        number: of the block.
        scanned: number of files or hashes that were matched.
        foreign: number of files that are neither pictures nor videos.
        failed: number of files or hashes that were refused, by code.
        refused: all files, and some rows of each Parquet file, that were refused.
        seconds: processor time of the block, without that of a child process.
        matches: an Arrow table with the columns `COLUMNS`.
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
    """Scans blocks, one at a time. Several scanners may share a bank.

    Args:
        job: what to scan and how.
        bank: the job's bank, open.
        source: the job's source.
    """

    def __init__(self, job: Job, bank: FrozenBank, source: ScanSource) -> None:
        self._job = job
        self._bank = bank
        self._matcher = Matcher(bank, level=job.level)
        self._source = source
        # one thread for decoding videos: other processors scan other blocks
        self._sandbox = Sandbox(replace(LIMITS, threads=1))
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Stop scanning, including the block that another thread is working on."""
        self._stopped.set()
        self._sandbox.stop()

    def close(self) -> None:
        """End the child process."""
        self._sandbox.close()

    def scan(self, block: Block) -> BlockResult:
        """Match everything in a block.

        Raises:
            ScanStopped: the scanner was stopped.
            SandboxUnavailable: the child process cannot start; nothing was decoded.
            OSError, pyarrow.ArrowException: a Parquet file, or a store, cannot be read.
        """
        start = time.thread_time()
        collected = _BlockCollector()
        for part in block.parts:
            if self._job.kind is Kind.HASHES:
                self._scan_rows(part, collected)
            else:
                self._scan_file(part, collected)
        return collected.result(block, start)

    def _check(self) -> None:
        if self._stopped.is_set():
            raise ScanStopped

    def _scan_file(self, part: Part, collected: "_BlockCollector") -> None:
        self._check()
        try:
            check_video_size(part.size, LIMITS)  # before it is downloaded
            with self._source.local_copy(part.name) as copy:
                item = self._hash(copy)
        except FileRefused as refusal:
            self._check()  # when the child is stopped, it refuses the file
            if isinstance(refusal, UnsupportedFormat):
                collected.foreign += 1
            else:
                reason = " ".join(str(refusal).split())
                collected.refuse(part.name, refusal.code, reason)
            return
        collected.scanned += 1
        collected.add_file(part.name, self._matcher.find(item), named=bool(self._bank.tables))

    def _hash(self, path: Path) -> Item:
        job, variants = self._job, VariantSet.MATCH.value  # as in `nciihash match`
        if job.sandboxed:
            return self._sandbox.hash_file(
                path, variants=variants, signals=job.signals, level=job.level, fast=job.fast
            )
        # loads the decoders into this process, as asked for
        from nciihash.hashing.hasher import hash_file

        return hash_file(
            path, variants=variants, signals=job.signals, level=job.level, fast=job.fast
        )

    def _scan_rows(self, part: Part, collected: "_BlockCollector") -> None:
        """Match the hashes of some row groups."""
        from pyarrow import parquet

        with self._source.open(part.name) as opened, parquet.ParquetFile(opened) as file:
            wanted = ("type", "value", *_COPIED)
            columns = [name for name in wanted if name in file.schema_arrow.names]
            groups = range(part.first, part.last)
            row, examples = part.row, _EXAMPLES
            # in this thread: the other cores scan other blocks
            batches = file.iter_batches(_ROWS, groups, columns, use_threads=False)
            for batch in batches:
                self._check()
                examples = self._scan_batch(part.name, row, batch, collected, examples)
                row += len(batch)
        if row != part.row + part.count:
            raise OSError(f"{part.name} has changed since the scan started")

    def _scan_batch(
        self,
        source: str,
        first: int,
        batch: "pa.RecordBatch",
        collected: "_BlockCollector",
        examples: int,
    ) -> int:
        """Match the hashes of some rows, and name invalid ones.

        Args:
            source: name of the Parquet file.
            first: number of the batch's first row in it.
            batch: the rows.
            collected: for the results.
            examples: number of invalid rows that may still be named.

        Returns:
            The number of invalid rows that may be named after these.
        """
        import pyarrow.compute as pc

        types = dense(batch.column("type"))
        values = dense(batch.column("value"))
        valid = 0
        matches = []
        for type, mask in masks_by_type(types):
            rows, hashes = read_hashes(type, values, mask)
            valid += len(rows)
            pairs = self._bank.near(type, hashes)
            if len(pairs.query):
                matches.append((type, pairs, rows[pairs.query]))
        collected.scanned += valid
        if invalid := len(batch) - valid:
            collected.failed["bad_hash"] += invalid
            for row in invalid_rows(types, values)[:examples]:
                name = f"row {first + row:,} of {file_name(source)}"
                reason = "It holds no valid hash of its type."
                collected.refused.append(FileRefusal(name, "bad_hash", reason))
                examples -= 1
        if matches:
            columns = [
                pc.cast(dense(batch.column(name)), COLUMNS[name])
                if name in batch.schema.names
                else None
                for name in _COPIED
            ]
            collected.add_rows(source, first, _Queries(*columns), matches, self._bank)
        return examples


@dataclass(frozen=True, slots=True)
class _Queries:
    """Columns of a batch: the files, the bytes of their names, and the seconds of a video."""

    files: "pa.Array"
    bytes: "pa.Array | None"
    times: "pa.Array | None"


class _BlockCollector:
    """Collects the results of a block."""

    def __init__(self) -> None:
        self.scanned = self.foreign = 0
        self.failed: Counter[str] = Counter()
        self.refused: list[FileRefusal] = []
        self._tables: list[pa.Table] = []

    def refuse(self, name: str, code: str, reason: str) -> None:
        self.failed[code] += 1
        self.refused.append(FileRefusal(name, code, reason))

    def add_file(self, name: str, matches: list[Match], *, named: bool) -> None:
        """Add the matches of a file.

        Args:
            name: of the file.
            matches: of its hashes.
            named: whether items and variants are known, which an index file does not hold.
        """
        unknown = {} if named else {"item": None, "variant": None}
        rows = []
        for match in matches:
            fields = match_fields(match.type, match)
            row = {**name_fields(name), "time": fields.get("time"), **match_row(fields), **unknown}
            rows.append(row)
        if rows:
            self._tables.append(_table({c: [r.get(c) for r in rows] for c in COLUMNS}))

    def add_rows(
        self,
        source: str,
        first: int,
        queries: _Queries,
        matches: list[tuple[SignalType, RowMatches, NDArray[np.int64]]],
        bank: FrozenBank,
    ) -> None:
        """Add the matches of a batch of rows, in the order of the rows.

        Args:
            source: name of the Parquet file.
            first: number of the batch's first row in it.
            queries: columns of the batch.
            matches: for each type the pairs that are near, and the row of each pair in the batch.
            bank: for the names of the signals.
        """
        import pyarrow as pa

        tables = []
        for type, pairs, rows in matches:
            count = len(rows)
            strong = pairs.distance.astype(np.int64) * 2 <= type.threshold + 1  # signals.band
            indices = pa.array(rows)
            columns = {
                "source": [file_name(source)] * count,
                "row": rows + first,
                "file": queries.files.take(indices),
                "file_bytes": None if queries.bytes is None else queries.bytes.take(indices),
                "time": None if queries.times is None else queries.times.take(indices),
                "id": bank.names(type, pairs.row),
                "item": bank.items(type, pairs.row),
                "type": [type.value] * count,
                "variant": bank.variants(type, pairs.row),
                "distance": pairs.distance.astype(np.int16),
                "band": np.where(strong, "strong", "likely").tolist(),
            }
            nulls = [None] * count
            filled = ((name, columns.get(name)) for name in COLUMNS)
            tables.append(_table({k: nulls if v is None else v for k, v in filled}))
        table = pa.concat_tables(tables)
        if len(tables) > 1:  # each of them is in the order of rows
            order = np.argsort(table.column("row").to_numpy(), kind="stable")
            table = table.take(pa.array(order))
        self._tables.append(table)

    def result(self, block: Block, start: float) -> BlockResult:
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
    """Open the source of a job, and open and verify its bank, once in each process.

    Raises:
        BankError: this machine has no bank at that path, or not the one of the scan.
        BankCorrupt, IndexFileInvalid, OSError: the bank cannot be opened.
        ExtraMissing, SourceInvalid: a package for the source is not installed here.
    """
    return Scanner(job, open_bank(job, verify=True), open_source(job.source))


def open_bank(job: Job, *, verify: bool) -> FrozenBank:
    """Open a job's bank, if it is the one that the scan started with.

    Args:
        job: what to scan and how.
        verify: passed to `FrozenBank.open`.

    Raises:
        BankError, BankCorrupt, IndexFileInvalid, OSError: as `open_scanner` does.
    """
    path = Path(job.bank)
    if fingerprint(path) != job.fingerprint:
        raise BankError(f"{path} on this machine is not the bank that this scan started with.")
    return FrozenBank.open(path, verify=verify)


def _schema() -> "pa.Schema":
    import pyarrow as pa

    return pa.schema([(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()])


def _table(columns: dict[str, object]) -> "pa.Table":
    import pyarrow as pa

    return pa.table(columns, schema=_schema())
