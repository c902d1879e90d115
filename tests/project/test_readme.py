"""The commands of the README, run as written and in order, with a real service."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from skimage import data

from nciihash.gate.outcome import Dialect
from nciihash.gate.rehearsal import PICTURES, rehearsal_config
from support.browsers.steering import free_port
from support.paths import ROOT

README = (ROOT / "README.md").read_text()

# placeholders that readers replace with their own values
CASE, KEY, PORT = "K7Q4-29XD-MM3R", "the-key-that-the-clearinghouse-gave-you", "8000"


def blocks(heading):
    """Return the fenced blocks under a heading as (language, text)."""
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", README, re.M | re.S)
    return re.findall(r"^```(\w+)\n(.*?)^```$", section[1], re.M | re.S)


class Reader:
    """A person who types the commands of the README in a shell, in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.own_values = {}
        self.environment = {
            # without the variables of the person who runs the tests
            **{k: v for k, v in os.environ.items() if not k.startswith(("NCIIHASH", "CLEARING"))},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "160",
        }

    def mine(self, text):
        for documented, own in self.own_values.items():
            text = text.replace(documented, own)
        return text

    def types(self, line, answers=""):
        """Run a line and return its standard output."""
        line = self.mine(line)
        if match := re.fullmatch(r"export (\w+)=(.*)", line):
            self.environment[match[1]] = match[2]
            return ""
        process = subprocess.run(
            ["sh", "-ec", line],
            input=answers,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env=self.environment,
            timeout=120,
        )
        assert process.returncode == 0, f"{line}\n{process.stdout}\n{process.stderr}"
        return process.stdout

    def starts(self, line):
        """Start a line that keeps running."""
        return subprocess.Popen(
            ["sh", "-ec", f"exec {self.mine(line)}"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.environment,
        )


@pytest.fixture
def reader(tmp_path):
    photo = Image.fromarray(data.astronaut())
    photo.save(tmp_path / "photo.jpg", quality=92)
    edited = ImageEnhance.Brightness(photo.resize((400, 400))).enhance(1.1)
    edited.save(tmp_path / "upload.jpg", quality=60)
    Image.fromarray(data.coffee()).save(tmp_path / "unrelated.jpg")
    return Reader(tmp_path)


@pytest.fixture
def service(reader):
    """A service, started as the charity's section says, with a platform's key."""
    reader.own_values[PORT] = str(free_port())
    [(language, text)] = blocks("If you run a clearinghouse")
    assert language == "sh"
    *before, serve = text.splitlines()
    for line in before:
        printed = reader.types(line)
    reader.own_values[KEY] = printed.split()[0]
    assert serve.startswith("clearinghouse serve")
    process = reader.starts(serve)
    try:
        assert process.stdout.readline().startswith("clearinghouse: listening on http://127.0.0.1:")
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) in (0, -signal.SIGTERM)
        process.stdout.close()


def test_the_commands_of_the_readme_work(reader, service):
    [(_, look), (_, submit), (_, manage)] = blocks("If it is your picture")
    [_, (_, follow), (python, script)] = blocks("If you run a platform")
    assert python == "python"

    # a survivor hashes a photo and opens a case
    [line] = look.splitlines()
    assert re.search(r"\b[0-9a-f]{64}\b", reader.types(line))
    [line] = submit.splitlines()
    opened = reader.types(line, answers="yes\nyes\n3\nyes\n")
    reader.own_values[CASE] = re.search(r"\b\w{4}-\w{4}-\w{4}\b", opened)[0]
    words = re.search(r"\b([a-z]+(?:-[a-z]+)?(?: [a-z]+(?:-[a-z]+)?){5})$", opened, re.M)
    reader.environment["NCIIHASH_PASSPHRASE"] = words[1]

    # a platform follows the feed and finds only the edited copy
    for line in follow.splitlines():
        printed = reader.types(line)
    found = {entry["file"]: entry for entry in map(json.loads, printed.splitlines())}
    assert set(found) == {"upload.jpg", "unrelated.jpg"}
    assert len(found["upload.jpg"]["matches"]) == 1
    assert found["unrelated.jpg"]["matches"] == []
    (reader.folder / "script.py").write_text(script)
    printed = reader.types(f"{sys.executable} script.py").splitlines()
    assert len(printed) == 2
    assert re.fullmatch(r"[0-9a-f]{64} \d+", printed[0])
    assert re.fullmatch(r"[0-9a-f]{32} \d+ (strong|likely)", printed[1])

    # the survivor reads the status and withdraws, and the platform finds nothing
    status, withdraw_one, withdraw_all = manage.splitlines()
    assert "Example Social" in reader.types(status)
    assert "so the case is now closed" in reader.types(withdraw_one, answers="yes\n")
    reader.types(withdraw_all)
    for line in follow.splitlines():
        printed = reader.types(line)
    assert all(json.loads(line)["matches"] == [] for line in printed.splitlines())


def test_every_block_of_the_readme_is_tested():
    fenced = re.findall(r"^```(\w+)\n", README, re.M)
    assert fenced == ["sh", "sh", "sh", "sh", "sh", "python", "sh"]


def test_the_trial_of_a_gate_is_the_one_of_the_command(tmp_path):
    """tests/nciihash/cli/test_gate.py runs it, at another port."""
    [(_, trial), *_] = blocks("If you run a platform")
    install, start, check = (shlex.split(line, comments=True) for line in trial.splitlines())
    assert install == ["pip", "install", ".[gate]"]
    assert start == ["nciihash", "gate", "--sandbox"]
    *_, file, url = check
    address = rehearsal_config(None, tmp_path).dialects[Dialect.HTTP].listen
    assert url == f"http://{address}/check"
    assert (ROOT / file.removeprefix("@")).name in PICTURES


def test_the_two_commands_are_targets_of_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert {"setup", "demo", "test", "lint", "bench", "clean"} <= targets
    assert set(re.findall(r"make ([a-z-]+)\b(?! sure)", README)) <= targets


def test_every_file_that_the_readme_links_to_exists():
    for name in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`((?:nciihash|clearinghouse|examples)/[\w/.]*)`", README):
        assert (ROOT / name).exists(), name


def test_the_sample_upload_is_a_different_picture(reader):
    photo, upload = (
        np.asarray(Image.open(reader.folder / name)) for name in ("photo.jpg", "upload.jpg")
    )
    assert photo.shape != upload.shape
