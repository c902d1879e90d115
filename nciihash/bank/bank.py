"""A platform's bank on disk: what it holds and how far it has followed the feed, together.

A bank named FILE is four files in one folder, all of mode 0600:

    FILE           the snapshot: signals, names and the cursor (nciihash.bank.snapshot)
    FILE-journal   the pages since (nciihash.bank.journal)
    FILE-lock      held by the process that writes; otherwise empty and without meaning
    .FILE….tmp     a snapshot or journal in the making; what a crash leaves is deleted at the next
                   opening

A page is written to the journal and fsynced before it is applied in memory. The journal is folded
into a new snapshot when it has grown past `JOURNAL_BYTES` and an eighth of the snapshot. First the
snapshot is renamed into its place, then an empty journal of its generation; after a crash between
the two, the journal that is found belongs to an earlier generation, so all its pages are in the
snapshot and it is replaced.

How long a withdrawn value stays: it leaves the files with the next fold, and the bank folds because
of it
- before `append` returns, in banks of up to `SMALL` signals;
- in larger ones (where a fold takes a second a million signals), when the page that removes it or a
  later one is the feed's last for now (`more` is false) and the last fold is `REST` seconds ago;
- when `WITHDRAWN_MAX` removals wait;
- when the bank is closed, opened for writing, or asked to `compact`.
A follower that hears nothing new calls `append` with the empty page, so that in a bank of any size
a withdrawn value is gone after about `REST` seconds. What the file system and the disk keep of
deleted files is theirs; readers that have the old snapshot mapped keep it until they `refresh`.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from nciihash.bank import files
from nciihash.bank import snapshot as snapshots
from nciihash.bank.contents import BankContents, Replacement
from nciihash.bank.journal import Journal, encode
from nciihash.bank.snapshot import Snapshot, Table
from nciihash.errors import BankError
from nciihash.feed import Added, Changes, FeedPage
from nciihash.signals import Match, Signal, SignalType, Variant

JOURNAL_BYTES: Final = 4 << 20  # below this a journal is not worth a fold
SMALL: Final = 100_000  # signals in a bank that is folded at every removal
REST: Final = 60.0  # seconds between folds of larger banks on account of removals
WITHDRAWN_MAX: Final = 1_000  # removals after which no fold waits

_TRIES: Final = 100  # how often a reader starts again because the writer folded meanwhile


class Bank:
    """Signals on disk, searchable; made with `open` or `read`.

    Use it as a context manager, or call `close`. One thread at a time changes it; any number may
    query meanwhile.
    """

    def __init__(
        self, path: Path, lock: int | None, snapshot: Snapshot, journal: Journal | None
    ) -> None:
        self.path = path
        self._lock = lock  # None: opened for reading
        self._snapshot = snapshot
        self._journal = journal
        self._cursor = snapshot.cursor
        self._holdings = BankContents(snapshot.tables)
        self._changing = threading.Lock()
        self._failed = False
        self._clock: Callable[[], float] = time.monotonic
        self._folded = self._clock()

    @classmethod
    def open(
        cls, path: str | PathLike[str], *, clock: Callable[[], float] = time.monotonic
    ) -> Self:
        """Open a bank for following, or create an empty one (its folder must exist).

        The journal is replayed, and a write at its end that a crash interrupted is cut off.

        Args:
            path: the bank's file; an empty file counts as none.
            clock: gives seconds; tells when `REST` is over.

        Raises:
            BankLocked: another process has it open for following.
            BankCorrupt: its files are damaged, foreign or newer.
            OSError: the disk refuses.
        """
        path = Path(path).resolve()  # by whatever name, it is the same bank, and stays it
        lock = files.take_lock(path)
        try:
            files.delete_remains(path)
            if not path.exists() or not path.stat().st_size:
                files.create(path)
            snapshot = Snapshot.open(path)
            journal = files.open_journal(path, snapshot, write=True)
            if journal is None:
                journal = Journal.create(
                    files.journal_path(path), snapshot.lineage, snapshot.generation
                )
            bank = cls(path, lock, snapshot, journal)
        except BaseException:
            os.close(lock)
            raise
        try:
            bank._clock = clock
            bank._folded = clock()
            bank._replay(journal)
            journal.cut()
            if bank.withdrawn:
                bank.compact()
        except BaseException:
            bank._failed = True
            bank.close()
            raise
        return bank

    @classmethod
    def read(cls, path: str | PathLike[str]) -> Self:
        """Open a bank for matching, beside a follower that may be running.

        What is seen is the bank after some page; `refresh` brings it up to date.

        Raises:
            BankError: there is no bank.
            BankCorrupt: its files are damaged, foreign or newer.
            OSError: the files cannot be opened.
        """
        path = Path(path).resolve()  # by whatever name, it is the same bank, and stays it
        if not path.exists():
            raise BankError(f"There is no bank at {path}. Follow a clearinghouse into it first.")
        for _ in range(_TRIES):
            snapshot = Snapshot.open(path)
            journal = files.open_journal(path, snapshot, write=False)
            if snapshot.is_at(path):
                break
            if journal is not None:
                journal.close()
        else:
            raise BankError(f"{path} changes faster than it can be read. Try again.")
        bank = cls(path, None, snapshot, journal)
        if journal is not None:
            try:
                bank._replay(journal)
            except BaseException:
                bank.close()
                raise
        return bank

    @property
    def cursor(self) -> str | None:
        """Give the place in the feed behind the last page, None before the first."""
        return self._cursor

    @property
    def withdrawn(self) -> int:
        """Count the removed signals whose values the files still hold (see the module's text)."""
        return self._holdings.withdrawn

    def __len__(self) -> int:
        """Count the signals."""
        return len(self._holdings)

    def __contains__(self, id: object) -> bool:
        """Tell whether a signal with this id is in."""
        return id in self._holdings

    def __iter__(self) -> Iterator[Added]:
        """Go through the signals, as the feed gave them, in no particular order."""
        return iter(self._holdings)

    def entry(self, id: str) -> Added | None:
        """Give a signal as the feed gave it, or None if it is not in."""
        return self._holdings.entry(id)

    def query(self, signals: Sequence[Signal]) -> list[tuple[Match, ...]]:
        """Find, for each signal, the bank's signals of its type within the type's threshold.

        Returns:
            One tuple for each signal, sorted by distance, then by id.
        """
        return self._holdings.query(signals)

    def kinds(self, type: SignalType, item: str) -> Counter[Variant]:
        """Count the hashes of one type that an item has, by the copies that they are of.

        Looks through the whole bank: some ten milliseconds a million hashes.
        """
        return self._holdings.kinds(type, item)

    @property
    def lineage(self) -> bytes:
        """Give the 16 random bytes by which a bank is told from every other."""
        return self._snapshot.lineage

    def tables(self) -> list[Table]:
        """Make a table of each type of signal, for a copy of the bank as it is now."""
        return self._holdings.folded()

    def append(self, page: FeedPage) -> Changes:
        """Apply a page, durably: when this returns, page and cursor survive a power cut.

        An empty page with the cursor that the bank has already writes nothing.

        Raises:
            ValueError: an id or item is not as the wire writes it; nothing was written.
            OSError: the disk is full or failing; the page is to be sent again.
            BankError: opened for reading, closed, or an earlier write failed.
        """
        payload = encode(page)
        with self._change() as journal:
            if not page.entries and page.cursor == self._cursor:
                applied = Changes(0, 0, 0)
            else:
                journal.append(payload)
                applied = self._holdings.apply(page)
                self._cursor = page.cursor
            if self._fold_is_due(journal, more=page.more):
                self._fold(journal, self._holdings, self._cursor)
        return applied

    def compact(self) -> None:
        """Fold the journal into a new snapshot now: what was removed has left the files then.

        Raises:
            OSError: the disk is full or failing.
            BankError: opened for reading, closed, or an earlier write failed.
        """
        with self._change() as journal:
            self._fold(journal, self._holdings, self._cursor)

    def replacement(self) -> Replacement:
        """Begin a new bank that `adopt` will put in the place of this one.

        It lives in memory until then, so that a crash leaves this bank and nothing else.
        """
        return Replacement()

    def adopt(self, replacement: Replacement) -> None:
        """Put a complete replacement in the place of what the bank holds, durably and at once.

        After a crash the bank is the old or the new one. Do not use the replacement afterwards.

        Raises:
            ValueError: not a single page was appended to the replacement.
            OSError: the disk is full or failing.
            BankError: opened for reading, closed, or an earlier write failed.
        """
        if replacement.cursor is None:
            raise ValueError("The replacement is empty: append the feed's pages to it first.")
        with self._change() as journal:
            self._fold(journal, replacement.holdings, replacement.cursor)

    def refresh(self) -> bool:
        """Take in what the follower wrote since; tell whether there was anything.

        For a bank that was opened with `read`; one opened for following is always up to date.

        Raises:
            BankError: the bank was closed.
            BankCorrupt: its files are damaged, foreign or newer.
            OSError: the files cannot be opened.
        """
        if self._lock is not None:
            return False
        with self._changing:
            if self._failed:
                raise BankError("This bank was closed.")
            before = self._cursor, self._snapshot.generation
            journal = self._journal
            if journal is not None and self._snapshot.is_at(self.path):
                self._replay(journal)
            else:
                now = type(self).read(self.path)
                if journal is not None:
                    journal.close()
                self._snapshot, self._journal = now._snapshot, now._journal
                self._holdings, self._cursor = now._holdings, now._cursor
            return before != (self._cursor, self._snapshot.generation)

    def close(self) -> None:
        """Fold if removed signals wait for it, and let other processes have the bank."""
        try:
            if self._lock is not None and not self._failed and self.withdrawn:
                self.compact()
        finally:
            self._failed = True
            if self._journal is not None:
                self._journal.close()
                self._journal = None
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def __enter__(self) -> Self:
        """Give the bank itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    @contextmanager
    def _change(self) -> Iterator[Journal]:
        """Guard a change: when it fails, disk and memory may differ, and no other may follow."""
        with self._changing:
            if self._lock is None or self._journal is None:
                raise BankError("This bank was opened for reading, or closed: open it to follow.")
            if self._failed:
                raise BankError("An earlier write to this bank failed: close it and open it again.")
            self._failed = True
            yield self._journal
            self._failed = False

    def _replay(self, journal: Journal) -> None:
        for page in journal.read():
            self._holdings.apply(page)
            self._cursor = page.cursor

    def _fold_is_due(self, journal: Journal, *, more: bool) -> bool:
        if journal.offset > max(JOURNAL_BYTES, self._snapshot.size // 8):
            return True
        withdrawn = self.withdrawn
        if not withdrawn:
            return False
        rested = not more and self._clock() - self._folded >= REST
        return len(self) <= SMALL or withdrawn >= WITHDRAWN_MAX or rested

    def _fold(self, old: Journal, holdings: BankContents, cursor: str | None) -> None:
        """Write holdings and a cursor as the next generation, and go on with them."""
        lineage, generation = self._snapshot.lineage, self._snapshot.generation + 1
        snapshots.write(self.path, lineage, generation, cursor, holdings.folded())
        self._journal = Journal.create(files.journal_path(self.path), lineage, generation)
        old.close()
        self._snapshot = Snapshot.open(self.path, verify=False)  # written a moment ago
        self._holdings, self._cursor = BankContents(self._snapshot.tables), cursor
        self._folded = self._clock()
