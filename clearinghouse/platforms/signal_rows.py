"""The file, case and type of each signal of the live index."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clearinghouse.platforms.hits import NearSignals
from nciihash.search.index import Index
from nciihash.signals import SignalType

_BATCH: Final = 128  # queries per call of the index
_HITS_MAX: Final = 1_000_000  # hits to expect of a batch, judged by the previous one

_BLOCK: Final = 4096  # row numbers per block


class SignalRows:
    """The file, case and type of each live signal, by its row number.

    Arrays instead of dictionaries, so that the hits of many queries are looked up at once. Row
    numbers jump when a database is restored from a backup, so the arrays consist of blocks that
    are allocated on demand. Readers need no lock: they read `_table` once, which is replaced as a
    whole when a block is added.
    """

    def __init__(self) -> None:
        empty = np.empty(0, dtype=np.int64)
        table = np.zeros((1, _BLOCK), dtype=np.int64)
        self._block: dict[int, int] = {}
        # block numbers, ascending, int64 (b,); the table row of each, int64 (b,); files, 0 where no
        # signal is live, int64 (>= b, _BLOCK); cases, likewise
        self._table = (empty, empty, table, table.copy())
        self._types: dict[int, SignalType] = {}

    def __contains__(self, number: int) -> bool:
        """Whether a signal is live."""
        return number in self._types

    def add(self, number: int, type: SignalType, item: int, case: int) -> None:
        """Add a signal by its row number, with the row numbers of its file and case."""
        block, column = divmod(number, _BLOCK)
        if block not in self._block:
            self._grow(block)
        row = self._block[block]
        _, _, items, cases = self._table
        cases[row, column] = case
        items[row, column] = item
        self._types[number] = type

    def remove(self, number: int) -> SignalType:
        """Remove a signal and return its type."""
        block, column = divmod(number, _BLOCK)
        self._table[2][self._block[block], column] = 0
        return self._types.pop(number)

    def join(
        self, queries: NDArray[np.int64], numbers: NDArray[np.int64], distances: NDArray[np.int64]
    ) -> NearSignals:
        """Return hits with their files and cases, without signals that are no longer live.

        Args:
            queries: int64 (n,), indexes of the queries.
            numbers: int64 (n,), row numbers of the signals.
            distances: int64 (n,), in bits.
        """
        blocks, rows, items, cases = self._table
        row, column = rows[np.searchsorted(blocks, numbers // _BLOCK)], numbers % _BLOCK
        files = items[row, column]
        hits = NearSignals(queries, numbers, files, cases[row, column], distances)
        return hits if files.all() else hits.take(files != 0)

    def _grow(self, block: int) -> None:
        self._block[block] = len(self._block)
        _, _, items, cases = self._table
        if len(self._block) > len(items):
            more = np.zeros_like(items)
            items, cases = np.concatenate((items, more)), np.concatenate((cases, more))
        blocks = np.array(sorted(self._block), dtype=np.int64)
        rows = np.array([self._block[block] for block in blocks.tolist()], dtype=np.int64)
        self._table = (blocks, rows, items, cases)


def near(
    index: Index, rows: SignalRows, packed: NDArray[np.uint8], radius: int
) -> Iterator[NearSignals]:
    """Yield the signals near some hashes, batch by batch, so that memory stays bounded.

    Args:
        index: the signals, under their row numbers.
        rows: the files and cases of the signals.
        packed: uint8 (q, index.bits // 8).
        radius: in bits.
    """
    start, count = 0, _BATCH
    while start < len(packed):
        found = index.query(packed[start : start + count], radius=radius)
        sizes = np.diff(found.offsets)
        if len(found.ids):  # most queries of a platform have no hit
            queries = np.repeat(np.arange(start, start + len(sizes)), sizes)
            numbers, distances = found.ids.astype(np.int64), found.distances.astype(np.int64)
            yield rows.join(queries, numbers, distances)
        start += count
        count = max(min(_BATCH, _HITS_MAX // (int(sizes.max()) + 1)), 1)
