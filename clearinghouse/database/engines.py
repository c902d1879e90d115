"""The two databases under the store: how each is opened, takes one writer at a time, and is tidied.

On both, the order of the log is the order of commit. SQLite has one writer, and `BEGIN IMMEDIATE`
takes its place before a number is given. On PostgreSQL a sequence alone would let a reader skip an
entry that commits late; so each writer first takes one advisory lock, which is held until its
commit can be seen. A commit returns when it is on the disk.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, Protocol

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from clearinghouse.errors import Busy, DatabaseUnavailable, RequestRefused, SettingInvalid
from clearinghouse.settings import Settings

_WAIT_MS: Final = 5_000  # how long a second writer waits for its turn
_STUCK_MS: Final = 60_000  # after which a writer that does nothing loses its place
_WRITER: Final = 0x6E636969  # the number of the writers' advisory lock
_CHANNEL: Final = "clearinghouse_log"
_LISTEN: Final = 0.1  # seconds between looks at whether listening is to end
_AGAIN: Final = 1.0  # seconds before a lost connection for listening is made anew


class Database(Protocol):
    """What the store needs of a database.

    Attributes:
        writer: gives transactions that hold the one writer's place from their beginning.
        reader: gives transactions that see one state and cannot write.
    """

    writer: Engine
    reader: Engine

    def turn(self) -> AbstractContextManager[None]:
        """Wait for the turn to write, among the threads of this process."""

    def announce(self, connection: Connection) -> None:
        """Tell other processes, when this transaction commits, that the log has grown."""

    def listen(self, heard: Callable[[], None], ended: threading.Event) -> None:
        """Call `heard` whenever any process has announced something, until `ended`."""

    def sweep(self) -> bool:
        """Empty what keeps purged values beside the tables, if we can; tell whether it is done."""

    def last_number(self, connection: Connection, table: str) -> int:
        """Give the last row number that this table gave."""

    def jump(self, connection: Connection, table: str, number: int) -> None:
        """Let the next row of this table have a number behind this one."""


def open_database(settings: Settings) -> Database:
    """Prepare the database that the settings name; nothing is connected yet."""
    if settings.database.startswith("sqlite:"):
        return Sqlite(settings)
    return Postgres(settings)


class Sqlite:
    """One file, for one serving process and the command line beside it."""

    def __init__(self, settings: Settings) -> None:
        if path := make_url(settings.database).database:
            # Made here, since SQLite would make it readable for everybody.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self.writer = _sqlite_engine(settings, write=True)
        self.reader = _sqlite_engine(settings, write=False)
        self._turn = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn to write, among the threads of this process.

        SQLite makes a writer that finds the database locked sleep and try again, for longer and
        longer, and those that come later may be served first.

        Raises:
            Busy: it does not come in time.
        """
        if not self._turn.acquire(timeout=_WAIT_MS / 1000):
            raise Busy
        try:
            yield
        finally:
            self._turn.release()

    def announce(self, connection: Connection) -> None:
        """Do nothing: there is nobody to tell, and the command line's writes are polled for."""

    def listen(self, heard: Callable[[], None], ended: threading.Event) -> None:
        """Return at once: there is nothing to hear."""

    def sweep(self) -> bool:
        """Empty the write-ahead log, which may still hold purged values; tell whether it is empty.

        A reader can be in the way. In the file itself `secure_delete` has overwritten them.
        """
        connection = self.writer.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            [(busy, _, _)] = cursor.fetchall()
            return not busy
        finally:
            connection.close()

    def last_number(self, connection: Connection, table: str) -> int:
        """Give the last row number that this table gave."""
        query = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
        return connection.scalar(query, {"name": table}) or 0

    def jump(self, connection: Connection, table: str, number: int) -> None:
        """Let the next row of this table have a number behind this one."""
        connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :n"), {"n": table})
        connection.execute(
            text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"),
            {"name": table, "seq": number},
        )


def _sqlite_engine(settings: Settings, *, write: bool) -> Engine:
    # hide_parameters: an error's text must not carry the values that were being written
    engine = create_engine(settings.database, hide_parameters=True, pool_size=20, max_overflow=40)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:  # noqa: ANN401 - the driver's own
        connection.isolation_level = None  # transactions are begun below, not by the driver
        for pragma in (
            f"busy_timeout={_WAIT_MS}",
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
    """A server, for any number of identical workers on any number of machines."""

    def __init__(self, settings: Settings) -> None:
        try:
            self.writer = _postgres_engine(settings, write=True)
            self.reader = _postgres_engine(settings, write=False)
        except ImportError:
            raise SettingInvalid(
                "PostgreSQL needs the extra `postgres`: pip install 'nciihash[server,postgres]'."
            ) from None

    def turn(self) -> AbstractContextManager[None]:
        """Return at once: the server queues those who wait for its lock."""
        return nullcontext()

    def announce(self, connection: Connection) -> None:
        """Tell other processes, when this transaction commits, that the log has grown."""
        connection.exec_driver_sql(f"NOTIFY {_CHANNEL}")

    def listen(self, heard: Callable[[], None], ended: threading.Event) -> None:
        """Call `heard` at each notification, until `ended`; a lost connection is made anew.

        Whatever is missed meanwhile is found by polling the log.
        """
        import psycopg  # an extra, which SQLite does without

        _, options = self.reader.dialect.create_connect_args(self.reader.url)
        options = _busy_options(self.reader.url) | dict(options)
        while not ended.is_set():
            try:
                with psycopg.connect(**options, autocommit=True) as connection:
                    connection.execute(f"LISTEN {_CHANNEL}")
                    heard()  # of what was announced before
                    while not ended.is_set():
                        for _ in connection.notifies(timeout=_LISTEN, stop_after=1):
                            heard()
            except psycopg.Error:
                ended.wait(_AGAIN)

    def sweep(self) -> bool:
        """Leave it to the server: autovacuum overwrites what is purged, and its log is recycled."""
        return True

    def last_number(self, connection: Connection, table: str) -> int:
        """Give the last row number that this table gave."""
        query = text(
            "SELECT pg_sequence_last_value(CAST(pg_get_serial_sequence(:n, 'id') AS regclass))"
        )
        return connection.scalar(query, {"n": table}) or 0

    def jump(self, connection: Connection, table: str, number: int) -> None:
        """Let the next row of this table have a number behind this one."""
        connection.execute(
            text("SELECT setval(pg_get_serial_sequence(:n, 'id'), :seq)"),
            {"n": table, "seq": number},
        )


def _busy_options(url: URL) -> dict[str, Any]:
    """Give libpq's settings by which a server that went away without a word is noticed.

    Those that the operator wrote into the address are left to it.
    """
    ours = {
        "connect_timeout": 5,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    }
    return {name: value for name, value in ours.items() if name not in url.query}


def _postgres_engine(settings: Settings, *, write: bool) -> Engine:
    engine = create_engine(
        settings.database,
        hide_parameters=True,
        pool_size=settings.connections // 2,
        max_overflow=0,
        pool_timeout=_WAIT_MS / 1000,
        pool_pre_ping=True,  # a server that was started anew costs nobody an error
        connect_args=_busy_options(make_url(settings.database)),
    )
    session = (
        f"SET lock_timeout = {_WAIT_MS}; SET idle_in_transaction_session_timeout = {_STUCK_MS};"
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
                "This PostgreSQL would lose confirmed writes, or cannot keep all names: it must "
                "run with fsync = on, synchronous_commit = on and a database in UTF8."
            )

    if write:

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            # READ COMMITTED: what follows sees all that the writer before us committed.
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER})")

    return engine


def refusal(error: SQLAlchemyError) -> RequestRefused | None:
    """Say what a caller is told when the database fails: to come back, or None for a fault of ours.

    Busy: others write, or all connections are in use. Away: it cannot be reached, is being started
    or stopped, has no space left, or is a copy that takes no writes.
    """
    if isinstance(error, PoolExhausted):
        return Busy()
    if not isinstance(error, DBAPIError):
        return None
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        if state in _BUSY_STATES:
            return Busy()
        return (
            DatabaseUnavailable() if state[:2] in _AWAY_CLASSES or state in _AWAY_STATES else None
        )
    if error.connection_invalidated:
        return DatabaseUnavailable()
    if type(error.orig).__module__.startswith("psycopg"):
        # broken off, or never made: the server gave no state
        return (
            DatabaseUnavailable() if isinstance(error, OperationalError | InterfaceError) else None
        )
    # SQLite's own words, and the only way that its driver tells one trouble from another
    words = str(error.orig)
    if any(word in words for word in _LOCKED):
        return Busy()
    return DatabaseUnavailable() if any(word in words for word in _NO_DISK) else None


# PostgreSQL's codes: lock_not_available, query_canceled, deadlock, serialization failure
_BUSY_STATES: Final = frozenset({"55P03", "57014", "40P01", "40001"})
# connection exception, insufficient resources (a full disk), operator intervention, system error
_AWAY_CLASSES: Final = frozenset({"08", "53", "57", "58"})
# read-only transaction: a server that gave its place to another; a transaction idle for too long
_AWAY_STATES: Final = frozenset({"25006", "25P03", "28000", "3D000"})
_LOCKED: Final = ("database is locked",)
_NO_DISK: Final = ("disk is full", "disk I/O error", "unable to open database file")
