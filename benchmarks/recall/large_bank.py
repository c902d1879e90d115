"""The search for a picture as `nciihash.Matcher` does it, in a bank of a million hashes.

In a small index every hash within 60 bits is a candidate. In a large one the search for those
within 31 bits meets only some of the others (`nciihash.Index.query`), so a few copies are missed
that a small bank finds. Here a bank's hashes are among a million others. `nciihash.Matcher` would
do the same; a bank of a million entries takes minutes to fill.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.recall.photos import Photos, hash_set, packed
from benchmarks.search.peers import bootstrap
from nciihash import Index
from nciihash.sdk.alignment import align
from nciihash.sdk.matcher import CANDIDATE_BITS
from nciihash.signals import Item
from nciihash.windows import WindowHashes, analyse

ROWS: Final = 1_000_000
HASHES: Final = 3  # of an item with which `Matcher` aligns a query
_FIRST: Final = 1 << 32  # the first id of the bank's own hashes


@dataclass(frozen=True, eq=False)
class LargeBank:
    """An index of a bank's hashes among others.

    Attributes:
        index: ids from `_FIRST` are of the bank.
        values: uint8 (n, 32), the bank's hashes, in the order of ids.
        owners: int64 (n,), the number of the item of each.
    """

    index: Index
    values: NDArray[np.uint8]
    owners: NDArray[np.int64]


def others(photos: Photos, rows: int = ROWS) -> NDArray[np.uint8]:
    """Return hashes with the distribution of photos' hashes, uint8 (rows, 32).

    Sets of variants of some photos are cut into four bands and recombined.
    """
    real = [hash_set(np.asarray(photo), "full") for _, photo in photos.bank[:60]]
    packed_rows = np.concatenate(real).view(np.uint8).reshape(-1, 32)
    return bootstrap(packed_rows, rows, np.random.default_rng(0))


def values_of(item: Item) -> NDArray[np.uint8]:
    """Return the hashes of an item that have enough detail, uint8 (n, 32)."""
    return packed(item.hashes).view(np.uint8).reshape(-1, 32)


def build(items: dict[str, Item], rest: NDArray[np.uint8]) -> LargeBank:
    """Return an index of the items' hashes and of the rest."""
    sets = [values_of(item) for item in items.values()]
    values = np.concatenate(sets)
    owners = np.repeat(np.arange(len(sets)), [len(one) for one in sets])
    index = Index(256)
    ids = np.concatenate((np.arange(len(rest)), np.arange(_FIRST, _FIRST + len(values))))
    index.add(ids.astype(np.uint64), np.concatenate((rest, values)))
    index.settle()
    return LargeBank(index, values, owners)


def finds(large: LargeBank, windows: WindowHashes, owner: int) -> bool:
    """Whether a window of a copy is looked up and aligns with a hash of its photo.

    Args:
        large: the bank.
        windows: of the copy.
        owner: the number of its photo.
    """
    if not len(windows):
        return False
    found = large.index.query(windows.hashes, candidates=CANDIDATE_BITS, threads=1)
    rows = found.queries
    columns = found.ids.astype(np.int64) - _FIRST
    own = np.flatnonzero(columns >= 0)
    own = own[large.owners[columns[own]] == owner]
    own = own[np.argsort(found.distances[own], kind="stable")]
    pairs = zip(rows[own].tolist(), columns[own].tolist(), strict=True)
    return any(
        aligns(windows, row, large.values[column]) for row, column in nearest_pairs(windows, pairs)
    )


def nearest_pairs(windows: WindowHashes, pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the pairs that `Matcher` aligns: the nearest windows with enough detail of an item.

    Args:
        windows: of a query.
        pairs: row of a window's hash, row of one of the item's hashes; the nearest first.
    """
    chosen: dict[int, int] = {}
    for row, column in pairs:
        if len(chosen) == HASHES:
            break
        part, box, _ = windows.locate(row)
        if column not in chosen and analyse(windows.parts[part].luma, box).distinctive:
            chosen[column] = row
    return [(row, column) for column, row in chosen.items()]


def aligns(windows: WindowHashes, row: int, target: NDArray[np.uint8]) -> bool:
    """Whether a window aligns with a hash."""
    part, box, mirror = windows.locate(row)
    return align(windows.parts[part], box, target, mirror=mirror).same_picture
