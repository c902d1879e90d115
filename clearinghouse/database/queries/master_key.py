"""Queries for resealing values under another master key."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from clearinghouse.database.schema import AnyRow, lawful, platforms, signals


class MasterKey:
    """Queries of a rotation of the master key."""

    def __init__(self, connection: Connection) -> None:
        self._run = connection.execute

    def list_old_signals(self, after: int, limit: int) -> Sequence[AnyRow]:
        """List signals after this row that have no lookup value under the next key yet."""
        columns = (signals.c.id, signals.c.item_id, signals.c.ordinal, signals.c.type)
        chosen = (signals.c.value.is_not(None), signals.c.next_lookup.is_(None))
        query = select(*columns, signals.c.value).where(signals.c.id > after, *chosen)
        return self._run(query.order_by(signals.c.id).limit(limit)).all()

    def reseal_signals(self, rows: Sequence[dict[str, Any]]) -> None:
        """Update the signals with these row numbers.

        Args:
            rows: `number`, the row number; the `sealed` value; and the `new_lookup` value.
        """
        if rows:
            query = update(signals).where(signals.c.id == bindparam("number"))
            query = query.values(value=bindparam("sealed"), next_lookup=bindparam("new_lookup"))
            self._run(query, rows)

    def switch_lookups(self) -> None:
        """Replace the lookup values of all signals with those under the next key."""
        self._run(
            update(signals)
            .where(signals.c.next_lookup.is_not(None))
            .values(lookup=signals.c.next_lookup, next_lookup=None)
        )

    def reseal_platform(self, platform: int, secret: bytes) -> None:
        """Update the sealed secret of a platform."""
        self._run(update(platforms).where(platforms.c.id == platform).values(secret=secret))

    def reseal_lawful(self, lookup: bytes, value: bytes) -> None:
        """Update the sealed value of a hash in the allowlist."""
        self._run(update(lawful).where(lawful.c.lookup == lookup).values(value=value))
