"""The statements on the log of additions and removals."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import ColumnElement, bindparam, func, insert, select

from clearinghouse.database.schema import facts, items, log, signals

if TYPE_CHECKING:
    from clearinghouse.database.transaction import Transaction


# What every request of a platform asks, made once.
_REMOVED_AFTER: Final = select(log.c.signal_id).where(
    log.c.id > bindparam("seq"), log.c.op == "remove"
)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry of the log; `value` is sealed, and null where nothing is left to send."""

    seq: int
    op: Literal["add", "remove"]
    signal: int
    item: int | None
    ordinal: int | None
    type: str | None
    value: bytes | None
    quality: int | None
    media: str | None
    variant: str | None
    case: int | None


class Log:
    """The statements on the log."""

    def __init__(self, tx: "Transaction") -> None:
        self._tx = tx
        self._run = tx.connection.execute
        self._one = tx.connection.scalar

    def append(self, op: Literal["add", "remove"], signals: Iterable[int]) -> None:
        """Append to the log; everything that changes what platforms may hold comes through here."""
        rows = [{"op": op, "signal_id": number} for number in signals]
        if rows:
            self._run(insert(log), rows)
            self._tx.grew = True
            self._tx.removed |= op == "remove"

    def head(self) -> int:
        """Give the number of the log's last entry, 0 when it is empty."""
        return self._one(select(func.coalesce(func.max(log.c.id), 0))) or 0

    def epoch(self) -> int:
        """Give the epoch of the log."""
        epoch = self._one(select(facts.c.value).where(facts.c.name == "epoch"))
        return int.from_bytes(epoch or b"", "big")

    def read(self, after: int, limit: int, *, live_until: int | None = None) -> list[LogEntry]:
        """Read entries in their order, with what is left of the signals they speak of.

        Args:
            after: the place behind which to begin.
            limit: how many.
            live_until: only additions of signals that are still live, up to this place.
        """
        columns: list[ColumnElement[Any]] = [
            log.c.id,
            log.c.op,
            log.c.signal_id,
            signals.c.item_id,
            signals.c.ordinal,
            signals.c.type,
            signals.c.value,
            signals.c.quality,
            items.c.media,
            signals.c.variant,
            items.c.case_id,
        ]
        query = (
            select(*columns)
            .outerjoin(signals, signals.c.id == log.c.signal_id)
            .outerjoin(items, items.c.id == signals.c.item_id)
            .where(log.c.id > after)
            .order_by(log.c.id)
            .limit(limit)
        )
        if live_until is not None:
            live = (log.c.op == "add", signals.c.value.is_not(None))
            query = query.where(log.c.id <= live_until, *live)
        return [LogEntry(*row) for row in self._run(query).all()]

    def removed_after(self, seq: int) -> set[int]:
        """Name the signals whose removal came behind this place."""
        return set(self._run(_REMOVED_AFTER, {"seq": seq}).scalars())

    def removals(self, after: int, limit: int) -> list[tuple[int, int]]:
        """List removals behind a place in the log, as (place, signal)."""
        query = select(log.c.id, log.c.signal_id).where(log.c.id > after, log.c.op == "remove")
        return [(row[0], row[1]) for row in self._run(query.order_by(log.c.id).limit(limit)).all()]
