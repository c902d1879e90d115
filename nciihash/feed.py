"""The feed: the ordered log of additions and removals that every bank follows.

A removal is a type of its own, so that no reader of a page can take one for an addition or pass
over it: `match` on the entry, and let `assert_never` hold the rest.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, assert_never

from nciihash.signals import Media, Signal, Variant


@dataclass(frozen=True, slots=True)
class Added:
    """A signal joins the bank. Its `id` never comes back with another value."""

    id: str
    item: str
    signal: Signal
    quality: int | None
    media: Media
    variant: Variant


@dataclass(frozen=True, slots=True)
class Removed:
    """A signal leaves the bank: the tombstone carries its id and never its value."""

    id: str


FeedEntry = Added | Removed


@dataclass(frozen=True, slots=True)
class FeedPage:
    """Consecutive entries of the log, and the cursor behind the last of them.

    `more` says that further entries stood in the log when the page was made.
    """

    entries: tuple[FeedEntry, ...]
    cursor: str
    more: bool


class SignalSet(Protocol):
    """What a page can be applied to: a platform's bank, and the service's own live index."""

    def __contains__(self, id: object) -> bool:
        """Tell whether a signal with this id is in."""

    def add(self, added: Sequence[Added]) -> None:
        """Take in signals whose ids are new and differ from one another."""

    def remove(self, ids: Sequence[str]) -> None:
        """Drop signals, all of which are in."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a page changed: entries that were applied, and those that changed nothing."""

    added: int
    removed: int
    ignored: int


def apply(page: FeedPage, members: SignalSet) -> Changes:
    """Apply a page's entries in their order.

    Applying a page twice changes nothing the second time, since an addition of a known id and a
    removal of an unknown one are counted and ignored. (The service leaves an addition out of later
    reads once its value is purged and still sends the removal, so that an unknown id is no error.)
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
    """Split into runs of one kind, so that a bank can take additions by the thousand."""
    run: list[FeedEntry] = []
    for entry in entries:
        if run and type(entry) is not type(run[0]):
            yield run
            run = []
        run.append(entry)
    if run:
        yield run
