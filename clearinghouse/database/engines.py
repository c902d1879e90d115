"""SQLite and PostgreSQL: connections, the writer lock, notifications and checkpoints.

On both, log entries are numbered in commit order. SQLite has one writer, and `BEGIN IMMEDIATE`
takes the write lock before a number is allocated. With a PostgreSQL sequence alone, a reader could
skip an entry that commits late; so each writer first takes one advisory lock, which PostgreSQL
releases after the commit is visible. A commit returns when it is on the disk.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from clearinghouse.errors import Busy, DatabaseUnavailable, RequestRefused, SettingInvalid
from clearinghouse.settings import Settings

_LOCK_TIMEOUT_MS: Final = 5_000  # how long a writer waits for the writer lock
_IDLE_TIMEOUT_MS: Final = 60_000  # an idle writer's transaction is rolled back after this
_ADVISORY_LOCK: Final = 0x6E636969  # the key of the writer lock
_CHANNEL: Final = "clearinghouse_log"
_LISTEN_SECONDS: Final = 0.1  # between checks of whether to stop listening
_RECONNECT_SECONDS: Final = 1.0  # between attempts to connect for listening


class Database(Protocol):
    """What the store needs of a database.

    Attributes:
        writer: begins transactions that hold the writer lock from their start.
        reader: begins read-only transactions, each of which sees one snapshot.
    """

    writer: Engine
    reader: Engine

    def process_lock(self) -> AbstractContextManager[None]:
        """Queue the writers among the threads of this process."""

    def announce(self, connection: Connection) -> None:
        """Notify other processes, when this transaction commits, that the log has grown."""

    def listen(self, callback: Callable[[], None], stop: threading.Event) -> None:
        """Call `callback` after each announcement by any process, until `stop` is set."""

    def checkpoint(self) -> bool:
        """Clear what may still contain purged values outside the tables.

        Returns:
            Whether it succeeded.
        """

    def server_time(self, connection: Connection, /) -> datetime | None:
        """Return the time by the server's clock; None if the database has no server."""

    def last_id(self, connection: Connection, table: str) -> int:
        """Return the last row number that was allocated in this table."""

    def advance_ids(self, connection: Connection, table: str, number: int) -> None:
        """Make the next row number of this table larger than `number`."""


def open_database(settings: Settings) -> Database:
    """Return the database that the settings name, without connecting to it."""
    if settings.database.startswith("sqlite:"):
        return Sqlite(settings)
    return Postgres(settings)


class Sqlite:
    """A database in one file, for one serving process and the command line."""

    def __init__(self, settings: Settings) -> None:
        if path := make_url(settings.database).database:
            # SQLite would create it readable for everybody
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self.writer = _sqlite_engine(settings, write=True)
        self.reader = _sqlite_engine(settings, write=False)
        self._process_lock = threading.Lock()

    @contextmanager
    def process_lock(self) -> Iterator[None]:
        """Queue the writers among the threads of this process.

        SQLite itself retries a locked database after increasing sleeps, so that later writers may
        be served first.

        Raises:
            Busy: the lock was not free in time.
        """
        if not self._process_lock.acquire(timeout=_LOCK_TIMEOUT_MS / 1000):
            raise Busy
        try:
            yield
        finally:
            self._process_lock.release()

    def announce(self, connection: Connection) -> None:
        """Do nothing: no other process serves, and writes of the command line are polled for."""

    def listen(self, callback: Callable[[], None], stop: threading.Event) -> None:
        """Return at once: SQLite has no notifications."""

    def checkpoint(self) -> bool:
        """Truncate the write-ahead log, which may still contain purged values.

        A concurrent reader can prevent it. In the database file itself `secure_delete` has
        overwritten the values.

        Returns:
            Whether the log is empty.
        """
        connection = self.writer.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            [(busy, _, _)] = cursor.fetchall()
            return not busy
        finally:
            connection.close()

    def server_time(self, _connection: Connection) -> datetime | None:
        """Return None: there is no server."""
        return None

    def last_id(self, connection: Connection, table: str) -> int:
        """Return the last row number that was allocated in this table."""
        query = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
        return connection.scalar(query, {"name": table}) or 0

    def advance_ids(self, connection: Connection, table: str, number: int) -> None:
        """Make the next row number of this table larger than `number`."""
        connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :n"), {"n": table})
        connection.execute(
            text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"),
            {"name": table, "seq": number},
        )


def _sqlite_engine(settings: Settings, *, write: bool) -> Engine:
    # hide_parameters: the message of an error must not contain the values being written
    engine = create_engine(settings.database, hide_parameters=True, pool_size=20, max_overflow=40)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:  # noqa: ANN401 - the driver's own
        connection.isolation_level = None  # the `begin` listener starts transactions
        for pragma in (
            f"busy_timeout={_LOCK_TIMEOUT_MS}",
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


class Postgres:
    """A database server, for any number of identical workers on any number of machines."""

    def __init__(self, settings: Settings) -> None:
        try:
            self.writer = _postgres_engine(settings, write=True)
            self.reader = _postgres_engine(settings, write=False)
        except ImportError:
            raise SettingInvalid(
                "PostgreSQL needs the extra `postgres`: pip install 'nciihash[server,postgres]'."
            ) from None

    def process_lock(self) -> AbstractContextManager[None]:
        """Do nothing: the server queues the transactions that wait for the advisory lock."""
        return nullcontext()

    def announce(self, connection: Connection) -> None:
        """Notify other processes, when this transaction commits, that the log has grown."""
        connection.exec_driver_sql(f"NOTIFY {_CHANNEL}")

    def listen(self, callback: Callable[[], None], stop: threading.Event) -> None:
        """Call `callback` at each notification, until `stop` is set.

        A lost connection is reopened. Notifications missed meanwhile are made up for by polling the
        log.
        """
        import psycopg  # an extra, which SQLite does without

        _, options = self.reader.dialect.create_connect_args(self.reader.url)
        options = _timeout_options(self.reader.url) | dict(options)
        while not stop.is_set():
            try:
                with psycopg.connect(**options, autocommit=True) as connection:
                    connection.execute(f"LISTEN {_CHANNEL}")
                    callback()  # for what was announced before
                    while not stop.is_set():
                        for _ in connection.notifies(timeout=_LISTEN_SECONDS, stop_after=1):
                            callback()
            except psycopg.Error:
                stop.wait(_RECONNECT_SECONDS)

    def checkpoint(self) -> bool:
        """Return True: autovacuum overwrites purged rows, and the server recycles its WAL."""
        return True

    def server_time(self, connection: Connection) -> datetime | None:
        """Return the time by the server's clock."""
        seconds = connection.scalar(text("SELECT EXTRACT(EPOCH FROM clock_timestamp())"))
        return datetime.fromtimestamp(float(seconds or 0), UTC)

    def last_id(self, connection: Connection, table: str) -> int:
        """Return the last row number that was allocated in this table."""
        query = text(
            "SELECT pg_sequence_last_value(CAST(pg_get_serial_sequence(:n, 'id') AS regclass))"
        )
        return connection.scalar(query, {"n": table}) or 0

    def advance_ids(self, connection: Connection, table: str, number: int) -> None:
        """Make the next row number of this table larger than `number`."""
        connection.execute(
            text("SELECT setval(pg_get_serial_sequence(:n, 'id'), :seq)"),
            {"n": table, "seq": number},
        )


def _timeout_options(url: URL) -> dict[str, Any]:
    """Return libpq settings that detect a server which disappeared without closing connections.

    Settings in the operator's database URL take precedence.
    """
    defaults = {
        "connect_timeout": 5,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    }
    return {name: value for name, value in defaults.items() if name not in url.query}


def _postgres_engine(settings: Settings, *, write: bool) -> Engine:
    engine = create_engine(
        settings.database,
        hide_parameters=True,
        pool_size=settings.connections // 2,
        max_overflow=0,
        pool_timeout=_LOCK_TIMEOUT_MS / 1000,
        pool_pre_ping=True,  # so that no request fails after the server was restarted
        connect_args=_timeout_options(make_url(settings.database)),
    )
    session = (
        f"SET lock_timeout = {_LOCK_TIMEOUT_MS}; "
        f"SET idle_in_transaction_session_timeout = {_IDLE_TIMEOUT_MS};"
        if write
        else "SET default_transaction_read_only = on; "
        "SET default_transaction_isolation = 'repeatable read';"
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:  # noqa: ANN401 - the driver's own
        connection.autocommit = True
        connection.execute(session)
        durable = connection.execute(
            "SELECT current_setting('synchronous_commit') <> 'off' AND current_setting('fsync')"
            " = 'on' AND current_setting('server_encoding') = 'UTF8'"
        ).fetchone()
        connection.autocommit = False
        if not durable[0]:
            raise SettingInvalid(
                "This PostgreSQL server could lose confirmed writes, or cannot store every name. "
                "Set fsync = on and synchronous_commit = on, and use a database with encoding UTF8."
            )

    if write:

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            # READ COMMITTED, so later statements see everything that earlier writers committed
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")

    return engine


def to_refusal(error: SQLAlchemyError) -> RequestRefused | None:
    """Return the refusal to send for a database error, or None if the error is a bug.

    `Busy`: other writers hold the lock, or all connections are in use. `DatabaseUnavailable`: the
    database cannot be reached, is starting or stopping, has no space left, or is a read-only
    replica.
    """
    if isinstance(error, PoolExhausted):
        return Busy()
    if not isinstance(error, DBAPIError):
        return None
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        if state in _BUSY_STATES:
            return Busy()
        unavailable = state[:2] in _UNAVAILABLE_CLASSES or state in _UNAVAILABLE_STATES
        return DatabaseUnavailable() if unavailable else None
    if error.connection_invalidated:
        return DatabaseUnavailable()
    if type(error.orig).__module__.startswith("psycopg"):
        # the connection broke, or was never made, so there is no SQLSTATE
        return (
            DatabaseUnavailable() if isinstance(error, OperationalError | InterfaceError) else None
        )
    # sqlite3 raises OperationalError for all of these; only the message distinguishes them
    message = str(error.orig)
    if _LOCKED_MESSAGE in message:
        return Busy()
    return DatabaseUnavailable() if any(part in message for part in _DISK_MESSAGES) else None


# SQLSTATE: lock_not_available, query_canceled, deadlock_detected, serialization_failure
_BUSY_STATES: Final = frozenset({"55P03", "57014", "40P01", "40001"})
# connection exception, insufficient resources (a full disk), operator intervention, system error
_UNAVAILABLE_CLASSES: Final = frozenset({"08", "53", "57", "58"})
# read_only_sql_transaction (a primary that was demoted), idle_in_transaction_session_timeout,
# invalid_authorization_specification, invalid_catalog_name
_UNAVAILABLE_STATES: Final = frozenset({"25006", "25P03", "28000", "3D000"})
_LOCKED_MESSAGE: Final = "database is locked"
_DISK_MESSAGES: Final = (
    *("disk is full", "disk I/O error", "unable to open database file"),
    "attempt to write a readonly database",
)
