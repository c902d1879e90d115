"""Queries on the operator's allowlist: hashes of lawful pictures."""

from collections.abc import Sequence

from sqlalchemy import Connection, delete, func, insert, select

from clearinghouse.database.schema import AnyRow, lawful
from clearinghouse.times import Hour


class Allowlist:
    """Queries on the allowlist."""

    def __init__(self, connection: Connection) -> None:
        self._run = connection.execute
        self._one = connection.scalar

    def add(self, type: str, value: bytes, lookup: bytes, hour: Hour) -> bool:
        """Insert a hash with its sealed value; return whether it is new."""
        if self._one(select(lawful.c.id).where(lawful.c.lookup == lookup)) is not None:
            return False
        self._run(insert(lawful).values(type=type, value=value, lookup=lookup, added=hour))
        return True

    def remove(self, lookup: bytes) -> bool:
        """Delete a hash; return whether it was in the list."""
        return bool(self._run(delete(lawful).where(lawful.c.lookup == lookup)).rowcount)

    def version(self) -> tuple[int, int]:
        """Return a pair of integers that changes whenever the list changes."""
        query = select(func.count(), func.coalesce(func.max(lawful.c.id), 0)).select_from(lawful)
        row = self._run(query).one()
        return row[0], row[1]

    def read(self) -> Sequence[AnyRow]:
        """List the hashes as (type, sealed value, lookup value)."""
        return self._run(select(lawful.c.type, lawful.c.value, lawful.c.lookup)).all()
