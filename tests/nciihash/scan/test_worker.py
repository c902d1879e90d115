"""The scanner of blocks: invalid rows, files that cannot be read, another bank."""

import json
import sys
from collections import Counter

import pytest

from nciihash.bank.frozen import fingerprint, freeze
from nciihash.errors import BankError
from nciihash.scan import worker
from nciihash.scan.plan import Kind, plan
from nciihash.scan.sources import Folder
from nciihash.scan.worker import Job, open_scanner
from support.scans import results

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def test_rows_and_files_without_a_valid_hash_are_reported(run, bank, values, tmp_path):
    folder, out = tmp_path / "hashes", tmp_path / "out"
    folder.mkdir()
    valid = values[1].hex()
    table = {
        "file": ["a", "b", "c", "d", "e", None, "g"],
        "type": ["pdq", "pdq", "pdq", "sha3", None, "pdq", "pdq"],
        "value": [valid.upper(), valid[:-1], "x" * 64, valid, valid, valid, None],
    }
    types = pa.schema([(key, pa.string()) for key in table])
    parquet.write_table(pa.table(table, types), folder / "rows.parquet")
    parquet.write_table(pa.table({"name": ["a"]}), folder / "other.parquet")
    (folder / "cut.parquet").write_bytes((folder / "rows.parquet").read_bytes()[:-9])
    code, lines, err = run(folder, "--bank", bank, "--out", out, "--json")
    assert code == 1
    assert [row[0] for row in results(out)] == ["a", None]
    last = json.loads(lines.splitlines()[-1])
    assert (last["scanned"], last["failed"], last["complete"]) == (2, 7, True)
    refused = [json.loads(line) for line in (out / "refused.jsonl").read_text().splitlines()]
    codes = Counter(refusal["code"] for refusal in refused)
    assert codes == {"bad_hash": 5, "no_hashes": 1, "corrupt_file": 1}
    assert "5 bad_hash" in err
    assert any(refusal["name"].startswith("row 3 of ") for refusal in refused)


def test_a_block_that_cannot_be_read_is_retried_by_the_next_run(
    run, hashes, bank, expected, tmp_path, monkeypatch
):
    out, open_file = tmp_path / "out", Folder.open
    failed = set()

    def flaky(self, name):
        if name.endswith("c.parquet") and sys._getframe(1).f_globals is vars(worker):
            failed.add(name)
            raise OSError(5, "Input/output error")
        return open_file(self, name)

    arguments = (hashes, "--bank", bank, "--out", out, "--block", 64)
    with monkeypatch.context() as patched:
        patched.setattr(Folder, "open", flaky)
        code, lines, err = run(*arguments, "--json")
    assert code == 1
    assert failed
    assert "not scanned" in err
    assert json.loads(lines.splitlines()[-1])["complete"] is False
    assert (out / "bank").is_dir()
    assert run(*arguments)[0] == 0
    assert results(out) == expected


def test_a_machine_with_another_bank_ends_the_scan(hashes, bank, tmp_path):
    freeze(bank, tmp_path / "frozen")
    job = Job(str(hashes), Kind.HASHES, str(tmp_path / "frozen"), "0" * 64, ())
    with pytest.raises(BankError, match="not the bank that this scan started with"):
        open_scanner(job)
    with pytest.raises(BankError, match="Every machine"):
        fingerprint(tmp_path / "none")


def test_a_stopped_scanner_ends_its_block(hashes, bank, tmp_path):
    state = freeze(bank, tmp_path / "frozen")
    job = Job(str(hashes), Kind.HASHES, str(tmp_path / "frozen"), state.fingerprint, ())
    stopped = open_scanner(job)
    stopped.stop()
    with pytest.raises(worker.ScanStopped):
        stopped.scan(plan(Folder(hashes)).blocks[0])
