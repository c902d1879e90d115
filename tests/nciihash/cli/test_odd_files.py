"""Broken links, unreadable folders, deep folders, full disks and file systems without locks."""

import errno
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from nciihash.bank import Bank
from nciihash.feed import FeedPage
from nciihash.hashing.hasher import hash_file
from support.pictures import scene
from support.scans import added

LINKS = {"dangling.jpg": "not_a_file", "forbidden.jpg": "unreadable"}
LINKS |= {"long.jpg": "unreadable", "loop.jpg": "unreadable"}


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Return a folder with every kind of entry that cannot be read, and two pictures."""
    folder = tmp_path_factory.mktemp("odd")
    scene(320, 240, seed=310).save(folder / "a.jpg", quality=95)
    (folder / "z").mkdir()
    scene(320, 240, seed=310).save(folder / "z" / "copy.jpg", quality=40)
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "dangling.jpg").symlink_to("nothing")
    (folder / "long.jpg").symlink_to("x" * 300)
    (folder / "round").symlink_to(folder)
    os.mkfifo(folder / "pipe.jpg")
    closed = folder / "z" / "closed"
    closed.mkdir(mode=0)
    (folder / "forbidden.jpg").symlink_to(closed / "a.jpg")
    return folder


@pytest.fixture
def unreadable(monkeypatch):
    """Refuse root, who may read everything, what other users are refused."""
    stat, scandir = Path.stat, os.scandir

    def refusing_stat(self, **options):
        if self.name == "forbidden.jpg":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return stat(self, **options)

    def refusing_scandir(path):
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    if os.geteuid() == 0:
        monkeypatch.setattr(Path, "stat", refusing_stat)
        monkeypatch.setattr(os, "scandir", refusing_scandir)
        monkeypatch.setattr(os, "access", lambda path, _: not str(path).endswith("closed"))


def refused(lines, folder):
    """Return the error code of each refused file, by its path in the folder."""
    return {
        str(Path(line["file"]).relative_to(folder)): line["error"]["code"]
        for line in lines
        if "error" in line
    }


EXPECTED = LINKS | {"z/closed": "unreadable"}


@pytest.mark.parametrize("command", [("hash", "-r"), ("dedupe",)])
@pytest.mark.usefixtures("unreadable")
def test_what_cannot_be_read_in_a_folder_is_reported_and_the_rest_is_hashed(run, odd, command):
    name, *options = command
    result = run(name, *options, "--json", "--no-sandbox", odd)
    assert result.code == 1
    assert refused(result.lines, odd) == EXPECTED
    text = result.out
    assert str(odd / "a.jpg") in text
    assert str(odd / "z" / "copy.jpg") in text
    assert "pipe.jpg" not in text


@pytest.mark.usefixtures("unreadable")
def test_match_skips_what_cannot_be_read(run, odd, tmp_path):
    (hashed,) = hash_file(odd / "a.jpg").hashes
    with Bank.open(tmp_path / "bank") as bank:
        bank.append(FeedPage((added(1, hashed.signal),), "c", more=False))
    result = run("match", "-r", "--json", "--no-sandbox", "--bank", tmp_path / "bank", odd)
    assert result.code == 1
    assert refused(result.lines, odd) == EXPECTED
    found = [Path(line["file"]).name for line in result.lines if line.get("matches")]
    assert found == ["a.jpg", "copy.jpg"]


@pytest.mark.parametrize("scheme", ["", "file://"])
@pytest.mark.usefixtures("unreadable")
def test_a_scan_skips_what_cannot_be_read(run, odd, tmp_path, scheme):
    parquet = pytest.importorskip("pyarrow.parquet")
    if scheme:
        pytest.importorskip("fsspec")
    (hashed,) = hash_file(odd / "a.jpg").hashes
    with Bank.open(tmp_path / "bank") as bank:
        bank.append(FeedPage((added(1, hashed.signal),), "c", more=False))
    out = tmp_path / "out"
    result = run(
        "scan", f"{scheme}{odd}", "--bank", tmp_path / "bank", "--out", out, "--json",
        "--no-sandbox", "--block", 2,
    )  # fmt: skip
    assert result.code == 1
    expected = dict(EXPECTED)
    if scheme:  # fsspec lists no folders, and follows links itself
        del expected["z/closed"]
        expected["forbidden.jpg"] = "not_a_file"
    assert refused(result.lines, odd) == expected
    assert result.lines[-1]["complete"]
    rows = parquet.read_table(out / "matches").column("file").to_pylist()
    assert [Path(name).name for name in rows] == ["a.jpg", "copy.jpg"]


def test_a_scan_of_hashes_skips_a_table_that_cannot_be_opened(run, odd, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    tables = tmp_path / "tables"
    tables.mkdir()
    run("hash", "--no-sandbox", odd / "a.jpg", "--out", tables / "a.parquet")
    (tables / "loop.parquet").symlink_to("loop.parquet")
    (hashed,) = hash_file(odd / "a.jpg").hashes
    with Bank.open(tmp_path / "bank") as bank:
        bank.append(FeedPage((added(1, hashed.signal),), "c", more=False))
    out = tmp_path / "out"
    result = run("scan", tables, "--bank", tmp_path / "bank", "--out", out, "--json")
    assert result.code == 1
    assert result.lines[-1] | {"complete": True, "scanned": 1, "failed": 1} == result.lines[-1]
    assert parquet.read_table(out / "matches").num_rows == 1


def test_folders_deeper_than_the_recursion_limit(run, photos):
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    here = os.getcwd()  # noqa: PTH109
    try:
        os.chdir(folder)
        for _ in range(1500):
            os.mkdir("d")  # noqa: PTH102
            os.chdir("d")
        shutil.copy(photos / "photo0.jpg", "a.jpg")
        os.chdir(here)
        result = run("hash", "-r", "--json", "--no-sandbox", folder)
        assert result.code == 0
        assert result.line["file"].endswith("/d/d/a.jpg")
    finally:
        os.chdir(here)
        os.system(f"rm -rf {folder}")


# --- errors of the system ----------------------------------------------------------------------


def test_check_reports_a_picture_that_is_too_plain_to_submit(run, photos, tmp_path):
    item = tmp_path / "item.json"
    item.write_text(run("hash", "--json", photos / "photo0.jpg").out)
    plain = run("check", photos / "plain.png", "--against", item)
    assert "cannot be submitted" in plain.out
    assert "too plain" in plain.out
    assert "Submit this copy" not in plain.out
    assert run("check", photos / "plain.png", "--against", item, "--json").line["too_plain"] is True
    assert "too regular" in run("check", photos / "stripes.png", "--against", item).out
    good = run("check", photos / "copy0.jpg", "--against", item, "--json")
    assert good.line["too_plain"] is False


def full(*_):
    """Fail as a write to a full disk does."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_the_error_for_a_full_disk_names_the_file_and_what_to_do(
    run, photos, tmp_path, monkeypatch, ending
):
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / f"out.{ending}"
    monkeypatch.setattr(os, "fsync", full)
    result = run("hash", "--no-sandbox", "--json", photos / "photo0.jpg", "--out", out)
    assert result.code == 2
    error = result.line["error"]
    assert error["code"] == "os_error"
    assert error["message"].startswith(f"No space left on device: {out}")
    assert "Free some space" in error["message"]


def test_the_error_for_missing_locks_names_the_file_and_what_to_do(
    run, photos, tmp_path, monkeypatch
):
    def unlocked(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unlocked)
    bank = tmp_path / "bank"
    monkeypatch.setenv("NCIIHASH_KEY", "k")
    result = run("follow", "--once", "--server", "http://127.0.0.1:9", "--bank", bank, "--json")
    message = result.line["error"]["message"]
    assert result.code == 2
    assert f"No locks available: {bank}-lock. " in message
    assert "local disk" in message
    pytest.importorskip("pyarrow")
    out = tmp_path / "out"
    result = run("scan", photos, "--bank", bank, "--out", out, "--json")
    assert f"No locks available: {out}/lock. " in result.line["error"]["message"]


def test_the_error_for_a_bank_on_a_full_disk_names_its_file(run, local, tmp_path, monkeypatch):
    bank = tmp_path / "bank"
    secret = {"NCIIHASH_KEY": local.platform(), "NCIIHASH_SERVER": local.address}
    local.open(hash_file(_picture(tmp_path)))
    monkeypatch.setattr(os, "pwrite", full)
    result = run("follow", "--once", "--bank", bank, **secret)
    assert result.code == 2
    assert f"No space left on device: {bank}-journal. Free some space" in result.err


def _picture(folder):
    path = folder / "picture.png"
    scene(320, 240, seed=312).save(path)
    Image.open(path).verify()
    return path
