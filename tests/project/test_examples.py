"""The examples, run as their docstrings say."""

import contextlib
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps
from starlette.testclient import TestClient

from nciihash import Verdict
from nciihash.bank import Bank
from nciihash.cli import app
from nciihash.client import PlatformClient
from nciihash.hashing.hasher import hash_bytes, hash_file
from nciihash.sdk import follow
from nciihash.sdk.verdict_queue import VerdictQueue
from nciihash.wire import CaseState
from support.browsers.steering import free_port
from support.paths import ROOT
from support.pictures import encode, scene, textured
from support.videos import make_video

EXAMPLES = ROOT / "examples"


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    scene(300, 200, seed=41).save(folder / "a.jpg", quality=95)
    scene(300, 200, seed=41).save(folder / "copy.jpg", quality=60)
    scene(300, 200, seed=42).save(folder / "other.jpg")
    return folder


@pytest.fixture
def photo(tmp_path):
    """Return a photo, and a cropped copy of it."""
    whole, part = tmp_path / "photo.png", tmp_path / "part.jpg"
    picture = textured(7)
    picture.save(whole)
    picture.crop((0, 0, 0.7 * picture.width, 0.8 * picture.height)).save(part, quality=85)
    return whole, part


@pytest.fixture(autouse=True)
def _sandboxes(monkeypatch, kept_sandboxes):
    """Share one sandbox among the examples run in this process; each takes a second to start."""
    monkeypatch.setattr("nciihash.sandbox.Sandbox", kept_sandboxes)


@pytest.fixture
def run(monkeypatch, capsys):
    """Return a function that runs an example as a script in this process and returns its lines."""

    def call(name, *arguments, **environment):
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        capsys.readouterr()
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        output = capsys.readouterr()
        assert output.err == ""
        return output.out.splitlines()

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
    assert lines[1].startswith("File 1: participating platforms: Platform ")
    assert lines[3] == f"2 files withdrawn, 0 remaining: the case is {CaseState.WITHDRAWN}"


def test_follow_and_match_and_match_remotely(run, local, pictures, photo, tmp_path):
    key = local.platform()
    case = local.open(hash_file(pictures / "a.jpg"))
    uploads = [pictures / "copy.jpg", pictures / "other.jpg"]

    lines = run("follow_and_match.py", local.address, tmp_path / "bank", *uploads, NCIIHASH_KEY=key)
    assert lines[0] == "1 signals in the bank"
    line = re.fullmatch(rf"{uploads[0]}: (\d+) bits from ([0-9a-f]{{32}}), strong", lines[1])
    assert int(line[1]) <= 16
    assert lines[2:] == ["1 verdicts recorded"]

    whole, part = photo
    other = local.open(hash_file(whole, variants="thorough"))
    lines = run("follow_and_match.py", local.address, tmp_path / "bank", part, NCIIHASH_KEY=key)
    assert lines[1].endswith(", likely")
    assert "to be reviewed: cropped to" in lines[2]
    assert lines[3:] == ["0 verdicts recorded"]
    local.withdraw(other)

    lines = run("match_remotely.py", local.address, *uploads, NCIIHASH_KEY=key)
    assert lines == [f"{uploads[0]}: strong ({line[2]})", f"{uploads[1]}: no match"]

    local.withdraw(case)
    lines = run("match_remotely.py", local.address, *uploads, NCIIHASH_KEY=key)
    assert lines == [f"{upload}: no match" for upload in uploads]


@pytest.fixture(scope="module")
def framed(tmp_path_factory):
    """Return a folder with copies of a photo that only their trimmed picture matches, and a video.

    The photo is also one of the video's frames, but not the first one.
    """
    folder = tmp_path_factory.mktemp("framed")
    picture = textured(11)
    bordered = ImageOps.expand(picture, 70, "white")
    screenshot = Image.new("RGB", (500, 900), (20, 20, 20))
    screenshot.paste(picture, (26, 260))
    ImageDraw.Draw(screenshot).rectangle((0, 0, 500, 40), fill=(70, 70, 80))
    bordered.save(folder / "bordered.jpg", quality=85)
    screenshot.save(folder / "screenshot.png")
    scenes = [np.asarray(textured(seed)) for seed in (12, 13, 11, 14)]
    video = make_video([frame for frame in scenes for _ in range(12)])
    (folder / "video.mp4").write_bytes(video)
    textured(15).save(folder / "unrelated.jpg")
    return folder


COPIES = ("bordered.jpg", "screenshot.png", "video.mp4")


@pytest.fixture
def listed(local):
    """List the photo of the copies and the video, as it is submitted by default, for one test."""
    photo = encode(textured(11), "PNG")
    case = local.open(hash_bytes(photo, variants="none"))
    yield hash_bytes(photo).hashes[0].signal
    local.withdraw(case)


def test_the_copies_are_strong_matches_and_not_by_their_first_hash(
    local, framed, listed, tmp_path, kept_sandboxes, monkeypatch, capsys
):
    """As `nciihash match` says; so an example that takes the first hash of a file misses them."""
    key = local.platform()
    with PlatformClient(local.address, key) as client, Bank.open(tmp_path / "bank") as bank:
        follow(client, bank, once=True)
    files = [str(framed / name) for name in (*COPIES, "unrelated.jpg")]
    monkeypatch.setattr("nciihash.sandbox.pool.Sandbox", kept_sandboxes)
    command = ["nciihash", "match", "--bank", str(tmp_path / "bank"), "--json", *files]
    done = run_in_process(command, env={})
    results = [json.loads(line) for line in done.stdout.splitlines()]
    for result, file in zip(results, files, strict=True):
        strong = [match for match in result["matches"] if match["band"] == "strong"]
        assert bool(strong) == (Path(file).name in COPIES)
        first = hash_file(file).hashes[0].signal.value
        assert (int.from_bytes(first) ^ int.from_bytes(listed.value)).bit_count() > 31


def test_every_example_finds_copies_within_frames_and_in_videos(
    run, local, framed, listed, tmp_path, monkeypatch
):
    names = (*COPIES, "unrelated.jpg")
    uploads = [framed / name for name in names]
    key = local.platform()
    lines = run("follow_and_match.py", local.address, tmp_path / "bank", *uploads, NCIIHASH_KEY=key)
    for name in names:
        assert any(name in line and "strong" in line for line in lines) == (name in COPIES)

    lines = run("match_remotely.py", local.address, *uploads, NCIIHASH_KEY=key)
    assert [line.partition(": ")[0] for line in lines] == list(map(str, uploads))
    assert [line.partition(": ")[2].startswith("strong") for line in lines] == [True] * 3 + [False]
    assert lines[3].endswith("unrelated.jpg: no match")

    inbox = tmp_path / "inbox"
    shutil.copytree(framed, inbox)
    worker = runpy.run_path(str(EXAMPLES / "work_through_inbox.py"))["main"]
    worker(local.address, str(tmp_path / "bank"), str(inbox), once=True)
    assert {file.name for file in (inbox / "held").iterdir()} == set(COPIES)
    assert [file.name for file in (inbox / "shown").iterdir()] == ["unrelated.jpg"]

    monkeypatch.setenv("NCIIHASH_SERVER", local.address)
    monkeypatch.setenv("NCIIHASH_FOLDER", str(tmp_path))
    example = runpy.run_path(str(EXAMPLES / "check_uploads.py"))
    with TestClient(example["create_app"]()) as web:
        answers = [
            web.post("/uploads", content=upload.read_bytes()).status_code for upload in uploads
        ]
    assert answers == [403, 403, 403, 201]


def verdicts_shown_to_survivor(local, case):
    """Return the verdicts that a survivor sees on her first file the next day."""
    local.backdate_a_day()
    with local.survivor() as client:
        (item, *_) = client.status(*case).items
    return [v for platform in item.platforms for v, count in platform.verdicts.items() if count]


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_check_uploads(local, pictures, photo, tmp_path, monkeypatch):
    case = local.open(hash_file(pictures / "a.jpg"))
    whole, part = photo
    other = local.open(hash_file(whole, variants="thorough"))
    part.rename(pictures / "part.jpg")
    monkeypatch.setenv("NCIIHASH_SERVER", local.address)
    monkeypatch.setenv("NCIIHASH_KEY", local.platform("feed,feedback"))
    monkeypatch.setenv("NCIIHASH_FOLDER", str(tmp_path))
    example = runpy.run_path(str(EXAMPLES / "check_uploads.py"))

    def post(name):
        return web.post("/uploads", content=(pictures / name).read_bytes())

    with TestClient(example["create_app"]()) as web:
        assert web.get("/health").json()["bank"]["current"]
        assert post("other.jpg").status_code == 201
        assert post("part.jpg").status_code == 202
        refused = post("copy.jpg")
        assert (refused.status_code, "not be shared" in refused.json()["error"]) == (403, True)
        assert web.post("/uploads", content=b"no picture").status_code == 422
        wait_until(lambda: web.get("/health").json()["verdicts"]["recorded"] == 1)
        assert Verdict.BLOCKED in verdicts_shown_to_survivor(local, case)

        local.withdraw(case)
        local.withdraw(other)
        wait_until(lambda: post("copy.jpg").status_code == 201)
        wait_until(lambda: post("part.jpg").status_code == 201)
        health = web.get("/health")
        assert (health.status_code, health.json()["bank"]["error"]) == (200, None)


@contextlib.contextmanager
def uvicorn_workers(count, **environment):
    """Run check_uploads.py with several workers, as its docstring says; yield its address."""
    port = free_port()
    command = ["-m", "uvicorn", "--factory", "check_uploads:create_app", "--workers", str(count)]
    process = subprocess.Popen(
        [sys.executable, *command, "--app-dir", EXAMPLES, "--port", str(port)],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        assert process.wait(60) == 0


def ask(method, address, **content):
    """Send a request over a new connection, which any of the workers may accept."""
    with httpx.Client(trust_env=False, timeout=60) as client:
        return client.request(method, address, **content)


def test_check_uploads_with_two_workers(local, framed, tmp_path):
    """One follows, the other reads; both find copies, and after a withdrawal neither does."""
    photo = encode(textured(11), "PNG")
    case = local.open(hash_bytes(photo))
    environment = {
        "NCIIHASH_SERVER": local.address,
        "NCIIHASH_KEY": local.platform("feed,feedback"),
        "NCIIHASH_FOLDER": str(tmp_path),
    }
    copy = (framed / "bordered.jpg").read_bytes()
    with uvicorn_workers(2, **environment) as address:

        def healths():
            """Return whether those that answer some requests follow the feed."""
            try:
                found = [ask("GET", f"{address}/health") for _ in range(10)]
            except httpx.TransportError:
                return set()
            assert all(health.status_code == 200 for health in found)
            return {health.json()["bank"]["follows"] for health in found}

        def answers():
            return {ask("POST", f"{address}/uploads", content=copy).status_code for _ in range(10)}

        wait_until(lambda: healths() == {True, False})
        assert answers() == {403}
        local.withdraw(case)
        wait_until(lambda: answers() == {201})
        assert healths() <= {True, False}


def test_work_through_inbox(local, pictures, tmp_path, monkeypatch, capsys):
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
    assert Verdict.BLOCKED in verdicts_shown_to_survivor(local, case)
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


def run_in_process(command, *, env, **_):
    """Run a command in this process; return the result as `subprocess.run` does."""
    is_cli = command[0] == "nciihash"
    with (
        mock.patch.dict(os.environ, env, clear=True),
        mock.patch.object(sys, "argv", list(command if is_cli else command[1:])),
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        code: int | str = 0
        try:
            if is_cli:
                app.main()
            else:
                runpy.run_path(command[1], run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


def test_our_own_client_passes_check_client(monkeypatch, capsys):
    """With the commands of its docstring, in this process: each takes a second to start."""
    check_client = runpy.run_path(str(EXAMPLES / "check_client.py"))["main"]
    follow = "nciihash follow --once --server {server} --bank {folder}/bank"
    held = EXAMPLES / "held.py"
    commands = ("--follow", follow, "--held", f"python {held} {{folder}}/bank")
    monkeypatch.setattr(sys, "argv", ["check_client.py", *commands])
    monkeypatch.setattr(subprocess, "run", run_in_process)
    code = check_client()
    output = capsys.readouterr().out
    assert code == 0, output
    assert output.count("passed") == len(output.splitlines()) == 9


NAIVE = """
import http.client, json, pathlib, sys, urllib.parse
server, key, file = sys.argv[1:]
connection = http.client.HTTPConnection(urllib.parse.urlsplit(server).netloc)
connection.request("GET", "/v1/feed", headers={"Authorization": "Bearer " + key})
response = connection.getresponse()
assert response.status == 200
try:
    page = response.read()
except http.client.IncompleteRead as error:
    page = error.partial
with pathlib.Path(file).open("a") as hashes:
    for entry in page.decode().split('"value":"')[1:]:
        hashes.write(entry.partition('"')[0] + "\\n")
"""


def test_check_client_reports_a_client_that_reads_one_page_and_no_removals(tmp_path):
    script, cat = tmp_path / "naive.py", tmp_path / "cat.py"
    script.write_text(NAIVE)
    cat.write_text("import pathlib, sys; print(pathlib.Path(sys.argv[1]).read_text())")
    python = f"{sys.executable} -I -S"  # without site packages, since it is started often
    code, output = check_client(
        *("--follow", f"{python} {script} {{server}} {{key}} {{folder}}/held"),
        *("--held", f"{python} {cat} {{folder}}/held"),
    )
    assert code == 1
    assert "passed  an empty feed" in output
    assert "FAILED  1,500 hashes added at once: 500 hashes are missing" in output
    assert "hashes are duplicates" in output
    last_check = output.partition("FAILED  all withdrawn: ")[2]
    assert "hashes were withdrawn or never sent" in last_check
