"""Expiry of cases that nobody visited, and deletion of data after its retention period.

The hourly purge expires few cases at a time. If many are due at once, the clock is likely to be
wrong, and nothing is expired without the operator's word (`usual_limit`).
"""

from dataclasses import dataclass
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
# Cases are open for 24 months. If nobody visited them and they were opened evenly, 0.14 % of them
# would expire in a day, and 2 % after the longest outage that needs no confirmation
# (`clearinghouse.maintenance.clock.GAP_DAYS`). 5 % leave a margin for uneven openings.
_USUAL_SHARE: Final = 20  # one case in 20
_USUAL_CASES: Final = 20  # in a small list, one day's cases can be a larger share
_BATCH: Final = 100  # expired cases listed at a time
_DELETED_AT_ONCE: Final = 5  # cases deleted in one transaction
_ACKNOWLEDGEMENTS_AT_ONCE: Final = 1_000  # deleted in one transaction
_WITHDRAWN_AT_ONCE: Final = 150  # signals withdrawn in one transaction; others wait for it


@dataclass(frozen=True, slots=True)
class PurgeResult:
    """The result of a purge.

    Attributes:
        expired: cases that expired.
        taken_out: files removed after verdicts.
        forgotten: closed cases deleted after the retention period.
        replies: replies deleted.
        refused: cases that are due, but too many to expire at once without the operator's word.
            Then nothing else is removed from cases either.
        open_cases: the open cases before the purge.
    """

    expired: int
    taken_out: int
    forgotten: int
    replies: int
    refused: int
    open_cases: int

    @property
    def refusal(self) -> str | None:
        """What was refused, and what the operator can do; None if nothing was."""
        if not self.refused:
            return None
        return (
            f"{self.refused:,} of {self.open_cases:,} open cases have expired at once, more than "
            f"{usual_limit(self.open_cases):,}. None was removed. Check the clock of this machine "
            "(`date -u`), and whether so many cases were opened two years ago. If so, run "
            f"`clearinghouse purge --expire {self.refused}`."
        )


def usual_limit(open_cases: int) -> int:
    """Return how many of the open cases may expire at once without the operator's word."""
    return max(_USUAL_CASES, open_cases // _USUAL_SHARE)


def expire(store: Store, now: datetime) -> int:
    """Withdraw and close all cases that have expired, and return how many."""
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
            _, done = tx.cases.withdraw_some(
                case, None, hour(now), limit=_WITHDRAWN_AT_ONCE, expired=True
            )
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


def purge(store: Store, *, retention_days: int, now: datetime, may_expire: int = 0) -> PurgeResult:
    """Expire cases, and delete closed cases, replies and other data after its retention period.

    Also purges files that verdicts have put on hold, if the operator has not decided in time.

    Args:
        store: the store.
        retention_days: how long closed cases are kept.
        now: the time. Check it first (`clearinghouse.maintenance.clock`).
        may_expire: how many cases may expire at once by the operator's word, if that is more than
            `usual_limit`.
    """
    with store.read() as tx:
        due, open_cases = tx.cases.count_expired(hour(now))
    refused = due > max(usual_limit(open_cases), may_expire)
    closed = taken_out = deleted = 0
    before = hour(now - timedelta(days=retention_days))
    if not refused:
        closed = expire(store, now)
        taken_out = verdict_holds.purge_undecided(store, now=now)
        deleted = _delete_closed(store, before)
        _delete_acknowledgements(store)
    with store.write() as tx:
        tx.reviews.delete_alarms(before)
        replies = tx.replies.delete_before(hour(now - timedelta(seconds=KEPT_SECONDS)))
        if closed or deleted:
            count = closed + deleted
            audit.record(tx.vault, tx, Act.PURGED, count=count, hour=hour(now))
        if not refused:
            tx.withdrawn.delete_before(hour(now - timedelta(days=WITHDRAWN_DAYS)))
        tx.proofs.delete_before(hour(now - timedelta(seconds=2 * LIFE)))
        tx.quotas.delete_before(hour(now - timedelta(days=2)))
    return PurgeResult(
        expired=closed,
        taken_out=taken_out,
        forgotten=deleted,
        replies=replies,
        refused=due if refused else 0,
        open_cases=open_cases,
    )
