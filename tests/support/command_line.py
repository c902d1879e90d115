"""Run the two command lines in this process: a new process takes a second to start."""

import io
import json
import sys
from collections import defaultdict
from dataclasses import dataclass

import pytest

from clearinghouse.cli import app as clearinghouse
from nciihash.cli import app as nciihash
from nciihash.media.limits import LIMITS
from nciihash.sandbox import Sandbox

NCIIHASH = (sys.executable, "-m", "nciihash")  # for a new process
YES = ("--yes", "--reason", "precaution")  # submit without questions


@dataclass
class CommandResult:
    """The exit status of a command, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def lines(self):
        """Standard output, parsed: every line of it must be JSON."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def line(self):
        """Standard output, parsed: it must be a single line of JSON."""
        (line,) = self.lines
        return line


class KeptSandbox(Sandbox):
    """A sandbox whose child process outlives the command, for the next command to use.

    Args:
        limits: on the resources that a file may take.
        idle: the sandboxes with these limits that no command uses.
    """

    def __init__(self, limits, idle):
        super().__init__(limits)
        self._idle = idle

    def stop(self):
        self._idle = None
        super().stop()

    def close(self):
        if self._idle is None:
            super().close()
        else:
            self._idle.append(self)


@pytest.fixture(scope="session")
def kept_sandboxes():
    """Yield a replacement for `Sandbox` that returns an idle sandbox if there is one.

    A child process takes a second to start. sandbox/test_pool.py tests that each command starts and
    ends its own.
    """
    idle = defaultdict(list)

    def sandbox(limits=LIMITS):
        same = idle[limits]
        return same.pop() if same else KeptSandbox(limits, same)

    yield sandbox
    for same in idle.values():
        for kept in same:
            Sandbox.close(kept)


@pytest.fixture
def run(capsys, monkeypatch, kept_sandboxes):
    """Return a function that runs `nciihash`."""
    monkeypatch.setattr("nciihash.sandbox.pool.Sandbox", kept_sandboxes)
    for name in ("NCIIHASH_SERVER", "NCIIHASH_KEY", "NCIIHASH_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments, answers="", **environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["nciihash", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(answers))
        capsys.readouterr()
        code: int | str = 0
        try:
            nciihash.main()
        except SystemExit as end:
            code = end.code or 0
        return CommandResult(code, *capsys.readouterr())

    return call


def submit(run, local, *arguments, **options):
    """Run `nciihash submit` against a service of the tests."""
    return run("submit", "--server", local.address, *arguments, **options)


def operate(capsys, monkeypatch, *arguments):
    """Run `clearinghouse`; return its exit status and what it printed."""
    monkeypatch.setattr("sys.argv", ["clearinghouse", *map(str, arguments)])
    capsys.readouterr()
    code: int | str = 0
    try:
        clearinghouse.main()
    except SystemExit as end:
        code = end.code or 0
    return code, *capsys.readouterr()
