"""The statements on what survivors withdrew, of which a short HMAC is kept for some time."""

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, delete, select

from clearinghouse.database.queries.inserts import upsert
from clearinghouse.database.queries.stopncii_records import PARAMETERS
from clearinghouse.database.schema import withdrawn
from clearinghouse.times import Day, Hour


class Withdrawn:
    """The statements on withdrawn values, by their tags (`Vault.tag`)."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._run = connection.execute
        self._one = connection.scalar

    def add(self, tags: Iterable[bytes], day: Day) -> None:
        """Remember values, each once, from this day on (UTC, in seconds)."""
        rows = [{"tag": tag, "day": day} for tag in dict.fromkeys(tags)]
        if rows:
            row = upsert(self._connection, withdrawn)
            self._run(
                row.on_conflict_do_update(index_elements=["tag"], set_={"day": row.excluded.day}),
                rows,
            )

    def any(self) -> bool:
        """Whether anything is remembered."""
        return self._one(select(withdrawn.c.day).limit(1)) is not None

    def choose(self, tags: Sequence[bytes]) -> set[bytes]:
        """Choose those of these tags that are remembered."""
        found: set[bytes] = set()
        for some in _parts(tags):
            query = select(withdrawn.c.tag).where(withdrawn.c.tag.in_(some))
            found.update(self._run(query).scalars())
        return found

    def forget(self, tags: Sequence[bytes]) -> None:
        """Forget these values."""
        for some in _parts(tags):
            self._run(delete(withdrawn).where(withdrawn.c.tag.in_(some)))

    def forget_before(self, before: Hour) -> None:
        """Forget what was withdrawn on days that began before this hour."""
        self._run(delete(withdrawn).where(withdrawn.c.day < before))


def _parts(tags: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
    return (tags[first : first + PARAMETERS] for first in range(0, len(tags), PARAMETERS))
