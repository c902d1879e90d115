"""A bank that stands still: files that any number of processes map, and that nobody changes.

A scan of hours needs one, since a follower changes its bank every minute. A folder holds

    names         a snapshot of the bank (nciihash.bank.snapshot)
    TYPE.index    for each type of hash its index (nciihash.search.index_file), over the rows of its
                  table

and is mapped, and checked against its checksums. An index file that `Index.save` wrote, of PDQ
hashes, will do instead: what it finds is named by the numbers that it was built with.

The copy holds what was withdrawn after it was made: delete it when the scan is over.
"""

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from nciihash.bank import snapshot as snapshots
from nciihash.bank.bank import Bank
from nciihash.bank.snapshot import Snapshot, Table
from nciihash.durable import sync_folder
from nciihash.errors import BankError, IndexFileInvalid
from nciihash.search.index import Index
from nciihash.signals import Match, Signal, SignalType, Variant

_NAMES: Final = "names"
_HEADER: Final = 192  # bytes, in which both kinds of file hold the digests of all that follows


@dataclass(frozen=True, slots=True)
class BankState:
    """What a bank was when a scan began.

    Attributes:
        bank: the lineage of a bank that `follow` keeps; None for an index file.
        cursor: the bank's place in the feed.
        fingerprint: changes with every byte of what is looked in.
        signals: how many it holds.
    """

    bank: str | None
    cursor: str | None
    fingerprint: str
    signals: int


@dataclass(frozen=True, slots=True, eq=False)
class NearPairs:
    """What a batch of hashes found, in the order of the batch, nearest first, then by name.

    `query`: int64 (m,), places in the batch. `distance`: uint16 (m,), bits. `row`: int64 (m,),
    rows of the bank's table, or the numbers in an index file.
    """

    query: NDArray[np.int64]
    distance: NDArray[np.uint16]
    row: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class FrozenBank:
    """A mapped bank. Any number of threads may query."""

    indexes: Mapping[SignalType, Index]
    tables: Mapping[SignalType, Table]

    @classmethod
    def open(cls, path: Path, *, verify: bool = True) -> Self:
        """Map what `freeze` or `Index.save` wrote, and check it against its checksums.

        A damaged index would answer wrongly, and nobody would notice. The check reads every byte,
        some 0.3 s for a million signals on one core.

        Args:
            path: the folder, or the index file.
            verify: check every byte; else the headers alone, where this process, or the one that
                started it, has checked the same files already.

        Raises:
            BankError: nothing is there, or an index file of other hashes than PDQ.
            BankCorrupt, IndexFileInvalid: damaged, foreign, or newer.
            OSError: it cannot be opened.
        """
        if path.is_dir():
            snapshot = Snapshot.open(path / _NAMES, verify=verify)
            tables = {table.type: table for table in snapshot.tables}
            indexes = {type: Index.open(_index_path(path, type)) for type in tables}
            for type, index in indexes.items():
                if len(index) != len(tables[type]):
                    raise IndexFileInvalid(f"{path} is not of one piece. Delete it, scan anew.")
            if verify:
                for index in indexes.values():
                    index.verify()
            return cls(indexes, tables)
        if not path.exists():
            raise BankError(
                f"There is no bank at {path}. Every machine of a cluster must see it there."
            )
        index = Index.open(path)
        if index.bits != SignalType.PDQ.bits:
            raise BankError(
                f"{path} is an index of hashes of {index.bits} bits. Only one of PDQ hashes, of "
                f"{SignalType.PDQ.bits} bits, can be scanned against."
            )
        if verify:
            index.verify()
        return cls({SignalType.PDQ: index}, {})

    def __len__(self) -> int:
        """Count the signals."""
        return sum(map(len, self.indexes.values()))

    def near(self, type: SignalType, packed: NDArray[np.uint8], *, threads: int = 1) -> NearPairs:
        """Find everything of a type that is within its threshold of each hash.

        Args:
            type: of the hashes.
            packed: uint8 (n, bits // 8).
            threads: how many may work on it.
        """
        if (index := self.indexes.get(type)) is None:
            nothing = np.empty(0, np.int64)
            return NearPairs(nothing, np.empty(0, np.uint16), nothing)
        found = index.query(packed, radius=type.threshold, threads=threads)
        query = np.repeat(np.arange(len(packed), dtype=np.int64), np.diff(found.offsets))
        return NearPairs(query, found.distances, found.ids.astype(np.int64))

    def names(self, type: SignalType, rows: NDArray[np.int64]) -> list[str]:
        """Name signals as the feed did; by their numbers if there is an index file alone."""
        if (table := self.tables.get(type)) is None:
            return [str(number) for number in rows.view(np.uint64).tolist()]
        return _hex(table.ids[rows].tobytes(), len(rows))

    def items(self, type: SignalType, rows: NDArray[np.int64]) -> list[str] | None:
        """Name the items of signals; None if nobody knows them."""
        if (table := self.tables.get(type)) is None:
            return None
        return _hex(table.items[rows].tobytes(), len(rows))

    def variants(self, type: SignalType, rows: NDArray[np.int64]) -> list[str] | None:
        """Name the altered copies that signals were made of; None if nobody knows them."""
        if (table := self.tables.get(type)) is None:
            return None
        words = [variant.value for _, variant in table.kind_names]
        return [words[kind] for kind in table.kinds[rows].tolist()]

    def query(self, signals: Sequence[Signal]) -> list[tuple[Match, ...]]:
        """Find what `Bank.query` would find; of an index file, items and variants are made up.

        There each signal is its own item, and an original.
        """
        found: list[list[Match]] = [[] for _ in signals]
        places: dict[SignalType, list[int]] = defaultdict(list)
        for place, signal in enumerate(signals):
            places[signal.type].append(place)
        for type, asked in places.items():
            values = b"".join(signals[place].value for place in asked)
            near = self.near(type, np.frombuffer(values, np.uint8).reshape(len(asked), -1))
            ids = self.names(type, near.row)
            items = self.items(type, near.row) or ids
            variants = self.variants(type, near.row) or [Variant.ORIGINAL] * len(ids)
            for query, *named, distance in zip(
                near.query.tolist(), ids, items, variants, near.distance.tolist(), strict=True
            ):
                id, item, variant = named
                match = Match(id, item, type, Variant(variant), distance)
                found[asked[query]].append(match)
        return [tuple(matches) for matches in found]


def freeze(bank: Path, folder: Path) -> BankState:
    """Copy a bank, as it is now, into a new folder.

    After any exception nothing is left; a crash leaves no folder of that name.

    Takes memory for the bank's index twice.

    Raises:
        BankError: there is no bank.
        BankCorrupt: its files are damaged, foreign or newer.
        OSError: the disk refuses.
    """
    with Bank.read(bank) as kept:
        tables, cursor, lineage = kept.tables(), kept.cursor, kept.lineage
    making = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(mode=0o700)
    try:
        snapshots.write(making / _NAMES, lineage, 1, cursor, tables)
        for table in tables:
            index = Index(table.type.bits)
            index.add(np.arange(len(table), dtype=np.uint64), table.values)
            index.save(_index_path(making, table.type))
        making.rename(folder)
    except BaseException:
        shutil.rmtree(making)
        raise
    sync_folder(folder.parent)
    return BankState(lineage.hex(), cursor, fingerprint(folder), sum(map(len, tables)))


def pin_index(path: Path) -> BankState:
    """Tell what an index file holds.

    Raises:
        BankError, IndexFileInvalid, OSError: as `FrozenBank.open` does.
    """
    return BankState(None, None, fingerprint(path), len(FrozenBank.open(path)))


def fingerprint(path: Path) -> str:
    """Digest the headers of all files of a bank, in which the digests of their bytes are.

    Raises:
        BankError: nothing is there.
        OSError: it cannot be read.
    """
    state = sha256()
    try:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            with file.open("rb") as opened:
                state.update(opened.read(_HEADER))
    except FileNotFoundError:
        raise BankError(
            f"There is no bank at {path}. Every machine of a cluster must see it there."
        ) from None
    return state.hexdigest()


def _index_path(folder: Path, type: SignalType) -> Path:
    return folder / f"{type.value}.index"


def _hex(raw: bytes, count: int) -> list[str]:
    """Write names of one length in hexadecimal digits."""
    digits, size = raw.hex(), 2 * len(raw) // count if count else 1
    return [digits[start : start + size] for start in range(0, len(digits), size)]
