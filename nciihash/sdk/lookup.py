"""Look up the hashes of whole files, in a bank or at a clearinghouse, and count shared frames."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

from nciihash.signals import Band, Hashed, Item, Match, Media, Signal, SignalType, Variant
from nciihash.vpdq import Share, bank_share
from nciihash.wire import Hit, Hits

Found = TypeVar("Found")

# Counts the PDQ hashes of an item by variant.
VariantCounts: TypeAlias = Callable[[str], Mapping[Variant, int]]

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
        found: the best match of each signal in the bank, best first.
        shared: for a video, the items with which it shares frames, those with most frames first.
        truncated: whether the clearinghouse has more hits than it returned.
        plain_hits: the ids of a clearinghouse's hits that only hashes with little detail have; None
            if it is not known how much detail they have.
    """

    found: tuple[TypedMatch, ...]
    shared: tuple[SharedFrames, ...] = ()
    truncated: bool = False
    plain_hits: frozenset[str] | None = None

    @property
    def review(self) -> bool:
        """Whether a person should look at any of the matches before anything is blocked."""
        return any(self.needs_review(match) for _, match in self.found)

    def needs_review(self, match: Match | Hit) -> bool | None:
        """Whether a person should look at a match before anything is blocked; None if unknown."""
        if isinstance(match, Match):
            return match.review
        return None if self.plain_hits is None else match.id in self.plain_hits


def look_up(
    items: Sequence[Item], ask: Callable[[Sequence[Signal]], Sequence[Hits]]
) -> list[LookupResult]:
    """Look up the hashes of several files at a clearinghouse, in one request.

    These are the hashes of the whole files, and of pictures within their frames. A clearinghouse is
    never asked about windows: to align one takes the bank's whole hash.

    Args:
        items: the hashes of the files.
        ask: returns the hits of each signal, as `PlatformClient.match` and `Confirmer.find` do.
    """
    results = []
    for item, found in zip(items, match_hashes(items, ask), strict=True):
        replies = [(hashed.signal, hits) for hashed, hits in found]
        result = result_of_hits(replies, plain_signals([hashed for hashed, _ in found]))
        results.append(replace(result, shared=shared_frames(item, found)))
    return results


def result_of_hits(
    replies: Sequence[tuple[Signal, Hits]], plain: Collection[Signal] | None
) -> LookupResult:
    """Return the result of a file from a clearinghouse's hits of its signals.

    Args:
        replies: the signals with their hits.
        plain: those of them with little detail; None if that is not known.
    """
    found = tuple(once((signal.type, hit) for signal, hits in replies for hit in hits))
    truncated = any(hits.truncated for _, hits in replies)
    if plain is None:
        return LookupResult(found, truncated=truncated)
    clear = {hit.id for signal, hits in replies if signal not in plain for hit in hits}
    plain_hits = frozenset(hit.id for _, hit in found) - clear
    return LookupResult(found, truncated=truncated, plain_hits=plain_hits)


def plain_signals(hashes: Iterable[Hashed]) -> frozenset[Signal]:
    """Return the signals that only pictures with little detail have (`mostly_plain`)."""
    by_detail: dict[bool, set[Signal]] = {True: set(), False: set()}
    for hashed in hashes:
        by_detail[mostly_plain(hashed)].add(hashed.signal)
    return frozenset(by_detail[True] - by_detail[False])


def match_hashes(
    items: Sequence[Item], find: Callable[[Sequence[Signal]], Sequence[Found]]
) -> list[list[tuple[Hashed, Found]]]:
    """Return the hashes of each item with their matches, looked up in one query.

    A hash that is too plain (`Hashed.plain`) is not looked up and matches nothing: blank pictures
    resemble each other, and anything plain that somebody may have submitted.

    Args:
        items: the hashes of files.
        find: returns the matches of each signal.
    """
    fit = [[hashed for hashed in item.hashes if not hashed.plain] for item in items]
    signals = [hashed.signal for hashes in fit for hashed in hashes]
    results = iter(find(signals) if signals else ())
    return [[(hashed, next(results)) for hashed in hashes] for hashes in fit]


def mostly_plain(hashed: Hashed) -> bool:
    """Whether a picture has so little detail that its hash resembles those of strangers."""
    return hashed.signal.type is SignalType.PDQ and not hashed.distinctive


def shared_frames(
    video: Item,
    found: Iterable[tuple[Hashed, Sequence[Match] | Sequence[Hit]]],
    variant_counts: VariantCounts | None = None,
) -> tuple[SharedFrames, ...]:
    """Return the items that frames of a video match, those with most frames first.

    Args:
        video: an item; one that is not a video shares no frames.
        found: its hashes with their matches.
        variant_counts: counts the PDQ hashes of an item by variant; None for a clearinghouse, which
            does not reveal it.
    """
    if video.media is not Media.VIDEO:
        return ()
    times: dict[str, set[float | None]] = defaultdict(set)
    by_item: dict[str, list[Match]] = defaultdict(list)
    for hashed, matches in found:
        if hashed.signal.type is not SignalType.PDQ:
            continue
        for match in matches:
            times[match.item].add(hashed.time)
            if isinstance(match, Match):
                by_item[match.item].append(match)
    shared = []
    for item, count in Counter({item: len(each) for item, each in times.items()}).most_common():
        bank = None if variant_counts is None else bank_share(by_item[item], variant_counts(item))
        shared.append(SharedFrames(item, Share(count, max(count, video.frames)), bank))
    return tuple(shared)


def once(found: Iterable[tuple[SignalType, Hit]]) -> list[tuple[SignalType, Hit]]:
    """Return the nearest hit of each signal of a clearinghouse, nearest first.

    A picture and its trimmed variant often match the same signal. A hit has no distance, and counts
    as its band's limit.
    """
    nearest: dict[str, tuple[SignalType, Hit]] = {}
    for type, hit in sorted(found, key=_limit):
        nearest.setdefault(hit.id, (type, hit))
    return list(nearest.values())


def _limit(typed: tuple[SignalType, Hit]) -> tuple[int, str]:
    type, hit = typed
    return 0 if hit.band is Band.STRONG else type.threshold, hit.id
