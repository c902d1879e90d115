"""The live index: in memory only, kept by following the service's own log like any platform."""

import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clearinghouse.abuse.oracle import Watch
from clearinghouse.database.queries.log import LogEntry
from clearinghouse.database.store import Store
from clearinghouse.errors import BadCursor, CursorExpired, KeyMismatch, NotReady
from clearinghouse.platforms.keys import Platform
from clearinghouse.sealing.platform_ids import Names
from clearinghouse.sealing.vault import Vault
from nciihash.feed import Added, Entry, FeedPage, Removed, apply
from nciihash.search.index import Index
from nciihash.signals import MADE, Media, Signal, SignalType, Variant, band
from nciihash.veil import Veil
from nciihash.wire import Hit, MatchReply

_log = logging.getLogger(__name__)

_PAGE: Final = 5_000  # entries of the log taken in at a time


class Replaced(Exception):
    """The database was put back from a backup, under a service that runs."""


class LiveIndex:
    """Every live signal of the service, searchable by type.

    One thread follows the log; any number of threads query meanwhile.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._met: Counter[tuple[int, int]] = Counter()
        self.removals = 0  # since the start
        self._begin()

    def _begin(self) -> None:
        self.caught_up = False
        self.caught_up_at = time.monotonic()
        self._seq = 0
        self._items: dict[int, tuple[SignalType, int]] = {}
        self._indexes = {type: Index(type.bits) for type in MADE if not type.exact}
        self._exact: dict[Signal, set[int]] = defaultdict(set)
        self._values: dict[int, Signal] = {}  # of exact signals, to find them at removal

    def begin_anew(self) -> None:
        """Forget everything, to follow another log from its beginning."""
        with self._lock:
            self._begin()

    @property
    def seq(self) -> int:
        """Give the place in the log up to which everything is in."""
        return self._seq

    def follow(self, store: Store) -> bool:
        """Take in what is new in the log; tell whether there was anything.

        Raises:
            Replaced: the log is not the one that was followed.
        """
        changed = False
        while True:
            with store.read() as tx:
                if tx.log.epoch() != store.epoch or tx.log.head() < self._seq:
                    raise Replaced
                entries = tx.log.read(self._seq, _PAGE)
            if entries:
                changed = True
                cursor = entries[-1].seq
                page = FeedPage(feed_entries(entries, store.vault, None), str(cursor), more=True)
                with self._lock:
                    removed = apply(page, self).removed
                    self._seq = cursor
                self.removals += removed
            if len(entries) < _PAGE:
                self.caught_up = True
                self.caught_up_at = time.monotonic()
                return changed

    def count(self, platform: int, items: Iterable[int]) -> None:
        """Count a platform's matches of files, to be written by `take_counts`' caller."""
        with self._lock:
            self._met.update((platform, item) for item in items)

    def take_counts(self) -> Counter[tuple[int, int]]:
        """Hand over the matches counted since the last time, by (platform, file)."""
        with self._lock:
            met, self._met = self._met, Counter()
        return met

    def __contains__(self, id: object) -> bool:
        """Tell whether a signal, by its row number in digits, is in."""
        return isinstance(id, str) and int(id) in self._items

    def add(self, added: Sequence[Added]) -> None:
        """Take in signals (`nciihash.feed.Members`)."""
        rows: dict[SignalType, list[tuple[int, bytes]]] = defaultdict(list)
        for entry in added:
            number = int(entry.id)
            self._items[number] = (entry.signal.type, int(entry.item))
            if entry.signal.type.exact:
                self._exact[entry.signal].add(number)
                self._values[number] = entry.signal
            else:
                rows[entry.signal.type].append((number, entry.signal.value))
        for type, pairs in rows.items():
            ids = np.array([number for number, _ in pairs], dtype=np.uint64)
            packed = np.frombuffer(b"".join(value for _, value in pairs), dtype=np.uint8)
            self._indexes[type].add(ids, packed.reshape(len(pairs), -1))

    def remove(self, ids: Sequence[str]) -> None:
        """Drop signals (`nciihash.feed.Members`)."""
        rows: dict[SignalType, list[int]] = defaultdict(list)
        for number in map(int, ids):
            type, _ = self._items.pop(number)
            if type.exact:
                signal = self._values.pop(number)
                self._exact[signal].discard(number)
                if not self._exact[signal]:
                    del self._exact[signal]
            else:
                rows[type].append(number)
        for type, numbers in rows.items():
            self._indexes[type].remove(np.array(numbers, dtype=np.uint64))

    def query(
        self, type: SignalType, packed: NDArray[np.uint8]
    ) -> tuple[int, dict[int, list[tuple[int, int, int]]]]:
        """Look for hashes of one type.

        Args:
            type: their type.
            packed: uint8 (q, type.bits // 8).

        Returns:
            The place in the log that the answer covers, and for each query that met something, by
            its place among `packed`, the (signal, item, distance) of every match, nearest first.
        """
        with self._lock:
            seq = self._seq
            if type.exact:
                signals = (Signal(type, row.tobytes()) for row in packed)
                return seq, {
                    place: [(n, self._items[n][1], 0) for n in sorted(numbers)]
                    for place, signal in enumerate(signals)
                    if (numbers := self._exact.get(signal))
                }
        # Outside the lock: the index answers from a consistent state of its own, which is at least
        # as new as `seq`.
        found = self._indexes[type].query(packed, radius=type.threshold)
        # Most queries of a platform meet nothing, and cost nothing here.
        queries = np.repeat(np.arange(len(packed)), np.diff(found.offsets)).tolist()
        rows: dict[int, list[tuple[int, int, int]]] = {}
        for place, number, distance in zip(
            queries, found.ids.tolist(), found.distances.tolist(), strict=True
        ):
            known = self._items.get(number)  # None: removed since
            if known is not None:
                rows.setdefault(place, []).append((number, known[1], distance))
        return seq, rows


def feed_entries(
    entries: Sequence[LogEntry], vault: Vault, names: Names | None, veil: Veil | None = None
) -> tuple[Entry, ...]:
    """Open entries of the log for a reader: under a platform's names, or row numbers in digits.

    An addition whose value has been purged since is left out; its removal follows. Under a veil,
    so is what has no veiled form.
    """
    ids = _write(names, Names.SIGNAL, [e.signal for e in entries])
    owners = _write(names, Names.ITEM, [e.item or 0 for e in entries])
    page: list[Entry] = []
    for entry, id, item in zip(entries, ids, owners, strict=True):
        if entry.op == "remove":
            page.append(Removed(id))
        elif entry.value is not None and entry.item is not None and entry.ordinal is not None:
            try:
                value = vault.open(entry.value, "signals", "value", entry.item, entry.ordinal)
            except KeyMismatch:
                # One damaged row must not stop the feed and the index for all others.
                _log.error("Signal row %d does not open, and is left out", entry.signal)
                continue
            signal = Signal(SignalType(entry.type or ""), value)
            page.append(
                Added(
                    id=id,
                    item=item,
                    signal=signal,
                    quality=entry.quality,
                    media=Media(entry.media or ""),
                    variant=Variant(entry.variant or ""),
                )
            )
    return tuple(page) if veil is None else _veiled(page, veil)


def _veiled(page: Sequence[Entry], veil: Veil) -> tuple[Entry, ...]:
    parts = iter(veil.over([entry.signal for entry in page if isinstance(entry, Added)]))
    shown: list[Entry] = []
    for entry in page:
        if isinstance(entry, Removed):
            shown.append(entry)
        elif (part := next(parts)) is not None:
            shown.append(replace(entry, signal=part))
    return tuple(shown)


def _write(names: Names | None, kind: int, numbers: list[int]) -> list[str]:
    return [str(n) for n in numbers] if names is None else names.write(kind, numbers)


def match(
    store: Store,
    live: LiveIndex,
    watch: Watch,
    platform: Platform,
    type: SignalType,
    packed: NDArray[np.uint8],
    *,
    now: datetime,
) -> MatchReply:
    """Answer a platform's query in bands, with ids that only it knows, and count the matches.

    Raises:
        NotReady: the index has not caught up with the log since the start.
    """
    if not live.caught_up:
        raise NotReady
    seq, rows = live.query(type, packed)
    if rows:
        with store.read() as tx:
            # What was withdrawn a moment ago may still be in the index, and must not match any
            # more.
            gone = tx.log.removed_after(seq)
        left = {place: [hit for hit in row if hit[0] not in gone] for place, row in rows.items()}
        rows = {place: row for place, row in left.items() if row}
    flat = [hit for row in rows.values() for hit in row]
    # Written a moment later by the task that follows the log: an answer must not wait for a count.
    live.count(platform.number, (i for row in rows.values() for i in {item for _, item, _ in row}))
    watch.look(platform.key, type, packed, rows, now=now)
    ids = iter(platform.names.write(Names.SIGNAL, [signal for signal, _, _ in flat]))
    owners = iter(platform.names.write(Names.ITEM, [item for _, item, _ in flat]))
    hits = {
        place: tuple(
            Hit(id=next(ids), item=next(owners), band=band(type, distance))
            for _, _, distance in row
        )
        for place, row in rows.items()
    }
    return MatchReply(
        as_of=cursor_name(store, platform, seq),
        matches=tuple(hits.get(place, ()) for place in range(len(packed))),
    )


def cursor_name(store: Store, platform: Platform, seq: int) -> str:
    """Name a place in the log for one platform."""
    return platform.names.write(Names.CURSOR, [seq], epoch=store.epoch)[0]


def read_place(store: Store, platform: Platform, kind: int, name: str) -> int:
    """Give the place that a cursor of this kind stands for.

    Raises:
        BadCursor: it was not made for this platform.
        CursorExpired: it belongs to another epoch of the log.
    """
    place = platform.names.read(kind, name)
    if place is None:
        raise BadCursor
    epoch, number = place
    if epoch != store.epoch:
        raise CursorExpired
    return number
