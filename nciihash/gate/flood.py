"""The flood stop: an item of the bank that many unlike pictures match blocks no more by itself.

An item is one picture with the hashes of its altered copies, but nobody can check that: a faulty or
malicious submission may hold hashes of anything, and would block unlike pictures on every platform.
So a gate counts the hashes of each item that uploads met, as far as these hashes are unlike: more
than 90 bits apart in each of the eight orientations. Once there are more than
`FloodConfig.pictures`, matches of the item in the band `likely` are reviewed instead of blocked.
Matches in the band `strong` count, and are never demoted.

Copies of one picture cannot do this, however many they are and however they were edited, since
nothing about them counts but the hash they met. Of the hashes of one picture that this program
submits, at most 33 are unlike: 14 of `standard`, 25 of `full`, 33 of `thorough` (158 photos). An
item with at most 40 unlike hashes is never flooded, whatever anybody uploads, as the configuration
allows no smaller number. Unrelated pictures are unlike: of 12,403 pairs of photos, all but one
(`python -m benchmarks.gate.unlike`).

What this cannot detect: an item that has at most `FloodConfig.pictures` unlike hashes; pictures
that are near to the same hash, such as those of a common background; an item that is said to be a
video, which rightly has the hashes of many scenes; and matches in a veiled bank, which has too few
bits of each hash. A person's `not_blocked` verdict is the remedy there.

The times at which hashes were met are kept in memory, for at most an hour. No hash of an upload is.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nciihash import hamming
from nciihash.feed import Added
from nciihash.gate.config import FloodConfig
from nciihash.sdk.lookup import LookupResult
from nciihash.signals import Item, Match, Media, SignalType

UNLIKE: Final = 90  # bits

_ITEMS_MAX: Final = 4096  # that are counted at the same time; the least recently met are dropped
_SIDE: Final = 16  # of the matrix of coefficients that a PDQ hash is
_ODD: Final = np.arange(_SIDE, dtype=np.uint8) % 2
_log: Final = logging.getLogger("nciihash.gate")


@dataclass(slots=True)
class _Met:
    """The unlike hashes of one item that were met, and when each was last.

    Attributes:
        times: by hash, the least recent first.
        flooded: whether there are too many.
    """

    times: OrderedDict[bytes, float] = field(default_factory=OrderedDict)
    flooded: bool = False


class FloodStop:
    """Counts unlike pictures that match one item. Usable from any thread.

    Args:
        config: how many pictures, and within what time.
        entry: returns a signal of the bank by its id, as `Bank.entry` does.
        alert: called when an item becomes flooded.
    """

    def __init__(
        self,
        config: FloodConfig,
        entry: Callable[[str], Added | None],
        *,
        alert: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._entry = entry
        self._alert = alert
        self._items: OrderedDict[str, _Met] = OrderedDict()  # the least recently met first
        self._lock = threading.Lock()

    def meet(self, item: Item, result: LookupResult, *, now: float) -> frozenset[str]:
        """Count an upload that was looked up, and return the ids of the items that are flooded.

        Args:
            item: its hashes.
            result: its matches.
            now: monotonic time in seconds.
        """
        if not result.found:
            return frozenset()
        met = list(self._hashes(result)) if item.media is Media.IMAGE else []
        matched = {match.item for _, match in result.found}
        with self._lock:
            self._forget(matched, now)
            alerts = sum(self._count(id, value, now) for id, value in met)
            flooded = frozenset(id for id in matched if self._is_flooded(id))
        for _ in range(alerts):
            _log.warning(
                "Many unlike pictures match one item of the bank, which may be faulty. Its matches "
                "that are not close are reviewed instead of blocked."
            )
            self._alert()
        return flooded

    def flooded(self, *, now: float) -> frozenset[str]:
        """Return the ids of all items that are flooded, and forget what is too old.

        To be called every minute or so, since `meet` forgets only what it finds.

        Args:
            now: monotonic time in seconds.
        """
        with self._lock:
            self._forget(list(self._items), now)
            return frozenset(id for id, met in self._items.items() if met.flooded)

    def _hashes(self, result: LookupResult) -> Iterator[tuple[str, bytes]]:
        """Yield the items of which an upload met a hash, each with the nearest such hash."""
        nearest: dict[str, Match] = {}
        for type, match in result.found:
            # windows, and pictures with little detail, block nothing
            if type is not SignalType.PDQ or not isinstance(match, Match) or match.review:
                continue
            if match.item not in nearest or match.distance < nearest[match.item].distance:
                nearest[match.item] = match
        for match in nearest.values():
            entry = self._entry(match.id)
            if entry is None or entry.media is not Media.IMAGE:
                continue
            if entry.signal.type is SignalType.PDQ:
                yield match.item, entry.signal.value

    def _count(self, id: str, value: bytes, now: float) -> bool:
        """Count a hash that was met; return whether the item became flooded."""
        met = self._items.setdefault(id, _Met())
        self._items.move_to_end(id)
        if len(self._items) > _ITEMS_MAX:
            self._items.popitem(last=False)
        same = _like(value, met.times)
        met.times[same] = now
        met.times.move_to_end(same)
        if len(met.times) > self._config.pictures + 1:
            met.times.popitem(last=False)
        became = not met.flooded and len(met.times) > self._config.pictures
        met.flooded = met.flooded or became
        return became

    def _forget(self, ids: Iterable[str], now: float) -> None:
        """Forget which hashes of some items were met too long ago."""
        oldest = now - self._config.seconds
        for id in ids:
            if (met := self._items.get(id)) is None:
                continue
            while met.times and next(iter(met.times.values())) <= oldest:
                met.times.popitem(last=False)
            met.flooded = met.flooded and len(met.times) > self._config.pictures
            if not met.times:
                del self._items[id]

    def _is_flooded(self, id: str) -> bool:
        met = self._items.get(id)
        return met is not None and met.flooded


def _like(value: bytes, known: OrderedDict[bytes, float]) -> bytes:
    """Return the nearest known hash, if it is like `value` in any orientation; else `value`."""
    if not known or value in known:
        return value
    packed = np.frombuffer(b"".join(known), np.uint8).reshape(len(known), -1)
    apart = hamming.distances(orientations(value), packed).min(axis=0)
    row = int(apart.argmin())
    return packed[row].tobytes() if apart[row] <= UNLIKE else value


def orientations(value: bytes) -> NDArray[np.uint8]:
    """Return the PDQ hashes of a picture's eight orientations, from its own.

    A mirrored picture has the same coefficients, with those of odd columns negated, and a quarter
    turn also transposes them. A bit says whether a coefficient exceeds the median, which is near
    zero but not zero, so some bits are wrong: at most 30 or so.

    Returns:
        uint8 (8, 32), packed.
    """
    bits = np.unpackbits(np.frombuffer(value, np.uint8)).reshape(_SIDE, _SIDE)
    found = [
        side ^ (_ODD[:, None] * down) ^ (_ODD * across)
        for side in (bits, bits.T)
        for down in (0, 1)
        for across in (0, 1)
    ]
    return np.packbits(np.stack(found).reshape(len(found), -1).astype(np.uint8), axis=1)
