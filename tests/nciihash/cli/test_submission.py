"""`submit` against a real service: questions, requests, lost replies and Ctrl-C."""

import os
import signal
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from nciihash.client import transport
from nciihash.errors import ServiceUnreachable
from nciihash.hashing.hasher import hash_file
from nciihash.signals import SignalType
from support.command_line import NCIIHASH, YES, submit

# --- questions and messages ---------------------------------------------------------------------


def test_submit_without_questions(run, local, photos, bad_files):
    files = [photos / "photo0.jpg", photos / "plain.png", photos / "photo1.jpg"]
    result = submit(run, local, *YES, "--json", *files, bad_files[0])
    assert result.code == 1
    plain, cut, opened = result.lines
    assert plain == {"file": str(files[1]), "error": plain["error"]}
    assert plain["error"]["code"] == "too_plain"
    assert cut["error"]["code"] == "corrupt_file"
    assert len(opened["passphrase"].split()) == 6
    counts = [len(hash_file(file, variants="standard").hashes) for file in (files[0], files[2])]
    assert min(counts) > 15
    assert [(i["item"], i["file"], i["accepted"]) for i in opened["items"]] == [
        (1, str(files[0]), counts[0]),
        (2, str(files[2]), counts[1]),
    ]


def test_the_status_after_submit(run, local, photos):
    arguments = (*YES, "--json", photos / "photo0.jpg")
    for more, signals in (((), range(16, 28)), (("--variants", "none"), [1])):
        opened = submit(run, local, *arguments, *more).line
        with local.survivor() as client:
            status = client.status(opened["case"], opened["passphrase"])
        assert status.items[0].signals in signals
    assert status.reason == "precaution"


def test_submit_asks_first(run, local, photos):
    result = submit(run, local, photos / "photo0.jpg", answers="maybe\nyes\ny\n7\n2\nyes\n")
    assert result.code == 0
    for question in (
        "18 or older",
        "Are you the person",
        "What happened",
        "To be sent",
        "Send this",
    ):
        assert question in result.err
    assert "somebody has shared them" in result.err
    assert hash_file(photos / "photo0.jpg").hashes[0].signal.hex not in result.out + result.err
    case = result.out.split("Case number")[1].split()[0]
    passphrase = result.out.split("Passphrase")[1].splitlines()[0].strip()
    with local.survivor() as client:
        assert client.status(case, passphrase).reason == "shared"
    assert f"nciihash status {case}" in result.out


def test_the_hashes_are_shown_on_request(run, local, photos):
    result = submit(run, local, *YES, "--show-hashes", photos / "photo0.jpg")
    assert hash_file(photos / "photo0.jpg").hashes[0].signal.hex in result.err


@pytest.fixture
def nothing_is_hashed_or_sent(monkeypatch):
    def fail(*args, **options):
        raise AssertionError("this should not have been reached")

    monkeypatch.setattr("nciihash.cli.submission.preparation.hash_files", fail)
    monkeypatch.setattr("nciihash.client.Client.open_case", fail)


@pytest.mark.usefixtures("nothing_is_hashed_or_sent")
def test_no_file_is_opened_for_minors(run, local, photos):
    result = submit(run, local, photos / "photo0.jpg", answers="no\n")
    assert result.code == 1
    assert "Take It Down" in result.err
    assert "Report Remove" in result.err
    assert "do not copy" in result.err


@pytest.mark.usefixtures("nothing_is_hashed_or_sent")
def test_no_file_is_opened_for_pictures_of_somebody_else(run, local, photos):
    result = submit(run, local, photos / "photo0.jpg", answers="yes\nno\n")
    assert result.code == 1
    assert "the choice is theirs" in result.err


@pytest.mark.usefixtures("nothing_is_hashed_or_sent")
@pytest.mark.parametrize("answers", ["", "yes\n", "yes\nyes\n"])
def test_an_unanswered_question_ends_the_command(run, local, photos, answers):
    result = submit(run, local, photos / "photo0.jpg", answers=answers)
    assert (result.code, result.out) == (2, "")


def test_nothing_is_sent_after_a_no_at_the_end(run, local, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("nciihash.client.Client.open_case", None)
    receipt = tmp_path / "receipt"
    result = submit(
        run, local, photos / "photo0.jpg", "--receipt", receipt, answers="y\ny\n1\nno\n"
    )
    assert (result.code, result.out) == (0, "")
    assert "Nothing was sent" in result.err
    assert not receipt.exists()


@pytest.mark.usefixtures("nothing_is_hashed_or_sent")
def test_more_than_200_files(run, local, photos):
    result = submit(run, local, *YES, *[photos / "photo0.jpg"] * 201)
    assert result.code == 2
    assert "at most 200" in " ".join(result.err.split())


def test_only_plain_pictures(run, local, photos, monkeypatch):
    monkeypatch.setattr("nciihash.client.Client.open_case", None)
    result = submit(run, local, *YES, "--json", photos / "plain.png", photos / "stripes.png")
    assert result.code == 1
    assert [line["error"]["code"] for line in result.lines] == ["too_plain"] * 2
    plain, stripes = (line["error"]["message"] for line in result.lines)
    assert "too plain" in plain
    assert "too regular" in stripes
    assert "plain" not in stripes
    assert "No case was opened" in result.err


@pytest.mark.parametrize("type", [SignalType.MD5, SignalType.SHA256])
def test_a_warning_precedes_an_exact_hash(run, local, photos, type):
    result = submit(run, local, photos / "photo0.jpg", "--signal", type, answers="y\ny\n1\nno\n")
    assert "identifies this very file" in result.err.split("Send this now?")[0]
    without = submit(run, local, photos / "photo0.jpg", answers="y\ny\n1\nno\n")
    assert "identifies" not in without.err


def test_a_note_on_further_pictures_comes_before_the_last_question(run, local, multi_picture_files):
    result = submit(run, local, "--no-sandbox", multi_picture_files[0], answers="y\ny\n1\nno\n")
    assert "only the first of the 3 pictures" in result.err.split("Send this now?")[0]


def test_the_explanation_is_true(run, local, photos):
    result = submit(run, local, *YES, "--no-sandbox", photos / "photo0.jpg")
    assert "sees your network address while you are connected" in result.err
    assert "anything about you" not in result.err
    assert "remove them within 48 hours" in " ".join(result.out.split())
    assert "answered" not in result.out


# --- requests -------------------------------------------------------------------------------


def test_many_hashes_are_sent_in_several_requests(run, local, videos, photos, monkeypatch):
    monkeypatch.setattr("nciihash.wire.REQUEST_SIGNALS_MAX", 50)  # the videos have more
    files = [
        videos / "video.mp4",
        photos / "photo0.jpg",
        videos / "other.mp4",
        photos / "photo1.jpg",
    ]
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
def test_the_credentials_of_a_partly_filled_case_are_shown(run, local, photos, monkeypatch, end):
    def failing(*_, **_options):
        raise end

    monkeypatch.setattr("nciihash.wire.REQUEST_SIGNALS_MAX", 30)
    monkeypatch.setattr("nciihash.client.Client._add", failing)
    opened = submit(run, local, *YES, "--json", photos / "photo0.jpg", photos / "photo1.jpg")
    assert opened.code == 1
    assert opened.line["passphrase"]
    assert len(opened.line["items"]) == 1
    assert "Only the first 1 of 2 files" in opened.err


# --- lost replies ----------------------------------------------------------------------


class LossyProxy(ThreadingHTTPServer):
    """Forwards requests to a service, and drops the next `lose` replies."""

    def __init__(self, upstream):
        self.upstream = upstream
        self.lose = 0
        self.keys = []
        super().__init__(("127.0.0.1", 0), _Forwarding)

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Forwarding(BaseHTTPRequestHandler):
    server: LossyProxy

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.keys.append(self.headers["idempotency-key"])
        headers = {n: self.headers[n] for n in ("content-type", "idempotency-key")}
        reply = httpx.post(self.server.upstream + self.path, content=body, headers=headers)
        if self.server.lose:
            self.server.lose -= 1
            self.close_connection = True
            return
        self.send_response(reply.status_code)
        self.send_header("Content-Type", reply.headers["content-type"])
        self.send_header("Content-Length", str(len(reply.content)))
        self.end_headers()
        self.wfile.write(reply.content)

    def log_message(self, *args):
        pass


@pytest.fixture
def lossy(local, monkeypatch):
    monkeypatch.setattr(transport.RetryPolicy, "pause", lambda self, attempt: 0.0)
    with LossyProxy(local.address) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_lost_reply_is_fetched_by_repeating_the_request(run, lossy, photos, platform):
    lossy.lose = 3
    photo_signal = hash_file(photos / "photo2.jpg").hashes[0].signal

    def items():
        return {hit.item for hit in platform.match([photo_signal])[0]}

    before = items()
    result = run("submit", "--server", lossy.address, *YES, "--json", photos / "photo2.jpg")
    assert result.code == 0
    assert len(lossy.keys) == 4
    assert len(set(lossy.keys)) == 1
    while (after := items()) == before:
        pass
    assert len(after) == len(before) + 1


def test_without_a_reply_the_message_says_that_a_case_may_be_open(run, lossy, photos, tmp_path):
    lossy.lose = 99
    receipt = tmp_path / "receipt"
    result = run(
        *("submit", "--server", lossy.address, *YES, "--json", photos / "photo2.jpg"),
        *("--receipt", receipt),
    )
    assert result.code == 3
    assert result.line["error"]["code"] == "service_unreachable"
    assert "not known whether the case was opened" in result.err
    assert not receipt.exists()


def test_a_retry_does_not_open_a_second_case(run, lossy, photos):
    lossy.lose = 6
    result = run(
        *("submit", "--server", lossy.address, photos / "photo2.jpg"),
        answers="y\ny\n4\ny\ny\n",
    )
    assert result.code == 0
    assert "cannot open a second case" in result.err
    assert "Passphrase" in result.out
    assert len(set(lossy.keys)) == 1


def test_a_failed_retry_does_not_settle_the_first_call(run, lossy, photos, monkeypatch):
    lossy.lose = 6  # the whole first call: it is carried out, and its replies are lost
    run_call = transport.Transport.run
    calls = []

    def call(self, request, **options):
        calls.append(request)
        if len(calls) == 2:
            raise ServiceUnreachable("No connection.")
        return run_call(self, request, **options)

    monkeypatch.setattr(transport.Transport, "run", call)
    result = run(
        *("submit", "--server", lossy.address, "--no-sandbox", photos / "photo2.jpg"),
        answers="y\ny\n4\ny\ny\nno\n",
    )
    assert result.code == 3
    assert len(calls) == 2
    assert "not known whether the case was opened" in result.err
    assert "No case was opened" not in result.err


def test_a_service_that_cannot_be_reached(run, photos, monkeypatch):
    monkeypatch.setattr(transport.RetryPolicy, "pause", lambda self, attempt: 0.0)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    result = run("submit", "--server", address, *YES, photos / "photo0.jpg")
    assert result.code == 3
    assert "No case was opened" in result.err
    assert "may" not in result.err.split("No case was opened")[1].split("nciihash:")[0]


# --- Ctrl-C -------------------------------------------------------------------------------------


def test_ctrl_c_at_a_question_ends_with_130(photos):
    process = subprocess.Popen(
        [*NCIIHASH, "submit", "--server", "https://example.org", str(photos / "photo0.jpg")],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    output = b""
    while b"[yes/no]" not in output:
        output += os.read(process.stderr.fileno(), 1000)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert b"Nothing was sent. No case was opened." in errors


@pytest.mark.parametrize("listening", [False, True])
def test_ctrl_c_while_sending_says_whether_a_case_may_be_open(photos, listening):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        if not listening:
            server.close()
        process = subprocess.Popen(
            [*NCIIHASH, "submit", "--server", address, *YES, "--no-sandbox", photos / "photo0.jpg"],
            stderr=subprocess.PIPE,
        )
        if listening:
            connection, _ = server.accept()
            assert connection.recv(10)
        else:
            output = b""
            while b"withdraw at any time" not in output:
                output += os.read(process.stderr.fileno(), 1000)
            time.sleep(1)  # a pause between attempts, all of which are refused
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
        if listening:
            connection.close()
    assert process.returncode == 130
    assert (b"not known whether" in errors) == listening
    assert (b"No case was opened" in errors) == (not listening)
