"""Look up the hashes of files: the matches of each, and the frames that a video shares."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from nciihash.errors import FileRefused
from nciihash.signals import Band, Item, Match, Media, Signal, SignalType, Variant
from nciihash.vpdq import Share, bank_share
from nciihash.wire import Hit, Hits

FindMatches: TypeAlias = Callable[[Sequence[Signal]], Sequence[Sequence[Match | Hit]]]
# Counts the PDQ hashes of an item by variant; None for a clearinghouse, which does not reveal it.
VariantCounts: TypeAlias = Callable[[str], Mapping[Variant, int]] | None

TypedMatch: TypeAlias = tuple[SignalType, Match | Hit]


@dataclass(frozen=True, slots=True)
class SharedFrames:
    """The frames that a video shares with one item of a bank.

    Attributes:
        item: the item's id.
        query: how many of the video's frames match the item.
        bank: how many of the item's frames match the video; None if the bank does not reveal it.
    """

    item: str
    query: Share
    bank: Share | None


@dataclass(frozen=True, slots=True)
class LookupResult:
    """The matches of one file.

    Attributes:
        found: the nearest match of each signal in the bank, nearest first.
        shared: for a video, the items with which it shares frames, those with most frames first.
        truncated: whether the clearinghouse has more hits than it returned.
    """

    found: tuple[TypedMatch, ...]
    shared: tuple[SharedFrames, ...] = ()
    truncated: bool = False


def look_up(
    batch: Sequence[tuple[Path, Item | FileRefused]],
    find: FindMatches,
    variant_counts: VariantCounts,
) -> Iterator[tuple[Path, LookupResult | FileRefused]]:
    """Look up the hashes of several files in one query.

    A hash that is too plain (`Hashed.plain`) is not looked up and matches nothing: blank pictures
    resemble each other, and anything plain that somebody may have submitted.

    Args:
        batch: files with their hashes, or with why they were refused.
        find: returns the matches of each signal, as `Bank.query` and `PlatformClient.match` do.
        variant_counts: counts the PDQ hashes of an item by variant; None if that is unknown.

    Yields:
        Each file with its result, or with why it was refused, in the order of `batch`.
    """
    signals = [
        hashed.signal
        for _, outcome in batch
        if not isinstance(outcome, FileRefused)
        for hashed in outcome.hashes
        if not hashed.plain
    ]
    results = iter(find(signals) if signals else ())
    for path, outcome in batch:
        if isinstance(outcome, FileRefused):
            yield path, outcome
            continue
        found = [(hashed, next(results)) for hashed in outcome.hashes if not hashed.plain]
        nearest = once((h.signal.type, match) for h, matches in found for match in matches)
        shared: tuple[SharedFrames, ...] = ()
        if outcome.media is Media.VIDEO:
            frames = (
                (hashed.time, matches)
                for hashed, matches in found
                if hashed.signal.type is SignalType.PDQ
            )
            shared = tuple(_shared_frames(frames, outcome.frames, variant_counts))
        truncated = any(isinstance(matches, Hits) and matches.truncated for _, matches in found)
        yield path, LookupResult(tuple(nearest), shared, truncated)


def _shared_frames(
    frames: Iterable[tuple[float | None, Sequence[Match | Hit]]],
    total: int,
    variant_counts: VariantCounts,
) -> Iterator[SharedFrames]:
    """Yield the items that frames match, those with most frames first.

    Args:
        frames: the time of each hashed frame, and its matches.
        total: how many frames the video has.
        variant_counts: as in `look_up`.
    """
    times: dict[str, set[float | None]] = defaultdict(set)
    by_item: dict[str, list[Match]] = defaultdict(list)
    for time, matches in frames:
        for match in matches:
            times[match.item].add(time)
            if isinstance(match, Match):
                by_item[match.item].append(match)
    counts = Counter({item: len(matched) for item, matched in times.items()})
    for item, count in counts.most_common():
        bank = None if variant_counts is None else bank_share(by_item[item], variant_counts(item))
        yield SharedFrames(item, Share(count, max(count, total)), bank)


def once(found: Iterable[TypedMatch]) -> list[TypedMatch]:
    """Return the nearest match of each signal in the bank, nearest first.

    A picture and its trimmed variant often match the same signal.
    """
    nearest: dict[str, TypedMatch] = {}
    for type, match in sorted(found, key=_distance):
        nearest.setdefault(match.id, (type, match))
    return list(nearest.values())


def _distance(typed: TypedMatch) -> tuple[int, str]:
    """Return the sort key of a match; a hit, which has no distance, counts as its band's limit."""
    type, match = typed
    if isinstance(match, Match):
        return match.distance, match.id
    return 0 if match.band is Band.STRONG else type.threshold, match.id
