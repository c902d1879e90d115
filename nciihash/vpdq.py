"""Videos as sets of frame hashes, and how much two videos share.

The scheme is vPDQ's (Facebook's ThreatExchange, 2022): frames are hashed with PDQ, and two videos
are compared by the share of the one's frames that have a near frame in the other, and the other way
round. Each share says something of its own: a short cut from a long film has all of its frames in
the film, and few of the film's.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nciihash.signals import Hashed, Match, SignalType, Variant

# The command line counts frames without NumPy, which takes a while to load.
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Share:
    """How many of a video's frames have a near frame in another video."""

    found: int
    frames: int

    @property
    def of_one(self) -> float:
        """Give the share, from 0 to 1; nothing of nothing is 0."""
        return self.found / self.frames if self.frames else 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two videos share.

    `query` and `bank` count frames of the one and of the other; `distance` is that of the nearest
    pair of hashes, in bits, and `variant` names what of the bank it is.
    """

    query: Share
    bank: Share
    distance: int
    variant: Variant


def frames_of(hashes: Iterable[Hashed]) -> list[list[Hashed]]:
    """Put together the PDQ hashes of each frame, by their times; of a picture, all of them."""
    frames: dict[float | None, list[Hashed]] = defaultdict(list)
    for hashed in hashes:
        if hashed.signal.type is SignalType.PDQ:
            frames[hashed.time].append(hashed)
    return list(frames.values())


def compare(query: Sequence[Sequence[Hashed]], bank: Sequence[Sequence[Hashed]]) -> Comparison:
    """Compare two videos, or pictures, which are videos of one frame.

    Args:
        query: for each frame its PDQ hashes; a frame is found if one of them is.
        bank: likewise, of at least one frame.

    Raises:
        ValueError: no frames.
    """
    import numpy as np

    from nciihash.hamming import distances

    asked, held = ([hashed for frame in side for hashed in frame] for side in (query, bank))
    if not asked or not held:
        raise ValueError("a video without frames cannot be compared")
    a, b = (
        np.array([np.frombuffer(hashed.signal.value, np.uint8) for hashed in side])
        for side in (asked, held)
    )
    away = distances(a, b)
    near = away <= SignalType.PDQ.threshold
    row, column = np.unravel_index(int(away.argmin()), away.shape)
    return Comparison(
        _share(np.asarray(near.any(axis=1)), query),
        _share(np.asarray(near.any(axis=0)), bank),
        int(away[row, column]),
        held[int(column)].variant,
    )


def bank_share(matches: Iterable[Match], held: Mapping[Variant, int]) -> Share:
    """Tell how much of one item in a bank was found.

    A bank knows which altered copy each hash is of, but not of which frame. So this counts, of the
    kind of copy that was found most often, how many hashes there are and how many were found: for
    a mirrored copy of a video, its mirrored frames.

    Args:
        matches: with hashes of that item.
        held: how many hashes of each kind the item has in the bank.
    """
    found = Counter(variant for _, variant in {(match.id, match.variant) for match in matches})
    if not found:
        return Share(0, max(held.values(), default=0))
    variant, count = max(found.items(), key=lambda pair: (pair[1], held.get(pair[0], 0)))
    return Share(count, max(count, held.get(variant, 0)))


def _share(found: "NDArray[np.bool_]", frames: Sequence[Sequence[Hashed]]) -> Share:
    """Count the frames of which some hash is found; `found` is in the order of the hashes."""
    place = count = 0
    for frame in frames:
        count += bool(found[place : place + len(frame)].any())
        place += len(frame)
    return Share(count, len(frames))
