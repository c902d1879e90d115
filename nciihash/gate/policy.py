"""What a dialect does about the matches of an upload."""

from dataclasses import dataclass, field
from enum import StrEnum

from nciihash.signals import Media


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
        strong: about a match within 16 bits.
        likely: about a match within `radius`.
        review: about a match that a person should look at (`nciihash.Match.review`): only a part
            of the picture matched, or it has little detail. Never `block`, since the rate of false
            matches is not known to be low enough for that.
        radius: the distance of a match of the picture's own hash, at most 31 bits. A veiled bank
            has no distances, and ignores it.
        frames: of a video, the least share of its frames that must match an item, from 0 to 1.
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
        unreadable: whether a file that cannot be hashed is accepted.
        unchecked: whether a file is accepted while the gate cannot check it.
        review_as: what a dialect without an answer for `review` does about it; None if the dialect
            has one. `review` is not a choice.
    """

    image: MediaPolicy = field(default_factory=MediaPolicy)
    video: MediaPolicy = field(default_factory=MediaPolicy)
    unreadable: Fail = Fail.OPEN
    unchecked: Fail = Fail.OPEN
    review_as: Action | None = None

    def of(self, media: Media) -> MediaPolicy:
        """Return the policy for a kind of file."""
        return self.image if media is Media.IMAGE else self.video
