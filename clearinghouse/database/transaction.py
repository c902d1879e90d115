"""All SQL of the service: the statements that one transaction can run, named by their purpose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    ScalarSelect,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    true,
    update,
)

from clearinghouse.database.queries.advocates import Assistance
from clearinghouse.database.queries.log import AnyRow
from clearinghouse.database.queries.signals import NewItem, NewSignals
from clearinghouse.database.queries.stopncii_records import PARAMETERS
from clearinghouse.database.schema import (
    acknowledgements,
    cases,
    contributions,
    items,
    keys,
    log,
    matches,
    platforms,
    signals,
    verdicts,
)

__all__ = ["AnyRow", "LogEntry", "NewItem", "NewSignals", "Transaction"]

# What every request of a platform asks, made once.
_FIND_KEY: Final = (
    select(keys, platforms.c.name, platforms.c.secret)
    .join(platforms, platforms.c.id == keys.c.platform_id)
    .where(keys.c.lookup == bindparam("lookup"))
)
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


class Transaction(Assistance):
    """The statements, named after what they are for."""

    # --- cases -------------------------------------------------------------------------------

    def add_case(self, **values: Any) -> int:  # noqa: ANN401 - columns of `cases`
        """Insert a case and give its row number."""
        return _key(self._run(insert(cases).values(**values)).inserted_primary_key)

    def find_case(self, lookup: bytes) -> AnyRow | None:
        """Give the case with this look-up value."""
        return self._run(select(cases).where(cases.c.lookup == lookup)).one_or_none()

    def read_case(self, case: int) -> AnyRow:
        """Give the case with this row number."""
        return self._run(select(cases).where(cases.c.id == case)).one()

    def update_case(self, case: int, **values: Any) -> None:  # noqa: ANN401 - columns of `cases`
        """Change columns of a case."""
        self._run(update(cases).where(cases.c.id == case).values(**values))

    def expired_cases(self, hour: int, limit: int) -> list[int]:
        """Name open cases that ran out before this hour."""
        query = select(cases.c.id).where(cases.c.state == "open", cases.c.expires <= hour)
        return list(self._run(query.limit(limit)).scalars())

    def forget_cases(self, hour: int) -> int:
        """Delete cases that were closed before this hour, with all that hangs on them."""
        return self._run(delete(cases).where(cases.c.closed < hour)).rowcount

    def count_items(self, case: int) -> tuple[int, int]:
        """Give the number of files not withdrawn and the highest ordinal ever given."""
        query = select(
            func.count().filter(items.c.withdrawn.is_(None)),
            func.coalesce(func.max(items.c.ordinal), 0),
        ).where(items.c.case_id == case)
        row = self._run(query).one()
        return row[0], row[1]

    def withdraw_items(self, case: int, ordinal: int | None, hour: int) -> int:
        """Withdraw one file or all of a case: purge its values, log each removal, count files."""
        chosen = [items.c.case_id == case, items.c.withdrawn.is_(None)]
        if ordinal is not None:
            chosen.append(items.c.ordinal == ordinal)
        gone = list(self._run(select(items.c.id).where(*chosen).order_by(items.c.id)).scalars())
        shrunk: list[bytes] = []
        for first in range(0, len(gone), PARAMETERS):
            some = gone[first : first + PARAMETERS]
            shrunk += self._end_signals(signals.c.item_id.in_(some))
            self._run(update(items).where(items.c.id.in_(some)).values(withdrawn=hour))
        self.move_records(shrunk, hour)
        return len(gone)

    def has_item(self, case: int, ordinal: int) -> bool:
        """Tell whether the case ever had a file with this number."""
        query = select(items.c.id).where(items.c.case_id == case, items.c.ordinal == ordinal)
        return self._one(query) is not None

    def case_items(self, case: int) -> Sequence[AnyRow]:
        """List a case's files with the numbers of their signals."""
        query = (
            select(items, func.count(signals.c.id).label("signals"))
            .join(signals, signals.c.item_id == items.c.id)
            .where(items.c.case_id == case)
            .group_by(items.c.id)
            .order_by(items.c.ordinal)
        )
        return self._run(query).all()

    def case_confirmations(self, case: int) -> Sequence[AnyRow]:
        """Tell which platform confirmed which file of a case, and its removal, and when.

        Rows of (item, platform, has, gone): the hour of the first confirmation of the whole file
        and of its whole removal, null where there is none. A confirmation that covers both does not
        count for the first: that platform may never have held the hashes.
        """
        held = (
            select(
                items.c.id,
                func.max(log.c.id).filter(log.c.op == "add").label("added"),
                func.max(log.c.id).filter(log.c.op == "remove").label("removed"),
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

    def case_verdicts(self, case: int) -> Sequence[AnyRow]:
        """Count verdicts on a case's files: (item, platform, verdict, count)."""
        return self._run(
            select(signals.c.item_id, verdicts.c.platform_id, verdicts.c.verdict, func.count())
            .join(signals, signals.c.id == verdicts.c.signal_id)
            .join(items, items.c.id == signals.c.item_id)
            .where(items.c.case_id == case)
            .group_by(signals.c.item_id, verdicts.c.platform_id, verdicts.c.verdict)
        ).all()

    def case_matches(self, case: int) -> Sequence[AnyRow]:
        """Give match counts of a case's files: (item, platform, count)."""
        return self._run(
            select(matches.c.item_id, matches.c.platform_id, matches.c.count)
            .join(items, items.c.id == matches.c.item_id)
            .where(items.c.case_id == case)
        ).all()

    # --- the log -----------------------------------------------------------------------------

    def head(self) -> int:
        """Give the number of the log's last entry, 0 when it is empty."""
        return self._one(select(func.coalesce(func.max(log.c.id), 0))) or 0

    def read_log(self, after: int, limit: int, *, live_until: int | None = None) -> list[LogEntry]:
        """Read entries in their order, with what is left of the signals they speak of.

        Args:
            after: the place behind which to begin.
            limit: how many.
            live_until: only additions of signals that are still live, up to this place.
        """
        columns: list[ColumnElement[Any]] = [
            log.c.id,
            log.c.op,
            log.c.signal_id,
            signals.c.item_id,
            signals.c.ordinal,
            signals.c.type,
            signals.c.value,
            signals.c.quality,
            items.c.media,
            signals.c.variant,
        ]
        query = (
            select(*columns)
            .outerjoin(signals, signals.c.id == log.c.signal_id)
            .outerjoin(items, items.c.id == signals.c.item_id)
            .where(log.c.id > after)
            .order_by(log.c.id)
            .limit(limit)
        )
        if live_until is not None:
            live = (log.c.op == "add", signals.c.value.is_not(None))
            query = query.where(log.c.id <= live_until, *live)
        return [LogEntry(*row) for row in self._run(query).all()]

    def removed_after(self, seq: int) -> set[int]:
        """Name the signals whose removal came behind this place."""
        return set(self._run(_REMOVED_AFTER, {"seq": seq}).scalars())

    # --- platforms ---------------------------------------------------------------------------

    def add_platform(self, name: str, secret: bytes, hour: int) -> int:
        """Insert a platform and give its row number."""
        row = insert(platforms).values(name=name, secret=secret, added=hour)
        return _key(self._run(row).inserted_primary_key)

    def find_platform(self, name: str) -> AnyRow | None:
        """Give the platform of this name."""
        return self._run(select(platforms).where(platforms.c.name == name)).one_or_none()

    def platform_name(self, platform: int) -> str:
        """Give the name of a platform."""
        return str(self._one(select(platforms.c.name).where(platforms.c.id == platform)))

    def list_platforms(self) -> Sequence[AnyRow]:
        """List all platforms by name."""
        return self._run(select(platforms).order_by(platforms.c.name)).all()

    def add_key(self, **values: Any) -> int:  # noqa: ANN401 - columns of `keys`
        """Insert a key and give its row number."""
        return _key(self._run(insert(keys).values(**values)).inserted_primary_key)

    def list_keys(self, platform: int | None = None) -> Sequence[AnyRow]:
        """List the keys of one platform, or of all, oldest first."""
        query = select(keys).order_by(keys.c.id)
        if platform is not None:
            query = query.where(keys.c.platform_id == platform)
        return self._run(query).all()

    def revoke_keys(self, platform: int, key: int | None, hour: int) -> int:
        """Revoke one key of a platform or all that are valid; give their number."""
        chosen = [keys.c.platform_id == platform, keys.c.revoked.is_(None)]
        if key is not None:
            chosen.append(keys.c.id == key)
        gone = list(self._run(select(keys.c.id).where(*chosen)).scalars())
        self._run(update(keys).where(keys.c.id.in_(gone)).values(revoked=hour))
        self.revoked += gone
        return len(gone)

    def find_key(self, lookup: bytes) -> AnyRow | None:
        """Give a key with its platform's sealed secret."""
        return self._run(_FIND_KEY, {"lookup": lookup}).one_or_none()

    def acknowledge(self, platform: int, seq: int, hour: int) -> None:
        """Keep a place that a platform confirmed, unless it confirmed a later one before."""
        best = self._one(
            select(func.max(acknowledgements.c.seq)).where(
                acknowledgements.c.platform_id == platform
            )
        )
        if best is not None and best >= seq:
            return
        self._run(insert(acknowledgements).values(platform_id=platform, seq=seq, hour=hour))

    def count_matches(self, counts: Mapping[tuple[int, int], int]) -> None:
        """Add to matches by (platform, file); a file that is gone by now is passed over."""
        row = self._upsert(matches).from_select(
            ["platform_id", "item_id", "count"],
            select(
                bindparam("platform", type_=BigInteger),
                items.c.id,
                bindparam("met", type_=BigInteger),
            ).where(items.c.id == bindparam("item")),
        )
        self._run(
            row.on_conflict_do_update(
                index_elements=["platform_id", "item_id"],
                set_={"count": matches.c.count + row.excluded.count},
            ),
            [
                {"platform": platform, "item": item, "met": count}
                for (platform, item), count in counts.items()
            ],
        )

    def add_verdict(self, platform: int, signal: int, verdict: str, hour: int) -> bool:
        """Record a verdict; tell whether the signal is known."""
        if self._one(select(signals.c.id).where(signals.c.id == signal)) is None:
            return False
        place = self.take_places(1, hour)[0] if self.has_place(signal) else None
        values = {"verdict": verdict, "hour": hour, "place": place}
        row = self._upsert(verdicts).values(platform_id=platform, signal_id=signal, **values)
        self._run(
            row.on_conflict_do_update(index_elements=["platform_id", "signal_id"], set_=values)
        )
        return True

    # --- figures -----------------------------------------------------------------------------

    def figures(self) -> dict[str, int]:
        """Count what an operator may know."""
        own = cases.c.id.not_in(select(contributions.c.case_id))  # opened by survivors
        counts = {
            "cases_open": select(func.count()).where(cases.c.state == "open", own),
            "cases_closed": select(func.count()).where(cases.c.state != "open", own),
            "items": select(func.count()).where(items.c.withdrawn.is_(None)),
            "signals": select(func.count()).where(signals.c.value.is_not(None)),
            "signals_not_from_survivors": select(func.count())
            .select_from(signals)
            .join(items, items.c.id == signals.c.item_id)
            .join(contributions, contributions.c.case_id == items.c.case_id)
            .where(signals.c.value.is_not(None)),
            "log": select(func.count()).select_from(log),
            "platforms": select(func.count()).select_from(platforms),
            "verdicts": select(func.count()).select_from(verdicts),
            "matches": select(func.coalesce(func.sum(matches.c.count), 0)),
        }
        return {name: int(self._one(query) or 0) for name, query in counts.items()}


def _key(inserted: AnyRow | None) -> int:
    assert inserted is not None  # noqa: S101 - an insert of one row always has a key
    number: int = inserted[0]
    return number
