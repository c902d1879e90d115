"""Reports about a month of decisions: for transparency reports, and before blocks are enforced."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from nciihash.gate.decisions.records import DecisionKind, KindCount, StateCount
from nciihash.signals import Verdict

COLUMNS: Final = (
    *("month", "dry_run", "dialect", "media", "decision", "reason", "band", "stopped"),
    *("uploads", "pending", "blocked", "not_blocked", "unsure"),
    *("decided", "median_hours", "overturned"),
)


class Layout(StrEnum):
    """How a report is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class ReportRow:
    """The uploads of a month that were decided in one way.

    Attributes:
        kind: the way.
        uploads: how many.
        states: of those with a reference, how many are in each state.
        decided: how many a person has decided on.
        median_hours: between the decision of the gate and the first one of a person; None if
            nobody decided on any. Both are rounded down to the hour.
        overturned: how many were stopped, and a person decided that they should not have been.
    """

    kind: DecisionKind
    uploads: int
    states: dict[Verdict, int] = field(default_factory=dict)
    decided: int = 0
    median_hours: float | None = None
    overturned: int = 0

    def fields(self, month: str) -> dict[str, Any]:
        """Return the row by `COLUMNS`."""
        kind = self.kind
        return {
            "month": month,
            "dry_run": kind.dry_run,
            "dialect": kind.dialect.value,
            "media": kind.media and kind.media.value,
            "decision": kind.decision.value,
            "reason": kind.reason.value,
            "band": kind.band and kind.band.value,
            "stopped": kind.stopped,
            "uploads": self.uploads,
            **{verdict.value: self.states.get(verdict, 0) for verdict in Verdict},
            "decided": self.decided,
            "median_hours": self.median_hours,
            "overturned": self.overturned,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """A month of decisions.

    Attributes:
        month: such as "2026-11".
        rows: one for each kind of decision, those of dry runs last.
        uploads: how many were checked, without dry runs.
        stopped: how many of these were stopped.
        decided: how many decisions a person has decided on.
        median_hours: until the first such verdict; None if there is none.
        overturned: how many were stopped, and a person decided that they should not have been.
        dry_uploads: uploads of dry runs.
        dry_stopped: how many of these would have been stopped, by reason, the most frequent first.
    """

    month: str
    rows: tuple[ReportRow, ...]
    uploads: int
    stopped: int
    decided: int
    median_hours: float | None
    overturned: int
    dry_uploads: int
    dry_stopped: dict[str, int]

    def totals(self) -> dict[str, Any]:
        """Return the totals as JSON fields."""
        return {
            "uploads": self.uploads,
            "stopped": self.stopped,
            "decided": self.decided,
            "median_hours": self.median_hours,
            "overturned": self.overturned,
        }

    def dry_run(self) -> dict[str, Any]:
        """Return the totals of dry runs as JSON fields."""
        return {
            "uploads": self.dry_uploads,
            "would_have_stopped": sum(self.dry_stopped.values()),
            "reasons": self.dry_stopped,
        }


def report(month: str, counts: Iterable[KindCount], states: Iterable[StateCount]) -> Report:
    """Return the report of a month.

    Args:
        month: such as "2026-11".
        counts: the uploads of the month.
        states: the decisions of the month that have a reference. After a crash there may be more
            than were counted, and they count.
    """
    uploads: Counter[DecisionKind] = Counter()
    for each in counts:
        uploads[each.kind] += each.count
    by_kind: defaultdict[DecisionKind, list[StateCount]] = defaultdict(list)
    for state in states:
        by_kind[state.kind].append(state)
    kinds = sorted(uploads.keys() | by_kind.keys(), key=_order)
    rows = tuple(_row(kind, uploads[kind], by_kind.get(kind, [])) for kind in kinds)
    real = [row for row in rows if not row.kind.dry_run]
    dry = [row for row in rows if row.kind.dry_run]
    reasons: Counter[str] = Counter()
    for row in dry:
        if row.kind.stopped:
            reasons[row.kind.reason.value] += row.uploads
    return Report(
        month=month,
        rows=rows,
        uploads=sum(row.uploads for row in real),
        stopped=sum(row.uploads for row in real if row.kind.stopped),
        decided=sum(row.decided for row in real),
        median_hours=_median_hours(
            [state for row in real for state in by_kind.get(row.kind, [])],
        ),
        overturned=sum(row.overturned for row in real),
        dry_uploads=sum(row.uploads for row in dry),
        dry_stopped=dict(reasons.most_common()),
    )


def _row(kind: DecisionKind, uploads: int, states: Sequence[StateCount]) -> ReportRow:
    by_state: Counter[Verdict] = Counter()
    for each in states:
        by_state[each.state] += each.count
    overturned = [each for each in states if each.state is Verdict.NOT_BLOCKED]
    return ReportRow(
        kind,
        max(uploads, by_state.total()),
        dict(by_state),
        decided=sum(each.count for each in states if each.hours is not None),
        median_hours=_median_hours(states),
        overturned=sum(each.count for each in overturned) if kind.stopped else 0,
    )


def _median_hours(states: Sequence[StateCount]) -> float | None:
    """Return the median of the hours until a person decided; None if nobody did."""
    hours = sorted((each.hours, each.count) for each in states if each.hours is not None)
    total = sum(count for _, count in hours)
    if not total:
        return None
    return (_nth(hours, (total - 1) // 2) + _nth(hours, total // 2)) / 2


def _nth(values: Sequence[tuple[int, int]], position: int) -> int:
    """Return the value at a position of sorted values that are given with their counts."""
    for value, count in values:
        position -= count
        if position < 0:
            return value
    raise IndexError


def _order(kind: DecisionKind) -> tuple[object, ...]:
    return (
        kind.dry_run,
        kind.dialect,
        kind.media or "",
        kind.decision,
        kind.reason,
        kind.band or "",
        kind.stopped,
    )
