import hashlib
import json
import os
import pty
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image, ImageOps

from nciihash import __version__
from nciihash.cli import submission
from nciihash.client import PlatformClient, transport
from nciihash.errors import ServiceUnreachable
from nciihash.hashing import frame_selection
from nciihash.hashing.hasher import hash_file
from nciihash.signals import SignalType, Variant
from support.command_line import Done
from support.films import film, moving
from support.local import random_item
from support.pictures import scene

PROGRAM = [sys.executable, "-m", "nciihash"]
PASSING = "correct horse battery staple six words"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(3):
        scene(320, 240, seed=number + 10).save(folder / f"photo{number}.jpg", quality=95)
    scene(320, 240, seed=10).save(folder / "copy0.jpg", quality=40)
    Image.new("RGB", (200, 200), (120, 30, 30)).save(folder / "plain.png")
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[(np.arange(256) // 8) % 2 == 0] = 255
    Image.fromarray(stripes).save(folder / "stripes.png")
    return folder


@pytest.fixture(scope="module")
def bad_files(photos):
    whole = (photos / "photo0.jpg").read_bytes()
    (photos / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "text.jpg").write_text("this is no picture\n" * 10)
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "folder").mkdir()
    return [photos / n for n in ("cut.jpg", "text.jpg", "empty.jpg", "folder", "missing.jpg")]


# --- hash and compare --------------------------------------------------------------------------


def test_version(run):
    assert run("--version") == Done(0, f"nciihash {__version__}\n", "")


@pytest.mark.parametrize(
    "command",
    [
        "hash",
        "compare",
        "submit",
        "status",
        "withdraw",
        "follow",
        "match",
        "scan",
        "feedback",
        "demo",
    ],
)
def test_every_command_explains_itself(run, command):
    done = run(command, "--help")
    assert done.code == 0
    assert "--passphrase" not in done.out
    assert "--key" not in done.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["hash"],
        ["hash", "--signal", "sha1", "x"],
        ["hash", "--unknown", "x"],
        ["nonsense"],
        ["submit", "x"],
        ["submit", "--server", "https://example.org", "--yes", "x"],
        ["submit", "--server", "http://example.org", "--yes", "--reason", "shared", "x"],
        ["status", "K7Q4"],
        ["withdraw", "K7Q4", "--server", "https://example.org", "--item", "0"],
        ["follow", "--server", "https://example.org"],
        ["match", "x"],
        ["match", "x", "--bank", "b", "--server", "https://example.org"],
        ["feedback", "0" * 32, "--server", "https://example.org"],
        ["feedback", "0" * 32, "--server", "https://example.org", "--verdict", "blocked"],
    ],
)
def test_wrong_usage_is_exit_2(run, arguments):
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err


def test_hash_as_json(run, photos):
    files = [photos / "photo0.jpg", photos / "plain.png"]
    done = run("hash", "--json", *files)
    assert (done.code, done.err) == (0, "")
    for line, file in zip(done.lines, files, strict=True):
        (hashed,) = hash_file(file).hashes
        assert line == {
            "file": str(file),
            "media": "image",
            "hashes": [
                {
                    "type": "pdq",
                    "value": hashed.signal.hex,
                    "quality": hashed.quality,
                    "variant": "original",
                }
            ],
        }


def test_hash_with_more_signals(run, photos):
    file = photos / "photo1.jpg"
    done = run("hash", "--json", file, "--signal", "sha256", "--signal", "phash", "--signal", "pdq")
    hashes = {h["type"]: h for h in done.line["hashes"]}
    assert list(hashes) == ["pdq", "sha256", "phash"]
    assert hashes["sha256"]["value"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert hashes["sha256"]["quality"] is None
    assert len(hashes["phash"]["value"]) == 16


def test_hash_without_the_sandbox_is_the_same(run, photos):
    files = [photos / "photo0.jpg", photos / "photo1.jpg"]
    assert run("hash", "--json", *files).out == run("hash", "--json", "--no-sandbox", *files).out


def test_hash_as_a_table(run, photos):
    done = run("hash", photos / "photo0.jpg", photos / "plain.png", photos / "stripes.png")
    assert done.code == 0
    (hashed,) = hash_file(photos / "photo0.jpg").hashes
    rows = [line for line in done.out.splitlines() if "pdq" in line]
    assert hashed.signal.hex in rows[0]
    assert rows[0].rstrip().endswith(str(hashed.quality))
    assert "0 (too plain to submit)" in rows[1]
    assert "too regular to submit" in rows[2]


@pytest.mark.parametrize("sandbox", [[], ["--no-sandbox"]])
def test_bad_files_are_told_in_a_line_each_and_the_others_go_on(run, photos, bad_files, sandbox):
    good = photos / "photo0.jpg"
    done = run("hash", "--json", *bad_files, good, *sandbox)
    assert done.code == 1
    *refused, hashed = done.lines
    assert hashed["hashes"]
    assert [line["file"] for line in refused] == [str(path) for path in bad_files]
    codes = [line["error"]["code"] for line in refused]
    assert codes == ["corrupt_file", "unsupported_format", "empty_file", "not_a_file", "not_a_file"]
    for line in refused:
        assert line.keys() == {"file", "error"}
        assert "\n" not in line["error"]["message"].strip()

    for_people = run("hash", *bad_files, good, *sandbox)
    assert for_people.code == 1
    assert len(for_people.err.splitlines()) == len(bad_files)
    assert "photo0.jpg" in for_people.out


def test_a_name_cannot_command_the_terminal(run, photos, tmp_path):
    name = "[red]a\x1b[2J\nb.jpg"
    file = tmp_path / name
    file.write_bytes((photos / "photo0.jpg").read_bytes())
    done = run("hash", file)
    assert "\x1b" not in done.out
    assert "[red]a\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}b.jpg" in done.out
    assert run("hash", "--json", file).line["file"] == str(file)
    missing = run("hash", tmp_path / "no\x1b[2Jthing")
    assert "\x1b" not in missing.err


def test_a_name_that_is_no_text(run, photos, tmp_path):
    file = os.path.join(os.fsencode(tmp_path), b"caf\xe9.jpg")  # noqa: PTH118 - of bytes
    Path(os.fsdecode(file)).write_bytes((photos / "photo0.jpg").read_bytes())
    assert os.fsencode(run("hash", "--json", os.fsdecode(file)).line["file"]) == file
    assert run("hash", os.fsdecode(file)).code == 0


def test_a_sandbox_that_does_not_start_means_nothing_is_decoded(run, photos, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    done = run("hash", "--json", photos / "photo0.jpg")
    assert done.code == 1
    assert done.line["error"]["code"] == "sandbox_unavailable"


@pytest.mark.parametrize(
    ("bits", "band", "words"),
    [
        (0, "strong", "strong match"),
        (16, "strong", "strong match"),
        (17, "likely", "likely match"),
        (31, "likely", "likely match"),
        (32, None, "No match"),
    ],
)
def test_compare_hashes(run, bits, band, words):
    a = "0f" * 32
    b = f"{int(a, 16) ^ (2**bits - 1):064X}"
    line = run("compare", a, b, "--json").line
    assert (line["distance"], line["band"], line["threshold"]) == (bits, band, 31)
    done = run("compare", a, b)
    assert f"{bits} of 256 bits" in done.out
    assert words in done.out


def test_compare_files(run, photos):
    done = run("compare", photos / "photo0.jpg", photos / "copy0.jpg", "--json")
    assert done.line["band"] == "strong"
    (hashed,) = hash_file(photos / "photo0.jpg").hashes
    assert run("compare", hashed.signal.hex, photos / "photo0.jpg", "--json").line["distance"] == 0
    plain = run("compare", photos / "plain.png", photos / "photo0.jpg")
    assert "so plain that this says little" in plain.out


@pytest.mark.parametrize("text", ["0f" * 31, "zz" * 32, "nothing.jpg"])
def test_compare_with_what_is_neither(run, text):
    done = run("compare", "0f" * 32, text, "--json")
    assert done.code == 1
    assert done.line["error"]["code"] == "not_a_file"


@pytest.fixture
def several(tmp_path):
    """Make files that hold more pictures than one, and one that does not."""
    first, *others = [scene(320, 240, seed=n) for n in (60, 61, 62)]
    for name in ("c.tiff", "d.png"):
        first.save(tmp_path / name, save_all=True, append_images=others)
    first.save(tmp_path / "single.gif")
    return [tmp_path / name for name in ("c.tiff", "d.png", "single.gif")]


@pytest.mark.parametrize("sandbox", [[], ["--no-sandbox"]])
def test_it_is_told_that_only_the_first_of_several_pictures_is_covered(run, several, sandbox):
    done = run("hash", "--json", *sandbox, *several)
    assert done.code == 0
    assert [line.keys() for line in done.lines] == [{"file", "media", "hashes"}] * 3
    notes = done.err.splitlines()
    assert len(notes) == 2
    for path, note in zip(several, notes, strict=False):
        assert note.startswith(f"{path}: only the first of the 3 pictures")


def test_submit_tells_of_further_pictures_before_it_asks(run, local, several):
    done = submit(run, local, "--no-sandbox", several[0], answers="y\ny\n1\nno\n")
    assert "only the first of the 3 pictures" in done.err.split("Send this now?")[0]


def test_a_damaged_second_picture_is_no_reason_to_refuse_the_first(run, several):
    cut = several[0].with_name("cut.gif")
    pictures = [scene(320, 240, seed=n) for n in (60, 61, 62)]
    pictures[0].save(cut, save_all=True, append_images=pictures[1:])
    cut.write_bytes(cut.read_bytes()[:-5000])
    assert run("hash", "--json", "--no-sandbox", cut).code == 0


# --- submit ------------------------------------------------------------------------------------


def submit(run, local, *arguments, **options):
    return run("submit", "--server", local.address, *arguments, **options)


YES = ("--yes", "--reason", "precaution")


def test_submit_without_questions(run, local, photos, bad_files):
    files = [photos / "photo0.jpg", photos / "plain.png", photos / "photo1.jpg"]
    done = submit(run, local, *YES, "--json", *files, bad_files[0])
    assert done.code == 1
    plain, cut, opened = done.lines
    assert plain == {"file": str(files[1]), "error": plain["error"]}
    assert plain["error"]["code"] == "too_plain"
    assert cut["error"]["code"] == "corrupt_file"
    assert len(opened["passphrase"].split()) == 6
    made = [len(hash_file(file, variants="standard").hashes) for file in (files[0], files[2])]
    assert min(made) > 15
    assert [(i["item"], i["file"], i["accepted"]) for i in opened["items"]] == [
        (1, str(files[0]), made[0]),
        (2, str(files[2]), made[1]),
    ]


@pytest.mark.parametrize("by", ["the page", "hash --json"])
def test_submit_what_was_hashed_before(run, local, photos, tmp_path, by):
    paths = [photos / "photo0.jpg", photos / "plain.png", photos / "photo1.jpg"]
    lines = run("hash", "--variants", "standard", "--json", *paths, photos / "none.jpg").lines
    saved = tmp_path / "notes.json"
    if by == "the page":
        items = [{"media": x["media"], "signals": x["hashes"]} for x in lines if "hashes" in x]
        saved.write_text(json.dumps({"items": items}))
    else:
        saved.write_text("\n".join(map(json.dumps, lines)))
    done = submit(run, local, *YES, "--json", "--from", saved)
    plain, opened = done.lines
    assert (done.code, plain["error"]["code"]) == (1, "too_plain")
    made = [len(hash_file(path, variants="standard").hashes) for path in (paths[0], paths[2])]
    assert [item["accepted"] for item in opened["items"]] == made
    assert [item["file"] for item in opened["items"]] == [f"{saved}, number {n}" for n in (1, 3)]
    both = submit(run, local, *YES, "--json", "--from", saved, photos / "photo0.jpg")
    assert len(both.lines[-1]["items"]) == 3


_DEEP = "[" * 3000
_ENDLESS = json.dumps(
    {
        "media": "video",
        "hashes": [{"type": "pdq", "value": "0" * 64, "quality": 9, "time": 10**400}],
    }
)


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", "[1]", "{}", '{"items": []}', '{"items": [1]}', _DEEP, _ENDLESS],
    ids=["empty", "words", "list", "object", "none", "number", "deep", "endless"],
)
def test_submit_from_something_else(run, local, tmp_path, text):
    saved = tmp_path / "notes.json"
    saved.write_text(text)
    for given in (saved, tmp_path / "none"):
        done = submit(run, local, *YES, "--from", given)
        assert done.code == 2
        assert str(given) in done.err
    assert submit(run, local, *YES).code == 2


def test_the_status_after_submit(run, local, photos):
    given = (*YES, "--json", photos / "photo0.jpg")
    for more, signals in (((), range(16, 28)), (("--variants", "none"), [1])):
        opened = submit(run, local, *given, *more).line
        with local.survivor() as client:
            status = client.status(opened["case"], opened["passphrase"])
        assert status.items[0].signals in signals
    assert status.reason == "precaution"


def test_submit_asks_first(run, local, photos):
    done = submit(run, local, photos / "photo0.jpg", answers="maybe\nyes\ny\n7\n2\nyes\n")
    assert done.code == 0
    for word in ("18 or older", "Are you the person", "What happened", "To be sent", "Send this"):
        assert word in done.err
    assert "somebody has shared them" in done.err
    assert hash_file(photos / "photo0.jpg").hashes[0].signal.hex not in done.out + done.err
    case = done.out.split("Case number")[1].split()[0]
    passphrase = done.out.split("Passphrase")[1].splitlines()[0].strip()
    with local.survivor() as client:
        assert client.status(case, passphrase).reason == "shared"
    assert f"nciihash status {case}" in done.out


def test_the_hashes_are_shown_on_request(run, local, photos):
    done = submit(run, local, *YES, "--show-hashes", photos / "photo0.jpg")
    assert hash_file(photos / "photo0.jpg").hashes[0].signal.hex in done.err


@pytest.fixture
def nothing_is_hashed_or_sent(monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("this should not have been reached")

    monkeypatch.setattr("nciihash.cli.submission.hash_files", refuse)
    monkeypatch.setattr("nciihash.client.Client.open_case", refuse)


@pytest.mark.usefixtures("nothing_is_hashed_or_sent")
def test_no_file_is_opened_when_she_was_not_of_age(run, local, photos):
    done = submit(run, local, photos / "photo0.jpg", answers="no\n")
    assert done.code == 1
    assert "Take It Down" in done.err
    assert "Report Remove" in done.err
    assert "do not copy" in done.err


@pytest.mark.usefixtures("nothing_is_hashed_or_sent")
def test_no_file_is_opened_when_it_is_somebody_else(run, local, photos):
    done = submit(run, local, photos / "photo0.jpg", answers="yes\nno\n")
    assert done.code == 1
    assert "the choice is theirs" in done.err


@pytest.mark.usefixtures("nothing_is_hashed_or_sent")
@pytest.mark.parametrize("answers", ["", "yes\n", "yes\nyes\n"])
def test_unanswered_questions_end_it(run, local, photos, answers):
    done = submit(run, local, photos / "photo0.jpg", answers=answers)
    assert (done.code, done.out) == (2, "")


def test_saying_no_at_the_end_sends_nothing(run, local, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("nciihash.client.Client.open_case", None)
    receipt = tmp_path / "receipt"
    done = submit(run, local, photos / "photo0.jpg", "--receipt", receipt, answers="y\ny\n1\nno\n")
    assert (done.code, done.out) == (0, "")
    assert "Nothing was sent" in done.err
    assert not receipt.exists()


@pytest.mark.usefixtures("nothing_is_hashed_or_sent")
def test_more_than_200_files(run, local, photos):
    done = submit(run, local, *YES, *[photos / "photo0.jpg"] * 201)
    assert done.code == 2
    assert "at most 200" in " ".join(done.err.split())


def test_only_plain_pictures(run, local, photos, monkeypatch):
    monkeypatch.setattr("nciihash.client.Client.open_case", None)
    done = submit(run, local, *YES, "--json", photos / "plain.png", photos / "stripes.png")
    assert done.code == 1
    assert [line["error"]["code"] for line in done.lines] == ["too_plain"] * 2
    plain, stripes = (line["error"]["message"] for line in done.lines)
    assert "too plain" in plain
    assert "too regular" in stripes
    assert "plain" not in stripes
    assert "No case was opened" in done.err


@pytest.mark.parametrize("type", [SignalType.MD5, SignalType.SHA256])
def test_an_exact_digest_is_warned_of(run, local, photos, type):
    done = submit(run, local, photos / "photo0.jpg", "--signal", type, answers="y\ny\n1\nno\n")
    assert "identifies this very file" in done.err.split("Send this now?")[0]
    without = submit(run, local, photos / "photo0.jpg", answers="y\ny\n1\nno\n")
    assert "identifies" not in without.err


def test_a_receipt_only_when_asked_for(run, local, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    submit(run, local, *YES, photos / "photo0.jpg")
    assert list(tmp_path.iterdir()) == []
    receipt = tmp_path / "receipt.txt"
    opened = submit(run, local, *YES, "--json", photos / "photo0.jpg", "--receipt", receipt).line
    text = receipt.read_text()
    assert stat.S_IMODE(receipt.stat().st_mode) == 0o600
    for word in (opened["case"], opened["passphrase"], local.address):
        assert word in text
    assert "photo0" not in text


@pytest.mark.usefixtures("nothing_is_hashed_or_sent")
def test_a_receipt_never_overwrites(run, local, photos, tmp_path, monkeypatch):
    monkeypatch.undo()
    receipt = tmp_path / "receipt.txt"
    receipt.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    for path in (receipt, link):
        done = submit(run, local, *YES, photos / "photo0.jpg", "--receipt", path)
        assert done.code == 2
        assert done.out == ""
    assert receipt.read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


def test_a_receipt_that_cannot_be_written_keeps_nothing_from_her(
    run, local, photos, tmp_path, monkeypatch
):
    def full(*args):
        raise OSError(28, "No space left on device")

    receipt = tmp_path / "receipt.txt"
    monkeypatch.setattr("nciihash.cli.receipt.os.write", full)
    done = submit(run, local, *YES, "--no-sandbox", photos / "photo0.jpg", "--receipt", receipt)
    assert done.code == 0
    assert "Passphrase" in done.out
    assert "could not be written" in done.err
    assert not receipt.exists()


class Lossy(ThreadingHTTPServer):
    """Passes requests on to the service, and loses as many answers as it is told to."""

    def __init__(self, behind):
        self.behind = behind
        self.lose = 0
        self.keys = []
        super().__init__(("127.0.0.1", 0), _Passing)

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Passing(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.keys.append(self.headers["idempotency-key"])
        headers = {n: self.headers[n] for n in ("content-type", "idempotency-key")}
        answer = httpx.post(self.server.behind + self.path, content=body, headers=headers)
        if self.server.lose:
            self.server.lose -= 1
            self.close_connection = True
            return
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers["content-type"])
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *args):
        pass


@pytest.fixture
def lossy(local, monkeypatch):
    monkeypatch.setattr(transport.Patience, "pause", lambda self, attempt: 0.0)
    with Lossy(local.address) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_lost_answer_is_fetched_by_repeating_the_request(run, lossy, photos, platform):
    lossy.lose = 3
    signal_ = hash_file(photos / "photo2.jpg").hashes[0].signal

    def items():
        return {hit.item for hit in platform.match([signal_])[0]}

    before = items()
    done = run("submit", "--server", lossy.address, *YES, "--json", photos / "photo2.jpg")
    assert done.code == 0
    assert len(lossy.keys) == 4
    assert len(set(lossy.keys)) == 1
    while (after := items()) == before:
        pass
    assert len(after) == len(before) + 1


def test_when_no_answer_comes_it_is_said_that_a_case_may_be_open(run, lossy, photos, tmp_path):
    lossy.lose = 99
    receipt = tmp_path / "receipt"
    done = run(
        *("submit", "--server", lossy.address, *YES, "--json", photos / "photo2.jpg"),
        *("--receipt", receipt),
    )
    assert done.code == 3
    assert done.line["error"]["code"] == "service_unreachable"
    assert "not known whether the case was opened" in done.err
    assert not receipt.exists()


def test_she_may_try_again_without_opening_a_second_case(run, lossy, photos):
    lossy.lose = 6
    done = run(
        *("submit", "--server", lossy.address, photos / "photo2.jpg"),
        answers="y\ny\n4\ny\ny\n",
    )
    assert done.code == 0
    assert "cannot open a second case" in done.err
    assert "Passphrase" in done.out
    assert len(set(lossy.keys)) == 1


def test_a_second_try_that_fails_does_not_deny_the_first(run, lossy, photos, monkeypatch):
    lossy.lose = 6  # a whole first call: carried out, and its answers lost
    reach = transport.Transport.run
    calls = []

    def call(self, request, **options):
        calls.append(request)
        if len(calls) == 2:
            raise ServiceUnreachable("No connection.")
        return reach(self, request, **options)

    monkeypatch.setattr(transport.Transport, "run", call)
    done = run(
        *("submit", "--server", lossy.address, "--no-sandbox", photos / "photo2.jpg"),
        answers="y\ny\n4\ny\ny\nno\n",
    )
    assert done.code == 3
    assert len(calls) == 2
    assert "not known whether the case was opened" in done.err
    assert "No case was opened" not in done.err


def test_what_is_said_of_her_is_true(run, local, photos):
    done = submit(run, local, *YES, "--no-sandbox", photos / "photo0.jpg")
    assert "sees your network address while you are connected" in done.err
    assert "anything about you" not in done.err
    assert "remove them within 48 hours" in " ".join(done.out.split())
    assert "answered" not in done.out


def test_a_service_that_is_away(run, photos, monkeypatch):
    monkeypatch.setattr(transport.Patience, "pause", lambda self, attempt: 0.0)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    done = run("submit", "--server", address, *YES, photos / "photo0.jpg")
    assert done.code == 3
    assert "No case was opened" in done.err
    assert "may" not in done.err.split("No case was opened")[1].split("nciihash:")[0]


# --- status and withdraw -----------------------------------------------------------------------


def test_status_and_withdraw(run, local, key, photos):
    case, passphrase = local.open(random_item(), random_item(), random_item())
    secret = {"NCIIHASH_PASSPHRASE": passphrase, "NCIIHASH_SERVER": local.address}
    with PlatformClient(local.address, key) as platform:
        cursor = None
        while (page := platform.feed(cursor)).more:
            cursor = page.cursor
        platform.acknowledge(page.cursor)

    seen = run("status", case, "--json", **secret)
    assert seen.line["state"] == "open"
    assert [item["item"] for item in seen.line["items"]] == [1, 2, 3]
    table = run("status", case, **secret)
    assert "The case is open until" in table.out
    assert "UTC" in table.out.split("Has it since")[1]
    assert "not known" in table.out
    assert passphrase not in table.out + table.err

    refused = run("withdraw", case, answers="no\n", **secret)
    assert (refused.code, refused.out) == (0, "")
    one = run("withdraw", case, "--item", 2, "--json", "--yes", **secret)
    assert one.line == {"withdrawn": 1, "remaining": 2, "state": "open"}
    unknown = run("withdraw", case, "--item", 9, "--json", "--yes", **secret)
    assert (unknown.code, unknown.line["error"]["code"]) == (3, "item_unknown")
    rest = run("withdraw", case, answers="yes\n", **secret)
    assert "2 files withdrawn. The clearinghouse no longer matches them" in rest.out
    assert "so the case is now closed" in rest.out
    # a platform may match until it has followed: only it can say that it has deleted
    for words in (rest.out, run("status", case, **secret).out):
        assert "told every platform to delete" in words
        assert "who has confirmed" in words
        assert "any more" not in words
    again = run("withdraw", case, "--yes", **secret)
    assert again.out.startswith("The case was withdrawn already.")


def test_withdrawing_files_one_by_one(run, local):
    case, passphrase = local.open(random_item(), random_item())
    secret = {"NCIIHASH_PASSPHRASE": passphrase, "NCIIHASH_SERVER": local.address}
    first = run("withdraw", case, "--item", 1, "--yes", **secret)
    assert first.out.startswith("1 file withdrawn. The clearinghouse no longer matches it")
    assert first.out.endswith(" 1 file of the case is still matched.\n")
    again = run("withdraw", case, "--item", 1, "--yes", **secret)
    assert again.out == "File 1 was withdrawn already. 1 file of the case is still matched.\n"
    last = run("withdraw", case, "--item", 2, "--yes", **secret)
    assert last.out.endswith("No file of the case is left, so the case is now closed.\n")
    assert run("status", case, **secret).out.startswith("The case is withdrawn.")


def test_a_wrong_passphrase(run, local):
    case, passphrase = local.open(random_item())
    done = run("status", case, "--server", local.address, "--json", NCIIHASH_PASSPHRASE=PASSING)
    assert done.code == 3
    assert "credentials are not right" in done.line["error"]["message"]
    for secret in (PASSING, passphrase, case):
        assert secret not in done.out + done.err


def test_the_passphrase_is_asked_for_and_not_shown(local):
    case, passphrase = local.open(random_item())
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, "status", case, "--server", local.address, "--json"],
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=slave,
        start_new_session=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("NCIIHASH")},
    )
    os.close(slave)
    shown = b""
    while b"Passphrase: " not in shown:
        shown += os.read(master, 1000)
    os.write(master, passphrase.encode() + b"\n")
    assert json.loads(process.stdout.read())["state"] == "open"
    assert process.wait() == 0
    process.stdout.close()
    try:
        while part := os.read(master, 1000):
            shown += part
    except OSError:
        pass  # that is how a terminal ends
    os.close(master)
    assert passphrase.encode() not in shown


# --- follow, match, feedback -------------------------------------------------------------------


def test_a_platform_follows_matches_and_answers(run, local, photos, tmp_path):
    key, bank = local.platform(), tmp_path / "bank"
    secret = {"NCIIHASH_KEY": key, "NCIIHASH_SERVER": local.address}
    picture, copy = tmp_path / "picture.jpg", tmp_path / "copy.jpg"
    scene(300, 200, seed=99).save(picture, quality=95)
    scene(300, 200, seed=99).save(copy, quality=40)
    original = hash_file(picture, signals=[SignalType.PDQ, SignalType.PHASH])
    case = local.open(original)

    done = run("follow", "--bank", bank, "--once", "--json", **secret)
    assert done.code == 0
    assert done.lines[-1]["current"]
    assert stat.S_IMODE(bank.stat().st_mode) == 0o600

    files = [copy, photos / "photo1.jpg", tmp_path / "text.jpg"]
    files[2].write_text("no picture")
    with PlatformClient(local.address, key) as client:
        hits = client.match([original.hashes[0].signal])[0]
    (id,) = ids = {hit.id for hit in hits}

    found = run("match", "--bank", bank, "--json", *files)
    assert found.code == 1
    near, other, text = found.lines
    assert near["file"] == str(copy)
    (match,) = near["matches"]
    assert match.keys() == {"id", "item", "type", "variant", "distance", "band"}
    assert (match["id"], match["type"], match["variant"]) == (id, "pdq", Variant.ORIGINAL)
    assert match["distance"] <= 16
    assert match["band"] == "strong"
    assert not ids & {match["id"] for match in other["matches"]}
    assert text["error"]["code"] == "unsupported_format"

    more = run("match", "--bank", bank, "--json", files[0], "--signal", "phash")
    assert {match["type"] for match in more.line["matches"]} == {"pdq", "phash"}

    table = run("match", "--bank", bank, *files[:2])
    assert "strong" in table.out
    assert "of 256" in table.out

    remote = run("match", "--server", local.address, "--json", *files[:2], **secret)
    assert remote.code == 0
    assert {match["id"] for match in remote.lines[0]["matches"]} == ids
    assert remote.lines[0]["matches"][0].keys() == {"id", "item", "type", "band"}
    assert "not told" in run("match", "--server", local.address, files[0], **secret).out

    taken = run("feedback", *ids, "--verdict", "blocked", "--json", **secret)
    assert taken.line == {"recorded": len(ids), "unknown": 0}
    unknown = run("feedback", "0" * 32, "--verdict", "unsure", **secret)
    assert (unknown.code, unknown.out) == (1, "0 recorded, 1 unknown.\n")
    wrong = run("feedback", "no-id", "--verdict", "unsure", "--json", **secret)
    assert (wrong.code, wrong.line["error"]["code"]) == (2, "invalid_request")

    local.withdraw(case)
    assert run("follow", "--bank", bank, "--once", **secret).code == 0
    gone = run("match", "--bank", bank, "--json", files[0])
    assert not ids & {match["id"] for match in gone.line["matches"]}
    assert key not in done.out + done.err + found.out + taken.out


def test_a_revoked_or_wrong_key(run, local, tmp_path):
    done = run(
        *("follow", "--server", local.address, "--bank", tmp_path / "bank", "--once", "--json"),
        NCIIHASH_KEY="nciik_wrong",
    )
    assert (done.code, done.line["error"]["code"]) == (3, "credentials_wrong")
    assert "nciik_wrong" not in done.out + done.err


def test_a_bank_that_is_not_there_or_is_none(run, photos, tmp_path):
    done = run("match", "--bank", tmp_path / "none", "--json", photos / "photo0.jpg")
    assert (done.code, done.line["error"]["code"]) == (2, "bank_error")
    damaged = tmp_path / "bank"
    damaged.write_bytes(b"this is not a bank" * 100)
    done = run("match", "--bank", damaged, "--json", photos / "photo0.jpg")
    assert (done.code, done.line["error"]["code"]) == (2, "bank_corrupt")


def test_a_folder_that_cannot_be_written(run, local, key, tmp_path):
    done = run(
        *("follow", "--server", local.address, "--bank", tmp_path / "no" / "bank", "--once"),
        "--json",
        NCIIHASH_KEY=key,
    )
    assert (done.code, done.line["error"]["code"]) == (2, "os_error")


# --- signals and pipes -------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_follow_ends_cleanly_on_a_signal(local, key, tmp_path, number, code):
    process = subprocess.Popen(
        [*PROGRAM, "follow", "--server", local.address, "--bank", tmp_path / "bank", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"NCIIHASH_KEY": key},
    )
    while not json.loads(process.stdout.readline())["current"]:
        pass
    time.sleep(0.2)
    process.send_signal(number)
    assert json.loads(process.stdout.read())["current"]
    assert process.wait() == code
    process.stdout.close()


@pytest.mark.parametrize("sandbox", [[], ["--no-sandbox"]])
def test_ctrl_c_while_hashing_ends_with_130_and_whole_lines(photos, sandbox):
    files = [str(photos / "photo0.jpg")] * 5000
    process = subprocess.Popen(
        [*PROGRAM, "hash", "--json", *sandbox, *files],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    first = process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to the sandbox as well
    rest, errors = process.communicate()
    assert process.returncode == 130
    assert [json.loads(line)["hashes"] for line in (first + rest).splitlines()]
    assert rest == "" or rest.endswith("\n")
    assert "Traceback" not in errors


def test_ctrl_c_at_a_question_ends_with_130(photos):
    process = subprocess.Popen(
        [*PROGRAM, "submit", "--server", "https://example.org", str(photos / "photo0.jpg")],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    shown = b""
    while b"[yes/no]" not in shown:
        shown += os.read(process.stderr.fileno(), 1000)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert b"Nothing was sent. No case was opened." in errors


@pytest.mark.parametrize("listening", [False, True])
def test_ctrl_c_while_sending_tells_whether_anything_may_have_left(photos, listening):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        if not listening:
            server.close()
        process = subprocess.Popen(
            [*PROGRAM, "submit", "--server", address, *YES, "--no-sandbox", photos / "photo0.jpg"],
            stderr=subprocess.PIPE,
        )
        if listening:
            connection, _ = server.accept()
            assert connection.recv(10)
        else:
            shown = b""
            while b"withdraw at any time" not in shown:
                shown += os.read(process.stderr.fileno(), 1000)
            time.sleep(1)  # into the pauses between attempts, every one of which is refused
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
        if listening:
            connection.close()
    assert process.returncode == 130
    assert (b"not known whether" in errors) == listening
    assert (b"No case was opened" in errors) == (not listening)


def test_a_reader_that_has_seen_enough(photos):
    files = [str(photos / "photo0.jpg")] * 200
    process = subprocess.Popen(
        [*PROGRAM, "hash", "--json", "--no-sandbox", *files],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert json.loads(process.stdout.readline())
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    assert process.wait() == 1
    process.stderr.close()


def test_hashing_prints_json_and_nothing_else_on_a_terminal(photos):
    master, slave = pty.openpty()
    done = subprocess.Popen(
        [*PROGRAM, "hash", "--json", str(photos / "photo0.jpg"), str(photos / "photo1.jpg")],
        stdout=subprocess.PIPE,
        stderr=slave,
    )
    os.close(slave)
    out, _ = done.communicate()
    os.close(master)
    assert [json.loads(line)["media"] for line in out.splitlines()] == ["image", "image"]


# --- variants ----------------------------------------------------------------------------------


def test_hash_with_variants_names_each(run, photos):
    hashes = run("hash", "--variants", "standard", "--json", photos / "photo0.jpg").line["hashes"]
    names = [entry["variant"] for entry in hashes]
    assert names[0] == "original"
    assert {"mirror", "rotate90", "crop05"} <= set(names)
    assert len(set(names)) == len(names) <= 27
    assert "mirror" in run("hash", "--variants", "full", photos / "photo0.jpg").out
    assert run("hash", "--variants", "some", photos / "photo0.jpg").code == 2


def test_a_mirrored_copy_in_a_border_is_found(run, local, tmp_path):
    picture, copy, bank = tmp_path / "picture.png", tmp_path / "copy.png", tmp_path / "bank"
    scene(320, 240, seed=71).save(picture)
    ImageOps.expand(ImageOps.mirror(scene(320, 240, seed=71)), 40, "white").save(copy)
    opened = submit(run, local, *YES, "--json", picture)
    assert 15 < opened.line["items"][0]["accepted"] <= 27
    secret = {"NCIIHASH_KEY": local.platform(), "NCIIHASH_SERVER": local.address}
    assert run("follow", "--bank", bank, "--once", **secret).code == 0
    for where in (("--bank", bank), ("--server", local.address)):
        matches = run("match", *where, "--json", copy).line["matches"]
        ids = [match["id"] for match in matches]
        assert len(set(ids)) == len(ids) > 0
        if where[0] == "--bank":
            assert matches[0]["variant"] == "mirror"
            distances = [match["distance"] for match in matches]
            assert distances == sorted(distances)


def test_check_tells_whether_a_copy_would_be_found(run, photos, tmp_path):
    item, copy = tmp_path / "item.json", tmp_path / "copy.png"
    item.write_text(run("hash", "--variants", "standard", "--json", photos / "photo0.jpg").out)
    picture = Image.open(photos / "photo0.jpg").convert("RGB")
    ImageOps.mirror(picture).save(copy)
    done = run("check", copy, "--against", item, "--json")
    assert done.line["found"] is True
    assert done.line["variant"] == "mirror"
    assert "would be found" in run("check", copy, "--against", item).out
    picture.crop((0, 0, picture.width // 2, picture.height)).save(copy)
    done = run("check", copy, "--against", item, "--json")
    assert (done.code, done.line["found"], done.line["band"]) == (0, False, None)
    assert "would not be found" in run("check", copy, "--against", item).out


@pytest.mark.parametrize("text", ["", "no JSON", "[1]", '{"hashes": [{"type": "pdq"}]}', "{}"])
def test_check_against_something_else(run, photos, tmp_path, text):
    item = tmp_path / "item.json"
    item.write_text(text)
    assert run("check", photos / "photo0.jpg", "--against", item).code == 2
    assert run("check", photos / "photo0.jpg", "--against", tmp_path / "none").code == 2


# --- videos ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Make a video, a mirrored part of it in another format, a part of it, and another video."""
    folder = tmp_path_factory.mktemp("films")
    frames = moving(60, seed=71)
    mirrored = [np.ascontiguousarray(frame[:, ::-1]) for frame in frames[18:42]]
    (folder / "film.mp4").write_bytes(film(frames))
    (folder / "mirrored.webm").write_bytes(film(mirrored, "libvpx-vp9", "webm"))
    (folder / "part.mkv").write_bytes(film(frames[30:], "mpeg4", "matroska"))
    (folder / "other.mp4").write_bytes(film(moving(30, seed=72)))
    return folder


def test_hash_and_compare_videos(run, films):
    line = run("hash", "--json", "--signal", "md5", films / "film.mp4").line
    assert (line["media"], line["every"]) == ("video", 0.25)
    *frames, digest = line["hashes"]
    assert [round(frame["time"] * 2) for frame in frames] == list(range(10))
    assert digest["type"] == "md5"
    assert "time" not in digest
    assert "Second" in run("hash", films / "film.mp4").out
    near = run("compare", "--json", films / "part.mkv", films / "film.mp4").line
    assert (near["query"], near["bank"]) == ({"found": 5, "frames": 5}, {"found": 5, "frames": 10})
    told = run("compare", films / "part.mkv", films / "film.mp4").out
    assert "5 of the 5 frames of the first (100%) and 5 of the 10 frames of the second" in told


def test_videos_go_the_whole_way(run, local, films, tmp_path):
    bank = tmp_path / "bank"
    opened = submit(run, local, *YES, "--json", "--signal", "md5", films / "film.mp4")
    assert "that it is a video" in opened.err
    assert opened.line["items"][0]["accepted"] > 100
    secret = {"NCIIHASH_KEY": local.platform(), "NCIIHASH_SERVER": local.address}
    assert run("follow", "--bank", bank, "--once", **secret).code == 0

    looked_for = [films / n for n in ("film.mp4", "mirrored.webm", "part.mkv", "other.mp4")]
    whole, mirrored, part, other = run("match", "--bank", bank, "--json", *looked_for).lines
    assert whole["items"][0]["query"] == whole["items"][0]["bank"] == {"found": 10, "frames": 10}
    assert mirrored["items"][0]["query"] == {"found": 4, "frames": 4}
    # of ten mirrored frames, but those that another hash says already
    assert mirrored["items"][0]["bank"]["found"] >= 3
    assert {match["variant"] for match in mirrored["matches"]} >= {"mirror"}
    assert part["items"][0]["bank"] == {"found": 5, "frames": 10}
    assert other["matches"] == []
    assert "items" not in other

    md5 = run("match", "--bank", bank, "--signal", "md5", "--json", films / "film.mp4").line
    assert "md5" in {match["type"] for match in md5["matches"]}
    table = run("match", "--bank", bank, *looked_for[2:]).out.splitlines()
    assert table[0].split()[-4:] == ["Frames", "here", "Frames", "there"]
    assert "5 of 5" in table[1]
    assert len(table) == 3

    remote = run("match", "--server", local.address, "--json", films / "part.mkv", **secret).line
    assert remote["items"][0] == {
        "item": part["items"][0]["item"],
        "query": {"found": 5, "frames": 5},
        "bank": None,
    }


def test_check_videos(run, films, tmp_path):
    item = tmp_path / "item.json"
    item.write_text(run("hash", "--variants", "standard", "--json", films / "film.mp4").out)
    line = run("check", "--json", films / "mirrored.webm", "--against", item).line
    assert line["found"] is True
    assert line["query"] == {"found": 4, "frames": 4}
    assert line["bank"] == {"found": 4, "frames": 10}
    told = run("check", films / "mirrored.webm", "--against", item).out
    assert "4 of the 10 frames of the original (40%)" in told
    assert "would not be found" in run("check", films / "other.mp4", "--against", item).out


def test_a_long_video_says_that_it_is_thinned(run, films, monkeypatch):
    monkeypatch.setattr(frame_selection, "PLAIN_FRAMES", 6)
    done = run("hash", "--json", "--no-sandbox", films / "film.mp4")
    assert done.line["every"] == 1.0
    assert "one frame was taken every 1 seconds rather than four a second" in done.err


def test_many_hashes_go_in_several_requests(run, local, films, photos, monkeypatch):
    monkeypatch.setattr(submission, "_AT_ONCE", 150)
    files = [films / "film.mp4", photos / "photo0.jpg", films / "other.mp4", photos / "photo1.jpg"]
    opened = submit(run, local, *YES, "--json", *files)
    assert opened.code == 0
    assert [item["item"] for item in opened.line["items"]] == [1, 2, 3, 4]
    assert [Path(item["file"]) for item in opened.line["items"]] == files
    status = run(
        *("status", opened.line["case"], "--server", local.address, "--json"),
        NCIIHASH_PASSPHRASE=opened.line["passphrase"],
    )
    counts = {item["item"]: item["signals"] for item in status.line["items"]}
    assert counts == {item["item"]: item["accepted"] for item in opened.line["items"]}


@pytest.mark.parametrize("end", [ServiceUnreachable("No connection."), KeyboardInterrupt()])
def test_a_case_that_could_not_be_filled_is_handed_over(run, local, photos, monkeypatch, end):
    def failing(*_):
        raise end

    monkeypatch.setattr(submission, "_AT_ONCE", 1)
    monkeypatch.setattr("nciihash.client.Client.add", failing)
    opened = submit(run, local, *YES, "--json", photos / "photo0.jpg", photos / "photo1.jpg")
    assert opened.code == 1
    assert opened.line["passphrase"]
    assert len(opened.line["items"]) == 1
    assert "Only the first 1 of 2 files" in opened.err


# --- folders -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    folder = tmp_path_factory.mktemp("collection")
    (folder / "sub").mkdir()
    for number in range(8):
        photo = scene(320, 240, seed=number + 200)
        photo.save(folder / f"{number}.jpg", quality=90)
    scene(320, 240, seed=200).save(folder / "sub" / "copy.jpg", quality=35)
    scene(160, 120, seed=201).save(folder / "sub" / "small.png")
    (folder / "sub" / "film.mp4").write_bytes(film(moving(24, seed=3)))
    (folder / "sub" / "shorter.mp4").write_bytes(film(moving(24, seed=3)[:20]))
    (folder / "notes.txt").write_text("no picture")
    (folder / "cut.jpg").write_bytes((folder / "1.jpg").read_bytes()[:2000])
    return folder


def _rows(path):
    if path.suffix == ".parquet":
        return pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()
    return [
        {"file": line["file"], **hashed}
        for line in map(json.loads, path.read_text().splitlines())
        for hashed in line["hashes"]
    ]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_folder_is_hashed_into_a_file(run, collection, tmp_path, ending):
    out = tmp_path / f"hashes.{ending}"
    done = run("hash", collection, "--recursive", "--fast", "--jobs", "2", "--out", out)
    assert (done.code, done.out) == (1, "")
    rows = _rows(out)
    alone = {row["file"]: row["value"] for row in rows}
    assert len(alone) == 12
    photo = str(collection / "3.jpg")
    assert alone[photo] == run("hash", "--json", photo).line["hashes"][0]["value"]
    film_rows = [row for row in rows if row["file"].endswith("film.mp4")]
    assert [row["time"] for row in film_rows] == pytest.approx([0, 0.5, 1, 1.5], abs=0.09)
    summary, reason, names = done.err.splitlines()[-3:]
    assert "12 files hashed in " in summary
    assert "1 are neither pictures nor videos that can be opened; 1 failed." in summary
    assert reason.startswith("  1 corrupt_file: ")
    assert names.strip() == str(collection / "cut.jpg")

    again = run("hash", collection, "--recursive", "--fast", "--out", out)
    assert "0 files hashed" in again.err
    assert "12 were done before" in again.err
    assert _rows(out) == rows


def test_an_interrupted_run_is_taken_up_again(collection, tmp_path):
    folder, out = tmp_path / "many", tmp_path / "hashes.parquet"
    folder.mkdir()
    photo = (collection / "0.jpg").read_bytes()
    for number in range(400):
        (folder / f"{number:03}.jpg").write_bytes(photo)
    command = [*PROGRAM, "hash", folder, "--recursive", "--jobs", "2", "--out", out]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    lines = out.with_name("hashes.parquet.jsonl")
    while not lines.exists() or not lines.stat().st_size:
        assert first.poll() is None
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGINT)
    _, told = first.communicate(timeout=60)
    assert first.returncode == 130
    assert "Run the same command again to go on" in told
    assert not out.exists()
    kept = lines.read_text().splitlines()
    assert 0 < len(kept) < 400
    assert [json.loads(line)["file"] for line in kept] == sorted(map(str, folder.iterdir()))[
        : len(kept)
    ]
    second = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"{400 - len(kept):,} files hashed" in second.stderr
    assert [row["file"] for row in _rows(out)] == sorted(map(str, folder.iterdir()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hashes.parquet", "many"]


def test_fast_goes_with_altered_copies_and_digests(run, photos, tmp_path):
    scene(700, 600).save(tmp_path / "large.jpg", quality=90)
    asked = ("--variants", "standard", "--signal", "md5", "--json", tmp_path / "large.jpg")
    [exact], [fast] = run("hash", *asked).lines, run("hash", "--fast", *asked).lines
    assert (exact.get("fast"), fast.get("fast")) == (None, True)
    assert len(fast["hashes"]) > 15
    assert exact["hashes"][-1] == fast["hashes"][-1]
    assert exact["hashes"][-1]["type"] == "md5"
    assert run("hash", "--out", "x.csv", photos / "photo0.jpg").code == 2
    assert run("hash", photos).code == 1  # a folder, but not --recursive


def test_a_folder_is_matched(run, local, collection, tmp_path):
    bank, out = tmp_path / "bank", tmp_path / "found.jsonl"
    submit(run, local, *YES, collection / "0.jpg", collection / "sub" / "film.mp4")
    secret = {"NCIIHASH_KEY": local.platform(), "NCIIHASH_SERVER": local.address}
    assert run("follow", "--bank", bank, "--once", **secret).code == 0
    done = run("match", "--bank", bank, "--recursive", collection)
    table = [line.split()[0] for line in done.out.splitlines()[1:]]
    near = {str(collection / name) for name in ("0.jpg", "sub/copy.jpg", "sub/film.mp4")}
    assert near <= set(table)
    assert str(collection / "5.jpg") not in table
    assert "12 files looked for in " in done.err

    done = run("match", "--bank", bank, "-r", "--fast", "--out", out, "--json", collection)
    assert [line["error"]["code"] for line in done.lines] == ["corrupt_file"]
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) == 12
    assert near <= {line["file"] for line in lines if line["matches"]}
    again = run("match", "--bank", bank, "-r", "--out", out, collection)
    assert "12 were done before" in again.err


def test_near_duplicates_are_grouped(run, collection):
    done = run("dedupe", "--json", "--jobs", "2", collection)
    groups = [
        {str(Path(member["file"]).relative_to(collection)) for member in line["files"]}
        for line in done.lines
        if "group" in line
    ]
    assert groups == [
        {"0.jpg", "sub/copy.jpg"},
        {"1.jpg", "sub/small.png"},
        {"sub/film.mp4", "sub/shorter.mp4"},
    ]
    assert done.code == 1  # one was cut off
    shown = run("dedupe", collection)
    assert [line.split()[0] for line in shown.out.splitlines()] == ["Group", *"112233"]
    assert "6 of them are in 3 groups of near-duplicates." in shown.err
    none = run("dedupe", "--within", "0", "--exact", collection / "2.jpg", collection / "3.jpg")
    assert (none.code, none.out) == (0, "")
