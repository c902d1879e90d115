"""A bank's contents in memory: the snapshot's tables, the changes since, and the indexes."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nciihash.bank.candidates import Candidates
from nciihash.bank.journal import ID_BYTES, encode, raw_id
from nciihash.bank.snapshot import Table
from nciihash.feed import Added, Changes, FeedPage, apply
from nciihash.search.index import Index
from nciihash.signals import Match, Signal, SignalType, Variant

_CHUNK: Final = 1 << 20  # rows added to an index at once
_ADDITIONS_MAX: Final = 50_000  # additions that a replacement keeps outside its tables


class TypeContents:
    """The signals of one type: an immutable table, the additions since, and the removed rows.

    Row numbers run through the table and then through the additions, and are the ids in the index.
    Additions are kept until the next compaction even if they are removed, so that row numbers never
    change.
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
        """Add signals; return the row of the first."""
        row = len(self.table) + len(self.added)
        # before the index, since a query in another thread sees a row as soon as the index has it
        self.added.extend(added)
        values = b"".join(entry.signal.value for entry in added)
        packed = np.frombuffer(values, dtype=np.uint8).reshape(len(added), -1)
        self.index.add(np.arange(row, row + len(added), dtype=np.uint64), packed)
        return row

    def remove(self, rows: Sequence[int]) -> None:
        """Remove rows, none of which is removed yet."""
        self.index.remove(np.array(rows, dtype=np.uint64))
        self.removed.update(rows)

    def entry(self, row: int) -> Added:
        """Return a row as it came from the feed."""
        row -= len(self.table)
        return self.added[row] if row >= 0 else self.table.entry(row + len(self.table))

    def candidates(self, packed: NDArray[np.uint8], reach: int) -> Candidates:
        """Find the candidates of hashes (`Bank.candidates`)."""
        found = self.index.query(packed, self.table.type.threshold, candidates=reach)
        rows = found.ids.astype(np.int64)
        first = len(self.table)
        values = np.empty((len(rows), packed.shape[1]), dtype=np.uint8)
        items = np.empty((len(rows), ID_BYTES), dtype=np.uint8)
        in_table = rows < first
        values[in_table] = self.table.values[rows[in_table]]
        items[in_table] = self.table.items[rows[in_table]]
        for position in np.flatnonzero(~in_table).tolist():
            entry = self.added[int(rows[position]) - first]
            values[position] = np.frombuffer(entry.signal.value, np.uint8)
            items[position] = np.frombuffer(bytes.fromhex(entry.item), np.uint8)
        return Candidates(found.queries, found.distances, values, items, rows, self.entry)

    def __iter__(self) -> Iterator[Added]:
        """Yield the signals that are not removed."""
        for row in range(len(self.table) + len(self.added)):
            if row not in self.removed:
                yield self.entry(row)

    def count_variants(self, item: str) -> Counter[Variant]:
        """Count an item's hashes by variant."""
        raw = np.frombuffer(bytes.fromhex(item), np.uint8)
        rows = np.flatnonzero((self.table.items == raw).all(axis=1)).tolist()
        entries = [self.table.entry(row) for row in rows if row not in self.removed]
        first = len(self.table)
        entries += [
            entry
            for row, entry in enumerate(self.added, first)
            if entry.item == item and row not in self.removed
        ]
        return Counter(entry.variant for entry in entries)

    def compacted(self) -> Table:
        """Return a table of all signals that are not removed."""
        first = len(self.table)
        kept = np.ones(first, dtype=np.bool_)
        kept[[row for row in self.removed if row < first]] = False
        return self.table.merged(
            kept, [e for row, e in enumerate(self.added, first) if row not in self.removed]
        )


class BankContents:
    """A searchable set of signals, grouped by type (a `nciihash.feed.SignalSet`).

    One thread may change it. Others may query at the same time, and see each run of additions or
    removals entirely or not at all.
    """

    def __init__(self, tables: Iterable[Table] = ()) -> None:
        self._by_type = {table.type: TypeContents(table) for table in tables}
        self._added: dict[str, tuple[SignalType, int]] = {}  # type and row of each addition
        # type and row of ids in tables: the current page's, and None for those that are not in one
        self._looked_up: dict[str, tuple[SignalType, int] | None] = {}

    def __len__(self) -> int:
        """Return the number of signals."""
        return sum(len(contents.index) for contents in self._by_type.values())

    def __iter__(self) -> Iterator[Added]:
        """Yield the signals, grouped by type."""
        for contents in self._by_type.values():
            yield from contents

    @property
    def additions(self) -> int:
        """Number of additions that are not in a table yet."""
        return sum(len(contents.added) for contents in self._by_type.values())

    @property
    def withdrawn(self) -> int:
        """Number of removed signals that are still in the tables or among the additions."""
        return sum(len(contents.removed) for contents in self._by_type.values())

    def __contains__(self, id: object) -> bool:
        """Whether a signal with this id is in the set."""
        return isinstance(id, str) and self._find(id) is not None

    def entry(self, id: str) -> Added | None:
        """Return the signal with this id as it came from the feed, or None."""
        if (found := self._find(id)) is None:
            return None
        type, row = found
        return self._by_type[type].entry(row)

    def add(self, added: Sequence[Added]) -> None:
        """Add signals. Their ids are distinct and not in the set."""
        grouped: dict[SignalType, list[Added]] = defaultdict(list)
        for entry in added:
            grouped[entry.signal.type].append(entry)
        for type, entries in grouped.items():
            contents = self._by_type.get(type) or TypeContents(Table.empty(type))
            row = contents.add(entries)
            # a new dictionary, since queries in other threads iterate over the old one
            self._by_type = {**self._by_type, type: contents}
            self._added.update((e.id, (type, row + i)) for i, e in enumerate(entries))

    def remove(self, ids: Sequence[str]) -> None:
        """Remove signals. All of them are in the set."""
        grouped: dict[SignalType, list[int]] = defaultdict(list)
        for id in ids:
            found = self._find(id)
            if found is None:
                raise KeyError(id)
            grouped[found[0]].append(found[1])
            if self._added.pop(id, None) is None:
                self._looked_up[id] = None
        for type, rows in grouped.items():
            self._by_type[type].remove(rows)

    def apply(self, page: FeedPage) -> Changes:
        """Apply a page (`nciihash.feed.apply`).

        Raises:
            ValueError: an id is malformed; nothing was applied.
        """
        self._look_up([entry.id for entry in page.entries])
        return apply(page, self)

    def _look_up(self, ids: Sequence[str]) -> None:
        """Look all ids up in the tables at once, 20 times faster than one by one."""
        found: dict[str, tuple[SignalType, int] | None] = dict.fromkeys(ids)
        raw = np.array([raw_id(id) for id in found], dtype=f"S{ID_BYTES}")
        unique = list(found)
        for type, contents in self._by_type.items():
            rows = contents.table.find(raw)
            for position in np.flatnonzero(rows >= 0).tolist():
                row = int(rows[position])
                if row not in contents.removed:
                    found[unique[position]] = (type, row)
        self._looked_up = found

    def _find(self, id: str) -> tuple[SignalType, int] | None:
        """Return the type and row of an id, or None."""
        if (found := self._added.get(id)) is not None:
            return found
        looked_up = self._looked_up  # another thread may replace it
        if id not in looked_up:
            try:
                raw = np.array([raw_id(id)], dtype=f"S{ID_BYTES}")
            except ValueError:
                return None
            for type, contents in self._by_type.items():
                row = int(contents.table.find(raw)[0])
                if row >= 0 and row not in contents.removed:
                    return type, row
            return None
        return looked_up[id]

    def count_variants(self, type: SignalType, item: str) -> Counter[Variant]:
        """Count an item's hashes of one type, by variant."""
        contents = self._by_type.get(type)
        return Counter() if contents is None else contents.count_variants(item)

    def query(self, signals: Sequence[Signal]) -> list[tuple[Match, ...]]:
        """Find the matches of each signal, sorted by distance, then by id."""
        matches: list[tuple[Match, ...]] = [()] * len(signals)
        positions: dict[SignalType, list[int]] = defaultdict(list)
        for position, signal in enumerate(signals):
            positions[signal.type].append(position)
        by_type = self._by_type
        for type, queries in positions.items():
            if (contents := by_type.get(type)) is None:
                continue
            values = b"".join(signals[position].value for position in queries)
            packed: NDArray[np.uint8] = np.frombuffer(values, dtype=np.uint8)
            found = contents.index.query(packed.reshape(len(queries), -1), radius=type.threshold)
            bounds = found.offsets.tolist()
            rows, distances = found.ids.tolist(), found.distances.tolist()
            for position, start, end in zip(queries, bounds[:-1], bounds[1:], strict=True):
                unsorted = []
                for row, distance in zip(rows[start:end], distances[start:end], strict=True):
                    entry = contents.entry(row)
                    unsorted.append(Match(entry.id, entry.item, type, entry.variant, distance))
                matches[position] = tuple(sorted(unsorted, key=lambda m: (m.distance, m.id)))
        return matches

    def candidates(self, type: SignalType, packed: NDArray[np.uint8], reach: int) -> Candidates:
        """Find the candidates of hashes (`Bank.candidates`)."""
        contents = self._by_type.get(type) or TypeContents(Table.empty(type))
        return contents.candidates(packed, reach)

    def compacted(self) -> list[Table]:
        """Return tables of all signals that are not removed."""
        tables = [contents.compacted() for contents in self._by_type.values()]
        return [table for table in tables if len(table)]


class ReplacementBank:
    """A new bank in memory: append the whole feed to it, then pass it to `Bank.adopt`.

    Attributes:
        contents: its signals.
        cursor: the feed's cursor after the last page; None before the first.
    """

    def __init__(self) -> None:
        self.contents = BankContents()
        self.cursor: str | None = None

    def __len__(self) -> int:
        """Return the number of signals."""
        return len(self.contents)

    def append(self, page: FeedPage) -> Changes:
        """Apply a page in memory.

        Raises:
            ValueError: an id or an item's id is malformed; nothing was applied.
        """
        encode(page)  # validates the ids
        applied = self.contents.apply(page)
        self.cursor = page.cursor
        if self.contents.additions > max(_ADDITIONS_MAX, len(self.contents) // 8):
            # tables take a sixth of the memory of single additions
            self.contents = BankContents(self.contents.compacted())
        return applied
