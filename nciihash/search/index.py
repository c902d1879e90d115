"""Exact search among packed hashes: everything within a radius, as brute force would find it."""

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
from nciihash.search.backend import backend, search
from nciihash.search.index_file import IndexFile
from nciihash.search.segments import TABLES_FROM, WIDTHS, Segment, merge, scan, scrambled

__all__ = ["WIDTHS", "Index", "Matches", "backend"]

# Segments smaller than this are merged by the call of `add` itself, each at least twice as long as
# the next and none shorter than a sixteenth; that costs some ten microseconds a call. Larger ones
# are merged in the background, where each is at least eight times as long as all that follow.
_SMALL: Final = 4096
_GROWTH: Final = 8
# An `add` that would make more segments than this waits for the background to catch up.
_MOST: Final = 16

# Found once: a query takes ten microseconds, of which looking these up would take one.
_U8: Final = np.dtype(np.uint8)
_U16: Final = np.dtype(np.uint16)
_I64: Final = np.dtype(np.int64)
_U64: Final = np.dtype(np.uint64)
_array: Final = np.ndarray


class Matches(NamedTuple):
    """What each query of a batch found: rows `offsets[i]` to `offsets[i + 1]` belong to query i.

    `offsets`: int64 (q + 1,). `ids`: uint64 (m,). `distances`: uint16 (m,), in bits. Within a
    query they are sorted by distance, then by id.
    """

    offsets: NDArray[np.int64]
    ids: NDArray[np.uint64]
    distances: NDArray[np.uint16]


class Index:
    """A set of packed hashes under 64-bit ids, searched exactly.

    Any number of threads may query while others add and remove. The rows live in immutable
    segments; a change makes new ones beside them and swaps the tuple of segments in a single
    assignment, so that a query, which reads that tuple once, sees each call of `add` or `remove`
    entirely or not at all, and never waits. Writers wait for one another. A removal marks rows;
    they are left out when segments merge, soon where half of one is gone, and always when the
    index is saved. Merging goes on in a thread that lives only while there is something to merge.

    Args:
        bits: how long a hash is, one of `WIDTHS`.
        compact: make tables of every second chunk only: 48 bytes a hash less, slower searches.

    Raises:
        ValueError: another number of bits, or 144 bits, of which no compact form is known.
    """

    __slots__ = ("_bits", "_engines", "_file", "_merger", "_segments", "_stride", "_writing")

    def __init__(self, bits: int = 256, *, compact: bool = False) -> None:
        if bits not in WIDTHS:
            raise ValueError(f"An index holds hashes of {WIDTHS} bits, not of {bits}.")
        if compact and bits % 32:
            raise ValueError(f"Hashes of {bits} bits have no compact form.")
        self._bits = bits
        self._stride = 2 if compact else 1
        self._file: IndexFile | None = None
        self._writing = threading.Lock()
        self._merger: threading.Thread | None = None
        self._publish(())

    @classmethod
    def open(cls, path: str | PathLike[str]) -> Self:
        """Map a saved index into memory: checked header, sections unread until they are searched.

        The index can be added to and removed from; the file never changes by that. Its pages are
        shared with every process that maps it. A file that was saved without tables, by an
        installation without the kernel, gets them in the background where the kernel is.

        Raises:
            IndexFileInvalid: truncated, damaged, foreign, newer, or of another byte order.
            OSError: the file cannot be opened.
        """
        file = IndexFile.open(Path(path))
        segment = file.segment
        tables = segment.tables
        compact = tables is not None and 2 * len(tables.offsets) == file.bits // 16
        index = cls(file.bits, compact=compact)
        index._file = file
        try:
            segment = segment.sliced() if tables is None else segment.attached()
        except ValueError as error:
            raise IndexFileInvalid(f"The tables in {path} are unknown here.") from error
        if len(segment):
            with index._writing:
                index._publish((segment,))
                index._wake()
        return index

    @property
    def bits(self) -> int:
        """Give the length of a hash in bits."""
        return self._bits

    @property
    def compact(self) -> bool:
        """Tell whether tables are made of every second chunk only."""
        return self._stride == 2

    @property
    def nbytes(self) -> int:
        """Give the bytes that hashes, ids, tables and marks take, in memory or mapped."""
        return sum(segment.nbytes for segment in self._segments)

    def __len__(self) -> int:
        """Count the hashes."""
        return sum(len(segment) for segment in self._segments)

    def __contains__(self, id: object) -> bool:
        """Tell whether an id is in. What is no integer of 64 bits is not."""
        if not isinstance(id, (int, np.integer)) or not 0 <= id < 1 << 64:
            return False
        wanted = np.array([id], dtype=np.uint64)
        return any(segment.find(wanted)[0][0] for segment in self._segments)

    def add(self, ids: NDArray[np.uint64], packed: NDArray[np.uint8]) -> None:
        """Add hashes, all of them or, after an error, none.

        Args:
            ids: uint64 (n,), any values that are not in and differ from one another.
            packed: uint8 (n, bits // 8), most significant bit first.

        Raises:
            InvalidSignal: `packed` is not such an array.
            ValueError: `ids` is not such an array, or an id is there twice.
        """
        _check_ids(ids)
        self._check(packed)
        if len(ids) != len(packed):
            raise ValueError(f"{len(ids)} ids do not name {len(packed)} hashes: give one for each.")
        if not len(ids):
            return
        new = Segment.of(ids.copy(), scrambled(packed), self._stride)
        twice = new.ids[1:][new.ids[1:] == new.ids[:-1]]
        if len(self._segments) > _MOST:
            self.settle()
        with self._writing:
            segments = self._segments
            for segment in segments:
                if len(twice):
                    break
                twice = new.ids[segment.find(new.ids)[0]]
            if len(twice):
                raise ValueError(
                    f"The id {twice[0]} is in the index already or was given twice. "
                    "Remove it first, or add under another id."
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
            self._wake()

    def remove(self, ids: NDArray[np.uint64]) -> int:
        """Remove hashes and tell how many were in. An unknown id is passed over.

        Args:
            ids: uint64 (n,); an id that is there twice counts once.

        Raises:
            ValueError: `ids` is not such an array.
        """
        _check_ids(ids)
        wanted = np.unique(ids)
        removed = 0
        with self._writing:
            segments = []
            for segment in self._segments:
                found, rows = segment.find(wanted)
                wanted = wanted[~found]
                removed += len(rows)
                left = segment.without(rows) if len(rows) else segment
                if len(left.ids) < _SMALL and len(left) * 2 <= len(left.ids):
                    left = merge([left], self._stride)
                if len(left):
                    segments.append(left)
            if removed:
                self._publish(tuple(segments))
                self._wake()
        return removed

    def query(
        self, packed: NDArray[np.uint8], radius: int = 31, *, threads: int | None = None
    ) -> Matches:
        """Find everything within `radius` bits of each query.

        Working memory does not grow with the bank, only with the batch and with what is found.

        Args:
            packed: uint8 (q, bits // 8).
            radius: the largest distance in bits that is still reported.
            threads: how many may work on a batch; by default as many as this process may use.

        Raises:
            InvalidSignal: `packed` is not such an array.
            ValueError: the radius is negative, or there are fewer threads than one.
            IndexFileInvalid: the tables of a mapped file turn out to be damaged.
        """
        self._check(packed)
        radius = operator.index(radius)
        if radius > self._bits:
            radius = self._bits
        if radius < 0:
            raise ValueError("A radius is a number of bits, 0 or more.")
        if threads is not None and threads < 1:
            raise ValueError("A query needs at least one thread.")
        if search is None:
            return Matches(*scan(self._segments, scrambled(packed), radius))
        try:
            answer = search.query(self._engines, packed, radius, threads or 0)
        except ValueError as error:
            where = "the index" if self._file is None else str(self._file.path)
            raise IndexFileInvalid(f"The tables in {where} are damaged. Build it again.") from error
        return _matches(answer, len(packed))

    def settle(self) -> None:
        """Wait until nothing is left to merge. Queries and changes never need this."""
        while (merger := self._merger) is not None and merger.is_alive():
            merger.join()

    def save(self, path: str | PathLike[str]) -> None:
        """Write the index to a file of mode 0600, replacing the one that may be there.

        The file is complete on the disk when this returns; until then, and after any failure, the
        old one stands. Processes that have it open keep the old one. Where the index consists of
        several segments they are merged for the file, which takes as much memory again.

        Raises:
            OSError: the file cannot be written.
        """
        segments = self._segments
        if len(segments) == 1 and segments[0].gone is None:
            segment = segments[0]
        elif segments:
            segment = merge(segments, self._stride)
        else:
            rows = np.empty((0, self._bits // 8), dtype=np.uint8)
            segment = Segment(np.empty(0, dtype=np.uint64), rows)
        index_file.write(Path(path), self._bits, segment)

    def verify(self) -> None:
        """Check the file that this index was opened from against its checksums, byte by byte.

        An index that was not opened from a file has nothing to check.

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
                f"Hashes of {self._bits} bits are a uint8 array of shape (n, {size}), a row a hash."
            )

    # --- what follows is called with self._writing held, but for the background thread itself ---

    def _publish(self, segments: tuple[Segment, ...]) -> None:
        # longest first, as `add` and `_plan` expect
        segments = tuple(sorted(segments, key=lambda segment: -len(segment.ids)))
        self._segments = segments
        self._engines: tuple[Any, ...] = tuple(segment.engine for segment in segments)

    def _wake(self) -> None:
        """See that a thread is merging where something is to be merged."""
        if (self._merger is None or not self._merger.is_alive()) and _plan(self._segments):
            self._merger = threading.Thread(target=self._merge, name="nciihash-merge")
            self._merger.start()

    def _merge(self) -> None:
        """Merge until nothing is left to merge, holding up nobody."""
        while True:
            with self._writing:
                plan = _plan(self._segments)
                if not plan:
                    self._merger = None
                    return
            merged = merge(plan, self._stride)
            with self._writing:
                self._replace(plan, merged)

    def _replace(self, plan: Sequence[Segment], merged: Segment) -> None:
        """Put a merged segment in the place of its sources, less what was removed meanwhile."""
        now = {id(segment.ids): segment for segment in self._segments}
        since = []
        for old in plan:
            new = now.get(id(old.ids))
            if new is old:
                continue
            every = np.arange(len(old.ids))
            removed = old.living(every)
            if new is not None:
                removed &= ~new.living(every)
            since.append(old.ids[removed])
        if since:
            merged = merged.without(merged.find(np.concatenate(since))[1])
        sources = {id(segment.ids) for segment in plan}
        kept = [segment for segment in self._segments if id(segment.ids) not in sources]
        if len(merged):
            kept.append(merged)
        self._publish(tuple(kept))


def _plan(segments: Sequence[Segment]) -> Sequence[Segment]:
    """Choose the segments that are to be merged next, if any.

    Those are what follows, and does not fall short of an eighth of, the first one of its kind; else
    one of which half is gone, or one without tables that is due to have them.
    """
    large = [segment for segment in segments if len(segment.ids) >= _SMALL]
    following = 0
    first = len(large)
    for number in range(len(large) - 1, -1, -1):
        if following and len(large[number].ids) < _GROWTH * following:
            first = number
        following += len(large[number].ids)
    if first < len(large):
        return large[first:]
    for segment in large:
        untabled = search is not None and segment.tables is None
        if len(segment) * 2 <= len(segment.ids) or (untabled and len(segment) >= TABLES_FROM):
            return [segment]
    return []


def _matches(answer: bytearray, queries: int) -> Matches:
    """See the kernel's answer, whose form kernel/bindings.cpp tells, as three arrays."""
    start = 8 * (queries + 1)
    count = (len(answer) - start) // 10
    arrays = (
        _array(queries + 1, _I64, answer),
        _array(count, _U64, answer, start),
        _array(count, _U16, answer, start + 8 * count),
    )
    return tuple.__new__(Matches, arrays)  # what `Matches(*arrays)` comes to, in half the time


def _check_ids(ids: NDArray[np.uint64]) -> None:
    if not isinstance(ids, np.ndarray) or ids.dtype != np.uint64 or ids.ndim != 1:
        raise ValueError("Ids are a one-dimensional uint64 array.")
