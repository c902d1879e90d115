"""The statements on cases, their files, and what platforms did about these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    ScalarSelect,
    and_,
    delete,
    exists,
    func,
    or_,
    select,
    true,
    update,
)
from sqlalchemy import case as when

from clearinghouse.database.queries.inserts import insert_row, reserve, write_rows
from clearinghouse.database.queries.stopncii_records import PARAMETERS
from clearinghouse.database.schema import (
    AnyRow,
    acknowledgements,
    cases,
    items,
    log,
    matches,
    platforms,
    signals,
    verdicts,
)
from clearinghouse.times import Day, Hour

if TYPE_CHECKING:
    from clearinghouse.database.transaction import Transaction


@dataclass(frozen=True, slots=True)
class NewItem:
    """A file of a case.

    A refused one has no signals and is not shown; its row keeps its number from being reused.
    `awaiting_after`: how many of its signals were sent, where more are to follow.
    """

    number: int  # reserved: `Store.reserve_items`
    ordinal: int
    media: str
    refused: bool = False
    awaiting_after: int | None = None


class Cases:
    """The statements on cases."""

    def __init__(self, tx: "Transaction") -> None:
        self._tx = tx
        self._run = tx.connection.execute
        self._one = tx.connection.scalar

    def add(self, **values: Any) -> int:  # noqa: ANN401 - columns of `cases`
        """Insert a case and give its row number."""
        return insert_row(self._tx.connection, cases, **values)

    def find(self, lookup: bytes) -> AnyRow | None:
        """Give the case with this look-up value."""
        return self._run(select(cases).where(cases.c.lookup == lookup)).one_or_none()

    def read(self, case: int) -> AnyRow:
        """Give the case with this row number."""
        return self._run(select(cases).where(cases.c.id == case)).one()

    def update(self, case: int, **values: Any) -> None:  # noqa: ANN401 - columns of `cases`
        """Change columns of a case."""
        self._run(update(cases).where(cases.c.id == case).values(**values))

    def expired(self, hour: Hour, limit: int) -> list[int]:
        """Name open cases that ran out before this hour."""
        query = select(cases.c.id).where(cases.c.state == "open", cases.c.expires <= hour)
        return list(self._run(query.limit(limit)).scalars())

    def forget(self, hour: Hour, limit: int) -> int:
        """Delete cases that were closed before this hour, with all that hangs on them."""
        due = select(cases.c.id).where(cases.c.closed < hour).limit(limit)
        return self._run(delete(cases).where(cases.c.id.in_(due))).rowcount

    # --- files -------------------------------------------------------------------------------

    def reserve_items(self, count: int) -> list[int]:
        """Return row numbers that no other file will get."""
        return reserve(self._tx.connection, items, count)

    def add_items(self, case: int, files: Sequence[NewItem], hour: Hour) -> None:
        """Insert files of a case."""
        rows = [
            {
                "id": file.number,
                "case_id": case,
                "ordinal": file.ordinal,
                "media": file.media,
                "added": hour,
                "withdrawn": hour if file.refused else None,
                "awaiting_after": file.awaiting_after,
            }
            for file in files
        ]
        write_rows(self._tx.connection, items, rows)

    def count_items(self, case: int) -> tuple[int, int]:
        """Give the number of files not withdrawn and the highest ordinal ever given."""
        query = select(
            func.count().filter(items.c.withdrawn.is_(None)),
            func.coalesce(func.max(items.c.ordinal), 0),
        ).where(items.c.case_id == case)
        row = self._run(query).one()
        return row[0], row[1]

    def withdraw_items(self, case: int, ordinal: int | None, hour: Hour) -> int:
        """Withdraw one file or all of a case: purge its values, log each removal, count files.

        Args:
            case: its row number.
            ordinal: of the file; None for all.
            hour: the time.
        """
        gone, done = 0, False
        while not done:
            files, done = self.withdraw_some(case, ordinal, hour, limit=PARAMETERS)
            gone += files
        return gone

    def withdraw_files(self, case: int, ordinals: Sequence[int], hour: Hour) -> int:
        """Withdraw files of a case, at most `PARAMETERS` of one signal each, and count them."""
        chosen = (items.c.ordinal.in_(ordinals), items.c.withdrawn.is_(None))
        query = select(items.c.id).where(items.c.case_id == case, *chosen)
        gone = list(self._run(query).scalars())
        self._tx.signals.end([signals.c.item_id.in_(gone)], hour)
        self._run(update(items).where(items.c.id.in_(gone)).values(withdrawn=hour))
        return len(gone)

    def live_signals(self, case: int, ordinal: int | None, limit: int) -> Sequence[AnyRow]:
        """Return live signals of one file, or of all files of a case, file by file."""
        files = select(items.c.id).where(*_live_files(case, ordinal))
        query = (
            select(
                signals.c.id,
                signals.c.type,
                signals.c.value,
                signals.c.item_id,
                signals.c.ordinal,
            )
            .where(signals.c.item_id.in_(files), signals.c.value.is_not(None))
            .order_by(signals.c.item_id, signals.c.id)
        )
        return self._run(query.limit(limit)).all()

    def withdraw_some(
        self,
        case: int,
        ordinal: int | None,
        hour: Hour,
        *,
        limit: int,
        remember: bool = False,
        tags: Mapping[int, bytes] = MappingProxyType({}),
    ) -> tuple[int, bool]:
        """Withdraw up to `limit` signals of one file, or of all files of a case.

        A file is withdrawn with the last of its signals. The arguments are those of
        `withdraw_items` and of `Signals.end`.

        Returns:
            How many files were withdrawn, and whether none is left.
        """
        some = [row.id for row in self.live_signals(case, ordinal, limit)]
        parts = [some[first : first + PARAMETERS] for first in range(0, len(some), PARAMETERS)]
        ended = (signals.c.id.in_(part) for part in parts)
        self._tx.signals.end(ended, hour, remember=remember, tags=tags)
        left = exists().where(signals.c.item_id == items.c.id, signals.c.value.is_not(None))
        query = update(items).where(*_live_files(case, ordinal), ~left)
        return self._run(query.values(withdrawn=hour)).rowcount, len(some) < limit

    def item(self, case: int, ordinal: int) -> AnyRow | None:
        """Return the file of a case that has this number."""
        query = select(items).where(items.c.case_id == case, items.c.ordinal == ordinal)
        return self._run(query).one_or_none()

    def await_signals(self, item: int, after: int | None) -> None:
        """Note how many of a file's signals were sent; None once all of them were."""
        self._run(update(items).where(items.c.id == item).values(awaiting_after=after))

    def has_item(self, case: int, ordinal: int) -> bool:
        """Tell whether the case ever had a file with this number."""
        query = select(items.c.id).where(items.c.case_id == case, items.c.ordinal == ordinal)
        return self._one(query) is not None

    def items(self, case: int) -> Sequence[AnyRow]:
        """List a case's files with how many signals they have, live, and held back by verdicts."""
        counts = (
            func.count(signals.c.id).label("signals"),
            func.count(signals.c.value).label("live"),
            func.count(signals.c.held).label("held"),
        )
        query = (
            select(items, *counts)
            .join(signals, signals.c.item_id == items.c.id)
            .where(items.c.case_id == case)
            .group_by(items.c.id)
            .order_by(items.c.ordinal)
        )
        return self._run(query).all()

    def count_signals(self, case: int) -> int:
        """Return how many signals a case has, withdrawn ones included."""
        query = select(func.count(signals.c.id)).join(items, items.c.id == signals.c.item_id)
        return int(self._one(query.where(items.c.case_id == case)) or 0)

    def live_items(self, case: int, limit: int) -> Sequence[int]:
        """Name some files of a case that are not withdrawn, by their ordinals."""
        query = select(items.c.ordinal).where(items.c.case_id == case, items.c.withdrawn.is_(None))
        return self._run(query.order_by(items.c.ordinal).limit(limit)).scalars().all()

    def values(self, case: int, lookups: Sequence[bytes] | None = None) -> dict[bytes, int]:
        """Give the values of a case that are live, or those among `lookups`, with their files."""
        query = (
            select(signals.c.lookup, items.c.ordinal)
            .join(items, items.c.id == signals.c.item_id)
            .where(items.c.case_id == case, signals.c.lookup.is_not(None))
        )
        if lookups is not None:
            query = query.where(signals.c.lookup.in_(lookups))
        return {row[0]: row[1] for row in self._run(query).all()}

    # --- what platforms did about them -------------------------------------------------------

    def confirmations(self, case: int) -> Sequence[AnyRow]:
        """Tell which platform confirmed which file of a case, and its removal, and when.

        Rows of (item, platform, has, gone): the hour of the first confirmation of the whole file
        and of its whole removal, null where there is none. A confirmation that covers both does not
        count for the first: that platform may never have held the hashes. A removal before the
        last addition does not count: what verdicts had taken out was put back. Nor does one while
        another signal of the file is matched.
        """
        added = func.max(log.c.id).filter(log.c.op == "add")
        removed = func.max(log.c.id).filter(log.c.op == "remove")
        matched = func.count().filter(signals.c.value.is_not(None), signals.c.held.is_(None))
        held = (
            select(
                items.c.id,
                added.label("added"),
                when((and_(removed > func.coalesce(added, 0), matched == 0), removed)).label(
                    "removed"
                ),
            )
            .join(signals, signals.c.item_id == items.c.id)
            .join(log, log.c.signal_id == signals.c.id)
            .where(items.c.case_id == case)
            .group_by(items.c.id)
            .subquery()
        )
        has, gone = acknowledgements.alias("has"), acknowledgements.alias("gone")

        def first(place: ColumnElement[int]) -> ScalarSelect[int]:
            confirmed = acknowledgements.alias()
            return (
                select(func.min(confirmed.c.seq))
                .where(confirmed.c.platform_id == platforms.c.id, confirmed.c.seq >= place)
                .scalar_subquery()
            )

        query = (
            select(held.c.id, platforms.c.id, has.c.hour, gone.c.hour)
            .select_from(held.join(platforms, true()))
            .outerjoin(
                has,
                and_(
                    has.c.platform_id == platforms.c.id,
                    has.c.seq == first(held.c.added),
                    or_(held.c.removed.is_(None), has.c.seq < held.c.removed),
                ),
            )
            .outerjoin(
                gone,
                and_(gone.c.platform_id == platforms.c.id, gone.c.seq == first(held.c.removed)),
            )
        )
        return self._run(query).all()

    def verdicts(self, case: int, day: Day | None = None) -> Sequence[AnyRow]:
        """Count verdicts on a case's files: (item, platform, verdict, count).

        Args:
            case: its row number.
            day: count them as they were when this day began; None for as they are.
        """
        verdict: ColumnElement[str] = verdicts.c.verdict
        if day is not None:
            verdict = when((verdicts.c.hour < day, verdict), else_=verdicts.c.earlier)
        said = (
            select(signals.c.item_id, verdicts.c.platform_id, verdict.label("verdict"))
            .join(signals, signals.c.id == verdicts.c.signal_id)
            .join(items, items.c.id == signals.c.item_id)
            .where(items.c.case_id == case)
            .subquery()
        )
        return self._run(
            select(*said.c, func.count()).where(said.c.verdict.is_not(None)).group_by(*said.c)
        ).all()

    def matches(self, case: int, day: Day | None = None) -> Sequence[AnyRow]:
        """Return match counts of a case's files: (item, platform, count).

        Args:
            case: its row number.
            day: count those from before this day; None for all.
        """
        count: ColumnElement[int] = matches.c.count
        if day is not None:
            count = when((matches.c.day < day, count), else_=matches.c.earlier)
        return self._run(
            select(matches.c.item_id, matches.c.platform_id, count)
            .join(items, items.c.id == matches.c.item_id)
            .where(items.c.case_id == case)
        ).all()


def _live_files(case: int, ordinal: int | None) -> list[ColumnElement[bool]]:
    chosen = [items.c.case_id == case, items.c.withdrawn.is_(None)]
    return chosen if ordinal is None else [*chosen, items.c.ordinal == ordinal]
