"""Run the two command lines in this process: one of their own takes a second to start."""

import io
import json
import sys
from dataclasses import dataclass

import pytest

from clearinghouse.cli import app as clearinghouse
from nciihash.cli import app as nciihash


@dataclass
class Done:
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


@pytest.fixture
def run(capsys, monkeypatch):
    """Return a function that runs `nciihash`."""
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
        return Done(code, *capsys.readouterr())

    return call


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
