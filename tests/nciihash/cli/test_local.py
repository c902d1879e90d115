"""The commands that work on this device alone: hash, dedupe, compare and check."""

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from nciihash.hashing import frame_selection
from nciihash.hashing.hasher import hash_file
from nciihash.sandbox import Sandbox
from support.command_line import NCIIHASH
from support.pictures import scene

# --- hash ---------------------------------------------------------------------------------------


def test_hash_as_json(run, photos):
    files = [photos / "photo0.jpg", photos / "plain.png"]
    done = run("hash", "--json", *files)
    assert (done.code, done.err) == (0, "")
    for line, file in zip(done.lines, files, strict=True):
        (hashed,) = hash_file(file).hashes
        assert line == {
            "file": str(file),
            "media": "image",
            "hashes": [
                {
                    "type": "pdq",
                    "value": hashed.signal.hex,
                    "quality": hashed.quality,
                    "variant": "original",
                }
            ],
        }


def test_hash_with_more_signals(run, photos):
    file = photos / "photo1.jpg"
    done = run("hash", "--json", file, "--signal", "sha256", "--signal", "phash", "--signal", "pdq")
    hashes = {h["type"]: h for h in done.line["hashes"]}
    assert list(hashes) == ["pdq", "sha256", "phash"]
    assert hashes["sha256"]["value"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert hashes["sha256"]["quality"] is None
    assert len(hashes["phash"]["value"]) == 16


def test_hash_without_the_sandbox_is_the_same(run, photos):
    files = [photos / "photo0.jpg", photos / "photo1.jpg"]
    assert run("hash", "--json", *files).out == run("hash", "--json", "--no-sandbox", *files).out


def test_hash_as_a_table(run, photos):
    done = run("hash", photos / "photo0.jpg", photos / "plain.png", photos / "stripes.png")
    assert done.code == 0
    (hashed,) = hash_file(photos / "photo0.jpg").hashes
    rows = [line for line in done.out.splitlines() if "pdq" in line]
    assert hashed.signal.hex in rows[0]
    assert rows[0].rstrip().endswith(str(hashed.quality))
    assert "0 (too plain to submit)" in rows[1]
    assert "too regular to submit" in rows[2]


def test_hash_with_variants_names_each(run, photos):
    hashes = run("hash", "--variants", "standard", "--json", photos / "photo0.jpg").line["hashes"]
    names = [entry["variant"] for entry in hashes]
    assert names[0] == "original"
    assert {"mirror", "rotate90", "crop05"} <= set(names)
    assert len(set(names)) == len(names) <= 27
    assert "mirror" in run("hash", "--variants", "full", photos / "photo0.jpg").out
    assert run("hash", "--variants", "some", photos / "photo0.jpg").code == 2


@pytest.mark.parametrize("sandbox", [[], ["--no-sandbox"]])
def test_bad_files_are_told_in_a_line_each_and_the_others_go_on(run, photos, bad_files, sandbox):
    good = photos / "photo0.jpg"
    done = run("hash", "--json", *bad_files, good, *sandbox)
    assert done.code == 1
    *refused, hashed = done.lines
    assert hashed["hashes"]
    assert [line["file"] for line in refused] == [str(path) for path in bad_files]
    codes = [line["error"]["code"] for line in refused]
    assert codes == ["corrupt_file", "unsupported_format", "empty_file", "not_a_file", "not_a_file"]
    for line in refused:
        assert line.keys() == {"file", "error"}
        assert "\n" not in line["error"]["message"].strip()

    for_people = run("hash", *bad_files, good, *sandbox)
    assert for_people.code == 1
    assert len(for_people.err.splitlines()) == len(bad_files)
    assert "photo0.jpg" in for_people.out


def test_a_name_cannot_command_the_terminal(run, photos, tmp_path):
    name = "[red]a\x1b[2J\nb.jpg"
    file = tmp_path / name
    file.write_bytes((photos / "photo0.jpg").read_bytes())
    done = run("hash", file)
    assert "\x1b" not in done.out
    assert "[red]a\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}b.jpg" in done.out
    assert run("hash", "--json", file).line["file"] == str(file)
    missing = run("hash", tmp_path / "no\x1b[2Jthing")
    assert "\x1b" not in missing.err


def test_a_name_that_is_no_text(run, photos, tmp_path):
    file = os.path.join(os.fsencode(tmp_path), b"caf\xe9.jpg")  # noqa: PTH118 - of bytes
    Path(os.fsdecode(file)).write_bytes((photos / "photo0.jpg").read_bytes())
    line = run("hash", "--json", os.fsdecode(file)).line
    assert line["file"] == str(tmp_path / r"caf\xe9.jpg")
    assert base64.b64decode(line["file_bytes"]) == file
    assert run("hash", os.fsdecode(file)).code == 0


def test_a_sandbox_that_does_not_start_means_nothing_is_decoded(run, photos, monkeypatch):
    monkeypatch.setattr("nciihash.sandbox.pool.Sandbox", Sandbox)  # whose child is not yet there
    monkeypatch.setattr(sys, "executable", "/bin/false")
    done = run("hash", "--json", photos / "photo0.jpg")
    assert done.code == 1
    assert done.line["error"]["code"] == "sandbox_unavailable"


def test_what_confines_the_decoder_is_shown(run):
    line = run("sandbox", "--json").line
    with Sandbox() as box:
        assert line["isolation"] == list(box.isolation)
    assert set(line["isolation"]).isdisjoint(line["missing"])
    assert "process" in run("sandbox").out


@pytest.mark.parametrize("sandbox", [[], ["--no-sandbox"]])
def test_it_is_told_that_only_the_first_of_several_pictures_is_covered(run, several, sandbox):
    done = run("hash", "--json", *sandbox, *several)
    assert done.code == 0
    assert [line.keys() for line in done.lines] == [{"file", "media", "hashes"}] * 3
    notes = done.err.splitlines()
    assert len(notes) == 2
    for path, note in zip(several, notes, strict=False):
        assert note.startswith(f"{path}: only the first of the 3 pictures")


def test_a_damaged_second_picture_is_no_reason_to_refuse_the_first(run, several):
    cut = several[0].with_name("cut.gif")
    pictures = [scene(320, 240, seed=n) for n in (60, 61, 62)]
    pictures[0].save(cut, save_all=True, append_images=pictures[1:])
    cut.write_bytes(cut.read_bytes()[:-5000])
    assert run("hash", "--json", "--no-sandbox", cut).code == 0


def test_a_long_video_says_that_it_is_thinned(run, films, monkeypatch):
    monkeypatch.setattr(frame_selection, "PLAIN_FRAMES", 6)
    done = run("hash", "--json", "--no-sandbox", films / "film.mp4")
    assert done.line["every"] == 1.0
    assert "one frame was taken every 1 seconds rather than four per second" in done.err


@pytest.mark.parametrize("sandbox", [[], ["--no-sandbox"]])
def test_ctrl_c_while_hashing_ends_with_130_and_whole_lines(photos, sandbox, tmp_path):
    files = [str(photos / "photo0.jpg")] * 5000
    errors = tmp_path / "errors"
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            [*NCIIHASH, "hash", "--json", *sandbox, *files],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
    first = process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to the sandbox as well
    # not `communicate`, which would leave out what `readline` has taken from the pipe already
    rest = process.stdout.read()
    process.stdout.close()
    assert process.wait(60) == 130
    assert [json.loads(line)["hashes"] for line in (first + rest).splitlines()]
    assert rest == "" or rest.endswith("\n")
    assert "Traceback" not in errors.read_text()


# --- hash into a file ---------------------------------------------------------------------------


def _rows(path):
    if path.suffix == ".parquet":
        return pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()
    return [
        {"file": line["file"], **hashed}
        for line in map(json.loads, path.read_text().splitlines())
        for hashed in line["hashes"]
    ]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_folder_is_hashed_into_a_file(run, collection, tmp_path, ending):
    out = tmp_path / f"hashes.{ending}"
    done = run("hash", collection, "--recursive", "--fast", "--jobs", "2", "--out", out)
    assert (done.code, done.out) == (1, "")
    rows = _rows(out)
    alone = {row["file"]: row["value"] for row in rows}
    assert len(alone) == 12
    photo = str(collection / "3.jpg")
    assert alone[photo] == run("hash", "--json", photo).line["hashes"][0]["value"]
    film_rows = [row for row in rows if row["file"].endswith("film.mp4")]
    assert [row["time"] for row in film_rows] == pytest.approx([0, 0.5, 1, 1.5], abs=0.09)
    summary, reason, names = done.err.splitlines()[-3:]
    assert "12 files hashed in " in summary
    assert "1 are neither pictures nor videos that can be opened; 1 failed." in summary
    assert reason.startswith("  1 corrupt_file: ")
    assert names.strip() == str(collection / "cut.jpg")

    again = run("hash", collection, "--recursive", "--fast", "--out", out)
    assert "0 files hashed" in again.err
    assert "12 were done before" in again.err
    assert _rows(out) == rows


def test_an_interrupted_run_is_taken_up_again(run, collection, tmp_path):
    folder, out = tmp_path / "many", tmp_path / "hashes.parquet"
    folder.mkdir()
    photo = (collection / "0.jpg").read_bytes()
    for number in range(400):
        (folder / f"{number:03}.jpg").write_bytes(photo)
    command = [*NCIIHASH, "hash", folder, "--recursive", "--jobs", "2", "--out", out]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    lines = out.with_name("hashes.parquet.jsonl")
    while not lines.exists() or not lines.stat().st_size:
        assert first.poll() is None
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGINT)
    _, told = first.communicate(timeout=60)
    assert first.returncode == 130
    assert "Run the same command again to continue" in told
    assert not out.exists()
    kept = lines.read_text().splitlines()
    assert 0 < len(kept) < 400
    assert [json.loads(line)["file"] for line in kept] == sorted(map(str, folder.iterdir()))[
        : len(kept)
    ]
    second = run(*command[len(NCIIHASH) :])
    assert second.code == 0
    assert f"{400 - len(kept):,} files hashed" in second.err
    assert [row["file"] for row in _rows(out)] == sorted(map(str, folder.iterdir()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hashes.parquet", "many"]


def test_fast_goes_with_altered_copies_and_digests(run, photos, tmp_path):
    scene(700, 600).save(tmp_path / "large.jpg", quality=90)
    asked = ("--variants", "standard", "--signal", "md5", "--json", tmp_path / "large.jpg")
    [exact], [fast] = run("hash", *asked).lines, run("hash", "--fast", *asked).lines
    assert (exact.get("fast"), fast.get("fast")) == (None, True)
    assert len(fast["hashes"]) > 15
    assert exact["hashes"][-1] == fast["hashes"][-1]
    assert exact["hashes"][-1]["type"] == "md5"
    assert run("hash", "--out", "x.csv", photos / "photo0.jpg").code == 2
    assert run("hash", photos).code == 1  # a folder, but not --recursive


# --- compare ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "band", "words"),
    [
        (0, "strong", "strong match"),
        (16, "strong", "strong match"),
        (17, "likely", "likely match"),
        (31, "likely", "likely match"),
        (32, None, "No match"),
    ],
)
def test_compare_hashes(run, bits, band, words):
    a = "0f" * 32
    b = f"{int(a, 16) ^ (2**bits - 1):064X}"
    line = run("compare", a, b, "--json").line
    assert (line["distance"], line["band"], line["threshold"]) == (bits, band, 31)
    done = run("compare", a, b)
    assert f"{bits} of 256 bits" in done.out
    assert words in done.out


def test_compare_files(run, photos):
    done = run("compare", photos / "photo0.jpg", photos / "copy0.jpg", "--json")
    assert done.line["band"] == "strong"
    (hashed,) = hash_file(photos / "photo0.jpg").hashes
    assert run("compare", hashed.signal.hex, photos / "photo0.jpg", "--json").line["distance"] == 0
    plain = run("compare", photos / "plain.png", photos / "photo0.jpg")
    assert "so plain that this says little" in plain.out


@pytest.mark.parametrize("text", ["0f" * 31, "zz" * 32, "nothing.jpg"])
def test_compare_with_what_is_neither(run, text):
    done = run("compare", "0f" * 32, text, "--json")
    assert done.code == 1
    assert done.line["error"]["code"] == "not_a_file"


def test_hash_and_compare_videos(run, films):
    line = run("hash", "--json", "--signal", "md5", films / "film.mp4").line
    assert (line["media"], line["every"]) == ("video", 0.25)
    *frames, digest = line["hashes"]
    assert [round(frame["time"] * 2) for frame in frames] == list(range(10))
    assert digest["type"] == "md5"
    assert "time" not in digest
    assert "Second" in run("hash", films / "film.mp4").out
    near = run("compare", "--json", films / "part.mkv", films / "film.mp4").line
    assert (near["query"], near["bank"]) == ({"found": 5, "frames": 5}, {"found": 5, "frames": 10})
    told = run("compare", films / "part.mkv", films / "film.mp4").out
    assert "5 of the 5 frames of the first (100%) and 5 of the 10 frames of the second" in told


# --- check --------------------------------------------------------------------------------------


def test_check_tells_whether_a_copy_would_be_found(run, photos, tmp_path):
    item, copy = tmp_path / "item.json", tmp_path / "copy.png"
    item.write_text(run("hash", "--variants", "standard", "--json", photos / "photo0.jpg").out)
    picture = Image.open(photos / "photo0.jpg").convert("RGB")
    ImageOps.mirror(picture).save(copy)
    done = run("check", copy, "--against", item, "--json")
    assert done.line["found"] is True
    assert done.line["variant"] == "mirror"
    assert "would be found" in run("check", copy, "--against", item).out
    picture.crop((0, 0, picture.width // 2, picture.height)).save(copy)
    done = run("check", copy, "--against", item, "--json")
    assert (done.code, done.line["found"], done.line["band"]) == (0, False, None)
    assert "would not be found" in run("check", copy, "--against", item).out


@pytest.mark.parametrize("text", ["", "no JSON", "[1]", '{"hashes": [{"type": "pdq"}]}', "{}"])
def test_check_against_something_else(run, photos, tmp_path, text):
    item = tmp_path / "item.json"
    item.write_text(text)
    assert run("check", photos / "photo0.jpg", "--against", item).code == 2
    assert run("check", photos / "photo0.jpg", "--against", tmp_path / "none").code == 2


def test_check_videos(run, films, tmp_path):
    item = tmp_path / "item.json"
    item.write_text(run("hash", "--variants", "standard", "--json", films / "film.mp4").out)
    line = run("check", "--json", films / "mirrored.webm", "--against", item).line
    assert line["found"] is True
    assert line["query"] == {"found": 4, "frames": 4}
    assert line["bank"] == {"found": 4, "frames": 10}
    told = run("check", films / "mirrored.webm", "--against", item).out
    assert "4 of the 10 frames of the original (40%)" in told
    assert "would not be found" in run("check", films / "other.mp4", "--against", item).out


# --- dedupe -------------------------------------------------------------------------------------


def test_near_duplicates_are_grouped(run, collection):
    done = run("dedupe", "--json", "--jobs", "2", collection)
    groups = [
        {str(Path(member["file"]).relative_to(collection)) for member in line["files"]}
        for line in done.lines
        if "group" in line
    ]
    assert groups == [
        {"0.jpg", "sub/copy.jpg"},
        {"1.jpg", "sub/small.png"},
        {"sub/film.mp4", "sub/shorter.mp4"},
    ]
    assert done.code == 1  # one was cut off
    shown = run("dedupe", collection)
    assert [line.split()[0] for line in shown.out.splitlines()] == ["Group", *"112233"]
    assert "6 of them are in 3 groups of near-duplicates." in shown.err
    none = run("dedupe", "--within", "0", "--exact", collection / "2.jpg", collection / "3.jpg")
    assert (none.code, none.out) == (0, "")
