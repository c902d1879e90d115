"""The statements on signals: how they come in, and how they end."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, and_, func, select, update

from clearinghouse.database.queries.inserts import insert_rows, update_rows
from clearinghouse.database.queries.stopncii_records import PARAMETERS, SHOWN
from clearinghouse.database.schema import AnyRow, cases, contributions, items, signals, verdicts

if TYPE_CHECKING:
    from clearinghouse.database.transaction import Transaction


@dataclass(frozen=True, slots=True)
class NewSignals:
    """The signals of one file, a row of columns each.

    Those of a file that is held back stand in no log and no order, until they are released.
    """

    media: str
    rows: Sequence[dict[str, Any]]
    held_back: bool = False


class Signals:
    """The statements on signals."""

    def __init__(self, tx: "Transaction") -> None:
        self._tx = tx
        self._run = tx.connection.execute
        self._one = tx.connection.scalar

    def add(self, files: Sequence[NewSignals], hour: int) -> None:
        """Insert signals of files, and log each addition."""
        listed = [(file, row) for file in files for row in file.rows]
        shown = [(file.media, row["type"]) in SHOWN and not file.held_back for file, row in listed]
        places = iter(self._tx.stopncii.take_places(sum(shown), hour))
        rows = [
            row | {"place": next(places) if is_shown else None}
            for (_, row), is_shown in zip(listed, shown, strict=True)
        ]
        numbers = insert_rows(self._tx.connection, signals, rows)
        self._tx.log.append(
            "add",
            [n for n, (file, _) in zip(numbers, listed, strict=True) if not file.held_back],
        )

    def release(self, item: int, hour: int) -> None:
        """Log the additions of a file that was held back."""
        rows = self._run(
            select(signals.c.id, signals.c.type, items.c.media)
            .join(items, items.c.id == signals.c.item_id)
            .where(signals.c.item_id == item, signals.c.value.is_not(None))
            .order_by(signals.c.id)
        ).all()
        shown = [row.id for row in rows if (row.media, row.type) in SHOWN]
        places = self._tx.stopncii.take_places(len(shown), hour)
        for number, place in zip(shown, places, strict=True):
            self._run(update(signals).where(signals.c.id == number).values(place=place))
        self._tx.log.append("add", [row.id for row in rows])

    def withdraw(self, signal: int, hour: int) -> bool:
        """Withdraw one signal; tell whether its file has another one left, or is withdrawn now."""
        self.end([signals.c.id == signal], hour)
        item = select(signals.c.item_id).where(signals.c.id == signal).scalar_subquery()
        live = select(signals.c.id).where(signals.c.item_id == item, signals.c.value.is_not(None))
        if self._one(live.limit(1)) is not None:
            return True
        chosen = update(items).where(items.c.id == item, items.c.withdrawn.is_(None))
        self._run(chosen.values(withdrawn=hour))
        return False

    def withdraw_again(self, numbers: Sequence[int], hour: int) -> int:
        """Withdraw those of these signals that are live, wherever they are, and count them.

        A file none of whose signals is left is withdrawn, and a survivor's case without files is
        closed.
        """
        live = and_(signals.c.id.in_(numbers), signals.c.value.is_not(None))
        rows = self._run(select(signals.c.id, signals.c.item_id).where(live)).all()
        if not rows:
            return 0
        self.end([signals.c.id.in_([row.id for row in rows])], hour)
        left = select(signals.c.item_id).where(signals.c.value.is_not(None))
        bare = [items.c.id.in_({row.item_id for row in rows}), items.c.withdrawn.is_(None)]
        self._run(update(items).where(*bare, items.c.id.not_in(left)).values(withdrawn=hour))
        touched = select(items.c.case_id).where(items.c.id.in_({row.item_id for row in rows}))
        full = select(items.c.case_id).where(items.c.withdrawn.is_(None))
        self._run(
            update(cases)
            .where(
                cases.c.id.in_(touched),
                cases.c.state == "open",
                cases.c.id.not_in(full),
                cases.c.id.not_in(select(contributions.c.case_id)),
            )
            .values(state="withdrawn", closed=hour)
        )
        return len(rows)

    def end(self, chosen: Iterable[ColumnElement[bool]], hour: int) -> None:
        """End live signals: purge their values, log the removals, move what is left of records.

        Args:
            chosen: which signals; several conditions where their numbers are too many for one
                statement (`PARAMETERS`).
            hour: the time.
        """
        shrunk: list[bytes] = []
        for condition in chosen:
            live = and_(condition, signals.c.value.is_not(None))
            columns = (signals.c.id, signals.c.lookup, signals.c.place)
            rows = self._run(select(*columns).where(live).order_by(signals.c.id)).all()
            self._tx.log.append("remove", [row.id for row in rows])
            purged = ("value", "lookup", "next_lookup", "quality", "place")
            blank = (None,) * len(purged)
            update_rows(self._tx.connection, signals, purged, [(*blank, row.id) for row in rows])
            shrunk += [row.lookup for row in rows if row.place is not None]
        # after the last of them, so that no record is moved that is about to lose another signal
        self._tx.stopncii.move(shrunk, hour)

    def live(self, after: int, limit: int) -> Sequence[AnyRow]:
        """Read live signals behind a row number: (id, type, value, item_id, ordinal)."""
        columns = (signals.c.id, signals.c.type, signals.c.value, signals.c.item_id)
        query = (
            select(*columns, signals.c.ordinal)
            .where(signals.c.id > after, signals.c.value.is_not(None))
            .order_by(signals.c.id)
        )
        return self._run(query.limit(limit)).all()

    def lookups(self, item: int, first: int, end: int) -> dict[int, bytes | None]:
        """Return the look-up values of a file's signals by ordinal, from `first` up to `end`."""
        query = select(signals.c.ordinal, signals.c.lookup).where(
            signals.c.item_id == item, signals.c.ordinal >= first, signals.c.ordinal < end
        )
        return {row[0]: row[1] for row in self._run(query).all()}

    def item(self, signal: int) -> int | None:
        """Give the file to which a signal belongs."""
        return self._one(select(signals.c.item_id).where(signals.c.id == signal))

    def verdicts(self, signal: int) -> dict[str, int]:
        """Count the platforms by their verdicts on a live signal."""
        query = (
            select(verdicts.c.verdict, func.count())
            .join(signals, signals.c.id == verdicts.c.signal_id)
            .where(verdicts.c.signal_id == signal, signals.c.value.is_not(None))
            .group_by(verdicts.c.verdict)
        )
        return {row[0]: row[1] for row in self._run(query).all()}

    def held_by_survivors(self, lookups: Sequence[bytes]) -> set[bytes]:
        """Return those of these look-up values that survivors' open cases hold."""
        found: set[bytes] = set()
        for first in range(0, len(lookups), PARAMETERS):
            query = (
                select(signals.c.lookup)
                .join(items, items.c.id == signals.c.item_id)
                .where(
                    signals.c.lookup.in_(lookups[first : first + PARAMETERS]),
                    signals.c.value.is_not(None),
                    items.c.case_id.not_in(select(contributions.c.case_id)),
                )
            )
            found |= set(self._run(query).scalars())
        return found
