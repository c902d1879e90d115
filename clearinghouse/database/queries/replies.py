"""Queries on replies to idempotent requests."""

from typing import Final

from sqlalchemy import Connection, delete, insert, select

from clearinghouse.database.schema import AnyRow, replies
from clearinghouse.times import Hour

KEPT_SECONDS: Final = 24 * 3600


class Replies:
    """Queries on replies."""

    def __init__(self, connection: Connection) -> None:
        self._run = connection.execute

    def find(self, lookup: bytes) -> AnyRow | None:
        """Return the sealed reply to an earlier request, or None."""
        return self._run(select(replies).where(replies.c.lookup == lookup)).one_or_none()

    def add(self, lookup: bytes, body: bytes, status: int, reply: bytes, hour: Hour) -> None:
        """Insert the sealed reply to a request."""
        self._run(
            insert(replies).values(lookup=lookup, body=body, status=status, reply=reply, made=hour)
        )

    def delete_before(self, hour: Hour) -> int:
        """Delete replies from before this hour, and return how many."""
        return self._run(delete(replies).where(replies.c.made < hour)).rowcount
