"""Queries on the log of additions and removals."""

from collections.abc import Iterable
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import ColumnElement, bindparam, case, func, select

from clearinghouse.database.queries.inserts import insert_rows
from clearinghouse.database.schema import facts, items, log, signals
from clearinghouse.database.withdrawal_journal import Removal

if TYPE_CHECKING:
    from clearinghouse.database.transaction import Transaction


_RELEASED: Final = "released"  # the fact that stores the release point
_RELEASE_POINT: Final = Struct(">QQQ")  # period, log position, record_seq

# Built once, since every request of a platform executes it.
_REMOVED_AFTER: Final = select(log.c.signal_id).where(
    log.c.id > bindparam("seq"), log.c.op == "remove"
)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An entry of the log, with its signal.

    `value` is sealed; None for a signal that was removed or is on hold. What comes from other
    tables is None if the row is gone.
    """

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
    """Queries on the log."""

    def __init__(self, tx: "Transaction") -> None:
        self._tx = tx
        self._run = tx.connection.execute
        self._one = tx.connection.scalar

    def append(self, op: Literal["add", "remove"], signals: Iterable[int]) -> None:
        """Append entries to the log. Every change to what platforms may have is logged here."""
        rows = [{"op": op, "signal_id": number} for number in signals]
        if rows:
            self.begin_period()
            insert_rows(self._tx.connection, log, rows)
            self._tx.grew = True
            self._tx.removed |= op == "remove"
            if op == "remove":
                self.release_all()

    # --- release points ----------------------------------------------------------------------

    def release_point(self) -> tuple[int, int | None]:
        """Return the release point: up to where feeds show the log and the StopNCII records.

        With release periods (`Settings.release_every`), both were at this point when the current
        period began, or at the last removal since. The first write of a period stores the release
        point; until then, everything is released.

        Returns:
            The log position, and the `record_seq`; None for all records.
        """
        stored = None if self._tx.period is None else self._stored_point()
        if stored is None or self._tx.period is None or stored[0] < self._tx.period:
            return self.head(), None
        return stored[1], stored[2]

    def begin_period(self) -> None:
        """Store the release point of the current period, unless an earlier write has.

        To be called before anything is added to the log or to the order of records.
        """
        if self._tx.period is not None:
            stored = self._stored_point()
            if stored is None or stored[0] < self._tx.period:
                self._store_point(self._tx.period)

    def release_all(self) -> None:
        """Release everything up to now, since a removal must not wait for the next period."""
        # also if this process, such as an operator's command, has no periods
        if (stored := self._stored_point()) is not None:
            self._store_point(max(self._tx.period or 0, stored[0]))

    def _stored_point(self) -> tuple[int, int, int] | None:
        """Return the stored release point as (period, log position, record_seq)."""
        value = self._tx.facts.read([_RELEASED]).get(_RELEASED)
        return None if value is None else _RELEASE_POINT.unpack(value)

    def _store_point(self, period: int) -> None:
        value = _RELEASE_POINT.pack(period, self.head(), self._tx.stopncii.last_seq())
        self._tx.facts.write(_RELEASED, value)

    # --- reading -----------------------------------------------------------------------------

    def head(self) -> int:
        """Return the position of the last entry, 0 for an empty log."""
        return self._one(select(func.coalesce(func.max(log.c.id), 0))) or 0

    def epoch(self) -> int:
        """Return the epoch of the log."""
        epoch = self._one(select(facts.c.value).where(facts.c.name == "epoch"))
        return int.from_bytes(epoch or b"", "big")

    def read(
        self, after: int, limit: int, *, until: int | None = None, live: bool = False
    ) -> list[LogEntry]:
        """List entries in order, with their signals.

        Args:
            after: the position after which to begin.
            limit: how many entries at most.
            until: the last position to read; None for the head.
            live: list only additions of signals that are still live.
        """
        columns: list[ColumnElement[Any]] = [
            log.c.id,
            log.c.op,
            log.c.signal_id,
            signals.c.item_id,
            signals.c.ordinal,
            signals.c.type,
            # a signal on hold keeps its value, which no platform may see
            case((signals.c.held.is_(None), signals.c.value)),
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
        if until is not None:
            query = query.where(log.c.id <= until)
        if live:
            is_live = (log.c.op == "add", signals.c.value.is_not(None), signals.c.held.is_(None))
            later = log.alias()
            # a signal that was on hold has an addition before its removal, and one after
            removed = select(later.c.id).where(
                later.c.signal_id == log.c.signal_id, later.c.op == "remove", later.c.id > log.c.id
            )
            query = query.where(*is_live, ~removed.correlate(log).exists())
        return [LogEntry(*row) for row in self._run(query).all()]

    def list_removed_after(self, seq: int) -> set[int]:
        """Return the signals with a removal after this position."""
        return set(self._run(_REMOVED_AFTER, {"seq": seq}).scalars())

    def list_removals(self, after: int, limit: int) -> list[Removal]:
        """List removals of purged signals after a position.

        The removal of a signal that is on hold is omitted: another one is logged when the signal is
        purged.
        """
        query = (
            select(log.c.id, log.c.signal_id, signals.c.expired.is_not(None))
            .outerjoin(signals, signals.c.id == log.c.signal_id)
            .where(log.c.id > after, log.c.op == "remove", signals.c.value.is_(None))
        )
        # a signal whose case was deleted meanwhile counts as withdrawn
        return [Removal(*row) for row in self._run(query.order_by(log.c.id).limit(limit)).all()]
