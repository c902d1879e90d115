"""Sources of a scan: folders and object stores."""

import shutil
from pathlib import Path

import pytest

from nciihash.errors import ExtraMissing, NotAFile, SourceInvalid
from nciihash.scan.plan import plan
from nciihash.scan.sources import Folder, Objects, open_source
from support.scans import name, results

pytest.importorskip("pyarrow")


def test_photos_and_object_stores(run, photos, picture_bank, tmp_path):
    out = tmp_path / "out"
    code, _, err = run(photos, "--bank", picture_bank, "--out", out, "--block", 3, "--jobs", 2)
    assert code == 1, err
    rows = [(Path(row[0]).name, row[1]) for row in results(out)]
    assert rows == [("1.jpg", name(0)), ("3.jpg", name(1)), ("copy.png", name(0))]
    assert "6 files scanned" in err
    assert "1 corrupt_file" in err
    assert "1 are neither pictures nor videos" in err

    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.put(str(photos), "/photos", recursive=True)
    again = tmp_path / "again"
    code, _, err = run(
        "memory://photos", "--bank", picture_bank, "--out", again, "--no-sandbox", "--jobs", 2
    )
    assert code == 1, err
    assert [(Path(row[0]).name, row[1]) for row in results(again)] == rows
    objects = open_source("memory://photos")
    with pytest.raises(NotAFile), objects.local_copy("/photos/none.jpg"):
        pass
    memory.rm("/photos", recursive=True)


def test_hashes_in_an_object_store(run, hashes, bank, expected, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.put(str(hashes), "/hashes", recursive=True)
    code, _, err = run("memory://hashes", "--bank", bank, "--out", tmp_path / "out")
    assert code == 0, err
    assert results(tmp_path / "out") == expected
    memory.rm("/hashes", recursive=True)


def test_sources_that_cannot_be_scanned(run, hashes, bank, tmp_path, monkeypatch):
    with pytest.raises(SourceInvalid, match="nothing at"):
        plan(Folder(tmp_path / "none"))
    mixed = tmp_path / "mixed"
    shutil.copytree(hashes, mixed)
    (mixed / "photo.jpg").touch()
    with pytest.raises(SourceInvalid, match="3 Parquet files and 1 others"):
        plan(Folder(mixed))
    pytest.importorskip("fsspec")
    with pytest.raises(SourceInvalid, match="cannot be opened"):
        open_source("nonsense://x")
    with pytest.raises(SourceInvalid, match="nothing at this URL"):
        plan(open_source("memory://never"))
    monkeypatch.setattr("nciihash.scan.sources.find_spec", lambda _: None)
    with pytest.raises(ExtraMissing, match=r"nciihash\[stores\]"):
        Objects("s3://bucket")
    (tmp_path / "bank-veil").write_text("no veil")
    for path in bank.parent.glob("bank*"):
        shutil.copy(path, tmp_path)
    code, _, err = run(hashes, "--bank", tmp_path / "bank", "--out", tmp_path / "out")
    assert code == 2
    assert "damaged" in err
