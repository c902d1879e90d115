"""Backup of a SQLite database while the service runs, and restore of a checked backup.

A backup is one file. Its values are sealed as in the database, and it contains no key: back up the
folder of the key separately, with the journal of withdrawals in it. For PostgreSQL use the server's
own tools.
"""

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import make_url
from sqlalchemy.exc import DatabaseError, OperationalError

from clearinghouse.database.store import Store
from clearinghouse.errors import ClearinghouseError, KeyMismatch
from clearinghouse.sealing.master_key import read_master_keys, unlock
from clearinghouse.settings import Settings
from nciihash.durable import filename_in_errors, fsync_folder

_BUSY_SECONDS: Final = 30.0
_INCOMPLETE: Final = (
    "The file is not a complete backup of a clearinghouse database. Nothing was changed."
)


class BackupRefused(ClearinghouseError):
    """A backup cannot be made or restored; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """The result of a restore.

    Attributes:
        signals: how many signals are live now.
        withdrawn_again: how many signals of the backup were withdrawn since it was made, and have
            been withdrawn again; those of cases that expired since, and are due now, included.
    """

    signals: int
    withdrawn_again: int


def back_up(settings: Settings, target: Path) -> int:
    """Copy the database to a file and check the copy, while the service runs.

    Args:
        settings: which database.
        target: the file, mode 0600; replaced once the copy is complete and on the disk.

    Returns:
        The size of the copy in bytes.

    Raises:
        BackupRefused: the database is not in SQLite, or the copy is damaged.
        OSError: the file cannot be written.
    """
    source = _database_file(settings)
    with _draft(target) as draft:
        # all pages in one step: a backup in several restarts after each write of the service
        with closing(_connect(source)) as database, closing(_connect(draft)) as backup:
            database.backup(backup)
            backup.execute("PRAGMA journal_mode=DELETE")  # so that the backup is a single file
            _check_integrity(backup)
        with draft.open("rb") as copy, filename_in_errors(target):
            os.fsync(copy.fileno())
        size = draft.stat().st_size
        draft.replace(target)
    fsync_folder(target.parent)
    return size


def restore(settings: Settings, source: Path) -> RestoreResult:
    """Check a backup, replace the database with it, and withdraw again what was withdrawn since.

    The database is replaced in one SQLite transaction. A service that is running continues with the
    restored database.

    Args:
        settings: which database; its key must be that of the backup.
        source: the backup.

    Raises:
        BackupRefused: it is not a complete backup, or the database is not in SQLite.
        KeyMismatch, KeyMissing: the backup is sealed under another key.
    """
    target = _database_file(settings)
    if not source.is_file():
        raise BackupRefused("There is no such backup. Check the path.")
    try:
        opened = _connect(source, mode="ro")
    except sqlite3.DatabaseError:
        raise BackupRefused(_INCOMPLETE) from None
    with closing(opened) as backup:
        _check_integrity(backup)
        _check_values(settings, backup)
        try:
            # creates the database if it is missing, with mode 0600, and migrates it
            store = Store.open(settings)
        except DatabaseError as error:
            if isinstance(error, OperationalError):
                raise  # locked, or no space left: the database is not damaged
            raise BackupRefused(
                "The current database is damaged. Move it away, with its -wal and -shm files, and "
                "restore again."
            ) from None
        mark = store.high_water_mark()
        store.close()
        # prepared in a copy first, so that no worker writes to the log of the old epoch
        with _draft(target) as draft:
            with closing(_connect(draft)) as copy:
                backup.backup(copy)
            withdrawn = Store.reconcile_copy(settings, draft, mark)
            with closing(_connect(draft)) as copy, closing(_connect(target)) as database:
                copy.backup(database)
    store = Store.open(settings)
    try:
        with store.read() as tx:
            return RestoreResult(tx.figures.totals()["signals"], withdrawn)
    finally:
        store.close()


@contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """Create an empty temporary database in the folder of a file; delete it at the end."""
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError as error:
            error.filename = str(target)  # the path as the operator knows it
            raise
        yield draft
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            draft.with_name(draft.name + suffix).unlink(missing_ok=True)


def _database_file(settings: Settings) -> Path:
    if not settings.database.startswith("sqlite:"):
        raise BackupRefused(
            "This command is for SQLite only. Back up and restore a PostgreSQL database with "
            "pg_dump, or with base backups and archived WAL, as docs/operating.md describes."
        )
    return Path(make_url(settings.database).database or "")


def _connect(path: Path, *, mode: str = "rw") -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True)
    connection.execute(f"PRAGMA busy_timeout={_BUSY_SECONDS * 1000:.0f}")
    connection.execute("PRAGMA secure_delete=ON")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def _check_integrity(connection: sqlite3.Connection) -> None:
    try:
        intact = connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        intact &= connection.execute("PRAGMA foreign_key_check").fetchall() == []
        intact &= connection.execute("SELECT count(*) FROM facts").fetchone()[0] > 0
    except sqlite3.DatabaseError:
        intact = False
    if not intact:
        raise BackupRefused(_INCOMPLETE)


def _check_values(settings: Settings, connection: sqlite3.Connection) -> None:
    """Open every sealed value, so that no backup is restored whose key is not available."""
    facts = dict(connection.execute("SELECT name, value FROM facts").fetchall())
    vault = unlock(facts, read_master_keys(settings, create=False))
    rows = connection.execute("SELECT item_id, ordinal, value FROM signals WHERE value IS NOT NULL")
    damaged = 0
    for item, ordinal, value in rows:
        try:
            vault.open(value, "signals", "value", item, ordinal)
        except KeyMismatch:
            damaged += 1
    if damaged:
        raise BackupRefused(
            f"{damaged} values in this backup cannot be decrypted: it is damaged. Nothing was "
            "changed."
        )
