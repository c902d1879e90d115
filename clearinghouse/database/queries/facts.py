"""Queries on facts about the database itself."""

from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from clearinghouse.database.schema import facts

# Built once: every transaction begins with it, and building it takes longer than executing it.
# There are never more than a dozen facts.
_ALL_FACTS: Final = select(facts.c.name, facts.c.value)


class Facts:
    """Queries on facts."""

    def __init__(self, connection: Connection) -> None:
        self._run = connection.execute

    def read(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the facts with these names, without those that do not exist."""
        wanted = set(names)
        return {name: value for name, value in self._run(_ALL_FACTS).all() if name in wanted}

    def write(self, name: str, value: bytes | None) -> None:
        """Insert or replace a fact; delete it if the value is None."""
        self._run(delete(facts).where(facts.c.name == name))
        if value is not None:
            self._run(insert(facts).values(name=name, value=value))
