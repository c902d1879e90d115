"""The files of a bank on disk: lock, create, open what belongs together, clear up after a crash."""

import fcntl
import glob
import os
import secrets
from pathlib import Path

from nciihash.bank import snapshot as snapshots
from nciihash.bank.journal import AGAIN, Journal
from nciihash.bank.snapshot import Snapshot
from nciihash.durable import naming
from nciihash.errors import BankCorrupt, BankLocked


def journal_path(path: Path) -> Path:
    """Name the journal of the bank at `path`."""
    return path.with_name(f"{path.name}-journal")


def take_lock(path: Path) -> int:
    """Lock the bank for this process until the descriptor is closed or the process ends."""
    name = path.with_name(f"{path.name}-lock")
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with naming(name):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise BankLocked(
                f"Another process is following into {path}: stop it, or use another bank file."
            ) from error
        raise
    return descriptor


def delete_remains(path: Path) -> None:
    """Delete what folds that a crash interrupted have left: it may hold withdrawn values."""
    for name in (path.name, journal_path(path).name):
        for remains in path.parent.glob(f".{glob.escape(name)}.{'[0-9a-f]' * 8}.tmp"):
            remains.unlink()


def create(path: Path) -> None:
    """Make an empty bank: the journal first, so that one without a snapshot tells of a crash."""
    beside = journal_path(path)
    if beside.exists():
        journal = Journal.open(beside, write=False)
        written = next(iter(journal.read()), None)
        journal.close()
        if written is not None:
            raise BankCorrupt(
                f"{path} is missing, but {beside.name} beside it is not. Bring it back, or move "
                "that away as well and follow the feed again from the beginning."
            )
    lineage = secrets.token_bytes(16)
    Journal.create(beside, lineage, 1).close()
    snapshots.write(path, lineage, 1, None, ())


def open_journal(path: Path, snapshot: Snapshot, *, write: bool) -> Journal | None:
    """Open the journal that goes with a snapshot; None if all its pages are in the snapshot."""
    try:
        journal = Journal.open(journal_path(path), write=write)
    except FileNotFoundError as error:
        raise BankCorrupt(f"The journal of the bank {path} is missing. {AGAIN}") from error
    if journal.lineage == snapshot.lineage and journal.generation == snapshot.generation:
        return journal
    journal.close()
    if journal.lineage == snapshot.lineage and journal.generation < snapshot.generation:
        return None
    if not write and not snapshot.is_at(path):
        return None  # folded since the snapshot was opened: the reader starts again
    raise BankCorrupt(f"{journal.path} does not belong to the bank {path}. {AGAIN}")
