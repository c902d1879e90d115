"""Detection of hash extraction: a match key used as an oracle, query by query.

Responses contain bands, never distances, but a band has an edge. A client with a query that just
matches can flip its bits one at a time and see which flips change the response; some 260 queries
reveal a hash (hill climbing). Such queries are many *different* ones around one file, and most are
near an edge, since elsewhere one bit changes nothing. Copies of a picture that people really upload
are at all distances, and seldom within a bit of an edge.

A platform with a veiled list knows a part of each hash and can guess the rest. Its wrong guesses
match nothing, but have all or nearly all published bits of a listed file; almost all real uploads
with those bits match. So for a platform that ever had a veiled list, queries that match nothing and
are within `VEIL_REACH` published bits of a file count as queries at an edge of it.

For each key and file, the different queries of a day are counted: those at an edge, and all. The
frames of one uploaded video are different queries near one file as well, so near a listed video
they are counted by request. All queries near any one hash are within twice the reported radius of
each other. So a request counts as the largest number of its queries at an edge that are that near
to one of them: each frame of another scene is free, and no hash gets more queries a day than that
of a picture. In all, as many queries at an edge of one video are free as queries of any kind.

Beyond either limit an alarm is raised for the operator. The counts are in memory only, separate in
each worker. A query is stored as a short digest under a random key that is never saved, and deleted
once the alarm is raised. A key that stays below the limits needs a month for one hash
(`benchmarks/oracle/run.py`). After `_ALARMS` alarms for one key in a day, its counting stops until
the next day: the operator knows.
"""

import secrets
import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from hashlib import blake2b
from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clearinghouse.times import Day, day
from nciihash.signals import Band, SignalType, band

VEIL_REACH: Final = 16  # of 128 published bits, in which a wrong guess may differ from a file
_PAIRS: Final = 100_000  # of a key and a file, tracked at a time
_QUERIES: Final = 1_000_000  # digests stored at a time
_ALARMS: Final = 10  # for one key in a day
_DIGEST: Final = 8  # bytes
REACH: Final = 2  # bits on either side of an edge


@dataclass(slots=True)
class _Seen:
    """Digests of the different queries of one key around one file.

    `edge` holds those at an edge of it or with its published bits, and is None once an alarm was
    raised; `digests` holds all, of a video one for each request. `edge_count` is what the
    requests count that had queries at an edge.
    """

    edge: set[bytes] | None = field(default_factory=set)
    digests: set[bytes] = field(default_factory=set)
    edge_count: int = 0


@dataclass(frozen=True, slots=True)
class Alarm:
    """A key with suspiciously many queries around one file.

    Attributes:
        key: its row number.
        item: row number of the file.
        queries: how many different ones there were.
    """

    key: int
    item: int
    queries: int


class OracleDetector:
    """Counter of the different queries around a file, by key and file. Thread-safe.

    Args:
        edge_max: different queries at an edge of one file that a key may send in a day (UTC).
        total_max: different queries around one file that a key may send in a day.
    """

    def __init__(self, *, edge_max: int, total_max: int) -> None:
        self._edge_max = edge_max
        self._total_max = total_max
        self._key = secrets.token_bytes(32)
        self._day: Day | None = None
        self._stored = 0  # digests in `_seen`
        self._seen: OrderedDict[tuple[int, int], _Seen] = OrderedDict()
        self._raised: Counter[int] = Counter()  # alarms of the day, by key
        self._alarms: list[Alarm] = []
        self._lock = threading.Lock()

    def record(
        self,
        key: int,
        type: SignalType,
        packed: NDArray[np.uint8],
        queries: NDArray[np.int64],
        items: NDArray[np.int64],
        distances: NDArray[np.int64],
        *,
        now: datetime,
    ) -> None:
        """Count a key's queries that matched something, or nearly did.

        Args:
            key: its row number.
            type: of the queries; exact types are skipped, since they have no edge.
            packed: uint8 (q, type.bits // 8).
            queries: int64 (p,), row indexes of `packed`, equal ones adjacent.
            items: int64 (p,), a file near the query, each file once per query.
            distances: int64 (p,), to the nearest signal of the file; at most `REACH` beyond the
                threshold.
            now: the time.
        """
        if not type.exact:
            self._record(key, packed, queries, items, edges(type)[distances], now=now)

    def record_video(
        self,
        key: int,
        type: SignalType,
        packed: NDArray[np.uint8],
        queries: NDArray[np.int64],
        item: int,
        distances: NDArray[np.int64],
        *,
        now: datetime,
    ) -> None:
        """Count the queries of one request that are near one listed video.

        Args:
            key: its row number.
            type: of the queries; exact types are skipped.
            packed: uint8 (q, type.bits // 8).
            queries: int64 (p,), different row indexes of `packed`.
            item: the video.
            distances: int64 (p,), as in `record`.
            now: the time.
        """
        if type.exact:
            return
        digests = [self._digest(packed[query]) for query in queries.tolist()]
        request = self._digest(np.frombuffer(b"".join(sorted(set(digests))), dtype=np.uint8))
        at_edge = {
            digest: query
            for digest, query, edge in zip(
                digests, queries.tolist(), edges(type)[distances].tolist(), strict=True
            )
            if edge
        }
        with self._lock:
            self._start(day(now))
            if self._raised[key] >= _ALARMS:
                return
            seen = self._find(key, item)
            if seen.edge is None:
                return
            new = at_edge.keys() - seen.edge
            if len(seen.edge) + len(new) > self._total_max:
                seen.edge_count = self._edge_max + 1
            elif new:
                rows = packed[[at_edge[digest] for digest in new]]
                seen.edge_count += _largest_group(rows, 2 * (type.threshold + REACH))
            self._stored += len(new) + (request not in seen.digests)
            seen.edge |= new
            seen.digests.add(request)
            self._check(key, item, seen, queries=max(len(seen.edge), len(seen.digests)))

    def record_misses(
        self,
        key: int,
        packed: NDArray[np.uint8],
        queries: NDArray[np.int64],
        items: NDArray[np.int64],
        *,
        now: datetime,
    ) -> None:
        """Count queries that matched nothing but have nearly the published bits of a file.

        Args:
            key: its row number.
            packed: uint8 (q, 32).
            queries: int64 (p,), row indexes of `packed`, equal ones adjacent.
            items: int64 (p,), the files.
            now: the time.
        """
        self._record(key, packed, queries, items, np.ones(len(items), dtype=np.bool_), now=now)

    def take(self) -> list[Alarm]:
        """Return the alarms raised since the last call, and clear them."""
        with self._lock:
            alarms, self._alarms = self._alarms, []
        return alarms

    def restore(self, alarms: Sequence[Alarm]) -> None:
        """Add back alarms that could not be saved."""
        with self._lock:
            self._alarms[:0] = alarms

    def _record(
        self,
        key: int,
        packed: NDArray[np.uint8],
        queries: NDArray[np.int64],
        items: NDArray[np.int64],
        at_edge: NDArray[np.bool_],
        *,
        now: datetime,
    ) -> None:
        pairs = zip(queries.tolist(), items.tolist(), at_edge.tolist(), strict=True)
        for query, rows in groupby(pairs, key=lambda pair: pair[0]):
            digest = self._digest(packed[query])
            with self._lock:
                self._start(day(now))
                for _, item, edge in rows:
                    if self._raised[key] < _ALARMS:
                        self._note(key, item, digest, at_edge=edge)

    def _start(self, today: Day) -> None:
        if today != self._day:
            self._day = today
            self._stored = 0
            self._seen.clear()
            self._raised.clear()

    def _note(self, key: int, item: int, digest: bytes, *, at_edge: bool) -> None:
        seen = self._find(key, item)
        if seen.edge is None:
            return
        before = len(seen.digests) + len(seen.edge)
        seen.digests.add(digest)
        if at_edge and digest not in seen.edge:
            seen.edge.add(digest)
            seen.edge_count += 1
        self._stored += len(seen.digests) + len(seen.edge) - before
        self._check(key, item, seen, queries=len(seen.digests))

    def _digest(self, values: NDArray[np.uint8]) -> bytes:
        return blake2b(values.tobytes(), digest_size=_DIGEST, key=self._key).digest()

    def _find(self, key: int, item: int) -> _Seen:
        seen = self._seen.setdefault((key, item), _Seen())
        self._seen.move_to_end((key, item))
        return seen

    def _check(self, key: int, item: int, seen: _Seen, *, queries: int) -> None:
        """Raise an alarm beyond a limit, and keep what is stored within its bounds."""
        assert seen.edge is not None  # noqa: S101 - the callers have checked it
        if seen.edge_count > self._edge_max or len(seen.digests) > self._total_max:
            self._alarms.append(Alarm(key, item, queries))
            self._raised[key] += 1
            self._stored -= len(seen.digests) + len(seen.edge)
            seen.edge = None
            seen.digests.clear()
        while len(self._seen) > _PAIRS or self._stored > _QUERIES:
            _, oldest = self._seen.popitem(last=False)
            self._stored -= len(oldest.digests) + len(oldest.edge or ())


def _largest_group(packed: NDArray[np.uint8], radius: int) -> int:
    """Return how many of some hashes are within a radius of one of them, at most.

    Args:
        packed: uint8 (n, bytes), at least one row.
        radius: in bits.
    """
    distances = np.bitwise_count(packed[:, None] ^ packed[None]).sum(axis=2, dtype=np.int64)
    return int(np.count_nonzero(distances <= radius, axis=1).max())


@cache
def edges(type: SignalType) -> NDArray[np.bool_]:
    """Return which distances are at an edge: up to `REACH` flipped bits can change the response.

    Returns:
        bool (type.threshold + REACH + 1,), indexed by distance. Read-only.
    """
    reach = range(type.threshold + REACH + 1)
    mask = np.array([_at_edge(type, distance) for distance in reach])
    mask.flags.writeable = False  # it is cached, and shared by all callers
    return mask


def _at_edge(type: SignalType, distance: int) -> bool:
    near = range(max(distance - REACH, 0), distance + REACH + 1)
    bands = {_band(type, d) for d in near}
    return not type.exact and len(bands) > 1


def _band(type: SignalType, distance: int) -> Band | None:
    return band(type, distance) if distance <= type.threshold else None
