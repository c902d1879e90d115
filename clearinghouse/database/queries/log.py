"""The statements behind the upkeep: the log, the journal, keys, repeated requests, the trail."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Row,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    select,
    update,
)

from clearinghouse.database.queries.stopncii_records import Records
from clearinghouse.database.schema import (
    acknowledgements,
    audit,
    cases,
    contributions,
    facts,
    items,
    keys,
    log,
    platforms,
    replies,
    signals,
)

AnyRow = Row[*tuple[Any, ...]]

# Made once, since every transaction begins with it: making a statement takes longer than it does.
# There are never more than a dozen facts.
_FACTS: Final = select(facts.c.name, facts.c.value)


class Upkeep(Records):
    """The statements, as a part of `clearinghouse.database.transaction.Transaction`."""

    # --- the log and its epoch ---------------------------------------------------------------

    def log_removals(self, signals: Iterable[int]) -> None:
        """Tell every reader of the log that these signals are gone."""
        self._log("remove", signals)

    def _log(self, op: Literal["add", "remove"], signals: Iterable[int]) -> None:
        """Append to the log; everything that changes what platforms may hold comes through here."""
        rows = [{"op": op, "signal_id": number} for number in signals]
        if rows:
            self._run(insert(log), rows)
            self.grew = True
            self.removed |= op == "remove"

    def facts(self, names: Iterable[str]) -> dict[str, bytes]:
        """Give those of these facts that there are."""
        wanted = set(names)
        return {name: value for name, value in self._run(_FACTS).all() if name in wanted}

    def set_fact(self, name: str, value: bytes | None) -> None:
        """Put a fact in the place of an older one; None for none."""
        self._run(delete(facts).where(facts.c.name == name))
        if value is not None:
            self._run(insert(facts).values(name=name, value=value))

    def epoch(self) -> int:
        """Give the epoch of the log."""
        epoch = self._one(select(facts.c.value).where(facts.c.name == "epoch"))
        return int.from_bytes(epoch or b"", "big")

    # --- what a restored backup must lose again ----------------------------------------------

    def removals(self, after: int, limit: int) -> list[tuple[int, int]]:
        """List removals behind a place in the log, as (place, signal)."""
        query = select(log.c.id, log.c.signal_id).where(log.c.id > after, log.c.op == "remove")
        return [(row[0], row[1]) for row in self._run(query.order_by(log.c.id).limit(limit)).all()]

    def withdraw_signals(self, numbers: Sequence[int], hour: int) -> int:
        """Withdraw those of these signals that are live, wherever they are, and count them.

        A file none of whose signals is left is withdrawn, and a survivor's case without files is
        closed.
        """
        live = and_(signals.c.id.in_(numbers), signals.c.value.is_not(None))
        rows = self._run(select(signals.c.id, signals.c.item_id).where(live)).all()
        if not rows:
            return 0
        shrunk = self._end_signals(signals.c.id.in_([row.id for row in rows]))
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
        self.move_records(shrunk, hour)
        return len(rows)

    def _end_signals(self, chosen: ColumnElement[bool]) -> list[bytes]:
        """Purge the values of live signals and log their removal.

        Gives the look-up values of the records that the StopNCII door showed, which must then be
        moved.
        """
        live = and_(chosen, signals.c.value.is_not(None))
        columns = (signals.c.id, signals.c.lookup, signals.c.place)
        rows = self._run(select(*columns).where(live).order_by(signals.c.id)).all()
        self.log_removals([row.id for row in rows])
        self._run(
            update(signals)
            .where(chosen)
            .values(value=None, lookup=None, next_lookup=None, quality=None, place=None)
        )
        return [row.lookup for row in rows if row.place is not None]

    def revoke_again(self, numbers: Sequence[int], hour: int) -> None:
        """Revoke these keys, of whatever platform, where they are not."""
        chosen = (keys.c.id.in_(numbers), keys.c.revoked.is_(None))
        self._run(update(keys).where(*chosen).values(revoked=hour))

    # --- whether platforms still follow -------------------------------------------------------

    def note_uses(self, uses: Mapping[int, int]) -> None:
        """Note for each of these keys the hour of its last use."""
        query = update(keys).where(
            keys.c.id == bindparam("number"),
            func.coalesce(keys.c.used, 0) < bindparam("now", type_=BigInteger),
        )
        rows = [{"number": key, "now": hour} for key, hour in uses.items()]
        self._run(query.values(used=bindparam("now", type_=BigInteger)), rows)

    def unconfirmed_since(self, platform: int) -> int | None:
        """Give the hour of the oldest change that a platform has not confirmed; None for none.

        The log holds no hours; they are those of the files. Of a case that has been forgotten
        since nothing is left, so some of the next changes are looked at as well.
        """
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
        hour = case((next_ones.c.op == "add", items.c.added), else_=items.c.withdrawn)
        query = (
            select(func.min(hour))
            .select_from(next_ones)
            .join(signals, signals.c.id == next_ones.c.signal_id)
            .join(items, items.c.id == signals.c.item_id)
        )
        since: int | None = self._one(query)
        return since

    # --- another master key ------------------------------------------------------------------

    def sealed_signals(self, after: int, limit: int) -> Sequence[AnyRow]:
        """List live signals behind this row that have no look-up value under the next key yet."""
        columns = (signals.c.id, signals.c.item_id, signals.c.ordinal, signals.c.type)
        chosen = (signals.c.value.is_not(None), signals.c.next_lookup.is_(None))
        query = select(*columns, signals.c.value).where(signals.c.id > after, *chosen)
        return self._run(query.order_by(signals.c.id).limit(limit)).all()

    def reseal_signals(self, rows: Sequence[dict[str, Any]]) -> None:
        """Replace `sealed` values, and give the look-up values of the next key, by `number`."""
        if rows:
            query = update(signals).where(signals.c.id == bindparam("number"))
            self._run(query.values(value=bindparam("sealed"), next_lookup=bindparam("found")), rows)

    def take_next_lookups(self) -> None:
        """Let all signals be found by the look-up values of the next key from now on."""
        self._run(
            update(signals)
            .where(signals.c.next_lookup.is_not(None))
            .values(lookup=signals.c.next_lookup, next_lookup=None)
        )

    def reseal_platform(self, platform: int, secret: bytes) -> None:
        """Replace a platform's sealed secret by the same under another key."""
        self._run(update(platforms).where(platforms.c.id == platform).values(secret=secret))

    # --- replies to idempotent requests ------------------------------------------------------

    def find_reply(self, lookup: bytes) -> AnyRow | None:
        """Give the sealed answer to an earlier request."""
        return self._run(select(replies).where(replies.c.lookup == lookup)).one_or_none()

    def add_reply(self, lookup: bytes, body: bytes, status: int, reply: bytes, hour: int) -> None:
        """Keep the sealed answer to this request."""
        self._run(
            insert(replies).values(lookup=lookup, body=body, status=status, reply=reply, made=hour)
        )

    def forget_replies(self, hour: int) -> int:
        """Delete answers from before this hour."""
        return self._run(delete(replies).where(replies.c.made < hour)).rowcount

    # --- the trail of what operators did -----------------------------------------------------

    def add_audit(
        self, number: int, act: str, subject: str, amount: int, hour: int, digest: bytes
    ) -> None:
        """Append an entry."""
        row = {"number": number, "act": act, "subject": subject, "amount": amount, "hour": hour}
        self._run(insert(audit).values(**row, digest=digest))

    def last_audit(self) -> AnyRow | None:
        """Give the last entry."""
        return self._run(select(audit).order_by(audit.c.number.desc()).limit(1)).one_or_none()

    def read_audit(self, after: int, limit: int) -> Sequence[AnyRow]:
        """Read entries behind this one, in their order."""
        query = select(audit).where(audit.c.number > after)
        return self._run(query.order_by(audit.c.number).limit(limit)).all()
