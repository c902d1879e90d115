"""Files of results: continued after interruptions and crashes, never overwriting other files."""

import contextlib
import json
import subprocess
import sys

import pytest

from nciihash.cli import results_file
from nciihash.cli.results_file import ResultsFile
from nciihash.cli.summary import HASHES, MATCHES
from nciihash.errors import ExtraMissing, ResultsInvalid

parquet = pytest.importorskip("pyarrow.parquet")


def line(name, *values):
    """Return the line of a picture with these hashes, each given as one digit."""
    return {
        "file": name,
        "media": "image",
        "hashes": [
            {"type": "pdq", "value": v * 64, "quality": 90, "variant": "original"} for v in values
        ],
    }


def names(path):
    """Return the files that are named in a file of results."""
    if path.suffix == ".parquet":
        return parquet.read_table(path).column("file").to_pylist()
    return [json.loads(text)["file"] for text in path.read_text().splitlines()]


def interrupted(path, *lines):
    """Write lines in a run that Ctrl-C interrupts."""
    with contextlib.suppress(KeyboardInterrupt), ResultsFile(path, HASHES) as results:
        for each_line in lines:
            results.add(each_line)
        raise KeyboardInterrupt
    return results


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_second_run_continues_where_the_first_was_interrupted(tmp_path, ending):
    path = tmp_path / f"out.{ending}"
    first = interrupted(path, line("a", "1"), line("b", "2"))
    assert path.exists() == (ending == "jsonl")
    assert names(first.lines_path) == ["a", "b"]
    with ResultsFile(path, HASHES) as second:
        assert second.done == {"a", "b"}
        second.add(line("c", "3"))
    assert names(path) == ["a", "b", "c"]
    with ResultsFile(path, HASHES) as third:
        assert third.done == {"a", "b", "c"}
        third.add(line("d", "4"))
    assert names(path) == ["a", "b", "c", "d"]
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "torn", [b'{"file": "c", "has', b'{"file": "c"}', b'{"f', b'{"file": "\0\0']
)
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_torn_line_is_truncated(tmp_path, torn, ending):
    path = tmp_path / f"out.{ending}"
    first = interrupted(path, line("a", "1"))
    with first.lines_path.open("ab") as file:
        file.write(torn)
    with ResultsFile(path, HASHES) as second:
        assert second.done == {"a"}
        second.add(line("b", "2"))
    assert names(path) == ["a", "b"]


def test_a_table_has_a_row_for_each_hash(tmp_path):
    path = tmp_path / "out.parquet"
    video = line("video", "1", "2") | {"media": "video", "every": 0.25}
    video["hashes"][1]["time"] = 0.5
    video["hashes"].append(
        {"type": "md5", "value": "3" * 32, "quality": None, "variant": "original"}
    )
    with ResultsFile(path, HASHES) as results:
        results.add(video)
        results.add(line("photo", "4"))
    rows = parquet.read_table(path).to_pylist()
    assert [(r["file"], r["media"], r["quality"], r["time"]) for r in rows] == [
        ("video", "video", 90, None),
        ("video", "video", 90, 0.5),
        ("video", "video", None, None),
        ("photo", "image", 90, None),
    ]
    assert rows[2]["type"] == "md5"


def test_a_table_of_matches(tmp_path):
    path = tmp_path / "out.parquet"
    match = {"id": "a" * 32, "item": "b" * 32, "type": "pdq", "band": "strong"}
    with ResultsFile(path, MATCHES) as results:
        results.add({"file": "near", "matches": [match | {"variant": "mirror", "distance": 3}]})
        results.add({"file": "remote", "matches": [match], "items": []})
        results.add({"file": "none", "matches": []})
    rows = parquet.read_table(path).to_pylist()
    assert [(r["file"], r["distance"]) for r in rows] == [("near", 3), ("remote", None)]


def test_the_lines_remain_if_the_table_cannot_be_written(tmp_path, monkeypatch):
    path = tmp_path / "out.parquet"
    with ResultsFile(path, HASHES) as results:
        results.add(line("a", "1"))
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("pyarrow.parquet.ParquetWriter.write_table", full)
        with pytest.raises(OSError, match="space"), ResultsFile(path, HASHES) as again:
            again.add(line("b", "2"))
    assert path.read_bytes() == before
    with ResultsFile(path, HASHES) as third:
        assert third.done == {"a", "b"}
    assert names(path) == ["a", "b"]


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
@pytest.mark.parametrize("text", [b"a diary\n", b"a diary", b'{"name": 1}\n', b'{"name'])
def test_other_files_are_refused_and_unchanged(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text)
    with pytest.raises(ResultsInvalid, match="holds something else"):
        ResultsFile(path, HASHES)
    assert path.read_bytes() == text


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.jsonl or \.parquet"):
        ResultsFile(tmp_path / "out.csv", HASHES)


def test_without_pyarrow_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(results_file, "find_spec", lambda _: None)
    with pytest.raises(ExtraMissing, match=r"pip install \"nciihash\[parquet\]\""):
        ResultsFile(tmp_path / "out.parquet", HASHES)
    with ResultsFile(tmp_path / "out.jsonl", HASHES) as results:
        results.add(line("a", "1"))


KILLED = """
import os, signal, sys
from pathlib import Path
from nciihash.cli.results_file import ResultsFile
from nciihash.cli.summary import HASHES
results = ResultsFile(Path(sys.argv[1]), HASHES).__enter__()
for number in range(1000):
    results.add({"file": str(number), "media": "image", "hashes": []})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_9_loses_at_most_the_last_lines(tmp_path):
    path = tmp_path / "out.jsonl"
    subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    with ResultsFile(path, HASHES) as results:
        assert 900 <= len(results.done) <= 1000
        assert results.done == {str(n) for n in range(len(results.done))}
