"""The store: opening the database, migrating it, and the transactions that read and write it.

One change log has three readers: platforms' feeds, each worker's live index, and the
acknowledgements. A write and its entries in the log share a transaction, and the order of the log
is the order of commit (`clearinghouse.databases` says how). An answer is sent after the commit, and
the commit returns after fsync.
"""

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path
from typing import Self

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, insert, make_url, select

from clearinghouse.databases import Database, open_database
from clearinghouse.privacy import hour
from clearinghouse.problems import KeyMismatch, NewerDatabase
from clearinghouse.restoration import EPOCH_BYTES, Reached, settle
from clearinghouse.schema import facts
from clearinghouse.settings import Settings
from clearinghouse.statements import Transaction
from clearinghouse.vault import Vault, parse_key, read_key
from clearinghouse.withdrawals import Journal


class Store:
    """One database: short read and write transactions, each on a connection of its own."""

    def __init__(
        self, database: Database, vault: Vault, *, argon2_memory: int, note: Path, journal: Journal
    ) -> None:
        self._database = database
        self.vault = vault
        self.epoch = 0
        self.argon2_memory = argon2_memory
        self._note = note
        self._journal = journal
        self._owed = False  # whether the journal may lack a withdrawal

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Open the database, make or migrate it where needed, and check that the key is its own.

        All of it in the one writer's place, so that two that start at once follow each other.

        Raises:
            KeyMissing, KeyMismatch: the database is sealed with a key that is not here.
            NewerDatabase: a newer version migrated it.
            OSError: the folder of the key cannot be written.
        """
        database = open_database(settings)
        try:
            with database.writer.begin() as connection:
                migrate(connection)
                known = _fact(connection, "key")
                vault = Vault(_master(settings, create=known is None))
                check = vault.lookup("check", b"")
                if known is None:
                    for name, value in (
                        ("key", check),
                        ("epoch", secrets.token_bytes(EPOCH_BYTES)),
                        # For the life of the database: were it changed, checks of older cases
                        # would cost something else than those of unknown ones.
                        ("argon2", settings.argon2_memory.to_bytes(8, "big")),
                    ):
                        connection.execute(insert(facts).values(name=name, value=value))
                else:
                    _compare(known, check)
                memory = _fact(connection, "argon2") or b""
                # What lies outside belongs to this database and to its backups alone.
                identity = _fact(connection, "identity")
                if identity is None:
                    identity = secrets.token_bytes(8)
                    connection.execute(insert(facts).values(name="identity", value=identity))
            folder = settings.notes or _key_folder(settings)
            store = cls(
                database,
                vault,
                argon2_memory=int.from_bytes(memory, "big"),
                note=folder / f"reached-{identity.hex()}",
                journal=Journal(folder / f"withdrawals-{identity.hex()}"),
            )
            store.settle()
        except BaseException:
            database.writer.dispose()
            database.reader.dispose()
            raise
        return store

    def settle(self) -> None:
        """Bring a database that was put back from a backup up to what lies outside of it.

        When it is opened, and when one is found in its place while serving.

        Raises:
            KeyMismatch: another database is there now.
        """
        with self._database.writer.begin() as connection:
            _compare(_fact(connection, "key") or b"", self.vault.lookup("check", b""))
            reached = Reached.read(self._note)
            now = hour(datetime.now(UTC))
            settle(self._database, connection, reached, self._journal, now)
            self.epoch = Transaction(connection).epoch()
        self._journal.begin(self.epoch)
        self.note_reached()
        self.keep_withdrawals()

    def close(self) -> None:
        """Give the connections back."""
        self._database.writer.dispose()
        self._database.reader.dispose()

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Hold the one writer's place; commit durably at the end, or undo everything.

        What was withdrawn is in the journal as well when this ends.
        """
        with self._database.writer.begin() as connection:
            tx = Transaction(connection)
            yield tx
            if tx.grew:
                self._database.announce(connection)
        self._owed |= tx.removed
        if self._owed:
            self.keep_withdrawals()
        if tx.revoked:
            self._journal.add_keys(tx.revoked)

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """See one state of the database, without keeping a writer waiting."""
        with self._database.reader.begin() as connection:
            yield Transaction(connection)

    def note_reached(self) -> None:
        """Note outside the database how far the log has got (`clearinghouse.restoration`)."""
        with self.read() as tx:
            reached = Reached(tx.head(), tx.last_place())
        reached.write(self._note)

    def keep_withdrawals(self) -> None:
        """Write down outside the database what was withdrawn (`clearinghouse.withdrawals`).

        Raises:
            OSError: it cannot be written. It is owed then, and the next write does it.
        """
        self._owed = True
        with self.read() as tx:
            self._journal.catch_up(tx.head(), tx.removals)
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


def _fact(connection: Connection, name: str) -> bytes | None:
    value: bytes | None = connection.scalar(select(facts.c.value).where(facts.c.name == name))
    return value


def _compare(known: bytes, check: bytes) -> None:
    if not secrets.compare_digest(known, check):
        raise KeyMismatch(
            "This key does not belong to this database. Name the right file in "
            "CLEARINGHOUSE_KEY_FILE."
        )


def migrate(connection: Connection) -> None:
    """Bring the tables to this version's, in the transaction of the caller.

    Raises:
        NewerDatabase: a newer version migrated them.
    """
    with as_file(files("clearinghouse") / "migrations") as folder:
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


def _master(settings: Settings, *, create: bool) -> bytes:
    if settings.key is not None:
        return parse_key(settings.key)
    return read_key(settings.key_file or _key_folder(settings) / "master", create=create)


def _key_folder(settings: Settings) -> Path:
    """Give the folder for what must not lie in the database or in its backups."""
    if settings.key_file is not None:
        return settings.key_file.parent
    if not settings.database.startswith("sqlite:"):
        return Path("clearinghouse-key")
    database = Path(make_url(settings.database).database or "")
    return database.with_name(database.name + "-key")
