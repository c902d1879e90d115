"""Lawful files that a moderator excepted, so that they no longer match what they resemble.

An exception is for one file, never for an item of the bank: that would unprotect a survivor. So a
match does not count only if

- each of the upload's own hashes, of the picture and of the picture within its frame, or of each
  frame of a video, is within 8 bits of an excepted hash: it is the same file, saved again. One of
  them is not enough, since pictures in the same frame or the same user interface have similar
  hashes.
- and the upload is nearer to the excepted hashes than to the bank's item, by all its matches.

A hit of a clearinghouse has no distance. In the band `likely` it is more than 16 bits away, so the
excepted file is nearer; in the band `strong` that is not known, and it counts. So do matches of
other types than PDQ.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from nciihash import hamming
from nciihash.gate.decisions.records import ExceptedFile
from nciihash.sdk.lookup import LookupResult
from nciihash.signals import Band, Item, Match, Signal, SignalType
from nciihash.wire import Hit

SAME_FILE: Final = 8  # bits: a file that was saved again, scaled or hashed at a reduced size

_LIKELY: Final = 17  # bits: the smallest distance of a hit in the band `likely`
_BYTES: Final = SignalType.PDQ.bits // 8


class Exceptions:
    """The hashes of excepted files.

    Args:
        packed: uint8 (n, 32), their PDQ hashes.
    """

    def __init__(self, packed: NDArray[np.uint8]) -> None:
        self._packed = packed

    @classmethod
    def of(cls, files: Sequence[ExceptedFile]) -> Self:
        """Return the exceptions of some files."""
        return cls(_pack([signal for file in files for signal in file.hashes]))

    def matches(self, item: Item, result: LookupResult) -> frozenset[str]:
        """Return the ids of an upload's matches that do not count.

        Args:
            item: its hashes, as they were looked up.
            result: its matches.
        """
        if not len(self._packed) or not result.found:
            return frozenset()
        own = _pack([hashed.signal for hashed in item.hashes if not hashed.plain])
        if not len(own):
            return frozenset()
        reach = int(hamming.distances(own, self._packed).min(axis=1).max())
        if reach > SAME_FILE:
            return frozenset()
        nearest: dict[str, int] = defaultdict(lambda: SignalType.PDQ.bits)
        for type, match in result.found:
            nearest[match.item] = min(nearest[match.item], _distance(type, match))
        return frozenset(match.id for _, match in result.found if reach < nearest[match.item])


def _pack(signals: Sequence[Signal]) -> NDArray[np.uint8]:
    """Return the PDQ hashes among some signals, uint8 (n, 32)."""
    values = [signal.value for signal in signals if signal.type is SignalType.PDQ]
    return np.frombuffer(b"".join(values), np.uint8).reshape(-1, _BYTES)


def _distance(type: SignalType, match: Match | Hit) -> int:
    """Return the smallest distance, in bits, that a match may have."""
    if type is not SignalType.PDQ:
        return 0
    if isinstance(match, Match):
        return match.distance if match.aligned is None else min(match.distance, match.aligned)
    return _LIKELY if match.band is Band.LIKELY else 0
