"""The database: opening it, migrating it, and the transactions in which it is read and written.

One change log has three readers: platforms' feeds, the live index, and the acknowledgements. A
write and its entries in the log share a transaction, and the order of the log is the order of
commit, since SQLite has one writer and `BEGIN IMMEDIATE` takes its place before a number is given.
An answer is sent after the commit, and the commit returns after fsync (`synchronous=FULL`).
"""

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
from clearinghouse.schema import (
    facts,
)
from clearinghouse.settings import Settings
from clearinghouse.statements import Transaction
from clearinghouse.vault import Vault, parse_key, read_key

_BUSY_MS: Final = 20_000  # how long a second writer waits for its turn


class Store:
    """One database: short read and write transactions, each on a connection of its own."""

    def __init__(self, writer: Engine, reader: Engine, vault: Vault, epoch: int) -> None:
        self._writer = writer
        self._reader = reader
        self.vault = vault
        self.epoch = epoch

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
                    # 56 bits, so that it fits beside a kind and a number into one AES block
                    epoch = secrets.token_bytes(7)
                    connection.execute(insert(facts).values(name="epoch", value=epoch))
                else:
                    _compare(known, check)
                stored = connection.scalar(select(facts.c.value).where(facts.c.name == "epoch"))
                assert stored is not None  # noqa: S101 - written with the key, in one transaction
        except BaseException:
            writer.dispose()
            reader.dispose()
            raise
        return cls(writer, reader, vault, int.from_bytes(stored, "big"))

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
    path = settings.key_file
    if path is None:
        database = Path(make_url(settings.database).database or "clearinghouse.sqlite3")
        path = database.with_name(database.name + "-key") / "master"
    return read_key(path, create=create)
