"""The statements behind what keeps floods, oracles and poisoned submissions out."""

from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, delete, func, insert, select, update

from clearinghouse.database.queries.signals import Arrivals
from clearinghouse.database.queries.stopncii_records import SHOWN
from clearinghouse.database.schema import (
    budgets,
    cases,
    contributions,
    items,
    keys,
    lawful,
    matches,
    removals,
    reviews,
    signals,
    spent,
    verdicts,
)

# Kinds of questions to the operator.
QUARANTINED: Final = "quarantined"  # near a lawful picture, held back until she decides
LAWFUL: Final = "lawful"  # near one that was listed later
HITS: Final = "hits"  # met by many platforms within its first day
ORACLE: Final = "oracle"  # one key's queries gather around it

# States of a question.
OPEN: Final = "open"
KEPT: Final = "kept"
REMOVED: Final = "removed"


class Oversight(Arrivals):
    """The statements, as a part of `clearinghouse.database.transaction.Transaction`."""

    # --- what the log and the order of the StopNCII door share -------------------------------

    def release(self, item: int, hour: int) -> None:
        """Log the additions of a file that was held back."""
        rows = self._run(
            select(signals.c.id, signals.c.type, items.c.media)
            .join(items, items.c.id == signals.c.item_id)
            .where(signals.c.item_id == item, signals.c.value.is_not(None))
            .order_by(signals.c.id)
        ).all()
        shown = [row.id for row in rows if (row.media, row.type) in SHOWN]
        for number, place in zip(shown, self.take_places(len(shown), hour), strict=True):
            self._run(update(signals).where(signals.c.id == number).values(place=place))
        self._log("add", [row.id for row in rows])

    def withdraw_signal(self, signal: int, hour: int) -> bool:
        """Withdraw one signal; tell whether its file has another one left, or is withdrawn now."""
        self.move_records(self._end_signals(signals.c.id == signal), hour)
        item = select(signals.c.item_id).where(signals.c.id == signal).scalar_subquery()
        live = select(signals.c.id).where(signals.c.item_id == item, signals.c.value.is_not(None))
        if self._one(live.limit(1)) is not None:
            return True
        chosen = update(items).where(items.c.id == item, items.c.withdrawn.is_(None))
        self._run(chosen.values(withdrawn=hour))
        return False

    # --- what the operator decides on --------------------------------------------------------

    def add_review(self, kind: str, item: int, key: int | None, count: int, hour: int) -> None:
        """Ask the operator to look at a file, or bring an open question up to date.

        A file that is gone by now is passed over.
        """
        if self._one(select(items.c.id).where(items.c.id == item)) is None:
            return
        same = [reviews.c.kind == kind, reviews.c.item_id == item, reviews.c.state == OPEN]
        same.append(reviews.c.key_id.is_(None) if key is None else reviews.c.key_id == key)
        known = self._one(select(reviews.c.id).where(*same))
        if known is not None:
            self._run(update(reviews).where(reviews.c.id == known).values(count=count))
            return
        values = {"kind": kind, "item_id": item, "key_id": key, "count": count}
        self._run(insert(reviews).values(**values, state=OPEN, opened=hour))

    def open_reviews(self, number: int | None = None) -> Sequence[Row[*tuple[Any, ...]]]:
        """List the open questions about files that are not withdrawn, or one of them."""
        query = (
            select(
                reviews.c.id,
                reviews.c.kind,
                reviews.c.item_id,
                reviews.c.key_id,
                reviews.c.count.label("counted"),
                reviews.c.opened,
                items.c.case_id,
                items.c.ordinal,
                items.c.media,
                keys.c.platform_id,
            )
            .join(items, items.c.id == reviews.c.item_id)
            .outerjoin(keys, keys.c.id == reviews.c.key_id)
            .where(reviews.c.state == OPEN, items.c.withdrawn.is_(None))
            .order_by(reviews.c.id)
        )
        if number is not None:
            query = query.where(reviews.c.id == number)
        return self._run(query).all()

    def close_review(self, number: int, state: str, hour: int) -> None:
        """Close a question."""
        chosen = update(reviews).where(reviews.c.id == number)
        self._run(chosen.values(state=state, closed=hour))

    def close_reviews(self, item: int, hour: int) -> None:
        """Close all open questions about a file that is taken out."""
        chosen = update(reviews).where(reviews.c.item_id == item, reviews.c.state == OPEN)
        self._run(chosen.values(state=REMOVED, closed=hour))

    def add_removal(self, item: int, by: str) -> None:
        """Note that somebody else than its holder took a file out."""
        self._run(insert(removals).values(item_id=item, by=by))

    def case_marks(self, case: int) -> dict[int, tuple[bool, str | None]]:
        """Tell of a case's files which are held back, and who took them out if not their holder."""
        held = select(reviews.c.item_id).where(
            reviews.c.kind == QUARANTINED, reviews.c.state == OPEN
        )
        query = (
            select(items.c.id, items.c.id.in_(held), removals.c.by)
            .outerjoin(removals, removals.c.item_id == items.c.id)
            .where(items.c.case_id == case)
        )
        return {row[0]: (row[1], row[2]) for row in self._run(query).all()}

    def met_by_many(self, chosen: Collection[int], platforms: int, since: int) -> Sequence[Any]:
        """Give (file, platforms) of those files, added since an hour, that so many platforms met.

        Those about which this was asked before are left out.
        """
        asked = select(reviews.c.item_id).where(reviews.c.kind == HITS)
        query = (
            select(matches.c.item_id, func.count())
            .join(items, items.c.id == matches.c.item_id)
            .where(
                matches.c.item_id.in_(chosen),
                items.c.added >= since,
                matches.c.item_id.not_in(asked),
            )
            .group_by(matches.c.item_id)
            .having(func.count() >= platforms)
        )
        return self._run(query).all()

    def said_of(self, signal: int) -> dict[str, int]:
        """Count the platforms by their verdicts on a live signal."""
        query = (
            select(verdicts.c.verdict, func.count())
            .join(signals, signals.c.id == verdicts.c.signal_id)
            .where(verdicts.c.signal_id == signal, signals.c.value.is_not(None))
            .group_by(verdicts.c.verdict)
        )
        return {row[0]: row[1] for row in self._run(query).all()}

    def item_of(self, signal: int) -> int | None:
        """Give the file to which a signal belongs."""
        return self._one(select(signals.c.item_id).where(signals.c.id == signal))

    # --- figures by hour ---------------------------------------------------------------------

    def counts_by_hour(self) -> dict[str, Sequence[Row[*tuple[Any, ...]]]]:
        """Count by hours, as (hour, number), what a report about months is made of."""
        own = items.c.case_id.not_in(select(contributions.c.case_id))  # submitted by survivors
        hers = cases.c.id.not_in(select(contributions.c.case_id))

        def by(column: ColumnElement[Any], *chosen: ColumnElement[bool]) -> Any:  # noqa: ANN401 - rows
            return self._run(select(column, func.count()).where(*chosen).group_by(column)).all()

        return {
            "cases_opened": by(cases.c.opened, hers),
            "files_submitted": by(items.c.added, own),
            "files_withdrawn": by(items.c.withdrawn, own, items.c.withdrawn.is_not(None)),
            "verdicts_blocked": by(verdicts.c.hour, verdicts.c.verdict == "blocked"),
            "verdicts_not_blocked": by(verdicts.c.hour, verdicts.c.verdict == "not_blocked"),
        }

    # --- known-lawful pictures ---------------------------------------------------------------

    def add_lawful(self, type: str, value: bytes, lookup: bytes, hour: int) -> bool:
        """Note a lawful hash, its value sealed; tell whether it is new."""
        if self._one(select(lawful.c.id).where(lawful.c.lookup == lookup)) is not None:
            return False
        self._run(insert(lawful).values(type=type, value=value, lookup=lookup, added=hour))
        return True

    def remove_lawful(self, lookup: bytes) -> bool:
        """Forget a lawful hash; tell whether it was there."""
        return bool(self._run(delete(lawful).where(lawful.c.lookup == lookup)).rowcount)

    def reseal_lawful(self, lookup: bytes, value: bytes) -> None:
        """Replace a sealed value by the same under another key."""
        self._run(update(lawful).where(lawful.c.lookup == lookup).values(value=value))

    def lawful_version(self) -> tuple[int, int]:
        """Give what changes with every change of the list."""
        query = select(func.count(), func.coalesce(func.max(lawful.c.id), 0)).select_from(lawful)
        row = self._run(query).one()
        return row[0], row[1]

    def read_lawful(self) -> Sequence[Row[*tuple[Any, ...]]]:
        """Read the list: (type, sealed value, look-up value)."""
        return self._run(select(lawful.c.type, lawful.c.value, lawful.c.lookup)).all()

    def live_signals(self, after: int, limit: int) -> Sequence[Row[*tuple[Any, ...]]]:
        """Read live signals behind a row number: (id, type, value, item_id, ordinal)."""
        columns = (signals.c.id, signals.c.type, signals.c.value, signals.c.item_id)
        query = (
            select(*columns, signals.c.ordinal)
            .where(signals.c.id > after, signals.c.value.is_not(None))
            .order_by(signals.c.id)
        )
        return self._run(query.limit(limit)).all()

    # --- budgets -----------------------------------------------------------------------------

    def lease(self, key: int, hour: int, day: int, count: int) -> tuple[int, int]:
        """Lease a number of look-ups; give what is leased then in this hour, and since a day began.

        The row is changed before it is read, so that of two workers one waits for the other.
        """
        row = self._upsert(budgets).values(key_id=key, hour=hour, leased=count)
        self._run(
            row.on_conflict_do_update(
                index_elements=["key_id", "hour"],
                set_={"leased": budgets.c.leased + row.excluded.leased},
            )
        )
        mine = budgets.c.key_id == key
        in_hour = self._one(select(budgets.c.leased).where(mine, budgets.c.hour == hour))
        on_day = self._one(
            select(func.sum(budgets.c.leased)).where(
                mine, budgets.c.hour >= day, budgets.c.hour <= hour
            )
        )
        return int(in_hour or 0), int(on_day or 0)

    def unlease(self, key: int, hour: int, count: int) -> None:
        """Give back what was leased beyond a bound, in the same transaction."""
        chosen = update(budgets).where(budgets.c.key_id == key, budgets.c.hour == hour)
        self._run(chosen.values(leased=budgets.c.leased - count))

    def forget_budgets(self, hour: int) -> int:
        """Delete the leases from before this hour."""
        return self._run(delete(budgets).where(budgets.c.hour < hour)).rowcount

    # --- proofs of work ----------------------------------------------------------------------

    def spend(self, mark: bytes, hour: int) -> bool:
        """Note that a proof was used; tell whether this is the first time."""
        row = self._upsert(spent).values(mark=mark, hour=hour)
        return bool(self._run(row.on_conflict_do_nothing()).rowcount)

    def forget_spent(self, hour: int) -> int:
        """Delete the notes on proofs from before this hour."""
        return self._run(delete(spent).where(spent.c.hour < hour)).rowcount
