"""What the gate decides about an upload, and why."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from nciihash.sdk.lookup import LookupResult
from nciihash.signals import Band, Media


class Dialect(StrEnum):
    """A protocol in which uploads arrive; also the name of its table in the configuration."""

    HTTP = "http"
    CLAMD = "clamd"
    ICAP = "icap"
    HMA = "hma"
    PICTRS = "pictrs"
    PIEFED = "piefed"


class Decision(StrEnum):
    """What the gate found.

    `unreadable`: the file cannot be hashed, for example because it is not a picture. `unchecked`:
    the gate could not check it, for example because the bank is too old. Whether an upload is
    stopped then depends on whether its dialect fails open or closed: see `Outcome.stop`.
    """

    BLOCK = "block"
    REVIEW = "review"
    CLEAR = "clear"
    UNREADABLE = "unreadable"
    UNCHECKED = "unchecked"


class Reason(StrEnum):
    """Why the gate decided as it did."""

    # clear
    NO_MATCH = "no_match"
    POLICY = "policy"  # it matches, and the policy says that such a match is clear
    EXCEPTED = "excepted"  # a moderator excepted this picture
    NOT_SAMPLED = "not_sampled"  # outside of the share of uploads that are checked
    # block and review
    MATCH = "match"
    FLOOD = "flood"  # block became review: many unlike pictures match one item
    # unreadable
    EMPTY = "empty"
    UNSUPPORTED = "unsupported"
    TOO_LARGE = "too_large"
    TIMED_OUT = "timed_out"
    CORRUPT = "corrupt"
    FAULT = "fault"  # the file made its decoder fail three times
    # unchecked
    BANK_EMPTY = "bank_empty"  # it has never been complete
    BANK_STALE = "bank_stale"
    QUEUE_FULL = "queue_full"
    SANDBOX_UNAVAILABLE = "sandbox_unavailable"
    UNCONFIRMED = "unconfirmed"  # the bank is veiled, and the clearinghouse does not answer
    INTERNAL = "internal"  # a fault of the gate; it is logged


UNREADABLE: Final = frozenset(
    {
        Reason.EMPTY,
        Reason.UNSUPPORTED,
        Reason.TOO_LARGE,
        Reason.TIMED_OUT,
        Reason.CORRUPT,
        Reason.FAULT,
    }
)
UNCHECKED: Final = frozenset(
    {
        Reason.BANK_EMPTY,
        Reason.BANK_STALE,
        Reason.QUEUE_FULL,
        Reason.SANDBOX_UNAVAILABLE,
        Reason.UNCONFIRMED,
        Reason.INTERNAL,
    }
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The gate's answer about one upload.

    Attributes:
        decision: what the gate found; with `dry_run` always `clear`.
        reason: why. With `dry_run`, why it would have decided otherwise.
        stop: whether a caller that knows only yes and no should refuse the upload.
        media: what the file is; None if it was not hashed.
        reference: the random reference of a block or review, for `nciihash gate decide`; None if
            there is none, or if it could not be stored.
        result: the matches that led to the decision; None without any.
        as_of: when the bank last had everything in the feed, in Unix seconds; None if never.
        dry_run: whether the dialect only counts what it would have stopped.
    """

    decision: Decision
    reason: Reason
    stop: bool = False
    media: Media | None = None
    reference: str | None = None
    result: LookupResult | None = None
    as_of: float | None = None
    dry_run: bool = False

    @property
    def band(self) -> Band | None:
        """The strongest band of the matches that led to the decision; None without any."""
        if self.result is None:
            return None
        bands = {match.band for _, match in self.result.found}
        return Band.STRONG if Band.STRONG in bands else Band.LIKELY
