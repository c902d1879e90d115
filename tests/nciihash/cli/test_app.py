"""What all commands share: help, the version, and the exit status of wrong usage."""

import pytest
import typer

from nciihash import __version__
from nciihash.cli import app
from nciihash.cli.options import SignalChoice
from nciihash.signals import SignalType
from support.command_line import CommandResult


def test_version(run):
    assert run("--version") == CommandResult(0, f"nciihash {__version__}\n", "")


@pytest.mark.parametrize(
    "command",
    [
        "hash",
        "dedupe",
        "compare",
        "check",
        "sandbox",
        "submit",
        "app",
        "status",
        "withdraw",
        "claim",
        "follow",
        "match",
        "confirm",
        "scan",
        "feedback",
        "demo",
    ],
)
def test_help_of_every_command(run, command):
    result = run(command, "--help")
    assert result.code == 0
    assert "--passphrase" not in result.out
    assert "--key" not in result.out


def test_signal_offers_the_types_that_are_computed_from_files(run):
    assert list(SignalChoice) == [type for type in SignalType if type.veils is None]
    commands = typer.main.get_command(app.app).commands
    choices = {
        name: list(option.type.choices)
        for name, command in commands.items()
        for option in command.params
        if option.name == "signal"
    }
    assert choices == dict.fromkeys(
        ("hash", "submit", "match", "scan"), ["pdq", "phash", "dhash", "md5", "sha256"]
    )
    for name in choices:
        assert "veil128" not in run(name, "--help").out
    result = run("hash", "--signal", "pdq-veil128", "x")
    assert (result.code, result.out) == (2, "")
    assert "'pdq-veil128' is not one of" in " ".join(result.err.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["hash"],
        ["hash", "--signal", "sha1", "x"],
        ["hash", "--unknown", "x"],
        ["nonsense"],
        ["submit", "x"],
        ["submit", "--server", "https://example.org", "--yes", "x"],
        ["submit", "--server", "http://example.org", "--yes", "--reason", "shared", "x"],
        ["status", "K7Q4"],
        ["withdraw", "K7Q4", "--server", "https://example.org", "--item", "0"],
        ["follow", "--server", "https://example.org"],
        ["match", "x"],
        ["match", "x", "--bank", "b", "--server", "https://example.org"],
        ["feedback", "0" * 32, "--server", "https://example.org"],
        ["feedback", "0" * 32, "--server", "https://example.org", "--verdict", "blocked"],
    ],
)
def test_wrong_usage_is_exit_2(run, arguments):
    result = run(*arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err
