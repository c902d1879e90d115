"""The statements by which values are sealed under another master key."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from clearinghouse.database.schema import AnyRow, lawful, platforms, signals


class MasterKey:
    """The statements of a change of the master key."""

    def __init__(self, connection: Connection) -> None:
        self._run = connection.execute

    def sealed_signals(self, after: int, limit: int) -> Sequence[AnyRow]:
        """List live signals behind this row that have no look-up value under the next key yet."""
        columns = (signals.c.id, signals.c.item_id, signals.c.ordinal, signals.c.type)
        chosen = (signals.c.value.is_not(None), signals.c.next_lookup.is_(None))
        query = select(*columns, signals.c.value).where(signals.c.id > after, *chosen)
        return self._run(query.order_by(signals.c.id).limit(limit)).all()

    def reseal_signals(self, rows: Sequence[dict[str, Any]]) -> None:
        """Replace `sealed` values, and give the look-up values of the next key, by `number`."""
        if rows:
            query = update(signals).where(signals.c.id == bindparam("number"))
            self._run(query.values(value=bindparam("sealed"), next_lookup=bindparam("found")), rows)

    def take_next_lookups(self) -> None:
        """Let all signals be found by the look-up values of the next key from now on."""
        self._run(
            update(signals)
            .where(signals.c.next_lookup.is_not(None))
            .values(lookup=signals.c.next_lookup, next_lookup=None)
        )

    def reseal_platform(self, platform: int, secret: bytes) -> None:
        """Replace a platform's sealed secret by the same under another key."""
        self._run(update(platforms).where(platforms.c.id == platform).values(secret=secret))

    def reseal_lawful(self, lookup: bytes, value: bytes) -> None:
        """Replace a sealed value by the same under another key."""
        self._run(update(lawful).where(lawful.c.lookup == lookup).values(value=value))
