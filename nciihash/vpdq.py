"""Videos as sets of frame hashes, and comparison of two videos.

The scheme is vPDQ (Facebook's ThreatExchange, 2022): frames are hashed with PDQ, and two videos are
compared by the share of each one's frames that match a frame of the other. Both shares are needed:
a short clip of a long video shares all of its own frames, but few of the long video's.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nciihash.signals import Hashed, Match, SignalType, Variant

# The command line counts frames without NumPy, which is slow to load.
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Share:
    """How many of a video's frames match a frame of another video."""

    found: int
    frames: int

    @property
    def fraction(self) -> float:
        """The share as a fraction from 0 to 1; 0 for a video without frames."""
        return self.found / self.frames if self.frames else 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much two videos have in common.

    Attributes:
        query: the first video's frames that match.
        bank: the second video's frames that match.
        distance: of the closest pair of hashes, in bits.
        variant: of the second video's hash in that pair.
    """

    query: Share
    bank: Share
    distance: int
    variant: Variant


def group_by_frame(hashes: Iterable[Hashed]) -> list[list[Hashed]]:
    """Group a file's PDQ hashes by the time of their frame; an image is a single group."""
    frames: dict[float | None, list[Hashed]] = defaultdict(list)
    for hashed in hashes:
        if hashed.signal.type is SignalType.PDQ:
            frames[hashed.time].append(hashed)
    return list(frames.values())


def compare(query: Sequence[Sequence[Hashed]], bank: Sequence[Sequence[Hashed]]) -> Comparison:
    """Compare two videos. An image counts as a video of one frame.

    Args:
        query: the PDQ hashes of each frame, at least one frame. A frame matches if any of its
            hashes does.
        bank: the same for the second video.

    Raises:
        ValueError: one of them has no frames.
    """
    import numpy as np

    from nciihash.hamming import distances

    query_hashes, bank_hashes = (
        [hashed for frame in video for hashed in frame] for video in (query, bank)
    )
    if not query_hashes or not bank_hashes:
        raise ValueError("a video without frames cannot be compared")
    packed_query, packed_bank = (
        np.array([np.frombuffer(hashed.signal.value, np.uint8) for hashed in hashes])
        for hashes in (query_hashes, bank_hashes)
    )
    pairs = distances(packed_query, packed_bank)
    matched = pairs <= SignalType.PDQ.threshold
    row, column = np.unravel_index(int(pairs.argmin()), pairs.shape)
    return Comparison(
        _share(np.asarray(matched.any(axis=1)), query),
        _share(np.asarray(matched.any(axis=0)), bank),
        int(pairs[row, column]),
        bank_hashes[int(column)].variant,
    )


def bank_share(matches: Iterable[Match], stored: Mapping[Variant, int]) -> Share:
    """Return how much of one item in a bank was matched.

    A bank stores the variant of each hash, but not its frame. So only the variant with the most
    matches counts: for a mirrored copy of a video these are the mirrored frames.

    Args:
        matches: matches with hashes of that item.
        stored: how many hashes of each variant the bank has of that item.
    """
    matched = Counter(variant for _, variant in {(match.id, match.variant) for match in matches})
    if not matched:
        return Share(0, max(stored.values(), default=0))
    variant, count = max(matched.items(), key=lambda pair: (pair[1], stored.get(pair[0], 0)))
    # hashes may have been withdrawn from the bank between the matches and the count
    return Share(count, max(count, stored.get(variant, 0)))


def _share(matched: "NDArray[np.bool_]", frames: Sequence[Sequence[Hashed]]) -> Share:
    """Count the frames with a matched hash; `matched` is in the order of the hashes."""
    start = count = 0
    for frame in frames:
        count += bool(matched[start : start + len(frame)].any())
        start += len(frame)
    return Share(count, len(frames))
