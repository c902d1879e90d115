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
YES = ("--yes", "--reason", "precaution")  # a submission without questions


@dataclass
class CommandResult:
    """The exit status and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def lines(self):
        """Standard output, of which every line must be JSON."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def line(self):
        (line,) = self.lines
        return line


class KeptSandbox(Sandbox):
    """A sandbox that outlives its command and is used by the next one.

    Args:
        limits: of each file.
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
    """A replacement for `Sandbox` that returns an idle sandbox if there is one.

    A child takes a second to start. sandbox/test_pool.py tests that commands start and end theirs.
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
    """A function that runs `nciihash`."""
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
        try:
            nciihash.main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        return CommandResult(code, *capsys.readouterr())

    return call


def submit(run, local, *arguments, **options):
    """Run `nciihash submit` with the service of the tests."""
    return run("submit", "--server", local.address, *arguments, **options)


def operate(capsys, monkeypatch, *words):
    """Run `clearinghouse`; return its exit status, output and error output."""
    monkeypatch.setattr("sys.argv", ["clearinghouse", *map(str, words)])
    capsys.readouterr()
    code = 0
    try:
        clearinghouse.main()
    except SystemExit as end:
        code = end.code or 0
    return code, *capsys.readouterr()
