"""Queries on lookups leased by keys."""

from sqlalchemy import Connection, delete, func, select, update

from clearinghouse.database.queries.inserts import upsert
from clearinghouse.database.schema import budgets
from clearinghouse.times import Day, Hour


class Quotas:
    """Queries on quotas."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._run = connection.execute
        self._one = connection.scalar

    def lease(self, key: int, hour: Hour, day: Day, count: int) -> tuple[int, int]:
        """Lease a number of lookups to a key.

        The row is updated before it is read, so that concurrent workers wait for each other.

        Returns:
            How many are leased now in this hour, and since the day began.
        """
        row = upsert(self._connection, budgets).values(key_id=key, hour=hour, leased=count)
        self._run(
            row.on_conflict_do_update(
                index_elements=["key_id", "hour"],
                set_={"leased": budgets.c.leased + row.excluded.leased},
            )
        )
        mine = budgets.c.key_id == key
        in_hour = self._one(select(budgets.c.leased).where(mine, budgets.c.hour == hour))
        on_day = self._one(
            select(func.sum(budgets.c.leased)).where(
                mine, budgets.c.hour >= day, budgets.c.hour <= hour
            )
        )
        return int(in_hour or 0), int(on_day or 0)

    def return_lease(self, key: int, hour: Hour, count: int) -> None:
        """Return part of a lease that exceeded the quota, in the same transaction."""
        chosen = update(budgets).where(budgets.c.key_id == key, budgets.c.hour == hour)
        self._run(chosen.values(leased=budgets.c.leased - count))

    def delete_before(self, hour: Hour) -> int:
        """Delete the leases from before this hour, and return how many."""
        return self._run(delete(budgets).where(budgets.c.hour < hour)).rowcount
