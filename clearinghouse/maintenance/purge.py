"""Expiry of cases that nobody visited, and deletion of data after its retention period."""

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

WITHDRAWN_DAYS: Final = 400  # how long contributors cannot add a withdrawn value again
_BATCH: Final = 100  # expired cases listed at a time
_DELETED_AT_ONCE: Final = 5  # cases deleted in one transaction
_ACKNOWLEDGEMENTS_AT_ONCE: Final = 1_000  # deleted in one transaction
_WITHDRAWN_AT_ONCE: Final = 150  # signals withdrawn in one transaction; others wait for it


def expire(store: Store, now: datetime) -> int:
    """Withdraw and close the cases that have expired, and return how many."""
    total = 0
    while True:
        with store.read() as tx:
            due = tx.cases.list_expired(hour(now), _BATCH)
        for case in due:
            _close(store, case, now)
        total += len(due)
        if len(due) < _BATCH:
            return total


def _close(store: Store, case: int, now: datetime) -> None:
    """Withdraw the files of an expired case, then close it, unless its holder visits meanwhile."""
    done = False
    while not done:
        with store.write() as tx:
            row = tx.cases.read(case)
            if row.state != CaseState.OPEN or row.expires > hour(now):
                return
            _, done = tx.cases.withdraw_some(case, None, hour(now), limit=_WITHDRAWN_AT_ONCE)
            if done:
                tx.cases.update(case, state=CaseState.EXPIRED.value, closed=hour(now))


def _delete_closed(store: Store, before: Hour) -> int:
    """Delete the cases that were closed before an hour, and return how many."""
    total = 0
    while True:
        with store.write() as tx:
            count = tx.cases.delete_closed(before, _DELETED_AT_ONCE)
        total += count
        if count < _DELETED_AT_ONCE:
            return total


def _delete_acknowledgements(store: Store) -> None:
    """Delete acknowledgements that were needed only for cases that have been deleted."""
    while True:
        with store.read() as tx:  # takes longer than other writers should wait
            unneeded = tx.platforms.list_unneeded_acknowledgements(_ACKNOWLEDGEMENTS_AT_ONCE)
        if not unneeded:
            return
        with store.write() as tx:
            tx.platforms.delete_acknowledgements(unneeded)


def purge(store: Store, *, retention_days: int, now: datetime) -> dict[str, int]:
    """Expire cases, and delete closed cases, replies and other data after its retention period.

    Also purges files that verdicts have put on hold, if the operator has not decided in time.

    Args:
        store: the store.
        retention_days: how long closed cases are kept.
        now: the time.

    Returns:
        The number of cases that expired, of files removed after verdicts, of cases deleted, and of
        replies deleted.
    """
    closed = expire(store, now)
    taken_out = verdict_holds.purge_undecided(store, now=now)
    before = hour(now - timedelta(days=retention_days))
    deleted = _delete_closed(store, before)
    _delete_acknowledgements(store)
    with store.write() as tx:
        tx.reviews.delete_alarms(before)
        replies = tx.replies.delete_before(hour(now - timedelta(seconds=KEPT_SECONDS)))
        if closed or deleted:
            count = closed + deleted
            audit.record(tx.vault, tx, Act.PURGED, count=count, hour=hour(now))
        tx.withdrawn.delete_before(hour(now - timedelta(days=WITHDRAWN_DAYS)))
        tx.proofs.delete_before(hour(now - timedelta(seconds=2 * LIFE)))
        tx.quotas.delete_before(hour(now - timedelta(days=2)))
    return {
        "expired": closed,
        "taken_out": taken_out,
        "forgotten": deleted,
        "replies": replies,
    }
