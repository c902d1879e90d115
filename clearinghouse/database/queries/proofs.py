"""Queries on used proofs of work, and on the intake that sets their cost."""

from datetime import datetime

from sqlalchemy import Connection, delete, select

from clearinghouse.database.queries.inserts import upsert
from clearinghouse.database.schema import intake, spent
from clearinghouse.times import Hour
from clearinghouse.times import hour as hour_of


class Proofs:
    """Queries on proofs of work."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._run = connection.execute

    def spend(self, mark: bytes, hour: Hour) -> bool:
        """Record that a proof was used; return whether this is its first use."""
        row = upsert(self._connection, spent).values(mark=mark, hour=hour)
        # RETURNING, since psycopg reports no row count for this statement
        return self._run(row.on_conflict_do_nothing().returning(spent.c.mark)).first() is not None

    def add_intake(self, signals: int, hour: Hour) -> None:
        """Add to the number of signals accepted in an hour."""
        row = upsert(self._connection, intake).values(hour=hour, signals=signals)
        self._run(
            row.on_conflict_do_update(
                index_elements=["hour"],
                set_={"signals": intake.c.signals + row.excluded.signals},
            )
        )

    def count_intake(self, now: datetime) -> float:
        """Return about how many signals were accepted during the last 60 minutes.

        The count of the previous hour is weighted by the part of it within these 60 minutes.
        """
        hour = hour_of(now)
        # the next hour as well, in case the clock was turned back by some minutes
        near = intake.c.hour.between(hour - 3600, hour + 3600)
        counts = {row.hour: row.signals for row in self._run(select(intake).where(near))}
        weight = 1 - (now.timestamp() - hour) / 3600
        return float(counts.pop(hour - 3600, 0) * weight + sum(counts.values()))

    def delete_before(self, hour: Hour) -> int:
        """Delete used proofs and intake counts from before this hour; return how many proofs."""
        self._run(delete(intake).where(intake.c.hour < hour))
        return self._run(delete(spent).where(spent.c.hour < hour)).rowcount
