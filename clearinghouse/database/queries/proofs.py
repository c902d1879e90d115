"""The statements on proofs of work that were used."""

from sqlalchemy import Connection, delete

from clearinghouse.database.queries.inserts import upsert
from clearinghouse.database.schema import spent


class Proofs:
    """The statements on proofs of work."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._run = connection.execute

    def spend(self, mark: bytes, hour: int) -> bool:
        """Note that a proof was used; tell whether this is the first time."""
        row = upsert(self._connection, spent).values(mark=mark, hour=hour)
        return bool(self._run(row.on_conflict_do_nothing()).rowcount)

    def forget(self, hour: int) -> int:
        """Delete the notes on proofs from before this hour."""
        return self._run(delete(spent).where(spent.c.hour < hour)).rowcount
