"""Signals of a bank within its threshold of a hash, and some beyond it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nciihash.feed import Added


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The candidates of a batch of hashes, sorted by query, then distance, then row.

    All signals within the type's threshold are among them. Those further away (`distances` above
    the threshold) are only some of the signals within the reach (see `Index.query`), and no
    matches: most differ from the query in content.

    Attributes:
        queries: int64 (m,), indices into the batch.
        distances: uint16 (m,), in bits.
        values: uint8 (m, bits // 8), the bank's hashes.
        items: uint8 (m, 16), the items' ids.
        rows: int64 (m,), the bank's own numbers of the signals. Each candidate with the same number
            is the same signal.
        entry_of: returns the signal with such a number as it came from the feed, even if it was
            removed in the meantime.
    """

    queries: NDArray[np.int64]
    distances: NDArray[np.uint16]
    values: NDArray[np.uint8]
    items: NDArray[np.uint8]
    rows: NDArray[np.int64]
    entry_of: Callable[[int], Added]

    def __len__(self) -> int:
        """Return the number of pairs of a query and a signal."""
        return len(self.rows)

    def entry(self, position: int) -> Added:
        """Return the signal of a candidate as it came from the feed."""
        return self.entry_of(int(self.rows[position]))
