"""The examples, run as their own words say."""

import contextlib
import io
import os
import re
import runpy
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest
from PIL import Image
from starlette.testclient import TestClient

from nciihash import Verdict
from nciihash.cli import app
from nciihash.hashing.hasher import hash_file
from nciihash.sdk.verdict_queue import VerdictQueue
from nciihash.wire import CaseState
from support.paths import ROOT
from support.pictures import scene

EXAMPLES = ROOT / "examples"


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    scene(300, 200, seed=41).save(folder / "a.jpg", quality=95)
    scene(300, 200, seed=41).save(folder / "copy.jpg", quality=60)
    scene(300, 200, seed=42).save(folder / "other.jpg")
    return folder


@pytest.fixture(autouse=True)
def _sandboxes(monkeypatch, kept_sandboxes):
    """Let the examples that run in this process use one child, which takes a second to start."""
    monkeypatch.setattr("nciihash.sandbox.Sandbox", kept_sandboxes)


@pytest.fixture
def run(monkeypatch, capsys):
    """Return a function that runs an example as a script in this process; it gives the lines."""

    def call(name, *arguments, **environment):
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        capsys.readouterr()
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        said = capsys.readouterr()
        assert said.err == ""
        return said.out.splitlines()

    return call


def test_hash_folder(pictures):
    Image.new("RGB", (100, 100)).save(pictures / "plain.png")
    (pictures / "text.jpg").write_text("no picture")
    done = subprocess.run(
        [sys.executable, EXAMPLES / "hash_folder.py", pictures],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    (hashed,) = hash_file(pictures / "a.jpg").hashes
    assert lines[0] == f"a.jpg: {hashed.signal.hex} quality {hashed.quality}"
    assert [line.partition(":")[0] for line in lines] == [
        *("a.jpg", "copy.jpg", "other.jpg", "plain.png", "text.jpg"),
    ]
    assert lines[3].endswith("(too plain to submit)")
    assert len(lines[4]) > 20


def test_submit_and_withdraw(run, local, key, pictures):
    lines = run("submit_and_withdraw.py", local.address, pictures / "a.jpg", pictures / "other.jpg")
    assert re.fullmatch(r"Case (\w{4}-){2}\w{4}: 2 files, open until \d{4}-\d\d-\d\d", lines[0])
    assert lines[1].startswith("File 1 is matched; taking part: Platform ")
    assert lines[3] == f"2 files withdrawn, 0 left: the case is {CaseState.WITHDRAWN}"


def test_platforms_examples(run, local, pictures, tmp_path):
    key = local.platform()
    case = local.open(hash_file(pictures / "a.jpg"))
    uploads = [pictures / "copy.jpg", pictures / "other.jpg"]

    lines = run("follow_and_match.py", local.address, tmp_path / "bank", *uploads, NCIIHASH_KEY=key)
    assert lines[0] == "1 signals in the bank"
    found = re.fullmatch(rf"{uploads[0]}: (\d+) bits from ([0-9a-f]{{32}}), strong", lines[1])
    assert int(found[1]) <= 16
    assert lines[2:] == ["1 verdicts recorded"]

    lines = run("match_remotely.py", local.address, *uploads, NCIIHASH_KEY=key)
    assert lines == [f"{uploads[0]}: strong ({found[2]})", f"{uploads[1]}: no match"]

    local.withdraw(case)
    lines = run("match_remotely.py", local.address, *uploads, NCIIHASH_KEY=key)
    assert lines == [f"{upload}: no match" for upload in uploads]


def seen_by_survivor(local, case):
    """Give the verdicts that a survivor sees on her first file on the next day."""
    local.pass_midnight()
    with local.survivor() as client:
        (item, *_) = client.status(*case).items
    return [v for platform in item.platforms for v, count in platform.verdicts.items() if count]


def until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_uploads_are_checked_inside_a_web_service(local, pictures, tmp_path, monkeypatch):
    case = local.open(hash_file(pictures / "a.jpg"))
    monkeypatch.setenv("NCIIHASH_SERVER", local.address)
    monkeypatch.setenv("NCIIHASH_KEY", local.platform("feed,feedback"))
    monkeypatch.setenv("NCIIHASH_FOLDER", str(tmp_path))
    example = runpy.run_path(str(EXAMPLES / "check_uploads.py"))

    def post(name):
        return web.post("/uploads", content=(pictures / name).read_bytes())

    with TestClient(example["create_app"]()) as web:
        assert web.get("/health").json()["bank"]["current"]
        assert post("other.jpg").status_code == 201
        refused = post("copy.jpg")
        assert (refused.status_code, "not be shared" in refused.json()["error"]) == (403, True)
        assert web.post("/uploads", content=b"no picture").status_code == 422
        until(lambda: web.get("/health").json()["verdicts"]["recorded"] == 1)
        assert Verdict.BLOCKED in seen_by_survivor(local, case)

        local.withdraw(case)
        until(lambda: post("copy.jpg").status_code == 201)
        health = web.get("/health")
        assert (health.status_code, health.json()["bank"]["trouble"]) == (200, None)


def test_a_worker_goes_through_an_inbox(local, pictures, tmp_path, monkeypatch, capsys):
    case = local.open(hash_file(pictures / "a.jpg"))
    monkeypatch.setenv("NCIIHASH_KEY", local.platform("feed,feedback"))
    (pictures / "text.jpg").write_text("no picture")
    worker = runpy.run_path(str(EXAMPLES / "work_through_inbox.py"))["main"]

    worker(local.address, str(tmp_path / "bank"), str(pictures), once=True)
    assert sorted(f.name for f in (pictures / "held").iterdir()) == [
        "a.jpg",
        "copy.jpg",
        "text.jpg",
    ]
    assert [f.name for f in (pictures / "shown").iterdir()] == ["other.jpg"]
    assert "copy.jpg: held" in capsys.readouterr().out.splitlines()
    assert Verdict.BLOCKED in seen_by_survivor(local, case)
    with VerdictQueue(pictures / ".verdicts") as verdicts:
        assert len(verdicts) == 0
    local.withdraw(case)


def test_every_example_is_tested():
    tested = Path(__file__).read_text()
    names = [path.name for path in EXAMPLES.glob("*.py")]
    assert len(names) >= 4
    for name in names:
        assert f'"{name}"' in tested


def check_client(*arguments):
    done = subprocess.run(
        [sys.executable, EXAMPLES / "check_client.py", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def run_here(words, *, env, **_):
    """Run a command of this project in this process, and give what `subprocess.run` gives."""
    ours = words[0] == "nciihash"
    with (
        mock.patch.dict(os.environ, env, clear=True),
        mock.patch.object(sys, "argv", list(words if ours else words[1:])),
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        try:
            if ours:
                app.main()
            else:
                runpy.run_path(words[1], run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code or 0
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def test_our_own_client_passes_the_sandbox(monkeypatch, capsys):
    """With the commands of the example's own words, which would take a second each to start."""
    check_client = runpy.run_path(str(EXAMPLES / "check_client.py"))["main"]
    follow = "nciihash follow --once --server {server} --bank {folder}/bank"
    held = EXAMPLES / "held.py"
    commands = ("--follow", follow, "--held", f"python {held} {{folder}}/bank")
    monkeypatch.setattr(sys, "argv", ["check_client.py", *commands])
    monkeypatch.setattr(subprocess, "run", run_here)
    code = check_client()
    said = capsys.readouterr().out
    assert code == 0, said
    assert said.count("well") == len(said.splitlines()) == 9


NAIVE = """
import http.client, json, pathlib, sys, urllib.parse
server, key, file = sys.argv[1:]
connection = http.client.HTTPConnection(urllib.parse.urlsplit(server).netloc)
connection.request("GET", "/v1/feed", headers={"Authorization": "Bearer " + key})
answer = connection.getresponse()
assert answer.status == 200
try:
    page = answer.read()
except http.client.IncompleteRead as cut:
    page = cut.partial
with pathlib.Path(file).open("a") as held:
    for entry in page.decode().split('"value":"')[1:]:
        held.write(entry.partition('"')[0] + "\\n")
"""


def test_a_client_that_reads_one_page_and_no_removals_is_told(tmp_path):
    script, cat = tmp_path / "naive.py", tmp_path / "cat.py"
    script.write_text(NAIVE)
    cat.write_text("import pathlib, sys; print(pathlib.Path(sys.argv[1]).read_text())")
    python = f"{sys.executable} -I -S"  # without what starts slowly, for it is started often
    code, said = check_client(
        *("--follow", f"{python} {script} {{server}} {{key}} {{folder}}/held"),
        *("--held", f"{python} {cat} {{folder}}/held"),
    )
    assert code == 1
    assert "well   an empty feed" in said
    assert "WRONG  1,500 hashes of one moment: 500 hashes are missing" in said
    assert "are held more often than once" in said
    wrong_at_the_end = said.partition("WRONG  all withdrawn: ")[2]
    assert "are held that were withdrawn" in wrong_at_the_end
