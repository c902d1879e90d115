"""Exact radius search among packed hashes, with the same results as brute force."""

import operator
import threading
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from nciihash.errors import IndexFileInvalid, InvalidSignal
from nciihash.search import index_file
from nciihash.search.backend import backend, kernel
from nciihash.search.index_file import IndexFile
from nciihash.search.segments import TABLES_FROM, WIDTHS, Segment, merge, scan, scrambled

__all__ = ["WIDTHS", "Index", "Matches", "backend"]

# `add` itself merges segments smaller than this, so that each is at least twice as long as the next
# and none is shorter than a sixteenth of this size; that costs some ten microseconds per call.
# Larger segments are merged in the background, so that each is at least _GROWTH times as long as
# all shorter ones together.
_SMALL: Final = 4096
_GROWTH: Final = 8
# With more segments than this, `add` first waits for the background merges.
_SEGMENTS_MAX: Final = 16

# How many more bits of a signature may differ in a search for candidates than the radius requires,
# in sixteenths of a bit per table (see Request in kernel/kernel.hpp). More finds more true pairs
# beyond the radius and compares more rows. This is the most with which a query takes at most 1.3
# times as long; benchmarks/results/candidates.md has the share found and the time for others.
CANDIDATE_SLACK: Final = 20

# Looked up once: a query takes ten microseconds, of which the lookups would take one.
_U8: Final = np.dtype(np.uint8)
_U16: Final = np.dtype(np.uint16)
_I64: Final = np.dtype(np.int64)
_U64: Final = np.dtype(np.uint64)
_array: Final = np.ndarray


class Matches(NamedTuple):
    """The matches of a batch of queries, sorted by query, then distance, then id.

    In an answer to a query for candidates these are the rows with `distances` above the radius.

    Attributes:
        offsets: int64 (q + 1,); rows `offsets[i]` to `offsets[i + 1]` are the matches of query i.
        ids: uint64 (m,).
        distances: uint16 (m,), in bits.
    """

    offsets: NDArray[np.int64]
    ids: NDArray[np.uint64]
    distances: NDArray[np.uint16]

    @property
    def queries(self) -> NDArray[np.int64]:
        """The index of each match's query in the batch, int64 (m,)."""
        return np.repeat(np.arange(len(self.offsets) - 1, dtype=np.int64), np.diff(self.offsets))


class Index:
    """A set of packed hashes with 64-bit ids, searched exactly.

    Any number of threads may query while others add and remove. Rows are stored in immutable
    segments. A change creates new segments and replaces the tuple of segments in one assignment;
    a query reads that tuple once, so that it sees each call of `add` or `remove` entirely or not at
    all, and never blocks. Writers block one another. A removal only marks rows. They are dropped
    when segments are merged, which happens soon after half of a segment is removed, and always when
    the index is saved. Merges run in a background thread that exists only while it has work.

    Args:
        bits: the length of a hash, one of `WIDTHS`.
        compact: build tables for every second chunk only: 48 bytes per hash less, slower searches.

    Raises:
        ValueError: another number of bits, or 144 bits with `compact`.
    """

    __slots__ = ("_bits", "_file", "_handles", "_merger", "_segments", "_stride", "_write_lock")

    def __init__(self, bits: int = 256, *, compact: bool = False) -> None:
        if bits not in WIDTHS:
            raise ValueError(f"Hashes in an index have {WIDTHS} bits, not {bits}.")
        if compact and bits % 32:
            raise ValueError(f"An index of {bits}-bit hashes cannot be compact.")
        self._bits = bits
        self._stride = 2 if compact else 1
        self._file: IndexFile | None = None
        self._write_lock = threading.Lock()
        self._merger: threading.Thread | None = None
        self._publish(())

    @classmethod
    def open(cls, path: str | PathLike[str]) -> Self:
        """Map a saved index into memory; its header is verified, its sections on demand.

        The index can be changed; changes stay in memory and never modify the file. The file's pages
        are shared by all processes that map it. If the file was saved without the kernel, its
        missing tables are built in the background. `verify` checks the sections.

        Raises:
            IndexFileInvalid: the file is truncated, damaged, foreign, newer, or of another byte
                order.
            OSError: the file cannot be opened.
        """
        file = IndexFile.open(Path(path))
        segment = file.segment
        tables = segment.tables
        compact = tables is not None and 2 * len(tables.offsets) == file.bits // 16
        index = cls(file.bits, compact=compact)
        index._file = file
        try:
            segment = segment.with_planes() if tables is None else segment.with_handle()
        except ValueError as error:
            raise IndexFileInvalid(
                f"{path} has tables of an unknown form. Rebuild it from its source."
            ) from error
        if len(segment):
            with index._write_lock:
                index._publish((segment,))
                index._start_merging()
        return index

    @property
    def bits(self) -> int:
        """Length of a hash in bits."""
        return self._bits

    @property
    def compact(self) -> bool:
        """Whether tables are built for every second chunk only."""
        return self._stride == 2

    @property
    def nbytes(self) -> int:
        """Bytes of hashes, ids, tables and bitmaps, in memory or mapped."""
        return sum(segment.nbytes for segment in self._segments)

    def __len__(self) -> int:
        """Return the number of hashes."""
        return sum(len(segment) for segment in self._segments)

    def __contains__(self, id: object) -> bool:
        """Whether an id is in the index; False for anything but an unsigned 64-bit integer."""
        if not isinstance(id, (int, np.integer)) or not 0 <= id < 1 << 64:
            return False
        wanted = np.array([id], dtype=np.uint64)
        return any(segment.find(wanted)[0][0] for segment in self._segments)

    def add(self, ids: NDArray[np.uint64], packed: NDArray[np.uint8]) -> None:
        """Add hashes: all of them or, after an error, none.

        Args:
            ids: uint64 (n,), distinct and not in the index.
            packed: uint8 (n, bits // 8), most significant bit first.

        Raises:
            InvalidSignal: `packed` is not such an array.
            ValueError: `ids` is not such an array, or an id is a duplicate.
        """
        _check_ids(ids)
        self._check(packed)
        if len(ids) != len(packed):
            raise ValueError(f"{len(ids)} ids for {len(packed)} hashes: pass one id per hash.")
        if not len(ids):
            return
        new = Segment.build(ids.copy(), scrambled(packed), self._stride)
        duplicates = new.ids[1:][new.ids[1:] == new.ids[:-1]]
        if len(self._segments) > _SEGMENTS_MAX:
            self.settle()
        with self._write_lock:
            segments = self._segments
            for segment in segments:
                if len(duplicates):
                    break
                duplicates = new.ids[segment.find(new.ids)[0]]
            if len(duplicates):
                raise ValueError(
                    f"The id {duplicates[0]} is in the index already or was given twice. "
                    "Remove it first, or use another id."
                )
            merging, rows = [new], len(new.ids)
            while segments and rows < _SMALL:
                last = len(segments[-1].ids)
                if last >= _SMALL or last >= max(_SMALL // 16, 2 * rows):
                    break
                merging.insert(0, segments[-1])
                rows += last
                segments = segments[:-1]
            if len(merging) > 1:
                new = merge(merging, self._stride)
            self._publish((*segments, new))
            self._start_merging()

    def remove(self, ids: NDArray[np.uint64]) -> int:
        """Remove hashes and return how many were in the index. Unknown ids are ignored.

        Args:
            ids: uint64 (n,); duplicates count once.

        Raises:
            ValueError: `ids` is not such an array.
        """
        _check_ids(ids)
        wanted = np.unique(ids)
        removed = 0
        with self._write_lock:
            segments = []
            for segment in self._segments:
                found, rows = segment.find(wanted)
                wanted = wanted[~found]
                removed += len(rows)
                rest = segment.without(rows) if len(rows) else segment
                if len(rest.ids) < _SMALL and len(rest) * 2 <= len(rest.ids):
                    rest = merge([rest], self._stride)
                if len(rest):
                    segments.append(rest)
            if removed:
                self._publish(tuple(segments))
                self._start_merging()
        return removed

    def query(
        self,
        packed: NDArray[np.uint8],
        radius: int = 31,
        *,
        candidates: int | None = None,
        threads: int | None = None,
    ) -> Matches:
        """Find all hashes within `radius` bits of each query, and optionally some beyond it.

        With `candidates`, hashes between `radius` and `candidates` bits from the query are also
        reported if the search for those within the radius meets them: at radius 31 nearly all at 40
        bits, about half at 60 (benchmarks/results/candidates.md). Which ones may differ between
        backends and after merges. Segments without tables, and NumPy, report all of them.

        Working memory grows with the batch and the number of matches, not with the index.

        Args:
            packed: uint8 (q, bits // 8).
            radius: the distance in bits up to which all hashes are reported.
            candidates: the largest distance of candidates, in bits; None for no candidates.
            threads: the most threads to use for the batch; by default one per available CPU.

        Raises:
            InvalidSignal: `packed` is not such an array.
            ValueError: `radius` is negative, `candidates` is less than `radius`, or `threads` is
                less than 1.
            IndexFileInvalid: the tables of a mapped file are damaged.
        """
        self._check(packed)
        radius = operator.index(radius)
        if radius < 0:
            raise ValueError("The radius must be 0 or more bits.")
        reach = radius if candidates is None else operator.index(candidates)
        if reach < radius:
            raise ValueError("Candidates must be allowed at least the radius.")
        if reach > self._bits:
            radius, reach = min(radius, self._bits), self._bits
        if threads is not None and threads < 1:
            raise ValueError("A query needs at least one thread.")
        if kernel is None:
            return Matches(*scan(self._segments, scrambled(packed), reach))
        try:
            if candidates is None:
                result = kernel.query(self._handles, packed, radius, threads or 0)
            else:
                result = kernel.query(
                    self._handles, packed, radius, threads or 0, reach=reach, slack=CANDIDATE_SLACK
                )
        except ValueError as error:
            name = "the index" if self._file is None else str(self._file.path)
            raise IndexFileInvalid(
                f"The tables of {name} are damaged. Rebuild it from its source."
            ) from error
        return _matches(result, len(packed))

    def settle(self) -> None:
        """Wait until all merges are done. Queries and changes do not require it."""
        while (merger := self._merger) is not None and merger.is_alive():
            merger.join()

    def save(self, path: str | PathLike[str]) -> None:
        """Write the index to a file of mode 0600, atomically replacing an existing one.

        The file is durable when this returns; until then, and after an error, an existing file is
        unchanged. Processes that have mapped the old file keep it. Several segments are merged
        first, which temporarily doubles the memory.

        Raises:
            OSError: the file cannot be written.
        """
        segments = self._segments
        if len(segments) == 1 and segments[0].removed is None:
            segment = segments[0]
        elif segments:
            segment = merge(segments, self._stride)
        else:
            rows = np.empty((0, self._bits // 8), dtype=np.uint8)
            segment = Segment(np.empty(0, dtype=np.uint64), rows)
        index_file.write(Path(path), self._bits, segment)

    def verify(self) -> None:
        """Verify the checksums of the file from which this index was opened, if any.

        Raises:
            IndexFileInvalid: the file is damaged.
        """
        if self._file is not None:
            self._file.verify()

    def _check(self, packed: NDArray[np.uint8]) -> None:
        size = self._bits // 8
        if (
            not isinstance(packed, _array)
            or packed.dtype != _U8
            or packed.ndim != 2
            or packed.shape[1] != size
        ):
            raise InvalidSignal(
                f"{self._bits}-bit hashes must be a uint8 array of shape (n, {size}), one per row."
            )

    # --- called with self._write_lock held, except `_merge`, which the background thread runs ---

    def _publish(self, segments: tuple[Segment, ...]) -> None:
        # longest first, as `add` and `_plan` expect
        segments = tuple(sorted(segments, key=lambda segment: -len(segment.ids)))
        self._segments = segments
        self._handles: tuple[Any, ...] = tuple(segment.handle for segment in segments)

    def _start_merging(self) -> None:
        """Start the background thread if there is something to merge and it is not running."""
        if (self._merger is None or not self._merger.is_alive()) and _plan(self._segments):
            self._merger = threading.Thread(target=self._merge, name="nciihash-merge")
            self._merger.start()

    def _merge(self) -> None:
        """Merge until nothing is left to merge, without the lock during the merges themselves."""
        while True:
            with self._write_lock:
                plan = _plan(self._segments)
                if not plan:
                    self._merger = None
                    return
            merged = merge(plan, self._stride)
            with self._write_lock:
                self._replace(plan, merged)

    def _replace(self, plan: Sequence[Segment], merged: Segment) -> None:
        """Replace the sources of a merged segment by it, without rows removed in the meantime."""
        current = {id(segment.ids): segment for segment in self._segments}
        removed_ids = []
        for old in plan:
            new = current.get(id(old.ids))
            if new is old:
                continue
            rows = np.arange(len(old.ids))
            removed = old.is_live(rows)
            if new is not None:
                removed &= ~new.is_live(rows)
            removed_ids.append(old.ids[removed])
        if removed_ids:
            merged = merged.without(merged.find(np.concatenate(removed_ids))[1])
        sources = {id(segment.ids) for segment in plan}
        kept = [segment for segment in self._segments if id(segment.ids) not in sources]
        if len(merged):
            kept.append(merged)
        self._publish(tuple(kept))


def _plan(segments: Sequence[Segment]) -> Sequence[Segment]:
    """Return the segments to merge next, if any.

    Of the large segments, longest first, these are the first that is less than _GROWTH times as
    long as all after it together, and all after it. Otherwise one segment of which half is removed,
    or one that should have tables and has none.
    """
    large = [segment for segment in segments if len(segment.ids) >= _SMALL]
    following = 0
    first = len(large)
    for position in range(len(large) - 1, -1, -1):
        if following and len(large[position].ids) < _GROWTH * following:
            first = position
        following += len(large[position].ids)
    if first < len(large):
        return large[first:]
    for segment in large:
        tables_missing = kernel is not None and segment.tables is None
        if len(segment) * 2 <= len(segment.ids) or (tables_missing and len(segment) >= TABLES_FROM):
            return [segment]
    return []


def _matches(result: bytearray, queries: int) -> Matches:
    """View the kernel's result, laid out as described in kernel/bindings.cpp, as three arrays."""
    start = 8 * (queries + 1)
    count = (len(result) - start) // 10
    arrays = (
        _array(queries + 1, _I64, result),
        _array(count, _U64, result, start),
        _array(count, _U16, result, start + 8 * count),
    )
    return tuple.__new__(Matches, arrays)  # the same as `Matches(*arrays)`, in half the time


def _check_ids(ids: NDArray[np.uint64]) -> None:
    if not isinstance(ids, np.ndarray) or ids.dtype != np.uint64 or ids.ndim != 1:
        raise ValueError("Ids must be a 1-dimensional uint64 array.")
