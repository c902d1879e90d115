"""What a gate stores about its decisions, as values."""

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from nciihash.errors import NciihashError
from nciihash.gate.outcome import Decision, Dialect, Reason
from nciihash.signals import Band, Media, Signal, Verdict

# Crockford's Base32: no I, L, O or U, so that a reference can be read aloud.
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CONFUSED: Final = str.maketrans("ILO", "110")
_NAME_MAX: Final = 64  # characters of an operator's name
_LETTERS: Final = 28  # 140 random bits
_GROUP: Final = 4
_REFERENCE: Final = re.compile(rf"[{_ALPHABET}]{{{_LETTERS}}}")


class DecisionsInvalid(NciihashError):
    """The file of decisions is damaged, foreign or newer: move it away, or use another one."""

    code = "decisions_invalid"


class ReferenceUnknown(NciihashError):
    """No decision has this reference, or it has expired."""

    code = "reference_unknown"

    def __init__(self) -> None:
        super().__init__(
            "No decision has this reference, or it is so old that it was deleted. Check it for "
            "typing errors."
        )


def new_reference() -> str:
    """Return a new reference: 28 random letters and digits (140 bits), in groups of four."""
    return _grouped("".join(secrets.choice(_ALPHABET) for _ in range(_LETTERS)))


def read_reference(text: str) -> str | None:
    """Return the canonical form of a reference; None if it cannot be one.

    Lower case is accepted, and any hyphens and spaces; I and L are read as 1, and O as 0.
    """
    letters = re.sub(r"[\s-]", "", text).upper().translate(_CONFUSED)
    return _grouped(letters) if _REFERENCE.fullmatch(letters) else None


def operator_name(name: str) -> str:
    """Return the name of an operator without spaces around it; it may be empty.

    Raises:
        ValueError: it has more than 64 characters, or a line break or other control character.
    """
    name = name.strip()
    if len(name) > _NAME_MAX or not name.isprintable():
        raise ValueError(f"A name has at most {_NAME_MAX} characters, on one line.")
    return name


def _text(hour: int) -> str:
    """Return an hour as text (RFC 3339)."""
    return f"{datetime.fromtimestamp(hour, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _grouped(letters: str) -> str:
    return "-".join(letters[i : i + _GROUP] for i in range(0, len(letters), _GROUP))


@dataclass(frozen=True, slots=True)
class DecisionKind:
    """What decisions are counted by.

    Attributes:
        dialect: in which the upload arrived.
        media: what it is; None if it was not hashed.
        decision: what the gate found. With `dry_run`, what it would have answered.
        reason: why.
        band: of the nearest match that led to the decision; None without any.
        stopped: whether a caller that knows only yes and no had to refuse the upload. With
            `dry_run`, whether it would have been.
        dry_run: whether the dialect only counts what it would have stopped.
    """

    dialect: Dialect
    media: Media | None
    decision: Decision
    reason: Reason
    band: Band | None = None
    stopped: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """A decision that has a reference.

    Attributes:
        reference: its reference.
        kind: what was decided.
        signals: ids of the signals that matched, nearest first.
        items: ids of the items that matched.
        hour: when, in Unix seconds rounded down to the hour.
        state: the latest verdict.
        changed: the hour of the latest verdict.
        decided: the hour of the first verdict of a person; None if there is none.
        by: the name of whose verdict is the latest; empty if unknown.
    """

    reference: str
    kind: DecisionKind
    signals: tuple[str, ...]
    items: tuple[str, ...]
    hour: int
    state: Verdict
    changed: int
    decided: int | None = None
    by: str = ""

    def fields(self) -> dict[str, Any]:
        """Return the decision as JSON fields."""
        return {
            "reference": self.reference,
            "state": self.state.value,
            "decision": self.kind.decision.value,
            "reason": self.kind.reason.value,
            "dialect": self.kind.dialect.value,
            "media": self.kind.media and self.kind.media.value,
            "band": self.kind.band and self.kind.band.value,
            "dry_run": self.kind.dry_run,
            "items": list(self.items),
            "hour": _text(self.hour),
            "changed": _text(self.changed),
            "by": self.by or None,
        }


@dataclass(frozen=True, slots=True)
class ExceptedFile:
    """A lawful file that an operator excepted.

    Attributes:
        number: its number in the list.
        hashes: of the picture, and of the picture within its frame if it has one.
        reference: of the decision that was wrong.
        by: who excepted it.
        hour: when, in Unix seconds rounded down to the hour.
    """

    number: int
    hashes: tuple[Signal, ...]
    reference: str
    by: str
    hour: int

    def fields(self) -> dict[str, Any]:
        """Return the exception as JSON fields, without the hashes."""
        return {
            "number": self.number,
            "reference": self.reference,
            "by": self.by,
            "hour": _text(self.hour),
        }


@dataclass(frozen=True, slots=True)
class KindCount:
    """How many uploads were decided in one way.

    Attributes:
        kind: the way.
        count: the uploads.
    """

    kind: DecisionKind
    count: int


@dataclass(frozen=True, slots=True)
class StateCount:
    """How many decisions with a reference are in one state.

    Attributes:
        kind: what was decided.
        state: the latest verdict.
        hours: between the decision and the first verdict of a person; None if there is none.
        count: the decisions.
    """

    kind: DecisionKind
    state: Verdict
    hours: int | None
    count: int
