"""Queries on cases, their files, and what platforms did about them."""

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

from clearinghouse.database.queries.inserts import insert_row, insert_rows, reserve_ids
from clearinghouse.database.queries.stopncii_records import PARAMETERS_MAX
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
    """A new file of a case.

    Attributes:
        number: its row number, from `Store.reserve_items`.
        ordinal: its number within the case.
        media: "image" or "video".
        refused: whether the file is refused. It then has no signals and is not shown; its row keeps
            the ordinal from being reused.
        awaiting_after: how many of its signals were sent, if more will follow; None if all were.
    """

    number: int
    ordinal: int
    media: str
    refused: bool = False
    awaiting_after: int | None = None


class Cases:
    """Queries on cases."""

    def __init__(self, tx: "Transaction") -> None:
        self._tx = tx
        self._run = tx.connection.execute
        self._one = tx.connection.scalar

    def add(self, **values: Any) -> int:  # noqa: ANN401 - columns of `cases`
        """Insert a case and return its row number."""
        return insert_row(self._tx.connection, cases, **values)

    def find(self, lookup: bytes) -> AnyRow | None:
        """Return the case with this lookup value, or None."""
        return self._run(select(cases).where(cases.c.lookup == lookup)).one_or_none()

    def read(self, case: int) -> AnyRow:
        """Return the case with this row number."""
        return self._run(select(cases).where(cases.c.id == case)).one()

    def update(self, case: int, **values: Any) -> None:  # noqa: ANN401 - columns of `cases`
        """Update columns of a case."""
        self._run(update(cases).where(cases.c.id == case).values(**values))

    def list_expired(self, hour: Hour, limit: int) -> list[int]:
        """List up to `limit` open cases that have expired by this hour."""
        query = select(cases.c.id).where(cases.c.state == "open", cases.c.expires <= hour)
        return list(self._run(query.limit(limit)).scalars())

    def count_expired(self, hour: Hour) -> tuple[int, int]:
        """Count the open cases that have expired by this hour, and all open cases."""
        query = select(func.count().filter(cases.c.expires <= hour), func.count())
        row = self._run(query.where(cases.c.state == "open")).one()
        return row[0], row[1]

    def delete_closed(self, hour: Hour, limit: int) -> int:
        """Delete up to `limit` cases that were closed before this hour, and return how many.

        Files, signals and other rows of a case are deleted with it.
        """
        due = select(cases.c.id).where(cases.c.closed < hour).limit(limit)
        return self._run(delete(cases).where(cases.c.id.in_(due))).rowcount

    # --- files -------------------------------------------------------------------------------

    def reserve_items(self, count: int) -> list[int]:
        """Return row numbers that no other file will get."""
        return reserve_ids(self._tx.connection, items, count)

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
        insert_rows(self._tx.connection, items, rows)

    def count_items(self, case: int) -> tuple[int, int]:
        """Return the number of live files, and the highest ordinal ever used."""
        query = select(
            func.count().filter(items.c.withdrawn.is_(None)),
            func.coalesce(func.max(items.c.ordinal), 0),
        ).where(items.c.case_id == case)
        row = self._run(query).one()
        return row[0], row[1]

    def withdraw_items(self, case: int, ordinal: int | None, hour: Hour) -> int:
        """Withdraw one file, or all files, of a case: purge the values and log the removals.

        Args:
            case: its row number.
            ordinal: of the file; None for all.
            hour: the time.

        Returns:
            How many files were withdrawn.
        """
        count, done = 0, False
        while not done:
            files, done = self.withdraw_some(case, ordinal, hour, limit=PARAMETERS_MAX)
            count += files
        return count

    def withdraw_files(self, case: int, ordinals: Sequence[int], hour: Hour) -> int:
        """Withdraw files of a case that have one signal each, and return how many.

        Args:
            case: its row number.
            ordinals: of the files, at most `PARAMETERS_MAX`.
            hour: the time.
        """
        live = (items.c.ordinal.in_(ordinals), items.c.withdrawn.is_(None))
        query = select(items.c.id).where(items.c.case_id == case, *live)
        files = list(self._run(query).scalars())
        self._tx.signals.remove([signals.c.item_id.in_(files)], hour)
        self._run(update(items).where(items.c.id.in_(files)).values(withdrawn=hour))
        return len(files)

    def list_live_signals(self, case: int, ordinal: int | None, limit: int) -> Sequence[AnyRow]:
        """List up to `limit` live signals of one file, or of all files of a case, by file."""
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
        expired: bool = False,
        remember: bool = False,
        tags: Mapping[int, bytes] = MappingProxyType({}),
    ) -> tuple[int, bool]:
        """Withdraw up to `limit` signals of one file, or of all files of a case.

        A file is withdrawn with the last of its signals. The arguments are those of
        `withdraw_items` and of `Signals.remove`.

        Returns:
            How many files were withdrawn, and whether no live file is left.
        """
        numbers = [row.id for row in self.list_live_signals(case, ordinal, limit)]
        conditions = (
            signals.c.id.in_(numbers[start : start + PARAMETERS_MAX])
            for start in range(0, len(numbers), PARAMETERS_MAX)
        )
        self._tx.signals.remove(conditions, hour, expired=expired, remember=remember, tags=tags)
        has_live = exists().where(signals.c.item_id == items.c.id, signals.c.value.is_not(None))
        query = update(items).where(*_live_files(case, ordinal), ~has_live)
        return self._run(query.values(withdrawn=hour)).rowcount, len(numbers) < limit

    def item(self, case: int, ordinal: int) -> AnyRow | None:
        """Return the file of a case with this ordinal, or None."""
        query = select(items).where(items.c.case_id == case, items.c.ordinal == ordinal)
        return self._run(query).one_or_none()

    def set_awaiting_after(self, item: int, after: int | None) -> None:
        """Record how many signals of a file were sent so far; None when all of them were."""
        self._run(update(items).where(items.c.id == item).values(awaiting_after=after))

    def has_item(self, case: int, ordinal: int) -> bool:
        """Whether the case has, or had, a file with this ordinal."""
        query = select(items.c.id).where(items.c.case_id == case, items.c.ordinal == ordinal)
        return self._one(query) is not None

    def items(self, case: int) -> Sequence[AnyRow]:
        """List the files of a case, each with its counts of `signals`, `live` and `held` ones."""
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
        """Count the signals of a case, including withdrawn ones."""
        query = select(func.count(signals.c.id)).join(items, items.c.id == signals.c.item_id)
        return int(self._one(query.where(items.c.case_id == case)) or 0)

    def list_live_items(self, case: int, limit: int) -> Sequence[int]:
        """List the ordinals of up to `limit` live files of a case."""
        query = select(items.c.ordinal).where(items.c.case_id == case, items.c.withdrawn.is_(None))
        return self._run(query.order_by(items.c.ordinal).limit(limit)).scalars().all()

    def values(self, case: int, lookups: Sequence[bytes] | None = None) -> dict[bytes, int]:
        """Return the live lookup values of a case, or those among `lookups`, and their files.

        Returns:
            The ordinal of the file by lookup value.
        """
        query = (
            select(signals.c.lookup, items.c.ordinal)
            .join(items, items.c.id == signals.c.item_id)
            .where(items.c.case_id == case, signals.c.lookup.is_not(None))
        )
        if lookups is not None:
            query = query.where(signals.c.lookup.in_(lookups))
        return {row[0]: row[1] for row in self._run(query).all()}

    # --- what platforms did ------------------------------------------------------------------

    def acknowledgement_hours(self, case: int) -> Sequence[AnyRow]:
        """Return when each platform acknowledged each file of a case, and its removal.

        Rows of (item, platform, has, gone): the hour of the first acknowledgement that covers all
        of the file's additions, and of the first one that covers its whole removal; null if there
        is none.

        - An acknowledgement that covers both does not count as one of the additions: the platform
          may never have had the hashes.
        - A removal before the last addition does not count: the file was on hold, and was restored.
        - Nor does a removal while another signal of the file is still matched.
        """
        added = func.max(log.c.id).filter(log.c.op == "add")
        removed = func.max(log.c.id).filter(log.c.op == "remove")
        matched = func.count().filter(signals.c.value.is_not(None), signals.c.held.is_(None))
        files = (
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

        def first_covering(seq: ColumnElement[int]) -> ScalarSelect[int]:
            later = acknowledgements.alias()
            return (
                select(func.min(later.c.seq))
                .where(later.c.platform_id == platforms.c.id, later.c.seq >= seq)
                .scalar_subquery()
            )

        query = (
            select(files.c.id, platforms.c.id, has.c.hour, gone.c.hour)
            .select_from(files.join(platforms, true()))
            .outerjoin(
                has,
                and_(
                    has.c.platform_id == platforms.c.id,
                    has.c.seq == first_covering(files.c.added),
                    or_(files.c.removed.is_(None), has.c.seq < files.c.removed),
                ),
            )
            .outerjoin(
                gone,
                and_(
                    gone.c.platform_id == platforms.c.id,
                    gone.c.seq == first_covering(files.c.removed),
                ),
            )
        )
        return self._run(query).all()

    def verdicts(self, case: int, day: Day | None = None) -> Sequence[AnyRow]:
        """Count verdicts on the files of a case: (item, platform, verdict, count).

        Args:
            case: its row number.
            day: count the verdicts as they were when this day began; None for the current ones.
        """
        verdict: ColumnElement[str] = verdicts.c.verdict
        if day is not None:
            verdict = when((verdicts.c.hour < day, verdict), else_=verdicts.c.earlier)
        given = (
            select(signals.c.item_id, verdicts.c.platform_id, verdict.label("verdict"))
            .join(signals, signals.c.id == verdicts.c.signal_id)
            .join(items, items.c.id == signals.c.item_id)
            .where(items.c.case_id == case)
            .subquery()
        )
        return self._run(
            select(*given.c, func.count()).where(given.c.verdict.is_not(None)).group_by(*given.c)
        ).all()

    def matches(self, case: int, day: Day | None = None) -> Sequence[AnyRow]:
        """Return the match counts of the files of a case: (item, platform, count).

        Args:
            case: its row number.
            day: count matches before this day only; None for all.
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
    conditions = [items.c.case_id == case, items.c.withdrawn.is_(None)]
    return conditions if ordinal is None else [*conditions, items.c.ordinal == ordinal]
