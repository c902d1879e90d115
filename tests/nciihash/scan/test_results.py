import json
import shutil

import pytest

from nciihash.bank import Bank
from nciihash.bank.frozen import freeze
from nciihash.errors import ResultsInvalid
from nciihash.feed import FeedPage
from nciihash.scan import executors
from nciihash.scan import results as findings
from nciihash.scan.plan import Kind, plan
from nciihash.scan.sources import Folder
from nciihash.scan.worker import BlockResult, Job
from nciihash.search.index import Index
from nciihash.signals import Signal, SignalType
from support.scans import ASKED, added, begin, results

pytest.importorskip("pyarrow")


class Broken(Exception):
    """What a test breaks a run off with."""


@pytest.mark.parametrize("end", [KeyboardInterrupt, Broken])
def test_a_run_that_was_broken_off_goes_on(run, hashes, bank, expected, tmp_path, monkeypatch, end):
    out, write, written = tmp_path / "out", findings.ScanFolder.write, []

    def some(self, done):
        if len(written) == 3:
            raise end
        written.append(done.number)
        write(self, done)

    arguments = (hashes, "--bank", bank, "--out", out, "--block", 64, "--jobs", 2)
    with monkeypatch.context() as patched:
        patched.setattr(findings.ScanFolder, "write", some)
        if end is Broken:
            with pytest.raises(Broken):
                run(*arguments)
        else:
            code, _, told = run(*arguments)
            assert code == 130
            assert "Run the same command again to continue" in told
    assert len(list((out / "matches").iterdir())) == 3
    assert (out / "bank").is_dir()
    # what a crash in the middle of a write leaves
    (out / "matches" / ".00000003.parquet.0123abcd.tmp").write_bytes(b"PAR1")
    seen = []

    def others(self, done):
        seen.append(done.number)
        write(self, done)

    monkeypatch.setattr(findings.ScanFolder, "write", others)
    code, _, told = run(*arguments)
    assert code == 0, told
    assert not set(seen) & set(written)
    assert results(out) == expected
    assert "were scanned before" in told
    assert not list((out / "matches").glob(".*"))
    assert run(*arguments)[0] == 0, "and once more, with nothing left to do"
    assert results(out) == expected


def test_a_damaged_result_is_made_again(run, hashes, bank, expected, tmp_path):
    out = tmp_path / "out"
    arguments = (hashes, "--bank", bank, "--out", out, "--block", 64)
    run(*arguments, "--no-sandbox")
    keep_bank(bank, out)
    (out / "matches" / "00000002.parquet").write_bytes(b"PAR1 and then nothing")
    assert run(*arguments, "--no-sandbox")[0] == 0
    assert results(out) == expected


def keep_bank(bank, out):
    """Put a finished scan back to where its bank is still there."""
    freeze(bank, out / "bank")


def test_another_bank_or_source_is_refused(run, hashes, bank, tmp_path, values):
    out, other = tmp_path / "out", tmp_path / "other"
    with Bank.open(other) as kept:
        kept.append(FeedPage((added(1, Signal(SignalType.PDQ, values[0])),), "c", more=False))
    copy = tmp_path / "copy"
    shutil.copytree(hashes, copy)
    arguments = (copy, "--bank", bank, "--out", out, "--block", 64)
    begin(arguments)

    def refused(*arguments):
        code, lines, _ = run(*arguments, "--json")
        error = json.loads(lines.splitlines()[-1])["error"]
        assert code == 1
        assert error["code"] == "results_invalid"
        return error["message"]

    assert "another bank" in refused(copy, "--bank", other, *arguments[3:])
    assert "a scan of" in refused(hashes, "--bank", bank, *arguments[3:])
    assert "before it changed" in refused(*arguments[:-1], 65)
    shutil.copy(copy / "a.parquet", copy / "z.parquet")
    assert "before it changed" in refused(*arguments)
    (copy / "z.parquet").unlink()
    shutil.rmtree(out / "bank")
    freeze(other, out / "bank")
    assert "another bank" in refused(*arguments)
    (out / "note.txt").touch()
    assert "something else" in refused(*arguments)
    (out / "note.txt").unlink()
    (out / "manifest.json").write_text("{}")
    assert "damaged" in refused(*arguments)


def test_two_scans_into_one_folder(run, hashes, bank, tmp_path):
    with findings.ScanFolder(tmp_path / "out"):
        code, _, told = run(hashes, "--bank", bank, "--out", tmp_path / "out")
    assert code == 1
    assert "Another process is scanning" in told


def test_a_copy_that_fails_leaves_nothing(hashes, bank, tmp_path, monkeypatch):
    def full(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Index, "save", full)
    with pytest.raises(KeyboardInterrupt):
        begin((hashes, "--bank", bank, "--out", tmp_path / "out", "--block", 64))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["lock"]


def test_results_that_come_twice_are_kept_once(hashes, bank, tmp_path):
    pin = freeze(bank, tmp_path / "still")
    job = Job(str(hashes), Kind.HASHES, str(tmp_path / "still"), pin.fingerprint, ())
    planned = plan(Folder(hashes), 64)
    with findings.ScanFolder(tmp_path / "out") as folder:
        folder.begin(str(hashes), planned, bank, {})
        outcomes = list(executors.local(job, planned.blocks, 2))
        assert all(isinstance(each, BlockResult) for each in outcomes)
        for each in (*outcomes, *outcomes):
            folder.write(each)
        assert folder.totals.scanned == ASKED
    with pytest.raises(ResultsInvalid), findings.ScanFolder(tmp_path):
        pass
