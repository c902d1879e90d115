"""The statements on proofs of work that were used, and on what they are priced by."""

from datetime import datetime

from sqlalchemy import Connection, delete, select

from clearinghouse.database.queries.inserts import upsert
from clearinghouse.database.schema import intake, spent
from clearinghouse.times import Hour
from clearinghouse.times import hour as hour_of


class Proofs:
    """The statements on proofs of work."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._run = connection.execute

    def spend(self, mark: bytes, hour: Hour) -> bool:
        """Note that a proof was used; tell whether this is the first time."""
        row = upsert(self._connection, spent).values(mark=mark, hour=hour)
        # PostgreSQL's driver does not count the rows of such a statement
        return self._run(row.on_conflict_do_nothing().returning(spent.c.mark)).first() is not None

    def take_in(self, signals: int, hour: Hour) -> None:
        """Count signals that were taken in."""
        row = upsert(self._connection, intake).values(hour=hour, signals=signals)
        self._run(
            row.on_conflict_do_update(
                index_elements=["hour"],
                set_={"signals": intake.c.signals + row.excluded.signals},
            )
        )

    def taken_in(self, now: datetime) -> float:
        """Return how many signals were taken in during the last 60 minutes, about.

        Of the hour before this one, the part counts that lies within.
        """
        hour = hour_of(now)
        # a clock that was put back by some minutes forgets nothing
        near = intake.c.hour.between(hour - 3600, hour + 3600)
        found = {row.hour: row.signals for row in self._run(select(intake).where(near))}
        part = 1 - (now.timestamp() - hour) / 3600
        return float(found.pop(hour - 3600, 0) * part + sum(found.values()))

    def forget(self, hour: Hour) -> int:
        """Delete the notes on proofs from before this hour, and the counts."""
        self._run(delete(intake).where(intake.c.hour < hour))
        return self._run(delete(spent).where(spent.c.hour < hour)).rowcount
