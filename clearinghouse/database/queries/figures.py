"""Queries that count: totals for the operator, and counts by hour for reports."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from clearinghouse.database.schema import (
    AnyRow,
    cases,
    contributions,
    items,
    log,
    matches,
    platforms,
    signals,
    verdicts,
)


class Figures:
    """Queries that count."""

    def __init__(self, connection: Connection) -> None:
        self._run = connection.execute
        self._one = connection.scalar

    def totals(self) -> dict[str, int]:
        """Return the counts that the operator may see, by name."""
        by_survivors = cases.c.id.not_in(select(contributions.c.case_id))
        counts = {
            "cases_open": select(func.count()).where(cases.c.state == "open", by_survivors),
            "cases_closed": select(func.count()).where(cases.c.state != "open", by_survivors),
            "items": select(func.count()).where(items.c.withdrawn.is_(None)),
            "signals": select(func.count()).where(signals.c.value.is_not(None)),
            "signals_not_from_survivors": select(func.count())
            .select_from(signals)
            .join(items, items.c.id == signals.c.item_id)
            .join(contributions, contributions.c.case_id == items.c.case_id)
            .where(signals.c.value.is_not(None)),
            "log": select(func.count()).select_from(log),
            "platforms": select(func.count()).select_from(platforms),
            "verdicts": select(func.count()).select_from(verdicts),
            "matches": select(func.coalesce(func.sum(matches.c.count), 0)),
        }
        return {name: int(self._one(query) or 0) for name, query in counts.items()}

    def by_hour(self) -> dict[str, Sequence[AnyRow]]:
        """Return rows of (hour, count) for each figure of the monthly report."""
        own_files = items.c.case_id.not_in(select(contributions.c.case_id))  # of survivors
        own_cases = cases.c.id.not_in(select(contributions.c.case_id))

        def count(hour: ColumnElement[Any], *where: ColumnElement[bool]) -> Any:  # noqa: ANN401 - rows
            return self._run(select(hour, func.count()).where(*where).group_by(hour)).all()

        withdrawn = items.c.withdrawn
        return {
            "cases_opened": count(cases.c.opened, own_cases),
            "files_submitted": count(items.c.added, own_files),
            "files_withdrawn": count(withdrawn, own_files, withdrawn.is_not(None)),
            "verdicts_blocked": count(verdicts.c.hour, verdicts.c.verdict == "blocked"),
            "verdicts_not_blocked": count(verdicts.c.hour, verdicts.c.verdict == "not_blocked"),
        }
