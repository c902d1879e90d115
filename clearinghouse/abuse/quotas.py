"""Limits on how many hashes a key may look up in an hour and in a day, over all workers.

Each worker leases blocks of a key's budget from the database and spends them in memory, so that a
request rarely waits for a write. What is left of a block at the end of its hour, or when a worker
exits, is lost to the key: at most a hundredth of the hourly budget per worker.

Looking up writes nothing else, so it continues while the database cannot be written, because its
disk is full or it is read-only: for `UNSAVED_MAX`, each worker grants blocks within its own count
of the hour, and leases them later. After that, lookups are refused until the database can be
written: without the limit, a key of a stopped budget could be used as an oracle.
"""

import logging
import math
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from clearinghouse.database.engines import to_refusal
from clearinghouse.database.store import Store
from clearinghouse.errors import BudgetSpent, DatabaseUnavailable
from clearinghouse.times import Hour, day_of, hour, moment

_log = logging.getLogger(__name__)

UNSAVED_MAX: Final = timedelta(minutes=10)  # for which blocks are granted without a lease
_SHARE: Final = 100  # blocks in an hour's budget


@dataclass(slots=True)
class _Lease:
    """What a worker may still spend of a key's budget in one hour.

    `more` is None until the budget is exhausted; then it is the time at which there is more.
    `limits` are those of an hour and of a day that it was leased under. `granted` counts what was
    added to `left` in the hour, and `unsaved` how much of it the database does not know of.
    """

    hour: Hour
    limits: tuple[int, int]
    left: int = 0
    granted: int = 0
    unsaved: int = 0
    more: datetime | None = None

    def add(self, leased: int | None, block: int) -> None:
        """Add lookups: those that were leased, or up to `block` without a lease if that is None."""
        if leased is None:
            leased = max(min(block, min(self.limits) - self.granted), 0)
            self.unsaved += leased
        self.granted += leased
        self.left = max(self.left + leased, 0)

    def spend(self, count: int) -> bool:
        """Spend lookups. Return False, and spend nothing, if fewer are left."""
        if self.left < count:
            return False
        self.left -= count
        return True


class Budgets:
    """The budgets that this worker has leased. Thread-safe.

    Args:
        hour: hashes that a key may look up in an hour (UTC), unless its platform has a limit.
        day: hashes that a key may look up in a day (UTC), likewise.
    """

    def __init__(self, *, hour: int, day: int) -> None:
        self._hour = hour
        self._day = day
        self._leases: dict[int, _Lease] = {}  # by key
        self._lock = threading.Lock()
        self._failing_since: datetime | None = None

    @property
    def failing(self) -> bool:
        """Whether the last lease could not be saved, so that lookups are granted without one."""
        return self._failing_since is not None

    def take(
        self,
        store: Store,
        key: int,
        count: int,
        *,
        now: datetime,
        hour_max: int | None = None,
        day_max: int | None = None,
    ) -> None:
        """Spend lookups of a key, all of them or none.

        Args:
            store: the database.
            key: its row number.
            count: how many lookups.
            now: the time.
            hour_max: the platform's own limit in an hour; None for the default.
            day_max: the platform's own limit in a day; None for the default.

        Raises:
            BudgetSpent: fewer are left; it carries the time to wait.
            SQLAlchemyError: the database has not been writable for `UNSAVED_MAX`, or other writers
                hold its lock.
        """
        limits = (
            self._hour if hour_max is None else hour_max,
            self._day if day_max is None else day_max,
        )
        with self._lock:
            lease = self._leases.get(key)
            if lease is None or lease.hour != hour(now):
                lease = self._leases[key] = _Lease(hour(now), limits)
            elif lease.limits != limits:  # the operator has changed them
                lease.limits, lease.left, lease.more = limits, 0, None
            if lease.spend(count):
                return
            if lease.more is not None:
                raise BudgetSpent(_seconds(lease.more - now))
            unsaved, lease.unsaved = lease.unsaved, 0
        # Outside the lock, so that other keys do not wait for this write.
        block = max(count, limits[0] // _SHARE)
        try:
            granted, more = _lease(store, key, unsaved + block, limits, now=now)
        except SQLAlchemyError as error:
            with self._lock:
                lease.unsaved += unsaved
            if not isinstance(to_refusal(error), DatabaseUnavailable) or self._is_too_long(now):
                raise
            leased, more = None, None
        else:
            self._failing_since = None
            leased = granted - unsaved
        with self._lock:
            lease.add(leased, block)
            lease.more = more
            if not lease.spend(count):
                raise BudgetSpent(_seconds((more or _next_hour(lease.hour)) - now))

    def _is_too_long(self, now: datetime) -> bool:
        """Note that the database cannot be written, and return whether that is so for too long."""
        if self._failing_since is None:
            self._failing_since = now
            _log.warning("Budgets of lookups cannot be saved; they are counted in memory.")
        return now - self._failing_since > UNSAVED_MAX


def _next_hour(current: Hour) -> datetime:
    return moment(current) + timedelta(hours=1)


def _lease(
    store: Store, key: int, count: int, limits: tuple[int, int], *, now: datetime
) -> tuple[int, datetime | None]:
    """Lease up to `count` lookups.

    Args:
        store: the database.
        key: its row number.
        count: how many lookups.
        limits: of an hour and of a day.
        now: the time.

    Returns:
        How many were leased and, if fewer than `count`, when there are more.
    """
    hour_max, day_max = limits
    current = hour(now)
    today = day_of(current)
    with store.write() as tx:
        in_hour, on_day = tx.quotas.lease(key, current, today, count)
        excess = min(max(in_hour - hour_max, on_day - day_max, 0), count)
        if excess:
            tx.quotas.return_lease(key, current, excess)
    if not excess:
        return count, None
    more = moment(today) + timedelta(days=1) if on_day > day_max else _next_hour(current)
    return count - excess, more


def _seconds(wait: timedelta) -> float:
    return max(math.ceil(wait.total_seconds()), 1)
