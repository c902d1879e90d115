"""The store: opening the database, migrating it, and the transactions that read and write it.

One change log has three readers: platforms' feeds, each worker's live index, and the
acknowledgements. A write and its entries in the log share a transaction, and the order of the log
is the order of commit (`clearinghouse.database.engines` says how). An answer is sent after the
commit, and the commit returns after fsync.
"""

import errno
import logging
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

from sqlalchemy import URL, Connection, inspect, text

from clearinghouse.database import audit
from clearinghouse.database.audit import Act
from clearinghouse.database.engines import Database, open_database
from clearinghouse.database.epoch import EPOCH_BYTES, HighWaterMark, settle
from clearinghouse.database.transaction import Transaction
from clearinghouse.database.withdrawal_journal import WithdrawalJournal
from clearinghouse.errors import KeyMismatch, NewerDatabase
from clearinghouse.sealing.master_key import FACTS, KEY, STEADY, key_file, read_masters, unlock
from clearinghouse.sealing.vault import KEY_BYTES, Vault
from clearinghouse.settings import Settings
from clearinghouse.times import hour

_log = logging.getLogger(__name__)

_RESERVED: Final = 1_000  # row numbers in a block


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Releases:
    """The periods at whose beginnings feeds are given what was added in the one before.

    Args:
        every: their length in minutes; 0 for none.
        clock: the time.
    """

    def __init__(self, every: int, clock: Callable[[], datetime]) -> None:
        self._seconds = every * 60
        self._clock = clock

    def period(self) -> int | None:
        """Return when the present period began, in seconds since 1970; None where there is none."""
        if not self._seconds:
            return None
        return int(self._clock().timestamp()) // self._seconds * self._seconds

    def left(self) -> float | None:
        """Return how many seconds are left of the present period; None where there is none."""
        if not self._seconds:
            return None
        return self._seconds - self._clock().timestamp() % self._seconds


class Store:
    """One database: short read and write transactions, each on a connection of its own."""

    def __init__(
        self,
        database: Database,
        masters: Callable[[], Sequence[bytes]],
        *,
        argon2_memory: int,
        note: Path,
        journal: WithdrawalJournal,
        releases: Releases,
    ) -> None:
        self._database = database
        self._masters = masters
        self._unlocked: tuple[dict[str, bytes], Vault] | None = None  # the facts, and their vault
        self._unlocking = threading.Lock()
        self._note = note
        self._journal = journal
        self.releases = releases
        self._owed = False  # whether the journal may lack a withdrawal
        self._items: list[int] = []  # row numbers reserved for files, not used yet
        self._reserving = threading.Lock()
        # called with the seconds for which each write transaction kept other writers waiting
        self.wrote: Callable[[float], object] = lambda _seconds: None
        self.epoch = 0
        self.argon2_memory = argon2_memory
        self.withdrawn_again = 0  # signals, when the database was opened

    @classmethod
    def open(cls, settings: Settings, *, clock: Callable[[], datetime] = _utc_now) -> Self:
        """Open the database, make or migrate it where needed, and check that the key is its own.

        All of it in the one writer's place, so that two that start at once follow each other.

        Args:
            settings: which database.
            clock: the time, by which new entries of the log are released.

        Raises:
            KeyMissing, KeyMismatch: the database is sealed with a key that is not here.
            NewerDatabase: a newer version migrated it.
            OSError: the folder of the key cannot be written.
        """
        database = open_database(settings)
        try:
            store = cls._over(database, settings, clock)
            store.withdrawn_again = store.settle()
        except BaseException:
            _close(database)
            raise
        return store

    @classmethod
    def settle_copy(cls, settings: Settings, copy: Path, reached: HighWaterMark) -> int:
        """Make a copy of the database in SQLite ready to take its place.

        It gets today's tables and a new epoch of the log behind all that was `reached`, and loses
        what was withdrawn since. What lies outside is read and not changed: the copy may never come
        into its place. Gives the number of signals that were withdrawn again.

        Raises:
            KeyMissing, KeyMismatch, NewerDatabase: as `open`.
        """
        address = URL.create("sqlite", database=str(copy.absolute()))
        database = open_database(replace(settings, database=address.render_as_string()))
        try:
            store = cls._over(database, settings, _utc_now)
            noted = HighWaterMark.read(store._note)
            reached = HighWaterMark(
                max(reached.seq, noted.seq), max(reached.record_seq, noted.record_seq)
            )
            return store._settle(reached, anew=True)
        finally:
            _close(database)

    @classmethod
    def _over(cls, database: Database, settings: Settings, clock: Callable[[], datetime]) -> Self:
        with database.writer.begin() as connection:
            migrate(connection)
            tx = Transaction(connection)
            if KEY not in tx.facts.read([KEY]):
                vault = Vault(read_masters(settings, create=True)[0])
                tx.facts.write(KEY, vault.check())
                steady = vault.seal(secrets.token_bytes(KEY_BYTES), "facts", STEADY)
                tx.facts.write(STEADY, steady)
                tx.facts.write("epoch", secrets.token_bytes(EPOCH_BYTES))
                # For the life of the database: were it changed, checks of older cases would cost
                # something else than those of unknown ones.
                tx.facts.write("argon2", settings.argon2_memory.to_bytes(8, "big"))
            if not tx.facts.read(["identity"]):
                tx.facts.write("identity", secrets.token_bytes(8))
            known = tx.facts.read(["identity", "argon2"])
        # What lies outside belongs to this database and to its backups alone.
        folder = settings.notes or key_file(settings).parent
        identity = known["identity"].hex()
        return cls(
            database,
            lambda: read_masters(settings, create=False),
            argon2_memory=int.from_bytes(known["argon2"], "big"),
            note=folder / f"reached-{identity}",
            journal=WithdrawalJournal(folder / f"withdrawals-{identity}"),
            releases=Releases(settings.release_every, clock),
        )

    def settle(self) -> int:
        """Bring a database that was put back from a backup up to what lies outside of it.

        When it is opened, and when one is found in its place while serving. Gives the number of
        signals that were withdrawn again.

        Raises:
            KeyMismatch: another database is there now.
        """
        with self._reserving:  # so that no number of before is used in what came into its place
            again = self._settle(HighWaterMark.read(self._note), anew=False)
            self._items = []
        with self.read() as tx:
            epoch = tx.log.epoch()
        self._journal.begin(epoch)
        self.epoch = epoch
        try:
            self.note_reached()
            self.keep_withdrawals()
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise  # such as a folder that this user may not write, which is told at once
            self._owed = True
            _log.warning("There is no space beside the key for notes on withdrawals: make some.")
        return again

    def _settle(self, reached: HighWaterMark, *, anew: bool) -> int:
        now = hour(datetime.now(UTC))
        with self._database.writer.begin() as connection:
            tx = Transaction(connection)
            tx.vault, tx.period = self._unlock(tx), self.releases.period()
            before = tx.log.epoch()
            again = settle(self._database, tx, reached, self._journal, now, anew=anew)
            if again or tx.log.epoch() != before:
                audit.record(tx.vault, tx, Act.RESTORED, count=again, hour=now)
            if tx.grew:
                self._database.announce(connection)
        return again

    @property
    def vault(self) -> Vault:
        """The vault that a transaction had last; within one, its own (`Transaction.vault`) counts.

        After a change of the master key, a reader of a state from before may have left the old one.
        """
        assert self._unlocked is not None  # noqa: S101 - opening has a transaction
        return self._unlocked[1]

    def _unlock(self, tx: Transaction) -> Vault:
        """Return the vault of the key that the database has in this transaction.

        Keys are never forgotten before the process ends: what was read a moment ago may still have
        to be opened with an old one.
        """
        sealed = tx.facts.read(FACTS)
        last = self._unlocked
        if last is not None and sealed == last[0]:
            return last[1]
        with self._unlocking:
            known = () if self._unlocked is None else self._unlocked[1].masters
            try:
                vault = unlock(sealed, known or self._masters())
            except KeyMismatch:
                vault = unlock(sealed, [*known, *self._masters()])
            self._unlocked = sealed, vault
        return vault

    def close(self) -> None:
        """Give the connections back."""
        _close(self._database)

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Hold the one writer's place; commit durably at the end, or undo everything.

        What was withdrawn is in the journal as well when this ends.

        Raises:
            OSError: it was committed, and the journal cannot be written. Only who withdraws or
                revokes something gets this: what an earlier write owes is no fault of this one's.
        """
        began = None
        try:
            with self._database.turn(), self._database.writer.begin() as connection:
                began = time.monotonic()
                tx = Transaction(connection)
                tx.vault, tx.period = self._unlock(tx), self.releases.period()
                yield tx
                if tx.grew:
                    self._database.announce(connection)
        finally:
            if began is not None:
                self.wrote(time.monotonic() - began)
        if tx.removed:
            self.keep_withdrawals()
        elif self._owed:
            with suppress(OSError):  # whoever owes it was told, and it is owed on
                self.keep_withdrawals()
        if tx.revoked:
            self._journal.add_keys(tx.revoked)

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """See one state of the database, without keeping a writer waiting."""
        with self._database.reader.begin() as connection:
            tx = Transaction(connection)
            tx.vault, tx.period = self._unlock(tx), self.releases.period()
            yield tx

    def reserve_items(self, count: int) -> list[int]:
        """Return row numbers for files, which no other file will get.

        What a file holds is sealed for its row number, and sealing must not keep writers waiting.
        So the number is known before the transaction that inserts the file. Numbers are reserved in
        blocks; what is left of a block when this process ends is never used.
        """
        with self._reserving:
            if len(self._items) < count:
                with self.write() as tx:
                    self._items += tx.cases.reserve_items(max(count, _RESERVED))
            taken, self._items = self._items[:count], self._items[count:]
            return taken

    def reached(self) -> HighWaterMark:
        """Tell how far the log has got."""
        with self.read() as tx:
            return HighWaterMark(tx.log.head(), tx.stopncii.last_seq())

    def note_reached(self) -> None:
        """Note outside the database how far the log has got (`clearinghouse.database.epoch`)."""
        self.reached().write(self._note)

    def keep_withdrawals(self) -> None:
        """Write down outside the database what was withdrawn, in the withdrawal journal.

        Raises:
            OSError: it cannot be written. It is owed then, and the next write does it.
        """
        self._owed = True
        with self.read() as tx:
            self._journal.catch_up(tx.log.head(), tx.log.removals)
        self._owed = False

    def listen(self, heard: Callable[[], None], ended: threading.Event) -> None:
        """Call `heard` whenever another process has written to the log, until `ended`.

        Returns at once where nobody tells. What is missed must be found by looking.
        """
        self._database.listen(heard, ended)

    def sweep(self) -> bool:
        """Empty what may still hold purged values beside the tables; tell whether it is done.

        A reader at work can be in the way: try again then.
        """
        return self._database.sweep()


def _close(database: Database) -> None:
    database.writer.dispose()
    database.reader.dispose()


def migrate(connection: Connection) -> None:
    """Bring the tables to this version's, in the transaction of the caller.

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
    # a tenth of a second to load, for what is needed once in a version's life
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
            # Alembic's own words for a revision that it does not know
            raise NewerDatabase(
                "A newer version of this service wrote the database. Install that version."
            ) from None
