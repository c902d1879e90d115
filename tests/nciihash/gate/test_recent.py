import random

from nciihash.gate.dialects.recent import RecentItems
from nciihash.signals import Hashed, Item, Media, Signal, SignalType


def pdq():
    return Signal(SignalType.PDQ, random.randbytes(32))


def test_items_are_kept_for_a_minute():
    recent = RecentItems()
    first, second = pdq(), pdq()
    item = Item(Media.IMAGE, (Hashed(first),))
    recent.add(first, item, now=100.0)
    assert recent.get(first, now=159.9) is item
    assert recent.get(second, now=159.9) is None
    assert recent.get(first, now=160.0) is None
    assert len(recent) == 0


def test_an_item_that_is_hashed_again_is_kept_for_another_minute():
    recent = RecentItems()
    signals = [pdq(), pdq()]
    items = [Item(Media.IMAGE, (Hashed(signal),)) for signal in signals]
    for now, index in ((0.0, 0), (1.0, 1), (50.0, 0)):
        recent.add(signals[index], items[index], now=now)
    assert recent.get(signals[0], now=100.0) is items[0]
    assert len(recent) == 1


def test_there_are_never_many():
    recent = RecentItems()
    signals = [pdq() for _ in range(1000)]
    for signal in signals:
        recent.add(signal, Item(Media.IMAGE, (Hashed(signal),)), now=0.0)
    assert len(recent) == 128
    assert recent.get(signals[-1], now=0.0) is not None
    assert recent.get(signals[0], now=0.0) is None
