"""Scans end to end: the matches of the bank, and refusals of damaged banks and index files."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from nciihash.bank import Bank
from nciihash.bank.frozen import FrozenBank, fingerprint, freeze, index_file_version
from nciihash.errors import IndexFileInvalid
from nciihash.feed import FeedPage, Removed
from nciihash.scan.plan import Kind
from nciihash.scan.worker import Job, open_scanner
from nciihash.search.index import Index
from nciihash.signals import SignalType
from support.scans import BANKED, begin, name, results

parquet = pytest.importorskip("pyarrow.parquet")


def test_hashes_match_what_the_bank_matches(run, hashes, bank, expected, tmp_path):
    out = tmp_path / "out"
    code, _, err = run(hashes, "--bank", bank, "--out", out, "--block", 64, "--jobs", 2)
    assert code == 0, err
    assert results(out) == expected
    assert len(expected) > 300
    assert "600 hashes scanned" in err
    assert f"{len(expected):,} matches" in err
    assert not (out / "bank").exists(), "the copy of the bank is deleted when all is done"


def test_results_name_the_row_of_each_hash(run, hashes, bank, queries, tmp_path):
    run(hashes, "--bank", bank, "--out", tmp_path / "out", "--block", 100)
    starts = {"a.parquet": 0, "b.parquet": 250, "c.parquet": 251}
    rows = parquet.read_table(tmp_path / "out" / "matches").to_pylist()
    for row in rows:
        index = starts[Path(row["source"]).name] + row["row"]
        assert queries[index][0] == row["file"]


def test_a_continued_scan_uses_the_bank_of_its_start(run, hashes, bank, expected, tmp_path, values):
    """A follower changes the bank meanwhile; the scan matches against its copy."""
    live = tmp_path / "live"
    for path in bank.parent.glob("bank*"):
        shutil.copy(path, tmp_path / path.name.replace("bank", "live"))
    out = tmp_path / "out"
    arguments = (hashes, "--bank", live, "--out", out, "--block", 64)
    begin(arguments)
    with Bank.open(live) as opened:
        opened.append(FeedPage(tuple(Removed(name(n)) for n in range(100)), "c9", more=False))
    assert run(*arguments)[0] == 0
    assert results(out) == expected


@pytest.fixture(scope="module")
def index_bytes(values, tmp_path_factory):
    """Return the bytes of a small index file with tables."""
    path = tmp_path_factory.mktemp("index") / "index"
    index = Index()
    packed = np.frombuffer(b"".join(values), np.uint8).reshape(BANKED, 32)
    index.add(np.arange(BANKED, dtype=np.uint64), packed)
    index.settle()
    index.save(path)
    return path.read_bytes()


def damaged(data, rng):
    """Return the data with a random bit or byte changed, or with some bytes zeroed."""
    changed = bytearray(data)
    while changed == data:
        offset = int(rng.integers(len(changed)))
        match rng.integers(3):
            case 0:
                changed[offset] ^= 1 << int(rng.integers(8))
            case 1:
                changed[offset] = int(rng.integers(256))
            case 2:
                changed[offset : offset + 64] = bytes(len(changed[offset : offset + 64]))
    return bytes(changed)


def test_every_damage_to_an_index_file_is_detected(index_bytes, tmp_path):
    rng = np.random.default_rng(3)
    path = tmp_path / "index"
    for _ in range(400):
        path.write_bytes(damaged(index_bytes, rng))
        with pytest.raises(IndexFileInvalid):
            index_file_version(path)


def test_a_scan_refuses_a_damaged_index_before_it_writes_anything(
    run, hashes, index_bytes, tmp_path
):
    path, out = tmp_path / "index", tmp_path / "out"
    path.write_bytes(index_bytes[:-3] + b"\1" + index_bytes[-2:])
    code, _, err = run(hashes, "--bank", path, "--out", out)
    assert code == 1
    assert "damaged" in err
    path.write_bytes(index_bytes)
    assert run(hashes, "--bank", path, "--out", out)[0] == 0


@pytest.mark.parametrize("name", ["names", "pdq.index"])
def test_a_copy_of_the_bank_that_was_damaged_meanwhile_is_refused(
    run, hashes, bank, tmp_path, name
):
    out = tmp_path / "out"
    arguments = (hashes, "--bank", bank, "--out", out, "--block", 64)
    begin(arguments)
    file = out / "bank" / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)
    code, _, err = run(*arguments)
    assert code != 0
    assert "damaged" in err
    assert not list((out / "matches").iterdir())


def test_each_process_of_a_cluster_verifies_its_bank(index_bytes, hashes, tmp_path):
    path = tmp_path / "index"
    path.write_bytes(index_bytes)
    job = Job(str(hashes), Kind.HASHES, str(path), fingerprint(path), ())
    open_scanner(job).close()
    path.write_bytes(index_bytes[:-3] + b"\1" + index_bytes[-2:])
    with pytest.raises(IndexFileInvalid):
        open_scanner(job)


def test_an_index_file(run, hashes, queries, values, tmp_path):
    index = Index()
    ids = np.arange(1000, 1000 + BANKED, dtype=np.uint64)
    packed = np.frombuffer(b"".join(values), np.uint8).reshape(BANKED, 32)
    index.add(ids, packed)
    index.save(tmp_path / "index")
    assert run(hashes, "--bank", tmp_path / "index", "--out", tmp_path / "out")[0] == 0
    query_values = np.frombuffer(
        b"".join(s.value for _, s in queries if s.type is SignalType.PDQ), np.uint8
    ).reshape(-1, 32)
    found = index.query(query_values, 31)
    rows = results(tmp_path / "out")
    assert [int(row[1]) for row in rows] == found.ids.tolist()
    assert [row[5] for row in rows] == found.distances.tolist()
    assert {(row[2], row[4]) for row in rows} == {(None, None)}
    other = Index(64)
    other.save(tmp_path / "other")
    code, _, err = run(hashes, "--bank", tmp_path / "other", "--out", tmp_path / "out2")
    assert code == 2
    assert "64 bits" in err


def test_a_frozen_bank_matches_as_the_bank(bank, queries, tmp_path):
    freeze(bank, tmp_path / "frozen")
    signals = [signal for _, signal in queries]
    frozen = FrozenBank.open(tmp_path / "frozen")
    with Bank.read(bank) as opened:
        assert frozen.query(signals) == opened.query(signals)
        assert len(frozen) == len(opened)
    assert fingerprint(tmp_path / "frozen") == freeze(bank, tmp_path / "again").fingerprint
