"""Notice when a match key is used to find out a hash, question by question.

Answers are bands and never distances, but a band has an edge: whoever holds a query that just
matches can turn over its bits one by one and see which of them make the answer change. Some 270
questions give back a hash. They are many *different* queries that meet one file, and most of those
that match lie at an edge, since away from it one bit changes nothing. Copies of a picture that
people really upload lie at all distances and seldom within a bit of an edge.

So for each key and file the different matching queries of a day are counted, and those at an edge
by themselves. Beyond either bound the operator is told. The counts are in memory only, each
worker's own; of a query there is a short keyed digest, under a key that nobody has, and nothing
once the alarm was given. A key that keeps below the bounds needs days where it needed a minute
(`benchmarks/oracle/run.py`).
"""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nciihash.signals import Band, SignalType, band

_PAIRS: Final = 100_000  # of a key and a file that are watched at a time
_DIGEST: Final = 8  # bytes
_REACH: Final = 2  # bits on either side of an edge


@dataclass(slots=True)
class _Seen:
    """Digests of the different matching queries of one key that met one file; None once told."""

    edge: set[bytes] | None = field(default_factory=set)
    any: set[bytes] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Alarm:
    """A key whose matching queries gather around one file, and how many different ones there were.

    `key` and `item` are row numbers.
    """

    key: int
    item: int
    queries: int


class Watch:
    """Count different matching queries by key and file; used from any thread.

    Args:
        edge: how many at an edge are too many on one day (UTC).
        any: how many in all are.
    """

    def __init__(self, *, edge: int, any: int) -> None:
        self._edge = edge
        self._any = any
        self._key = secrets.token_bytes(32)
        self._day = 0
        self._seen: OrderedDict[tuple[int, int], _Seen] = OrderedDict()
        self._alarms: list[Alarm] = []
        self._lock = threading.Lock()

    def look(
        self,
        key: int,
        type: SignalType,
        packed: NDArray[np.uint8],
        rows: Mapping[int, Sequence[tuple[int, int, int]]],
        *,
        now: datetime,
    ) -> None:
        """Take in a key's queries and what they met.

        Args:
            key: its row number.
            type: of the queries; exact ones are passed over, since they have no edge.
            packed: uint8 (q, type.bits // 8).
            rows: for each query that met something, by its place among `packed`, the (signal, item,
                distance) of each match.
            now: the time.
        """
        if type.exact:
            return
        for place, row in rows.items():
            nearest: dict[int, int] = {}
            for _, item, distance in row:
                nearest[item] = min(distance, nearest.get(item, distance))
            digest = blake2b(packed[place].tobytes(), digest_size=_DIGEST, key=self._key).digest()
            with self._lock:
                self._turn(int(now.timestamp()) // 86_400)
                for item, distance in nearest.items():
                    self._note(key, item, digest, at_edge=at_edge(type, distance))

    def take(self) -> list[Alarm]:
        """Hand over the alarms since the last time."""
        with self._lock:
            alarms, self._alarms = self._alarms, []
        return alarms

    def give_back(self, alarms: Sequence[Alarm]) -> None:
        """Take alarms back that could not be written down."""
        with self._lock:
            self._alarms[:0] = alarms

    def _turn(self, day: int) -> None:
        if day != self._day:
            self._day = day
            self._seen.clear()

    def _note(self, key: int, item: int, digest: bytes, *, at_edge: bool) -> None:
        seen = self._seen.setdefault((key, item), _Seen())
        self._seen.move_to_end((key, item))
        if len(self._seen) > _PAIRS:
            self._seen.popitem(last=False)
        if seen.edge is None:
            return
        seen.any.add(digest)
        if at_edge:
            seen.edge.add(digest)
        if len(seen.edge) > self._edge or len(seen.any) > self._any:
            self._alarms.append(Alarm(key, item, len(seen.any)))
            seen.edge = None
            seen.any.clear()


@cache
def at_edge(type: SignalType, distance: int) -> bool:
    """Tell whether a bit more or less could change the answer, or could have."""
    near = range(max(distance - _REACH, 0), distance + _REACH + 1)
    answers = {_answer(type, d) for d in near}
    return len(answers) > 1


def _answer(type: SignalType, distance: int) -> Band | None:
    return band(type, distance) if distance <= type.threshold else None
