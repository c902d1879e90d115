"""A clearinghouse in its own process, over real HTTP, and the operator's commands."""

import io
import os
import re
import secrets
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from unittest import mock

import httpx
from sqlalchemy import create_engine, make_url

from clearinghouse.cli import app
from clearinghouse.database.store import Store
from clearinghouse.platforms import keys
from clearinghouse.platforms.keys import Scope
from clearinghouse.settings import Settings
from nciihash.client import Client
from nciihash.wire import Reason
from support.forked_command import ForkedCommand

PROGRAM = (sys.executable, "-m", "clearinghouse")
ENVIRONMENT = {
    "CLEARINGHOUSE_ARGON2_MEMORY": "64",
    "CLEARINGHOUSE_QUIET_OPENINGS": "1000000",  # the proof of work has tests of its own
    "CLEARINGHOUSE_QUIET_SIGNALS": "1000000000",
    "CLEARINGHOUSE_DRAIN_SECONDS": "0",
    "PYTHONWARNINGS": "default",
}


@dataclass(frozen=True)
class CommandResult:
    """The output and the exit status of a command."""

    stdout: str
    stderr: str
    code: int


def command(*words, database, code=0, typed="", **environment):
    """Run an operator's command in this process, because a new process takes a second to start.

    Args:
        words: the command and its arguments.
        database: the address of the database.
        code: the expected exit status.
        typed: its standard input.
        environment: settings to change.
    """
    variables = _inherited() | ENVIRONMENT | {"COLUMNS": "200"} | environment
    with (
        mock.patch.dict(os.environ, variables, clear=True),
        mock.patch.object(sys, "argv", ["clearinghouse", *words, "--database", database]),
        mock.patch.object(sys, "stdin", io.StringIO(typed)),
        redirect_stdout(io.StringIO()) as out,
        redirect_stderr(io.StringIO()) as err,
    ):
        status: int | str = 0
        try:
            app.main()
        except SystemExit as end:
            status = end.code or 0
    result = CommandResult(out.getvalue(), err.getvalue(), status)
    assert result.code == code, result.stderr
    return result


def bearer(key):
    """Return the headers of a platform's request."""
    return {"Authorization": f"Bearer {key}"}


class ServiceProcess:
    """A clearinghouse in its own process, as a context manager.

    It accepts requests once the constructor returns.

    Args:
        folder: for the key, the log and, without `database`, the database.
        database: the address of the database.
        forked: fork a process that has loaded the service, which is much faster than to start
            `python -m clearinghouse serve`.
        port: the port; 0 for any free one.
        environment: settings to change.
    """

    def __init__(self, folder, database=None, *, forked=True, port=0, **environment):
        self.database = database or f"sqlite:///{folder}/db.sqlite3"
        self.log = folder / "log.txt"
        # the default for SQLite
        key = {"CLEARINGHOUSE_KEY_FILE": str(folder / "db.sqlite3-key" / "master")}
        self.environment = _inherited() | ENVIRONMENT | key | environment
        words = ("serve", "--database", self.database, "--port", str(port))
        self.process = self._forked(*words) if forked else self._started(*words)
        line = self.process.stdout.readline()
        found = re.fullmatch(r"clearinghouse: listening on (http://127\.0\.0\.1:\d+)\n", line)
        if not found:
            self.process.wait()
            self.process.stdout.close()
            raise AssertionError(f"the service did not start: {line!r}")
        self.address = found[1]
        self.client = httpx.Client(base_url=self.address, timeout=60)

    def _forked(self, *words):
        return ForkedCommand(words, self.environment, self.log)

    def _started(self, *words):
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*PROGRAM, *words],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # so that Ctrl-C reaches only the test
            )

    def command(self, *words, code=0):
        """Run an operator's command on the same database."""
        return command(*words, database=self.database, code=code, **self.environment)

    def platform(self, scopes="feed,match,feedback", name=None):
        """Add a platform, by default under a new name, and return its key.

        Does not use the command line, which takes a second to start and is tested elsewhere.
        """
        with closing(self.store()) as store:
            name = name or f"Platform {secrets.token_hex(4)}"
            return keys.add_platform(store, name, _scopes(scopes), datetime.now(UTC))

    def rotate_key(self, name, scopes):
        """Create another key for a platform, with other scopes, and return it."""
        with closing(self.store()) as store:
            return keys.rotate_key(store, name, datetime.now(UTC), scopes=_scopes(scopes))

    def store(self):
        """Open the database, next to the running service."""
        settings = Settings.from_environment(self.environment)
        return Store.open(replace(settings, database=self.database))

    def survivor(self):
        """Return a client for the survivors' API."""
        return Client(self.address)

    def open(self, *items):
        """Open a case; return its number and its passphrase."""
        with self.survivor() as client:
            opened = client.open_case(list(items), reason=Reason.SHARED, adult=True, depicted=True)
        return opened.case, opened.passphrase

    def withdraw(self, case, item=None):
        """Withdraw a case, or one item of it."""
        with self.survivor() as client:
            client.withdraw(*case, item)

    def backdate_a_day(self):
        """Backdate matches and verdicts by a day: a case shows them after midnight only."""
        engine = create_engine(self.database)
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE verdicts SET hour = hour - 86400")
            connection.exec_driver_sql("UPDATE matches SET day = day - 86400")
        engine.dispose()

    def cases(self):
        """Return the number of cases. SQLite only."""
        with closing(sqlite3.connect(make_url(self.database).database)) as database:
            (count,) = database.execute("SELECT count(*) FROM cases").fetchone()
        return count

    def end(self, number=signal.SIGTERM):
        """Send a signal if the process runs, and wait until it has ended."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(timeout=60)
        self.process.stdout.close()
        self.client.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def _inherited():
    """Return the environment without any settings of the service."""
    return {n: v for n, v in os.environ.items() if not n.startswith("CLEARINGHOUSE_")}


def _scopes(words):
    return [Scope(word) for word in words.split(",")]
