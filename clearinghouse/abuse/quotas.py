"""Limits on how many hashes a key may look up in an hour and in a day, over all workers.

Each worker leases blocks of a key's budget from the database and spends them in memory, so that a
request rarely waits for a write. What is left of a block at the end of its hour, or when a worker
exits, is lost to the key: at most a hundredth of the hourly budget per worker.
"""

import math
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from clearinghouse.database.store import Store
from clearinghouse.errors import BudgetSpent
from clearinghouse.times import Hour, day_of, hour, moment

_SHARE: Final = 100  # blocks in an hour's budget


@dataclass(slots=True)
class _Lease:
    """What a worker may still spend of a key's budget in one hour.

    `more` is None until the budget is exhausted; then it is the time at which there is more.
    `limits` are those of an hour and of a day that it was leased under.
    """

    hour: Hour
    limits: tuple[int, int]
    left: int = 0
    more: datetime | None = None

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
        # Outside the lock, so that other keys do not wait for this write.
        block = max(count, limits[0] // _SHARE)
        granted, more = _lease(store, key, block, limits, now=now)
        with self._lock:
            lease.left += granted
            lease.more = more
            if not lease.spend(count):
                assert more is not None  # noqa: S101 - fewer were granted than requested
                raise BudgetSpent(_seconds(more - now))


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
    more = (
        moment(today) + timedelta(days=1)
        if on_day > day_max
        else moment(current) + timedelta(hours=1)
    )
    return count - excess, more


def _seconds(wait: timedelta) -> float:
    return max(math.ceil(wait.total_seconds()), 1)
