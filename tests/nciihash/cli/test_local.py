"""The commands that work only on this device: hash, dedupe, compare, check and sandbox."""

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
    result = run("hash", "--json", *files)
    assert (result.code, result.err) == (0, "")
    for line, file in zip(result.lines, files, strict=True):
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
    result = run(
        "hash", "--json", file, "--signal", "sha256", "--signal", "phash", "--signal", "pdq"
    )
    hashes = {h["type"]: h for h in result.line["hashes"]}
    assert list(hashes) == ["pdq", "sha256", "phash"]
    assert hashes["sha256"]["value"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert hashes["sha256"]["quality"] is None
    assert len(hashes["phash"]["value"]) == 16


def test_hashes_are_the_same_without_the_sandbox(run, photos):
    files = [photos / "photo0.jpg", photos / "photo1.jpg"]
    assert run("hash", "--json", *files).out == run("hash", "--json", "--no-sandbox", *files).out


def test_hash_as_a_table(run, photos):
    result = run("hash", photos / "photo0.jpg", photos / "plain.png", photos / "stripes.png")
    assert result.code == 0
    (hashed,) = hash_file(photos / "photo0.jpg").hashes
    rows = [line for line in result.out.splitlines() if "pdq" in line]
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
def test_each_bad_file_is_reported_in_a_line_and_the_others_are_hashed(
    run, photos, bad_files, sandbox
):
    good = photos / "photo0.jpg"
    result = run("hash", "--json", *bad_files, good, *sandbox)
    assert result.code == 1
    *refused, hashed = result.lines
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


def test_a_file_name_cannot_control_the_terminal(run, photos, tmp_path):
    name = "[red]a\x1b[2J\nb.jpg"
    file = tmp_path / name
    file.write_bytes((photos / "photo0.jpg").read_bytes())
    result = run("hash", file)
    assert "\x1b" not in result.out
    assert "[red]a\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}b.jpg" in result.out
    assert run("hash", "--json", file).line["file"] == str(file)
    missing = run("hash", tmp_path / "no\x1b[2Jthing")
    assert "\x1b" not in missing.err


def test_a_file_name_that_is_not_utf_8(run, photos, tmp_path):
    file = os.path.join(os.fsencode(tmp_path), b"caf\xe9.jpg")  # noqa: PTH118 - bytes
    Path(os.fsdecode(file)).write_bytes((photos / "photo0.jpg").read_bytes())
    line = run("hash", "--json", os.fsdecode(file)).line
    assert line["file"] == str(tmp_path / r"caf\xe9.jpg")
    assert base64.b64decode(line["file_bytes"]) == file
    assert run("hash", os.fsdecode(file)).code == 0


def test_nothing_is_decoded_if_the_sandbox_does_not_start(run, photos, monkeypatch):
    monkeypatch.setattr("nciihash.sandbox.pool.Sandbox", Sandbox)  # with a new child process
    monkeypatch.setattr(sys, "executable", "/bin/false")
    result = run("hash", "--json", photos / "photo0.jpg")
    assert result.code == 1
    assert result.line["error"]["code"] == "sandbox_unavailable"


def test_sandbox_shows_how_the_decoder_is_confined(run):
    line = run("sandbox", "--json").line
    with Sandbox() as box:
        assert line["isolation"] == list(box.isolation)
    assert set(line["isolation"]).isdisjoint(line["missing"])
    assert "process" in run("sandbox").out


@pytest.mark.parametrize("sandbox", [[], ["--no-sandbox"]])
def test_a_note_says_that_only_the_first_of_several_pictures_is_covered(
    run, multi_picture_files, sandbox
):
    result = run("hash", "--json", *sandbox, *multi_picture_files)
    assert result.code == 0
    assert [line.keys() for line in result.lines] == [{"file", "media", "hashes"}] * 3
    notes = result.err.splitlines()
    assert len(notes) == 2
    for path, note in zip(multi_picture_files, notes, strict=False):
        assert note.startswith(f"{path}: only the first of the 3 pictures")


def test_a_damaged_second_picture_does_not_refuse_the_first(run, multi_picture_files):
    cut = multi_picture_files[0].with_name("cut.gif")
    pictures = [scene(320, 240, seed=n) for n in (60, 61, 62)]
    pictures[0].save(cut, save_all=True, append_images=pictures[1:])
    cut.write_bytes(cut.read_bytes()[:-5000])
    assert run("hash", "--json", "--no-sandbox", cut).code == 0


def test_a_note_says_that_a_long_video_is_sampled_less_often(run, videos, monkeypatch):
    monkeypatch.setattr(frame_selection, "PLAIN_FRAMES", 6)
    result = run("hash", "--json", "--no-sandbox", videos / "video.mp4")
    assert result.line["every"] == 1.0
    assert "one frame was taken every 1 seconds rather than four per second" in result.err


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
    # not `communicate`: it would miss what `readline` has buffered
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
    result = run("hash", collection, "--recursive", "--fast", "--jobs", "2", "--out", out)
    assert (result.code, result.out) == (1, "")
    rows = _rows(out)
    values = {row["file"]: row["value"] for row in rows}
    assert len(values) == 12
    photo = str(collection / "3.jpg")
    assert values[photo] == run("hash", "--json", photo).line["hashes"][0]["value"]
    video_rows = [row for row in rows if row["file"].endswith("video.mp4")]
    assert [row["time"] for row in video_rows] == pytest.approx([0, 0.5, 1, 1.5], abs=0.09)
    summary, reason, names = result.err.splitlines()[-3:]
    assert "12 files hashed in " in summary
    assert "1 are neither pictures nor videos that can be opened; 1 failed." in summary
    assert reason.startswith("  1 corrupt_file: ")
    assert names.strip() == str(collection / "cut.jpg")

    second = run("hash", collection, "--recursive", "--fast", "--out", out)
    assert "0 files hashed" in second.err
    assert "12 were done before" in second.err
    assert _rows(out) == rows


def test_an_interrupted_run_is_continued(run, collection, tmp_path):
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
    _, err = first.communicate(timeout=60)
    assert first.returncode == 130
    assert "Run the same command again to continue" in err
    assert not out.exists()
    finished = lines.read_text().splitlines()
    assert 0 < len(finished) < 400
    assert [json.loads(line)["file"] for line in finished] == sorted(map(str, folder.iterdir()))[
        : len(finished)
    ]
    second = run(*command[len(NCIIHASH) :])
    assert second.code == 0
    assert f"{400 - len(finished):,} files hashed" in second.err
    assert [row["file"] for row in _rows(out)] == sorted(map(str, folder.iterdir()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hashes.parquet", "many"]


def test_fast_goes_with_altered_copies_and_digests(run, photos, tmp_path):
    scene(700, 600).save(tmp_path / "large.jpg", quality=90)
    arguments = ("--variants", "standard", "--signal", "md5", "--json", tmp_path / "large.jpg")
    [exact], [fast] = run("hash", *arguments).lines, run("hash", "--fast", *arguments).lines
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
    result = run("compare", a, b)
    assert f"{bits} of 256 bits" in result.out
    assert words in result.out


def test_compare_files(run, photos):
    result = run("compare", photos / "photo0.jpg", photos / "copy0.jpg", "--json")
    assert result.line["band"] == "strong"
    (hashed,) = hash_file(photos / "photo0.jpg").hashes
    assert run("compare", hashed.signal.hex, photos / "photo0.jpg", "--json").line["distance"] == 0
    plain = run("compare", photos / "plain.png", photos / "photo0.jpg")
    assert "so plain that this says little" in plain.out


@pytest.mark.parametrize("text", ["0f" * 31, "zz" * 32, "nothing.jpg"])
def test_compare_with_neither_a_file_nor_a_hash(run, text):
    result = run("compare", "0f" * 32, text, "--json")
    assert result.code == 1
    assert result.line["error"]["code"] == "not_a_file"


def test_hash_and_compare_videos(run, videos):
    line = run("hash", "--json", "--signal", "md5", videos / "video.mp4").line
    assert (line["media"], line["every"]) == ("video", 0.25)
    *frames, digest = line["hashes"]
    assert [round(frame["time"] * 2) for frame in frames] == list(range(10))
    assert digest["type"] == "md5"
    assert "time" not in digest
    assert "Second" in run("hash", videos / "video.mp4").out
    near = run("compare", "--json", videos / "part.mkv", videos / "video.mp4").line
    assert (near["query"], near["bank"]) == ({"found": 5, "frames": 5}, {"found": 5, "frames": 10})
    out = run("compare", videos / "part.mkv", videos / "video.mp4").out
    assert "5 of the 5 frames of the first (100%) and 5 of the 10 frames of the second" in out


# --- check --------------------------------------------------------------------------------------


def test_check_says_whether_a_copy_would_be_found(run, photos, tmp_path):
    item, copy = tmp_path / "item.json", tmp_path / "copy.png"
    item.write_text(run("hash", "--variants", "standard", "--json", photos / "photo0.jpg").out)
    picture = Image.open(photos / "photo0.jpg").convert("RGB")
    ImageOps.mirror(picture).save(copy)
    result = run("check", copy, "--against", item, "--json")
    assert result.line["found"] is True
    assert result.line["variant"] == "mirror"
    assert "would be found" in run("check", copy, "--against", item).out
    picture.crop((0, 0, picture.width // 2, picture.height)).save(copy)
    result = run("check", copy, "--against", item, "--json")
    assert (result.code, result.line["found"], result.line["band"]) == (0, False, None)
    assert "would not be found" in run("check", copy, "--against", item).out


@pytest.mark.parametrize("text", ["", "not JSON", "[1]", '{"hashes": [{"type": "pdq"}]}', "{}"])
def test_check_against_a_file_that_holds_no_hashes(run, photos, tmp_path, text):
    item = tmp_path / "item.json"
    item.write_text(text)
    assert run("check", photos / "photo0.jpg", "--against", item).code == 2
    assert run("check", photos / "photo0.jpg", "--against", tmp_path / "none").code == 2


def test_check_videos(run, videos, tmp_path):
    item = tmp_path / "item.json"
    item.write_text(run("hash", "--variants", "standard", "--json", videos / "video.mp4").out)
    line = run("check", "--json", videos / "mirrored.webm", "--against", item).line
    assert line["found"] is True
    assert line["query"] == {"found": 4, "frames": 4}
    assert line["bank"] == {"found": 4, "frames": 10}
    out = run("check", videos / "mirrored.webm", "--against", item).out
    assert "4 of the 10 frames of the original (40%)" in out
    assert "would not be found" in run("check", videos / "other.mp4", "--against", item).out


# --- dedupe -------------------------------------------------------------------------------------


def test_near_duplicates_are_grouped(run, collection):
    result = run("dedupe", "--json", "--jobs", "2", collection)
    groups = [
        {str(Path(member["file"]).relative_to(collection)) for member in line["files"]}
        for line in result.lines
        if "group" in line
    ]
    assert groups == [
        {"0.jpg", "sub/copy.jpg"},
        {"1.jpg", "sub/small.png"},
        {"sub/video.mp4", "sub/shorter.mp4"},
    ]
    assert result.code == 1  # one file is truncated
    shown = run("dedupe", collection)
    assert [line.split()[0] for line in shown.out.splitlines()] == ["Group", *"112233"]
    assert "6 of them are in 3 groups of near-duplicates." in shown.err
    none = run("dedupe", "--within", "0", "--exact", collection / "2.jpg", collection / "3.jpg")
    assert (none.code, none.out) == (0, "")
