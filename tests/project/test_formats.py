"""The formats of docs/formats.md, held to golden files that other implementations can read too."""

import json
import math
import re
import shutil
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clearinghouse.database.withdrawal_journal import WithdrawalJournal
from golden import formats
from nciihash import Index
from nciihash.bank.bank import Bank
from nciihash.gate.decisions import DecisionStore
from nciihash.gate.decisions.tables import KIND
from nciihash.sdk.verdict_queue import VerdictQueue
from nciihash.search.backend import kernel

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden/formats"
VECTORS = json.loads((GOLDEN / "vectors.json").read_text(encoding="utf-8"))

little_endian = pytest.mark.skipif(
    sys.byteorder != "little", reason="a mapped file is in the byte order of its writer"
)


@little_endian
@pytest.mark.parametrize("name", ["bank", "bank-journal", "index", "withdrawals", "vectors.json"])
def test_the_written_bytes_are_those_of_the_golden_file(name, tmp_path):
    formats.write(tmp_path)
    assert (tmp_path / name).read_bytes() == (GOLDEN / name).read_bytes()


def test_the_golden_journal_of_withdrawals_is_read(tmp_path):
    shutil.copy(GOLDEN / "withdrawals", tmp_path)
    journal = WithdrawalJournal(tmp_path / "withdrawals")
    assert list(journal.replay(100)) == [([1, 5], [2], [4])]
    assert journal.last_seq() == 2**32
    assert journal.is_replayed_in(2**40)


def test_a_journal_of_an_earlier_version_is_read(tmp_path):
    """It had no lines for expiries; a torn line is ignored."""
    path = tmp_path / "withdrawals"
    path.write_text("gone 3 1 .\ngone 7 2 .\nkey 4 .\nepoch 9 .\ngone 12")
    journal = WithdrawalJournal(path)
    assert list(journal.replay(100)) == [([1, 2], [], [4])]
    assert journal.last_seq() == 7
    assert journal.is_replayed_in(9)


@little_endian
def test_the_golden_bank_opens_as_the_pages_say(tmp_path):
    for name in ("bank", "bank-journal"):
        shutil.copy(GOLDEN / name, tmp_path)
    expected = {}
    for page in VECTORS["pages"]:
        for entry in page["entries"]:
            if entry["op"] == "add":
                expected[entry["id"]] = entry
            else:
                del expected[entry["id"]]
    with Bank.read(tmp_path / "bank") as bank:
        assert bank.cursor == VECTORS["pages"][-1]["cursor"]
        assert len(bank) == len(expected)
        for id, entry in expected.items():
            stored = bank.entry(id)
            assert (stored.item, stored.signal.type, stored.signal.hex) == (
                entry["item"], entry["type"], entry["value"],
            )  # fmt: skip
            assert (stored.quality, stored.media, stored.variant) == (
                entry["quality"], entry["media"], entry["variant"],
            )  # fmt: skip


@little_endian
def test_the_golden_index_finds_each_of_its_hashes():
    index = Index.open(GOLDEN / "index")
    index.verify()
    packed = np.array([list(bytes.fromhex(h)) for h in VECTORS["index"]["hashes"]], np.uint8)
    matches = index.query(packed, radius=0)
    assert matches.ids.tolist() == VECTORS["index"]["ids"]


def test_the_permutation_of_the_index_file_is_as_described():
    data = (GOLDEN / "index").read_bytes()
    columns, step = 16, 5
    for row, digits in enumerate(VECTORS["index"]["hashes"]):
        plain = int(digits, 16)
        stored = bytearray(32)
        for bit in range(256):
            i, column = divmod(bit, columns)
            if plain >> (255 - bit) & 1:
                [chunk] = [j for j in range(columns) if (step * i + j) % columns == column]
                stored[2 * chunk + i // 8] |= 1 << i % 8
        start = 192 + 64 + 32 * row  # after the header and the padded ids
        assert data[start : start + 32] == stored


@little_endian
@pytest.mark.skipif(kernel is None, reason="only the compiled kernel builds tables")
def test_the_tables_of_a_large_index_are_as_described(tmp_path):
    rows, random = 20_000, np.random.default_rng(7)
    index = Index(bits=256)
    index.add(np.arange(rows, dtype=np.uint64), random.integers(0, 256, (rows, 32), np.uint8))
    index.save(tmp_path / "index")
    data = (tmp_path / "index").read_bytes()
    bits, key_bits, count, tables, words = struct.unpack_from("<IIQII", data, 16)
    assert (bits, count, words) == (256, rows, 1)
    assert tables >= 1
    offset, arrays = 192, []
    for dtype, shape in (
        ("<u8", (count,)),
        ("<u2", (count, bits // 16)),  # chunks, the lower byte first
        ("<u4", (tables, (1 << key_bits) + 1)),
        ("<u4", (tables, count)),
        ("<u2", (tables * count + 64,)),
    ):
        array = np.frombuffer(data, dtype, math.prod(shape), offset).reshape(shape)
        arrays.append(array)
        offset += array.nbytes + -array.nbytes % 64
    assert offset == len(data)
    _, chunks, offsets, refs, signatures = arrays
    for table in range(tables):
        chunk = table * (bits // 16) // tables
        keys = chunks[:, chunk] >> (16 - key_bits)
        assert sorted(refs[table]) == list(range(count))
        starts = np.searchsorted(keys[refs[table]], np.arange((1 << key_bits) + 1))
        assert np.array_equal(offsets[table], starts)
        following = chunks[refs[table], (chunk + 1) % (bits // 16)]
        assert np.array_equal(signatures[table * count : (table + 1) * count], following)
    assert not signatures[tables * count :].any()


@little_endian
def test_the_reader_in_javascript_reads_them_too():
    node = pytest.importorskip("playwright._impl._driver").compute_driver_executable()[0]
    document = (ROOT / "docs/formats.md").read_text(encoding="utf-8")
    [program] = re.findall(r"```js\n(.*?)```", document, re.DOTALL)
    done = subprocess.run(
        [node, "--input-type=module", "-"],
        input=program, cwd=GOLDEN, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert (found["bits"], found["rows"]) == (256, len(VECTORS["index"]["ids"]))
    pages = VECTORS["pages"][1:]  # the first is in the snapshot
    assert [page["cursor"] for page in found["pages"]] == [page["cursor"] for page in pages]
    assert [page["entries"] for page in found["pages"]] == [len(p["entries"]) for p in pages]
    assert [page["more"] for page in found["pages"]] == [page["more"] for page in pages]


def test_the_databases_of_a_gate_are_as_described(tmp_path):
    document = (ROOT / "docs/formats.md").read_text(encoding="utf-8")
    section = document.partition("## A gate's files")[2].partition("\n## ")[0]
    described, table = {}, ""
    for row in re.findall(r"^\| (.*) \|$", section.partition("| table |")[2], re.MULTILINE):
        name, columns, *_ = row.split("|")
        if found := re.findall(r"`(\w+)`", name):
            [table] = found
        columns = columns.replace("the kind of decision", f"`{KIND.replace(', ', '` `')}`")
        described.setdefault(table, set()).update(re.findall(r"`(\w+)`", columns))
    DecisionStore(tmp_path / "decisions").close()
    VerdictQueue(tmp_path / "verdicts").close()
    with sqlite3.connect(tmp_path / "decisions") as database:
        tables = [name for (name,) in database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        )]  # fmt: skip
        stored = {
            name: {row[1] for row in database.execute(f"PRAGMA table_info({name})")}
            for name in tables
        }
    described.pop("", None)
    assert described == stored
    ids = re.findall(r"^\| `(\w+)` \| 0x(\w{8}), `\w{4}` \| 1 \|$", section, re.MULTILINE)
    assert [name for name, _ in ids] == ["decisions", "verdicts"]
    for name, digits in ids:
        data = (tmp_path / name).read_bytes()
        assert data[68:72].hex().upper() == digits
        assert int.from_bytes(data[60:64], "big") == 1
    for name in ("waiting", "sending"):
        with sqlite3.connect(tmp_path / "verdicts") as database:
            for row in database.execute(f"PRAGMA table_info({name})"):
                assert f"`{row[1]}`" in section
