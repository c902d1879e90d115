"""File names that are not UTF-8: output is strict JSON, from which the name can be restored."""

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from nciihash.bank import Bank
from nciihash.feed import FeedPage
from nciihash.hashing.hasher import hash_file
from nciihash.media.reading import name_fields, path_of
from support.command_line import submit
from support.pictures import scene
from support.scans import added

NOT_UTF8 = b"caf\xe9.jpg"


def strict_json(text):
    """Parse JSON as strict readers do: refuse lone surrogates."""
    value = json.loads(text)
    json.dumps(value, ensure_ascii=False).encode()
    return value


@pytest.fixture(scope="module")
def odd_names(tmp_path_factory):
    """Return a folder of two pictures: one name is not UTF-8, the other looks like its escape."""
    folder = tmp_path_factory.mktemp("names")
    for name in (NOT_UTF8, rb"caf\xe9.jpg"):
        scene(320, 240, seed=311).save(folder / os.fsdecode(name), quality=95)
    return folder


def restored(line):
    """Return the name, in bytes, of the file that a line is about."""
    raw = base64.b64decode(line["file_bytes"]) if "file_bytes" in line else line["file"].encode()
    return os.fsencode(Path(os.fsdecode(raw)).name)


BOTH = [rb"caf\xe9.jpg", NOT_UTF8]


def test_names_in_lines(run, odd_names, tmp_path):
    result = run("hash", "-r", "--json", "--no-sandbox", odd_names)
    assert [restored(strict_json(line)) for line in result.out.splitlines()] == BOTH
    result = run("dedupe", "--json", "--no-sandbox", odd_names)
    (group,) = map(strict_json, result.out.splitlines())
    assert sorted(map(restored, group["files"])) == sorted(BOTH)
    missing = run("hash", "--json", odd_names / os.fsdecode(b"no\xff"))
    assert restored(strict_json(missing.out)) == b"no\xff"
    wrong = run(
        "check", odd_names / os.fsdecode(NOT_UTF8), "--against", os.fsdecode(b"no\xff"), "--json"
    )
    assert r"no\xff" in strict_json(wrong.out)["error"]["message"]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_names_in_a_file_of_results(run, odd_names, tmp_path, ending):
    out = tmp_path / f"out.{ending}"
    assert run("hash", "-r", "--no-sandbox", odd_names, "--out", out).code == 0
    if ending == "jsonl":
        rows = [strict_json(line) for line in out.read_text().splitlines()]
    else:
        rows = pytest.importorskip("pyarrow.parquet").read_table(out).to_pylist()
        rows = [{k: v for k, v in row.items() if v is not None} for row in rows]
    assert [restored(row) for row in rows] == BOTH
    second = run("hash", "-r", "--no-sandbox", odd_names, "--out", out)
    assert "0 files hashed" in second.err
    assert "2 were done before" in second.err


def test_names_in_a_receipt(run, odd_names, local):
    result = submit(run, local, "--yes", "--reason", "precaution", "--json", "--no-sandbox",
                  odd_names / os.fsdecode(NOT_UTF8))  # fmt: skip
    (item,) = strict_json(result.out)["items"]
    assert restored(item) == NOT_UTF8


@pytest.mark.parametrize("of_hashes", [False, True])
def test_names_in_the_results_of_a_scan(run, odd_names, tmp_path, of_hashes):
    parquet = pytest.importorskip("pyarrow.parquet")
    (hashed,) = hash_file(odd_names / os.fsdecode(NOT_UTF8)).hashes
    with Bank.open(tmp_path / "bank") as bank:
        bank.append(FeedPage((added(1, hashed.signal),), "c", more=False))
    source = odd_names
    if of_hashes:
        source = tmp_path / os.fsdecode(b"tables\xff")
        source.mkdir()
        table = source / os.fsdecode(b"a\xff.parquet")
        run("hash", "-r", "--no-sandbox", odd_names, "--out", table)
        (source / os.fsdecode(b"b\xff.parquet")).write_text("not a table")
    arguments = (source, "--bank", tmp_path / "bank", "--out", tmp_path / "out", "--json")
    result = run("scan", *arguments, "--no-sandbox")
    assert result.code == of_hashes
    for line in result.out.splitlines():
        strict_json(line)
    rows = parquet.read_table(tmp_path / "out" / "matches").to_pylist()
    assert [restored({k: v for k, v in row.items() if v is not None}) for row in rows] == BOTH
    refused = (tmp_path / "out" / "refused.jsonl").read_text().splitlines()
    assert [
        restored({"file": strict_json(line)["name"]} | strict_json(line)) for line in refused
    ] == ([b"b\xff.parquet"] if of_hashes else [])
    strict_json((tmp_path / "out" / "manifest.json").read_text())
    assert run("scan", *arguments, "--no-sandbox").code == of_hashes  # the same source


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_results_are_readable_only_by_their_owner(run, photos, tmp_path, ending):
    """Hashes are as private as the pictures."""
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / f"out.{ending}"
    umask = os.umask(0o022)
    try:
        assert run("hash", "--no-sandbox", photos / "photo0.jpg", "--out", out).code == 0
    finally:
        os.umask(umask)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_a_table_of_an_older_version_is_continued(run, photos, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "out.parquet"
    run("hash", "--no-sandbox", photos / "photo0.jpg", "--out", out)
    old = parquet.read_table(out).drop_columns(["file_bytes"])
    parquet.write_table(old, out)
    files = [photos / "photo0.jpg", photos / "photo1.jpg"]
    result = run("hash", "--no-sandbox", *files, "--out", out)
    assert "1 were done before" in result.err
    assert parquet.read_table(out).column("file").to_pylist() == list(map(str, files))


@pytest.mark.parametrize(
    "name", [b"a.jpg", b"\xff", "\N{SNOWMAN}".encode(), b"a\\xff", b"\xed\xb3\xbf"]
)
def test_names_survive_a_round_trip(name):
    fields = name_fields(os.fsdecode(name))
    strict_json(json.dumps(fields))
    assert os.fsencode(path_of(fields)) == name
