"""The service as a process of its own, over a SQLite database, for tests of the page."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys

import httpx

PROGRAM = (sys.executable, "-m", "clearinghouse")
ENVIRONMENT = {"CLEARINGHOUSE_ARGON2_MEMORY": "64"}


class Serving:
    """A serving process over a database of its own."""

    def __init__(self, folder, **environment):
        self.path = folder / "db.sqlite3"
        self.database = f"sqlite:///{self.path}"
        self.process = subprocess.Popen(
            [*PROGRAM, "serve", "--database", self.database, "--port", "0"],
            env=os.environ | ENVIRONMENT | environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        self.url = re.fullmatch(r"clearinghouse: listening on (\S+)\n", line)[1]

    def cases(self):
        with sqlite3.connect(self.path) as database:
            (count,) = database.execute("SELECT count(*) FROM cases").fetchone()
        database.close()
        return count

    def command(self, *words):
        """Run a command of the operator beside it, and read the JSON that it prints."""
        done = subprocess.run(
            [*PROGRAM, *words, "--database", self.database, "--json"],
            env=os.environ | ENVIRONMENT,
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)

    def platform(self, name, scopes="feed,match,feedback"):
        key = self.command("platform", "add", name, "--scope", scopes)["key"]
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {key}"})

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)
        self.process.stdout.close()
