"""What the command line does when its standard streams fail, are closed or speak ASCII only."""

import json
import os
import pty
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from support.command_line import NCIIHASH
from support.local import random_item
from support.pictures import scene

SIX_WORDS = re.compile(r"^Passphrase +([a-z]+(?:-[a-z]+)?(?: [a-z]+(?:-[a-z]+)?){5})$", re.M)
CASE = re.compile(r"^Case number +(\w{4}-\w{4}-\w{4})$", re.M)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streams")
    scene(320, 240, seed=40).save(folder / "a.jpg", quality=95)
    scene(320, 240, seed=41).save(folder / "f\N{LATIN SMALL LETTER E WITH ACUTE}.jpg", quality=95)
    return folder


@pytest.fixture
def shell(folder, local):
    """Give a function that runs the program in a shell, with whatever the shell does to streams."""

    def call(arguments, streams="", *, stdout=subprocess.PIPE, **environment):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("NCIIHASH")}
        return subprocess.run(
            ["bash", "-c", f"{shlex.join(NCIIHASH)} {arguments} {streams}"],
            stdout=stdout,
            stderr=subprocess.PIPE,
            check=False,
            cwd=folder,
            env=kept | {"NCIIHASH_SERVER": local.address, "COLUMNS": "200"} | environment,
            timeout=120,
            start_new_session=True,  # no terminal of whoever runs the tests
        )

    return call


SUBMIT = "submit --yes --no-sandbox --reason precaution"


@pytest.fixture
def broken(request):
    """Give an output that fails: a full disk, or a pipe that nobody reads."""
    if request.param == "full":
        if not Path("/dev/full").exists():
            pytest.skip("this system has no /dev/full")
        output = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, output = os.pipe()
        os.close(reader)
    yield output
    os.close(output)


@pytest.mark.parametrize("as_json", ["", "--json"])
@pytest.mark.parametrize("broken", ["full", "gone"], indirect=True)
def test_number_and_passphrase_survive_a_failing_output(shell, local, broken, tmp_path, as_json):
    receipt = tmp_path / "r.txt"
    done = shell(f"{SUBMIT} {as_json} --receipt {receipt} a.jpg", stdout=broken)
    told = done.stderr.decode()
    assert done.returncode == 1
    for words in (told, receipt.read_text()):
        with local.survivor() as client:
            assert client.status(CASE.search(words)[1], SIX_WORDS.search(words)[1]).items
    assert stat.S_IMODE(receipt.stat().st_mode) == 0o600
    assert "The receipt is in" in told
    assert "Traceback" not in told
    assert "Exception ignored" not in told


def test_a_name_outside_the_alphabet_of_the_output_keeps_nothing_from_her(shell, tmp_path):
    receipt = tmp_path / "r.txt"
    done = shell(f"{SUBMIT} --receipt {receipt} f*.jpg a.jpg", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    out = done.stdout.decode("ascii")
    assert SIX_WORDS.search(out)
    assert "f?.jpg" in out
    assert "nciihash withdraw" in out
    assert receipt.exists()


@pytest.mark.parametrize(
    ("arguments", "streams", "words"),
    [
        ("hash a.jpg", ">&-", "Standard output is closed"),
        (f"{SUBMIT} a.jpg", ">&-", "nothing was done"),
        ("status K7Q4-29XD-MM3R", "<&-", "A passphrase is needed"),
        ("status K7Q4-29XD-MM3R", "</dev/null", "A passphrase is needed"),
        ("submit a.jpg", "<&-", "not answered"),
        ("submit a.jpg", "2>&-", ""),
        ("submit a.jpg", "2>/dev/full </dev/null", ""),
        ("hash --no-sandbox a.jpg", ">/dev/full", "No space left"),
        ("hash --no-sandbox --json a.jpg", ">/dev/full", "No space left"),
    ],
)
def test_streams_that_are_closed_or_full(shell, arguments, streams, words):
    done = shell(arguments, streams)
    assert done.returncode == 2, done
    told = done.stderr.decode()
    assert words in told
    assert "Traceback" not in told
    assert "Exception ignored" not in told
    assert "Warning" not in told


def test_a_command_that_asks_nothing_needs_no_input_and_no_errors(shell):
    done = shell("hash --json --no-sandbox a.jpg", "<&- 2>&-")
    assert done.returncode == 0
    assert b'"pdq"' in done.stdout


@pytest.mark.parametrize("ending", ["", "\\r\\n"])
def test_a_passphrase_may_be_piped_in(shell, local, ending):
    case, passphrase = local.open(random_item())
    done = shell(f"status {case} --json", f"< <(printf '{passphrase}{ending}')")
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert b'"open"' in done.stdout


WITHOUT_POSIX = """
import os, sys
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
del os.O_CLOEXEC, os.O_DIRECTORY
from nciihash.cli.app import main
main()
"""


def elsewhere(*arguments, **environment):
    """Run the command line as where Python has none of the modules for POSIX alone."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "200"} | environment,
        timeout=120,
    )


def test_a_survivor_needs_no_posix_system(local, folder, tmp_path):
    case, passphrase = local.open(random_item())
    secret = {"NCIIHASH_PASSPHRASE": passphrase, "NCIIHASH_SERVER": local.address}
    assert elsewhere("--help").returncode == 0
    assert "The case is open until" in elsewhere("status", case, **secret).stdout
    assert "1 file withdrawn" in elsewhere("withdraw", case, "--yes", **secret).stdout
    receipt = tmp_path / "receipt"
    done = elsewhere(*SUBMIT.split(), "--receipt", receipt, folder / "a.jpg", **secret)
    assert done.returncode == 0, done.stderr
    assert SIX_WORDS.search(receipt.read_text())


@pytest.mark.parametrize("command", ["follow", "match"])
def test_a_bank_says_where_it_can_be_kept(folder, tmp_path, command):
    more = ["--server", "http://127.0.0.1:9"] if command == "follow" else [folder / "a.jpg"]
    done = elsewhere(command, "--bank", tmp_path / "bank", *more, NCIIHASH_KEY="x")
    assert done.returncode == 2
    assert "Linux or macOS" in done.stderr
    assert "Traceback" not in done.stderr


# --- pipes and terminals ------------------------------------------------------------------------


def test_a_reader_that_has_seen_enough(photos):
    files = [str(photos / "photo0.jpg")] * 200
    process = subprocess.Popen(
        [*NCIIHASH, "hash", "--json", "--no-sandbox", *files],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert json.loads(process.stdout.readline())
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    assert process.wait() == 1
    process.stderr.close()


def test_hashing_prints_json_and_nothing_else_on_a_terminal(photos):
    master, slave = pty.openpty()
    done = subprocess.Popen(
        [*NCIIHASH, "hash", "--json", str(photos / "photo0.jpg"), str(photos / "photo1.jpg")],
        stdout=subprocess.PIPE,
        stderr=slave,
    )
    os.close(slave)
    out, _ = done.communicate()
    os.close(master)
    assert [json.loads(line)["media"] for line in out.splitlines()] == ["image", "image"]
