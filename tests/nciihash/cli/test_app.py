"""What all commands share: help, the version, and the exit status of wrong usage."""

import os

import pytest

from nciihash import __version__
from nciihash.cli.options import SignalChoice
from nciihash.signals import SignalType
from support.command_line import CommandResult


def test_version(run):
    assert run("--version") == CommandResult(0, f"nciihash {__version__}\n", "")


@pytest.mark.parametrize(("given", "used"), [(None, "1"), ("4", "4")])
def test_openblas_has_one_thread_unless_the_environment_says_otherwise(
    run, monkeypatch, given, used
):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", given or "")
    if given is None:
        monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    assert run("--version").code == 0
    assert os.environ["OPENBLAS_NUM_THREADS"] == used


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
        "gate",
        "feedback",
        "demo",
    ],
)
def test_help_of_every_command(run, command):
    result = run(command, "--help")
    assert result.code == 0
    assert "--passphrase" not in result.out
    assert "--key" not in result.out


@pytest.mark.parametrize("command", ["hash", "submit", "match", "scan"])
def test_signal_offers_the_types_that_are_computed_from_files(run, command):
    choices = [type.value for type in SignalType if type.veils is None]
    assert list(SignalChoice) == choices
    help_text = "".join(run(command, "--help").out.split())
    assert f"<list[{'|'.join(choices)}]>" in help_text
    assert "veil128" not in help_text
    result = run(command, "--signal", "pdq-veil128", "x")
    message = " ".join(result.err.replace("│", "").split())
    assert (result.code, result.out) == (2, "")
    assert f"'pdq-veil128' is not one of {', '.join(map(repr, choices))}" in message


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
