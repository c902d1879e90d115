"""Exact search among packed hashes: everything within a radius, as brute force would find it."""

import operator
import threading
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from nciihash import indexfile
from nciihash.errors import IndexFileInvalid, InvalidSignal
from nciihash.indexfile import IndexFile
from nciihash.segments import Segment, merge

WIDTHS: Final = (64, 128, 144, 160, 256)  # bits that a hash may have

# Segments smaller than this are merged with every addition, so that a bank never consists of
# crumbs; copying one costs some tens of microseconds.
_SMALL: Final = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
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
    segments; a change builds new ones beside them and swaps the tuple of segments in a single
    assignment, so that a query, which reads that tuple once, sees each call of `add` or `remove`
    entirely or not at all. Writers wait for one another. A removal marks rows; they are left out
    when segments merge, at half-empty ones at once, and always when the index is saved.

    Args:
        bits: how long a hash is, one of `WIDTHS`.

    Raises:
        ValueError: another number of bits.
    """

    __slots__ = ("_bits", "_file", "_segments", "_writing")

    def __init__(self, bits: int = 256) -> None:
        if bits not in WIDTHS:
            raise ValueError(f"An index holds hashes of {WIDTHS} bits, not of {bits}.")
        self._bits = bits
        self._segments: tuple[Segment, ...] = ()
        self._file: IndexFile | None = None
        self._writing = threading.Lock()

    @classmethod
    def open(cls, path: str | PathLike[str]) -> Self:
        """Map a saved index into memory: checked header, sections unread until they are searched.

        The index can be added to and removed from; the file never changes by that. Its pages are
        shared with every process that maps it.

        Raises:
            IndexFileInvalid: truncated, damaged, foreign, newer, or of another byte order.
            OSError: the file cannot be opened.
        """
        file = IndexFile.open(Path(path))
        if file.bits not in WIDTHS or file.segment.words.shape[0] != -(-file.bits // 64):
            raise IndexFileInvalid(f"{path} holds hashes of {file.bits} bits, which are unknown.")
        index = cls(file.bits)
        index._file = file
        index._segments = (file.segment,) if len(file.segment) else ()
        return index

    @property
    def bits(self) -> int:
        """Give the length of a hash in bits."""
        return self._bits

    @property
    def nbytes(self) -> int:
        """Give the bytes that hashes, ids and marks take, in memory or mapped."""
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
        words = self._words(packed)
        if len(ids) != len(words):
            raise ValueError(f"{len(ids)} ids do not name {len(words)} hashes: give one for each.")
        if not len(ids):
            return
        new = Segment.of(ids, words)
        twice = new.ids[1:][new.ids[1:] == new.ids[:-1]]
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
            # Each segment is at least twice as long as the next: few to search, and a row is
            # copied a number of times that grows with the logarithm of the bank alone.
            merging = [new]
            while segments and len(segments[-1].ids) < max(
                _SMALL, 2 * sum(len(segment) for segment in merging)
            ):
                merging.insert(0, segments[-1])
                segments = segments[:-1]
            self._segments = (*segments, merge(merging) if len(merging) > 1 else new)

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
                if len(left):
                    segments.append(left)
            if removed:
                self._segments = tuple(segments)
        return removed

    def query(self, packed: NDArray[np.uint8], radius: int = 31) -> Matches:
        """Find everything within `radius` bits of each query.

        Working memory does not grow with the bank or the batch, only with what is found.

        Args:
            packed: uint8 (q, bits // 8).
            radius: the largest distance in bits that is still reported.

        Raises:
            InvalidSignal: `packed` is not such an array.
            ValueError: the radius is negative.
        """
        queries = self._words(packed)
        radius = min(operator.index(radius), self._bits)
        if radius < 0:
            raise ValueError("A radius is a number of bits, 0 or more.")
        hits = [hit for segment in self._segments for hit in segment.scan(queries, radius)]
        offsets = np.zeros(len(queries) + 1, dtype=np.int64)
        if not hits:
            return Matches(offsets, np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.uint16))
        numbers, ids, distances = (np.concatenate(column) for column in zip(*hits, strict=True))
        np.cumsum(np.bincount(numbers, minlength=len(queries)), out=offsets[1:])
        order = np.lexsort((ids, distances, numbers))
        return Matches(offsets, ids[order], distances[order])

    def save(self, path: str | PathLike[str]) -> None:
        """Write the index to a file of mode 0600, replacing the one that may be there.

        The file is complete on the disk when this returns; until then, and after any failure, the
        old one stands. Processes that have it open keep the old one.

        Raises:
            OSError: the file cannot be written.
        """
        none = Segment.of(
            np.empty(0, dtype=np.uint64), np.empty((0, -(-self._bits // 64)), dtype=np.uint64)
        )
        indexfile.write(Path(path), self._bits, self._segments or (none,))

    def verify(self) -> None:
        """Check the file that this index was opened from against its checksums, byte by byte.

        An index that was not opened from a file has nothing to check.

        Raises:
            IndexFileInvalid: the file is damaged.
        """
        if self._file is not None:
            self._file.verify()

    def _words(self, packed: NDArray[np.uint8]) -> NDArray[np.uint64]:
        """Check packed hashes and view them as words, copying them where they need padding."""
        size = self._bits // 8
        if (
            not isinstance(packed, np.ndarray)
            or packed.dtype != np.uint8
            or packed.ndim != 2
            or packed.shape[1] != size
        ):
            raise InvalidSignal(
                f"Hashes of {self._bits} bits are a uint8 array of shape (n, {size}), a row a hash."
            )
        if size % 8:
            packed = np.pad(packed, ((0, 0), (0, -size % 8)))
        return np.ascontiguousarray(packed).view(np.uint64)


def _check_ids(ids: NDArray[np.uint64]) -> None:
    if not isinstance(ids, np.ndarray) or ids.dtype != np.uint64 or ids.ndim != 1:
        raise ValueError("Ids are a one-dimensional uint64 array.")
