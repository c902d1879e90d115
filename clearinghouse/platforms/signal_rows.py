"""What the live index knows of each signal besides its value: its file, its case and its type."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from clearinghouse.platforms.hits import Met
from nciihash.signals import SignalType

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
    ) -> Met:
        """Return hits of live signals with their files and cases."""
        blocks, rows, items, cases = self._table
        row, place = rows[np.searchsorted(blocks, numbers // _BLOCK)], numbers % _BLOCK
        found = items[row, place]
        met = Met(queries, numbers, found, cases[row, place], distances)
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
