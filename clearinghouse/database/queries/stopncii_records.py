"""Queries for the StopNCII API, whose clients follow timestamps instead of a cursor.

A *record* is a value with all live signals that have it. A client stores the timestamp of the last
record that it received, and asks for records at or after it. So timestamps must never go back, and
only a few records may share one. They are derived from a sequence, `record_seq`: every addition and
every verdict is given the next number of it, which is at least a hundred times the current hour (in
Unix seconds). `record_seq` divided by a hundred is the timestamp: it never goes back, at most a
hundred records share it, and it reveals the hour of a submission and nothing finer.

A record is ordered by its largest `record_seq`: of its signals, and of the verdicts on them by the
platform that reads. A live record only moves forward, so that a client which reads the records in
order, however slowly, misses none. Therefore `Signals.remove`, through which every signal is
removed, renumbers the rest of its record.

`record_seq` is null for a signal whose type the format does not have, and for one that was removed
or is on hold.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, FromClause, func, or_, select, union_all, update

from clearinghouse.database.queries.contributions import IMPORTED
from clearinghouse.database.queries.inserts import update_rows
from clearinghouse.database.schema import contributions, facts, items, signals, verdicts
from clearinghouse.times import Hour

PARAMETERS_MAX: Final = 500  # per statement; SQLite allows 999 at least
RECORDS_PER_TIMESTAMP: Final = 100  # records that may share a timestamp
RECORD_TYPES: Final = frozenset({("image", "pdq"), ("video", "md5")})  # (media, type) of the format


@dataclass(frozen=True, slots=True)
class Record:
    """A record as one platform sees it.

    Attributes:
        seq: its position in the platform's order of records.
        number: the row number of its oldest signal.
        type: of the value.
        value: sealed, bound to `item` and `ordinal`.
        item: the file of one of its signals.
        ordinal: of this signal in the file.
        verdict: the platform's last one; None for none.
    """

    seq: int
    number: int
    type: str
    value: bytes
    item: int
    ordinal: int
    verdict: str | None


class StopNCIIRecords:
    """Queries on records and their order."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._run = connection.execute
        self._one = connection.scalar

    # --- the sequence ------------------------------------------------------------------------

    def last_seq(self) -> int:
        """Return the last `record_seq` that was allocated, even if it is not in use any more."""
        value = self._one(select(facts.c.value).where(facts.c.name == "record_seq"))
        return int.from_bytes(value or b"", "big")

    def allocate_seqs(self, count: int, hour: Hour) -> range:
        """Allocate the next `count` numbers in this transaction."""
        first = max(self.last_seq() + 1, hour * RECORDS_PER_TIMESTAMP)
        last = (first + count - 1).to_bytes(8, "big")
        self._run(update(facts).where(facts.c.name == "record_seq").values(value=last))
        return range(first, first + count)

    def has_record(self, signal: int) -> bool:
        """Whether the StopNCII API shows this signal."""
        query = select(signals.c.id).where(
            signals.c.id == signal, signals.c.record_seq.is_not(None)
        )
        return self._one(query) is not None

    def renumber(self, lookups: Iterable[bytes], hour: Hour) -> None:
        """Move records that lost a signal to the end of the order, if they have other signals.

        Otherwise such a record could fall back to before the position of a client that has not read
        it yet, and be missed.
        """
        newest: list[int] = []
        wanted = sorted(set(lookups))
        for start in range(0, len(wanted), PARAMETERS_MAX):
            newest += self._newest_signals(wanted[start : start + PARAMETERS_MAX])
        if newest:
            seqs = self.allocate_seqs(len(newest), hour)
            rows = list(zip(seqs, newest, strict=True))
            update_rows(self._connection, signals, ("record_seq",), rows)

    def _newest_signals(self, lookups: Sequence[bytes]) -> Sequence[int]:
        """Return the last signal of each record, separately for imported and other signals."""
        shown = (
            select(
                signals.c.id,
                signals.c.lookup,
                signals.c.record_seq,
                _is_imported(signals).label("imported"),  # omitted for some clients
            )
            .where(signals.c.lookup.in_(lookups), signals.c.record_seq.is_not(None))
            .subquery()
        )
        rank = func.row_number().over(
            partition_by=(shown.c.lookup, shown.c.imported), order_by=shown.c.record_seq.desc()
        )
        ranked = select(shown.c.id, shown.c.lookup, rank.label("rank")).subquery()
        query = select(ranked.c.id).where(ranked.c.rank == 1).order_by(ranked.c.lookup)
        return self._run(query).scalars().all()

    # --- records -----------------------------------------------------------------------------

    def read(
        self, platform: int, after: int, limit: int, *, first_hand: bool, until: int | None = None
    ) -> list[Record]:
        """List records, as a platform sees them, after a `record_seq`, in order.

        Args:
            platform: whose verdicts are shown and determine the order.
            after: the `record_seq`.
            limit: how many records at most.
            first_hand: omit what was imported from another clearinghouse.
            until: read the records as of when this was the last `record_seq`; None for now.
        """

        def shown(seq: ColumnElement[int]) -> ColumnElement[bool]:
            return seq.is_not(None) if until is None else seq <= until

        def source(table: FromClause) -> list[ColumnElement[bool]]:
            return [~_is_imported(table)] if first_hand else []

        def is_last(lookup: ColumnElement[bytes], seq: ColumnElement[int]) -> ColumnElement[bool]:
            """Whether nothing of the record has a larger `record_seq` for this platform."""
            later, verdict = signals.alias(), verdicts.alias()
            later_signal = select(later.c.id).where(
                later.c.lookup == lookup,
                later.c.record_seq > seq,
                shown(later.c.record_seq),
                *source(later),
            )
            # Nested instead of joined: the planner might begin a join with all verdicts of the
            # platform, while a record has few signals.
            later_verdict = select(verdict.c.signal_id).where(
                verdict.c.platform_id == platform,
                verdict.c.signal_id == later.c.id,
                verdict.c.record_seq > seq,
                shown(verdict.c.record_seq),
            )
            with_later_verdict = select(later.c.id).where(
                later.c.lookup == lookup,
                shown(later.c.record_seq),
                later_verdict.correlate_except(verdict).exists(),
                *source(later),
            )
            return (
                ~later_signal.correlate_except(later).exists()
                & ~with_later_verdict.correlate_except(later).exists()
            )

        by_signal = select(signals.c.record_seq, signals.c.id).where(
            signals.c.record_seq > after,
            shown(signals.c.record_seq),
            is_last(signals.c.lookup, signals.c.record_seq),
            *source(signals),
        )
        by_verdict = (
            select(verdicts.c.record_seq, signals.c.id)
            .join(signals, signals.c.id == verdicts.c.signal_id)
            .where(
                verdicts.c.platform_id == platform,
                verdicts.c.record_seq > after,
                shown(verdicts.c.record_seq),
                shown(signals.c.record_seq),
                is_last(signals.c.lookup, verdicts.c.record_seq),
                *source(signals),
            )
        )
        # each part has its own limit, so that neither scans all records
        first_by_signal = by_signal.order_by(signals.c.record_seq).limit(limit).subquery()
        first_by_verdict = by_verdict.order_by(verdicts.c.record_seq).limit(limit).subquery()
        page = union_all(select(*first_by_signal.c), select(*first_by_verdict.c)).subquery()
        others = signals.alias()
        verdict = (
            select(verdicts.c.verdict)
            .select_from(others)
            # an outer join, so that the planner begins with the signals here too
            .outerjoin(
                verdicts,
                (verdicts.c.signal_id == others.c.id) & (verdicts.c.platform_id == platform),
            )
            .where(others.c.lookup == signals.c.lookup, shown(others.c.record_seq))
            .order_by(verdicts.c.record_seq.desc().nulls_last())
            .limit(1)
        )
        oldest = select(func.min(others.c.id)).where(
            others.c.lookup == signals.c.lookup, shown(others.c.record_seq)
        )
        query = (
            select(
                page.c.record_seq,
                oldest.scalar_subquery(),
                signals.c.type,
                signals.c.value,
                signals.c.item_id,
                signals.c.ordinal,
                verdict.scalar_subquery(),
            )
            .join(signals, signals.c.id == page.c.id)
            .order_by(page.c.record_seq)
            .limit(limit)
        )
        return [Record(*row) for row in self._run(query).all()]

    def signals(self, lookups: Iterable[bytes]) -> list[tuple[bytes, int]]:
        """List the signals of records, including those on hold, as (lookup value, signal).

        They are in the order of these lookup values, and those of a record by row number.
        """
        index = {lookup: number for number, lookup in enumerate(lookups)}
        wanted = list(index)
        in_record = or_(signals.c.record_seq.is_not(None), signals.c.held.is_not(None))
        found: list[tuple[bytes, int]] = []
        for start in range(0, len(wanted), PARAMETERS_MAX):
            batch = wanted[start : start + PARAMETERS_MAX]
            query = select(signals.c.lookup, signals.c.id)
            rows = self._run(query.where(signals.c.lookup.in_(batch), in_record)).all()
            found += [(row[0], row[1]) for row in rows]
        return sorted(found, key=lambda pair: (index[pair[0]], pair[1]))


def _is_imported(table: FromClause) -> ColumnElement[bool]:
    """Whether a row of `signals` was imported from another clearinghouse."""
    return (
        select(items.c.id)
        .join(contributions, contributions.c.case_id == items.c.case_id)
        .where(items.c.id == table.c.item_id, contributions.c.kind == IMPORTED)
        .correlate(table)
        .exists()
    )
