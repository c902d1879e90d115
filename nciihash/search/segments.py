"""Immutable runs of hashes, sorted by id: what an index is made of, and the plain way to scan one.

Rows are kept scrambled, as the kernel wants them: the bits of a PDQ hash lie in rows of sixteen
frequencies, neighbours are alike, and the fixed permutation spreads them evenly over the chunks
that are looked up. Distances stay as they are. Seen as 16 rows of b / 16 columns, bit (i, c) moves
to bit i of the chunk j for which c = (step * i + j) mod (b / 16), lowest bit first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import sqrt
from typing import Any, Final, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from nciihash.search.backend import search

WIDTHS: Final = (64, 128, 144, 160, 256)  # bits that a hash may have

# Pairs of a query and a row that are compared at a time. Working memory is about 12 bytes a pair,
# whatever the bank and the batch; larger blocks fall out of the cache, smaller ones cost calls.
_BLOCK: Final = 1 << 16

# From here on tables pay for their memory; below, the flat scan takes some microseconds.
TABLES_FROM: Final = 16384

# From here on buckets are long enough, at 64 entries, that three in ten of their cache lines can be
# left unread for three more words an offset (see window_bounds in kernel/kernel.hpp).
WINDOWS_FROM: Final = 1 << 22

# Entries behind the last signature that the kernel may read.
SIG_PADDING: Final = 64


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """Lookup tables of the kernel: every row under the chunks of its hash.

    `offsets`: uint32 (t, (2^k + 1) * w), w = `words`. `refs`: uint32 (t, n). `sigs`: uint16
    (t * n + SIG_PADDING,).
    """

    offsets: NDArray[np.uint32]
    refs: NDArray[np.uint32]
    sigs: NDArray[np.uint16]

    @property
    def words(self) -> int:
        """Give the words of an offset: 4 where buckets have windows, else 1."""
        return 1 if self.offsets.shape[1] % 4 else 4

    @property
    def key_bits(self) -> int:
        """Give the bits of a key."""
        return int(self.offsets.shape[1] // self.words - 1).bit_length() - 1

    @property
    def nbytes(self) -> int:
        """Give the bytes of the arrays."""
        return self.offsets.nbytes + self.refs.nbytes + self.sigs.nbytes


def key_bits(count: int) -> int:
    """Choose how many bits of a chunk make a key, so that offsets do not outweigh the rows."""
    return min(16, max(8, count.bit_length() - 4))


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Rows that never change. `ids`: uint64 (n,), ascending; `rows`: uint8 (n, b), scrambled.

    `gone` marks removed rows, a bit a row (most significant first), or is None while there are
    none; `dead` counts them. A removal makes a new Segment that shares the rows. `planes` is the
    kernel's bit-sliced copy of a segment without tables, `engine` its view of all that.
    """

    ids: NDArray[np.uint64]
    rows: NDArray[np.uint8]
    tables: Tables | None = None
    planes: NDArray[np.uint64] | None = None
    gone: NDArray[np.uint8] | None = None
    dead: int = 0
    engine: Any = None

    @classmethod
    def of(cls, ids: NDArray[np.uint64], rows: NDArray[np.uint8], stride: int = 1) -> Self:
        """Make a segment of scrambled rows, which it keeps; ids may be in any order.

        Tables are made of every `stride`-th chunk where the rows are many and the kernel is there.
        """
        if not (ids[1:] > ids[:-1]).all():
            order = np.argsort(ids)
            ids, rows = ids[order], rows[order]
        if search is None:
            return cls(ids, rows)
        if len(ids) < TABLES_FROM:
            return cls(ids, rows).sliced()
        arrays = search.build(rows, key_bits(len(ids)), stride, len(ids) >= WINDOWS_FROM, 0)
        return cls(ids, rows, Tables(*arrays)).attached()

    def sliced(self) -> Self:
        """Make the bit-sliced copy, where the kernel is there and the rows are few."""
        if search is None or len(self.ids) >= TABLES_FROM:
            return self.attached()
        return replace(self, planes=search.slice_rows(self.rows)).attached()

    def attached(self) -> Self:
        """Show the arrays to the kernel, where there is one.

        Raises:
            ValueError: the arrays do not fit together.
        """
        if search is None:
            return self
        tables = self.tables
        arrays = (None,) * 3 if tables is None else (tables.offsets, tables.refs, tables.sigs)
        return replace(
            self, engine=search.Segment(self.rows, self.ids, self.gone, self.planes, *arrays)
        )

    def __len__(self) -> int:
        """Count the living rows."""
        return len(self.ids) - self.dead

    @property
    def nbytes(self) -> int:
        """Give the bytes of rows, ids, tables and marks."""
        parts = (self.ids, self.rows, self.tables, self.planes, self.gone)
        return sum(part.nbytes for part in parts if part is not None)

    def find(self, ids: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
        """Tell which ids are in and living, and in which rows those are."""
        rows = np.searchsorted(self.ids, ids)
        found = rows < len(self.ids)
        found[found] = self.ids[rows[found]] == ids[found]
        found[found] = self.living(rows[found])
        return found, rows[found]

    def living(self, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Tell which rows have not been removed."""
        if self.gone is None:
            return np.ones(len(rows), dtype=np.bool_)
        marks: NDArray[np.uint8] = self.gone[rows >> 3] << (rows & 7).astype(np.uint8)
        return marks < 0x80

    def without(self, rows: NDArray[np.intp]) -> Self:
        """Remove living rows, each named once. What others see of the old segment stays."""
        size = -(-len(self.ids) // 8)
        gone = np.zeros(size, dtype=np.uint8) if self.gone is None else self.gone.copy()
        np.bitwise_or.at(gone, rows >> 3, np.uint8(0x80) >> (rows & 7).astype(np.uint8))
        return replace(self, gone=gone, dead=self.dead + len(rows)).attached()

    def scan(
        self, queries: NDArray[np.uint8], radius: int
    ) -> list[tuple[NDArray[np.intp], NDArray[np.uint64], NDArray[np.uint16]]]:
        """Find every living row within `radius` bits of each scrambled query, without the kernel.

        Returns:
            Groups of (query number, id, distance), in no particular order.
        """
        asked = _words(queries)
        count, width = len(self.ids), asked.shape[1]
        first = _first_words(radius, width)
        across = min(count, _BLOCK)
        down = min(len(queries), _BLOCK // max(across, 1))
        if not down:
            return []
        xor = np.empty((down, across), dtype=np.uint64)
        bits = np.empty((down, across), dtype=np.uint8)
        near = np.empty((down, across), dtype=np.bool_)
        # three words differ in 192 bits at the most, four in one more than a byte holds
        sums = np.empty((down, across), dtype=np.uint8 if first <= 3 else np.uint16)
        hits = []
        for start in range(0, count, across):
            block = np.ascontiguousarray(_words(self.rows[start : start + across]).T)
            for top in range(0, len(queries), down):
                some = asked[top : top + down]
                at = np.s_[: len(some), : block.shape[1]]
                for word in range(first):
                    np.bitwise_xor(some[:, word, None], block[word], out=xor[at])
                    if word == 0:
                        np.bitwise_count(xor[at], out=sums[at])
                    else:
                        np.bitwise_count(xor[at], out=bits[at])
                        np.add(sums[at], bits[at], out=sums[at])
                np.less_equal(sums[at], radius, out=near[at])
                pairs = np.flatnonzero(near[at])
                if not len(pairs):
                    continue
                numbers, rows = np.divmod(pairs, block.shape[1])
                distances = sums[numbers, rows].astype(np.uint16)
                for word in range(first, width):
                    distances += np.bitwise_count(block[word, rows] ^ some[numbers, word])
                rows += start
                kept = (distances <= radius) & self.living(rows)
                if kept.any():
                    hits.append((numbers[kept] + top, self.ids[rows[kept]], distances[kept]))
        return hits


def scan(
    segments: Sequence[Segment], queries: NDArray[np.uint8], radius: int
) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.uint16]]:
    """Search segments without the kernel: offsets, ids and distances as `Matches` has them."""
    hits = [hit for segment in segments for hit in segment.scan(queries, radius)]
    offsets = np.zeros(len(queries) + 1, dtype=np.int64)
    if not hits:
        return offsets, np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.uint16)
    numbers, ids, distances = (np.concatenate(column) for column in zip(*hits, strict=True))
    np.cumsum(np.bincount(numbers, minlength=len(queries)), out=offsets[1:])
    order = np.lexsort((ids, distances, numbers))
    return offsets, ids[order], distances[order]


def scrambled(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Permute the bits of each hash as the head of this file says. Returns a copy, in C order."""
    if search is not None:
        return np.asarray(search.scramble(np.ascontiguousarray(packed)))
    order = _permutation(packed.shape[1] * 8)
    out = np.empty(packed.shape, dtype=np.uint8)
    for start in range(0, len(packed), _BLOCK):  # eight times the memory, a block at a time
        bits = np.unpackbits(packed[start : start + _BLOCK], axis=1)
        out[start : start + _BLOCK] = np.packbits(bits[:, order], axis=1, bitorder="little")
    return out


@lru_cache(maxsize=8)
def _permutation(bits: int) -> NDArray[np.intp]:
    chunks = bits // 16
    step = 3 if chunks == 10 else 5  # has no factor in common with the number of chunks
    chunk, row = np.divmod(np.arange(bits), 16)
    order: NDArray[np.intp] = row * chunks + (step * row + chunk) % chunks
    return order


def _words(rows: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """View rows as words of 64 bits, copying them where they need padding."""
    if rows.shape[1] % 8:
        rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 8)))
    return rows.view(np.uint64)


def _first_words(radius: int, width: int) -> int:
    """Choose how many words to look at before most rows can be passed over.

    The bits of unrelated hashes differ like coins: 32 a word on average with a deviation of 4 times
    the root of the number of words. Where the radius lies three deviations below, one row in a
    thousand is left for the other words.
    """
    for words in range(1, width):
        if radius + 0.5 <= 32 * words - 12 * sqrt(words):
            return words
    return width


def merge(segments: Sequence[Segment], stride: int = 1) -> Segment:
    """Make one segment of the living rows of several, whose living ids differ."""
    ids = np.concatenate([_living(s, s.ids) for s in segments])
    rows = np.concatenate([_living(s, s.rows) for s in segments])
    return Segment.of(ids, rows, stride)


_T = TypeVar("_T", bound=np.generic)


def _living(segment: Segment, column: NDArray[_T]) -> NDArray[_T]:
    if segment.gone is None:
        return column
    kept: NDArray[_T] = column[np.unpackbits(segment.gone, count=len(column)) == 0]
    return kept
