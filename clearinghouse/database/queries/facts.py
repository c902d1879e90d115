"""The statements on facts: what the database knows of itself."""

from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from clearinghouse.database.schema import facts

# Made once, since every transaction begins with it: making a statement takes longer than it does.
# There are never more than a dozen facts.
_FACTS: Final = select(facts.c.name, facts.c.value)


class Facts:
    """The statements on facts."""

    def __init__(self, connection: Connection) -> None:
        self._run = connection.execute

    def read(self, names: Iterable[str]) -> dict[str, bytes]:
        """Give those of these facts that there are."""
        wanted = set(names)
        return {name: value for name, value in self._run(_FACTS).all() if name in wanted}

    def write(self, name: str, value: bytes | None) -> None:
        """Put a fact in the place of an older one; None for none."""
        self._run(delete(facts).where(facts.c.name == name))
        if value is not None:
            self._run(insert(facts).values(name=name, value=value))
