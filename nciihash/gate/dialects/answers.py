"""Outcomes as answers: JSON fields, a sentence that says what to do, an HTTP status, and a name."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from nciihash.gate.outcome import Decision, Outcome, Reason
from nciihash.sdk.match_fields import result_fields
from nciihash.signals import Band

BLOCKED_STATUS: Final = 451  # Unavailable For Legal Reasons (RFC 7725)
REVIEW_STATUS: Final = 202
UNCHECKED_STATUS: Final = 503
_UNREADABLE_STATUS: Final = {Reason.UNSUPPORTED: 415, Reason.TOO_LARGE: 413}
_OTHER_UNREADABLE: Final = 422

# Seconds after which a check that was not possible is worth another try.
_RETRY_AFTER: Final = {Reason.QUEUE_FULL: 5, Reason.UNCONFIRMED: 10}
_RETRY_LATER: Final = 30

_WHY: Final = {
    Reason.NO_MATCH: "It matches nothing in the bank.",
    Reason.POLICY: "It has a match, and the policy accepts such matches.",
    Reason.EXCEPTED: "A moderator excepted this picture.",
    Reason.NOT_SAMPLED: "It was not checked: it is outside of the share of uploads that are.",
    Reason.MATCH: "It matches a picture or video that was reported as shared without consent.",
    Reason.FLOOD: "Many unlike pictures match the same entry, which may be wrong.",
    Reason.EMPTY: "The file is empty.",
    Reason.UNSUPPORTED: "The file is not a picture or video of a known format.",
    Reason.TOO_LARGE: "The file is larger than the limits in the gate's configuration.",
    Reason.TIMED_OUT: "Hashing the file took longer than the gate's configuration allows.",
    Reason.CORRUPT: "The file is damaged.",
    Reason.FAULT: "The file made the program that decodes it fail.",
    Reason.BANK_EMPTY: "The gate has not received the whole bank yet.",
    Reason.BANK_STALE: "The gate's bank is too old to rely on.",
    Reason.QUEUE_FULL: "The gate has no capacity left.",
    Reason.SANDBOX_UNAVAILABLE: "The process that decodes files cannot start.",
    Reason.UNCONFIRMED: "The clearinghouse does not confirm matches at the moment.",
    Reason.INTERNAL: "The gate failed; its log says where.",
}
_DO: Final = {
    Decision.BLOCK: "Refuse this upload, and keep the reference for an appeal.",
    Decision.REVIEW: "Hold this upload until a person has seen it, and report the decision.",
    Decision.CLEAR: "Accept this upload.",
}
_DO_STOPPED: Final = {
    Decision.UNREADABLE: "Refuse this upload: files that cannot be hashed are refused here.",
    Decision.UNCHECKED: "Refuse this upload for now, and send it again later.",
}
_DO_ACCEPTED: Final = {
    Decision.UNREADABLE: "Accept this upload unchecked: such files are accepted here.",
    Decision.UNCHECKED: "Accept this upload unchecked: that is how the gate is configured.",
}


def fields(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as JSON fields."""
    answer: dict[str, Any] = {
        "decision": outcome.decision.value,
        "reason": outcome.reason.value,
        "stop": outcome.stop,
        "media": None if outcome.media is None else outcome.media.value,
        "reference": outcome.reference,
        "as_of": _rfc3339(outcome.as_of),
        "detail": detail(outcome),
        "matches": [],
    }
    if outcome.dry_run:
        answer["dry_run"] = True
    if outcome.result is not None:
        answer |= result_fields(outcome.result)
    return answer


def detail(outcome: Outcome) -> str:
    """Return what to do about an outcome, and why, for people."""
    why = _WHY[outcome.reason]
    if outcome.dry_run:
        return f"Accept this upload: this is a dry run. {why}"
    if (do := _DO.get(outcome.decision)) is None:
        do = (_DO_STOPPED if outcome.stop else _DO_ACCEPTED)[outcome.decision]
    return f"{do} {why}"


def status_of(outcome: Outcome) -> int:
    """Return the HTTP status of an outcome, for callers that read only that.

    451 to block, 202 to review, 503 if a file that could not be checked is refused; 415, 413 or 422
    if a file that cannot be hashed is refused; otherwise 200.
    """
    match outcome.decision:
        case Decision.BLOCK:
            return BLOCKED_STATUS
        case Decision.REVIEW:
            return REVIEW_STATUS
        case Decision.UNCHECKED if outcome.stop:
            return UNCHECKED_STATUS
        case Decision.UNREADABLE if outcome.stop:
            return _UNREADABLE_STATUS.get(outcome.reason, _OTHER_UNREADABLE)
    return 200


def retry_after(outcome: Outcome) -> int:
    """Return the seconds after which a file that could not be checked is worth another try."""
    return _RETRY_AFTER.get(outcome.reason, _RETRY_LATER)


def threat(outcome: Outcome) -> str:
    """Return the name of a finding for clients of virus scanners, which show it to people.

    It ends with the reference if there is one, since such clients do not show the page.
    """
    match outcome.decision:
        case Decision.UNREADABLE | Decision.UNCHECKED:
            name = f"{outcome.decision}.{outcome.reason}"
        case Decision.REVIEW:
            name = "review"
        case _:
            name = f"match.{outcome.band or Band.LIKELY}"
    return f"NCII.{name}" if outcome.reference is None else f"NCII.{name}.{outcome.reference}"


def strictest(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the outcome that decides about several files together, the first of its kind.

    A block comes first, then what is refused because it could not be checked or hashed, a review,
    what is accepted although it could not be checked or hashed, and what is clear.
    """
    return min(outcomes, key=_leniency)


def _leniency(outcome: Outcome) -> int:
    match outcome.decision:
        case Decision.BLOCK:
            return 0
        case Decision.UNCHECKED:
            return 1 if outcome.stop else 4
        case Decision.UNREADABLE:
            return 2 if outcome.stop else 5
        case Decision.REVIEW:
            return 3
        case Decision.CLEAR:
            return 6


def _rfc3339(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
