"""The demo from its start to its last line of output."""

import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from nciihash.cli.demo import photos as samples
from nciihash.cli.demo.edits import EDITS
from support.command_line import NCIIHASH
from support.pictures import scene

LAST = r"demo: (\d+) of (\d+) copies found, (\d+) false, withdrawn: (\d+) found"


def environment(folder):
    """Return the environment of a child process, with a folder for its temporary files."""
    return os.environ | {"TMPDIR": str(folder), "COLUMNS": "120"}


def test_the_demo_with_bundled_photos(tmp_path):
    result = subprocess.run(
        [*NCIIHASH, "demo"],
        capture_output=True,
        text=True,
        check=False,
        env=environment(tmp_path),
    )
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    found, copies, false, after = map(
        int, re.fullmatch(LAST, result.stdout.splitlines()[-1]).groups()
    )
    assert copies == 5 * len(EDITS) >= 20
    assert 2 * found >= copies
    assert (false, after) == (0, 0)

    rows = {
        edit.name: row for edit in EDITS for row in result.stdout.splitlines() if edit.name in row
    }
    cells = {name: re.findall(r"missed \(\d+\)|\d+(?= |$)", row) for name, row in rows.items()}
    shown = sum("missed" not in cell for row in cells.values() for cell in row[-6:][:5])
    assert shown >= found
    for name in ("mirrored", "white border", "rotated by 3 degrees", "left half only"):
        assert "missed" not in rows[name]
    collage = rows["next to another picture"]
    assert len(re.findall(r"part \d+", collage)) >= 4
    assert collage.endswith("none")  # a clearinghouse is not asked about parts
    # a photo that is mostly plain sky has no hashes of its parts, since they resemble other skies
    for name in ("edges cropped by 5 %", "corner cropped off"):
        assert rows[name].count("missed") <= 1
    assert found >= 90
    assert "strong" in rows["saved as WebP"]
    assert "blocked" in result.stdout
    assert "withdrawn" in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Return the folder in which this process makes temporary ones."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_the_demo_with_own_photos(run, temporary, tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "_SIDE_MAX", 400)
    photos = tmp_path / "photos"
    photos.mkdir()
    scene(400, 300, seed=51).save(photos / "one.jpg", quality=95)
    scene(400, 300, seed=51).save(photos / "nearly [one].jpg", quality=70)
    scene(600, 450, seed=52).save(photos / "large.png")
    (photos / "text.jpg").write_text("not a picture")
    names = ["one.jpg", "nearly [one].jpg", "large.png", "text.jpg"]
    result = run("demo", *(photos / name for name in names))
    assert result.code == 0, result.out + result.err
    assert "text.jpg: " in result.err
    found = re.fullmatch(LAST, result.out.splitlines()[-1])
    assert int(found[2]) == 3 * len(EDITS)
    assert found[3] == "0"  # matches between near-duplicates are not false
    assert "nearly [one]" in result.out
    assert list(temporary.iterdir()) == []


def test_the_demo_without_usable_photos(run, temporary, tmp_path):
    (tmp_path / "text.jpg").write_text("not a picture")
    result = run("demo", tmp_path / "text.jpg")
    assert result.code == 1
    assert "None of these photos" in result.err
    assert list(temporary.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["temporary", "text.jpg"]


@pytest.mark.parametrize(
    ("number", "line"), [(signal.SIGINT, "Case "), (signal.SIGTERM, "A clearinghouse listens")]
)
def test_an_interrupted_demo_leaves_no_files_or_processes(tmp_path, number, line):
    photo = tmp_path / "photo.jpg"
    scene(400, 300, seed=53).save(photo)
    process = subprocess.Popen(
        [*NCIIHASH, "demo", str(photo)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path) | {"PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    while not (output := process.stdout.readline()).startswith(line):
        assert output
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert children
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does at Ctrl-C
    else:
        process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == [photo]
    end = time.monotonic() + 60  # each of them got the signal, and may take a moment
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < end
        time.sleep(0.05)
