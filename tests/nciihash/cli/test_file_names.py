"""File names that are no UTF-8: JSON that strict readers take, and a way back to the file."""

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

NOT_TEXT = b"caf\xe9.jpg"


def whole(text):
    """Read JSON as strict readers do: without halves of surrogate pairs."""
    value = json.loads(text)
    json.dumps(value, ensure_ascii=False).encode()
    return value


@pytest.fixture(scope="module")
def nameless(tmp_path_factory):
    """Make a folder with a picture whose name is no UTF-8, and one whose name looks like it."""
    folder = tmp_path_factory.mktemp("names")
    for name in (NOT_TEXT, rb"caf\xe9.jpg"):
        scene(320, 240, seed=311).save(folder / os.fsdecode(name), quality=95)
    return folder


def back(line):
    """Find the file that a line is about."""
    raw = base64.b64decode(line["file_bytes"]) if "file_bytes" in line else line["file"].encode()
    return os.fsencode(Path(os.fsdecode(raw)).name)


BOTH = [rb"caf\xe9.jpg", NOT_TEXT]


def test_names_in_lines(run, nameless, tmp_path):
    done = run("hash", "-r", "--json", "--no-sandbox", nameless)
    assert [back(whole(line)) for line in done.out.splitlines()] == BOTH
    done = run("dedupe", "--json", "--no-sandbox", nameless)
    (group,) = map(whole, done.out.splitlines())
    assert sorted(map(back, group["files"])) == sorted(BOTH)
    missing = run("hash", "--json", nameless / os.fsdecode(b"no\xff"))
    assert back(whole(missing.out)) == b"no\xff"
    wrong = run(
        "check", nameless / os.fsdecode(NOT_TEXT), "--against", os.fsdecode(b"no\xff"), "--json"
    )
    assert r"no\xff" in whole(wrong.out)["error"]["message"]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_names_in_a_file_of_results(run, nameless, tmp_path, ending):
    out = tmp_path / f"out.{ending}"
    assert run("hash", "-r", "--no-sandbox", nameless, "--out", out).code == 0
    if ending == "jsonl":
        rows = [whole(line) for line in out.read_text().splitlines()]
    else:
        rows = pytest.importorskip("pyarrow.parquet").read_table(out).to_pylist()
        rows = [{k: v for k, v in row.items() if v is not None} for row in rows]
    assert [back(row) for row in rows] == BOTH
    again = run("hash", "-r", "--no-sandbox", nameless, "--out", out)
    assert "0 files hashed" in again.err
    assert "2 were done before" in again.err


def test_names_in_a_receipt(run, nameless, local):
    done = submit(run, local, "--yes", "--reason", "precaution", "--json", "--no-sandbox",
                  nameless / os.fsdecode(NOT_TEXT))  # fmt: skip
    (item,) = whole(done.out)["items"]
    assert back(item) == NOT_TEXT


@pytest.mark.parametrize("of_hashes", [False, True])
def test_names_in_the_results_of_a_scan(run, nameless, tmp_path, of_hashes):
    parquet = pytest.importorskip("pyarrow.parquet")
    (hashed,) = hash_file(nameless / os.fsdecode(NOT_TEXT)).hashes
    with Bank.open(tmp_path / "bank") as bank:
        bank.append(FeedPage((added(1, hashed.signal),), "c", more=False))
    source = nameless
    if of_hashes:
        source = tmp_path / os.fsdecode(b"tables\xff")
        source.mkdir()
        table = source / os.fsdecode(b"a\xff.parquet")
        run("hash", "-r", "--no-sandbox", nameless, "--out", table)
        (source / os.fsdecode(b"b\xff.parquet")).write_text("no table")
    arguments = (source, "--bank", tmp_path / "bank", "--out", tmp_path / "out", "--json")
    done = run("scan", *arguments, "--no-sandbox")
    assert done.code == of_hashes
    for line in done.out.splitlines():
        whole(line)
    rows = parquet.read_table(tmp_path / "out" / "matches").to_pylist()
    assert [back({k: v for k, v in row.items() if v is not None}) for row in rows] == BOTH
    told = (tmp_path / "out" / "refused.jsonl").read_text().splitlines()
    assert [back({"file": whole(line)["name"]} | whole(line)) for line in told] == (
        [b"b\xff.parquet"] if of_hashes else []
    )
    whole((tmp_path / "out" / "manifest.json").read_text())
    assert run("scan", *arguments, "--no-sandbox").code == of_hashes  # it knows the source again


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_results_are_for_their_owner_alone(run, photos, tmp_path, ending):
    """Hashes are to be kept as the pictures are: not where every user of the machine reads."""
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / f"out.{ending}"
    before = os.umask(0o022)
    try:
        assert run("hash", "--no-sandbox", photos / "photo0.jpg", "--out", out).code == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_a_table_of_an_older_version_is_gone_on_with(run, photos, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "out.parquet"
    run("hash", "--no-sandbox", photos / "photo0.jpg", "--out", out)
    old = parquet.read_table(out).drop_columns(["file_bytes"])
    parquet.write_table(old, out)
    files = [photos / "photo0.jpg", photos / "photo1.jpg"]
    done = run("hash", "--no-sandbox", *files, "--out", out)
    assert "1 were done before" in done.err
    assert parquet.read_table(out).column("file").to_pylist() == list(map(str, files))


@pytest.mark.parametrize(
    "name", [b"a.jpg", b"\xff", "\N{SNOWMAN}".encode(), b"a\\xff", b"\xed\xb3\xbf"]
)
def test_names_and_back(name):
    fields = name_fields(os.fsdecode(name))
    whole(json.dumps(fields))
    assert os.fsencode(path_of(fields)) == name
