"""Look files' hashes up in a bank: what each file is near to, and of videos, how much of them."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from nciihash.errors import FileRefused
from nciihash.signals import Band, Item, Match, Media, Signal, SignalType, Variant
from nciihash.vpdq import Share, bank_share
from nciihash.wire import Hit, Hits

Find: TypeAlias = Callable[[Sequence[Signal]], Sequence[Sequence[Match | Hit]]]
# how many PDQ hashes of each kind an item has; None where nobody tells, as the clearinghouse does
Kinds: TypeAlias = Callable[[str], Mapping[Variant, int]] | None

Found: TypeAlias = tuple[SignalType, Match | Hit]


@dataclass(frozen=True, slots=True)
class SharedFrames:
    """What a video has in common with one item of a bank.

    Attributes:
        item: its name in the feed.
        query: how many of the video's frames are near it.
        bank: how many of its frames are near the video; None where the bank does not tell.
    """

    item: str
    query: Share
    bank: Share | None


@dataclass(frozen=True, slots=True)
class LookupResult:
    """What was found for one file: each signal once, and for a video what it shares with items.

    `truncated` says that a clearinghouse has more than it told.
    """

    found: tuple[Found, ...]
    shared: tuple[SharedFrames, ...] = ()
    truncated: bool = False


def look_up(
    batch: Sequence[tuple[Path, Item | FileRefused]], find: Find, kinds: Kinds
) -> Iterator[tuple[Path, LookupResult | FileRefused]]:
    """Look for the hashes of several files in one query.

    A hash whose picture is too plain (`Hashed.plain`) matches nothing, and is not looked for: blank
    pictures are like one another, and like anything plain that somebody may have listed.

    Args:
        batch: files, hashed or refused.
        find: gives for each signal what is near it.
        kinds: counts what an item has in the bank.
    """
    signals = [
        hashed.signal
        for _, outcome in batch
        if not isinstance(outcome, FileRefused)
        for hashed in outcome.hashes
        if not hashed.plain
    ]
    answers = iter(find(signals) if signals else ())
    for path, outcome in batch:
        if isinstance(outcome, FileRefused):
            yield path, outcome
            continue
        found = [(hashed, next(answers)) for hashed in outcome.hashes if not hashed.plain]
        nearest = once((h.signal.type, match) for h, matches in found for match in matches)
        shared: tuple[SharedFrames, ...] = ()
        if outcome.media is Media.VIDEO:
            times = (
                (hashed.time, matches)
                for hashed, matches in found
                if hashed.signal.type is SignalType.PDQ
            )
            shared = tuple(_shared(times, outcome.frames, kinds))
        cut = any(isinstance(matches, Hits) and matches.truncated for _, matches in found)
        yield path, LookupResult(tuple(nearest), shared, cut)


def _shared(
    found: Iterable[tuple[float | None, Sequence[Match | Hit]]], frames: int, kinds: Kinds
) -> Iterator[SharedFrames]:
    """Count frames by items, those items first of which most frames were found."""
    times: dict[str, set[float | None]] = defaultdict(set)
    matches: dict[str, list[Match]] = defaultdict(list)
    for time, near in found:
        for match in near:
            times[match.item].add(time)
            if isinstance(match, Match):
                matches[match.item].append(match)
    counts = Counter({item: len(seen) for item, seen in times.items()})
    for item, count in counts.most_common():
        bank = None if kinds is None else bank_share(matches[item], kinds(item))
        yield SharedFrames(item, Share(count, max(count, frames)), bank)


def once(found: Iterable[Found]) -> list[Found]:
    """Keep each signal's nearest match, nearest first: a picture and its trimmed form find it."""
    nearest: dict[str, Found] = {}
    for type, match in sorted(found, key=_nearness):
        nearest.setdefault(match.id, (type, match))
    return list(nearest.values())


def _nearness(found: Found) -> tuple[int, str]:
    type, match = found
    if isinstance(match, Match):
        return match.distance, match.id
    return 0 if match.band is Band.STRONG else type.threshold, match.id
