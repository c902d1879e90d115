"""The folder of a scan: continued after a crash, refused for another scan, written once."""

import json
import shutil

import pytest

from nciihash.bank import Bank
from nciihash.bank.frozen import freeze
from nciihash.errors import ResultsInvalid
from nciihash.feed import FeedPage
from nciihash.scan import executors
from nciihash.scan.plan import Kind, plan
from nciihash.scan.results import ScanFolder
from nciihash.scan.sources import Folder
from nciihash.scan.worker import BlockResult, Job
from nciihash.search.index import Index
from nciihash.signals import Signal, SignalType
from support.scans import QUERIED, added, begin, results

pytest.importorskip("pyarrow")


class Crash(Exception):
    """Ends a run in the middle."""


@pytest.mark.parametrize("end", [KeyboardInterrupt, Crash])
def test_an_interrupted_run_is_continued(run, hashes, bank, expected, tmp_path, monkeypatch, end):
    out, write, written = tmp_path / "out", ScanFolder.write, []

    def write_three(self, result):
        if len(written) == 3:
            raise end
        written.append(result.number)
        write(self, result)

    arguments = (hashes, "--bank", bank, "--out", out, "--block", 64, "--jobs", 2)
    with monkeypatch.context() as patched:
        patched.setattr(ScanFolder, "write", write_three)
        if end is Crash:
            with pytest.raises(Crash):
                run(*arguments)
        else:
            code, _, err = run(*arguments)
            assert code == 130
            assert "Run the same command again to continue" in err
    assert len(list((out / "matches").iterdir())) == 3
    assert (out / "bank").is_dir()
    # what a crash in the middle of a write would leave
    (out / "matches" / ".00000003.parquet.0123abcd.tmp").write_bytes(b"PAR1")
    written_later = []

    def write_others(self, result):
        written_later.append(result.number)
        write(self, result)

    monkeypatch.setattr(ScanFolder, "write", write_others)
    code, _, err = run(*arguments)
    assert code == 0, err
    assert not set(written_later) & set(written)
    assert results(out) == expected
    assert "were scanned before" in err
    assert not list((out / "matches").glob(".*"))
    assert run(*arguments)[0] == 0, "again, with nothing left to do"
    assert results(out) == expected


def test_a_block_with_a_damaged_result_is_scanned_again(run, hashes, bank, expected, tmp_path):
    out = tmp_path / "out"
    arguments = (hashes, "--bank", bank, "--out", out, "--block", 64)
    run(*arguments, "--no-sandbox")
    restore_bank(bank, out)
    (out / "matches" / "00000002.parquet").write_bytes(b"PAR1 and then nothing")
    assert run(*arguments, "--no-sandbox")[0] == 0
    assert results(out) == expected


def restore_bank(bank, out):
    """Restore the copy of the bank that a finished scan has deleted."""
    freeze(bank, out / "bank")


def test_another_bank_or_source_is_refused(run, hashes, bank, tmp_path, values):
    out, other = tmp_path / "out", tmp_path / "other"
    with Bank.open(other) as opened:
        opened.append(FeedPage((added(1, Signal(SignalType.PDQ, values[0])),), "c", more=False))
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
    with ScanFolder(tmp_path / "out"):
        code, _, err = run(hashes, "--bank", bank, "--out", tmp_path / "out")
    assert code == 1
    assert "Another process is scanning" in err


def test_a_copy_that_fails_leaves_nothing(hashes, bank, tmp_path, monkeypatch):
    def full(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Index, "save", full)
    with pytest.raises(KeyboardInterrupt):
        begin((hashes, "--bank", bank, "--out", tmp_path / "out", "--block", 64))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["lock"]


def test_a_block_that_is_scanned_twice_is_written_once(hashes, bank, tmp_path):
    state = freeze(bank, tmp_path / "frozen")
    job = Job(str(hashes), Kind.HASHES, str(tmp_path / "frozen"), state.fingerprint, ())
    planned = plan(Folder(hashes), 64)
    with ScanFolder(tmp_path / "out") as folder:
        folder.begin(str(hashes), planned, bank, {})
        outcomes = list(executors.local(job, planned.blocks, 2))
        assert all(isinstance(outcome, BlockResult) for outcome in outcomes)
        for outcome in (*outcomes, *outcomes):
            folder.write(outcome)
        assert folder.totals.scanned == QUERIED
    with pytest.raises(ResultsInvalid), ScanFolder(tmp_path):
        pass
