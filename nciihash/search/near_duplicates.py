"""Group files that show nearly the same, by the project's own search."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from nciihash.search.index import Index
from nciihash.signals import Item, Media, SignalType

_SHARE: Final = 0.8  # of one video's frames that must be near another's
_AT_ONCE: Final = 4096  # queries


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a group, by its place in what was given, and the bits to the group's nearest."""

    file: int
    distance: int


def groups(items: Sequence[Item], radius: int) -> list[tuple[Member, ...]]:
    """Group items that are near one another, directly or through others.

    Two pictures are near if their hashes differ in at most `radius` bits; two videos if four fifths
    of the frames of one are so near to frames of the other. Hashes of plain pictures say nothing
    and are near nothing.

    Args:
        items: with PDQ hashes.
        radius: bits.

    Returns:
        Groups of two and more, the members in the order of `items`, and so the groups.
    """
    owners: list[int] = []
    values: list[bytes] = []
    frames: Counter[int] = Counter()
    for place, item in enumerate(items):
        for hashed in item.hashes:
            if hashed.signal.type is SignalType.PDQ and not hashed.plain:
                owners.append(place)
                values.append(hashed.signal.value)
                frames[place] += 1
    if not values:
        return []
    packed = np.frombuffer(b"".join(values), np.uint8).reshape(len(values), -1)
    index = Index(SignalType.PDQ.bits)
    index.add(np.arange(len(values), dtype=np.uint64), packed)

    shared: Counter[tuple[int, int]] = Counter()  # frames of the first that the second has
    nearest: dict[tuple[int, int], int] = {}
    for start in range(0, len(values), _AT_ONCE):
        matches = index.query(packed[start : start + _AT_ONCE], radius=radius)
        bounds = matches.offsets.tolist()
        for row, (first, last) in enumerate(pairwise(bounds), start):
            mine = owners[row]
            near: dict[int, int] = {}
            for id, distance in zip(
                matches.ids[first:last].tolist(),
                matches.distances[first:last].tolist(),
                strict=True,
            ):
                theirs = owners[id]
                if theirs != mine and items[theirs].media is items[mine].media:
                    near.setdefault(theirs, distance)  # the nearest comes first
            for theirs, distance in near.items():
                shared[mine, theirs] += 1
                pair = mine, theirs
                nearest[pair] = min(nearest.get(pair, distance), distance)

    leader = list(range(len(items)))

    def led(place: int) -> int:
        while leader[place] != place:
            leader[place] = place = leader[leader[place]]
        return place

    closest: dict[int, int] = {}
    for (mine, theirs), count in shared.items():
        if items[mine].media is Media.IMAGE or count >= _SHARE * frames[mine]:
            low, high = sorted((led(mine), led(theirs)))
            leader[high] = low
            for place in (mine, theirs):
                distance = nearest[mine, theirs]
                closest[place] = min(closest.get(place, distance), distance)
    members: dict[int, list[Member]] = defaultdict(list)
    for place in sorted(closest):
        members[led(place)].append(Member(place, closest[place]))
    return [tuple(group) for _, group in sorted(members.items())]
