"""The statements behind what keeps floods, oracles and poisoned submissions out."""

from sqlalchemy import delete, insert, select

from clearinghouse.records import Records
from clearinghouse.schema import spent


class Oversight(Records):
    """The statements, as a part of `clearinghouse.statements.Transaction`."""

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
