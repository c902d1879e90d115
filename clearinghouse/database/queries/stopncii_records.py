"""The statements behind the StopNCII door, whose clients follow times instead of a cursor.

A *record* is one value with all live signals that hold it. A client keeps the time of the last
record that it saw and asks for what is newer or as new, so these times must never go back, and few
records may share one. They come from *places*: every addition and every verdict gets the next whole
number, at least a hundred times the hour (in seconds) in which it is written. A place divided by a
hundred is a time: it never goes back, at most a hundred records share it, and it tells the hour of
a submission and nothing finer.

A record stands at the last place that concerns it: of its signals, and of the verdicts of the
platform that reads. A record that stays live moves forward only, so that a reader who goes through
the records in their order, however slowly, misses none of them. So `Signals.end`, through which
every signal is taken out, moves what is left of its record.

The place is null for a signal that this format has no word for, or that is withdrawn.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, FromClause, func, or_, select, union_all, update

from clearinghouse.database.queries.contributions import IMPORTED
from clearinghouse.database.queries.inserts import update_rows
from clearinghouse.database.schema import contributions, facts, items, signals, verdicts

PARAMETERS: Final = 500  # in one statement; SQLite may allow no more than 999
SHARED: Final = 100  # records that may carry the same time
SHOWN: Final = frozenset({("image", "pdq"), ("video", "md5")})  # what the format has words for


@dataclass(frozen=True, slots=True)
class Record:
    """One record as a platform is to see it; `value` is sealed for (item, ordinal)."""

    seq: int
    number: int  # row number of its oldest signal
    type: str
    value: bytes
    item: int
    ordinal: int
    verdict: str | None


class StopNCIIRecords:
    """The statements on records and their order."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._run = connection.execute
        self._one = connection.scalar

    # --- places ------------------------------------------------------------------------------

    def last_seq(self) -> int:
        """Give the last place that was taken, even if nothing stands there any more."""
        value = self._one(select(facts.c.value).where(facts.c.name == "record_seq"))
        return int.from_bytes(value or b"", "big")

    def allocate_seqs(self, count: int, hour: int) -> range:
        """Take the next places; they are the caller's when the transaction commits."""
        first = max(self.last_seq() + 1, hour * SHARED)
        last = (first + count - 1).to_bytes(8, "big")
        self._run(update(facts).where(facts.c.name == "record_seq").values(value=last))
        return range(first, first + count)

    def has_record(self, signal: int) -> bool:
        """Tell whether the door shows this signal."""
        query = select(signals.c.id).where(
            signals.c.id == signal, signals.c.record_seq.is_not(None)
        )
        return self._one(query) is not None

    def move(self, lookups: Iterable[bytes], hour: int) -> None:
        """Move what is left of records that lost a signal to new places.

        Without that a record could fall back behind a reader who had not come to it yet.
        """
        newest: list[int] = []
        wanted = sorted(set(lookups))
        for first in range(0, len(wanted), PARAMETERS):
            newest += self._newest(wanted[first : first + PARAMETERS])
        if newest:
            seqs = self.allocate_seqs(len(newest), hour)
            rows = list(zip(seqs, newest, strict=True))
            update_rows(self._connection, signals, ("record_seq",), rows)

    def _newest(self, lookups: Sequence[bytes]) -> Sequence[int]:
        """Name the last signal of each of these records, first-hand and imported ones apart."""
        shown = (
            select(
                signals.c.id,
                signals.c.lookup,
                signals.c.record_seq,
                _is_imported(signals).label("imported"),  # some readers see the others alone
            )
            .where(signals.c.lookup.in_(lookups), signals.c.record_seq.is_not(None))
            .subquery()
        )
        later = func.row_number().over(
            partition_by=(shown.c.lookup, shown.c.imported), order_by=shown.c.record_seq.desc()
        )
        ranked = select(shown.c.id, shown.c.lookup, later.label("later")).subquery()
        query = select(ranked.c.id).where(ranked.c.later == 1).order_by(ranked.c.lookup)
        return self._run(query).scalars().all()

    # --- records -----------------------------------------------------------------------------

    def read(
        self, platform: int, after: int, limit: int, *, first_hand: bool, until: int | None = None
    ) -> list[Record]:
        """Read a platform's records behind a place, in their order.

        Args:
            platform: whose verdicts are shown, and move records.
            after: the place.
            limit: how many.
            first_hand: leave out what was imported from another clearinghouse.
            until: read them as they stood when this was the last place; None for as they stand.
        """

        def shown(seq: ColumnElement[int]) -> ColumnElement[bool]:
            return seq.is_not(None) if until is None else seq <= until

        def alone(table: FromClause) -> list[ColumnElement[bool]]:
            return [~_is_imported(table)] if first_hand else []

        def last(lookup: ColumnElement[bytes], seq: ColumnElement[int]) -> ColumnElement[bool]:
            """Say that in this platform's view nothing of the record stands farther on."""
            later, heard = signals.alias(), verdicts.alias()
            added = select(later.c.id).where(
                later.c.lookup == lookup,
                later.c.record_seq > seq,
                shown(later.c.record_seq),
                *alone(later),
            )
            # One inside the other, and no join: a planner might begin a join with all that the
            # platform ever said, while a record has few signals.
            moving = select(heard.c.signal_id).where(
                heard.c.platform_id == platform,
                heard.c.signal_id == later.c.id,
                heard.c.record_seq > seq,
                shown(heard.c.record_seq),
            )
            said = select(later.c.id).where(
                later.c.lookup == lookup,
                shown(later.c.record_seq),
                moving.correlate_except(heard).exists(),
                *alone(later),
            )
            return ~added.correlate_except(later).exists() & ~said.correlate_except(later).exists()

        added = select(signals.c.record_seq, signals.c.id).where(
            signals.c.record_seq > after,
            shown(signals.c.record_seq),
            last(signals.c.lookup, signals.c.record_seq),
            *alone(signals),
        )
        said = (
            select(verdicts.c.record_seq, signals.c.id)
            .join(signals, signals.c.id == verdicts.c.signal_id)
            .where(
                verdicts.c.platform_id == platform,
                verdicts.c.record_seq > after,
                shown(verdicts.c.record_seq),
                shown(signals.c.record_seq),
                last(signals.c.lookup, verdicts.c.record_seq),
                *alone(signals),
            )
        )
        # Each part is limited by itself, so that neither walks through the whole bank.
        first_added = added.order_by(signals.c.record_seq).limit(limit).subquery()
        first_said = said.order_by(verdicts.c.record_seq).limit(limit).subquery()
        moved = union_all(select(*first_added.c), select(*first_said.c)).subquery()
        others = signals.alias()
        verdict = (
            select(verdicts.c.verdict)
            .select_from(others)
            # an outer join, for the same reason
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
                moved.c.record_seq,
                oldest.scalar_subquery(),
                signals.c.type,
                signals.c.value,
                signals.c.item_id,
                signals.c.ordinal,
                verdict.scalar_subquery(),
            )
            .join(signals, signals.c.id == moved.c.id)
            .order_by(moved.c.record_seq)
            .limit(limit)
        )
        return [Record(*row) for row in self._run(query).all()]

    def signals(self, lookups: Iterable[bytes]) -> list[tuple[bytes, int]]:
        """Name the signals of records, as (look-up value, signal), also those held back.

        The records come in the order of these look-up values, and the signals of each by number.
        """
        wanted = {lookup: index for index, lookup in enumerate(lookups)}
        values = list(wanted)
        known = or_(signals.c.record_seq.is_not(None), signals.c.held.is_not(None))
        found: list[tuple[bytes, int]] = []
        for first in range(0, len(values), PARAMETERS):
            some = values[first : first + PARAMETERS]
            query = select(signals.c.lookup, signals.c.id).where(signals.c.lookup.in_(some), known)
            found += [(row[0], row[1]) for row in self._run(query).all()]
        return sorted(found, key=lambda pair: (wanted[pair[0]], pair[1]))


def _is_imported(table: FromClause) -> ColumnElement[bool]:
    """Say that a row of `signals` belongs to what was imported from another clearinghouse."""
    return (
        select(items.c.id)
        .join(contributions, contributions.c.case_id == items.c.case_id)
        .where(items.c.id == table.c.item_id, contributions.c.kind == IMPORTED)
        .correlate(table)
        .exists()
    )
