"""The demo, as it is run by whoever tries this for the first time."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from nciihash.cli.demo import local_service
from nciihash.cli.demo import photos as gallery
from nciihash.cli.demo.edits import EDITS
from nciihash.cli.demo.local_service import LocalService
from nciihash.cli.demo.photos import Findings, Gallery, Score, hang
from nciihash.cli.terminal import Terminal
from nciihash.errors import ExtraMissing, ServiceUnreachable, TooPlain
from nciihash.signals import Band, Hashed, Item, Media, Signal, SignalType
from nciihash.wire import Hit
from support.pictures import scene

PROGRAM = [sys.executable, "-m", "nciihash", "demo"]
LAST = r"demo: (\d+) of (\d+) copies found, (\d+) false, withdrawn: (\d+) found"


def environment(folder):
    """Give what a child needs, with a place for temporary files that can be looked at."""
    return os.environ | {"TMPDIR": str(folder), "COLUMNS": "120"}


def run(folder, *photos):
    done = subprocess.run(
        [*PROGRAM, *map(str, photos)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(folder),
    )
    assert "Traceback" not in done.stderr
    return done


def test_the_demo_with_its_own_photos(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    found, copies, false, after = map(
        int, re.fullmatch(LAST, done.stdout.splitlines()[-1]).groups()
    )
    assert copies == 5 * len(EDITS) >= 20
    assert 2 * found >= copies
    assert (false, after) == (0, 0)

    rows = {
        edit.name: row for edit in EDITS for row in done.stdout.splitlines() if edit.name in row
    }
    cells = {name: re.findall(r"missed \(\d+\)|\d+(?= |$)", row) for name, row in rows.items()}
    told = sum("missed" not in cell for row in cells.values() for cell in row[-6:][:5])
    assert told >= found
    for name in ("mirrored", "white border", "turned by 3 degrees", "edges cropped by 5 %"):
        assert "missed" not in rows[name]
    assert re.search(r"missed \(\d+\)", rows["left half alone"])
    assert "strong" in rows["saved as WebP"]
    assert "blocked" in done.stdout
    assert "withdrawn" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_demo_with_photos_of_ones_own(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    scene(400, 300, seed=51).save(photos / "one.jpg", quality=95)
    scene(400, 300, seed=51).save(photos / "nearly [one].jpg", quality=70)
    scene(2400, 1800, seed=52).save(photos / "large.png")
    (photos / "text.jpg").write_text("no picture")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    names = ["one.jpg", "nearly [one].jpg", "large.png", "text.jpg"]
    done = run(scratch, *(photos / name for name in names))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "text.jpg: " in done.stderr
    found = re.fullmatch(LAST, done.stdout.splitlines()[-1])
    assert int(found[2]) == 3 * len(EDITS)
    assert found[3] == "0"  # nearly equal photos are not each other's false matches
    assert "nearly [one]" in done.stdout


def test_a_demo_without_a_photo_that_can_be_used(tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    done = run(tmp_path, tmp_path / "text.jpg")
    assert done.returncode == 1
    assert "None of these photos" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["text.jpg"]


@pytest.mark.parametrize(
    ("number", "line"), [(signal.SIGINT, "Case "), (signal.SIGTERM, "A clearinghouse serves")]
)
def test_a_demo_that_is_broken_off_leaves_nothing_behind(tmp_path, number, line):
    photo = tmp_path / "photo.jpg"
    scene(400, 300, seed=53).save(photo)
    process = subprocess.Popen(
        [*PROGRAM, str(photo)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path) | {"PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    while not (said := process.stdout.readline()).startswith(line):
        assert said
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
    end = time.monotonic() + 60  # each of them heard of it, and may take a moment
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("missing", ["fastapi", "sqlalchemy", "clearinghouse"])
def test_without_the_service_it_names_the_command(tmp_path, monkeypatch, missing):
    real = local_service.find_spec
    monkeypatch.setattr(
        local_service, "find_spec", lambda name: None if name == missing else real(name)
    )
    with pytest.raises(ExtraMissing, match=r'pip install "nciihash\[demo\]"'):
        LocalService(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_photos_it_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "find_spec", lambda name: None)
    with pytest.raises(ExtraMissing, match=r'pip install "nciihash\[demo\]"'):
        hang(Terminal(), [], tmp_path)


def test_photos_of_ones_own_need_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "find_spec", lambda name: None)
    scene(400, 300, seed=51).save(tmp_path / "one.jpg")
    hung = hang(Terminal(), [tmp_path / "one.jpg"], tmp_path)
    assert (len(hung.photos), hung.strangers) == (1, ())


def test_only_plain_photos(tmp_path):
    scene(64, 64).resize((1, 1)).resize((64, 64)).save(tmp_path / "plain.png")
    with pytest.raises(TooPlain):
        hang(Terminal(), [tmp_path / "plain.png"], tmp_path)


def test_a_service_that_does_not_start_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(local_service, "_PROGRAM", (sys.executable, "-c", "raise SystemExit('so')"))
    with (
        pytest.raises(ServiceUnreachable, match="It said: so"),
        LocalService(tmp_path) as service,
    ):
        _ = service.address


def test_what_is_set_for_a_real_service_is_left_alone(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setenv("CLEARINGHOUSE_KEY_FILE", str(elsewhere))
    monkeypatch.setenv("CLEARINGHOUSE_DATABASE", f"sqlite:///{elsewhere}.sqlite3")
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    with LocalService(folder) as service:
        assert service.address
    assert [path for path in tmp_path.iterdir() if path != folder] == []


# --- the arithmetic ----------------------------------------------------------------------------


def hashed(first):
    return Hashed(Signal(SignalType.PDQ, bytes([first] * 32)), quality=90)


def hit(item):
    return Hit(id=f"{item:032x}", item=f"{item:032x}", band=Band.STRONG)


def item(*first):
    return Item(Media.IMAGE, tuple(hashed(n) for n in first))


HUNG = Gallery(
    names=("a", "b"),
    photos=(item(0), item(255)),
    copies=((item(0), item(1)), (item(255), item(254))),
    strangers=(item(85), item(51)),
)


def findings(*rows):
    assert len(rows) == len(HUNG.queries)
    return Findings.of(HUNG, lambda signals: [[hit(item) for item in row] for row in rows])


def test_counting_what_was_found():
    seen = findings([1], [2], [1], [], [2], [1, 2], [], [])
    assert [bool(seen.nearest(p, e)) for p in (0, 1) for e in (0, 1)] == [True, False, True, True]
    assert (seen.false, seen.total) == (1, 5)  # the last copy matches the other photo as well


def test_counting_strangers():
    seen = findings([1], [2], [1], [1], [2], [2], [1], [])
    assert (seen.false, seen.total) == (1, 7)
    assert seen.ids == [f"{n:032x}" for n in (1, 2)]


def test_nearly_equal_photos_are_not_false():
    seen = findings([1, 2], [1, 2], [1], [2], [1, 2], [], [], [])
    assert seen.false == 0


def test_distances_are_of_copies_to_their_photo():
    assert [HUNG.distance(p, e) for p in (0, 1) for e in (0, 1)] == [0, 32, 0, 32]


def test_a_picture_and_its_trimmed_form_are_one_query():
    hung = Gallery(("a",), (item(0, 15),), ((item(85, 7), item(3)),), (item(51, 204),))
    answers = [[hit(1)], [hit(2)], [hit(1), hit(2)], [], [], [hit(3)]]
    seen = Findings.of(hung, lambda signals: answers[: len(signals)])
    assert [len(signals) for signals in hung.queries] == [1, 2, 1, 2]
    assert {m.item for m in seen.copies[0][0]} == {hit(1).item, hit(2).item}
    assert seen.nearest(0, 0).id == hit(1).id
    assert (seen.nearest(0, 1), seen.false) == (None, 2)
    assert [hung.distance(0, e) for e in (0, 1)] == [32, 64]


@pytest.mark.parametrize(
    ("score", "good"),
    [
        (Score(20, 10, 0, 0), True),
        (Score(20, 9, 0, 0), False),
        (Score(20, 20, 1, 0), False),
        (Score(20, 20, 0, 1), False),
        (Score(0, 0, 0, 0), False),
    ],
)
def test_what_counts_as_good(score, good):
    assert score.good is good


def test_the_last_line():
    assert Score(80, 60, 0, 0).line == "demo: 60 of 80 copies found, 0 false, withdrawn: 0 found"
