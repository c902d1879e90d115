"""Hash edited copies, look for them in banks, and find why some are missed.

`Distances` are those of today's sets of variants; `Found` is what `nciihash.Matcher` finds at each
level, in a bank that holds the set `thorough` of all photos at once, so that false matches are
counted in the same run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.recall import large_bank
from benchmarks.recall.later_edits import LATER, LaterEdit
from benchmarks.recall.photos import RADIUS, Hashes, Photos, hash_set, nearest, packed
from benchmarks.recall.transformations import ALL, Transformation
from nciihash import Level, Matcher
from nciihash.hashing.hasher import hash_image
from nciihash.hashing.parts import query_parts
from nciihash.hashing.trimming import trim
from nciihash.hashing.variants import hash_trimmed, hash_variants
from nciihash.sdk.matcher import CANDIDATE_BITS
from nciihash.signals import Hashed, Item, Match, Media
from nciihash.windows import hash_windows

BANKS: Final = ("plain", "standard", "full", "thorough")
QUERIES: Final = ("plain", "match")
LEVELS: Final = tuple(Level)
EDITS: Final[tuple[Transformation | LaterEdit, ...]] = (*ALL, *LATER)

# Why a copy is missed at the level `thorough`.
CAUSES: Final = (
    "no hash of the photo in the bank",
    "no window of the copy within 60 bits",
    "only windows with too little detail",
    "no window aligns to 16 bits and has enough detail",
    "not looked up, or not among the nearest",
)


@dataclass(frozen=True)
class FalseMatch:
    """A copy that matched another photo: names of both, the edit, and the match."""

    level: Level
    photo: str
    edit: str
    other: str
    distance: int
    aligned: int | None


@dataclass(frozen=True, eq=False)
class Measured:
    """What was found of some photos' copies.

    Attributes:
        numbers: int64 (photos,), indices in the bank of the photos that were edited.
        detailed: bool (photos,), whether the photo has detail enough for matches of its windows.
        distances: uint16 (photos, edits, banks, queries), from each copy to its own photo's hashes.
        found: bool (photos, edits, levels).
        sure: bool (photos, edits, levels), found without a need for review.
        large: bool (photos, edits), found at `thorough` if the bank is among a million hashes.
        causes: int8 (photos, edits), index in `CAUSES` of copies missed at `thorough`; else -1.
        queries: for each photo the `match` queries of its copies, one for each of the sixty edits.
        false: matches of other photos.
    """

    numbers: NDArray[np.int64]
    detailed: NDArray[np.bool_]
    distances: NDArray[np.uint16]
    found: NDArray[np.bool_]
    sure: NDArray[np.bool_]
    large: NDArray[np.bool_]
    causes: NDArray[np.int8]
    queries: list[list[Hashes]]
    false: list[FalseMatch] = field(default_factory=list)


def copies(photos: Photos, number: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the edited copies of a photo, in the order of `EDITS`."""
    photo = photos.bank[number][1]
    companions = photos.companions(number)
    for each in ALL:
        yield each.apply(photo)
    for later in LATER:
        yield later.apply(photo, companions)


def _own(photos: Photos, number: int) -> Hashed:
    return hash_image(np.asarray(photos.bank[number][1]))


def bank_items(photos: Photos) -> dict[str, Item]:
    """Return the set `thorough` of each photo of the bank."""
    return {name: bank_item(photo) for name, photo in photos.bank}


def bank_sets(photos: Photos, items: dict[str, Item]) -> dict[str, list[Hashes]]:
    """Return the hashes of each photo of the bank, by name of a set."""
    sets = {
        bank: [hash_set(np.asarray(photo), bank) for _, photo in photos.bank] for bank in BANKS[:-1]
    }
    return sets | {BANKS[-1]: [packed(item.hashes) for item in items.values()]}


def bank_item(photo: Image.Image) -> Item:
    """Hash a photo as it is submitted."""
    rgb = np.asarray(photo)
    return Item(Media.IMAGE, hash_variants(rgb, hash_image(rgb), "thorough"))


def query_item(rgb: NDArray[np.uint8]) -> Item:
    """Hash a copy as `nciihash.hashing.hasher.hash_file` does at the level `thorough`.

    The parts at the level `windows` are the same, except that some are missing, and `Matcher` looks
    up only the windows of its own level.
    """
    region = trim(rgb)
    hashes = hash_trimmed(rgb, hash_image(rgb), region)
    return Item(Media.IMAGE, hashes, parts=query_parts(rgb, Level.THOROUGH, region))


def measure(
    photos: Photos,
    items: dict[str, Item],
    sets: dict[str, list[Hashes]],
    numbers: Sequence[int],
    rest: NDArray[np.uint8],
) -> Measured:
    """Look for the copies of some photos in the bank of all.

    Args:
        photos: the photos.
        items: of each photo of the bank, its set `thorough`.
        sets: by name of a set, the hashes of each photo of the bank.
        numbers: indices of photos of the bank whose copies are made.
        rest: the other hashes of a large bank, uint8 (n, 32).
    """
    large = large_bank.build(items, rest)
    matchers = [Matcher.from_items(items, level=level) for level in LEVELS]
    shape = len(numbers), len(EDITS)
    measured = Measured(
        np.array(numbers, np.int64),
        np.array([bool(_own(photos, number).distinctive) for number in numbers]),
        np.full((*shape, len(BANKS), len(QUERIES)), 256, np.uint16),
        np.zeros((*shape, len(LEVELS)), bool),
        np.zeros((*shape, len(LEVELS)), bool),
        np.zeros(shape, bool),
        np.full(shape, -1, np.int8),
        [],
    )
    for row, number in enumerate(numbers):
        name = photos.bank[number][0]
        measured.queries.append([])
        for edit, rgb in enumerate(copies(photos, number)):
            item = query_item(rgb)
            match = packed(item.hashes)
            if edit < len(ALL):
                measured.queries[-1].append(match)
            for b, bank in enumerate(BANKS):
                for q, query in enumerate((packed(item.hashes[:1]), match)):
                    measured.distances[row, edit, b, q] = nearest(query, sets[bank][number])
            for n, matcher in enumerate(matchers):
                matches = matcher.find(item)
                own = [one for one in matches if one.item == name]
                measured.found[row, edit, n] = bool(own)
                measured.sure[row, edit, n] = any(not one.review for one in own)
                measured.false.extend(_false(matcher.level, name, EDITS[edit].name, matches))
            # `own` is of the level `thorough`, the last
            measured.large[row, edit] = any(one.edit is None for one in own) or large_bank.finds(
                large, hash_windows(item.parts, Level.THOROUGH), number
            )
            if not measured.found[row, edit, -1]:
                measured.causes[row, edit] = CAUSES.index(cause(item, items[name]))
    return measured


def _false(level: Level, name: str, edit: str, matches: Sequence[Match]) -> Iterator[FalseMatch]:
    """Yield the best match of each other photo."""
    seen = {name}
    for one in matches:
        if one.item not in seen:
            seen.add(one.item)
            yield FalseMatch(level, name, edit, one.item, one.distance, one.aligned)


def cause(query: Item, item: Item) -> str:
    """Return why a copy is not found at the level `thorough`, as one of `CAUSES`.

    Args:
        query: the copy.
        item: the set in the bank.
    """
    bank = large_bank.values_of(item)
    if not len(bank):
        return CAUSES[0]
    windows = hash_windows(query.parts, Level.THOROUGH)
    distances = np.bitwise_count(windows.hashes[:, None] ^ bank[None]).sum(axis=2)
    if distances.min() > CANDIDATE_BITS:
        return CAUSES[1]
    order = np.argsort(distances, axis=None, kind="stable")[
        : int((distances <= CANDIDATE_BITS).sum())
    ]
    rows, columns = np.unravel_index(order, distances.shape)
    pairs = large_bank.nearest_pairs(windows, zip(rows.tolist(), columns.tolist(), strict=True))
    if not pairs:
        return CAUSES[2]
    aligned = any(large_bank.aligns(windows, row, bank[column]) for row, column in pairs)
    return CAUSES[4] if aligned else CAUSES[3]


def join(parts: Sequence[Measured]) -> Measured:
    """Join the results of several processes, in the order of photos."""
    return Measured(
        np.concatenate([part.numbers for part in parts]),
        np.concatenate([part.detailed for part in parts]),
        np.concatenate([part.distances for part in parts]),
        np.concatenate([part.found for part in parts]),
        np.concatenate([part.sure for part in parts]),
        np.concatenate([part.large for part in parts]),
        np.concatenate([part.causes for part in parts]),
        [queries for part in parts for queries in part.queries],
        [one for part in parts for one in part.false],
    )


def others(
    banks: Sequence[Hashes], measured: Measured
) -> tuple[NDArray[np.int64], int, tuple[int, int, int]]:
    """Compare the copies of each picture with the sets of all others.

    Returns:
        A histogram of distances, int64 (257,); the number of copies within the radius of another
        picture's set; and the nearest pair as distance, index of the query, index in the bank.
    """
    histogram = np.zeros(257, np.int64)
    false = 0
    nearest_pair = (257, -1, -1)
    for i, made in zip(measured.numbers.tolist(), measured.queries, strict=True):
        parts = [copy for copy in made if len(copy)]
        if not parts:
            continue
        flat = np.concatenate(parts)
        owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        for j, bank in enumerate(banks):
            if i == j or not len(bank):
                continue
            distances = np.bitwise_count(flat[:, None] ^ bank[None]).sum(axis=2)
            histogram += np.bincount(distances.ravel(), minlength=257)
            false += len(np.unique(owner[(distances <= RADIUS).any(axis=1)]))
            nearest_pair = min(nearest_pair, (int(distances.min()), i, j))
    return histogram, false, nearest_pair
