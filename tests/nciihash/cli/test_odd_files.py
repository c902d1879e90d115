"""Folders with links that lead nowhere, and disks that are full."""

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
    """Make a folder with every kind of entry that cannot be read, and two pictures."""
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
def refusing(monkeypatch):
    """Refuse root, who may look anywhere, what anybody else is refused."""
    stat, scandir = Path.stat, os.scandir

    def stat_refusing(self, **options):
        if self.name == "forbidden.jpg":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return stat(self, **options)

    def scandir_refusing(path):
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    if os.geteuid() == 0:
        monkeypatch.setattr(Path, "stat", stat_refusing)
        monkeypatch.setattr(os, "scandir", scandir_refusing)
        monkeypatch.setattr(os, "access", lambda path, _: not str(path).endswith("closed"))


def refused(lines, folder):
    return {
        str(Path(line["file"]).relative_to(folder)): line["error"]["code"]
        for line in lines
        if "error" in line
    }


EXPECTED = LINKS | {"z/closed": "unreadable"}


@pytest.mark.parametrize("command", [("hash", "-r"), ("dedupe",)])
@pytest.mark.usefixtures("refusing")
def test_what_cannot_be_read_in_a_folder_is_told_and_the_others_go_on(run, odd, command):
    name, *options = command
    done = run(name, *options, "--json", "--no-sandbox", odd)
    assert done.code == 1
    assert refused(done.lines, odd) == EXPECTED
    text = done.out
    assert str(odd / "a.jpg") in text
    assert str(odd / "z" / "copy.jpg") in text
    assert "pipe.jpg" not in text


@pytest.mark.usefixtures("refusing")
def test_matching_goes_on_past_what_cannot_be_read(run, odd, tmp_path):
    (hashed,) = hash_file(odd / "a.jpg").hashes
    with Bank.open(tmp_path / "bank") as bank:
        bank.append(FeedPage((added(1, hashed.signal),), "c", more=False))
    done = run("match", "-r", "--json", "--no-sandbox", "--bank", tmp_path / "bank", odd)
    assert done.code == 1
    assert refused(done.lines, odd) == EXPECTED
    found = [Path(line["file"]).name for line in done.lines if line.get("matches")]
    assert found == ["a.jpg", "copy.jpg"]


@pytest.mark.parametrize("scheme", ["", "file://"])
@pytest.mark.usefixtures("refusing")
def test_a_scan_goes_on_past_what_cannot_be_read(run, odd, tmp_path, scheme):
    parquet = pytest.importorskip("pyarrow.parquet")
    if scheme:
        pytest.importorskip("fsspec")
    (hashed,) = hash_file(odd / "a.jpg").hashes
    with Bank.open(tmp_path / "bank") as bank:
        bank.append(FeedPage((added(1, hashed.signal),), "c", more=False))
    out = tmp_path / "out"
    done = run(
        "scan", f"{scheme}{odd}", "--bank", tmp_path / "bank", "--out", out, "--json",
        "--no-sandbox", "--block", 2,
    )  # fmt: skip
    assert done.code == 1
    expected = dict(EXPECTED)
    if scheme:  # which lists no folders, and opens links by itself
        del expected["z/closed"]
        expected["forbidden.jpg"] = "not_a_file"
    assert refused(done.lines, odd) == expected
    assert done.lines[-1]["complete"]
    rows = parquet.read_table(out / "matches").column("file").to_pylist()
    assert [Path(name).name for name in rows] == ["a.jpg", "copy.jpg"]


def test_a_scan_of_hashes_goes_on_past_a_table_that_cannot_be_opened(run, odd, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    tables = tmp_path / "tables"
    tables.mkdir()
    run("hash", "--no-sandbox", odd / "a.jpg", "--out", tables / "a.parquet")
    (tables / "loop.parquet").symlink_to("loop.parquet")
    (hashed,) = hash_file(odd / "a.jpg").hashes
    with Bank.open(tmp_path / "bank") as bank:
        bank.append(FeedPage((added(1, hashed.signal),), "c", more=False))
    out = tmp_path / "out"
    done = run("scan", tables, "--bank", tmp_path / "bank", "--out", out, "--json")
    assert done.code == 1
    assert done.lines[-1] | {"complete": True, "scanned": 1, "failed": 1} == done.lines[-1]
    assert parquet.read_table(out / "matches").num_rows == 1


def test_folders_deeper_than_calls_may_be(run, photos):
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    here = os.getcwd()  # noqa: PTH109
    try:
        os.chdir(folder)
        for _ in range(1500):
            os.mkdir("d")  # noqa: PTH102
            os.chdir("d")
        shutil.copy(photos / "photo0.jpg", "a.jpg")
        os.chdir(here)
        done = run("hash", "-r", "--json", "--no-sandbox", folder)
        assert done.code == 0
        assert done.line["file"].endswith("/d/d/a.jpg")
    finally:
        os.chdir(here)
        os.system(f"rm -rf {folder}")


# --- what the system refuses --------------------------------------------------------------------


def test_a_picture_too_plain_to_submit_is_checked_and_told(run, photos, tmp_path):
    item = tmp_path / "item.json"
    item.write_text(run("hash", "--json", photos / "photo0.jpg").out)
    told = run("check", photos / "plain.png", "--against", item)
    assert "cannot be submitted" in told.out
    assert "too plain" in told.out
    assert "Submit this copy" not in told.out
    assert run("check", photos / "plain.png", "--against", item, "--json").line["too_plain"] is True
    assert "too regular" in run("check", photos / "stripes.png", "--against", item).out
    good = run("check", photos / "copy0.jpg", "--against", item, "--json")
    assert good.line["too_plain"] is False


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_full_disk_names_the_file_and_what_to_do(run, photos, tmp_path, monkeypatch, ending):
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / f"out.{ending}"
    monkeypatch.setattr(os, "fsync", full)
    done = run("hash", "--no-sandbox", "--json", photos / "photo0.jpg", "--out", out)
    assert done.code == 2
    told = done.line["error"]
    assert told["code"] == "os_error"
    assert told["message"].startswith(f"No space left on device: {out}")
    assert "Free some space" in told["message"]


def test_a_file_system_without_locks_names_the_file_and_what_to_do(
    run, photos, tmp_path, monkeypatch
):
    def unlocked(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unlocked)
    bank = tmp_path / "bank"
    monkeypatch.setenv("NCIIHASH_KEY", "k")
    done = run("follow", "--once", "--server", "http://127.0.0.1:9", "--bank", bank, "--json")
    message = done.line["error"]["message"]
    assert done.code == 2
    assert f"No locks available: {bank}-lock. " in message
    assert "local disk" in message
    pytest.importorskip("pyarrow")
    out = tmp_path / "out"
    done = run("scan", photos, "--bank", bank, "--out", out, "--json")
    assert f"No locks available: {out}/lock. " in done.line["error"]["message"]


def test_a_bank_on_a_full_disk_names_its_file(run, local, tmp_path, monkeypatch):
    bank = tmp_path / "bank"
    secret = {"NCIIHASH_KEY": local.platform(), "NCIIHASH_SERVER": local.address}
    local.open(hash_file(_picture(tmp_path)))
    monkeypatch.setattr(os, "pwrite", full)
    done = run("follow", "--once", "--bank", bank, **secret)
    assert done.code == 2
    assert f"No space left on device: {bank}-journal. Free some space" in done.err


def _picture(folder):
    path = folder / "picture.png"
    scene(320, 240, seed=312).save(path)
    Image.open(path).verify()
    return path
