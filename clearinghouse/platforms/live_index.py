"""The live index: every live signal in memory, updated from the log as a platform's bank is."""

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
from clearinghouse.abuse.oracle import REACH, VEIL_REACH, OracleDetector
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
from nciihash.signals import FILE_SIGNAL_TYPES, Band, Media, Signal, SignalType, Variant
from nciihash.veil import Veil, veil_pdq
from nciihash.wire import Hit, MatchReply

_log = logging.getLogger(__name__)

_PAGE: Final = 5_000  # log entries applied at a time
_FRAMES: Final = 200_000  # queries near videos that are counted together
_PUBLISHED: Final = SignalType.PDQ_VEIL128  # the bits that every veil reveals


class DatabaseRestored(Exception):
    """The database was restored from a backup while the service was running."""


class LiveIndex:
    """An index of every live signal, searchable by type.

    One thread applies the log; any number of threads query at the same time.

    Attributes:
        caught_up: whether the end of the log was reached since the start, or since the last error.
        caught_up_at: when it was last reached, in seconds of `time.monotonic`.
        removals: signals removed since the start.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._match_counts: Counter[tuple[int, int]] = Counter()
        self.removals = 0
        self._reset()

    def _reset(self) -> None:
        self.caught_up = False
        self.caught_up_at = time.monotonic()
        self._seq = 0
        self._rows = SignalRows()
        self._cases: dict[int, int] = {}  # by signal, of those added next
        self._indexes = {type: Index(type.bits) for type in FILE_SIGNAL_TYPES if not type.exact}
        self._veiled = Index(_PUBLISHED.bits)
        self._exact: dict[Signal, set[int]] = defaultdict(set)
        self._values: dict[int, Signal] = {}  # of exact signals, for their removal
        # row numbers of the files that are videos; never reused, so removed ones may stay
        self._videos: set[int] = set()

    def reset(self) -> None:
        """Remove everything, so that `follow` reads the log from its beginning."""
        with self._lock:
            self._reset()

    @property
    def seq(self) -> int:
        """The log position up to which everything was applied."""
        return self._seq

    def follow(self, store: Store) -> bool:
        """Apply new log entries; return whether there were any.

        Raises:
            DatabaseRestored: the log is not the one that was read before.
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
        """Add to the number of matches of a platform with each file, by the file's row number."""
        with self._lock:
            self._match_counts.update({(platform, item): count for item, count in items.items()})

    def take_match_counts(self) -> Counter[tuple[int, int]]:
        """Return the match counts by (platform, file), and clear them."""
        with self._lock:
            counts, self._match_counts = self._match_counts, Counter()
        return counts

    def __contains__(self, id: object) -> bool:
        """Whether a signal is live; its id is its row number in digits."""
        return isinstance(id, str) and int(id) in self._rows

    def add(self, added: Sequence[Added]) -> None:
        """Add signals (`nciihash.feed.Members`)."""
        rows: dict[SignalType, list[tuple[int, bytes]]] = defaultdict(list)
        for entry in added:
            number, type = int(entry.id), entry.signal.type
            self._rows.add(number, type, int(entry.item), self._cases.get(number, 0))
            if entry.media is Media.VIDEO:
                self._videos.add(int(entry.item))
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
                self._veiled.add(ids, veil_pdq(packed, _PUBLISHED))

    def remove(self, ids: Sequence[str]) -> None:
        """Remove signals (`nciihash.feed.Members`)."""
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
            removed = np.array(numbers, dtype=np.uint64)
            self._indexes[type].remove(removed)
            if type is SignalType.PDQ:
                self._veiled.remove(removed)

    def are_videos(self, items: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of some files, by row number, are videos."""
        videos = self._videos
        return np.array([item in videos for item in items.tolist()], dtype=np.bool_)

    def query(
        self, type: SignalType, packed: NDArray[np.uint8]
    ) -> tuple[int, Iterator[NearSignals]]:
        """Find the signals near some hashes of one type.

        Args:
            type: their type.
            packed: uint8 (q, type.bits // 8).

        Returns:
            The log position that the result covers, and batches of the signals within the threshold
            plus `REACH` bits (equal signals for an exact type).
        """
        with self._lock:
            seq = self._seq
            if type.exact:
                return seq, iter(self._equal(type, packed))
            index, rows = self._indexes[type], self._rows
        # Without the lock: the index searches a consistent state of its own, at least as new as
        # `seq`.
        return seq, near(index, rows, packed, type.threshold + REACH)

    def _equal(self, type: SignalType, packed: NDArray[np.uint8]) -> list[NearSignals]:
        signals = (Signal(type, row.tobytes()) for row in packed)
        found = [
            (query, number)
            for query, signal in enumerate(signals)
            for number in sorted(self._exact.get(signal, ()))
        ]
        if not found:
            return []
        queries, numbers = np.array(found, dtype=np.int64).T
        return [self._rows.join(queries, numbers, np.zeros(len(found), dtype=np.int64))]

    def near_veiled(self, packed: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Find files whose published bits are within `VEIL_REACH` bits of those of some PDQ hashes.

        Args:
            packed: uint8 (q, 32), at least one row.

        Returns:
            Indexes into `packed`, and row numbers of files, int64 (p,) each.
        """
        with self._lock:
            index, rows = self._veiled, self._rows
        found = list(near(index, rows, veil_pdq(packed, _PUBLISHED), VEIL_REACH))
        if not found:
            empty = np.empty(0, dtype=np.int64)
            return empty, empty
        pairs = np.concatenate([np.stack((part.query, part.item)) for part in found], axis=1)
        queries, items = np.unique(pairs, axis=1)
        return queries, items


def feed_entries(
    entries: Sequence[LogEntry], vault: Vault, ids: PlatformIds | None, veil: Veil | None = None
) -> tuple[FeedEntry, ...]:
    """Return log entries as feed entries, with their values decrypted.

    Omits additions whose value was purged since (their removal follows in the log) and, with a
    veil, signals that have no veiled form.

    Args:
        entries: of the log.
        vault: decrypts the values.
        ids: of the platform that reads; None for row numbers in digits.
        veil: applied to each hash; None for whole hashes.
    """
    signals = _write_ids(ids, PlatformIds.SIGNAL, [e.signal for e in entries])
    items = _write_ids(ids, PlatformIds.ITEM, [e.item or 0 for e in entries])
    page: list[FeedEntry] = []
    for entry, id, item in zip(entries, signals, items, strict=True):
        if entry.op == "remove":
            page.append(Removed(id))
        elif entry.value is not None and entry.item is not None and entry.ordinal is not None:
            try:
                value = vault.open(entry.value, "signals", "value", entry.item, entry.ordinal)
            except KeyMismatch:
                # one damaged row must not stop the feed and the index
                _log.error("Signal row %d cannot be decrypted and is omitted.", entry.signal)
                continue
            signal = Signal(SignalType(entry.type or ""), value)
            page.append(
                Added(
                    id=id,
                    item=item,
                    signal=signal,
                    quality=entry.quality,
                    media=Media(entry.media or ""),
                    variant=Variant.named(entry.variant or ""),
                )
            )
    return tuple(page) if veil is None else _veiled(page, veil)


def _veiled(page: Sequence[FeedEntry], veil: Veil) -> tuple[FeedEntry, ...]:
    veiled = iter(veil.over([entry.signal for entry in page if isinstance(entry, Added)]))
    shown: list[FeedEntry] = []
    for entry in page:
        if isinstance(entry, Removed):
            shown.append(entry)
        elif (signal := next(veiled)) is not None:
            shown.append(replace(entry, signal=signal))
    return tuple(shown)


def _write_ids(ids: PlatformIds | None, kind: int, numbers: list[int]) -> list[str]:
    return [str(n) for n in numbers] if ids is None else ids.write(kind, numbers)


def match(
    store: Store,
    live: LiveIndex,
    detector: OracleDetector,
    platform: Platform,
    type: SignalType,
    packed: NDArray[np.uint8],
    *,
    qualities: Sequence[int] | None = None,
    now: datetime,
) -> MatchReply:
    """Return the hits of a platform's queries, under its own ids, and count the matches.

    `clearinghouse.platforms.hits` defines which hits are reported and in which order. Every file
    that a query matches is counted, reported or not; of a query with some thousand hits only those
    that may be reported are.

    Args:
        store: the database.
        live: the live index.
        detector: the oracle detector, which sees every query.
        platform: the platform that asks.
        type: of the queries.
        packed: uint8 (q, type.bits // 8), the queries.
        qualities: of the pictures that PDQ queries are of; None if the platform sent none.
        now: the time.

    Raises:
        NotReady: the index has not reached the end of the log since the start.
    """
    if not live.caught_up:
        raise NotReady
    usable = np.flatnonzero(can_match(type, packed, qualities))
    total, packed = len(packed), packed[usable]
    seq, batches = live.query(type, packed)
    parts: list[ChosenHits] = []
    unmatched = np.ones(len(packed), dtype=np.bool_)
    counts: Counter[int] = Counter()
    frames: list[NDArray[np.int64]] = []  # (query, file, distance) near videos
    pending = 0
    for near_signals in batches:
        with store.read() as tx:
            # signals withdrawn a moment ago may still be in the index, and must not match
            removed = tx.log.list_removed_after(seq)
        if removed:
            near_signals = near_signals.take(~np.isin(near_signals.signal, list(removed)))
        matches, counted, dropped = hits.reduce(near_signals, type, platform.ids)
        queries, items, distances = counted.pairs()
        matching = distances <= type.threshold
        unmatched[queries[matching]] = False
        counts.update(items[matching].tolist())
        video = live.are_videos(items)
        pairs = np.stack((queries, items, distances))
        frames.append(pairs[:, video])
        pending += int(np.count_nonzero(video))
        detector.record(platform.key, type, packed, *pairs[:, ~video], now=now)
        if pending > _FRAMES:
            _record_videos(detector, platform, type, packed, frames, now=now)
            frames, pending = [], 0
        if len(matches):
            chosen = hits.choose(matches, type, platform.ids)
            parts.append(replace(chosen, cut=np.union1d(chosen.cut, dropped)))
    _record_videos(detector, platform, type, packed, frames, now=now)
    if counts:
        # written later by the task that follows the log: a response must not wait for it
        live.count(platform.number, counts)
    if type is SignalType.PDQ and platform.holds_veiled and unmatched.any():
        rows = np.flatnonzero(unmatched)
        queries, items = live.near_veiled(packed[rows])
        detector.record_misses(platform.key, packed, rows[queries], items, now=now)
    replies: list[tuple[Hit, ...]] = [()] * total
    truncated: list[int] = []
    if parts:
        selected = hits.merge(parts)
        for query, row in _to_wire(platform, selected):
            replies[usable[query]] = row
        truncated = sorted(usable[selected.cut].tolist())
    as_of = make_cursor(store, platform, seq)
    return MatchReply(as_of=as_of, matches=tuple(replies), truncated=tuple(truncated))


def _record_videos(
    detector: OracleDetector,
    platform: Platform,
    type: SignalType,
    packed: NDArray[np.uint8],
    frames: Sequence[NDArray[np.int64]],
    *,
    now: datetime,
) -> None:
    """Count the queries near videos, all those near one video together.

    Args:
        detector: the oracle detector.
        platform: the platform that asks.
        type: of the queries.
        packed: uint8 (q, type.bits // 8), the queries.
        frames: int64 (3, p) each: indexes of queries, row numbers of videos, and distances.
        now: the time.
    """
    if not frames:
        return
    found = np.concatenate(frames, axis=1)
    queries, items, distances = found[:, np.argsort(found[1], kind="stable")]
    starts = np.flatnonzero(np.diff(items, prepend=-1))
    for rows in np.split(np.arange(len(items)), starts)[1:]:
        item = int(items[rows[0]])
        near = queries[rows], item, distances[rows]
        detector.record_video(platform.key, type, packed, *near, now=now)


def _to_wire(platform: Platform, chosen: ChosenHits) -> Iterator[tuple[int, tuple[Hit, ...]]]:
    """Yield each query that has hits, with the hits under the platform's ids."""
    ids = platform.ids.write(PlatformIds.SIGNAL, chosen.signal.tolist())
    items = platform.ids.write(PlatformIds.ITEM, chosen.item.tolist())
    bands = [Band.LIKELY if likely else Band.STRONG for likely in chosen.likely.tolist()]
    rows = [Hit(id=i, item=o, band=b) for i, o, b in zip(ids, items, bands, strict=True)]
    for query, start, end in hits.rows_by_query(chosen):
        yield query, tuple(rows[start:end])


def make_cursor(store: Store, platform: Platform, seq: int) -> str:
    """Return a platform's cursor for a log position."""
    return platform.ids.write(PlatformIds.CURSOR, [seq], epoch=store.epoch)[0]


def read_seq(store: Store, platform: Platform, kind: int, cursor: str) -> int:
    """Return the position that a cursor encodes.

    Args:
        store: the database, whose epoch the cursor must have.
        platform: the platform that sent it.
        kind: `PlatformIds.CURSOR` for a position in the log, `PlatformIds.PAGE` for one in the
            StopNCII records.
        cursor: as the platform sent it.

    Raises:
        BadCursor: the cursor was not issued to this platform.
        CursorExpired: the cursor is of another epoch of the log.
    """
    decoded = platform.ids.read(kind, cursor)
    if decoded is None:
        raise BadCursor
    epoch, seq = decoded
    if epoch != store.epoch:
        raise CursorExpired
    return seq
