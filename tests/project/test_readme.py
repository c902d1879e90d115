"""The README's commands, run as they stand there, in its readers' order, on a real service."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from skimage import data

from support.browsers.steering import free_port
from support.paths import ROOT

README = (ROOT / "README.md").read_text()

# what a reader replaces by values of her own
CASE, KEY, PORT = "K7Q4-29XD-MM3R", "the-key-that-the-clearinghouse-gave-you", "8000"


def blocks(heading):
    """Give the fenced blocks under one heading as (language, text)."""
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", README, re.M | re.S)
    return re.findall(r"^```(\w+)\n(.*?)^```$", section[1], re.M | re.S)


class Reader:
    """Somebody who types what the README says, in one folder, and remembers what she exported."""

    def __init__(self, folder):
        self.folder = folder
        self.own_values = {}
        self.environment = {
            # none of whoever runs the tests may shine through
            **{k: v for k, v in os.environ.items() if not k.startswith(("NCIIHASH", "CLEARING"))},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "160",
        }

    def mine(self, text):
        for documented, own in self.own_values.items():
            text = text.replace(documented, own)
        return text

    def types(self, line, answers=""):
        """Run one line and give its standard output, read to its end."""
        line = self.mine(line)
        if match := re.fullmatch(r"export (\w+)=(.*)", line):
            self.environment[match[1]] = match[2]
            return ""
        done = subprocess.run(
            ["sh", "-ec", line],
            input=answers,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env=self.environment,
            timeout=120,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def starts(self, line):
        """Run a line that goes on running."""
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
    """Follow the charity's section: make a platform's key, and serve."""
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


def test_what_the_readme_says_works(reader, service):
    [(_, look), (_, submit), (_, look_after)] = blocks("If it is your picture")
    [(_, follow), (python, script)] = blocks("If you run a platform")
    assert python == "python"

    # she hashes, and opens a case
    [line] = look.splitlines()
    assert re.search(r"\b[0-9a-f]{64}\b", reader.types(line))
    [line] = submit.splitlines()
    opened = reader.types(line, answers="yes\nyes\n3\nyes\n")
    reader.own_values[CASE] = re.search(r"\b\w{4}-\w{4}-\w{4}\b", opened)[0]
    words = re.search(r"\b([a-z]+(?:-[a-z]+)?(?: [a-z]+(?:-[a-z]+)?){5})$", opened, re.M)
    reader.environment["NCIIHASH_PASSPHRASE"] = words[1]

    # a platform follows, and finds the edited copy and nothing else
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

    # she looks, withdraws, and the platform finds nothing any more
    status, withdraw_one, withdraw_all = look_after.splitlines()
    assert "Example Social" in reader.types(status)
    assert "so the case is now closed" in reader.types(withdraw_one, answers="yes\n")
    reader.types(withdraw_all)
    for line in follow.splitlines():
        printed = reader.types(line)
    assert all(json.loads(line)["matches"] == [] for line in printed.splitlines())


def test_no_command_of_the_readme_is_left_untested():
    fenced = re.findall(r"^```(\w+)\n", README, re.M)
    assert fenced == ["sh", "sh", "sh", "sh", "python", "sh"]


def test_the_two_commands_are_targets_of_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert {"setup", "demo", "test", "lint", "bench", "clean"} <= targets
    assert set(re.findall(r"make ([a-z-]+)\b(?! sure)", README)) <= targets


def test_every_file_that_the_readme_points_to_is_there():
    for name in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`((?:nciihash|clearinghouse|examples)/[\w/.]*)`", README):
        assert (ROOT / name).exists(), name


def test_the_sample_upload_really_is_another_file(reader):
    photo, upload = (
        np.asarray(Image.open(reader.folder / name)) for name in ("photo.jpg", "upload.jpg")
    )
    assert photo.shape != upload.shape
