"""A platform's bank on disk: its signals and its cursor in the feed, updated atomically.

A bank named FILE consists of files in one folder, all of mode 0600:

    FILE           the snapshot: signals, ids and the cursor (nciihash.bank.snapshot)
    FILE-journal   the pages since the snapshot (nciihash.bank.journal)
    FILE-lock      locked by the process that writes; always empty
    FILE-current   when the bank last had everything in the feed, as JSON: {"bank": the lineage in
                   hexadecimal digits, "at": Unix seconds}; replaced at most once a second
    .FILE….tmp     an unfinished snapshot or journal; deleted when the bank is next opened for
                   writing after a crash

The journal is a write-ahead log: a page is appended to it and fsynced before it is applied in
memory. Compaction writes a new snapshot when the journal has grown past `JOURNAL_BYTES` and an
eighth of the snapshot. It renames the new snapshot first, then an empty journal of the same
generation. After a crash between the two, the journal has an earlier generation than the snapshot;
all its pages are in the snapshot, and it is replaced.

A withdrawn value stays in the files until the next compaction, which a removal triggers
- before `append` returns, in banks of up to `SMALL_BANK` signals;
- in larger banks (where compaction takes about a second per million signals), when a page with
  `more` false is appended and the last compaction was at least `COMPACTION_INTERVAL` seconds ago;
- when `WITHDRAWN_MAX` removals are pending;
- when the bank is closed, opened for writing, or explicitly compacted.
A follower without news appends empty pages, so that in a bank of any size a withdrawn value is gone
after about `COMPACTION_INTERVAL` seconds. The file system and the disk may keep blocks of deleted
files. Readers that have the old snapshot mapped keep it until they call `refresh`.
"""

import math
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

import numpy as np
from numpy.typing import NDArray

from nciihash.bank import files
from nciihash.bank import snapshot as snapshots
from nciihash.bank.candidates import Candidates
from nciihash.bank.contents import BankContents, ReplacementBank
from nciihash.bank.journal import Journal, encode
from nciihash.bank.snapshot import Snapshot, Table
from nciihash.errors import BankError
from nciihash.feed import Added, Changes, FeedPage
from nciihash.signals import Match, Signal, SignalType, Variant

JOURNAL_BYTES: Final = 4 << 20  # a smaller journal is not worth a compaction
SMALL_BANK: Final = 100_000  # signals in a bank that is compacted at every removal
COMPACTION_INTERVAL: Final = 60.0  # seconds between compactions of larger banks for removals
WITHDRAWN_MAX: Final = 1_000  # pending removals that trigger a compaction at once

_NOTE_SECONDS: Final = 1.0  # the least time between two notes that the bank is current
_ATTEMPTS: Final = 100  # of a reader to open files of one generation while the writer compacts


class Bank:
    """A searchable set of signals on disk. Open it with `open` or `read`.

    Use it as a context manager, or call `close`. One thread at a time may change it; any number may
    query at the same time.
    """

    def __init__(
        self, path: Path, lock: int | None, snapshot: Snapshot, journal: Journal | None
    ) -> None:
        self.path = path
        self._lock = lock  # None if opened for reading
        self._snapshot = snapshot
        self._journal = journal
        self._cursor = snapshot.cursor
        self._contents = BankContents(snapshot.tables)
        self._write_lock = threading.Lock()
        self._failed = False
        self._noted = -math.inf
        self._clock: Callable[[], float] = time.monotonic
        self._compacted = self._clock()

    @classmethod
    def open(
        cls, path: str | PathLike[str], *, clock: Callable[[], float] = time.monotonic
    ) -> Self:
        """Open a bank for writing, or create an empty one (its folder must exist).

        The journal is replayed, and a torn record at its end is truncated.

        Args:
            path: the bank's file; an empty file is treated as missing.
            clock: returns seconds, to measure `COMPACTION_INTERVAL`.

        Raises:
            BankLocked: another process has it open for writing.
            BankCorrupt: its files are damaged, foreign or newer.
            OSError: the files cannot be opened or written.
        """
        path = Path(path).resolve()  # the same bank through symlinks and after a chdir
        lock = files.take_lock(path)
        try:
            files.delete_temporary_files(path)
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
            bank._compacted = clock()
            bank._replay(journal)
            journal.truncate()
            if bank.withdrawn:
                bank.compact()
        except BaseException:
            bank._failed = True
            bank.close()
            raise
        return bank

    @classmethod
    def read(cls, path: str | PathLike[str]) -> Self:
        """Open a bank for matching, even while another process writes to it.

        The contents are those after some complete page; `refresh` updates them.

        Raises:
            BankError: there is no bank.
            BankCorrupt: its files are damaged, foreign or newer.
            OSError: the files cannot be opened.
        """
        path = Path(path).resolve()  # the same bank through symlinks and after a chdir
        if not path.exists():
            raise BankError(
                f"There is no bank at {path}. Create it with `nciihash follow` or `Bank.open`."
            )
        for _ in range(_ATTEMPTS):
            snapshot = Snapshot.open(path)
            journal = files.open_journal(path, snapshot, write=False)
            if snapshot.is_at(path):
                break
            if journal is not None:
                journal.close()
        else:
            raise BankError(f"The bank {path} kept changing while it was opened. Try again.")
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
        """The feed's cursor after the last page; None before the first."""
        return self._cursor

    @property
    def current_at(self) -> float | None:
        """When the bank last had everything in the feed, in Unix seconds; None if that is unknown.

        The process that follows the feed notes it with `note_current`. What this bank has in memory
        is as new if `refresh` is called afterwards.
        """
        return files.read_current(self.path, self.lineage)

    def note_current(self, at: float) -> None:
        """Note that the bank has everything in the feed; at most once a second.

        Args:
            at: Unix time in seconds.

        Raises:
            OSError: the note cannot be written.
            BankError: the bank was opened for reading, or is closed.
        """
        if self._lock is None:
            raise BankError(
                "This bank is closed or was opened for reading: use `Bank.open` to change it."
            )
        if not 0 <= at - self._noted < _NOTE_SECONDS:
            files.write_current(self.path, self.lineage, at)
            self._noted = at

    @property
    def withdrawn(self) -> int:
        """Number of removed signals whose values the files still contain, until a compaction."""
        return self._contents.withdrawn

    def __len__(self) -> int:
        """Return the number of signals."""
        return len(self._contents)

    def __contains__(self, id: object) -> bool:
        """Whether a signal with this id is in the bank."""
        return id in self._contents

    def __iter__(self) -> Iterator[Added]:
        """Yield the signals as they came from the feed, in no particular order."""
        return iter(self._contents)

    def entry(self, id: str) -> Added | None:
        """Return the signal with this id as it came from the feed, or None."""
        return self._contents.entry(id)

    def query(self, signals: Sequence[Signal]) -> list[tuple[Match, ...]]:
        """Find the matches of each signal: signals of its type within the type's threshold.

        Returns:
            One tuple per signal, sorted by distance, then by id.
        """
        return self._contents.query(signals)

    def candidates(self, type: SignalType, packed: NDArray[np.uint8], reach: int) -> Candidates:
        """Find the signals within the type's threshold of each hash, and some further away.

        Much faster for many hashes than `query`, and for a matcher that compares further what is
        too far away to match. Consistent with changes in other threads as `query` is.

        Args:
            type: of the hashes.
            packed: uint8 (n, bits // 8).
            reach: the largest distance to return, in bits, at least the type's threshold. Beyond
                it, only some signals are found (see `Index.query`).

        Raises:
            InvalidSignal: `packed` is not such an array.
            ValueError: `reach` is less than the threshold.
        """
        return self._contents.candidates(type, packed, reach)

    def count_variants(self, type: SignalType, item: str) -> Counter[Variant]:
        """Count an item's hashes of one type, by variant.

        Scans the whole bank, which takes some ten milliseconds per million hashes.
        """
        return self._contents.count_variants(type, item)

    @property
    def lineage(self) -> bytes:
        """16 random bytes that identify the bank, from its creation on."""
        return self._snapshot.lineage

    def tables(self) -> list[Table]:
        """Return the current contents as one table per type of signal."""
        return self._contents.compacted()

    def append(self, page: FeedPage) -> Changes:
        """Apply a page durably: when this returns, page and cursor survive a power cut.

        An empty page with the bank's current cursor writes nothing.

        Raises:
            ValueError: an id or an item's id is malformed; nothing was written.
            OSError: the disk is full or failing; reopen the bank and append the page again.
            BankError: the bank was opened for reading, is closed, or an earlier write failed.
        """
        payload = encode(page)
        with self._change() as journal:
            if not page.entries and page.cursor == self._cursor:
                applied = Changes(0, 0, 0)
            else:
                journal.append(payload)
                applied = self._contents.apply(page)
                self._cursor = page.cursor
            if self._compaction_is_due(journal, more=page.more):
                self._compact(journal, self._contents, self._cursor)
        return applied

    def compact(self) -> None:
        """Write a new snapshot and empty the journal; afterwards no removed value is in the files.

        Raises:
            OSError: the disk is full or failing.
            BankError: the bank was opened for reading, is closed, or an earlier write failed.
        """
        with self._change() as journal:
            self._compact(journal, self._contents, self._cursor)

    def replacement(self) -> ReplacementBank:
        """Return an empty bank in memory, to be filled from the feed and passed to `adopt`.

        Nothing is written before `adopt`, so that a crash leaves this bank unchanged.
        """
        return ReplacementBank()

    def adopt(self, replacement: ReplacementBank) -> None:
        """Replace the bank's contents and cursor with those of a replacement, atomically.

        The change is durable when this returns; after a crash the bank is the old or the new one.
        Do not use the replacement afterwards.

        Raises:
            ValueError: no page was appended to the replacement.
            OSError: the disk is full or failing.
            BankError: the bank was opened for reading, is closed, or an earlier write failed.
        """
        if replacement.cursor is None:
            raise ValueError("The replacement is empty: append the feed's pages to it first.")
        with self._change() as journal:
            self._compact(journal, replacement.contents, replacement.cursor)

    def refresh(self) -> bool:
        """Load what another process has written since; return whether anything changed.

        For a bank opened with `read`; one opened for writing is always up to date.

        Raises:
            BankError: the bank is closed.
            BankCorrupt: its files are damaged, foreign or newer.
            OSError: the files cannot be opened.
        """
        if self._lock is not None:
            return False
        with self._write_lock:
            if self._failed:
                raise BankError("This bank is closed: open it again.")
            before = self._cursor, self._snapshot.generation
            journal = self._journal
            if journal is not None and self._snapshot.is_at(self.path):
                self._replay(journal)
            else:
                new = type(self).read(self.path)
                if journal is not None:
                    journal.close()
                self._snapshot, self._journal = new._snapshot, new._journal
                self._contents, self._cursor = new._contents, new._cursor
            return before != (self._cursor, self._snapshot.generation)

    def close(self) -> None:
        """Compact the bank if removals are pending, release its lock and close its files."""
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
        """Return the bank."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the bank."""
        self.close()

    @contextmanager
    def _change(self) -> Iterator[Journal]:
        """Lock the bank for one change.

        After a failed change, disk and memory may differ, so all further changes are refused.
        """
        with self._write_lock:
            if self._lock is None or self._journal is None:
                raise BankError(
                    "This bank is closed or was opened for reading: use `Bank.open` to change it."
                )
            if self._failed:
                raise BankError("An earlier write to this bank failed: close it and open it again.")
            self._failed = True
            yield self._journal
            self._failed = False

    def _replay(self, journal: Journal) -> None:
        for page in journal.read():
            self._contents.apply(page)
            self._cursor = page.cursor

    def _compaction_is_due(self, journal: Journal, *, more: bool) -> bool:
        if journal.offset > max(JOURNAL_BYTES, self._snapshot.size // 8):
            return True
        withdrawn = self.withdrawn
        if not withdrawn:
            return False
        idle = not more and self._clock() - self._compacted >= COMPACTION_INTERVAL
        return len(self) <= SMALL_BANK or withdrawn >= WITHDRAWN_MAX or idle

    def _compact(self, old: Journal, contents: BankContents, cursor: str | None) -> None:
        """Write contents and cursor as the next generation, and continue with that."""
        lineage, generation = self._snapshot.lineage, self._snapshot.generation + 1
        snapshots.write(self.path, lineage, generation, cursor, contents.compacted())
        self._journal = Journal.create(files.journal_path(self.path), lineage, generation)
        old.close()
        self._snapshot = Snapshot.open(self.path, verify=False)  # just written
        self._contents, self._cursor = BankContents(self._snapshot.tables), cursor
        self._compacted = self._clock()
