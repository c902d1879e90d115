"""A frozen bank: an immutable copy that any number of processes map into memory.

A scan that takes hours needs one, because a follower changes its bank every minute. A folder has

    names         a snapshot of the bank (nciihash.bank.snapshot)
    TYPE.index    for each type of hash an index (nciihash.search.index_file) of its table's rows

which are mapped and verified by their checksums. Instead of a folder, an index file of PDQ hashes
that `Index.save` wrote can be used; the ids of its matches are the numbers in the index.

The copy still has what is withdrawn after it was made: delete it after the scan.
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
from nciihash.bank.candidates import Candidates
from nciihash.bank.snapshot import Snapshot, Table
from nciihash.durable import fsync_folder
from nciihash.errors import BankError, IndexFileInvalid
from nciihash.search.index import Index
from nciihash.signals import Match, Signal, SignalType, Variant

_NAMES: Final = "names"
_HEADER: Final = 192  # bytes; in both file formats they include digests of everything after them


@dataclass(frozen=True, slots=True)
class BankVersion:
    """The exact contents of a bank, as recorded at the start of a scan.

    Attributes:
        bank: the bank's lineage; None for an index file.
        cursor: the bank's cursor in the feed.
        fingerprint: a digest of all files of the frozen bank.
        signals: the number of signals.
    """

    bank: str | None
    cursor: str | None
    fingerprint: str
    signals: int


@dataclass(frozen=True, slots=True, eq=False)
class RowMatches:
    """The matches of a batch of hashes, sorted by query, then distance, then id.

    Attributes:
        query: int64 (m,), indices into the batch.
        distance: uint16 (m,), in bits.
        row: int64 (m,), rows of the bank's table, or the ids in an index file.
    """

    query: NDArray[np.int64]
    distance: NDArray[np.uint16]
    row: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class FrozenBank:
    """A mapped, immutable bank. Any number of threads may query it.

    Attributes:
        indexes: an index of each type's hashes.
        tables: each type's table of ids; empty for an index file.
    """

    indexes: Mapping[SignalType, Index]
    tables: Mapping[SignalType, Table]

    @classmethod
    def open(cls, path: Path, *, verify: bool = True) -> Self:
        """Map what `freeze` or `Index.save` wrote, and verify its checksums.

        A damaged index would silently return wrong matches. Verification reads every byte, which
        takes about 0.3 s per million signals on one core.

        Args:
            path: the folder, or the index file.
            verify: check every byte. If false, only the headers are checked, for a process that has
                already verified the same files, or whose parent has.

        Raises:
            BankError: the path does not exist, or is an index of other hashes than PDQ.
            BankCorrupt, IndexFileInvalid: a file is damaged, foreign, or newer.
            OSError: a file cannot be opened.
        """
        if path.is_dir():
            snapshot = Snapshot.open(path / _NAMES, verify=verify)
            tables = {table.type: table for table in snapshot.tables}
            indexes = {type: Index.open(_index_path(path, type)) for type in tables}
            for type, index in indexes.items():
                if len(index) != len(tables[type]):
                    raise IndexFileInvalid(
                        f"The files in {path} do not belong together. Delete the folder and start "
                        "a new scan."
                    )
            if verify:
                for index in indexes.values():
                    index.verify()
            return cls(indexes, tables)
        if not path.exists():
            raise BankError(
                f"There is no bank at {path}. Every machine of a cluster needs it at this path."
            )
        index = Index.open(path)
        if index.bits != SignalType.PDQ.bits:
            raise BankError(
                f"{path} is an index of hashes of {index.bits} bits. A scan needs an index of PDQ "
                f"hashes, which have {SignalType.PDQ.bits} bits."
            )
        if verify:
            index.verify()
        return cls({SignalType.PDQ: index}, {})

    def __len__(self) -> int:
        """Return the number of signals."""
        return sum(map(len, self.indexes.values()))

    def near(self, type: SignalType, packed: NDArray[np.uint8], *, threads: int = 1) -> RowMatches:
        """Find the matches of each hash within the type's threshold.

        Args:
            type: of the hashes.
            packed: uint8 (n, bits // 8).
            threads: the most threads to use.
        """
        if (index := self.indexes.get(type)) is None:
            empty = np.empty(0, np.int64)
            return RowMatches(empty, np.empty(0, np.uint16), empty)
        found = index.query(packed, radius=type.threshold, threads=threads)
        return RowMatches(found.queries, found.distances, found.ids.astype(np.int64))

    def candidates(
        self, type: SignalType, packed: NDArray[np.uint8], reach: int, *, threads: int = 1
    ) -> Candidates:
        """Find the same candidates as `Bank.candidates`, apart from those beyond the threshold.

        Args:
            type: of the hashes.
            packed: uint8 (n, bits // 8).
            reach: the largest distance to return, in bits; at least the type's threshold.
            threads: the most threads to use.

        Raises:
            BankError: the bank is an index file, which has no items.
            InvalidSignal: `packed` is not such an array.
            ValueError: `reach` is less than the threshold.
        """
        if self.indexes and not self.tables:
            raise BankError(
                "An index file has no items, so that it cannot be searched for candidates. Use a "
                "bank."
            )
        index = self.indexes.get(type) or Index(type.bits)
        table = self.tables.get(type) or Table.empty(type)
        found = index.query(packed, type.threshold, candidates=reach, threads=threads)
        rows = found.ids.astype(np.int64)
        return Candidates(
            found.queries, found.distances, table.values[rows], table.items[rows], rows, table.entry
        )

    def names(self, type: SignalType, rows: NDArray[np.int64]) -> list[str]:
        """Return the signals' ids in the feed, or their numbers in an index file."""
        if (table := self.tables.get(type)) is None:
            return [str(number) for number in rows.view(np.uint64).tolist()]
        return _hex(table.ids[rows].tobytes(), len(rows))

    def items(self, type: SignalType, rows: NDArray[np.int64]) -> list[str] | None:
        """Return the items' ids in the feed; None for an index file, which has none."""
        if (table := self.tables.get(type)) is None:
            return None
        return _hex(table.items[rows].tobytes(), len(rows))

    def variants(self, type: SignalType, rows: NDArray[np.int64]) -> list[str] | None:
        """Return the names of the signals' variants; None for an index file, which has none."""
        if (table := self.tables.get(type)) is None:
            return None
        names = [variant.value for _, variant in table.kind_names]
        return [names[kind] for kind in table.kinds[rows].tolist()]

    def query(self, signals: Sequence[Signal]) -> list[tuple[Match, ...]]:
        """Find the same matches as `Bank.query`.

        In an index file each signal counts as an item of its own and as an original.
        """
        matches: list[list[Match]] = [[] for _ in signals]
        positions: dict[SignalType, list[int]] = defaultdict(list)
        for position, signal in enumerate(signals):
            positions[signal.type].append(position)
        for type, queries in positions.items():
            values = b"".join(signals[position].value for position in queries)
            pairs = self.near(type, np.frombuffer(values, np.uint8).reshape(len(queries), -1))
            ids = self.names(type, pairs.row)
            items = self.items(type, pairs.row) or ids
            variants = self.variants(type, pairs.row) or [Variant.ORIGINAL] * len(ids)
            for query, id, item, variant, distance in zip(
                pairs.query.tolist(), ids, items, variants, pairs.distance.tolist(), strict=True
            ):
                match = Match(id, item, type, Variant(variant), distance)
                matches[queries[query]].append(match)
        return [tuple(each) for each in matches]


def freeze(bank: Path, folder: Path) -> BankVersion:
    """Copy a bank's current contents into a new folder.

    After an exception nothing is left; after a crash there is no folder of that name. Needs memory
    for two copies of the bank's index.

    Raises:
        BankError: there is no bank.
        BankCorrupt: its files are damaged, foreign or newer.
        OSError: the bank cannot be read, or the folder cannot be written.
    """
    with Bank.read(bank) as source:
        tables, cursor, lineage = source.tables(), source.cursor, source.lineage
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    try:
        snapshots.write(temporary / _NAMES, lineage, 1, cursor, tables)
        for table in tables:
            index = Index(table.type.bits)
            index.add(np.arange(len(table), dtype=np.uint64), table.values)
            index.save(_index_path(temporary, table.type))
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary)
        raise
    fsync_folder(folder.parent)
    return BankVersion(lineage.hex(), cursor, fingerprint(folder), sum(map(len, tables)))


def index_file_version(path: Path) -> BankVersion:
    """Return the state of an index file that is used as a bank.

    Raises:
        BankError, IndexFileInvalid, OSError: as in `FrozenBank.open`.
    """
    return BankVersion(None, None, fingerprint(path), len(FrozenBank.open(path)))


def fingerprint(path: Path) -> str:
    """Return a digest of the headers of a frozen bank's files, which have digests of the rest.

    Raises:
        BankError: the path does not exist.
        OSError: a file cannot be read.
    """
    state = sha256()
    try:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            with file.open("rb") as opened:
                state.update(opened.read(_HEADER))
    except FileNotFoundError:
        raise BankError(
            f"There is no bank at {path}. Every machine of a cluster needs it at this path."
        ) from None
    return state.hexdigest()


def _index_path(folder: Path, type: SignalType) -> Path:
    return folder / f"{type.value}.index"


def _hex(raw: bytes, count: int) -> list[str]:
    """Return `count` ids of equal length as hexadecimal digits."""
    digits, size = raw.hex(), 2 * len(raw) // count if count else 1
    return [digits[start : start + size] for start in range(0, len(digits), size)]
