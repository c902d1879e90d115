"""The statements behind what keeps floods, oracles and poisoned submissions out."""

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from clearinghouse.records import Records
from clearinghouse.schema import budgets, spent


class Oversight(Records):
    """The statements, as a part of `clearinghouse.statements.Transaction`."""

    # --- budgets -----------------------------------------------------------------------------

    def lease(self, key: int, hour: int, day: int, count: int) -> tuple[int, int]:
        """Lease a number of look-ups; give what is leased then in this hour, and since a day began.

        The row is changed before it is read, so that of two workers one waits for the other.
        """
        row = upsert(budgets).values(key_id=key, hour=hour, leased=count)
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

    def unlease(self, key: int, hour: int, count: int) -> None:
        """Give back what was leased beyond a bound, in the same transaction."""
        chosen = update(budgets).where(budgets.c.key_id == key, budgets.c.hour == hour)
        self._run(chosen.values(leased=budgets.c.leased - count))

    def forget_budgets(self, hour: int) -> int:
        """Delete the leases from before this hour."""
        return self._run(delete(budgets).where(budgets.c.hour < hour)).rowcount

    # --- proofs of work ----------------------------------------------------------------------

    def spend(self, mark: bytes, hour: int) -> bool:
        """Note that a proof was used; tell whether this is the first time."""
        if self._one(select(spent.c.mark).where(spent.c.mark == mark)) is not None:
            return False
        self._run(insert(spent).values(mark=mark, hour=hour))
        return True

    def forget_spent(self, hour: int) -> int:
        """Delete the notes on proofs from before this hour."""
        return self._run(delete(spent).where(spent.c.hour < hour)).rowcount
