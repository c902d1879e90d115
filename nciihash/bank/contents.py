"""What a bank holds, in memory: its snapshot's tables, what came and went since, the indexes."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nciihash.bank.journal import ID_BYTES, encode, raw_id
from nciihash.bank.snapshot import Table
from nciihash.feed import Added, Changes, FeedPage, apply
from nciihash.search.index import Index
from nciihash.signals import Match, Signal, SignalType, Variant

_CHUNK: Final = 1 << 20  # rows given to an index at a time
_LOOSE: Final = 50_000  # additions that a replacement holds outside its tables


class TypeContents:
    """The signals of one type: a table that stays, additions since, and rows removed since.

    Rows count through the table and then through the additions, and number the signals in the
    index. Additions are kept until the next fold even when removed, so that a row never changes.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.added: list[Added] = []
        self.removed: set[int] = set()
        self.index = Index(table.type.bits)
        for start in range(0, len(table), _CHUNK):
            values = table.values[start : start + _CHUNK]
            self.index.add(np.arange(start, start + len(values), dtype=np.uint64), values)

    def add(self, added: Sequence[Added]) -> int:
        """Take in signals; give the row of the first."""
        row = len(self.table) + len(self.added)
        # the names first: a query in another thread may see a row as soon as the index has it
        self.added.extend(added)
        values = b"".join(entry.signal.value for entry in added)
        packed = np.frombuffer(values, dtype=np.uint8).reshape(len(added), -1)
        self.index.add(np.arange(row, row + len(added), dtype=np.uint64), packed)
        return row

    def remove(self, rows: Sequence[int]) -> None:
        """Drop rows that are in."""
        self.index.remove(np.array(rows, dtype=np.uint64))
        self.removed.update(rows)

    def entry(self, row: int) -> Added:
        """Give a row as the feed gave it."""
        row -= len(self.table)
        return self.added[row] if row >= 0 else self.table.entry(row + len(self.table))

    def __iter__(self) -> Iterator[Added]:
        """Go through the signals that are in."""
        for row in range(len(self.table) + len(self.added)):
            if row not in self.removed:
                yield self.entry(row)

    def kinds(self, item: str) -> Counter[Variant]:
        """Count the hashes of one item by the copies that they are of."""
        name = np.frombuffer(bytes.fromhex(item), np.uint8)
        rows = np.flatnonzero((self.table.items == name).all(axis=1)).tolist()
        found = [self.table.entry(row) for row in rows if row not in self.removed]
        first = len(self.table)
        found += [
            entry
            for row, entry in enumerate(self.added, first)
            if entry.item == item and row not in self.removed
        ]
        return Counter(entry.variant for entry in found)

    def folded(self) -> Table:
        """Make one table of everything that is in, and of nothing that was removed."""
        first = len(self.table)
        kept = np.ones(first, dtype=np.bool_)
        kept[[row for row in self.removed if row < first]] = False
        return self.table.merged(
            kept, [e for row, e in enumerate(self.added, first) if row not in self.removed]
        )


class BankContents:
    """A set of signals with their names (`nciihash.feed.SignalSet`), searchable by type.

    One thread changes it; others may query meanwhile and see each run of additions or removals
    entirely or not at all.
    """

    def __init__(self, tables: Iterable[Table] = ()) -> None:
        self._shelves = {table.type: TypeContents(table) for table in tables}
        self._new: dict[str, tuple[SignalType, int]] = {}
        self._old: dict[str, tuple[SignalType, int] | None] = {}

    def __len__(self) -> int:
        """Count the signals."""
        return sum(len(shelf.index) for shelf in self._shelves.values())

    def __iter__(self) -> Iterator[Added]:
        """Go through the signals, by type."""
        for shelf in self._shelves.values():
            yield from shelf

    @property
    def waiting(self) -> int:
        """Count the additions that no table has taken in yet."""
        return sum(len(shelf.added) for shelf in self._shelves.values())

    @property
    def withdrawn(self) -> int:
        """Count the removed signals that are still in the tables or among the additions."""
        return sum(len(shelf.removed) for shelf in self._shelves.values())

    def __contains__(self, id: object) -> bool:
        """Tell whether a signal with this id is in."""
        return isinstance(id, str) and self._place(id) is not None

    def entry(self, id: str) -> Added | None:
        """Give a signal as the feed gave it, or None if it is not in."""
        if (place := self._place(id)) is None:
            return None
        type, row = place
        return self._shelves[type].entry(row)

    def add(self, added: Sequence[Added]) -> None:
        """Take in signals whose ids are new and differ from one another."""
        by_type: dict[SignalType, list[Added]] = defaultdict(list)
        for entry in added:
            by_type[entry.signal.type].append(entry)
        for type, entries in by_type.items():
            shelf = self._shelves.get(type) or TypeContents(Table.empty(type))
            row = shelf.add(entries)
            # a new dictionary, since queries in other threads go through the old one
            self._shelves = {**self._shelves, type: shelf}
            self._new.update((e.id, (type, row + i)) for i, e in enumerate(entries))

    def remove(self, ids: Sequence[str]) -> None:
        """Drop signals, all of which are in."""
        by_type: dict[SignalType, list[int]] = defaultdict(list)
        for id in ids:
            place = self._place(id)
            if place is None:
                raise KeyError(id)
            by_type[place[0]].append(place[1])
            if self._new.pop(id, None) is None:
                self._old[id] = None
        for type, rows in by_type.items():
            self._shelves[type].remove(rows)

    def apply(self, page: FeedPage) -> Changes:
        """Apply a page (`nciihash.feed.apply`).

        Raises:
            ValueError: an id is not as the wire writes it.
        """
        self._expect([entry.id for entry in page.entries])
        return apply(page, self)

    def _expect(self, ids: Sequence[str]) -> None:
        """Look many ids up in the tables at once: one by one costs 20 times as much."""
        found: dict[str, tuple[SignalType, int] | None] = dict.fromkeys(ids)
        raw = np.array([raw_id(id) for id in found], dtype=f"S{ID_BYTES}")
        names = list(found)
        for type, shelf in self._shelves.items():
            rows = shelf.table.find(raw)
            for at in np.flatnonzero(rows >= 0).tolist():
                row = int(rows[at])
                if row not in shelf.removed:
                    found[names[at]] = (type, row)
        self._old = found

    def _place(self, id: str) -> tuple[SignalType, int] | None:
        if (place := self._new.get(id)) is not None:
            return place
        if id not in self._old:
            try:
                raw = np.array([raw_id(id)], dtype=f"S{ID_BYTES}")
            except ValueError:
                return None
            for type, shelf in self._shelves.items():
                row = int(shelf.table.find(raw)[0])
                if row >= 0 and row not in shelf.removed:
                    return type, row
            return None
        return self._old[id]

    def kinds(self, type: SignalType, item: str) -> Counter[Variant]:
        """Count the hashes of one type that an item has, by the copies that they are of."""
        shelf = self._shelves.get(type)
        return Counter() if shelf is None else shelf.kinds(item)

    def query(self, signals: Sequence[Signal]) -> list[tuple[Match, ...]]:
        """Find, for each signal, those of its type within its type's threshold, nearest first."""
        found: list[tuple[Match, ...]] = [()] * len(signals)
        places: dict[SignalType, list[int]] = defaultdict(list)
        for place, signal in enumerate(signals):
            places[signal.type].append(place)
        shelves = self._shelves
        for type, asked in places.items():
            if (shelf := shelves.get(type)) is None:
                continue
            values = b"".join(signals[place].value for place in asked)
            packed: NDArray[np.uint8] = np.frombuffer(values, dtype=np.uint8)
            matches = shelf.index.query(packed.reshape(len(asked), -1), radius=type.threshold)
            bounds = matches.offsets.tolist()
            rows, distances = matches.ids.tolist(), matches.distances.tolist()
            for place, start, end in zip(asked, bounds[:-1], bounds[1:], strict=True):
                row_matches = []
                for row, distance in zip(rows[start:end], distances[start:end], strict=True):
                    entry = shelf.entry(row)
                    row_matches.append(Match(entry.id, entry.item, type, entry.variant, distance))
                found[place] = tuple(sorted(row_matches, key=lambda m: (m.distance, m.id)))
        return found

    def folded(self) -> list[Table]:
        """Make tables of everything that is in, and of nothing that was removed."""
        tables = [shelf.folded() for shelf in self._shelves.values()]
        return [table for table in tables if len(table)]


class Replacement:
    """A bank in the making, in memory: append the whole feed to it, then let the bank adopt it.

    `cursor` is the place in the feed behind the last page, None before the first.
    """

    def __init__(self) -> None:
        self.holdings = BankContents()
        self.cursor: str | None = None

    def __len__(self) -> int:
        """Count the signals."""
        return len(self.holdings)

    def append(self, page: FeedPage) -> Changes:
        """Apply a page, in memory.

        Raises:
            ValueError: an id or item is not as the wire writes it; nothing was applied.
        """
        encode(page)  # checks the ids
        applied = self.holdings.apply(page)
        self.cursor = page.cursor
        if self.holdings.waiting > max(_LOOSE, len(self.holdings) // 8):
            # tables take a sixth of the memory that single additions take
            self.holdings = BankContents(self.holdings.folded())
        return applied
