"""The files of a bank: locking, creation, opening of a matching pair, cleanup after a crash."""

import fcntl
import glob
import json
import os
import secrets
from pathlib import Path

from nciihash.bank import snapshot as snapshots
from nciihash.bank.journal import START_OVER, Journal
from nciihash.bank.snapshot import Snapshot
from nciihash.durable import filename_in_errors
from nciihash.errors import BankCorrupt, BankLocked


def journal_path(path: Path) -> Path:
    """Return the path of the journal of the bank at `path`."""
    return path.with_name(f"{path.name}-journal")


def current_path(path: Path) -> Path:
    """Return the path of the note of when the bank at `path` had everything in the feed."""
    return path.with_name(f"{path.name}-current")


def write_current(path: Path, lineage: bytes, at: float) -> None:
    """Note when the bank at `path` had everything in the feed.

    The note is replaced atomically, but not fsynced: a power cut may only make the bank look older
    than it is, or lose the note.

    Args:
        path: of the bank.
        lineage: the bank's, so that the note of another bank is not taken for this one's.
        at: Unix time in seconds.

    Raises:
        OSError: the file cannot be written.
    """
    note = current_path(path)
    temporary = note.with_name(f".{note.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb", opener=_private) as file:
            file.write(json.dumps({"bank": lineage.hex(), "at": round(at, 3)}).encode())
        temporary.replace(note)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_current(path: Path, lineage: bytes) -> float | None:
    """Return when the bank at `path` had everything in the feed, in Unix seconds.

    None if there is no valid note of that, or if it is about another bank.
    """
    try:
        note = json.loads(current_path(path).read_bytes())
        return float(note["at"]) if note["bank"] == lineage.hex() else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _private(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_CLOEXEC, 0o600)


def take_lock(path: Path) -> int:
    """Lock the bank for writing until the returned descriptor is closed or the process ends.

    Raises:
        BankLocked: another process has locked it.
        OSError: the lock file cannot be opened or locked.
    """
    lock_path = path.with_name(f"{path.name}-lock")
    descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with filename_in_errors(lock_path):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise BankLocked(
                f"Another process has the bank {path} open for writing: stop it, or use another "
                "bank file."
            ) from error
        raise
    return descriptor


def delete_temporary_files(path: Path) -> None:
    """Delete what an interrupted compaction left; it may contain withdrawn values."""
    for name in (path.name, journal_path(path).name, current_path(path).name):
        for temporary in path.parent.glob(f".{glob.escape(name)}.{'[0-9a-f]' * 8}.tmp"):
            temporary.unlink()


def create(path: Path) -> None:
    """Create an empty bank, its journal first: one without a snapshot indicates a crash here.

    Raises:
        BankCorrupt: the snapshot is missing, but the journal has pages.
        OSError: the files cannot be written.
    """
    journal_file = journal_path(path)
    if journal_file.exists():
        journal = Journal.open(journal_file, write=False)
        first_page = next(iter(journal.read()), None)
        journal.close()
        if first_page is not None:
            raise BankCorrupt(
                f"{path} is missing, but its journal {journal_file.name} is not. Restore it, or "
                "move the journal away as well and follow the feed from the beginning."
            )
    lineage = secrets.token_bytes(16)
    Journal.create(journal_file, lineage, 1).close()
    snapshots.write(path, lineage, 1, None, ())


def open_journal(path: Path, snapshot: Snapshot, *, write: bool) -> Journal | None:
    """Open the journal that belongs to a snapshot; None if the snapshot has all its pages.

    Raises:
        BankCorrupt: the journal is missing, damaged, or belongs to another bank or snapshot.
        OSError: the journal cannot be opened.
    """
    try:
        journal = Journal.open(journal_path(path), write=write)
    except FileNotFoundError as error:
        raise BankCorrupt(f"The journal of the bank {path} is missing. {START_OVER}") from error
    if journal.lineage == snapshot.lineage and journal.generation == snapshot.generation:
        return journal
    journal.close()
    if journal.lineage == snapshot.lineage and journal.generation < snapshot.generation:
        return None
    if not write and not snapshot.is_at(path):
        return None  # compacted since the snapshot was opened: the reader opens it again
    raise BankCorrupt(f"{journal.path} does not belong to the bank {path}. {START_OVER}")
