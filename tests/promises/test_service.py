"""The service's promises, tested on a real process over HTTP."""

import http.client
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from sqlalchemy import create_engine

from support.killing import KillLoop
from support.service_process import ServiceProcess, bearer, command
from support.serving import credentials, item, opening, pdq


@pytest.fixture
def serve(tmp_path, database):
    running = []

    def start(**options):
        running.append(ServiceProcess(tmp_path, database, **options))
        return running[-1]

    yield start
    for process in running:
        process.end(signal.SIGKILL)


def test_the_server_cannot_load_a_decoder(tmp_path):
    """Promise 2: the serving process refuses to import a decoder, even if one is installed."""
    code = """
import sys
from clearinghouse.http.import_blocker import DECODERS, block_decoders
import clearinghouse.app, clearinghouse.cli.app, clearinghouse.serve
assert not DECODERS & set(sys.modules), DECODERS & set(sys.modules)
import importlib.util
assert importlib.util.find_spec("PIL"), "Pillow is installed here, so the blocker refuses it"
block_decoders()
for name in sorted(DECODERS) + ["PIL.Image", "nciihash.hashing.image"]:
    try:
        __import__(name)
    except ImportError as error:
        assert "must not be loaded by the service" in str(error), error
    else:
        raise SystemExit(f"{name} was imported")
print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("refused\n", 0), done.stderr


def test_serve_installs_the_blocker(tmp_path):
    code = """
import sys, uvicorn
from clearinghouse.serve import serve
from clearinghouse.settings import Settings
uvicorn.Server.run = lambda self: __import__("PIL")
try:
    serve(Settings(database="sqlite:///" + sys.argv[1]), host="127.0.0.1", port=0, ready=print)
except ImportError as error:
    print(type(error).__name__)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "db"], capture_output=True, text=True, check=False
    )
    assert done.stdout == "DecoderRefused\n", done.stderr


def test_nothing_about_a_person_is_logged(serve, database, tmp_path):
    """Promise 3: no address, path, number, value, passphrase or key, not even in errors."""
    process = serve(forked=False)
    platform, values = bearer(process.platform()), [pdq() for _ in range(3)]
    reply = process.client.post("/v1/cases", json=opening(*(item(v) for v in values)))
    case = reply.json()
    headers = credentials(case["case"], case["passphrase"])
    ask = process.client
    ask.get("/v1/case", headers=headers)
    ask.get("/v1/case", headers=credentials(case["case"], "a wrong guess"))
    ask.post("/v1/match", json={"type": "pdq", "values": values}, headers=platform)
    ask.post("/v1/match", json={"type": "pdq", "values": ["secret-value"]}, headers=platform)
    ask.post("/v1/cases", json=opening(file_name="secret-name.jpg"))
    ask.get("/secret-path", params={"q": "secret-query"})
    ask.post("/v1/cases", content=b"\xff\xd8 secret-pixels", headers={"Content-Type": "image/jpeg"})
    # an internal error while values are processed: a table is missing
    engine = create_engine(database)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE signals RENAME TO elsewhere")
    engine.dispose()
    broken = ask.post("/v1/cases", json=opening(item(values[0])))
    assert broken.json()["code"] == "internal_error"
    with socket.create_connection(("127.0.0.1", ask.base_url.port)) as raw:
        raw.sendall(b"secret nonsense\r\n\r\n")
        raw.recv(1000)
    process.end()
    log = (tmp_path / "log.txt").read_text()
    assert "sqlalchemy.exc" in log, "the error was logged, so that the following checks see it"
    assert "Invalid HTTP request" in log
    output = log + broken.text
    for secret in (
        "127.0.0.1",
        "secret",
        "/v1/",
        "wrong guess",
        case["case"],
        case["passphrase"],
        platform["Authorization"].split()[1],
        *values,
    ):
        assert secret not in output, output


def test_the_log_shows_an_error_without_its_message():
    import logging

    from clearinghouse.http.redacting_log import RedactingFormatter

    def inner():
        raise ValueError("secret value")

    try:
        try:
            inner()
        except ValueError as error:
            raise RuntimeError("secret cause") from error
    except RuntimeError:
        record = logging.LogRecord(
            "clearinghouse.x", 40, "f", 1, "A fixed sentence.", (), sys.exc_info()
        )
    text = RedactingFormatter("%(message)s").format(record)
    assert "A fixed sentence." in text
    assert "builtins.RuntimeError" in text
    assert "builtins.ValueError" in text
    assert " in inner" in text
    assert "secret" not in text
    for name, logged in (("uvicorn.error", "first line"), ("asyncio", "(withheld)")):
        record = logging.LogRecord(name, 40, "f", 1, "first line\nsecret %s", ("secret",), None)
        assert RedactingFormatter("%(message)s").format(record) == logged


def test_acknowledged_writes_survive_kill_9(tmp_path, database):
    """Promise 5, first half: the service is killed a few times while writers are active.

    `benchmarks/service/kills.py` does so hundreds of times.
    """
    result = KillLoop(tmp_path, database).run(kills=4)
    assert result.acknowledged > 20
    assert (result.lost, result.doubled) == (0, 0), result


@pytest.mark.sqlite
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits another process under Linux")
def test_a_full_disk_loses_nothing_and_is_reported(serve, tmp_path):
    process = serve()
    platform, stored = bearer(process.platform()), []
    largest = max(path.stat().st_size for path in tmp_path.iterdir() if path.is_file())
    number = resource.RLIMIT_FSIZE
    soft, hard = resource.prlimit(process.process.pid, number)
    resource.prlimit(process.process.pid, number, (largest + 300_000, hard))
    while True:
        assert len(stored) < 1000, "the disk is never full"
        value, key = pdq(), {"Idempotency-Key": os.urandom(16).hex()}
        reply = process.client.post("/v1/cases", json=opening(item(value)), headers=key)
        if reply.status_code != 201:
            break
        stored.append(value)
    assert (reply.status_code, reply.json()["code"]) == (503, "database_away")
    assert int(reply.headers["retry-after"]) > 0
    assert stored
    feed = {"limit": 10_000}
    page = process.client.get("/v1/feed", params=feed, headers=platform).json()
    assert [e["value"] for e in page["entries"]] == stored, "reading still works"
    resource.prlimit(process.process.pid, number, (soft, hard))
    reply = process.client.post("/v1/cases", json=opening(item(value)), headers=key)
    assert reply.status_code == 201
    process.end(signal.SIGKILL)
    page = serve().client.get("/v1/feed", params=feed, headers=platform).json()
    assert [e["value"] for e in page["entries"]] == [*stored, value]


WRITE_RECORDER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include <sys/socket.h>
#include <sys/types.h>

/* Records, in order, when a file is synced, when the database's write-ahead log is written, and
   when a response 200 or 201 is sent. */
static void note(const char *what) {
    static int fd = -1;
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    if (fd < 0) fd = open(getenv("WATCH_TO"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    real(fd, what, strlen(what));
}
int fsync(int fd) {
    int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
    int result = real(fd);
    note("sync\n");
    return result;
}
int fdatasync(int fd) {
    int (*real)(int) = dlsym(RTLD_NEXT, "fdatasync");
    int result = real(fd);
    note("sync\n");
    return result;
}
static void wrote(int fd) {
    char link[64], path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n > 4 && !memcmp(path + n - 4, "-wal", 4)) note("journal\n");
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    ssize_t (*real)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pwrite64");
    wrote(fd);
    return real(fd, data, size, at);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, "pwrite");
    wrote(fd);
    return real(fd, data, size, at);
}
ssize_t send(int fd, const void *data, size_t size, int flags) {
    ssize_t (*real)(int, const void *, size_t, int) = dlsym(RTLD_NEXT, "send");
    if (size > 12 && !memcmp(data, "HTTP/1.1 201", 12)) note("201\n");
    if (size > 12 && !memcmp(data, "HTTP/1.1 200", 12)) note("200\n");
    return real(fd, data, size, flags);
}
"""


@pytest.mark.sqlite
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="watches libc under Linux")
def test_a_write_is_on_disk_before_its_response_is_sent(serve, tmp_path):
    """Promise 5, second half: fsync returns before the response. kill -9 cannot show that."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "the tests need a C compiler, as the README says"
    source, library, events = (tmp_path / name for name in ("w.c", "w.so", "events"))
    source.write_text(WRITE_RECORDER)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    process = serve(forked=False, LD_PRELOAD=str(library), WATCH_TO=str(events))
    post = process.client.post
    for _ in range(5):
        case = post("/v1/cases", json=opening()).json()
        headers = credentials(case["case"], case["passphrase"])
        assert post("/v1/case/items", json={"items": [item(pdq())]}, headers=headers).is_success
        assert process.client.delete("/v1/case", headers=headers).is_success
    process.end()
    recorded = events.read_text().split()
    responses = [event for event in recorded if event in {"200", "201"}]
    assert len(responses) >= 15
    assert "journal" in recorded
    written = None
    for event in recorded:
        if event == "journal":
            written = "not yet synced"
        elif event == "sync" and written:
            written = "synced"
        elif event == "201":
            assert written == "synced", "a response was sent before its write was on disk"
            written = None


def test_sigterm_ends_waiting_requests_at_once(serve):
    process = serve()
    platform = bearer(process.platform())
    cursor = process.client.get("/v1/feed", headers=platform).json()["cursor"]
    head = f"GET /v1/feed?wait=30&cursor={cursor} HTTP/1.1\r\nHost: localhost\r\n"
    head += f"Authorization: {platform['Authorization']}\r\n\r\n"
    port = process.client.base_url.port
    waiters = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(20)]
    for waiter in waiters:
        waiter.sendall(head.encode())
    # two requests through the same queues: after them, all those sent before are being served
    for _ in range(2):
        time.sleep(0.5)
        process.client.get("/v1/feed", headers=platform).raise_for_status()
    process.process.send_signal(signal.SIGTERM)
    assert process.process.wait(timeout=25) in {0, -signal.SIGTERM}
    for waiter in waiters:
        response = http.client.HTTPResponse(waiter)
        response.begin()
        assert response.status == 200, "each got an empty page"
        assert json.loads(response.read())["entries"] == []
        response.close()
        waiter.close()


def test_the_operators_commands_print_json(tmp_path):
    database = f"sqlite:///{tmp_path}/db.sqlite3"

    def run(*arguments, code=0):
        return command(*arguments, database=database, code=code)

    added = json.loads(run("platform", "add", "A & B", "--scope", "feed, match", "--json").stdout)
    assert set(added) == {"platform", "key"}
    assert added["key"] not in run("platform", "list").stdout
    [row] = json.loads(run("platform", "list", "--json").stdout)
    assert (row["platform"], row["state"], row["scopes"]) == ("A & B", "valid", ["feed", "match"])
    twice = run("platform", "add", "A & B", code=2)
    assert twice.stderr.startswith("clearinghouse: There is already a platform with this name.")
    run("platform", "add", "C", "--scope", "everything", code=2)
    run("platform", "add", "", code=2)
    run("platform", "revoke", "Nobody", code=2)
    assert json.loads(run("platform", "rotate", "A & B", "--json").stdout)["key"] != added["key"]
    assert json.loads(run("platform", "revoke", "A & B", "--json").stdout)["revoked"] == 2
    assert "revoked" in run("platform", "list").stdout
    assert run("platform", "check").stdout == "No alerts.\n"
    assert json.loads(run("platform", "check", "--json").stdout) == []
    run("migrate")
    assert json.loads(run("stats", "--json").stdout)["platforms"] == 1
    assert "cases open" in run("stats").stdout
    purged = json.loads(run("purge", "--json").stdout)
    assert purged["expired"] == purged["refused"] == 0
    run("purge")
