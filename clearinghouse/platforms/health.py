"""Whether platforms still come: when each key was used, and what the operator should ask about.

A platform that stops following goes on matching withdrawn hashes and misses new ones, and nobody
would notice. Only a platform that may follow is expected to come; one that asks at each upload
comes when something is uploaded.
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
BEHIND: Final = timedelta(days=2)  # without confirming a change: what the law gives a site, too
EXPIRING: Final = timedelta(days=30)  # before the last of its keys runs out


class Concern(StrEnum):
    """What is wrong."""

    SILENT = "silent"
    BEHIND = "behind"
    EXPIRING = "expiring"


@dataclass(frozen=True, slots=True)
class Alert:
    """Something about a platform that the operator should look at.

    `since` is the hour of its last request (or of its key, if there was none), of the oldest change
    that it has not confirmed, or of the end of its last key, in seconds since 1970.
    """

    platform: str
    concern: Concern
    since: Hour

    @property
    def words(self) -> str:
        """Say it in a sentence."""
        when = f"{moment(self.since):%Y-%m-%d %H:00} UTC"
        match self.concern:
            case Concern.SILENT:
                return f"{self.platform} may follow the feed and has not asked since {when}."
            case Concern.BEHIND:
                return f"{self.platform} has not confirmed a change of {when}."
            case Concern.EXPIRING:
                return f"The last key of {self.platform} ends at {when}: `platform rotate` it."


class KeyUses:
    """Which keys were used and in which hour, until that is written down; used from any thread."""

    def __init__(self) -> None:
        self._known: dict[int, Hour] = {}
        self._new: dict[int, Hour] = {}
        self._lock = threading.Lock()

    def note(self, key: int, now: datetime) -> None:
        """Note a use."""
        at = hour(now)
        if self._known.get(key) == at:  # without the lock: a dictionary is read in one step
            return
        with self._lock:
            self._known[key] = self._new[key] = at

    def take(self) -> dict[int, Hour]:
        """Hand over the hours that are new since the last time, by key."""
        with self._lock:
            new, self._new = self._new, {}
        return new

    def give_back(self, uses: dict[int, Hour]) -> None:
        """Take back what could not be written."""
        with self._lock:
            self._new = uses | self._new


def alerts(tx: Transaction, *, now: datetime) -> list[Alert]:
    """List what is wrong, platform by platform in the order of their names."""
    held = defaultdict(list)
    for key in tx.platforms.list_keys():
        if key.revoked is None:
            held[key.platform_id].append(key)
    found = []
    for platform in tx.platforms.all():
        keys = held[platform.id]
        if not keys:
            continue  # it has left, or is a clearinghouse that we follow
        last = max(key.expires for key in keys)
        if last <= hour(now + EXPIRING):
            found.append(Alert(platform.name, Concern.EXPIRING, last))
        if last <= hour(now) or all(FOLLOWING.isdisjoint(read_scopes(key.scopes)) for key in keys):
            continue
        seen = max(key.used or key.added for key in keys)
        if seen < hour(now - SILENT):
            found.append(Alert(platform.name, Concern.SILENT, seen))
        behind = tx.platforms.unconfirmed_since(platform.id)
        # what it was given when it was added waits for as long as it has been there
        if behind is not None and (since := max(behind, platform.added)) < hour(now - BEHIND):
            found.append(Alert(platform.name, Concern.BEHIND, since))
    return found
