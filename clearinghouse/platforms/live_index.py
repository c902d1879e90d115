"""The live index: in memory only, kept by following the service's own log like any platform."""

import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clearinghouse.abuse.fitness import can_match
from clearinghouse.abuse.oracle import ASIDE, REACH, OracleDetector
from clearinghouse.database.queries.log import LogEntry
from clearinghouse.database.store import Store
from clearinghouse.errors import BadCursor, CursorExpired, KeyMismatch, NotReady
from clearinghouse.platforms import hits
from clearinghouse.platforms.hits import ChosenHits, NearSignals
from clearinghouse.platforms.keys import Platform
from clearinghouse.platforms.signal_rows import SignalRows, near
from clearinghouse.sealing.platform_ids import PlatformIds
from clearinghouse.sealing.vault import Vault
from nciihash.feed import Added, FeedEntry, FeedPage, Removed, apply
from nciihash.search.index import Index
from nciihash.signals import MADE, Band, Media, Signal, SignalType, Variant
from nciihash.veil import Veil, veil_pdq
from nciihash.wire import Hit, MatchReply

_log = logging.getLogger(__name__)

_PAGE: Final = 5_000  # entries of the log taken in at a time
_WATCHED: Final = SignalType.PDQ_VEIL128  # the bits that every veil shows


class DatabaseRestored(Exception):
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
        self._rows = SignalRows()
        self._cases: dict[int, int] = {}  # of the signals that are added next
        self._indexes = {type: Index(type.bits) for type in MADE if not type.exact}
        self._veiled = Index(_WATCHED.bits)
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
                    raise DatabaseRestored
                entries = tx.log.read(self._seq, _PAGE)
            if entries:
                changed = True
                cursor = entries[-1].seq
                page = FeedPage(feed_entries(entries, store.vault, None), str(cursor), more=True)
                with self._lock:
                    self._cases = {e.signal: e.case for e in entries if e.case is not None}
                    removed = apply(page, self).removed
                    self._seq = cursor
                self.removals += removed
            if len(entries) < _PAGE:
                self.caught_up = True
                self.caught_up_at = time.monotonic()
                return changed

    def count(self, platform: int, items: Mapping[int, int]) -> None:
        """Count a platform's matches by file, to be written by `take_counts`' caller."""
        with self._lock:
            self._met.update({(platform, item): count for item, count in items.items()})

    def take_counts(self) -> Counter[tuple[int, int]]:
        """Hand over the matches counted since the last time, by (platform, file)."""
        with self._lock:
            met, self._met = self._met, Counter()
        return met

    def __contains__(self, id: object) -> bool:
        """Tell whether a signal, by its row number in digits, is in."""
        return isinstance(id, str) and int(id) in self._rows

    def add(self, added: Sequence[Added]) -> None:
        """Take in signals (`nciihash.feed.Members`)."""
        rows: dict[SignalType, list[tuple[int, bytes]]] = defaultdict(list)
        for entry in added:
            number, type = int(entry.id), entry.signal.type
            self._rows.add(number, type, int(entry.item), self._cases.get(number, 0))
            if type.exact:
                self._exact[entry.signal].add(number)
                self._values[number] = entry.signal
            else:
                rows[type].append((number, entry.signal.value))
        for type, pairs in rows.items():
            ids = np.array([number for number, _ in pairs], dtype=np.uint64)
            packed = np.frombuffer(b"".join(value for _, value in pairs), dtype=np.uint8)
            packed = packed.reshape(len(pairs), -1)
            self._indexes[type].add(ids, packed)
            if type is SignalType.PDQ:
                self._veiled.add(ids, veil_pdq(packed, _WATCHED))

    def remove(self, ids: Sequence[str]) -> None:
        """Drop signals (`nciihash.feed.Members`)."""
        rows: dict[SignalType, list[int]] = defaultdict(list)
        for number in map(int, ids):
            type = self._rows.remove(number)
            if type.exact:
                signal = self._values.pop(number)
                self._exact[signal].discard(number)
                if not self._exact[signal]:
                    del self._exact[signal]
            else:
                rows[type].append(number)
        for type, numbers in rows.items():
            gone = np.array(numbers, dtype=np.uint64)
            self._indexes[type].remove(gone)
            if type is SignalType.PDQ:
                self._veiled.remove(gone)

    def query(
        self, type: SignalType, packed: NDArray[np.uint8]
    ) -> tuple[int, Iterator[NearSignals]]:
        """Look for hashes of one type.

        Args:
            type: their type.
            packed: uint8 (q, type.bits // 8).

        Returns:
            The place in the log that the answer covers, and what the queries met, to `REACH` bits
            beyond the threshold; some of them at a time, so that memory stays bounded.
        """
        with self._lock:
            seq = self._seq
            if type.exact:
                return seq, iter(self._equal(type, packed))
            index, rows = self._indexes[type], self._rows
        # Outside the lock: the index answers from a consistent state of its own, which is at least
        # as new as `seq`.
        return seq, near(index, rows, packed, type.threshold + REACH)

    def _equal(self, type: SignalType, packed: NDArray[np.uint8]) -> list[NearSignals]:
        signals = (Signal(type, row.tobytes()) for row in packed)
        found = [
            (place, number)
            for place, signal in enumerate(signals)
            for number in sorted(self._exact.get(signal, ()))
        ]
        if not found:
            return []
        queries, numbers = np.array(found, dtype=np.int64).T
        return [self._rows.met(queries, numbers, np.zeros(len(found), dtype=np.int64))]

    def near_veiled(self, packed: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Look for files whose published bits are nearly those of some PDQ hashes.

        Args:
            packed: uint8 (q, 32), at least one row.

        Returns:
            Queries, by their places among `packed`, and files, int64 (p,) each.
        """
        with self._lock:
            index, rows = self._veiled, self._rows
        found = list(near(index, rows, veil_pdq(packed, _WATCHED), ASIDE))
        if not found:
            nothing = np.empty(0, dtype=np.int64)
            return nothing, nothing
        pairs = np.concatenate([np.stack((met.query, met.item)) for met in found], axis=1)
        queries, items = np.unique(pairs, axis=1)
        return queries, items


def feed_entries(
    entries: Sequence[LogEntry], vault: Vault, names: PlatformIds | None, veil: Veil | None = None
) -> tuple[FeedEntry, ...]:
    """Open entries of the log for a reader: under a platform's names, or row numbers in digits.

    An addition whose value has been purged since is left out; its removal follows. Under a veil,
    so is what has no veiled form.
    """
    ids = _write(names, PlatformIds.SIGNAL, [e.signal for e in entries])
    owners = _write(names, PlatformIds.ITEM, [e.item or 0 for e in entries])
    page: list[FeedEntry] = []
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


def _veiled(page: Sequence[FeedEntry], veil: Veil) -> tuple[FeedEntry, ...]:
    parts = iter(veil.over([entry.signal for entry in page if isinstance(entry, Added)]))
    shown: list[FeedEntry] = []
    for entry in page:
        if isinstance(entry, Removed):
            shown.append(entry)
        elif (part := next(parts)) is not None:
            shown.append(replace(entry, signal=part))
    return tuple(shown)


def _write(names: PlatformIds | None, kind: int, numbers: list[int]) -> list[str]:
    return [str(n) for n in numbers] if names is None else names.write(kind, numbers)


def match(
    store: Store,
    live: LiveIndex,
    watch: OracleDetector,
    platform: Platform,
    type: SignalType,
    packed: NDArray[np.uint8],
    *,
    qualities: Sequence[int] | None = None,
    now: datetime,
) -> MatchReply:
    """Answer a platform's query in bands, with ids that only it knows, and count the matches.

    What is told and in which order, `clearinghouse.platforms.hits` says. A file counts as met by
    each query that it matches, whether or not it is told; of a query that meets more than some
    thousand, those count that may be told.

    Raises:
        NotReady: the index has not caught up with the log since the start.
    """
    if not live.caught_up:
        raise NotReady
    asked = np.flatnonzero(can_match(type, packed, qualities))
    total, packed = len(packed), packed[asked]
    seq, found = live.query(type, packed)
    parts: list[ChosenHits] = []
    met_nothing = np.ones(len(packed), dtype=np.bool_)
    counts: Counter[int] = Counter()
    for met in found:
        with store.read() as tx:
            # What was withdrawn a moment ago may still be in the index, and must not match any
            # more.
            gone = tx.log.removed_after(seq)
        left = met.take(~np.isin(met.signal, list(gone))) if gone else met
        tell, watched, left_out = hits.reduce(left, type, platform.names)
        queries, items, distances = watched.pairs()
        matching = distances <= type.threshold
        met_nothing[queries[matching]] = False
        counts.update(items[matching].tolist())
        watch.look(platform.key, type, packed, queries, items, distances, now=now)
        if len(tell):
            told = hits.choose(tell, type, platform.names)
            parts.append(replace(told, cut=np.union1d(told.cut, left_out)))
    if counts:
        # Written a moment later by the task that follows the log: an answer must not wait for it.
        live.count(platform.number, counts)
    if type is SignalType.PDQ and platform.holds_veiled and met_nothing.any():
        places = np.flatnonzero(met_nothing)
        queries, items = live.near_veiled(packed[places])
        watch.look_aside(platform.key, packed, places[queries], items, now=now)
    matches: list[tuple[Hit, ...]] = [()] * total
    truncated: list[int] = []
    if parts:
        together = hits.together(parts)
        for query, row in _written(platform, together):
            matches[asked[query]] = row
        truncated = sorted(asked[together.cut].tolist())
    as_of = cursor_name(store, platform, seq)
    return MatchReply(as_of=as_of, matches=tuple(matches), truncated=tuple(truncated))


def _written(platform: Platform, told: ChosenHits) -> Iterator[tuple[int, tuple[Hit, ...]]]:
    """Write what each query is told, as (query, hits)."""
    ids = platform.names.write(PlatformIds.SIGNAL, told.signal.tolist())
    owners = platform.names.write(PlatformIds.ITEM, told.item.tolist())
    bands = [Band.LIKELY if likely else Band.STRONG for likely in told.likely.tolist()]
    rows = [Hit(id=i, item=o, band=b) for i, o, b in zip(ids, owners, bands, strict=True)]
    for query, start, end in hits.rows_by_query(told):
        yield query, tuple(rows[start:end])


def cursor_name(store: Store, platform: Platform, seq: int) -> str:
    """Name a place in the log for one platform."""
    return platform.names.write(PlatformIds.CURSOR, [seq], epoch=store.epoch)[0]


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
