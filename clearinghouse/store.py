"""The database: opening it, migrating it, and the transactions in which it is read and written.

One change log has three readers: platforms' feeds, the live index, and the acknowledgements. A
write and its entries in the log share a transaction, and the order of the log is the order of
commit, since SQLite has one writer and `BEGIN IMMEDIATE` takes its place before a number is given.
An answer is sent after the commit, and the commit returns after fsync (`synchronous=FULL`).
"""

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final, Self

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import (
    Connection,
    Engine,
    create_engine,
    event,
    insert,
    make_url,
    select,
)

from clearinghouse.problems import KeyMismatch, NewerDatabase
from clearinghouse.restoration import EPOCH_BYTES, Reached, begin_epoch_if_restored
from clearinghouse.schema import (
    facts,
)
from clearinghouse.settings import Settings
from clearinghouse.statements import Transaction
from clearinghouse.vault import Vault, parse_key, read_key

_log = logging.getLogger(__name__)

_BUSY_MS: Final = 5_000  # how long a second writer waits for its turn


class Store:
    """One database: short read and write transactions, each on a connection of its own."""

    def __init__(
        self,
        writer: Engine,
        reader: Engine,
        vault: Vault,
        *,
        epoch: int,
        argon2_memory: int,
        note: Path,
    ) -> None:
        self._writer = writer
        self._reader = reader
        self.vault = vault
        self.epoch = epoch
        self.argon2_memory = argon2_memory
        self._note = note

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Open the database, make or migrate it where needed, and check that the key is its own.

        Raises:
            KeyMissing, KeyMismatch: the database is sealed with a key that is not here.
            NewerDatabase: a newer version migrated it.
        """
        writer, reader = _engine(settings, write=True), _engine(settings, write=False)
        try:
            with writer.begin() as connection:
                _migrate(connection)
                known = connection.scalar(select(facts.c.value).where(facts.c.name == "key"))
                vault = Vault(_master(settings, create=known is None))
                check = vault.lookup("check", b"")
                if known is None:
                    connection.execute(insert(facts).values(name="key", value=check))
                    epoch = secrets.token_bytes(EPOCH_BYTES)
                    connection.execute(insert(facts).values(name="epoch", value=epoch))
                    # For the life of the database: were it changed, checks of older cases would
                    # cost something else than those of unknown ones.
                    memory = settings.argon2_memory.to_bytes(8, "big")
                    connection.execute(insert(facts).values(name="argon2", value=memory))
                else:
                    _compare(known, check)
                note = _key_folder(settings) / "reached"
                if begin_epoch_if_restored(connection, Reached.read(note)):
                    _log.warning("The database is older than it was: a new epoch of the log begins")
                epoch = _fact(connection, "epoch")
                memory = _fact(connection, "argon2")
        except BaseException:
            writer.dispose()
            reader.dispose()
            raise
        return cls(
            writer,
            reader,
            vault,
            epoch=int.from_bytes(epoch, "big"),
            argon2_memory=int.from_bytes(memory, "big"),
            note=note,
        )

    def close(self) -> None:
        """Give the connections back."""
        self._writer.dispose()
        self._reader.dispose()

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Hold the one writer's place; commit durably at the end, or undo everything."""
        with self._writer.begin() as connection:
            yield Transaction(connection)

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """See one state of the database, without keeping a writer waiting."""
        with self._reader.begin() as connection:
            yield Transaction(connection)

    def note_reached(self) -> None:
        """Note outside the database how far the log has got (`clearinghouse.restoration`)."""
        with self.read() as tx:
            reached = Reached(tx.head(), tx.last_place())
        reached.write(self._note)

    def sweep(self) -> bool:
        """Empty the write-ahead log, which may still hold purged values; tell whether it is empty.

        A reader at work can be in the way: try again then.
        """
        connection = self._writer.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            [(busy, _, _)] = cursor.fetchall()
            return not busy
        finally:
            connection.close()


def _fact(connection: Connection, name: str) -> bytes:
    value = connection.scalar(select(facts.c.value).where(facts.c.name == name))
    assert isinstance(value, bytes)  # noqa: S101 - written with the key, in one transaction
    return value


def _compare(known: bytes, check: bytes) -> None:
    if not secrets.compare_digest(known, check):
        raise KeyMismatch(
            "This key does not belong to this database. Name the right file in "
            "CLEARINGHOUSE_KEY_FILE."
        )


def _engine(settings: Settings, *, write: bool) -> Engine:
    if path := make_url(settings.database).database:
        # Made here, since SQLite would make it readable for everybody.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    # hide_parameters: an error's text must not carry the values that were being written
    engine = create_engine(settings.database, hide_parameters=True, pool_size=20, max_overflow=40)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:  # noqa: ANN401 - the driver's own
        connection.isolation_level = None  # transactions are begun below, not by the driver
        for pragma in (
            f"busy_timeout={_BUSY_MS}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "secure_delete=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")
        if not write:
            connection.execute("PRAGMA query_only=ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _migrate(connection: Connection) -> None:
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
    database = Path(make_url(settings.database).database or "")
    return database.with_name(database.name + "-key")
