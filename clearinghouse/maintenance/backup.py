"""Back up a database in SQLite while it is served, and put a backup back, once it is checked.

A backup is one file, sealed like the database, and holds no key: keep the key's folder elsewhere,
with the journal of withdrawals that lies in it. On PostgreSQL the server's own tools do this.
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
from clearinghouse.sealing.master_key import read_masters, unlock
from clearinghouse.settings import Settings
from nciihash.durable import naming, sync_folder

_BUSY_SECONDS: Final = 30.0
_NOT_WHOLE: Final = "This is not a whole backup of a clearinghouse. Nothing was changed."


class BackupRefused(ClearinghouseError):
    """A backup cannot be made or put back: the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """What came of a restore.

    `signals` that are live now; `withdrawn_again` had been withdrawn since the backup was made.
    """

    signals: int
    withdrawn_again: int


def back_up(settings: Settings, target: Path) -> int:
    """Copy the database into one file, whole and checked, while it is served.

    Args:
        settings: which database.
        target: the file; replaced when the copy is on the disk, mode 0600.

    Returns:
        Bytes of the copy.

    Raises:
        BackupRefused: the database is not in SQLite, or the copy is damaged.
        OSError: the file cannot be written.
    """
    source = _file(settings)
    with _draft(target) as draft:
        # In one step: in many, each write of the service would make it begin again.
        with closing(_connect(source)) as here, closing(_connect(draft)) as there:
            here.backup(there)
            there.execute("PRAGMA journal_mode=DELETE")  # so that one file is all there is
            _check_pages(there)
        with draft.open("rb") as copy, naming(target):
            os.fsync(copy.fileno())
        size = draft.stat().st_size
        draft.replace(target)
    sync_folder(target.parent)
    return size


def restore(settings: Settings, source: Path) -> RestoreResult:
    """Check a backup, put it in the place of the database, and withdraw what was withdrawn since.

    One transaction of SQLite: it happens whole or not at all, and a service that runs meanwhile
    goes on with what was put back.

    Args:
        settings: which database; its key must be the backup's.
        source: the backup.

    Raises:
        BackupRefused: it is not a whole backup, or the database is not in SQLite.
        KeyMismatch, KeyMissing: it is sealed with another key.
    """
    target = _file(settings)
    if not source.is_file():
        raise BackupRefused("There is no such backup.")
    try:
        opened = _connect(source, mode="ro")
    except sqlite3.DatabaseError:
        raise BackupRefused(_NOT_WHOLE) from None
    with closing(opened) as here:
        _check_pages(here)
        _check_values(settings, here)
        try:
            # opened so that it exists, has its mode, and is in the form that we write
            store = Store.open(settings)
        except DatabaseError as error:
            if isinstance(error, OperationalError):
                raise  # locked, or no space: nothing is wrong with it
            raise BackupRefused(
                "The database that is there is damaged. Move it away, with its -wal and -shm "
                "files, and restore again."
            ) from None
        reached = store.reached()
        store.close()
        # Made ready beside it, so that no worker ever writes into a log of before.
        with _draft(target) as draft:
            with closing(_connect(draft)) as copy:
                here.backup(copy)
            again = Store.settle_copy(settings, draft, reached)
            with closing(_connect(draft)) as copy, closing(_connect(target)) as there:
                copy.backup(there)
    store = Store.open(settings)
    try:
        with store.read() as tx:
            return RestoreResult(tx.figures.totals()["signals"], again)
    finally:
        store.close()


@contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """Make an empty file beside another one, mode 0600, that is gone with its log in the end."""
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError as error:
            error.filename = str(target)  # the name that whoever reads it knows
            raise
        yield draft
    finally:
        for end in ("", "-wal", "-shm", "-journal"):
            draft.with_name(draft.name + end).unlink(missing_ok=True)


def _file(settings: Settings) -> Path:
    if not settings.database.startswith("sqlite:"):
        raise BackupRefused(
            "This database is on PostgreSQL: back it up with pg_dump, or with base backups and "
            "archived WAL, and restore it with their tools. docs/operating.md says how."
        )
    return Path(make_url(settings.database).database or "")


def _connect(path: Path, *, mode: str = "rw") -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True)
    connection.execute(f"PRAGMA busy_timeout={_BUSY_SECONDS * 1000:.0f}")
    connection.execute("PRAGMA secure_delete=ON")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def _check_pages(connection: sqlite3.Connection) -> None:
    try:
        whole = connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        whole &= connection.execute("PRAGMA foreign_key_check").fetchall() == []
        whole &= connection.execute("SELECT count(*) FROM facts").fetchone()[0] > 0
    except sqlite3.DatabaseError:
        whole = False
    if not whole:
        raise BackupRefused(_NOT_WHOLE)


def _check_values(settings: Settings, connection: sqlite3.Connection) -> None:
    """Open every sealed value, so that a backup of which we have no key is not put back."""
    facts = dict(connection.execute("SELECT name, value FROM facts").fetchall())
    vault = unlock(facts, read_masters(settings, create=False))
    rows = connection.execute("SELECT item_id, ordinal, value FROM signals WHERE value IS NOT NULL")
    bad = 0
    for item, ordinal, value in rows:
        try:
            vault.open(value, "signals", "value", item, ordinal)
        except KeyMismatch:
            bad += 1
    if bad:
        raise BackupRefused(
            f"{bad} values of this backup do not open: it is damaged. Nothing was changed."
        )
