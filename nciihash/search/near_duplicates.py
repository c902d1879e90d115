"""Group near-duplicate files by their PDQ hashes."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from nciihash.search.index import Index
from nciihash.signals import Item, Media, SignalType

_SHARE: Final = 0.8  # of one video's frames must match frames of the other
_BATCH: Final = 4096  # queries


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a group of near-duplicates.

    Attributes:
        file: its index in the list of items.
        distance: in bits, to the closest other file of the group.
    """

    file: int
    distance: int


def groups(items: Sequence[Item], radius: int) -> list[tuple[Member, ...]]:
    """Return the groups of items that match one another, directly or through other items.

    Two images match if their hashes differ in at most `radius` bits. Two videos match if four
    fifths of the frames of one match frames of the other. Hashes of plain images are ignored.

    Args:
        items: with PDQ hashes.
        radius: in bits.

    Returns:
        Groups of at least two members, ordered by first member; members are in the order of
        `items`.
    """
    owners: list[int] = []  # of each hash, the index of its item
    values: list[bytes] = []
    frames: Counter[int] = Counter()
    for position, item in enumerate(items):
        for hashed in item.hashes:
            if hashed.signal.type is SignalType.PDQ and not hashed.plain:
                owners.append(position)
                values.append(hashed.signal.value)
                frames[position] += 1
    if not values:
        return []
    packed = np.frombuffer(b"".join(values), np.uint8).reshape(len(values), -1)
    index = Index(SignalType.PDQ.bits)
    index.add(np.arange(len(values), dtype=np.uint64), packed)

    shared: Counter[tuple[int, int]] = Counter()  # how many frames of the first match the second
    closest: dict[tuple[int, int], int] = {}
    for start in range(0, len(values), _BATCH):
        matches = index.query(packed[start : start + _BATCH], radius=radius)
        bounds = matches.offsets.tolist()
        for row, (first, last) in enumerate(pairwise(bounds), start):
            own = owners[row]
            matched: dict[int, int] = {}
            for id, distance in zip(
                matches.ids[first:last].tolist(),
                matches.distances[first:last].tolist(),
                strict=True,
            ):
                other = owners[id]
                if other != own and items[other].media is items[own].media:
                    matched.setdefault(other, distance)  # matches are sorted by distance
            for other, distance in matched.items():
                pair = own, other
                shared[pair] += 1
                closest[pair] = min(closest.get(pair, distance), distance)

    parents = list(range(len(items)))  # union-find with path halving

    def root(position: int) -> int:
        while parents[position] != position:
            parents[position] = position = parents[parents[position]]
        return position

    distances: dict[int, int] = {}
    for (own, other), count in shared.items():
        if items[own].media is Media.IMAGE or count >= _SHARE * frames[own]:
            low, high = sorted((root(own), root(other)))
            parents[high] = low
            for position in (own, other):
                distance = closest[own, other]
                distances[position] = min(distances.get(position, distance), distance)
    members: dict[int, list[Member]] = defaultdict(list)
    for position in sorted(distances):
        members[root(position)].append(Member(position, distances[position]))
    return [tuple(group) for _, group in sorted(members.items())]
