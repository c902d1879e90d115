"""Queries on platforms, their keys, acknowledgements, matches and verdicts."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    BigInteger,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)

from clearinghouse.database.queries.inserts import insert_row, upsert
from clearinghouse.database.queries.reviews import WITHHELD
from clearinghouse.database.schema import (
    AnyRow,
    acknowledgements,
    items,
    keys,
    log,
    matches,
    platforms,
    reviews,
    signals,
    verdicts,
)
from clearinghouse.times import Day, Hour, day_of

if TYPE_CHECKING:
    from clearinghouse.database.transaction import Transaction


# Built once, since every request of a platform executes it. `veiled` is whether the platform may
# have a veiled list, that is, whether any of its keys has or had the scope `veil`.
_others = keys.alias("others")
_veiled = (
    exists()
    .where(_others.c.platform_id == keys.c.platform_id, _others.c.scopes.contains("veil"))
    .correlate(keys)
)
_FIND_KEY: Final = (
    select(
        keys,
        platforms.c.name,
        platforms.c.secret,
        platforms.c.match_hour,
        platforms.c.match_day,
        _veiled.label("veiled"),
    )
    .join(platforms, platforms.c.id == keys.c.platform_id)
    .where(keys.c.lookup == bindparam("lookup"))
)


class Platforms:
    """Queries on platforms."""

    def __init__(self, tx: "Transaction") -> None:
        self._tx = tx
        self._run = tx.connection.execute
        self._one = tx.connection.scalar

    def add(self, name: str, secret: bytes, hour: Hour) -> int:
        """Insert a platform with its sealed secret, and return its row number."""
        values = {"name": name, "secret": secret, "added": hour}
        return insert_row(self._tx.connection, platforms, **values)

    def find(self, name: str) -> AnyRow | None:
        """Return the platform with this name, or None."""
        return self._run(select(platforms).where(platforms.c.name == name)).one_or_none()

    def name(self, platform: int) -> str:
        """Return the name of a platform."""
        return str(self._one(select(platforms.c.name).where(platforms.c.id == platform)))

    def all(self) -> Sequence[AnyRow]:
        """List all platforms by name."""
        return self._run(select(platforms).order_by(platforms.c.name)).all()

    def limit(self, platform: int, **limits: int | None) -> None:
        """Set `match_hour`, `match_day` or both; None for the limit of the settings."""
        self._run(update(platforms).where(platforms.c.id == platform).values(**limits))

    # --- keys --------------------------------------------------------------------------------

    def add_key(self, **values: Any) -> int:  # noqa: ANN401 - columns of `keys`
        """Insert a key and return its row number."""
        return insert_row(self._tx.connection, keys, **values)

    def find_key(self, lookup: bytes) -> AnyRow | None:
        """Return the key with this lookup value and its platform, or None.

        The platform's `name`, its sealed `secret`, its limits `match_hour` and `match_day`, and
        `veiled`: whether it may have a veiled list.
        """
        return self._run(_FIND_KEY, {"lookup": lookup}).one_or_none()

    def list_keys(self, platform: int | None = None) -> Sequence[AnyRow]:
        """List the keys of one platform, or of all, oldest first."""
        query = select(keys).order_by(keys.c.id)
        if platform is not None:
            query = query.where(keys.c.platform_id == platform)
        return self._run(query).all()

    def revoke_keys(self, platform: int, key: int | None, hour: Hour) -> int:
        """Revoke one key of a platform, or all, and return how many were not revoked before."""
        conditions = [keys.c.platform_id == platform, keys.c.revoked.is_(None)]
        if key is not None:
            conditions.append(keys.c.id == key)
        numbers = list(self._run(select(keys.c.id).where(*conditions)).scalars())
        self._run(update(keys).where(keys.c.id.in_(numbers)).values(revoked=hour))
        self._tx.revoked += numbers
        return len(numbers)

    def revoke_keys_again(self, numbers: Sequence[int], hour: Hour) -> None:
        """Revoke the keys with these row numbers, unless they are revoked."""
        unrevoked = (keys.c.id.in_(numbers), keys.c.revoked.is_(None))
        self._run(update(keys).where(*unrevoked).values(revoked=hour))

    def update_key_uses(self, uses: Mapping[int, Hour]) -> None:
        """Update the hour of the last use of each of these keys."""
        query = update(keys).where(
            keys.c.id == bindparam("number"),
            func.coalesce(keys.c.used, 0) < bindparam("now", type_=BigInteger),
        )
        rows = [{"number": key, "now": hour} for key, hour in uses.items()]
        self._run(query.values(used=bindparam("now", type_=BigInteger)), rows)

    # --- acknowledgements, matches and verdicts ----------------------------------------------

    def acknowledge(self, platform: int, seq: int, hour: Hour) -> None:
        """Insert an acknowledgement, unless the platform has acknowledged this position or more."""
        last = self._one(
            select(func.max(acknowledgements.c.seq)).where(
                acknowledgements.c.platform_id == platform
            )
        )
        if last is not None and last >= seq:
            return
        self._run(insert(acknowledgements).values(platform_id=platform, seq=seq, hour=hour))

    def list_unneeded_acknowledgements(self, limit: int) -> Sequence[tuple[int, int]]:
        """List acknowledgements that no status of a case depends on: (platform, seq).

        The status of a file shows the first acknowledgement at or after its entries in the log. So
        one is needed only if, since the one before it, there is an entry about a file that still
        exists. The newest of each platform is needed too.
        """
        mine = acknowledgements.c.platform_id
        seq = acknowledgements.c.seq
        earlier = func.lag(seq).over(partition_by=mine, order_by=seq)
        later = func.lead(seq).over(partition_by=mine, order_by=seq)
        listed = select(
            mine, seq, func.coalesce(earlier, 0).label("earlier"), later.label("later")
        ).subquery()
        covers = (
            exists()
            .where(log.c.id > listed.c.earlier, log.c.id <= listed.c.seq)
            .where(signals.c.id == log.c.signal_id)
        )
        query = select(listed.c.platform_id, listed.c.seq).where(
            listed.c.later.is_not(None), ~covers
        )
        return [(row.platform_id, row.seq) for row in self._run(query.limit(limit))]

    def delete_acknowledgements(self, rows: Sequence[tuple[int, int]]) -> None:
        """Delete acknowledgements by (platform, seq)."""
        chosen = delete(acknowledgements).where(
            acknowledgements.c.platform_id == bindparam("platform"),
            acknowledgements.c.seq == bindparam("position"),
        )
        self._run(chosen, [{"platform": platform, "position": seq} for platform, seq in rows])

    def unacknowledged_since(self, platform: int) -> Hour | None:
        """Return the hour of the oldest change that a platform has not acknowledged, or None.

        The log has no times; the hour is that of the file, or of the operator's decision to release
        it. A deleted case has no hours any more, so the oldest is taken of the next 100 entries.
        """
        released = (
            select(func.max(reviews.c.closed))
            .where(reviews.c.item_id == items.c.id, reviews.c.kind.in_(WITHHELD))
            .correlate(items)
            .scalar_subquery()
        )
        acknowledged = select(func.coalesce(func.max(acknowledgements.c.seq), 0)).where(
            acknowledgements.c.platform_id == platform
        )
        pending = (
            select(log.c.op, log.c.signal_id)
            .where(log.c.id > acknowledged.scalar_subquery())
            .order_by(log.c.id)
            .limit(100)
            .subquery()
        )
        added = func.coalesce(released, items.c.added)
        hour = case((pending.c.op == "add", added), else_=items.c.withdrawn)
        query = (
            select(func.min(hour))
            .select_from(pending)
            .join(signals, signals.c.id == pending.c.signal_id)
            .join(items, items.c.id == signals.c.item_id)
        )
        since: Hour | None = self._one(query)
        return since

    def add_matches(self, counts: Mapping[tuple[int, int], int], day: Day) -> None:
        """Add to the match counts of (platform, file) on a day; skip files that were deleted."""
        row = upsert(self._tx.connection, matches).from_select(
            ["platform_id", "item_id", "count", "day", "earlier"],
            select(
                bindparam("platform", type_=BigInteger),
                items.c.id,
                bindparam("matches", type_=BigInteger),
                bindparam("today", type_=BigInteger),
                literal(0, BigInteger),
            ).where(items.c.id == bindparam("item")),
        )
        is_new_day = matches.c.day < row.excluded.day
        self._run(
            row.on_conflict_do_update(
                index_elements=["platform_id", "item_id"],
                set_={
                    "count": matches.c.count + row.excluded.count,
                    "day": case((is_new_day, row.excluded.day), else_=matches.c.day),
                    "earlier": case((is_new_day, matches.c.count), else_=matches.c.earlier),
                },
            ),
            [
                {"platform": platform, "item": item, "matches": count, "today": day}
                for (platform, item), count in counts.items()
            ],
        )

    def add_verdict(self, platform: int, signal: int, verdict: str, hour: Hour) -> bool:
        """Insert or replace a verdict; return whether the signal exists."""
        if self._one(select(signals.c.id).where(signals.c.id == signal)) is None:
            return False
        self._tx.log.begin_period()
        record_seq = (
            self._tx.stopncii.allocate_seqs(1, hour)[0]
            if self._tx.stopncii.has_record(signal)
            else None
        )
        values = {"verdict": verdict, "hour": hour, "record_seq": record_seq}
        row = upsert(self._tx.connection, verdicts).values(
            platform_id=platform, signal_id=signal, **values
        )
        # the first verdict of a day keeps the one from before it
        is_new_day = verdicts.c.hour < day_of(hour)
        earlier = case((is_new_day, verdicts.c.verdict), else_=verdicts.c.earlier)
        self._run(
            row.on_conflict_do_update(
                index_elements=["platform_id", "signal_id"], set_=values | {"earlier": earlier}
            )
        )
        return True
