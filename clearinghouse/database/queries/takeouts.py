"""Queries on how many files each platform's verdicts put on hold on a day."""

from collections.abc import Iterable

from sqlalchemy import Connection, delete, func, select

from clearinghouse.database.queries.inserts import upsert
from clearinghouse.database.schema import contributions, items, takeouts
from clearinghouse.times import Day, Hour


class Takeouts:
    """Queries on takeouts: files that verdicts put on hold."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._run = connection.execute
        self._one = connection.scalar

    def add(self, platforms: Iterable[int], day: Day, item: int) -> None:
        """Record a file for each of these platforms, at most once a day.

        Args:
            platforms: whose verdicts put it on hold.
            day: the start of the day (UTC), in Unix seconds.
            item: the file.
        """
        row = upsert(self._connection, takeouts).on_conflict_do_nothing()
        self._run(row, [{"platform_id": p, "day": day, "item_id": item} for p in platforms])

    def count(self, platform: int, day: Day, other_than: int) -> int:
        """Count the files that a platform's verdicts helped to put on hold on a day, except one."""
        chosen = (takeouts.c.platform_id == platform, takeouts.c.day == day)
        query = select(func.count()).where(*chosen, takeouts.c.item_id != other_than)
        return self._one(query) or 0

    def count_survivors_files(self) -> int:
        """Count the live files of survivors."""
        query = select(func.count()).where(
            items.c.withdrawn.is_(None),
            items.c.case_id.not_in(select(contributions.c.case_id)),
        )
        return self._one(query) or 0

    def delete_before(self, before: Hour) -> None:
        """Delete the records of days that began before this hour."""
        self._run(delete(takeouts).where(takeouts.c.day < before))
