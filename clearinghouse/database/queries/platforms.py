"""The statements on platforms, their keys, and what they confirm, match and answer."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    BigInteger,
    bindparam,
    case,
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
from clearinghouse.times import day_of

if TYPE_CHECKING:
    from clearinghouse.database.transaction import Transaction


# What every request of a platform asks, made once. Whether the platform may hold a veiled list: any
# of its keys ever opened one.
_others = keys.alias("others")
_veiled = (
    exists()
    .where(_others.c.platform_id == keys.c.platform_id, _others.c.scopes.contains("veil"))
    .correlate(keys)
)
_FIND_KEY: Final = (
    select(keys, platforms.c.name, platforms.c.secret, _veiled.label("veiled"))
    .join(platforms, platforms.c.id == keys.c.platform_id)
    .where(keys.c.lookup == bindparam("lookup"))
)


class Platforms:
    """The statements on platforms."""

    def __init__(self, tx: "Transaction") -> None:
        self._tx = tx
        self._run = tx.connection.execute
        self._one = tx.connection.scalar

    def add(self, name: str, secret: bytes, hour: int) -> int:
        """Insert a platform and give its row number."""
        values = {"name": name, "secret": secret, "added": hour}
        return insert_row(self._tx.connection, platforms, **values)

    def find(self, name: str) -> AnyRow | None:
        """Give the platform of this name."""
        return self._run(select(platforms).where(platforms.c.name == name)).one_or_none()

    def name(self, platform: int) -> str:
        """Give the name of a platform."""
        return str(self._one(select(platforms.c.name).where(platforms.c.id == platform)))

    def all(self) -> Sequence[AnyRow]:
        """List all platforms by name."""
        return self._run(select(platforms).order_by(platforms.c.name)).all()

    # --- keys --------------------------------------------------------------------------------

    def add_key(self, **values: Any) -> int:  # noqa: ANN401 - columns of `keys`
        """Insert a key and give its row number."""
        return insert_row(self._tx.connection, keys, **values)

    def find_key(self, lookup: bytes) -> AnyRow | None:
        """Give a key with its platform's sealed secret."""
        return self._run(_FIND_KEY, {"lookup": lookup}).one_or_none()

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
        self._tx.revoked += gone
        return len(gone)

    def revoke_keys_again(self, numbers: Sequence[int], hour: int) -> None:
        """Revoke these keys, of whatever platform, where they are not."""
        chosen = (keys.c.id.in_(numbers), keys.c.revoked.is_(None))
        self._run(update(keys).where(*chosen).values(revoked=hour))

    def note_uses(self, uses: Mapping[int, int]) -> None:
        """Note for each of these keys the hour of its last use."""
        query = update(keys).where(
            keys.c.id == bindparam("number"),
            func.coalesce(keys.c.used, 0) < bindparam("now", type_=BigInteger),
        )
        rows = [{"number": key, "now": hour} for key, hour in uses.items()]
        self._run(query.values(used=bindparam("now", type_=BigInteger)), rows)

    # --- what they confirmed, matched and answered -------------------------------------------

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

    def unconfirmed_since(self, platform: int) -> int | None:
        """Give the hour of the oldest change that a platform has not confirmed; None for none.

        The log holds no hours; they are those of the files, or of the operator's decision to
        release what was held back. Of a case that has been forgotten since nothing is left, so some
        of the next changes are looked at as well.
        """
        released = (
            select(func.max(reviews.c.closed))
            .where(reviews.c.item_id == items.c.id, reviews.c.kind.in_(WITHHELD))
            .correlate(items)
            .scalar_subquery()
        )
        confirmed = select(func.coalesce(func.max(acknowledgements.c.seq), 0)).where(
            acknowledgements.c.platform_id == platform
        )
        next_ones = (
            select(log.c.op, log.c.signal_id)
            .where(log.c.id > confirmed.scalar_subquery())
            .order_by(log.c.id)
            .limit(100)
            .subquery()
        )
        added = func.coalesce(released, items.c.added)
        hour = case((next_ones.c.op == "add", added), else_=items.c.withdrawn)
        query = (
            select(func.min(hour))
            .select_from(next_ones)
            .join(signals, signals.c.id == next_ones.c.signal_id)
            .join(items, items.c.id == signals.c.item_id)
        )
        since: int | None = self._one(query)
        return since

    def count_matches(self, counts: Mapping[tuple[int, int], int], day: int) -> None:
        """Add to matches by (platform, file) on a day; a file that is gone by now is skipped."""
        row = upsert(self._tx.connection, matches).from_select(
            ["platform_id", "item_id", "count", "day", "earlier"],
            select(
                bindparam("platform", type_=BigInteger),
                items.c.id,
                bindparam("met", type_=BigInteger),
                bindparam("today", type_=BigInteger),
                literal(0, BigInteger),
            ).where(items.c.id == bindparam("item")),
        )
        begins = matches.c.day < row.excluded.day
        self._run(
            row.on_conflict_do_update(
                index_elements=["platform_id", "item_id"],
                set_={
                    "count": matches.c.count + row.excluded.count,
                    "day": case((begins, row.excluded.day), else_=matches.c.day),
                    "earlier": case((begins, matches.c.count), else_=matches.c.earlier),
                },
            ),
            [
                {"platform": platform, "item": item, "met": count, "today": day}
                for (platform, item), count in counts.items()
            ],
        )

    def add_verdict(self, platform: int, signal: int, verdict: str, hour: int) -> bool:
        """Record a verdict; tell whether the signal is known."""
        if self._one(select(signals.c.id).where(signals.c.id == signal)) is None:
            return False
        self._tx.log.keep_back()
        record_seq = (
            self._tx.stopncii.allocate_seqs(1, hour)[0]
            if self._tx.stopncii.has_record(signal)
            else None
        )
        values = {"verdict": verdict, "hour": hour, "record_seq": record_seq}
        row = upsert(self._tx.connection, verdicts).values(
            platform_id=platform, signal_id=signal, **values
        )
        # said again on a later day, it is known since that day, and was the same before
        begins = verdicts.c.hour < day_of(hour)
        earlier = case((begins, verdicts.c.verdict), else_=verdicts.c.earlier)
        self._run(
            row.on_conflict_do_update(
                index_elements=["platform_id", "signal_id"], set_=values | {"earlier": earlier}
            )
        )
        return True
