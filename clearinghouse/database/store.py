"""The store: opens and migrates the database, and runs read and write transactions.

One log of changes has three readers: the feeds of platforms, the live index of each worker, and the
acknowledgements. A write shares a transaction with its log entries, and log order is commit order
(see `clearinghouse.database.engines`). A response is sent after the commit, and the commit returns
after fsync.
"""

import errno
import fcntl
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final, Self

from sqlalchemy import URL, Connection, inspect, make_url, text

from clearinghouse.database import audit
from clearinghouse.database.audit import Act
from clearinghouse.database.engines import Database, open_database
from clearinghouse.database.epoch import EPOCH_BYTES, HighWaterMark, reconcile
from clearinghouse.database.transaction import Transaction
from clearinghouse.database.withdrawal_journal import WithdrawalJournal
from clearinghouse.errors import DatabaseMissing, DatabaseServed, KeyMismatch, NewerDatabase
from clearinghouse.sealing.master_key import FACTS, KEY, STEADY, key_file, read_master_keys, unlock
from clearinghouse.sealing.vault import KEY_BYTES, Vault
from clearinghouse.settings import Settings
from clearinghouse.times import hour

_log = logging.getLogger(__name__)

_MARK: Final = "reached-"  # start of the name of the file with the high-water mark
_WRITABLE: Final = "writable"  # a fact that is written to see whether that is possible
_SERVING: Final = "-serving"  # the end of the name of the lock file
_BLOCK: Final = 1_000  # row numbers reserved at a time


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Releases:
    """Release periods: feeds show what was added in a period after it has ended.

    Args:
        every: the length of a period in minutes; 0 to release at once.
        clock: returns the time.
    """

    def __init__(self, every: int, clock: Callable[[], datetime]) -> None:
        self._seconds = every * 60
        self._clock = clock

    def period(self) -> int | None:
        """Return when the current period began, in Unix seconds; None if there are no periods."""
        if not self._seconds:
            return None
        return int(self._clock().timestamp()) // self._seconds * self._seconds

    def left(self) -> float | None:
        """Return the seconds left of the current period; None if there are no periods."""
        if not self._seconds:
            return None
        return self._seconds - self._clock().timestamp() % self._seconds


class Store:
    """A database: short read and write transactions, each on a connection of its own."""

    def __init__(
        self,
        database: Database,
        read_keys: Callable[[], Sequence[bytes]],
        *,
        argon2_memory: int,
        mark_path: Path,
        journal: WithdrawalJournal,
        releases: Releases,
    ) -> None:
        self._database = database
        self._read_keys = read_keys
        self._unlocked: tuple[dict[str, bytes], Vault] | None = None  # sealing facts, their vault
        self._unlock_lock = threading.Lock()
        self._mark_path = mark_path
        self._journal = journal
        self.releases = releases
        self._journal_pending = False  # whether it may lack a withdrawal
        self._items: list[int] = []  # row numbers reserved for files and not yet used
        self._items_lock = threading.Lock()
        # called with the seconds for which each write transaction held the writer lock
        self.record_write: Callable[[float], object] = lambda _seconds: None
        self.epoch = 0
        self.argon2_memory = argon2_memory
        self.withdrawn_again = 0  # signals from the journal, when the database was opened

    @classmethod
    def open(cls, settings: Settings, *, clock: Callable[[], datetime] = _utc_now) -> Self:
        """Open the database, create or migrate it if needed, and check its master key.

        All of it runs under the writer lock, so that workers which start together take turns.

        Args:
            settings: which database, and where its key is.
            clock: returns the time, for release periods.

        Raises:
            KeyMissing: the key of the database was not found.
            KeyMismatch: the database is sealed under another key.
            NewerDatabase: a newer version migrated it.
            OSError: the folder of the key cannot be written.
        """
        database = open_database(settings)
        try:
            store = cls._prepare(database, settings, clock)
            store.withdrawn_again = store.reconcile()
        except BaseException:
            _close(database)
            raise
        return store

    @classmethod
    def reconcile_copy(cls, settings: Settings, copy: Path, mark: HighWaterMark) -> int:
        """Prepare a backup of a SQLite database to replace the database.

        Migrates it, begins a new epoch of the log after the high-water mark, and withdraws again
        what is in the journal. The files outside the database are read and not changed, since the
        restore may still fail.

        Args:
            settings: of the database.
            copy: the backup, which is changed.
            mark: the high-water mark of the database.

        Returns:
            How many signals were withdrawn again.

        Raises:
            KeyMissing, KeyMismatch, NewerDatabase: as `open`.
        """
        address = URL.create("sqlite", database=str(copy.absolute()))
        database = open_database(replace(settings, database=address.render_as_string()))
        try:
            store = cls._prepare(database, settings, _utc_now)
            saved = HighWaterMark.read(store._mark_path)
            mark = HighWaterMark(max(mark.seq, saved.seq), max(mark.record_seq, saved.record_seq))
            return store._reconcile(mark, new_epoch=True)
        finally:
            _close(database)

    @classmethod
    def _prepare(
        cls, database: Database, settings: Settings, clock: Callable[[], datetime]
    ) -> Self:
        """Migrate the database, write missing facts, and return its store."""
        with database.writer.begin() as connection:
            migrate(connection)
            tx = Transaction(connection)
            if KEY not in tx.facts.read([KEY]):
                vault = Vault(read_master_keys(settings, create=True)[0])
                tx.facts.write(KEY, vault.check())
                steady = vault.seal(secrets.token_bytes(KEY_BYTES), "facts", STEADY)
                tx.facts.write(STEADY, steady)
                tx.facts.write("epoch", secrets.token_bytes(EPOCH_BYTES))
                # fixed for the life of the database: otherwise checks of older cases would take
                # another time than those of case numbers that do not exist
                tx.facts.write("argon2", settings.argon2_memory.to_bytes(8, "big"))
            if not tx.facts.read(["identity"]):
                tx.facts.write("identity", secrets.token_bytes(8))
            facts = tx.facts.read(["identity", "argon2"])
        # named after the database, since several may share a folder
        folder = settings.notes or key_file(settings).parent
        identity = facts["identity"].hex()
        return cls(
            database,
            lambda: read_master_keys(settings, create=False),
            argon2_memory=int.from_bytes(facts["argon2"], "big"),
            mark_path=folder / f"{_MARK}{identity}",
            journal=WithdrawalJournal(folder / f"withdrawals-{identity}"),
            releases=Releases(settings.release_every, clock),
        )

    def reconcile(self) -> int:
        """Bring a restored database up to date with the high-water mark and the journal.

        Called when the database is opened, and when it was replaced while serving.

        Returns:
            How many signals were withdrawn again.

        Raises:
            KeyMismatch: a database with another key is there now.
        """
        with self._items_lock:  # numbers reserved earlier must not be used in a restored database
            withdrawn = self._reconcile(HighWaterMark.read(self._mark_path), new_epoch=False)
            self._items = []
        with self.read() as tx:
            epoch = tx.log.epoch()
        self._journal.set_epoch(epoch)
        self.epoch = epoch
        try:
            self.save_high_water_mark()
            self.update_journal()
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise  # such as missing permissions, which the operator should see at the start
            self._journal_pending = True
            _log.warning(
                "The journal of withdrawals cannot be written: there is no space left in the "
                "folder of the key, or in CLEARINGHOUSE_NOTES. Free some space."
            )
        return withdrawn

    def _reconcile(self, mark: HighWaterMark, *, new_epoch: bool) -> int:
        now = hour(datetime.now(UTC))
        with self._database.writer.begin() as connection:
            tx = Transaction(connection)
            tx.vault, tx.period = self._unlock(tx), self.releases.period()
            before = tx.log.epoch()
            count = reconcile(self._database, tx, mark, self._journal, now, new_epoch=new_epoch)
            if count or tx.log.epoch() != before:
                audit.record(tx.vault, tx, Act.RESTORED, count=count, hour=now)
            if tx.grew:
                self._database.announce(connection)
        return count

    @property
    def vault(self) -> Vault:
        """The vault of the last transaction; within a transaction, use `Transaction.vault`.

        During a rotation of the master key this may be the old one, if the last transaction read a
        snapshot from before.
        """
        assert self._unlocked is not None  # noqa: S101 - opening has a transaction
        return self._unlocked[1]

    def _unlock(self, tx: Transaction) -> Vault:
        """Return the vault for the master key that the database has in this transaction.

        Keys stay in memory until the process ends, since values that were read before a rotation
        may still have to be opened.
        """
        sealed = tx.facts.read(FACTS)
        last = self._unlocked
        if last is not None and sealed == last[0]:
            return last[1]
        with self._unlock_lock:
            known = () if self._unlocked is None else self._unlocked[1].masters
            try:
                vault = unlock(sealed, known or self._read_keys())
            except KeyMismatch:
                vault = unlock(sealed, [*known, *self._read_keys()])
            self._unlocked = sealed, vault
        return vault

    def close(self) -> None:
        """Close all connections."""
        _close(self._database)

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Begin a write transaction; commit it durably at the end, or roll it back on an error.

        It holds the writer lock. Removals and revoked keys are in the journal of withdrawals when
        this returns.

        Raises:
            OSError: the transaction was committed, but the journal cannot be written. Raised only
                if this transaction removed signals or revoked keys, not for an earlier one.
        """
        began = None
        try:
            with self._database.process_lock(), self._database.writer.begin() as connection:
                began = time.monotonic()
                tx = Transaction(connection)
                tx.vault, tx.period = self._unlock(tx), self.releases.period()
                yield tx
                if tx.grew:
                    self._database.announce(connection)
        finally:
            if began is not None:
                self.record_write(time.monotonic() - began)
        if tx.removed:
            self.update_journal()
        elif self._journal_pending:
            with suppress(OSError):  # was raised for the write that removed something
                self.update_journal()
        if tx.revoked:
            self._journal.add_keys(tx.revoked)

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Begin a read-only transaction on one snapshot, without blocking writers."""
        with self._database.reader.begin() as connection:
            tx = Transaction(connection)
            tx.vault, tx.period = self._unlock(tx), self.releases.period()
            yield tx

    def check_writable(self) -> None:
        """Commit a write.

        Raises:
            SQLAlchemyError: the database cannot be written.
        """
        with self.write() as tx:
            tx.facts.write(_WRITABLE, b"")

    def reserve_items(self, count: int) -> list[int]:
        """Return row numbers that no other file will get.

        Values are sealed with the row number of their file, and sealing must not block other
        writers. So the number is reserved before the transaction that inserts the file. Numbers are
        reserved in blocks; those left when the process ends are never used.
        """
        with self._items_lock:
            if len(self._items) < count:
                with self.write() as tx:
                    self._items += tx.cases.reserve_items(max(count, _BLOCK))
            reserved, self._items = self._items[:count], self._items[count:]
            return reserved

    def high_water_mark(self) -> HighWaterMark:
        """Return the last position of the log, and the last `record_seq`."""
        with self.read() as tx:
            return HighWaterMark(tx.log.head(), tx.stopncii.last_seq())

    def save_high_water_mark(self) -> None:
        """Write the high-water mark outside the database (`clearinghouse.database.epoch`)."""
        self.high_water_mark().write(self._mark_path)

    def update_journal(self) -> None:
        """Add the latest removals to the journal of withdrawals.

        Raises:
            OSError: it cannot be written. The next write transaction tries again.
        """
        self._journal_pending = True
        with self.read() as tx:
            self._journal.catch_up(tx.log.head(), tx.log.list_removals)
        self._journal_pending = False

    def listen(self, callback: Callable[[], None], stop: threading.Event) -> None:
        """Call `callback` whenever another process has written to the log, until `stop` is set.

        Returns at once on SQLite, which has no notifications. Poll the log for what is missed.
        """
        self._database.listen(callback, stop)

    def server_time(self, tx: Transaction) -> datetime | None:
        """Return the time by the clock of the database server; None on SQLite, which has none."""
        return self._database.server_time(tx.connection)

    def checkpoint(self) -> bool:
        """Clear what may still contain purged values outside the tables.

        A concurrent reader can prevent it: try again later.

        Returns:
            Whether it succeeded.
        """
        return self._database.checkpoint()


def check_not_lost(settings: Settings) -> None:
    """Refuse to create a SQLite database where there was one.

    An empty one would be served as if no case had ever been opened. The folder of the key, unless
    it was configured, belongs to this database alone, and has its high-water mark.

    Raises:
        DatabaseMissing: there was one.
    """
    if not settings.database.startswith("sqlite:") or settings.key_file or settings.notes:
        return
    file = Path(make_url(settings.database).database or "")
    folder = key_file(settings).parent
    if not file.exists() and any(folder.glob(f"{_MARK}*")):
        raise DatabaseMissing(
            f"{file} is missing, but {folder} has the key of a database that was there. Check the "
            "path, or restore a backup with `clearinghouse restore`. To start with an empty "
            "database, move that folder away."
        )


@contextmanager
def claim_serving(settings: Settings) -> Iterator[None]:
    """Keep other processes from serving a SQLite database, until the end or the process ends.

    A process does not notice at once what another one wrote to a SQLite file. It locks a file next
    to the database, which stays there; the system releases the lock of a process that was killed.
    Commands are not affected. Does nothing on PostgreSQL.

    Raises:
        DatabaseServed: another process serves the database.
        OSError: the file cannot be created.
    """
    if not settings.database.startswith("sqlite:"):
        yield
        return
    database = Path(make_url(settings.database).database or "").resolve()
    file = os.open(f"{database}{_SERVING}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatabaseServed(
                f"Another process serves {database}, and SQLite allows one. Stop it first, or use "
                "PostgreSQL for several."
            ) from None
        yield
    finally:
        os.close(file)


def _close(database: Database) -> None:
    database.writer.dispose()
    database.reader.dispose()


def migrate(connection: Connection) -> None:
    """Migrate the tables to this version, in the caller's transaction.

    Raises:
        NewerDatabase: a newer version migrated them.
    """
    folder = files("clearinghouse.database") / "migrations"
    newest = max(file.name for file in (folder / "versions").iterdir() if file.name[0].isdigit())
    if inspect(connection).has_table("alembic_version"):
        version = connection.scalar(text("SELECT version_num FROM alembic_version"))
        if version == newest.partition("_")[0]:
            return
    _upgrade(connection, folder)


def _upgrade(connection: Connection, migrations: Traversable) -> None:
    # imported here: takes a tenth of a second, and is needed once per version
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    with as_file(migrations) as folder:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError:
            # raised by Alembic for a revision that it does not know
            raise NewerDatabase(
                "A newer version of this service has migrated the database. Install that version."
            ) from None
