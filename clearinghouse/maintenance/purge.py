"""Expiry of cases that nobody visited, and deletion of what is past its time."""

from datetime import datetime, timedelta
from typing import Final

from clearinghouse.abuse import verdict_holds
from clearinghouse.abuse.proof_of_work import LIFE
from clearinghouse.database import audit
from clearinghouse.database.audit import Act
from clearinghouse.database.queries.replies import KEPT_SECONDS
from clearinghouse.database.store import Store
from clearinghouse.times import hour
from nciihash.wire import CaseState

WITHDRAWN_DAYS: Final = 400  # for which a withdrawn value is remembered against contributions
_BATCH: Final = 100  # cases closed in one transaction, so that writers between them are not kept


def expire(store: Store, now: datetime) -> int:
    """Close the cases that nobody visited in time, withdrawing all they hold; give their number."""
    total = 0
    while True:
        with store.write() as tx:
            due = tx.cases.expired(hour(now), _BATCH)
            for case in due:
                tx.cases.withdraw_items(case, None, hour(now))
                tx.cases.update(case, state=CaseState.EXPIRED.value, closed=hour(now))
        total += len(due)
        if len(due) < _BATCH:
            return total


def purge(store: Store, *, retention_days: int, now: datetime) -> dict[str, int]:
    """Expire what is due, and forget closed cases and repeatable answers past their time.

    What verdicts have held back for some days without a decision is purged as well.
    """
    expired = expire(store, now)
    taken_out = verdict_holds.carry_out(store, now=now)
    with store.write() as tx:
        past = hour(now - timedelta(days=retention_days))
        forgotten = tx.cases.forget(past)
        tx.reviews.forget_alarms(past)
        replies = tx.replies.forget(hour(now) - KEPT_SECONDS)
        if expired or forgotten:
            count = expired + forgotten
            audit.record(store.vault, tx, Act.PURGED, count=count, hour=hour(now))
        tx.withdrawn.forget_before(hour(now - timedelta(days=WITHDRAWN_DAYS)))
        tx.proofs.forget(hour(now) - 2 * LIFE)
        tx.quotas.forget(hour(now - timedelta(days=2)))
    return {
        "expired": expired,
        "taken_out": taken_out,
        "forgotten": forgotten,
        "replies": replies,
    }
