"""Run the two command lines in this process: one of their own takes a second to start."""

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

NCIIHASH = (sys.executable, "-m", "nciihash")  # for a process of its own
YES = ("--yes", "--reason", "precaution")  # a submission that asks nothing


@dataclass
class BlockResult:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def lines(self):
        """Read standard output, every line of which must be JSON."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def line(self):
        (line,) = self.lines
        return line


class KeptSandbox(Sandbox):
    """A sandbox whose child is not ended with the command, but used by the next one.

    Args:
        limits: what each file may cost.
        idle: the sandboxes of these limits that no command uses.
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
    """Yield a function that takes the place of `Sandbox` and returns an idle one if it can.

    A child takes a second to start. That each command starts and ends its own is tested in
    sandbox/test_pool.py.
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
        try:
            nciihash.main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        return BlockResult(code, *capsys.readouterr())

    return call


def submit(run, local, *arguments, **options):
    """Run `nciihash submit` to a service of the tests."""
    return run("submit", "--server", local.address, *arguments, **options)


def operate(capsys, monkeypatch, *words):
    """Run `clearinghouse`; return its exit status and what it printed."""
    monkeypatch.setattr("sys.argv", ["clearinghouse", *map(str, words)])
    capsys.readouterr()
    code = 0
    try:
        clearinghouse.main()
    except SystemExit as end:
        code = end.code or 0
    return code, *capsys.readouterr()
