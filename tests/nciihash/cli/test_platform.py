"""The commands of a platform: follow, match and feedback, against a real service."""

import json
import os
import signal
import stat
import subprocess
import time

import pytest
from PIL import ImageOps

from nciihash.client import PlatformClient
from nciihash.hashing.hasher import hash_file
from nciihash.signals import SignalType, Variant
from support.command_line import NCIIHASH, YES, submit
from support.pictures import scene


def test_a_platform_follows_matches_and_reports(run, local, photos, tmp_path):
    key, bank = local.platform(), tmp_path / "bank"
    secret = {"NCIIHASH_KEY": key, "NCIIHASH_SERVER": local.address}
    picture, copy = tmp_path / "picture.jpg", tmp_path / "copy.jpg"
    scene(300, 200, seed=99).save(picture, quality=95)
    scene(300, 200, seed=99).save(copy, quality=40)
    original = hash_file(picture, signals=[SignalType.PDQ, SignalType.PHASH])
    case = local.open(original)

    result = run("follow", "--bank", bank, "--once", "--json", **secret)
    assert result.code == 0
    assert result.lines[-1]["current"]
    assert stat.S_IMODE(bank.stat().st_mode) == 0o600

    files = [copy, photos / "photo1.jpg", tmp_path / "text.jpg"]
    files[2].write_text("not a picture")
    with PlatformClient(local.address, key) as client:
        hits = client.match([original.hashes[0].signal])[0]
    (id,) = ids = {hit.id for hit in hits}

    found = run("match", "--bank", bank, "--json", *files)
    assert found.code == 1
    near, other, text = found.lines
    assert near["file"] == str(copy)
    (match,) = near["matches"]
    assert match.keys() == {"id", "item", "type", "variant", "distance", "band", "review"}
    assert (match["id"], match["type"], match["variant"]) == (id, "pdq", Variant.ORIGINAL)
    assert match["distance"] <= 16
    assert match["band"] == "strong"
    assert not ids & {match["id"] for match in other["matches"]}
    assert text["error"]["code"] == "unsupported_format"

    more = run("match", "--bank", bank, "--json", files[0], "--signal", "phash")
    assert {match["type"] for match in more.line["matches"]} == {"pdq", "phash"}

    table = run("match", "--bank", bank, *files[:2])
    assert "strong" in table.out
    assert "of 256" in table.out

    remote = run("match", "--server", local.address, "--json", *files[:2], **secret)
    assert remote.code == 0
    assert {match["id"] for match in remote.lines[0]["matches"]} == ids
    assert remote.lines[0]["matches"][0].keys() == {"id", "item", "type", "band"}
    assert "not returned" in run("match", "--server", local.address, files[0], **secret).out

    recorded = run("feedback", *ids, "--verdict", "blocked", "--json", **secret)
    assert recorded.line == {"recorded": len(ids), "unknown": 0}
    unknown = run("feedback", "0" * 32, "--verdict", "unsure", **secret)
    assert (unknown.code, unknown.out) == (1, "0 recorded, 1 unknown.\n")
    wrong = run("feedback", "no-id", "--verdict", "unsure", "--json", **secret)
    assert (wrong.code, wrong.line["error"]["code"]) == (2, "invalid_request")

    local.withdraw(case)
    assert run("follow", "--bank", bank, "--once", **secret).code == 0
    gone = run("match", "--bank", bank, "--json", files[0])
    assert not ids & {match["id"] for match in gone.line["matches"]}
    assert key not in result.out + result.err + found.out + recorded.out


def test_a_mirrored_copy_in_a_border_is_found(run, local, tmp_path):
    picture, copy, bank = tmp_path / "picture.png", tmp_path / "copy.png", tmp_path / "bank"
    scene(320, 240, seed=71).save(picture)
    ImageOps.expand(ImageOps.mirror(scene(320, 240, seed=71)), 40, "white").save(copy)
    opened = submit(run, local, *YES, "--json", picture)
    assert 15 < opened.line["items"][0]["accepted"] <= 27
    secret = {"NCIIHASH_KEY": local.platform(), "NCIIHASH_SERVER": local.address}
    assert run("follow", "--bank", bank, "--once", **secret).code == 0
    for where in (("--bank", bank), ("--server", local.address)):
        matches = run("match", *where, "--json", copy).line["matches"]
        ids = [match["id"] for match in matches]
        assert len(set(ids)) == len(ids) > 0
        if where[0] == "--bank":
            assert matches[0]["variant"] == "mirror"
            distances = [match["distance"] for match in matches]
            assert distances == sorted(distances)


def test_videos_are_submitted_followed_and_matched(run, local, videos, tmp_path):
    bank = tmp_path / "bank"
    opened = submit(run, local, *YES, "--json", "--signal", "md5", videos / "video.mp4")
    assert "that it is a video" in opened.err
    assert opened.line["items"][0]["accepted"] > 100
    secret = {"NCIIHASH_KEY": local.platform(), "NCIIHASH_SERVER": local.address}
    assert run("follow", "--bank", bank, "--once", **secret).code == 0

    queries = [videos / n for n in ("video.mp4", "mirrored.webm", "part.mkv", "other.mp4")]
    whole, mirrored, part, other = run("match", "--bank", bank, "--json", *queries).lines
    assert whole["items"][0]["query"] == whole["items"][0]["bank"] == {"found": 10, "frames": 10}
    assert mirrored["items"][0]["query"] == {"found": 4, "frames": 4}
    # of ten mirrored frames, less those that another hash already covers
    assert mirrored["items"][0]["bank"]["found"] >= 3
    assert {match["variant"] for match in mirrored["matches"]} >= {"mirror"}
    assert part["items"][0]["bank"] == {"found": 5, "frames": 10}
    assert other["matches"] == []
    assert "items" not in other

    md5 = run("match", "--bank", bank, "--signal", "md5", "--json", videos / "video.mp4").line
    assert "md5" in {match["type"] for match in md5["matches"]}
    table = run("match", "--bank", bank, *queries[2:]).out.splitlines()
    assert table[0].split()[-4:] == ["Frames", "here", "Frames", "there"]
    assert "5 of 5" in table[1]
    assert len(table) == 3

    remote = run("match", "--server", local.address, "--json", videos / "part.mkv", **secret).line
    assert remote["items"][0] == {
        "item": part["items"][0]["item"],
        "query": {"found": 5, "frames": 5},
        "bank": None,
    }


def test_a_folder_is_matched(run, local, collection, tmp_path):
    bank, out = tmp_path / "bank", tmp_path / "found.jsonl"
    submit(run, local, *YES, collection / "0.jpg", collection / "sub" / "video.mp4")
    secret = {"NCIIHASH_KEY": local.platform(), "NCIIHASH_SERVER": local.address}
    assert run("follow", "--bank", bank, "--once", **secret).code == 0
    result = run("match", "--bank", bank, "--recursive", collection)
    table = [line.split()[0] for line in result.out.splitlines()[1:]]
    near = {str(collection / name) for name in ("0.jpg", "sub/copy.jpg", "sub/video.mp4")}
    assert near <= set(table)
    assert str(collection / "5.jpg") not in table
    assert "12 files matched in " in result.err

    result = run("match", "--bank", bank, "-r", "--fast", "--out", out, "--json", collection)
    assert [line["error"]["code"] for line in result.lines] == ["corrupt_file"]
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) == 12
    assert near <= {line["file"] for line in lines if line["matches"]}
    second = run("match", "--bank", bank, "-r", "--out", out, collection)
    assert "12 were done before" in second.err


def test_a_revoked_or_wrong_key(run, local, tmp_path):
    result = run(
        *("follow", "--server", local.address, "--bank", tmp_path / "bank", "--once", "--json"),
        NCIIHASH_KEY="nciik_wrong",
    )
    assert (result.code, result.line["error"]["code"]) == (3, "credentials_wrong")
    assert "nciik_wrong" not in result.out + result.err


def test_a_bank_that_does_not_exist_or_is_damaged(run, photos, tmp_path):
    result = run("match", "--bank", tmp_path / "none", "--json", photos / "photo0.jpg")
    assert (result.code, result.line["error"]["code"]) == (2, "bank_error")
    damaged = tmp_path / "bank"
    damaged.write_bytes(b"this is not a bank" * 100)
    result = run("match", "--bank", damaged, "--json", photos / "photo0.jpg")
    assert (result.code, result.line["error"]["code"]) == (2, "bank_corrupt")


def test_a_folder_that_cannot_be_written(run, local, key, tmp_path):
    result = run(
        *("follow", "--server", local.address, "--bank", tmp_path / "no" / "bank", "--once"),
        "--json",
        NCIIHASH_KEY=key,
    )
    assert (result.code, result.line["error"]["code"]) == (2, "os_error")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_follow_ends_cleanly_on_a_signal(local, key, tmp_path, number, code):
    process = subprocess.Popen(
        [*NCIIHASH, "follow", "--server", local.address, "--bank", tmp_path / "bank", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"NCIIHASH_KEY": key},
    )
    while not json.loads(process.stdout.readline())["current"]:
        pass
    time.sleep(0.2)
    process.send_signal(number)
    assert json.loads(process.stdout.read())["current"]
    assert process.wait() == code
    process.stdout.close()
