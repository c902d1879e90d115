"""Queries on the audit trail."""

from collections.abc import Sequence

from sqlalchemy import Connection, insert, select

from clearinghouse.database.schema import AnyRow, audit
from clearinghouse.times import Hour


class Audit:
    """Queries on the audit trail."""

    def __init__(self, connection: Connection) -> None:
        self._run = connection.execute

    def add(
        self, number: int, act: str, subject: str, amount: int, hour: Hour, digest: bytes
    ) -> None:
        """Append an entry."""
        row = {"number": number, "act": act, "subject": subject, "amount": amount, "hour": hour}
        self._run(insert(audit).values(**row, digest=digest))

    def last(self) -> AnyRow | None:
        """Return the last entry, or None."""
        return self._run(select(audit).order_by(audit.c.number.desc()).limit(1)).one_or_none()

    def read(self, after: int, limit: int) -> Sequence[AnyRow]:
        """List up to `limit` entries after this number, in order."""
        query = select(audit).where(audit.c.number > after)
        return self._run(query.order_by(audit.c.number).limit(limit)).all()
