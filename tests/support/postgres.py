"""Databases for tests: a fresh SQLite file or PostgreSQL database for each.

A PostgreSQL server is started from Debian's programs when the first test needs it, once per process
of the test run. CLEARINGHOUSE_TEST_POSTGRES names another server on which databases may be created,
as postgresql+psycopg://USER@HOST/NAME. If there is neither, these tests are skipped.
"""

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url

from clearinghouse.database.engines import Postgres, open_database
from clearinghouse.database.store import migrate
from clearinghouse.settings import Settings

ADDRESS = "CLEARINGHOUSE_TEST_POSTGRES"


def programs():
    """Return the program folder of the newest PostgreSQL from Debian; None if there is none."""
    folders = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    found = sorted(folders, key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class Server:
    """A PostgreSQL server in a folder of its own, with a Unix socket there."""

    def __init__(self, folder, program_folder):
        self.folder = folder
        self.program_folder = program_folder
        # PostgreSQL refuses to run as root
        self.user = None
        if os.getuid() == 0:
            self.user = pwd.getpwnam("postgres").pw_name
            shutil.chown(folder, self.user)
        self._run("initdb", "--auth=trust", "--username=tests", "--encoding=UTF8", "--no-sync")
        self.start()

    @property
    def address(self):
        return f"postgresql+psycopg://tests@/postgres?host={self.folder}"

    def start(self):
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}'"
        options += " -c max_connections=150"
        self._run("pg_ctl", "start", "--wait", "-l", self.folder / "log", "-o", options)

    def stop(self, mode="fast"):
        self._run("pg_ctl", "stop", "--wait", "--mode", mode)

    def _run(self, program, *words):
        # to a file: the server that pg_ctl starts would keep a pipe open
        with (self.folder / "output").open("w+b") as output:
            process = subprocess.run(
                [self.program_folder / program, "-D", self.folder / "data", *words],
                user=self.user,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                cwd="/",
            )
        assert process.returncode == 0, (self.folder / "output").read_text()


class Databases:
    """A source of fresh databases, copied from an empty one with all tables."""

    def __init__(self, address, server=None):
        self.address = make_url(address)
        self._server = server
        self._engine = create_engine(self.address, isolation_level="AUTOCOMMIT")
        self._template = self._name()
        self._run(f"CREATE DATABASE {self._template} TEMPLATE template0 ENCODING 'UTF8'")
        database = Postgres(Settings(database=self._url(self._template)))
        with database.writer.begin() as connection:
            migrate(connection)
        database.writer.dispose()

    def _name(self):
        return f"clearinghouse_test_{secrets.token_hex(6)}"

    def _url(self, name):
        return self.address.set(database=name).render_as_string(hide_password=False)

    def _run(self, statement):
        with self._engine.connect() as connection:
            connection.exec_driver_sql(statement)

    @contextmanager
    def fresh(self, *, empty=False):
        """Create a database and yield its address; with all tables, unless `empty`."""
        name = self._name()
        self._run(f"CREATE DATABASE {name} TEMPLATE {'template0' if empty else self._template}")
        try:
            yield self._url(name)
        finally:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def dump(self, address):
        """Return the output of pg_dump and, of a server of our own, all its files, by name."""
        program_folder = programs()
        plain = make_url(address).set(drivername="postgresql").render_as_string(False)
        command = [program_folder / "pg_dump" if program_folder else "pg_dump", "--dbname", plain]
        found = {"dump": subprocess.run(command, capture_output=True, check=True).stdout}
        if self._server is not None:
            self._run("CHECKPOINT")
            for path in (self._server.folder / "data").rglob("*"):
                if path.is_file():
                    found[str(path)] = path.read_bytes()
        return found

    def close(self):
        self._run(f"DROP DATABASE {self._template} WITH (FORCE)")
        self._engine.dispose()


def _memory():
    """Return a folder in memory with space for the servers of a test run; None if there is none."""
    shared = Path("/dev/shm")
    try:
        return shared if shutil.disk_usage(shared).free > 4 * 2**30 else None
    except OSError:
        return None


@contextmanager
def server():
    """Run a server from Debian's programs; yield None if there are none."""
    program_folder = programs()
    if program_folder is None:
        yield None
        return
    # outside pytest's folder, which other users cannot read, with a short path for the socket; in
    # memory if possible, because the server waits for the disk at each commit
    folder = Path(tempfile.mkdtemp(prefix="ch-pg-", dir=_memory()))
    running = Server(folder, program_folder)
    try:
        yield running
    finally:
        running.stop("immediate")
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def databases():
    """The source of fresh PostgreSQL databases."""
    if address := os.environ.get(ADDRESS):
        source = Databases(address)
        yield source
        source.close()
        return
    with server() as running:
        if running is None:
            pytest.skip(f"no PostgreSQL in /usr/lib/postgresql, and {ADDRESS} names none")
        source = Databases(running.address, running)
        yield source
        source.close()


@pytest.fixture
def own_server():
    """A PostgreSQL server that the test may stop and start."""
    with server() as running:
        if running is None:
            pytest.skip("no PostgreSQL in /usr/lib/postgresql")
        yield running


@pytest.fixture(scope="session")
def empty_file(tmp_path_factory):
    """An SQLite file with all tables, empty."""
    path = tmp_path_factory.mktemp("empty") / "db.sqlite3"
    database = open_database(Settings(database=f"sqlite:///{path}"))
    with database.writer.begin() as connection:
        migrate(connection)
    for engine in {database.reader, database.writer}:
        engine.dispose()
    return path


@pytest.fixture
def database(request, tmp_path):
    """The address of a fresh database: SQLite, unless `conftest` parametrizes both."""
    if getattr(request, "param", "sqlite") == "sqlite":
        # a copy: creating the tables takes longer than most tests
        shutil.copy(request.getfixturevalue("empty_file"), tmp_path / "db.sqlite3")
        yield f"sqlite:///{tmp_path}/db.sqlite3"
        return
    with request.getfixturevalue("databases").fresh() as address:
        yield address
