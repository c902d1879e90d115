"""The check of one upload: its settings, its stages, and its outcome without matches."""

from dataclasses import dataclass
from typing import Final

from nciihash.errors import (
    CorruptFile,
    EmptyFile,
    FileRefused,
    TimedOut,
    TooLarge,
    UnsupportedFormat,
)
from nciihash.gate.bank import BankState
from nciihash.gate.config import DialectConfig
from nciihash.gate.decisions.records import DecisionKind
from nciihash.gate.outcome import UNREADABLE, Decision, Dialect, Outcome, Reason
from nciihash.gate.policy import Fail

# The reason for each refusal of a file. The first class that fits counts.
_REFUSALS: Final[tuple[tuple[type[FileRefused], Reason], ...]] = (
    (EmptyFile, Reason.EMPTY),
    (UnsupportedFormat, Reason.UNSUPPORTED),
    (TooLarge, Reason.TOO_LARGE),
    (TimedOut, Reason.TIMED_OUT),
    (CorruptFile, Reason.CORRUPT),
    (FileRefused, Reason.FAULT),
)


@dataclass(slots=True)
class Progress:
    """The stages of a check, in monotonic seconds; None of those it did not reach.

    Attributes:
        taken: when a child process got the upload.
        hashed: when it was hashed.
        decided: when it was decided.
        abandoned: whether the caller is gone.
    """

    taken: float | None = None
    hashed: float | None = None
    decided: float | None = None
    abandoned: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """One upload's check."""

    dialect: Dialect
    settings: DialectConfig
    state: BankState
    progress: Progress


def refusal_reason(refusal: FileRefused) -> Reason:
    """Return why a file cannot be hashed."""
    return next(reason for kind, reason in _REFUSALS if isinstance(refusal, kind))


def without_matches(check: Check, reason: Reason) -> Outcome:
    """Return the outcome for an upload that was not looked up."""
    policy = check.settings.policy
    if reason in {Reason.UNSUPPORTED, Reason.EMPTY}:
        decision, fail = Decision.UNREADABLE, policy.unsupported
    elif reason in UNREADABLE:
        decision, fail = Decision.UNREADABLE, policy.unreadable
    else:
        decision, fail = Decision.UNCHECKED, policy.unchecked
    return Outcome(decision, reason, stop=fail is Fail.CLOSED, as_of=check.state.as_of)


def kind_of(check: Check, outcome: Outcome) -> DecisionKind:
    """Return what an outcome is counted and stored as."""
    return DecisionKind(
        check.dialect,
        outcome.media,
        outcome.decision,
        outcome.reason,
        outcome.band,
        stopped=outcome.stop,
        dry_run=check.settings.dry_run,
    )


def between(start: float | None, end: float | None) -> float | None:
    """Return the seconds of a stage; None if one of its ends was not reached."""
    return None if start is None or end is None else end - start
