"""What a gate looks up uploads in: a bank that follows the feed, or a fixed one."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from nciihash.feed import Added
from nciihash.sdk.follower import Follower, VeiledFollower
from nciihash.sdk.lookup import LookupResult, look_up
from nciihash.sdk.matcher import Matcher, bank_of
from nciihash.signals import Item, Level, SignalType

_VERSION_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class BankState:
    """The state of a bank.

    Attributes:
        signals: how many signals it has.
        as_of: when it last had everything in the feed, in Unix seconds; None if never.
        current: whether it has the last page of the feed.
        version: 16 hexadecimal digits that change whenever the bank does.
        veiled: whether it has only a part of each hash.
        error: why the feed cannot be read or stored at the moment; None while it can.
    """

    signals: int
    as_of: float | None
    current: bool
    version: str
    veiled: bool = False
    error: str | None = None


class GateBank(Protocol):
    """What a gate needs of a bank."""

    def look_up(self, items: Sequence[Item], level: Level) -> list[LookupResult]:
        """Return the matches of each item.

        Raises:
            ServiceError: the bank is veiled, and the clearinghouse does not confirm candidates.
        """

    def asks(self, item: Item) -> bool:
        """Whether `look_up` asks the clearinghouse about an item, which may take seconds."""

    def entry(self, id: str) -> Added | None:
        """Return a signal by its id; None if it is not in the bank."""

    def state(self) -> BankState:
        """Return the state of the bank."""


class FollowedBank:
    """A bank that a follower keeps up to date.

    Args:
        follower: of whole hashes, or of veiled ones; started and ended by the caller.
        clock: Unix time in seconds.
    """

    def __init__(
        self, follower: Follower | VeiledFollower, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._follower = follower
        self._clock = clock
        self._matchers: dict[Level, Matcher] = {}
        if isinstance(follower, Follower):
            self._matchers = {level: Matcher(follower, level=level) for level in Level}

    def look_up(self, items: Sequence[Item], level: Level) -> list[LookupResult]:
        """Return the matches of each item; of a veiled bank, those that are confirmed."""
        if isinstance(self._follower, VeiledFollower):
            return look_up(items, self._follower.query)
        bank = self._follower.bank
        return self._matchers[level].look_up(
            items, lambda item: bank.count_variants(SignalType.PDQ, item)
        )

    def asks(self, item: Item) -> bool:
        """Whether an item resembles something in a veiled bank, so that it has to be confirmed."""
        if not isinstance(self._follower, VeiledFollower):
            return False
        return self._follower.asks([h.signal for h in item.hashes if not h.plain])

    def entry(self, id: str) -> Added | None:
        """Return a signal by its id; None if it is not in the bank."""
        return self._follower.bank.entry(id)

    def state(self) -> BankState:
        """Return the state of the bank."""
        health = self._follower.health()
        return BankState(
            signals=health.signals,
            as_of=None if health.age is None else self._clock() - health.age,
            current=health.current,
            version=_version((self._follower.bank.cursor or "").encode()),
            veiled=isinstance(self._follower, VeiledFollower),
            error=health.error,
        )


class StaticBank:
    """A bank of some items that never changes.

    Args:
        items: by name; `Match.item` is the name.
        clock: Unix time in seconds.
    """

    def __init__(
        self, items: Mapping[str, Item], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._matchers = {level: Matcher.from_items(items, level=level) for level in Level}
        self._contents = bank_of(items.values())  # with the same ids as the matchers'
        signals = [h.signal.value for item in items.values() for h in item.hashes]
        self._size, self._version = len(signals), _version(b"".join(signals))
        self._clock = clock

    def look_up(self, items: Sequence[Item], level: Level) -> list[LookupResult]:
        """Return the matches of each item."""
        return self._matchers[level].look_up(items)

    def asks(self, item: Item) -> bool:  # noqa: ARG002 - of `GateBank`
        """Whether the clearinghouse is asked about an item: never."""
        return False

    def entry(self, id: str) -> Added | None:
        """Return a signal by its id; None if it is not in the bank."""
        return self._contents.entry(id)

    def state(self) -> BankState:
        """Return the state of the bank, which is always current."""
        return BankState(
            signals=self._size,
            as_of=self._clock(),
            current=True,
            version=self._version,
        )


def _version(content: bytes) -> str:
    return hashlib.blake2s(content, digest_size=_VERSION_BYTES).hexdigest()
