"""Queries on signals: adding, releasing, holding and removing them."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import SystemRandom
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import ColumnElement, and_, exists, func, select, update

from clearinghouse.database.queries.inserts import insert_returning_ids, update_rows
from clearinghouse.database.queries.reviews import RESUBMITTED
from clearinghouse.database.queries.stopncii_records import PARAMETERS_MAX, RECORD_TYPES
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
from clearinghouse.times import Hour, day_of

if TYPE_CHECKING:
    from clearinghouse.database.transaction import Transaction
    from clearinghouse.sealing.vault import Vault


_RANDOM: Final = SystemRandom()


def make_tags(vault: "Vault", rows: Iterable[AnyRow]) -> dict[int, bytes]:
    """Return the tags of sealed signals by row number, to remember withdrawn values.

    Values that do not open are omitted: no platform ever received them.
    """
    tags = {}
    for row in rows:
        with suppress(KeyMismatch):
            value = vault.open(row.value, "signals", "value", row.item_id, row.ordinal)
            tags[row.id] = vault.tag(row.type, value)
    return tags


@dataclass(frozen=True, slots=True)
class NewSignals:
    """The new signals of one file.

    Attributes:
        media: "image" or "video".
        rows: the columns of each signal.
        held_back: whether the file is on hold until the operator decides. Its signals are then not
            logged and have no `record_seq` before they are released.
    """

    media: str
    rows: Sequence[dict[str, Any]]
    held_back: bool = False


class Signals:
    """Queries on signals."""

    def __init__(self, tx: "Transaction") -> None:
        self._tx = tx
        self._run = tx.connection.execute
        self._one = tx.connection.scalar

    def add(self, files: Sequence[NewSignals], hour: Hour) -> None:
        """Insert signals of files in random order, and log their additions.

        Platforms read the log, and need not learn the order of files in a case, or of variants of a
        picture.
        """
        shuffled = [(file, row) for file in files for row in file.rows]
        _RANDOM.shuffle(shuffled)
        self._tx.log.begin_period()
        has_record = [
            (file.media, row["type"]) in RECORD_TYPES and not file.held_back
            for file, row in shuffled
        ]
        seqs = iter(self._tx.stopncii.allocate_seqs(sum(has_record), hour))
        rows = [
            row | {"record_seq": next(seqs) if numbered else None}
            for (_, row), numbered in zip(shuffled, has_record, strict=True)
        ]
        numbers = insert_returning_ids(self._tx.connection, signals, rows)
        self._tx.log.append(
            "add",
            [n for n, (file, _) in zip(numbers, shuffled, strict=True) if not file.held_back],
        )

    def release(self, item: int, hour: Hour, *, held: bool = False) -> None:
        """Take signals of a file off hold and log their additions, in the order of their rows.

        That order is random (`add`).

        Args:
            item: the file.
            hour: the time.
            held: release the signals that verdicts put on hold; otherwise those that were never
                logged, since part of the file may have been released before.
        """
        chosen = [signals.c.item_id == item, signals.c.value.is_not(None)]
        if held:
            chosen.append(signals.c.held.is_not(None))
        else:
            chosen.append(~exists().where(log.c.signal_id == signals.c.id))
        rows = self._run(
            select(signals.c.id, signals.c.type, items.c.media)
            .join(items, items.c.id == signals.c.item_id)
            .where(*chosen)
            .order_by(signals.c.id)
        ).all()
        self._run(update(signals).where(*chosen).values(held=None))
        self._tx.log.begin_period()
        with_record = [row.id for row in rows if (row.media, row.type) in RECORD_TYPES]
        seqs = self._tx.stopncii.allocate_seqs(len(with_record), hour)
        numbered = list(zip(seqs, with_record, strict=True))
        update_rows(self._tx.connection, signals, ("record_seq",), numbered)
        self._tx.log.append("add", [row.id for row in rows])

    def hold_resubmitted(self, item: int, hour: Hour) -> bool:
        """Put the unlogged signals of a file on hold, if verdicts keep an equal value on hold.

        Returns:
            Whether there is such a value.
        """
        chosen = (signals.c.item_id == item, signals.c.value.is_not(None))
        lookups = list(self._run(select(signals.c.lookup).where(*chosen)).scalars())
        if not self.filter_held(lookups):
            return False
        unlogged = ~exists().where(log.c.signal_id == signals.c.id)
        self._run(update(signals).where(*chosen, unlogged).values(held=hour))
        return True

    def hold(self, signal: int, hour: Hour) -> None:
        """Put a live signal on hold: log its removal, and keep its sealed value."""
        row = self._run(
            select(signals.c.lookup, signals.c.record_seq).where(signals.c.id == signal)
        ).one()
        self._tx.log.append("remove", [signal])
        self._run(update(signals).where(signals.c.id == signal).values(held=hour, record_seq=None))
        self._tx.stopncii.renumber([row.lookup] if row.record_seq is not None else [], hour)
        self._tx.log.release_all()

    def list_held_items(self, hour: Hour, limit: int) -> list[int]:
        """List up to `limit` files with a signal on hold since this hour or earlier."""
        query = select(signals.c.item_id).where(signals.c.held <= hour).distinct()
        return list(self._run(query.order_by(signals.c.item_id).limit(limit)).scalars())

    def remove_held(self, item: int, before: Hour, hour: Hour) -> bool:
        """Remove the signals of a file that are on hold since `before` or earlier.

        Returns:
            Whether the file has other signals left; otherwise it is marked as withdrawn.
        """
        self.remove([and_(signals.c.item_id == item, signals.c.held <= before)], hour)
        live = select(signals.c.id).where(signals.c.item_id == item, signals.c.value.is_not(None))
        if self._one(live.limit(1)) is not None:
            return True
        query = update(items).where(items.c.id == item, items.c.withdrawn.is_(None))
        self._run(query.values(withdrawn=hour))
        return False

    def is_held(self, signal: int) -> bool:
        """Whether a signal is on hold."""
        query = select(signals.c.id).where(signals.c.id == signal, signals.c.held.is_not(None))
        return self._one(query) is not None

    def count_held(self, item: int) -> int:
        """Count the signals of a file that are on hold."""
        query = select(func.count()).where(signals.c.item_id == item, signals.c.held.is_not(None))
        return self._one(query) or 0

    def list_items_with_same_held_value(self, item: int) -> list[int]:
        """List other files with a signal on hold whose value equals one on hold of this file."""
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

    def has_held(self) -> bool:
        """Whether any signal is on hold."""
        query = select(signals.c.id).where(signals.c.held.is_not(None))
        return self._one(query.limit(1)) is not None

    def filter_held(self, lookups: Sequence[bytes]) -> set[bytes]:
        """Return those of these lookup values that verdicts put on hold."""
        found: set[bytes] = set()
        resubmitted = select(reviews.c.item_id).where(
            reviews.c.kind == RESUBMITTED, reviews.c.item_id.is_not(None)
        )
        for start in range(0, len(lookups), PARAMETERS_MAX):
            batch = lookups[start : start + PARAMETERS_MAX]
            query = select(signals.c.lookup).where(
                signals.c.lookup.in_(batch),
                signals.c.held.is_not(None),
                # a resubmission on hold must not put another one on hold, or resubmissions could
                # keep each other on hold for ever
                signals.c.item_id.not_in(resubmitted),
            )
            found.update(self._run(query).scalars())
        return found

    def expire_again(self, numbers: Sequence[int], hour: Hour) -> int:
        """Remove those of these signals that are live in expired cases, after a restore.

        Signals of cases that have not expired by this hour are kept: the clock was wrong when they
        were removed. An expired case without live files is closed.

        Returns:
            How many signals were removed.
        """
        rows = self._run(
            select(signals.c.id, signals.c.item_id, items.c.case_id)
            .join(items, items.c.id == signals.c.item_id)
            .join(cases, cases.c.id == items.c.case_id)
            .where(signals.c.id.in_(numbers), signals.c.value.is_not(None), cases.c.expires <= hour)
        ).all()
        if not rows:
            return 0
        self.remove([signals.c.id.in_([row.id for row in rows])], hour, expired=True)
        self._mark_withdrawn({row.item_id for row in rows}, hour)
        with_files = select(items.c.case_id).where(items.c.withdrawn.is_(None))
        self._run(
            update(cases)
            .where(
                cases.c.id.in_({row.case_id for row in rows}),
                cases.c.state == "open",
                cases.c.id.not_in(with_files),
            )
            .values(state="expired", closed=hour)
        )
        return len(rows)

    def _mark_withdrawn(self, files: set[int], hour: Hour) -> None:
        """Mark those of these files as withdrawn that have no live signals."""
        with_signals = select(signals.c.item_id).where(signals.c.value.is_not(None))
        self._run(
            update(items)
            .where(
                items.c.id.in_(files),
                items.c.withdrawn.is_(None),
                items.c.id.not_in(with_signals),
            )
            .values(withdrawn=hour)
        )

    def withdraw_again(self, numbers: Sequence[int], hour: Hour) -> int:
        """Withdraw those of these signals that are live, after a restore, and return how many.

        A file without live signals is marked as withdrawn, and a survivor's case without live files
        is closed.
        """
        live = and_(signals.c.id.in_(numbers), signals.c.value.is_not(None))
        is_survivors = items.c.case_id.not_in(select(contributions.c.case_id))
        rows = self._run(
            select(signals.c.id, signals.c.item_id, is_survivors.label("is_survivors"))
            .join(items, items.c.id == signals.c.item_id)
            .where(live)
        ).all()
        if not rows:
            return 0
        for by_survivor in (True, False):
            if chosen := [row.id for row in rows if row.is_survivors == by_survivor]:
                self.remove([signals.c.id.in_(chosen)], hour, remember=by_survivor)
        files = {row.item_id for row in rows}
        self._mark_withdrawn(files, hour)
        affected = select(items.c.case_id).where(items.c.id.in_(files))
        with_files = select(items.c.case_id).where(items.c.withdrawn.is_(None))
        self._run(
            update(cases)
            .where(
                cases.c.id.in_(affected),
                cases.c.state == "open",
                cases.c.id.not_in(with_files),
                cases.c.id.not_in(select(contributions.c.case_id)),
            )
            .values(state="withdrawn", closed=hour)
        )
        return len(rows)

    def remove(
        self,
        conditions: Iterable[ColumnElement[bool]],
        hour: Hour,
        *,
        expired: bool = False,
        remember: bool = False,
        tags: Mapping[int, bytes] = MappingProxyType({}),
    ) -> None:
        """Remove live signals: purge their values, log the removals, renumber their records.

        Args:
            conditions: select the signals; several if their numbers are too many for one statement
                (`PARAMETERS_MAX`).
            hour: the time.
            expired: whether they are removed because their cases have expired.
            remember: keep tags of the values, so that contributors cannot add them again.
            tags: tags computed before this transaction (`make_tags`); missing ones are computed
                here.
        """
        shrunk: list[bytes] = []  # records that lost a signal
        for condition in conditions:
            live = and_(condition, signals.c.value.is_not(None))
            columns = [signals.c.id, signals.c.lookup, signals.c.record_seq]
            if remember:
                columns += [signals.c.type, signals.c.value, signals.c.item_id, signals.c.ordinal]
            rows = self._run(select(*columns).where(live).order_by(signals.c.id)).all()
            self._tx.log.append("remove", [row.id for row in rows])
            if remember:
                missing = [row for row in rows if row.id not in tags]
                all_tags = {**tags} | make_tags(self._tx.vault, missing)
                known = [all_tags[row.id] for row in rows if row.id in all_tags]
                self._tx.withdrawn.add(known, day_of(hour))
            purged = ("value", "lookup", "next_lookup", "quality", "record_seq", "held")
            values = *(None,) * len(purged), hour if expired else None
            columns_set = (*purged, "expired")
            changed = [(*values, row.id) for row in rows]
            update_rows(self._tx.connection, signals, columns_set, changed)
            shrunk += [row.lookup for row in rows if row.record_seq is not None]
        # at the end, so that each record is renumbered once, after all its removals
        self._tx.stopncii.renumber(shrunk, hour)
        if shrunk:
            self._tx.log.release_all()

    def live(self, after: int, limit: int) -> Sequence[AnyRow]:
        """List live signals after a row number, as (id, type, value, item_id, ordinal)."""
        columns = (signals.c.id, signals.c.type, signals.c.value, signals.c.item_id)
        query = (
            select(*columns, signals.c.ordinal)
            .where(signals.c.id > after, signals.c.value.is_not(None))
            .order_by(signals.c.id)
        )
        return self._run(query.limit(limit)).all()

    def lookups(self, item: int, first: int, end: int) -> dict[int, bytes | None]:
        """Return the lookup values of a file's signals by ordinal, from `first` up to `end`."""
        query = select(signals.c.ordinal, signals.c.lookup).where(
            signals.c.item_id == item, signals.c.ordinal >= first, signals.c.ordinal < end
        )
        return {row[0]: row[1] for row in self._run(query).all()}

    def item(self, signal: int) -> int | None:
        """Return the file of a signal, or None if the signal does not exist."""
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

    def list_platforms_by_verdict(self, item: int, verdict: str) -> list[str]:
        """List the names of platforms with this verdict on any signal of a file."""
        query = (
            select(platforms.c.name)
            .join(verdicts, verdicts.c.platform_id == platforms.c.id)
            .join(signals, signals.c.id == verdicts.c.signal_id)
            .where(signals.c.item_id == item, verdicts.c.verdict == verdict)
        )
        return list(self._run(query.distinct().order_by(platforms.c.name)).scalars())

    def filter_submitted(self, lookups: Sequence[bytes]) -> set[bytes]:
        """Return those of these lookup values that are live in cases of survivors."""
        found: set[bytes] = set()
        for start in range(0, len(lookups), PARAMETERS_MAX):
            query = (
                select(signals.c.lookup)
                .join(items, items.c.id == signals.c.item_id)
                .where(
                    signals.c.lookup.in_(lookups[start : start + PARAMETERS_MAX]),
                    signals.c.value.is_not(None),
                    items.c.case_id.not_in(select(contributions.c.case_id)),
                )
            )
            found |= set(self._run(query).scalars())
        return found
