"""The feed: the ordered log of additions and removals that every bank follows.

A removal is a type of its own, so that no reader of a page can mistake it for an addition or skip
it: `match` on each entry, and end with `assert_never`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, assert_never

from nciihash.signals import Media, Signal, Variant


@dataclass(frozen=True, slots=True)
class Added:
    """A signal that joins the bank. Its `id` is never reused for another value."""

    id: str
    item: str
    signal: Signal
    quality: int | None
    media: Media
    variant: Variant


@dataclass(frozen=True, slots=True)
class Removed:
    """A signal that leaves the bank: a tombstone with the signal's id, never its value."""

    id: str


FeedEntry = Added | Removed


@dataclass(frozen=True, slots=True)
class FeedPage:
    """Consecutive entries of the log.

    Attributes:
        entries: in log order.
        cursor: the position after the last entry.
        more: whether the log had further entries when the page was built.
    """

    entries: tuple[FeedEntry, ...]
    cursor: str
    more: bool


class SignalSet(Protocol):
    """What a page is applied to: a platform's bank, or the service's own live index."""

    def __contains__(self, id: object) -> bool:
        """Whether a signal with this id is in the set."""

    def add(self, added: Sequence[Added]) -> None:
        """Add signals. Their ids are distinct and not in the set."""

    def remove(self, ids: Sequence[str]) -> None:
        """Remove signals. All of them are in the set."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Counts of a page's entries: signals added, signals removed, entries without effect."""

    added: int
    removed: int
    ignored: int


def apply(page: FeedPage, members: SignalSet) -> Changes:
    """Apply a page's entries in order, and count what they changed.

    Applying a page is idempotent: additions of known ids and removals of unknown ids are counted
    and ignored. A removal of an unknown id is not an error, because once a value is purged the
    service omits its addition from later reads and still sends its removal.
    """
    added = removed = ignored = 0
    for run in _runs(page.entries):
        match run[0]:
            case Added():
                new: dict[str, Added] = {}
                for entry in run:
                    if isinstance(entry, Added) and entry.id not in members:
                        new.setdefault(entry.id, entry)
                members.add(tuple(new.values()))
                added += len(new)
                ignored += len(run) - len(new)
            case Removed():
                gone = tuple(dict.fromkeys(e.id for e in run if e.id in members))
                members.remove(gone)
                removed += len(gone)
                ignored += len(run) - len(gone)
            case _ as never:
                assert_never(never)
    return Changes(added, removed, ignored)


def _runs(entries: Iterable[FeedEntry]) -> Iterable[list[FeedEntry]]:
    """Yield runs of entries of one type, so that a bank can add thousands of signals at once."""
    run: list[FeedEntry] = []
    for entry in entries:
        if run and type(entry) is not type(run[0]):
            yield run
            run = []
        run.append(entry)
    if run:
        yield run
