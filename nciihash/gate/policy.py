"""What a dialect does about the matches of an upload."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from nciihash.gate.outcome import Decision, Reason
from nciihash.sdk.lookup import LookupResult, TypedMatch
from nciihash.signals import Band, Item, Match, Media, SignalType
from nciihash.wire import Hit


class Action(StrEnum):
    """What to do about a match."""

    BLOCK = "block"
    REVIEW = "review"
    CLEAR = "clear"


class Fail(StrEnum):
    """What happens to an upload that cannot be checked: `open` accepts it, `closed` refuses it."""

    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class MediaPolicy:
    """What to do about matches of pictures, or of videos.

    Attributes:
        strong: about a match of the picture's own hash within 16 bits, or of an equal digest.
        likely: about any other match of its own hash.
        review: about a match that a person should look at (`nciihash.Match.review`): only a part
            of the picture matched, or it has little detail. Never `block`, since the rate of false
            matches is not known to be low enough for that.
        radius: the largest distance of a PDQ hash of the picture's own that counts, at most 31
            bits. A match of a window has been aligned within 16 bits and ignores it; so does a hit
            of a clearinghouse, which has no distance.
        frames: of a video, the least share of its frames that must match an item within 31 bits,
            from 0 to 1. Matches of digests and of windows ignore it.
    """

    strong: Action = Action.BLOCK
    likely: Action = Action.BLOCK
    review: Action = Action.REVIEW
    radius: int = 31
    frames: float = 0.0


@dataclass(frozen=True, slots=True)
class Policy:
    """What to do about matches, and about uploads that cannot be checked.

    Attributes:
        image: pictures.
        video: videos and animations.
        unsupported: whether a file that is neither a picture nor a video is accepted.
        unreadable: whether a picture or video that cannot be hashed is accepted.
        unchecked: whether a file is accepted while the gate cannot check it.
        review_as: what a dialect without an answer for `review` does about it; None if the dialect
            has one. `review` is not a choice.
    """

    image: MediaPolicy = field(default_factory=MediaPolicy)
    video: MediaPolicy = field(default_factory=MediaPolicy)
    unsupported: Fail = Fail.OPEN
    unreadable: Fail = Fail.OPEN
    unchecked: Fail = Fail.OPEN
    review_as: Action | None = None

    def of(self, media: Media) -> MediaPolicy:
        """Return the policy for a kind of file."""
        return self.image if media is Media.IMAGE else self.video


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a policy says about a file that was hashed and looked up.

    Attributes:
        decision: `block`, `review` or `clear`.
        reason: why.
        result: the matches that are not clear, those with the strictest action first; None if the
            decision is `clear`.
    """

    decision: Decision
    reason: Reason
    result: LookupResult | None = None


# Actions from the mildest to the strictest.
STRICTNESS: Final = {Action.CLEAR: 0, Action.REVIEW: 1, Action.BLOCK: 2}


def judge(
    policy: Policy,
    item: Item,
    result: LookupResult,
    *,
    excepted: AbstractSet[str] = frozenset(),
    flooded: AbstractSet[str] = frozenset(),
) -> Judgement:
    """Decide about a file from its matches. The strictest action of a match wins.

    If it is not known whether a match needs a review, as for a clearinghouse's hits of stored
    hashes, its band decides. The gate has always just hashed the file, so there it is known.

    Args:
        policy: of the dialect.
        item: the file's hashes.
        result: its matches.
        excepted: ids of matches that do not count, because a moderator excepted the picture: see
            `nciihash.gate.exceptions`.
        flooded: ids of items that too many unlike pictures match: see `nciihash.gate.flood`. Their
            matches in the band `likely` are reviewed instead of blocked.
    """
    if not result.found:
        return Judgement(Decision.CLEAR, Reason.NO_MATCH)
    media = policy.of(item.media)
    shares = {shared.item: shared.query.fraction for shared in result.shared}
    judged: list[tuple[Action, TypedMatch]] = []
    reason = Reason.POLICY
    demoted = False
    for typed in result.found:
        type, match = typed
        if not _counts(media, item, type, match, shares.get(match.item, 0.0)):
            continue
        action = _action(media, result, match)
        if action is not Action.CLEAR and match.id in excepted:
            reason = Reason.EXCEPTED
            continue
        if action is Action.BLOCK and match.band is Band.LIKELY and match.item in flooded:
            action = Action.REVIEW
            demoted = True
        if action is not Action.CLEAR:
            judged.append((action, typed))
    if not judged:
        return Judgement(Decision.CLEAR, reason)
    judged.sort(key=lambda pair: -STRICTNESS[pair[0]])  # stable: else the best match first
    strictest = judged[0][0]
    items = {match.item for _, (_, match) in judged}
    kept = replace(
        result,
        found=tuple(typed for _, typed in judged),
        shared=tuple(shared for shared in result.shared if shared.item in items),
    )
    if strictest is Action.BLOCK:
        return Judgement(Decision.BLOCK, Reason.MATCH, kept)
    return Judgement(Decision.REVIEW, Reason.FLOOD if demoted else Reason.MATCH, kept)


def _counts(
    media: MediaPolicy, item: Item, type: SignalType, match: Match | Hit, share: float
) -> bool:
    """Whether a match is within the radius, and of enough frames."""
    if type is not SignalType.PDQ or (isinstance(match, Match) and match.edit is not None):
        return True
    if isinstance(match, Match) and match.distance > media.radius:
        return False
    return item.media is not Media.VIDEO or share >= media.frames


def _action(media: MediaPolicy, result: LookupResult, match: Match | Hit) -> Action:
    if result.needs_review(match):
        return media.review
    return media.strong if match.band is Band.STRONG else media.likely
