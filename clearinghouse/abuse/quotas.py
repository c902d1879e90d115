"""How many hashes a key may look for: so many in an hour and on a day, at all workers together.

Each worker leases blocks of a key's budget from the database and spends them in memory, so that a
request seldom waits for a write. What is left of a block at the end of its hour, or when a worker
ends, is lost to the key: at most a hundredth of the hour's budget for each worker.
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

    `more` is set once the database has no more to lease: when there will be.
    """

    hour: Hour
    left: int = 0
    more: datetime | None = None

    def spend(self, count: int) -> bool:
        """Spend some; tell whether there was enough."""
        if self.left < count:
            return False
        self.left -= count
        return True


class Budgets:
    """What this worker has leased; used from any thread.

    Args:
        hour: hashes that a key may look for in an hour (UTC).
        day: on a day (UTC).
    """

    def __init__(self, *, hour: int, day: int) -> None:
        self._hour = hour
        self._day = day
        self._leases: dict[int, _Lease] = {}  # by key
        self._lock = threading.Lock()

    def take(self, store: Store, key: int, count: int, *, now: datetime) -> None:
        """Spend some look-ups of a key, all of them or none.

        Raises:
            BudgetSpent: it has not as many left; says when there is more.
        """
        with self._lock:
            lease = self._leases.get(key)
            if lease is None or lease.hour != hour(now):
                lease = self._leases[key] = _Lease(hour(now))
            if lease.spend(count):
                return
            if lease.more is not None:
                raise BudgetSpent(_seconds(lease.more - now))
        # Outside the lock: others must not wait for this key's write.
        granted, more = self._lease(store, key, max(count, self._hour // _SHARE), now=now)
        with self._lock:
            lease.left += granted
            lease.more = more
            if not lease.spend(count):
                assert more is not None  # noqa: S101 - less than was asked for was granted
                raise BudgetSpent(_seconds(more - now))

    def _lease(
        self, store: Store, key: int, count: int, *, now: datetime
    ) -> tuple[int, datetime | None]:
        """Lease as many, or what is left; give their number and, if less, when there is more."""
        this = hour(now)
        midnight = day_of(this)
        with store.write() as tx:
            in_hour, on_day = tx.quotas.lease(key, this, midnight, count)
            beyond = min(max(in_hour - self._hour, on_day - self._day, 0), count)
            if beyond:
                tx.quotas.unlease(key, this, beyond)
        if not beyond:
            return count, None
        more = (
            moment(midnight) + timedelta(days=1)
            if on_day > self._day
            else moment(this) + timedelta(hours=1)
        )
        return count - beyond, more


def _seconds(wait: timedelta) -> float:
    return max(math.ceil(wait.total_seconds()), 1)
