"""Notice when a match key is used to find out a hash, question by question.

Answers are bands and never distances, but a band has an edge: whoever holds a query that just
matches can turn over its bits one by one and see which of them make the answer change. Some 270
questions give back a hash. They are many *different* queries around one file, and most lie at an
edge, on its one side or the other, since away from it one bit changes nothing. Copies of a picture
that people really upload lie at all distances and seldom within a bit of an edge.

A platform that holds a veiled list knows a part of each hash, and can guess the rest. Its wrong
guesses match nothing, and have the published bits of a listed file, or nearly those. Uploads that
have them match, but for few. So for a platform that ever had a veiled list, queries that match
nothing and are within `ASIDE` published bits of a file count like queries at an edge of it.

So for each key and file the different such queries of a day are counted, at an edge, and in all.
Beyond either bound the operator is told. The counts are in memory only, each worker's own; of a
query there is a short keyed digest, under a key that nobody has, and nothing once the alarm was
given. A key that keeps below the bounds needs days where it needed a minute
(`benchmarks/oracle/run.py`). After `_ALARMS` of one key on a day, the rest of that day is not
counted: the operator knows.
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

from nciihash.signals import Band, SignalType, band

ASIDE: Final = 16  # of the 128 published bits in which a wrong guess may differ from a file's
_PAIRS: Final = 100_000  # of a key and a file that are watched at a time
_QUERIES: Final = 1_000_000  # digests that are kept at a time
_ALARMS: Final = 10  # of one key on a day
_DIGEST: Final = 8  # bytes
REACH: Final = 2  # bits on either side of an edge


@dataclass(slots=True)
class _Seen:
    """Digests of the different queries of one key around one file; None once told.

    `edge` holds those at an edge of it or with its published bits; `any` all.
    """

    edge: set[bytes] | None = field(default_factory=set)
    any: set[bytes] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Alarm:
    """A key whose queries gather around one file, and how many different ones there were.

    `key` and `item` are row numbers.
    """

    key: int
    item: int
    queries: int


class OracleDetector:
    """Count different queries around a file by key and file; used from any thread.

    Args:
        edge: how many at an edge are too many on one day (UTC).
        any: how many in all are.
    """

    def __init__(self, *, edge: int, any: int) -> None:
        self._edge = edge
        self._any = any
        self._key = secrets.token_bytes(32)
        self._day = 0
        self._kept = 0  # digests in `_seen`
        self._seen: OrderedDict[tuple[int, int], _Seen] = OrderedDict()
        self._told: Counter[int] = Counter()  # alarms of the day, by key
        self._alarms: list[Alarm] = []
        self._lock = threading.Lock()

    def look(
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
        """Take in a key's queries that met something, or nearly.

        Args:
            key: its row number.
            type: of the queries; exact ones are skipped, since they have no edge.
            packed: uint8 (q, type.bits // 8).
            queries: int64 (p,), places among `packed`, equal ones next to each other.
            items: int64 (p,), a file near the query; each once a query.
            distances: int64 (p,), the least of the file's signals, to `REACH` beyond the threshold.
            now: the time.
        """
        if not type.exact:
            self._take(key, packed, queries, items, edges(type)[distances], now=now)

    def look_aside(
        self,
        key: int,
        packed: NDArray[np.uint8],
        queries: NDArray[np.int64],
        items: NDArray[np.int64],
        *,
        now: datetime,
    ) -> None:
        """Take in queries that met nothing and have nearly the published bits of a file.

        Args:
            key: its row number.
            packed: uint8 (q, 32).
            queries: int64 (p,), places among `packed`, equal ones next to each other.
            items: int64 (p,), the files.
            now: the time.
        """
        self._take(key, packed, queries, items, np.ones(len(items), dtype=np.bool_), now=now)

    def take(self) -> list[Alarm]:
        """Hand over the alarms since the last time."""
        with self._lock:
            alarms, self._alarms = self._alarms, []
        return alarms

    def give_back(self, alarms: Sequence[Alarm]) -> None:
        """Take alarms back that could not be written down."""
        with self._lock:
            self._alarms[:0] = alarms

    def _take(
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
            digest = blake2b(packed[query].tobytes(), digest_size=_DIGEST, key=self._key).digest()
            with self._lock:
                self._turn(int(now.timestamp()) // 86_400)
                for _, item, edge in rows:
                    if self._told[key] < _ALARMS:
                        self._note(key, item, digest, at_edge=edge)

    def _turn(self, day: int) -> None:
        if day != self._day:
            self._day = day
            self._kept = 0
            self._seen.clear()
            self._told.clear()

    def _note(self, key: int, item: int, digest: bytes, *, at_edge: bool) -> None:
        seen = self._seen.setdefault((key, item), _Seen())
        self._seen.move_to_end((key, item))
        if seen.edge is None:
            return
        before = len(seen.any) + len(seen.edge)
        seen.any.add(digest)
        if at_edge:
            seen.edge.add(digest)
        self._kept += len(seen.any) + len(seen.edge) - before
        if len(seen.edge) > self._edge or len(seen.any) > self._any:
            self._alarms.append(Alarm(key, item, len(seen.any)))
            self._told[key] += 1
            self._kept -= len(seen.any) + len(seen.edge)
            seen.edge = None
            seen.any.clear()
        while len(self._seen) > _PAIRS or self._kept > _QUERIES:
            _, oldest = self._seen.popitem(last=False)
            self._kept -= len(oldest.any) + len(oldest.edge or ())


@cache
def edges(type: SignalType) -> NDArray[np.bool_]:
    """Tell of each distance whether a bit more or less could change the answer, or could have.

    Returns:
        bool (type.threshold + REACH + 1,), by distance. Read-only.
    """
    reach = range(type.threshold + REACH + 1)
    found = np.array([_at_edge(type, distance) for distance in reach])
    found.flags.writeable = False  # all get the same
    return found


def _at_edge(type: SignalType, distance: int) -> bool:
    near = range(max(distance - REACH, 0), distance + REACH + 1)
    answers = {_answer(type, d) for d in near}
    return not type.exact and len(answers) > 1


def _answer(type: SignalType, distance: int) -> Band | None:
    return band(type, distance) if distance <= type.threshold else None
