"""The statements that count: for an operator, and by hour for a report."""

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
    """The statements that count."""

    def __init__(self, connection: Connection) -> None:
        self._run = connection.execute
        self._one = connection.scalar

    def totals(self) -> dict[str, int]:
        """Count what an operator may know."""
        own = cases.c.id.not_in(select(contributions.c.case_id))  # opened by survivors
        counts = {
            "cases_open": select(func.count()).where(cases.c.state == "open", own),
            "cases_closed": select(func.count()).where(cases.c.state != "open", own),
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
        """Count by hours, as (hour, number), what a report about months is made of."""
        own = items.c.case_id.not_in(select(contributions.c.case_id))  # submitted by survivors
        hers = cases.c.id.not_in(select(contributions.c.case_id))

        def by(column: ColumnElement[Any], *chosen: ColumnElement[bool]) -> Any:  # noqa: ANN401 - rows
            return self._run(select(column, func.count()).where(*chosen).group_by(column)).all()

        return {
            "cases_opened": by(cases.c.opened, hers),
            "files_submitted": by(items.c.added, own),
            "files_withdrawn": by(items.c.withdrawn, own, items.c.withdrawn.is_not(None)),
            "verdicts_blocked": by(verdicts.c.hour, verdicts.c.verdict == "blocked"),
            "verdicts_not_blocked": by(verdicts.c.hour, verdicts.c.verdict == "not_blocked"),
        }
