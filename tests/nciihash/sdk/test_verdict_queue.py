import asyncio
import json
import logging
import secrets
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time

import httpx
import pytest

from nciihash.client import PlatformClient
from nciihash.client.sans_io import RetryPolicy
from nciihash.errors import (
    InvalidRequest,
    QueueFull,
    QueueInvalid,
    ServiceRefused,
    ServiceUnreachable,
)
from nciihash.feed import Added
from nciihash.sdk.verdict_queue import VerdictQueue, VerdictSender
from nciihash.signals import Verdict
from nciihash.wire import VERDICTS_MAX
from support.local import random_item
from support.paths import ROOT

KEY = "nciik_thisisnotarealkeyatall"
SERVER = "https://example.org"
AT_ONCE = RetryPolicy(attempts=1, base=0.0, cap=0.0)
BLOCKED, NOT_BLOCKED, UNSURE = Verdict.BLOCKED, Verdict.NOT_BLOCKED, Verdict.UNSURE


def hex_id(number):
    return f"{number:032x}"


class Service:
    """A fake service: it records each idempotency key once, and the latest verdict on each id."""

    def __init__(self):
        self.requests = []  # the key and the verdicts of each
        self.verdicts = {}
        self.keys = {}
        self.before = lambda request: None  # may raise, or return another response
        self.after = lambda request: None
        self.lock = threading.Lock()

    def respond(self, request):
        with self.lock:
            return self._respond(request)

    def _respond(self, request):
        key, body = request.headers["idempotency-key"], request.content
        verdicts = {v["id"]: Verdict(v["verdict"]) for v in json.loads(body)["verdicts"]}
        self.requests.append((key, verdicts))
        if (response := self.before(request)) is not None:
            return response
        if key not in self.keys:
            self.keys[key] = body
            self.verdicts |= verdicts
        assert self.keys[key] == body
        if (response := self.after(request)) is not None:
            return response
        return httpx.Response(200, json={"recorded": len(verdicts), "unknown": 0})

    def transport(self):
        return httpx.MockTransport(self.respond)

    def client(self):
        return PlatformClient(SERVER, KEY, http=self.transport(), retry=AT_ONCE)


def lose(request):
    raise httpx.ReadError("x")


def problem(status, code):
    headers = {"content-type": "application/problem+json"}
    body = {"title": "No", "status": status, "code": code}
    return httpx.Response(status, json=body, headers=headers)


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "verdicts"


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_verdicts_are_sent_in_batches_and_removed(path, service):
    verdicts = {hex_id(n): BLOCKED for n in range(2 * VERDICTS_MAX + 5)}
    with VerdictQueue(path) as queue, service.client() as client:
        queue.add(verdicts)
        assert len(queue) == len(verdicts)
        reply = queue.send(client)
        assert (reply.recorded, reply.unknown, len(queue)) == (len(verdicts), 0, 0)
        assert queue.send(client).recorded == 0
    assert [len(batch) for _, batch in service.requests] == [VERDICTS_MAX, VERDICTS_MAX, 5]
    assert service.verdicts == verdicts


def test_only_the_latest_verdict_on_a_signal_is_sent(path, service):
    with VerdictQueue(path) as queue, service.client() as client:
        for verdict in (UNSURE, BLOCKED, NOT_BLOCKED):
            queue.add({hex_id(1): verdict})
        queue.add({hex_id(2): BLOCKED})
        assert len(queue) == 2
        queue.send(client)
    ((_, sent),) = service.requests
    assert sent == {hex_id(1): NOT_BLOCKED, hex_id(2): BLOCKED}


def test_a_batch_whose_response_is_lost_is_repeated_before_newer_verdicts(path, service):
    service.after = lose
    with VerdictQueue(path) as queue, service.client() as client:
        queue.add({hex_id(1): BLOCKED})
        with pytest.raises(ServiceUnreachable):
            queue.send(client)
        queue.add({hex_id(1): NOT_BLOCKED, hex_id(2): BLOCKED})
        assert len(queue) == 3
        with pytest.raises(ServiceUnreachable):
            queue.send(client)
    service.after = lambda request: None
    with VerdictQueue(path) as queue, service.client() as client:  # another run of the program
        queue.send(client)
        assert len(queue) == 0
    first, second, third, last = service.requests
    assert first == second == third
    assert first[1] == {hex_id(1): BLOCKED}
    assert last[1] == service.verdicts == {hex_id(1): NOT_BLOCKED, hex_id(2): BLOCKED}
    assert last[0] != first[0]


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (problem(401, "credentials_wrong"), ServiceRefused),
        (problem(403, "scope_missing"), ServiceRefused),
        (problem(503, "busy"), ServiceRefused),
    ],
)
def test_a_refusal_loses_no_verdict(path, service, response, error):
    service.before = lambda request: response
    with VerdictQueue(path) as queue, service.client() as client:
        queue.add({hex_id(1): BLOCKED})
        with pytest.raises(error):
            queue.send(client)
        assert len(queue) == 1
        service.before = lambda request: None
        assert queue.send(client).recorded == 1


def test_a_batch_that_another_version_serialized_differently_gets_a_new_key(path, service):
    conflicts = [problem(422, "idempotency_conflict")]
    service.before = lambda request: conflicts.pop() if conflicts else None
    with VerdictQueue(path) as queue, service.client() as client:
        queue.add({hex_id(1): BLOCKED})
        assert queue.send(client).recorded == 1
        assert len(queue) == 0
    (first, second) = service.requests
    assert first[0] != second[0]
    assert first[1] == second[1]


def test_a_full_queue_adds_none_of_the_verdicts(path, service):
    with VerdictQueue(path, max_waiting=3) as queue:
        queue.add({hex_id(n): BLOCKED for n in range(2)})
        with pytest.raises(QueueFull, match=r"contains 2 verdicts of at most 3\. Find out why"):
            queue.add({hex_id(n): BLOCKED for n in range(2, 4)})
        assert len(queue) == 2
        queue.add({hex_id(2): BLOCKED})
        queue.add({hex_id(2): NOT_BLOCKED})  # an id that is in the queue always fits
        with service.client() as client:
            queue.send(client)
        queue.add({hex_id(4): BLOCKED})
    assert service.verdicts[hex_id(2)] == NOT_BLOCKED
    with VerdictQueue(path, max_waiting=0) as queue:  # a limit that was lowered
        queue.add({hex_id(4): UNSURE})


def test_invalid_ids_and_verdicts_are_never_added(path):
    with VerdictQueue(path) as queue:
        with pytest.raises(InvalidRequest):
            queue.add({hex_id(1): BLOCKED, "K7Q4-29XD-MM3R": BLOCKED})
        with pytest.raises(ValueError, match="hidden"):
            queue.add({hex_id(1): "hidden"})
        assert len(queue) == 0


PROGRAM = """
import sys
from nciihash.signals import Verdict
from nciihash.sdk.verdict_queue import VerdictQueue

queue = VerdictQueue(sys.argv[1])
number = 0
while True:
    queue.add({f"{number:032x}": Verdict.BLOCKED})
    print(number, flush=True)
    number += 1
"""


def test_added_verdicts_survive_kill_9(path, service):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    for _ in range(20):
        assert process.stdout.readline()
    process.kill()
    added = [int(line) for line in process.stdout.read().split("\n") if line]
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    last = added[-1] if added else 19
    with VerdictQueue(path) as queue, service.client() as client:
        queue.send(client)
    assert set(service.verdicts) >= {hex_id(n) for n in range(last + 1)}


def test_every_commit_is_fsynced(path):
    full = 2  # the write-ahead log is fsynced at each commit
    with VerdictQueue(path) as queue:
        assert queue._file.number("PRAGMA synchronous") == full


def test_only_the_owner_can_read_the_files(path):
    with VerdictQueue(path) as queue:
        queue.add({hex_id(1): BLOCKED})
        files = list(path.parent.iterdir())
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_threads_and_processes_add_to_one_queue(path, service):
    with VerdictQueue(path) as one, VerdictQueue(path) as other:

        def add(queue, start):
            for number in range(start, start + 20):
                queue.add({hex_id(number): BLOCKED})

        threads = [
            threading.Thread(target=add, args=(queue, 100 * n))
            for n, queue in enumerate([one, other, one, other])
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(one) == len(other) == 80
        with service.client() as client:
            other.send(client)
        assert len(one) == 0
    assert len(service.verdicts) == 80


def test_two_senders_of_one_queue_send_each_batch_under_its_own_key(path, service):
    with VerdictQueue(path) as one, VerdictQueue(path) as other:
        one.add({hex_id(1): BLOCKED})
        first, second = one.batch(), other.batch()
        assert first == second
        one.done(first)
        one.add({hex_id(1): NOT_BLOCKED})
        newer = one.batch()
        other.done(second)  # late: it must not remove the newer one
        assert one.batch() == newer
        assert newer.verdicts == {hex_id(1): NOT_BLOCKED}


def test_foreign_damaged_and_newer_files_are_refused_and_unchanged(path):
    path.write_text("these are notes, and no database at all. " * 30)
    before = path.read_bytes()
    with pytest.raises(QueueInvalid):
        VerdictQueue(path)
    assert path.read_bytes() == before

    path.unlink()
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE notes (text)")
    database.close()
    with pytest.raises(QueueInvalid, match="not a queue of verdicts"):
        VerdictQueue(path)

    path.unlink()
    VerdictQueue(path).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(QueueInvalid, match="newer version"):
        VerdictQueue(path)


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        VerdictQueue(tmp_path / "nowhere" / "verdicts")


# --- the sender --------------------------------------------------------------------------------


def make_sender(queue, service, **options):
    options = {"interval": 0.01, "retry": AT_ONCE, "backoff": AT_ONCE} | options
    return VerdictSender(SERVER, KEY, queue, http=service.transport(), **options)


def test_a_sender_sends_new_verdicts_and_reports_errors(path, service):
    busy = threading.Event()
    service.before = lambda request: problem(503, "busy") if busy.is_set() else None
    with VerdictQueue(path) as queue, make_sender(queue, service) as sender:
        queue.add({hex_id(1): BLOCKED})
        wait_until(lambda: sender.health().recorded == 1)
        busy.set()
        queue.add({hex_id(2): BLOCKED})
        wait_until(lambda: sender.health().error is not None)
        assert sender.health().waiting == 1
        busy.clear()
        wait_until(lambda: sender.health().recorded == 2)
        assert (sender.health().waiting, sender.health().error) == (0, None)
    assert set(service.verdicts) == {hex_id(1), hex_id(2)}


def test_a_sender_logs_an_outage_once_and_nothing_identifying(path, service, caplog):
    caplog.set_level(logging.INFO, logger="nciihash.verdicts")
    failing, requests = threading.Event(), []

    def before(request):
        if failing.is_set():
            requests.append(request)
            return problem(503, "busy")
        return None

    service.before = before
    with VerdictQueue(path) as queue, make_sender(queue, service) as sender:
        queue.add({hex_id(1): BLOCKED})
        wait_until(lambda: sender.health().recorded == 1)
        failing.set()
        queue.add({hex_id(2): BLOCKED})
        wait_until(lambda: len(requests) > 3)
        failing.clear()
        wait_until(lambda: sender.health().recorded == 2)
    logged = [(r.levelno, r.getMessage().partition(":")[0]) for r in caplog.records]
    assert logged == [
        (logging.INFO, f"Sending the verdicts of {path}"),
        (logging.INFO, "All verdicts were sent"),
        (logging.WARNING, "Verdicts cannot be sent, and that is retried"),
        (logging.INFO, "All verdicts were sent"),
        (logging.INFO, f"Stopped sending the verdicts of {path}"),
    ]
    for secret in (KEY, hex_id(1), hex_id(2), "blocked"):
        assert secret not in caplog.text


def test_no_error_ends_a_sender(path, service):
    with VerdictQueue(path) as queue:
        failing, send = threading.Event(), queue.send

        def fail(client):
            if failing.is_set():
                raise LookupError(hex_id(1))
            return send(client)

        failing.set()
        queue.send = fail
        with make_sender(queue, service) as sender:
            queue.add({hex_id(1): BLOCKED})
            wait_until(lambda: sender.health().error is not None)
            assert "LookupError" in sender.health().error
            assert hex_id(1) not in sender.health().error
            failing.clear()
            wait_until(lambda: sender.health().recorded == 1)


def test_a_sender_in_asyncio(path, service):
    async def run():
        with VerdictQueue(path) as queue:
            async with make_sender(queue, service) as sender:
                queue.add({hex_id(1): BLOCKED})
                await asyncio.to_thread(wait_until, lambda: sender.health().recorded == 1)

    asyncio.run(run())
    assert service.verdicts == {hex_id(1): BLOCKED}


def test_a_wrong_key_does_not_end_a_sender_and_a_pause_ends_with_the_block(path, service):
    service.before = lambda request: problem(401, "credentials_wrong")
    hours = RetryPolicy(base=7200.0, cap=7200.0)
    with VerdictQueue(path) as queue:
        with make_sender(queue, service, backoff=hours) as sender:
            queue.add({hex_id(1): BLOCKED})
            wait_until(lambda: sender.health().error is not None)
            assert "does not accept this key" in sender.health().error
        assert len(queue) == 1


# --- against the real service ------------------------------------------------------------------


class LossyTransport(httpx.BaseTransport):
    """A transport that loses the first responses."""

    def __init__(self, losses):
        self.losses = losses
        self.real = httpx.HTTPTransport()

    def handle_request(self, request):
        response = self.real.handle_request(request)
        if self.losses:
            self.losses -= 1
            response.close()
            raise httpx.ReadError("x")
        return response

    def close(self):
        self.real.close()


def test_the_service_records_each_verdict_once_and_the_newest_counts(local, path):
    case = local.open(random_item())
    key = local.platform("feed,feedback")
    with PlatformClient(local.address, key) as client:
        entries, cursor = [], None
        while True:
            page = client.feed(cursor)
            entries += [entry for entry in page.entries if isinstance(entry, Added)]
            cursor = page.cursor
            if not page.more:
                break
    id = entries[-1].id
    transport = LossyTransport(losses=1)
    with VerdictQueue(path) as queue:
        queue.add({id: UNSURE, secrets.token_hex(16): BLOCKED})
        with PlatformClient(local.address, key, http=transport, retry=AT_ONCE) as client:
            with pytest.raises(ServiceUnreachable):
                queue.send(client)
            queue.add({id: BLOCKED})
        with VerdictSender(local.address, key, queue, interval=0.01) as sender:
            wait_until(lambda: len(queue) == 0 and sender.health().recorded == 2)
            assert sender.health().unknown == 1
    local.backdate_a_day()
    with local.survivor() as client:
        (status,) = client.status(*case).items
    shown = [v for platform in status.platforms for v, count in platform.verdicts.items() if count]
    assert shown == [BLOCKED]
