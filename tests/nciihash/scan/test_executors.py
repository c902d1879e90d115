"""Executors of a scan: threads of this process, and a Ray cluster."""

import json
import os
import shutil
from collections import Counter

import pytest

from nciihash.bank.frozen import freeze
from nciihash.scan import executors
from nciihash.scan.executors import BlockFailure
from nciihash.scan.plan import FileRefusal, Kind, plan
from nciihash.scan.sources import Folder
from nciihash.scan.worker import BlockResult, Job
from support.scans import results

pytest.importorskip("pyarrow")


def test_a_file_that_changed_after_it_was_listed(hashes, bank, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(hashes, copy)
    planned = plan(Folder(copy))
    state = freeze(bank, tmp_path / "frozen")
    job = Job(str(copy), Kind.HASHES, str(tmp_path / "frozen"), state.fingerprint, ())
    shutil.copy(copy / "deep" / "b.parquet", copy / "a.parquet")
    (outcome,) = executors.local(job, planned.blocks, 1)
    assert isinstance(outcome, BlockFailure)


def test_a_block_fails_if_its_machine_cannot_access_the_source(photos):
    def result(name, code):
        refused = (FileRefusal(str(name), code, "It is not there."),)
        return BlockResult(7, 2, 0, Counter({code: 1}), refused, 0.1, None)

    source = Folder(photos)
    for code in ("not_a_file", "unreadable"):
        outcome = executors.check_visibility(result(photos / "1.jpg", code), source)
        assert isinstance(outcome, BlockFailure)
        assert outcome.number == 7
    gone = result(photos / "gone.jpg", "not_a_file")
    cut = result(photos / "cut.jpg", "corrupt_file")
    assert executors.check_visibility(gone, source) is gone
    assert executors.check_visibility(cut, source) is cut


def test_without_ray_the_message_says_what_to_install(run, hashes, bank, tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "find_spec", lambda _: None)
    code, lines, _ = run(
        hashes, "--bank", bank, "--out", tmp_path / "out", "--engine", "ray", "--json"
    )
    error = json.loads(lines.splitlines()[-1])["error"]
    assert code == 1
    assert error["code"] == "extra_missing"
    assert "nciihash[ray]" in error["message"]


@pytest.fixture(scope="module")
def cluster():
    """Start a small Ray cluster if Ray is installed."""
    ray = pytest.importorskip("ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        address="local",  # a new one, even if one runs here
        num_cpus=2,
        object_store_memory=100 << 20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()


@pytest.mark.filterwarnings("ignore")  # warnings from Ray's own modules
def test_a_scan_on_ray_has_the_same_results(cluster, run, hashes, bank, expected, tmp_path):
    out = tmp_path / "out"
    code, _, err = run(hashes, "--bank", bank, "--out", out, "--block", 64, "--engine", "ray")
    assert code == 0, err
    assert results(out) == expected
