"""The statements on signals: how they come in, and how they end."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import SystemRandom
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import ColumnElement, and_, exists, func, select, update

from clearinghouse.database.queries.inserts import insert_rows, update_rows
from clearinghouse.database.queries.reviews import RESUBMITTED
from clearinghouse.database.queries.stopncii_records import PARAMETERS, SHOWN
from clearinghouse.database.schema import (
    AnyRow,
    cases,
    contributions,
    items,
    log,
    platforms,
    reviews,
    signals,
    verdicts,
)
from clearinghouse.errors import KeyMismatch
from clearinghouse.times import day_of

if TYPE_CHECKING:
    from clearinghouse.database.transaction import Transaction
    from clearinghouse.sealing.vault import Vault


_RANDOM: Final = SystemRandom()


def make_tags(vault: "Vault", rows: Iterable[AnyRow]) -> dict[int, bytes]:
    """Return the tags of sealed signals by their row numbers, to remember what is withdrawn.

    What does not open is left out: it was never given to anybody.
    """
    tags = {}
    for row in rows:
        with suppress(KeyMismatch):
            value = vault.open(row.value, "signals", "value", row.item_id, row.ordinal)
            tags[row.id] = vault.tag(row.type, value)
    return tags


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
        """Insert signals of files, and log each addition, all of them in random order.

        Platforms read the log, and the order of a case's files, or of a picture's altered copies,
        is nothing that they need to know.
        """
        listed = [(file, row) for file in files for row in file.rows]
        _RANDOM.shuffle(listed)
        self._tx.log.keep_back()
        shown = [(file.media, row["type"]) in SHOWN and not file.held_back for file, row in listed]
        seqs = iter(self._tx.stopncii.allocate_seqs(sum(shown), hour))
        rows = [
            row | {"record_seq": next(seqs) if is_shown else None}
            for (_, row), is_shown in zip(listed, shown, strict=True)
        ]
        numbers = insert_rows(self._tx.connection, signals, rows)
        self._tx.log.append(
            "add",
            [n for n, (file, _) in zip(numbers, listed, strict=True) if not file.held_back],
        )

    def release(self, item: int, hour: int, *, held: bool = False) -> None:
        """Log the additions of a file that was held back, or of what verdicts hold back of it.

        In the order of their rows, which is random (`add`).
        """
        chosen = [signals.c.item_id == item, signals.c.value.is_not(None)]
        if held:
            chosen.append(signals.c.held.is_not(None))
        else:  # a part of a file may have gone out before
            chosen.append(~exists().where(log.c.signal_id == signals.c.id))
        rows = self._run(
            select(signals.c.id, signals.c.type, items.c.media)
            .join(items, items.c.id == signals.c.item_id)
            .where(*chosen)
            .order_by(signals.c.id)
        ).all()
        self._run(update(signals).where(*chosen).values(held=None))
        self._tx.log.keep_back()
        shown = [row.id for row in rows if (row.media, row.type) in SHOWN]
        seqs = self._tx.stopncii.allocate_seqs(len(shown), hour)
        moved = list(zip(seqs, shown, strict=True))
        update_rows(self._tx.connection, signals, ("record_seq",), moved)
        self._tx.log.append("add", [row.id for row in rows])

    def withhold(self, item: int, hour: int) -> bool:
        """Hold back a file that went to nobody yet, if verdicts hold an equal value back."""
        chosen = (signals.c.item_id == item, signals.c.value.is_not(None))
        lookups = list(self._run(select(signals.c.lookup).where(*chosen)).scalars())
        if not self.held_values(lookups):
            return False
        unsent = ~exists().where(log.c.signal_id == signals.c.id)
        self._run(update(signals).where(*chosen, unsent).values(held=hour))
        return True

    def hold(self, signal: int, hour: int) -> None:
        """Let a live signal match nothing, log its removal, and keep its value sealed."""
        row = self._run(
            select(signals.c.lookup, signals.c.record_seq).where(signals.c.id == signal)
        ).one()
        self._tx.log.append("remove", [signal])
        self._run(update(signals).where(signals.c.id == signal).values(held=hour, record_seq=None))
        self._tx.stopncii.move([row.lookup] if row.record_seq is not None else [], hour)
        self._tx.log.release()

    def held_before(self, hour: int, limit: int) -> list[int]:
        """Name files of which something has been held back by verdicts since this hour or longer.

        Args:
            hour: the hour.
            limit: how many.
        """
        query = select(signals.c.item_id).where(signals.c.held <= hour).distinct()
        return list(self._run(query.order_by(signals.c.item_id).limit(limit)).scalars())

    def end_held(self, item: int, before: int, hour: int) -> bool:
        """End what verdicts have held back of a file since an hour or longer.

        Returns:
            Whether another signal is left; else the file is withdrawn now.
        """
        self.end([and_(signals.c.item_id == item, signals.c.held <= before)], hour)
        live = select(signals.c.id).where(signals.c.item_id == item, signals.c.value.is_not(None))
        if self._one(live.limit(1)) is not None:
            return True
        chosen = update(items).where(items.c.id == item, items.c.withdrawn.is_(None))
        self._run(chosen.values(withdrawn=hour))
        return False

    def is_held(self, signal: int) -> bool:
        """Whether verdicts hold a signal back."""
        query = select(signals.c.id).where(signals.c.id == signal, signals.c.held.is_not(None))
        return self._one(query) is not None

    def count_held(self, item: int) -> int:
        """Count the signals of a file that verdicts hold back."""
        query = select(func.count()).where(signals.c.item_id == item, signals.c.held.is_not(None))
        return self._one(query) or 0

    def held_with(self, item: int) -> list[int]:
        """Name the other files of which a value is held back that is held back of this file."""
        other = signals.alias()
        query = (
            select(other.c.item_id)
            .join(signals, signals.c.lookup == other.c.lookup)
            .where(
                signals.c.item_id == item,
                signals.c.held.is_not(None),
                other.c.held.is_not(None),
                other.c.item_id != item,
            )
        )
        return list(self._run(query.distinct().order_by(other.c.item_id)).scalars())

    def any_held(self) -> bool:
        """Whether verdicts hold anything back."""
        query = select(signals.c.id).where(signals.c.held.is_not(None))
        return self._one(query.limit(1)) is not None

    def held_values(self, lookups: Sequence[bytes]) -> set[bytes]:
        """Choose those of these look-up values that verdicts hold back."""
        found: set[bytes] = set()
        again = select(reviews.c.item_id).where(
            reviews.c.kind == RESUBMITTED, reviews.c.item_id.is_not(None)
        )
        for first in range(0, len(lookups), PARAMETERS):
            some = lookups[first : first + PARAMETERS]
            query = select(signals.c.lookup).where(
                signals.c.lookup.in_(some),
                signals.c.held.is_not(None),
                # what is held because it was submitted again holds nothing further back, or
                # submissions could keep each other back for ever
                signals.c.item_id.not_in(again),
            )
            found.update(self._run(query).scalars())
        return found

    def withdraw_again(self, numbers: Sequence[int], hour: int) -> int:
        """Withdraw those of these signals that are live, wherever they are, and count them.

        A file none of whose signals is left is withdrawn, and a survivor's case without files is
        closed.
        """
        live = and_(signals.c.id.in_(numbers), signals.c.value.is_not(None))
        own = items.c.case_id.not_in(select(contributions.c.case_id))
        rows = self._run(
            select(signals.c.id, signals.c.item_id, own.label("own"))
            .join(items, items.c.id == signals.c.item_id)
            .where(live)
        ).all()
        if not rows:
            return 0
        for hers in (True, False):
            if chosen := [row.id for row in rows if row.own == hers]:
                self.end([signals.c.id.in_(chosen)], hour, remember=hers)
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

    def end(
        self,
        chosen: Iterable[ColumnElement[bool]],
        hour: int,
        *,
        remember: bool = False,
        tags: Mapping[int, bytes] = MappingProxyType({}),
    ) -> None:
        """End live signals: purge their values, log the removals, move what is left of records.

        Args:
            chosen: which signals; several conditions where their numbers are too many for one
                statement (`PARAMETERS`).
            hour: the time.
            remember: keep tags of the values, so that no contributor brings them back.
            tags: those that were made before this transaction (`make_tags`); what is not among
                them is made here.
        """
        shrunk: list[bytes] = []
        for condition in chosen:
            live = and_(condition, signals.c.value.is_not(None))
            columns = [signals.c.id, signals.c.lookup, signals.c.record_seq]
            if remember:
                columns += [signals.c.type, signals.c.value, signals.c.item_id, signals.c.ordinal]
            rows = self._run(select(*columns).where(live).order_by(signals.c.id)).all()
            self._tx.log.append("remove", [row.id for row in rows])
            if remember:
                found = {**tags} | make_tags(
                    self._tx.vault, [row for row in rows if row.id not in tags]
                )
                known = [found[row.id] for row in rows if row.id in found]
                self._tx.withdrawn.add(known, day_of(hour))
            gone = ("value", "lookup", "next_lookup", "quality", "record_seq", "held")
            blank = (None,) * len(gone)
            update_rows(self._tx.connection, signals, gone, [(*blank, row.id) for row in rows])
            shrunk += [row.lookup for row in rows if row.record_seq is not None]
        # after the last of them, so that no record is moved that is about to lose another signal
        self._tx.stopncii.move(shrunk, hour)
        if shrunk:
            self._tx.log.release()

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

    def verdicts(self, signal: int) -> dict[int, str]:
        """Return the verdicts on a live signal, by platform."""
        query = (
            select(verdicts.c.platform_id, verdicts.c.verdict)
            .join(signals, signals.c.id == verdicts.c.signal_id)
            .where(
                verdicts.c.signal_id == signal,
                signals.c.value.is_not(None),
                signals.c.held.is_(None),
            )
        )
        return {row[0]: row[1] for row in self._run(query).all()}

    def said_of(self, item: int, verdict: str) -> list[str]:
        """Name the platforms that give this verdict on a signal of a file."""
        query = (
            select(platforms.c.name)
            .join(verdicts, verdicts.c.platform_id == platforms.c.id)
            .join(signals, signals.c.id == verdicts.c.signal_id)
            .where(signals.c.item_id == item, verdicts.c.verdict == verdict)
        )
        return list(self._run(query.distinct().order_by(platforms.c.name)).scalars())

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
