"""The statements on the operator's list of hashes of lawful pictures."""

from collections.abc import Sequence

from sqlalchemy import Connection, delete, func, insert, select

from clearinghouse.database.schema import AnyRow, lawful
from clearinghouse.times import Hour


class Allowlist:
    """The statements on the allowlist."""

    def __init__(self, connection: Connection) -> None:
        self._run = connection.execute
        self._one = connection.scalar

    def add(self, type: str, value: bytes, lookup: bytes, hour: Hour) -> bool:
        """Note a lawful hash, its value sealed; tell whether it is new."""
        if self._one(select(lawful.c.id).where(lawful.c.lookup == lookup)) is not None:
            return False
        self._run(insert(lawful).values(type=type, value=value, lookup=lookup, added=hour))
        return True

    def remove(self, lookup: bytes) -> bool:
        """Forget a lawful hash; tell whether it was there."""
        return bool(self._run(delete(lawful).where(lawful.c.lookup == lookup)).rowcount)

    def version(self) -> tuple[int, int]:
        """Give what changes with every change of the list."""
        query = select(func.count(), func.coalesce(func.max(lawful.c.id), 0)).select_from(lawful)
        row = self._run(query).one()
        return row[0], row[1]

    def read(self) -> Sequence[AnyRow]:
        """Read the list: (type, sealed value, look-up value)."""
        return self._run(select(lawful.c.type, lawful.c.value, lawful.c.lookup)).all()
