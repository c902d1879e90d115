"""The command line with standard streams that fail, are closed, or can only encode ASCII."""

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
    """Return a function that runs the program in a shell with redirected streams."""

    def call(arguments, streams="", *, stdout=subprocess.PIPE, **environment):
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("NCIIHASH")}
        return subprocess.run(
            ["bash", "-c", f"{shlex.join(NCIIHASH)} {arguments} {streams}"],
            stdout=stdout,
            stderr=subprocess.PIPE,
            check=False,
            cwd=folder,
            env=inherited | {"NCIIHASH_SERVER": local.address, "COLUMNS": "200"} | environment,
            timeout=120,
            start_new_session=True,  # without the terminal of the tests
        )

    return call


SUBMIT = "submit --yes --no-sandbox --reason precaution"


@pytest.fixture
def broken(request):
    """Yield a descriptor on which writes fail: a full disk, or a pipe without a reader."""
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
def test_the_credentials_are_on_standard_error_if_standard_output_fails(
    shell, local, broken, tmp_path, as_json
):
    receipt = tmp_path / "r.txt"
    result = shell(f"{SUBMIT} {as_json} --receipt {receipt} a.jpg", stdout=broken)
    err = result.stderr.decode()
    assert result.returncode == 1
    for text in (err, receipt.read_text()):
        with local.survivor() as client:
            assert client.status(CASE.search(text)[1], SIX_WORDS.search(text)[1]).items
    assert stat.S_IMODE(receipt.stat().st_mode) == 0o600
    assert "The receipt is in" in err
    assert "Traceback" not in err
    assert "Exception ignored" not in err


def test_the_credentials_are_shown_if_a_file_name_cannot_be_encoded(shell, tmp_path):
    receipt = tmp_path / "r.txt"
    result = shell(f"{SUBMIT} --receipt {receipt} f*.jpg a.jpg", PYTHONIOENCODING="ascii")
    assert result.returncode == 0, result.stderr
    out = result.stdout.decode("ascii")
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
    result = shell(arguments, streams)
    assert result.returncode == 2, result
    err = result.stderr.decode()
    assert words in err
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    assert "Warning" not in err


def test_a_command_without_questions_needs_neither_input_nor_standard_error(shell):
    result = shell("hash --json --no-sandbox a.jpg", "<&- 2>&-")
    assert result.returncode == 0
    assert b'"pdq"' in result.stdout


@pytest.mark.parametrize("ending", ["", "\\r\\n"])
def test_a_passphrase_may_be_piped_in(shell, local, ending):
    case, passphrase = local.open(random_item())
    result = shell(f"status {case} --json", f"< <(printf '{passphrase}{ending}')")
    assert result.returncode == 0, result.stderr
    assert result.stderr == b""
    assert b'"open"' in result.stdout


WITHOUT_POSIX = """
import os, sys
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
del os.O_CLOEXEC, os.O_DIRECTORY
from nciihash.cli.app import main
main()
"""


def run_without_posix(*arguments, **environment):
    """Run the command line in a Python without the POSIX modules."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "200"} | environment,
        timeout=120,
    )


def test_commands_of_survivors_work_without_posix(local, folder, tmp_path):
    case, passphrase = local.open(random_item())
    secret = {"NCIIHASH_PASSPHRASE": passphrase, "NCIIHASH_SERVER": local.address}
    assert run_without_posix("--help").returncode == 0
    assert "The case is open until" in run_without_posix("status", case, **secret).stdout
    assert "1 file withdrawn" in run_without_posix("withdraw", case, "--yes", **secret).stdout
    receipt = tmp_path / "receipt"
    result = run_without_posix(*SUBMIT.split(), "--receipt", receipt, folder / "a.jpg", **secret)
    assert result.returncode == 0, result.stderr
    assert SIX_WORDS.search(receipt.read_text())


@pytest.mark.parametrize("command", ["follow", "match"])
def test_the_error_without_locks_names_the_systems_that_have_them(folder, tmp_path, command):
    more = ["--server", "http://127.0.0.1:9"] if command == "follow" else [folder / "a.jpg"]
    result = run_without_posix(command, "--bank", tmp_path / "bank", *more, NCIIHASH_KEY="x")
    assert result.returncode == 2
    assert "Linux or macOS" in result.stderr
    assert "Traceback" not in result.stderr


# --- pipes and terminals ------------------------------------------------------------------------


def test_a_reader_that_closes_the_pipe_early(photos):
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


def test_standard_output_has_only_json_with_a_progress_bar(photos):
    master, slave = pty.openpty()
    result = subprocess.Popen(
        [*NCIIHASH, "hash", "--json", str(photos / "photo0.jpg"), str(photos / "photo1.jpg")],
        stdout=subprocess.PIPE,
        stderr=slave,
    )
    os.close(slave)
    out, _ = result.communicate()
    os.close(master)
    assert [json.loads(line)["media"] for line in out.splitlines()] == ["image", "image"]
