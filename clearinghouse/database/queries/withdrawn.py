"""Queries on the tags of withdrawn values: short HMACs, kept for some time."""

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, delete, select

from clearinghouse.database.queries.inserts import upsert
from clearinghouse.database.queries.stopncii_records import PARAMETERS_MAX
from clearinghouse.database.schema import withdrawn
from clearinghouse.times import Day, Hour


class Withdrawn:
    """Queries on the tags of withdrawn values (`Vault.tag`)."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._run = connection.execute
        self._one = connection.scalar

    def add(self, tags: Iterable[bytes], day: Day) -> None:
        """Insert tags, or update their day if they exist.

        Args:
            tags: of the values.
            day: the start of the day of the withdrawal (UTC), in Unix seconds.
        """
        rows = [{"tag": tag, "day": day} for tag in dict.fromkeys(tags)]
        if rows:
            row = upsert(self._connection, withdrawn)
            self._run(
                row.on_conflict_do_update(index_elements=["tag"], set_={"day": row.excluded.day}),
                rows,
            )

    def any(self) -> bool:
        """Whether there is any tag."""
        return self._one(select(withdrawn.c.day).limit(1)) is not None

    def filter_existing(self, tags: Sequence[bytes]) -> set[bytes]:
        """Return those of these tags that exist."""
        found: set[bytes] = set()
        for batch in _batches(tags):
            query = select(withdrawn.c.tag).where(withdrawn.c.tag.in_(batch))
            found.update(self._run(query).scalars())
        return found

    def delete(self, tags: Sequence[bytes]) -> None:
        """Delete these tags."""
        for batch in _batches(tags):
            self._run(delete(withdrawn).where(withdrawn.c.tag.in_(batch)))

    def delete_before(self, before: Hour) -> None:
        """Delete the tags of values withdrawn on days that began before this hour."""
        self._run(delete(withdrawn).where(withdrawn.c.day < before))


def _batches(tags: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
    return (tags[start : start + PARAMETERS_MAX] for start in range(0, len(tags), PARAMETERS_MAX))
