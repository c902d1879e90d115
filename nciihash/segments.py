"""Immutable runs of hashes, sorted by id: what an index is made of, and the plain way to scan one.

A hash of b bits is kept as ceil(b / 64) words of 64 bits, padded with zeros that never differ, and
the words of a segment lie column by column, so that a scan reads only the words it needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

# Pairs of a query and a row that are compared at a time. Working memory is about 12 bytes a pair,
# whatever the bank and the batch; larger blocks fall out of the cache, smaller ones cost calls.
_BLOCK: Final = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Rows that never change. `ids`: uint64 (n,), ascending; `words`: uint64 (w, n).

    `gone` marks removed rows, a bit a row (most significant first), or is None while there are
    none; `dead` counts them. A removal makes a new Segment that shares the rows.
    """

    ids: NDArray[np.uint64]
    words: NDArray[np.uint64]
    gone: NDArray[np.uint8] | None = None
    dead: int = 0

    @classmethod
    def of(cls, ids: NDArray[np.uint64], words: NDArray[np.uint64]) -> Self:
        """Make a segment of unsorted rows. `words`: uint64 (n, w). Both are copied."""
        order = np.argsort(ids)
        return cls(ids[order], np.ascontiguousarray(words[order].T))

    def __len__(self) -> int:
        """Count the living rows."""
        return len(self.ids) - self.dead

    @property
    def nbytes(self) -> int:
        """Give the bytes of rows, ids and marks."""
        return self.ids.nbytes + self.words.nbytes + (0 if self.gone is None else self.gone.nbytes)

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

    def without(self, rows: NDArray[np.intp]) -> "Segment":
        """Remove living rows, each named once. Half-empty segments are written anew."""
        marks = np.zeros(len(self.ids), dtype=np.bool_)
        marks[rows] = True
        gone = np.packbits(marks)
        if self.gone is not None:
            gone |= self.gone
        thinned = replace(self, gone=gone, dead=self.dead + len(rows))
        return merge([thinned]) if len(thinned) * 2 <= len(self.ids) else thinned

    def scan(
        self, queries: NDArray[np.uint64], radius: int
    ) -> list[tuple[NDArray[np.intp], NDArray[np.uint64], NDArray[np.uint16]]]:
        """Find every living row within `radius` bits of each query: uint64 (q, w).

        Returns:
            Groups of (query number, id, distance), in no particular order.
        """
        width, count = self.words.shape
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
            block = self.words[:, start : start + across]
            for top in range(0, len(queries), down):
                some = queries[top : top + down]
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


def merge(segments: Sequence[Segment]) -> Segment:
    """Make one segment of the living rows of several, whose living ids differ."""
    ids, order = living_ids(segments)
    width = segments[0].words.shape[0]
    words = np.empty((width, len(ids)), dtype=np.uint64)
    for word in range(width):
        words[word] = living_words(segments, word, order)
    return Segment(ids, words)


def living_ids(
    segments: Sequence[Segment],
) -> tuple[NDArray[np.uint64], NDArray[np.intp] | None]:
    """Collect the living ids in ascending order, and the order that `living_words` wants."""
    ids = np.concatenate([_living(s, s.ids) for s in segments])
    if (ids[1:] > ids[:-1]).all():
        return ids, None  # already in order, the usual case: feeds number upwards
    order = np.argsort(ids, kind="stable")
    return ids[order], order


def living_words(
    segments: Sequence[Segment], word: int, order: NDArray[np.intp] | None
) -> NDArray[np.uint64]:
    """Collect one word of the living rows, in the order that `living_ids` gave."""
    column = np.concatenate([_living(s, s.words[word]) for s in segments])
    return column if order is None else column[order]


def _living(segment: Segment, column: NDArray[np.uint64]) -> NDArray[np.uint64]:
    if segment.gone is None:
        return column
    kept: NDArray[np.uint64] = column[np.unpackbits(segment.gone, count=len(column)) == 0]
    return kept
