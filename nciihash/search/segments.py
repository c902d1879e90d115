"""Immutable segments, the parts of an index: hashes sorted by id, with a brute-force scan in NumPy.

Rows are stored scrambled, that is, with the bits of each hash permuted. The bits of a PDQ hash are
frequencies in rows of sixteen, and adjacent bits are correlated; the fixed permutation spreads them
evenly over the chunks that the tables look up. It does not change distances. Seen as 16 rows of
b / 16 columns, bit (i, c) moves to bit i, counted from the lowest, of the chunk j for which
c = (step * i + j) mod (b / 16).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import sqrt
from typing import Any, Final, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from nciihash.search.backend import kernel

WIDTHS: Final = (64, 128, 144, 160, 256)  # supported hash lengths in bits

# Pairs of query and row compared at once by NumPy. Working memory is about 12 bytes per pair,
# whatever the size of the bank and the batch. Larger blocks exceed the cache, smaller ones need
# more calls.
_BLOCK: Final = 1 << 16

# Rows from which tables are worth their memory; below, a flat scan takes a few microseconds.
TABLES_FROM: Final = 16384

# Rows from which buckets are long enough (64 entries) that three in ten of their cache lines can be
# skipped, at the cost of three more words per offset (see window_bounds in kernel/kernel.hpp).
WINDOWS_FROM: Final = 1 << 22

# Entries after the last signature that the kernel may read.
SIG_PADDING: Final = 64


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """The kernel's hash tables, each with every row under one chunk of its hash.

    Attributes:
        offsets: uint32 (t, (2^k + 1) * w), where each key's bucket starts; w = `words`.
        refs: uint32 (t, n), row numbers sorted by key.
        sigs: uint16 (t * n + SIG_PADDING,), the signatures of these rows: their next chunks.
    """

    offsets: NDArray[np.uint32]
    refs: NDArray[np.uint32]
    sigs: NDArray[np.uint16]

    @property
    def words(self) -> int:
        """Words per offset: 4 if buckets have windows, else 1."""
        return 1 if self.offsets.shape[1] % 4 else 4

    @property
    def key_bits(self) -> int:
        """Bits per key."""
        return int(self.offsets.shape[1] // self.words - 1).bit_length() - 1

    @property
    def nbytes(self) -> int:
        """Size of the arrays in bytes."""
        return self.offsets.nbytes + self.refs.nbytes + self.sigs.nbytes


def key_bits(count: int) -> int:
    """Return how many bits of a chunk to use as the key: offsets stay smaller than the rows."""
    return min(16, max(8, count.bit_length() - 4))


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Immutable rows. A removal returns a new Segment that shares them.

    Attributes:
        ids: uint64 (n,), ascending.
        rows: uint8 (n, b), scrambled.
        tables: the kernel's hash tables; None in small segments and without the kernel.
        planes: the kernel's bit-sliced copy of the rows of a segment without tables.
        removed: a bitmap of the removed rows, most significant bit first; None if there are none.
        removed_count: how many those are.
        handle: the kernel's object for these arrays.
    """

    ids: NDArray[np.uint64]
    rows: NDArray[np.uint8]
    tables: Tables | None = None
    planes: NDArray[np.uint64] | None = None
    removed: NDArray[np.uint8] | None = None
    removed_count: int = 0
    handle: Any = None

    @classmethod
    def build(cls, ids: NDArray[np.uint64], rows: NDArray[np.uint8], stride: int = 1) -> Self:
        """Build a segment from ids in any order and scrambled rows, which are not copied.

        Many rows get tables of every `stride`-th chunk, if the kernel is available.
        """
        if not (ids[1:] > ids[:-1]).all():
            order = np.argsort(ids)
            ids, rows = ids[order], rows[order]
        if kernel is None:
            return cls(ids, rows)
        if len(ids) < TABLES_FROM:
            return cls(ids, rows).with_planes()
        arrays = kernel.build(rows, key_bits(len(ids)), stride, len(ids) >= WINDOWS_FROM, 0)
        return cls(ids, rows, Tables(*arrays)).with_handle()

    def with_planes(self) -> Self:
        """Add the bit-sliced copy, if the kernel is available and the rows are few."""
        if kernel is None or len(self.ids) >= TABLES_FROM:
            return self.with_handle()
        return replace(self, planes=kernel.slice_rows(self.rows)).with_handle()

    def with_handle(self) -> Self:
        """Add the kernel's handle for the arrays, if the kernel is available.

        Raises:
            ValueError: the sizes of the arrays are inconsistent.
        """
        if kernel is None:
            return self
        tables = self.tables
        arrays = (None,) * 3 if tables is None else (tables.offsets, tables.refs, tables.sigs)
        return replace(
            self, handle=kernel.Segment(self.rows, self.ids, self.removed, self.planes, *arrays)
        )

    def __len__(self) -> int:
        """Return the number of rows that are not removed."""
        return len(self.ids) - self.removed_count

    @property
    def nbytes(self) -> int:
        """Size of all arrays in bytes."""
        parts = (self.ids, self.rows, self.tables, self.planes, self.removed)
        return sum(part.nbytes for part in parts if part is not None)

    def find(self, ids: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
        """Look ids up.

        Args:
            ids: uint64 (m,).

        Returns:
            Which ids are found and not removed, bool (m,), and the rows of those, intp.
        """
        rows = np.searchsorted(self.ids, ids)
        found = rows < len(self.ids)
        found[found] = self.ids[rows[found]] == ids[found]
        found[found] = self.is_live(rows[found])
        return found, rows[found]

    def is_live(self, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Return which of these rows are not removed."""
        if self.removed is None:
            return np.ones(len(rows), dtype=np.bool_)
        bits: NDArray[np.uint8] = self.removed[rows >> 3] << (rows & 7).astype(np.uint8)
        return bits < 0x80

    def without(self, rows: NDArray[np.intp]) -> Self:
        """Return a segment without these rows, which must be distinct and not yet removed."""
        size = -(-len(self.ids) // 8)
        removed = np.zeros(size, dtype=np.uint8) if self.removed is None else self.removed.copy()
        np.bitwise_or.at(removed, rows >> 3, np.uint8(0x80) >> (rows & 7).astype(np.uint8))
        count = self.removed_count + len(rows)
        return replace(self, removed=removed, removed_count=count).with_handle()

    def scan(
        self, queries: NDArray[np.uint8], radius: int
    ) -> list[tuple[NDArray[np.intp], NDArray[np.uint64], NDArray[np.uint16]]]:
        """Find all live rows within `radius` bits of each scrambled query, without the kernel.

        Returns:
            Groups of (query number, id, distance) columns, in no particular order.
        """
        query_words = _words(queries)
        count, width = len(self.ids), query_words.shape[1]
        first = _first_words(radius, width)
        block_rows = min(count, _BLOCK)
        block_queries = min(len(queries), _BLOCK // max(block_rows, 1))
        if not block_queries:
            return []
        shape = (block_queries, block_rows)
        xor = np.empty(shape, dtype=np.uint64)
        bits = np.empty(shape, dtype=np.uint8)
        candidate = np.empty(shape, dtype=np.bool_)
        # three words differ in at most 192 bits, four in up to 256, which a byte cannot hold
        sums = np.empty(shape, dtype=np.uint8 if first <= 3 else np.uint16)
        hits = []
        for start in range(0, count, block_rows):
            block = np.ascontiguousarray(_words(self.rows[start : start + block_rows]).T)
            for top in range(0, len(queries), block_queries):
                some = query_words[top : top + block_queries]
                at = np.s_[: len(some), : block.shape[1]]
                for word in range(first):
                    np.bitwise_xor(some[:, word, None], block[word], out=xor[at])
                    if word == 0:
                        np.bitwise_count(xor[at], out=sums[at])
                    else:
                        np.bitwise_count(xor[at], out=bits[at])
                        np.add(sums[at], bits[at], out=sums[at])
                np.less_equal(sums[at], radius, out=candidate[at])
                pairs = np.flatnonzero(candidate[at])
                if not len(pairs):
                    continue
                numbers, rows = np.divmod(pairs, block.shape[1])
                distances = sums[numbers, rows].astype(np.uint16)
                for word in range(first, width):
                    distances += np.bitwise_count(block[word, rows] ^ some[numbers, word])
                rows += start
                kept = (distances <= radius) & self.is_live(rows)
                if kept.any():
                    hits.append((numbers[kept] + top, self.ids[rows[kept]], distances[kept]))
        return hits


def scan(
    segments: Sequence[Segment], queries: NDArray[np.uint8], radius: int
) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.uint16]]:
    """Search segments without the kernel; return offsets, ids and distances as in `Matches`."""
    hits = [hit for segment in segments for hit in segment.scan(queries, radius)]
    offsets = np.zeros(len(queries) + 1, dtype=np.int64)
    if not hits:
        return offsets, np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.uint16)
    numbers, ids, distances = (np.concatenate(column) for column in zip(*hits, strict=True))
    np.cumsum(np.bincount(numbers, minlength=len(queries)), out=offsets[1:])
    order = np.lexsort((ids, distances, numbers))
    return offsets, ids[order], distances[order]


def scrambled(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a copy with the bits of each hash permuted as described above, in C order."""
    if kernel is not None:
        return np.asarray(kernel.scramble(np.ascontiguousarray(packed)))
    order = _permutation(packed.shape[1] * 8)
    out = np.empty(packed.shape, dtype=np.uint8)
    for start in range(0, len(packed), _BLOCK):  # unpacked bits take eight times the memory
        bits = np.unpackbits(packed[start : start + _BLOCK], axis=1)
        out[start : start + _BLOCK] = np.packbits(bits[:, order], axis=1, bitorder="little")
    return out


@lru_cache(maxsize=8)
def _permutation(bits: int) -> NDArray[np.intp]:
    chunks = bits // 16
    step = 3 if chunks == 10 else 5  # coprime to the number of chunks
    chunk, row = np.divmod(np.arange(bits), 16)
    order: NDArray[np.intp] = row * chunks + (step * row + chunk) % chunks
    return order


def _words(rows: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """View rows as 64-bit words, copying them if they need padding."""
    if rows.shape[1] % 8:
        rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 8)))
    return rows.view(np.uint64)


def _first_words(radius: int, width: int) -> int:
    """Return how many words to compare before most rows can be skipped.

    The bits of unrelated hashes differ with probability 1/2: on average 32 per word, with a
    standard deviation of 4 times the square root of the number of words. If the radius is three
    deviations below the mean, about one row in a thousand remains for the other words.
    """
    for words in range(1, width):
        if radius + 0.5 <= 32 * words - 12 * sqrt(words):
            return words
    return width


def merge(segments: Sequence[Segment], stride: int = 1) -> Segment:
    """Merge the live rows of several segments, whose live ids are distinct, into one."""
    ids = np.concatenate([_live(s, s.ids) for s in segments])
    rows = np.concatenate([_live(s, s.rows) for s in segments])
    return Segment.build(ids, rows, stride)


_T = TypeVar("_T", bound=np.generic)


def _live(segment: Segment, column: NDArray[_T]) -> NDArray[_T]:
    if segment.removed is None:
        return column
    kept: NDArray[_T] = column[np.unpackbits(segment.removed, count=len(column)) == 0]
    return kept
