"""Queries on when something last happened, to judge the clock."""

from typing import Final

from sqlalchemy import Connection, func, select

from clearinghouse.database.schema import (
    acknowledgements,
    audit,
    cases,
    items,
    keys,
    platforms,
    verdicts,
)
from clearinghouse.times import Hour

_HOURS: Final = (
    cases.c.opened,
    items.c.added,
    items.c.withdrawn,
    acknowledgements.c.hour,
    verdicts.c.hour,
    keys.c.added,
    keys.c.used,
    platforms.c.added,
    audit.c.hour,
)


class Activity:
    """Queries on activity."""

    def __init__(self, connection: Connection) -> None:
        self._one = connection.scalar

    def newest(self, until: Hour | None = None) -> Hour | None:
        """Return the last hour, up to `until`, in which anything happened; None if nothing did."""
        newest = []
        for column in _HOURS:
            query = select(func.max(column))
            newest.append(self._one(query if until is None else query.where(column <= until)))
        return max((Hour(found) for found in newest if found is not None), default=None)
