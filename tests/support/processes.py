"""The service as a process of its own, over real HTTP."""

import io
import os
import re
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from unittest import mock

import httpx

from clearinghouse.cli import app
from clearinghouse.database.store import Store
from clearinghouse.platforms import keys
from clearinghouse.platforms.keys import Scope
from clearinghouse.settings import Settings
from support.serving import ALL

PROGRAM = (sys.executable, "-m", "clearinghouse")
ENVIRONMENT = {
    "CLEARINGHOUSE_ARGON2_MEMORY": "64",
    "CLEARINGHOUSE_QUIET_OPENINGS": "1000000",  # what asks for work has tests of its own
    "PYTHONWARNINGS": "default",
}


def add_platform(settings, name, scopes):
    """Add a platform beside a process that serves, as the command does, and give its key.

    The command itself takes more than a second to start, and is tested once.
    """
    store = Store.open(settings)
    try:
        return keys.add_platform(store, name, [Scope(s) for s in scopes], datetime.now(UTC))
    finally:
        store.close()


def rotate_key(settings, name, scopes):
    """Give a platform a further key with other scopes, beside a process that serves."""
    store = Store.open(settings)
    try:
        return keys.rotate_key(
            store, name, datetime.now(UTC), scopes=[Scope(scope) for scope in scopes]
        )
    finally:
        store.close()


@dataclass(frozen=True)
class Done:
    """What a command printed, and how it ended."""

    stdout: str
    stderr: str
    code: int


def command(*words, database, code=0, typed="", **environ):
    """Run a command of the operator in this process, since one of its own starts in a second.

    Whatever it waits for is read from `typed`; its end must be `code`.
    """
    given = os.environ | ENVIRONMENT | {"COLUMNS": "200"} | environ
    with (
        mock.patch.dict(os.environ, given, clear=True),
        mock.patch.object(sys, "argv", ["clearinghouse", *words, "--database", database]),
        mock.patch.object(sys, "stdin", io.StringIO(typed)),
        redirect_stdout(io.StringIO()) as out,
        redirect_stderr(io.StringIO()) as err,
    ):
        try:
            app.main()
            ended = 0
        except SystemExit as end:
            ended = end.code or 0
    done = Done(out.getvalue(), err.getvalue(), ended)
    assert done.code == code, done.stderr
    return done


class Process:
    """A serving process on a database, by default on a file in its folder."""

    def __init__(self, folder, database=None, **environ):
        self.database = database or f"sqlite:///{folder}/db.sqlite3"
        # where SQLite has its key by default
        key = {"CLEARINGHOUSE_KEY_FILE": str(folder / "db.sqlite3-key" / "master")}
        self.environ = os.environ | ENVIRONMENT | key | environ
        self.log = (folder / "log.txt").open("ab")
        self.process = subprocess.Popen(
            [*PROGRAM, "serve", "--database", self.database, "--port", "0"],
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            start_new_session=True,  # Ctrl-C is for the test, and not for what it runs
        )
        line = self.process.stdout.readline()
        found = re.fullmatch(r"clearinghouse: listening on (http://127\.0\.0\.1:\d+)\n", line)
        if not found:
            self.process.wait()
            self.process.stdout.close()
            self.log.close()
            raise AssertionError(f"the service did not start: {line!r}")
        self.address = found[1]
        self.client = httpx.Client(base_url=self.address, timeout=60)

    def command(self, *words, code=0):
        """Run a command of the operator on the same database, and give what it printed."""
        return command(*words, database=self.database, code=code, **self.environ)

    def platform(self, name="Example"):
        """Add a platform with every scope, and give its headers."""
        settings = replace(Settings.from_environment(self.environ), database=self.database)
        return {"Authorization": f"Bearer {add_platform(settings, name, ALL)}"}

    def end(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(timeout=60)
        self.process.stdout.close()
        self.client.close()
        self.log.close()
