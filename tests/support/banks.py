"""A reproducible feed, and the contents of a bank after each of its pages."""

import hashlib
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from nciihash import feed
from nciihash.bank import Bank
from nciihash.feed import Added, FeedPage, Removed
from nciihash.signals import Match, Media, Signal, SignalType, Variant


class Model:
    """A bank as a dictionary."""

    def __init__(self) -> None:
        self.members: dict[str, Added] = {}

    def __contains__(self, id: object) -> bool:
        return id in self.members

    def add(self, added: Sequence[Added]) -> None:
        self.members.update((entry.id, entry) for entry in added)

    def remove(self, ids: Sequence[str]) -> None:
        for id in ids:
            del self.members[id]

    def matches(self, query: Signal) -> tuple[Match, ...]:
        def distance(entry: Added) -> int:
            a, b = (int.from_bytes(s.value, "big") for s in (entry.signal, query))
            return (a ^ b).bit_count()

        found = [
            Match(e.id, e.item, e.signal.type, e.variant, distance(e))
            for e in self.members.values()
            if e.signal.type is query.type and distance(e) <= query.type.threshold
        ]
        return tuple(sorted(found, key=lambda m: (m.distance, m.id)))


def state(bank: Bank) -> dict[str, Added]:
    entries = list(bank)
    assert len(entries) == len(bank)
    return {entry.id: entry for entry in entries}


def name(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def cursor(number: int) -> str:
    return f"{number:032x}"


@cache
def page(number: int) -> FeedPage:
    """Return page `number` of a feed of additions and removals, the same in each call."""
    draw = random.Random(number)
    entries: list[feed.FeedEntry] = []
    for _ in range(draw.randrange(1, 12)):
        id = name(draw.randrange(200))
        if draw.random() < 0.3:
            entries.append(Removed(id))
        else:
            type = draw.choice(list(SignalType))
            value = Signal(type, draw.randbytes(type.bits // 8))
            quality = draw.randrange(101) if type is SignalType.PDQ else None
            item = name(draw.randrange(20))
            kind = draw.choice(list(Media)), draw.choice(list(Variant))
            entries.append(Added(id, item, value, quality, *kind))
    return FeedPage(tuple(entries), cursor(number), more=draw.random() < 0.5)


_STATES: list[dict[str, Added]] = [{}]


def after(count: int) -> dict[str, Added]:
    """Return the contents of a bank after pages 1 to `count`."""
    while len(_STATES) <= count:
        model = Model()
        model.members = dict(_STATES[-1])
        feed.apply(page(len(_STATES)), model)
        _STATES.append(model.members)
    return _STATES[count]


def number_of(bank: Bank) -> int:
    return int(bank.cursor or "0", 16)


def an_addition(number: int, type: SignalType = SignalType.PDQ) -> Added:
    value = Signal(type, random.Random(number).randbytes(type.bits // 8))
    return Added(name(number), name(-1), value, None, Media.IMAGE, Variant.ORIGINAL)


def an_adding_page(number: int, count: int = 1, *, more: bool = True) -> FeedPage:
    first = number * 1000
    entries = tuple(an_addition(first + i) for i in range(count))
    return FeedPage(entries, cursor(number), more)


def journal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-journal")


def a_bank_of_three_pages(path: Path) -> list[int]:
    """Make a bank with three records in its journal; return the offsets where each ends."""
    with Bank.open(path) as bank:
        ends = [journal_of(path).stat().st_size]
        for number in (1, 2, 3):
            bank.append(an_adding_page(number, 2))
            ends.append(journal_of(path).stat().st_size)
    return ends


def on_disk(path: Path, value: bytes) -> bool:
    return any(value in file.read_bytes() for file in path.parent.iterdir())
