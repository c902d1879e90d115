"""A scan of what is stored: the same matches on every engine, none lost or doubled by a crash."""

import hashlib
import io
import itertools
import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from nciihash.bank import Bank
from nciihash.bank.frozen import Still, fingerprint, freeze
from nciihash.cli import app
from nciihash.errors import BankError, ExtraMissing, NotAFile, ResultsInvalid, SourceInvalid
from nciihash.feed import Added, FeedPage, Removed
from nciihash.hashing.hasher import hash_file
from nciihash.scan import executors, worker
from nciihash.scan import results as findings
from nciihash.scan.executors import Undone
from nciihash.scan.plan import Kind, Refused, plan
from nciihash.scan.sources import Folder, Objects, store
from nciihash.scan.worker import Done, Job, open_scanner
from nciihash.search.index import Index
from nciihash.signals import Media, Signal, SignalType, Variant
from support.pictures import encode, scene

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

BANKED, ASKED = 400, 600


def name(number):
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def added(number, signal, variant=Variant.ORIGINAL):
    return Added(name(number), name(number // 2 + 10**6), signal, 90, Media.IMAGE, variant)


def flipped(value, bits):
    row = np.unpackbits(np.frombuffer(value, np.uint8))
    row[bits] ^= 1
    return Signal(SignalType.PDQ, np.packbits(row).tobytes())


@pytest.fixture(scope="module")
def values():
    rng = np.random.default_rng(7)
    return [rng.bytes(32) for _ in range(BANKED)]


@pytest.fixture(scope="module")
def bank(tmp_path_factory, values):
    """Make a bank with a folded and an unfolded part, and with something removed."""
    path = tmp_path_factory.mktemp("bank") / "bank"
    variants = itertools.cycle([Variant.ORIGINAL, Variant.MIRROR, Variant.CROP10])
    entries = [
        added(number, Signal(SignalType.PDQ, value), next(variants))
        for number, value in enumerate(values)
    ]
    md5 = Signal(SignalType.MD5, hashlib.md5(b"film").digest())
    with Bank.open(path) as kept:
        kept.append(FeedPage(tuple(entries[:300]), "c1", more=True))
        kept.compact()
        kept.append(FeedPage((*entries[300:], added(9000, md5)), "c2", more=True))
        kept.append(FeedPage((Removed(name(5)), Removed(name(305))), "c3", more=True))
    with Bank.open(path) as kept:  # and a page that no fold has taken in
        kept.append(FeedPage((added(9001, flipped(values[0], [3])),), "c4", more=False))
    return path


@pytest.fixture(scope="module")
def asked(values):
    """Make queries: near, at the threshold and beyond it, strangers, other types."""
    rng = np.random.default_rng(8)
    rows = []
    for number in range(ASKED):
        if number % 3 == 2:
            signal = Signal(SignalType.PDQ, rng.bytes(32))
        else:
            bits = rng.choice(256, rng.integers(0, 34), replace=False)
            signal = flipped(values[int(rng.integers(BANKED))], bits)
        rows.append((f"file {number // 2}", signal))
    rows[17] = ("film", Signal(SignalType.MD5, hashlib.md5(b"film").digest()))
    rows[18] = ("other", Signal(SignalType.PHASH, b"12345678"))
    return rows


@pytest.fixture(scope="module")
def hashes(tmp_path_factory, asked):
    """Make a folder of Parquet files with row groups of different lengths."""
    folder = tmp_path_factory.mktemp("hashes")
    (folder / "deep").mkdir()
    (folder / "_SUCCESS").touch()
    for place, (start, end, group) in {
        "a.parquet": (0, 250, 40),
        "deep/b.parquet": (250, 251, 10),
        "deep/c.parquet": (251, ASKED, 70),
    }.items():
        some = asked[start:end]
        table = pa.table(
            {
                "file": [file for file, _ in some],
                "media": ["image"] * len(some),
                "type": [signal.type.value for _, signal in some],
                "value": [signal.hex for _, signal in some],
                "time": pa.array([None] * len(some), "float64"),
            }
        )
        parquet.write_table(table, folder / place, row_group_size=group)
    return folder


@pytest.fixture(scope="module")
def expected(bank, asked):
    """What the bank itself finds, a row at a time."""
    with Bank.read(bank) as kept:
        answers = kept.query([signal for _, signal in asked])
    return [
        (file, m.id, m.item, m.type.value, m.variant.value, m.distance, m.band.value)
        for (file, _), matches in zip(asked, answers, strict=True)
        for m in matches
    ]


def results(out):
    """Read all results, in the order of blocks, without where they stood."""
    tables = [parquet.read_table(path) for path in sorted((out / "matches").iterdir())]
    columns = ("file", "id", "item", "type", "variant", "distance", "band")
    return [tuple(row[c] for c in columns) for row in pa.concat_tables(tables).to_pylist()]


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["nciihash", "scan", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        capsys.readouterr()
        try:
            app.main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        return code, *capsys.readouterr()

    return call


def test_hashes_match_what_the_bank_matches(run, hashes, bank, expected, tmp_path):
    out = tmp_path / "out"
    code, _, told = run(hashes, "--bank", bank, "--out", out, "--block", 64, "--jobs", 2)
    assert code == 0, told
    assert results(out) == expected
    assert len(expected) > 300
    assert "600 hashes scanned" in told
    assert f"{len(expected):,} matches" in told
    assert not (out / "bank").exists(), "the copy of the bank is deleted when all is done"


def test_where_a_hash_stood_is_told(run, hashes, bank, asked, tmp_path):
    run(hashes, "--bank", bank, "--out", tmp_path / "out", "--block", 100)
    starts = {"a.parquet": 0, "b.parquet": 250, "c.parquet": 251}
    rows = parquet.read_table(tmp_path / "out" / "matches").to_pylist()
    for row in rows:
        place = starts[Path(row["source"]).name] + row["row"]
        assert asked[place][0] == row["file"]


def test_blocks_cover_everything_once(hashes):
    for per_block in (1, 50, 64, 10**6):
        planned = plan(Folder(hashes), per_block)
        assert planned.kind is Kind.HASHES
        assert (planned.files, planned.count) == (3, ASKED)
        assert [block.number for block in planned.blocks] == list(range(len(planned.blocks)))
        groups = Counter(
            (part.name, group)
            for block in planned.blocks
            for part in block.parts
            for group in range(part.first, part.last)
        )
        assert set(groups.values()) == {1}
        assert len(groups) == 7 + 1 + 5
    assert len(plan(Folder(hashes), 10**6).blocks) == 1
    assert plan(Folder(hashes), 50).fingerprint != plan(Folder(hashes), 64).fingerprint


class Broken(Exception):
    """What a test breaks a run off with."""


@pytest.mark.parametrize("end", [KeyboardInterrupt, Broken])
def test_a_run_that_was_broken_off_goes_on(run, hashes, bank, expected, tmp_path, monkeypatch, end):
    out, write, written = tmp_path / "out", findings.Findings.write, []

    def some(self, done):
        if len(written) == 3:
            raise end
        written.append(done.number)
        write(self, done)

    arguments = (hashes, "--bank", bank, "--out", out, "--block", 64, "--jobs", 2)
    with monkeypatch.context() as patched:
        patched.setattr(findings.Findings, "write", some)
        if end is Broken:
            with pytest.raises(Broken):
                run(*arguments)
        else:
            code, _, told = run(*arguments)
            assert code == 130
            assert "Run the same command again to go on" in told
    assert len(list((out / "matches").iterdir())) == 3
    assert (out / "bank").is_dir()
    # what a crash in the middle of a write leaves
    (out / "matches" / ".00000003.parquet.0123abcd.tmp").write_bytes(b"PAR1")
    seen = []

    def others(self, done):
        seen.append(done.number)
        write(self, done)

    monkeypatch.setattr(findings.Findings, "write", others)
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


def test_a_scan_goes_on_with_the_bank_of_its_start(run, hashes, bank, expected, tmp_path, values):
    """A follower adds and removes meanwhile; the copy is what is looked in."""
    live = tmp_path / "live"
    for path in bank.parent.glob("bank*"):
        shutil.copy(path, tmp_path / path.name.replace("bank", "live"))
    out = tmp_path / "out"
    arguments = (hashes, "--bank", live, "--out", out, "--block", 64)
    begin(arguments)
    with Bank.open(live) as kept:
        kept.append(FeedPage(tuple(Removed(name(n)) for n in range(100)), "c9", more=False))
    assert run(*arguments)[0] == 0
    assert results(out) == expected


def begin(arguments):
    """Do what a scan does up to its first block."""
    source, _, bank, _, out, _, block = arguments
    with findings.Findings(out) as folder:
        how = {"signals": [], "fast": False}
        folder.begin(str(source), plan(Folder(source), block), bank, how)


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
    with findings.Findings(tmp_path / "out"):
        code, _, told = run(hashes, "--bank", bank, "--out", tmp_path / "out")
    assert code == 1
    assert "Another process scans" in told


def test_an_index_file(run, hashes, asked, values, tmp_path):
    index = Index()
    ids = np.arange(1000, 1000 + BANKED, dtype=np.uint64)
    packed = np.frombuffer(b"".join(values), np.uint8).reshape(BANKED, 32)
    index.add(ids, packed)
    index.save(tmp_path / "index")
    assert run(hashes, "--bank", tmp_path / "index", "--out", tmp_path / "out")[0] == 0
    queries = np.frombuffer(
        b"".join(s.value for _, s in asked if s.type is SignalType.PDQ), np.uint8
    ).reshape(-1, 32)
    found = index.query(queries, 31)
    rows = results(tmp_path / "out")
    assert [int(row[1]) for row in rows] == found.ids.tolist()
    assert [row[5] for row in rows] == found.distances.tolist()
    assert {(row[2], row[4]) for row in rows} == {(None, None)}
    other = Index(64)
    other.save(tmp_path / "other")
    code, _, told = run(hashes, "--bank", tmp_path / "other", "--out", tmp_path / "out2")
    assert code == 2
    assert "64 bits" in told


def test_rows_and_files_that_hold_no_hash_are_told(run, bank, values, tmp_path):
    folder, out = tmp_path / "hashes", tmp_path / "out"
    folder.mkdir()
    good = values[1].hex()
    table = {
        "file": ["a", "b", "c", "d", "e", None, "g"],
        "type": ["pdq", "pdq", "pdq", "sha3", None, "pdq", "pdq"],
        "value": [good.upper(), good[:-1], "x" * 64, good, good, good, None],
    }
    types = pa.schema([(key, pa.string()) for key in table])
    parquet.write_table(pa.table(table, types), folder / "rows.parquet")
    parquet.write_table(pa.table({"name": ["a"]}), folder / "other.parquet")
    (folder / "cut.parquet").write_bytes((folder / "rows.parquet").read_bytes()[:-9])
    code, lines, told = run(folder, "--bank", bank, "--out", out, "--json")
    assert code == 1
    assert [row[0] for row in results(out)] == ["a", None]
    last = json.loads(lines.splitlines()[-1])
    assert (last["scanned"], last["failed"], last["complete"]) == (2, 7, True)
    refused = [json.loads(line) for line in (out / "refused.jsonl").read_text().splitlines()]
    codes = Counter(each["code"] for each in refused)
    assert codes == {"bad_hash": 5, "no_hashes": 1, "corrupt_file": 1}
    assert "5 bad_hash" in told
    assert any(each["name"].startswith("row 3 of ") for each in refused)


def test_a_block_that_cannot_be_read_is_tried_again(
    run, hashes, bank, expected, tmp_path, monkeypatch
):
    out, opened = tmp_path / "out", Folder.opened
    failing = set()

    def flaky(self, name):
        if name.endswith("c.parquet") and "scanner" in sys._getframe(1).f_code.co_filename:
            failing.add(name)
            raise OSError(5, "Input/output error")
        return opened(self, name)

    arguments = (hashes, "--bank", bank, "--out", out, "--block", 64)
    with monkeypatch.context() as patched:
        patched.setattr(Folder, "opened", flaky)
        code, lines, told = run(*arguments, "--json")
    assert code == 1
    assert failing
    assert "not done" in told
    assert json.loads(lines.splitlines()[-1])["complete"] is False
    assert (out / "bank").is_dir()
    assert run(*arguments)[0] == 0
    assert results(out) == expected


def test_a_file_that_changed_after_it_was_listed(hashes, bank, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(hashes, copy)
    planned = plan(Folder(copy))
    still = freeze(bank, tmp_path / "still")
    job = Job(str(copy), Kind.HASHES, str(tmp_path / "still"), still.fingerprint, ())
    shutil.copy(copy / "deep" / "b.parquet", copy / "a.parquet")
    (outcome,) = executors.local(job, planned.blocks, 1)
    assert isinstance(outcome, Undone)


def test_a_machine_with_another_bank_ends_the_scan(hashes, bank, tmp_path):
    freeze(bank, tmp_path / "still")
    job = Job(str(hashes), Kind.HASHES, str(tmp_path / "still"), "0" * 64, ())
    with pytest.raises(BankError, match="another bank here"):
        open_scanner(job)
    with pytest.raises(BankError, match="Every machine"):
        fingerprint(tmp_path / "none")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(5):
        (folder / f"{number}.jpg").write_bytes(encode(scene(96, 72, seed=number), "JPEG"))
    (folder / "sub").mkdir()
    (folder / "sub" / "copy.png").write_bytes(encode(scene(96, 72, seed=1), "PNG"))
    (folder / "cut.jpg").write_bytes(encode(scene(96, 72, seed=2), "JPEG")[:300])
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def picture_bank(tmp_path_factory, photos):
    path = tmp_path_factory.mktemp("picture-bank") / "bank"
    signals = [hash_file(photos / f"{n}.jpg").hashes[0].signal for n in (1, 3)]
    entries = tuple(added(number, signal) for number, signal in enumerate(signals))
    with Bank.open(path) as kept:
        kept.append(FeedPage(entries, "c", more=False))
    return path


def test_a_machine_that_does_not_see_the_source_is_not_believed(photos):
    def done(name, code):
        refused = (Refused(str(name), code, "It is not there."),)
        return Done(7, 2, 0, Counter({code: 1}), refused, 0.1, None)

    where = Folder(photos)
    for code in ("not_a_file", "unreadable"):
        outcome = executors.believed(done(photos / "1.jpg", code), where)
        assert isinstance(outcome, Undone)
        assert outcome.number == 7
    gone, cut = done(photos / "gone.jpg", "not_a_file"), done(photos / "cut.jpg", "corrupt_file")
    assert executors.believed(gone, where) is gone
    assert executors.believed(cut, where) is cut


def test_a_copy_that_fails_leaves_nothing(hashes, bank, tmp_path, monkeypatch):
    def full(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Index, "save", full)
    with pytest.raises(KeyboardInterrupt):
        begin((hashes, "--bank", bank, "--out", tmp_path / "out", "--block", 64))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["lock"]


def test_photos_and_object_stores(run, photos, picture_bank, tmp_path):
    out = tmp_path / "out"
    code, _, told = run(photos, "--bank", picture_bank, "--out", out, "--block", 3, "--jobs", 2)
    assert code == 1, told
    rows = [(Path(row[0]).name, row[1]) for row in results(out)]
    assert rows == [("1.jpg", name(0)), ("3.jpg", name(1)), ("copy.png", name(0))]
    assert "6 files scanned" in told
    assert "1 corrupt_file" in told
    assert "1 are neither pictures nor videos" in told

    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.put(str(photos), "/photos", recursive=True)
    again = tmp_path / "again"
    code, _, told = run(
        "memory://photos", "--bank", picture_bank, "--out", again, "--no-sandbox", "--jobs", 2
    )
    assert code == 1, told
    assert [(Path(row[0]).name, row[1]) for row in results(again)] == rows
    objects = store("memory://photos")
    with pytest.raises(NotAFile), objects.at_hand("/photos/none.jpg"):
        pass
    memory.rm("/photos", recursive=True)


def test_hashes_in_an_object_store(run, hashes, bank, expected, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.put(str(hashes), "/hashes", recursive=True)
    code, _, told = run("memory://hashes", "--bank", bank, "--out", tmp_path / "out")
    assert code == 0, told
    assert results(tmp_path / "out") == expected
    memory.rm("/hashes", recursive=True)


def test_sources_that_cannot_be(run, hashes, bank, tmp_path, monkeypatch):
    with pytest.raises(SourceInvalid, match="nothing at"):
        plan(Folder(tmp_path / "none"))
    mixed = tmp_path / "mixed"
    shutil.copytree(hashes, mixed)
    (mixed / "photo.jpg").touch()
    with pytest.raises(SourceInvalid, match="3 Parquet files beside 1 others"):
        plan(Folder(mixed))
    pytest.importorskip("fsspec")
    with pytest.raises(SourceInvalid, match="cannot be opened"):
        store("nonsense://x")
    with pytest.raises(SourceInvalid, match="nothing behind"):
        plan(store("memory://never"))
    monkeypatch.setattr("nciihash.scan.sources.find_spec", lambda _: None)
    with pytest.raises(ExtraMissing, match=r"nciihash\[stores\]"):
        Objects("s3://bucket")
    (tmp_path / "bank-veil").write_text("no veil")
    for path in bank.parent.glob("bank*"):
        shutil.copy(path, tmp_path)
    code, _, told = run(hashes, "--bank", tmp_path / "bank", "--out", tmp_path / "out")
    assert code == 2
    assert "damaged" in told


def test_without_ray_the_way_out_is_named(run, hashes, bank, tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "find_spec", lambda _: None)
    code, lines, _ = run(
        hashes, "--bank", bank, "--out", tmp_path / "out", "--engine", "ray", "--json"
    )
    error = json.loads(lines.splitlines()[-1])["error"]
    assert code == 1
    assert error["code"] == "extra_missing"
    assert "nciihash[ray]" in error["message"]


def test_a_still_bank_answers_as_the_bank(bank, asked, tmp_path):
    freeze(bank, tmp_path / "still")
    signals = [signal for _, signal in asked]
    still = Still.open(tmp_path / "still")
    with Bank.read(bank) as kept:
        assert still.query(signals) == kept.query(signals)
        assert len(still) == len(kept)
    assert fingerprint(tmp_path / "still") == freeze(bank, tmp_path / "again").fingerprint


def test_a_stopped_scanner_breaks_its_block_off(hashes, bank, tmp_path):
    pin = freeze(bank, tmp_path / "still")
    job = Job(str(hashes), Kind.HASHES, str(tmp_path / "still"), pin.fingerprint, ())
    stopped = open_scanner(job)
    stopped.stop()
    with pytest.raises(worker.Stopped):
        stopped.scan(plan(Folder(hashes)).blocks[0])


def test_results_that_come_twice_are_kept_once(hashes, bank, tmp_path):
    pin = freeze(bank, tmp_path / "still")
    job = Job(str(hashes), Kind.HASHES, str(tmp_path / "still"), pin.fingerprint, ())
    planned = plan(Folder(hashes), 64)
    with findings.Findings(tmp_path / "out") as folder:
        folder.begin(str(hashes), planned, bank, {})
        outcomes = list(executors.local(job, planned.blocks, 2))
        assert all(isinstance(each, Done) for each in outcomes)
        for each in (*outcomes, *outcomes):
            folder.write(each)
        assert folder.totals.scanned == ASKED
    with pytest.raises(ResultsInvalid), findings.Findings(tmp_path):
        pass


@pytest.fixture(scope="module")
def cluster():
    """Start a small Ray cluster, where Ray is installed."""
    ray = pytest.importorskip("ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        address="local",  # not one that happens to run here
        num_cpus=2,
        object_store_memory=100 << 20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()


@pytest.mark.filterwarnings("ignore")  # what Ray's own modules do
def test_ray_finds_the_same(cluster, run, hashes, bank, expected, tmp_path):
    out = tmp_path / "out"
    code, _, told = run(hashes, "--bank", bank, "--out", out, "--block", 64, "--engine", "ray")
    assert code == 0, told
    assert results(out) == expected
