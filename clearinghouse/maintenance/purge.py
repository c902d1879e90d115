"""Expiry of cases that nobody visited, and deletion of what is past its time."""

from datetime import datetime, timedelta
from typing import Final

from clearinghouse.abuse import verdict_holds
from clearinghouse.abuse.proof_of_work import LIFE
from clearinghouse.database import audit
from clearinghouse.database.audit import Act
from clearinghouse.database.queries.replies import KEPT_SECONDS
from clearinghouse.database.store import Store
from clearinghouse.times import Hour, hour
from nciihash.wire import CaseState

WITHDRAWN_DAYS: Final = 400  # for which a withdrawn value is remembered against contributions
_BATCH: Final = 100  # cases looked for at once
_FORGOTTEN: Final = 5  # cases deleted in one transaction
_SIGNALS: Final = 150  # withdrawn in one transaction, so that nobody else has to wait long


def expire(store: Store, now: datetime) -> int:
    """Close the cases that nobody visited in time, withdrawing all they hold; give their number."""
    total = 0
    while True:
        with store.read() as tx:
            due = tx.cases.expired(hour(now), _BATCH)
        for case in due:
            _close(store, case, now)
        total += len(due)
        if len(due) < _BATCH:
            return total


def _close(store: Store, case: int, now: datetime) -> None:
    """Withdraw what an expired case holds, then close it, unless its holder visits it meanwhile."""
    done = False
    while not done:
        with store.write() as tx:
            row = tx.cases.read(case)
            if row.state != CaseState.OPEN or row.expires > hour(now):
                return
            _, done = tx.cases.withdraw_some(case, None, hour(now), limit=_SIGNALS)
            if done:
                tx.cases.update(case, state=CaseState.EXPIRED.value, closed=hour(now))


def _forget(store: Store, before: Hour) -> int:
    """Delete cases that were closed before an hour, a few at a time, and count them."""
    total = 0
    while True:
        with store.write() as tx:
            gone = tx.cases.forget(before, _FORGOTTEN)
        total += gone
        if gone < _FORGOTTEN:
            return total


def purge(store: Store, *, retention_days: int, now: datetime) -> dict[str, int]:
    """Expire what is due, and forget closed cases and repeatable answers past their time.

    What verdicts have held back for some days without a decision is purged as well.
    """
    expired = expire(store, now)
    taken_out = verdict_holds.carry_out(store, now=now)
    past = hour(now - timedelta(days=retention_days))
    forgotten = _forget(store, past)
    with store.write() as tx:
        tx.reviews.forget_alarms(past)
        replies = tx.replies.forget(hour(now - timedelta(seconds=KEPT_SECONDS)))
        if expired or forgotten:
            count = expired + forgotten
            audit.record(tx.vault, tx, Act.PURGED, count=count, hour=hour(now))
        tx.withdrawn.forget_before(hour(now - timedelta(days=WITHDRAWN_DAYS)))
        tx.proofs.forget(hour(now - timedelta(seconds=2 * LIFE)))
        tx.quotas.forget(hour(now - timedelta(days=2)))
    return {
        "expired": expired,
        "taken_out": taken_out,
        "forgotten": forgotten,
        "replies": replies,
    }
