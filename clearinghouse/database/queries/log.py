"""The statements on the log of additions and removals."""

from collections.abc import Iterable
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import ColumnElement, bindparam, case, func, select

from clearinghouse.database.queries.inserts import write_rows
from clearinghouse.database.schema import facts, items, log, signals

if TYPE_CHECKING:
    from clearinghouse.database.transaction import Transaction


_RELEASED: Final = "released"  # the fact
_NOTE: Final = Struct(">QQQ")

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
            self.keep_back()
            write_rows(self._tx.connection, log, rows)
            self._tx.grew = True
            self._tx.removed |= op == "remove"
            if op == "remove":
                self.release()

    # --- what feeds are given ----------------------------------------------------------------

    def released(self) -> tuple[int, int | None]:
        """Return how far feeds are given the log, and the order of records (None for all of it).

        Where there are periods (`Settings.release_every`), that is as far as both had got when the
        present one began, or at the last removal since. Whoever writes first in a period notes it;
        if nobody has, everything is from before.
        """
        noted = None if self._tx.period is None else self._noted()
        if noted is None or self._tx.period is None or noted[0] < self._tx.period:
            return self.head(), None
        return noted[1], noted[2]

    def keep_back(self) -> None:
        """Note how far feeds are given the log in this period, before anything is added to it."""
        if self._tx.period is not None:
            noted = self._noted()
            if noted is None or noted[0] < self._tx.period:
                self._note(self._tx.period)

    def release(self) -> None:
        """Give feeds all that there is: a removal, and what moved with it, must not wait."""
        # also where this process, such as a command of the operator, knows no periods
        if (noted := self._noted()) is not None:
            self._note(max(self._tx.period or 0, noted[0]))

    def _noted(self) -> tuple[int, int, int] | None:
        """Read the note: the beginning of its period, and how far the log and the records went."""
        found = self._tx.facts.read([_RELEASED]).get(_RELEASED)
        return None if found is None else _NOTE.unpack(found)

    def _note(self, period: int) -> None:
        note = _NOTE.pack(period, self.head(), self._tx.stopncii.last_seq())
        self._tx.facts.write(_RELEASED, note)

    def head(self) -> int:
        """Give the number of the log's last entry, 0 when it is empty."""
        return self._one(select(func.coalesce(func.max(log.c.id), 0))) or 0

    def epoch(self) -> int:
        """Give the epoch of the log."""
        epoch = self._one(select(facts.c.value).where(facts.c.name == "epoch"))
        return int.from_bytes(epoch or b"", "big")

    def read(
        self, after: int, limit: int, *, until: int | None = None, live: bool = False
    ) -> list[LogEntry]:
        """Read entries in their order, with what is left of the signals they speak of.

        Args:
            after: the place behind which to begin.
            limit: how many.
            until: the last one to be read; None for the log's last.
            live: only additions of signals that are still live.
        """
        columns: list[ColumnElement[Any]] = [
            log.c.id,
            log.c.op,
            log.c.signal_id,
            signals.c.item_id,
            signals.c.ordinal,
            signals.c.type,
            # what verdicts hold back is kept, and given to nobody
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
            # one that was put back was added before, and removed in between
            removed = select(later.c.id).where(
                later.c.signal_id == log.c.signal_id, later.c.op == "remove", later.c.id > log.c.id
            )
            query = query.where(*is_live, ~removed.correlate(log).exists())
        return [LogEntry(*row) for row in self._run(query).all()]

    def removed_after(self, seq: int) -> set[int]:
        """Name the signals whose removal came behind this place."""
        return set(self._run(_REMOVED_AFTER, {"seq": seq}).scalars())

    def removals(self, after: int, limit: int) -> list[tuple[int, int]]:
        """List removals behind a place in the log, as (place, signal), of what is purged.

        What verdicts hold back is not among them: when it is purged, it is removed once more.
        """
        query = (
            select(log.c.id, log.c.signal_id)
            .outerjoin(signals, signals.c.id == log.c.signal_id)
            .where(log.c.id > after, log.c.op == "remove", signals.c.value.is_(None))
        )
        return [(row[0], row[1]) for row in self._run(query.order_by(log.c.id).limit(limit)).all()]
