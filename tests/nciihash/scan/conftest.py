"""A bank, hashes and photos to scan, and the command line."""

import hashlib
import io
import itertools
import sys

import numpy as np
import pytest

from nciihash.bank import Bank
from nciihash.cli import app
from nciihash.feed import FeedPage, Removed
from nciihash.hashing.hasher import hash_file
from nciihash.signals import Signal, SignalType, Variant
from support.pictures import encode, scene
from support.scans import BANKED, QUERIED, added, flipped, name


@pytest.fixture(scope="module")
def values():
    rng = np.random.default_rng(7)
    return [rng.bytes(32) for _ in range(BANKED)]


@pytest.fixture(scope="module")
def bank(tmp_path_factory, values):
    """Return the path of a bank with compacted entries, journal entries and removals."""
    path = tmp_path_factory.mktemp("bank") / "bank"
    variants = itertools.cycle([Variant.ORIGINAL, Variant.MIRROR, Variant.CROP10])
    entries = [
        added(number, Signal(SignalType.PDQ, value), next(variants))
        for number, value in enumerate(values)
    ]
    md5 = Signal(SignalType.MD5, hashlib.md5(b"video").digest())
    with Bank.open(path) as opened:
        opened.append(FeedPage(tuple(entries[:300]), "c1", more=True))
        opened.compact()
        opened.append(FeedPage((*entries[300:], added(9000, md5)), "c2", more=True))
        opened.append(FeedPage((Removed(name(5)), Removed(name(305))), "c3", more=True))
    with Bank.open(path) as opened:  # a page that is not compacted
        opened.append(FeedPage((added(9001, flipped(values[0], [3])),), "c4", more=False))
    return path


@pytest.fixture(scope="module")
def queries(values):
    """Return file names and signals: near, at and beyond the threshold, unrelated, other types."""
    rng = np.random.default_rng(8)
    rows = []
    for number in range(QUERIED):
        if number % 3 == 2:
            signal = Signal(SignalType.PDQ, rng.bytes(32))
        else:
            bits = rng.choice(256, rng.integers(0, 34), replace=False)
            signal = flipped(values[int(rng.integers(BANKED))], bits)
        rows.append((f"file {number // 2}", signal))
    rows[17] = ("video", Signal(SignalType.MD5, hashlib.md5(b"video").digest()))
    rows[18] = ("other", Signal(SignalType.PHASH, b"12345678"))
    return rows


@pytest.fixture(scope="module")
def hashes(tmp_path_factory, queries):
    """Return a folder of Parquet files with row groups of different lengths."""
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = tmp_path_factory.mktemp("hashes")
    (folder / "deep").mkdir()
    (folder / "_SUCCESS").touch()
    for path, (start, end, group) in {
        "a.parquet": (0, 250, 40),
        "deep/b.parquet": (250, 251, 10),
        "deep/c.parquet": (251, QUERIED, 70),
    }.items():
        part = queries[start:end]
        table = pa.table(
            {
                "file": [file for file, _ in part],
                "media": ["image"] * len(part),
                "type": [signal.type.value for _, signal in part],
                "value": [signal.hex for _, signal in part],
                "time": pa.array([None] * len(part), "float64"),
            }
        )
        parquet.write_table(table, folder / path, row_group_size=group)
    return folder


@pytest.fixture(scope="module")
def expected(bank, queries):
    """Return the matches that the bank itself finds, as rows of results."""
    with Bank.read(bank) as opened:
        answers = opened.query([signal for _, signal in queries])
    return [
        (file, m.id, m.item, m.type.value, m.variant.value, m.distance, m.band.value)
        for (file, _), matches in zip(queries, answers, strict=True)
        for m in matches
    ]


@pytest.fixture
def run(monkeypatch, capsys):
    """Return a function that runs `nciihash scan`; it returns exit status, output and errors."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["nciihash", "scan", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        capsys.readouterr()
        code: int | str = 0
        try:
            app.main()
        except SystemExit as end:
            code = end.code or 0
        return code, *capsys.readouterr()

    return call


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
    with Bank.open(path) as opened:
        opened.append(FeedPage(entries, "c", more=False))
    return path
