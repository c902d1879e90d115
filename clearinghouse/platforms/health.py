"""Monitoring of platforms: last use of each key, and alerts about silent or lagging platforms.

A platform that stops reading the feed misses new hashes and still matches withdrawn ones, and
nobody else would notice. Only platforms with a scope that opens the feed are monitored: the others
send requests only when their users upload something.
"""

import threading
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from clearinghouse.database.transaction import Transaction
from clearinghouse.platforms.keys import FOLLOWING, read_scopes
from clearinghouse.times import Hour, hour, moment

SILENT: Final = timedelta(days=1)  # without a request
LAGGING: Final = timedelta(days=2)  # without an acknowledgement; also the legal takedown period
EXPIRING: Final = timedelta(days=30)  # until its last key expires


class Concern(StrEnum):
    """The kind of an alert. The values are labels of a metric and appear in JSON output."""

    SILENT = "silent"
    LAGGING = "behind"
    EXPIRING = "expiring"


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert about a platform, for the operator.

    Attributes:
        platform: its name.
        concern: the kind of alert.
        since: a Unix time, rounded down to the hour. For `SILENT` of the last request, or of the
            newest key if there was none; for `LAGGING` of the oldest change that was not
            acknowledged; for `EXPIRING` when the last key expires.
    """

    platform: str
    concern: Concern
    since: Hour

    @property
    def text(self) -> str:
        """The alert as a sentence."""
        when = f"{moment(self.since):%Y-%m-%d %H:00} UTC"
        match self.concern:
            case Concern.SILENT:
                return f"{self.platform} can read the feed but has sent no request since {when}."
            case Concern.LAGGING:
                return f"{self.platform} has not acknowledged a change of {when}."
            case Concern.EXPIRING:
                return f"The last key of {self.platform} expires at {when}. Run `platform rotate`."


class KeyUses:
    """Last use of each key by the hour, buffered in memory until it is written. Thread-safe."""

    def __init__(self) -> None:
        self._latest: dict[int, Hour] = {}
        self._unwritten: dict[int, Hour] = {}
        self._lock = threading.Lock()

    def record(self, key: int, now: datetime) -> None:
        """Record that a key, named by its row number, was used in this hour."""
        at = hour(now)
        if self._latest.get(key) == at:  # safe without the lock: reading a dict is atomic
            return
        with self._lock:
            self._latest[key] = self._unwritten[key] = at

    def take(self) -> dict[int, Hour]:
        """Return the unwritten hours by key, and clear them."""
        with self._lock:
            uses, self._unwritten = self._unwritten, {}
        return uses

    def restore(self, uses: dict[int, Hour]) -> None:
        """Restore uses that `take` returned and that could not be written."""
        with self._lock:
            self._unwritten = uses | self._unwritten


def alerts(tx: Transaction, *, now: datetime) -> list[Alert]:
    """Return the current alerts, ordered by the platforms' names."""
    valid = defaultdict(list)
    for key in tx.platforms.list_keys():
        if key.revoked is None:
            valid[key.platform_id].append(key)
    found = []
    for platform in tx.platforms.all():
        keys = valid[platform.id]
        if not keys:
            continue  # it has left, or is a clearinghouse whose hashes are imported
        last = max(key.expires for key in keys)
        if last <= hour(now + EXPIRING):
            found.append(Alert(platform.name, Concern.EXPIRING, last))
        if last <= hour(now) or all(FOLLOWING.isdisjoint(read_scopes(key.scopes)) for key in keys):
            continue
        seen = max(key.used or key.added for key in keys)
        if seen < hour(now - SILENT):
            found.append(Alert(platform.name, Concern.SILENT, seen))
        oldest = tx.platforms.unacknowledged_since(platform.id)
        # changes from before the platform was added count from when it was added
        if oldest is not None and (since := max(oldest, platform.added)) < hour(now - LAGGING):
            found.append(Alert(platform.name, Concern.LAGGING, since))
    return found
