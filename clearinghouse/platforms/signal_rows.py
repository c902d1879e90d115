"""What the live index knows of each signal besides its value: its file, its case and its type."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clearinghouse.platforms.hits import NearSignals
from nciihash.search.index import Index
from nciihash.signals import SignalType

_AT_ONCE: Final = 128  # queries that are looked for at a time
_MET_MAX: Final = 1_000_000  # hits that are expected at a time, once queries have met many

_BLOCK: Final = 4096  # row numbers that lie next to each other in memory


class SignalRows:
    """The file, the case and the type of each signal, by its row number; file 0 if it is not live.

    Arrays rather than dictionaries, since what many queries meet is looked up at once. Row numbers
    jump when a database is put back from a backup, so they are kept by blocks. A reader needs no
    lock: it sees `_table`, which is replaced once a new one is filled.
    """

    def __init__(self) -> None:
        nothing = np.empty(0, dtype=np.int64)
        table = np.zeros((1, _BLOCK), dtype=np.int64)
        self._block: dict[int, int] = {}
        # numbers of blocks, ascending; where each lies; files; cases
        self._table = (nothing, nothing, table, table.copy())
        self._types: dict[int, SignalType] = {}

    def __contains__(self, number: int) -> bool:
        """Tell whether a signal is live."""
        return number in self._types

    def add(self, number: int, type: SignalType, item: int, case: int) -> None:
        """Note a signal."""
        block, place = divmod(number, _BLOCK)
        if block not in self._block:
            self._grow(block)
        row = self._block[block]
        _, _, items, cases = self._table
        cases[row, place] = case
        items[row, place] = item
        self._types[number] = type

    def remove(self, number: int) -> SignalType:
        """Forget a signal, and return its type."""
        block, place = divmod(number, _BLOCK)
        self._table[2][self._block[block], place] = 0
        return self._types.pop(number)

    def met(
        self, queries: NDArray[np.int64], numbers: NDArray[np.int64], distances: NDArray[np.int64]
    ) -> NearSignals:
        """Return hits of live signals with their files and cases."""
        blocks, rows, items, cases = self._table
        row, place = rows[np.searchsorted(blocks, numbers // _BLOCK)], numbers % _BLOCK
        found = items[row, place]
        met = NearSignals(queries, numbers, found, cases[row, place], distances)
        return met if found.all() else met.take(found != 0)

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
    """Look for hashes, some at a time, so that memory stays bounded whatever they meet.

    Args:
        index: of the signals, under their row numbers.
        rows: what is known of them.
        packed: uint8 (q, index.bits // 8).
        radius: in bits.
    """
    start, count = 0, _AT_ONCE
    while start < len(packed):
        found = index.query(packed[start : start + count], radius=radius)
        sizes = np.diff(found.offsets)
        if len(found.ids):  # most queries of a platform meet nothing, and cost nothing here
            queries = np.repeat(np.arange(start, start + len(sizes)), sizes)
            numbers, distances = found.ids.astype(np.int64), found.distances.astype(np.int64)
            yield rows.met(queries, numbers, distances)
        start += count
        count = max(min(_AT_ONCE, _MET_MAX // (int(sizes.max()) + 1)), 1)
