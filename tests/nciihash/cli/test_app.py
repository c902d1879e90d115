import pytest

from nciihash import __version__
from support.command_line import BlockResult


def test_version(run):
    assert run("--version") == BlockResult(0, f"nciihash {__version__}\n", "")


@pytest.mark.parametrize(
    "command",
    [
        "hash",
        "compare",
        "submit",
        "status",
        "withdraw",
        "follow",
        "match",
        "scan",
        "feedback",
        "demo",
    ],
)
def test_every_command_explains_itself(run, command):
    done = run(command, "--help")
    assert done.code == 0
    assert "--passphrase" not in done.out
    assert "--key" not in done.out


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
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err
