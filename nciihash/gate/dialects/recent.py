"""Files that a caller has had hashed, and now looks up by one of their hashes."""

from collections import OrderedDict
from typing import Final

from nciihash.signals import Item, Signal

_SECONDS: Final = 60.0
_ITEMS: Final = 128


class RecentItems:
    """The items of the last minute that had a match, in memory, each by one of its hashes.

    Callers of Hasher-Matcher-Actioner send a file to be hashed, and then look up the hash. One hash
    finds fewer edits than the parts of the picture do, and says nothing about its detail. So the
    item of a file that has a match is kept until then. Of other files nothing is kept.
    """

    def __init__(self) -> None:
        self._items: OrderedDict[Signal, tuple[float, Item]] = OrderedDict()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._items)

    def add(self, signal: Signal, item: Item, *, now: float) -> None:
        """Keep an item.

        Args:
            signal: the hash by which it is going to be looked up.
            item: its hashes and parts.
            now: monotonic time in seconds.
        """
        self._items.pop(signal, None)
        self._items[signal] = now, item
        self._drop(now)

    def get(self, signal: Signal, *, now: float) -> Item | None:
        """Return the item of a hash; None if there is none."""
        self._drop(now)
        found = self._items.get(signal)
        return None if found is None else found[1]

    def _drop(self, now: float) -> None:
        while self._items:
            added, _ = next(iter(self._items.values()))
            if len(self._items) <= _ITEMS and now - added < _SECONDS:
                return
            self._items.popitem(last=False)
