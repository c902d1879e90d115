"""A small SQLite database of mode 0600, whose commits survive `kill -9` and a power cut."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Final

from nciihash.durable import fsync_folder
from nciihash.errors import NciihashError

_BUSY_TIMEOUT: Final = 60.0  # seconds to wait for the write lock of another process


class SQLiteFile:
    """One SQLite database (with FILE-wal and FILE-shm while it is open), with one connection.

    Any number of threads may share it, and any number of processes may open the same file. Do not
    use it after a fork.

    Args:
        path: the path of the database; created if it does not exist (its folder must exist).
        application_id: the number that marks such databases (`PRAGMA application_id`).
        version: the version of the tables.
        tables: the SQL that creates the tables.
        content: what such a database is, such as "a queue of verdicts".
        invalid: the exception for a database that is damaged, foreign or newer.
        max_bytes: the largest size of the database; when it is reached, changes that need more
            space fail as on a full disk. None for no limit.

    Raises:
        NciihashError: `invalid`, for these reasons.
        OSError: the file cannot be opened.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        application_id: int,
        version: int,
        tables: str,
        content: str,
        invalid: type[NciihashError],
        max_bytes: int | None = None,
    ) -> None:
        self.path = Path(path)
        self._content = content
        self._invalid = invalid
        self._lock = threading.Lock()
        new = not self.path.exists()
        # SQLite creates FILE-wal and FILE-shm with the mode of this file
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        if new:
            fsync_folder(self.path.resolve().parent)
        self._connection = sqlite3.connect(
            self.path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(application_id, version, tables)
            if max_bytes is not None:
                with self.read() as connection:
                    pages = max_bytes // self.number("PRAGMA page_size")
                    connection.execute(f"PRAGMA max_page_count = {pages}")
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, application_id: int, version: int, tables: str) -> None:
        with self.read():
            application = self.number("PRAGMA application_id")
            found = self.number("PRAGMA user_version")
            if self.number("SELECT count(*) FROM sqlite_master") and application != application_id:
                raise self._invalid(f"{self.path} is not {self._content}. Choose another file.")
            if found > version:
                raise self._invalid(
                    f"{self.path} was written by a newer version of nciihash. Upgrade nciihash."
                )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")  # commits are fsynced
            self._connection.execute("PRAGMA secure_delete = ON")  # deleted rows are overwritten
            if found < version:
                self._connection.executescript(
                    f"BEGIN IMMEDIATE; {tables} PRAGMA application_id = {application_id};"
                    f" PRAGMA user_version = {version}; COMMIT;"
                )

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._connection.close()

    def number(self, query: str) -> int:
        """Return the number that a query selects, within a block of `read` or `change`."""
        (number,) = self._connection.execute(query).fetchone()
        return int(number)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection, for queries.

        Raises:
            OSError: the file cannot be read.
            NciihashError: it is damaged.
        """
        with self._lock, self._translated_errors():
            yield self._connection

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection, and run the block in one transaction.

        Raises:
            OSError: the file cannot be written, for example on a full disk; nothing was changed.
            NciihashError: it is damaged.
        """
        with self.read() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.OperationalError as error:
            raise OSError(f"{self.path} cannot be read or written: {error}.") from error
        except sqlite3.DatabaseError as error:
            raise self._invalid(
                f"{self.path} is damaged or not {self._content}. Move it away to start a new one."
            ) from error
