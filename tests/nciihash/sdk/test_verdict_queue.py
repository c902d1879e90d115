import asyncio
import json
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


def name(number):
    return f"{number:032x}"


class Service:
    """Takes feedback as the service does: each key once, and the latest verdict counts."""

    def __init__(self):
        self.requests = []  # the key and the verdicts of each
        self.verdicts = {}
        self.keys = {}
        self.before = lambda request: None  # raises, or gives an answer instead
        self.after = lambda request: None
        self.lock = threading.Lock()

    def answer(self, request):
        with self.lock:
            return self._answer(request)

    def _answer(self, request):
        key, body = request.headers["idempotency-key"], request.content
        given = {v["id"]: Verdict(v["verdict"]) for v in json.loads(body)["verdicts"]}
        self.requests.append((key, given))
        if (instead := self.before(request)) is not None:
            return instead
        if key not in self.keys:
            self.keys[key] = body
            self.verdicts |= given
        assert self.keys[key] == body
        if (instead := self.after(request)) is not None:
            return instead
        return httpx.Response(200, json={"recorded": len(given), "unknown": 0})

    def transport(self):
        return httpx.MockTransport(self.answer)

    def client(self):
        return PlatformClient(SERVER, KEY, http=self.transport(), retry=AT_ONCE)


def lost(request):
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


def until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_verdicts_are_sent_in_batches_and_forgotten(path, service):
    given = {name(n): BLOCKED for n in range(2 * VERDICTS_MAX + 5)}
    with VerdictQueue(path) as queue, service.client() as client:
        queue.add(given)
        assert len(queue) == len(given)
        taken = queue.send(client)
        assert (taken.recorded, taken.unknown, len(queue)) == (len(given), 0, 0)
        assert queue.send(client).recorded == 0
    assert [len(verdicts) for _, verdicts in service.requests] == [VERDICTS_MAX, VERDICTS_MAX, 5]
    assert service.verdicts == given


def test_the_latest_verdict_on_a_signal_is_sent_once(path, service):
    with VerdictQueue(path) as queue, service.client() as client:
        for verdict in (UNSURE, BLOCKED, NOT_BLOCKED):
            queue.add({name(1): verdict})
        queue.add({name(2): BLOCKED})
        assert len(queue) == 2
        queue.send(client)
    ((_, sent),) = service.requests
    assert sent == {name(1): NOT_BLOCKED, name(2): BLOCKED}


def test_a_batch_whose_answer_is_lost_is_repeated_as_it_was_before_anything_newer(path, service):
    service.after = lost
    with VerdictQueue(path) as queue, service.client() as client:
        queue.add({name(1): BLOCKED})
        with pytest.raises(ServiceUnreachable):
            queue.send(client)
        queue.add({name(1): NOT_BLOCKED, name(2): BLOCKED})
        assert len(queue) == 3
        with pytest.raises(ServiceUnreachable):
            queue.send(client)
    service.after = lambda request: None
    with VerdictQueue(path) as queue, service.client() as client:  # another run of the program
        queue.send(client)
        assert len(queue) == 0
    first, second, third, last = service.requests
    assert first == second == third
    assert first[1] == {name(1): BLOCKED}
    assert last[1] == service.verdicts == {name(1): NOT_BLOCKED, name(2): BLOCKED}
    assert last[0] != first[0]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem(401, "credentials_wrong"), ServiceRefused),
        (problem(403, "scope_missing"), ServiceRefused),
        (problem(503, "busy"), ServiceRefused),
    ],
)
def test_a_refusal_loses_nothing(path, service, answer, error):
    service.before = lambda request: answer
    with VerdictQueue(path) as queue, service.client() as client:
        queue.add({name(1): BLOCKED})
        with pytest.raises(error):
            queue.send(client)
        assert len(queue) == 1
        service.before = lambda request: None
        assert queue.send(client).recorded == 1


def test_a_batch_that_another_version_wrote_differently_gets_a_new_key(path, service):
    conflicts = [problem(422, "idempotency_conflict")]
    service.before = lambda request: conflicts.pop() if conflicts else None
    with VerdictQueue(path) as queue, service.client() as client:
        queue.add({name(1): BLOCKED})
        assert queue.send(client).recorded == 1
        assert len(queue) == 0
    (first, second) = service.requests
    assert first[0] != second[0]
    assert first[1] == second[1]


def test_a_full_queue_says_so_and_takes_nothing_of_it(path, service):
    with VerdictQueue(path, most=3) as queue:
        queue.add({name(n): BLOCKED for n in range(2)})
        with pytest.raises(QueueFull, match=r"2 verdicts wait in .*, and 3 may\. See why"):
            queue.add({name(n): BLOCKED for n in range(2, 4)})
        assert len(queue) == 2
        queue.add({name(2): BLOCKED})
        queue.add({name(2): NOT_BLOCKED})  # about one that waits there is always room
        with service.client() as client:
            queue.send(client)
        queue.add({name(4): BLOCKED})
    assert service.verdicts[name(2)] == NOT_BLOCKED
    with VerdictQueue(path, most=0) as queue:  # a limit that was lowered
        queue.add({name(4): UNSURE})


def test_what_is_no_id_is_refused_before_it_waits(path):
    with VerdictQueue(path) as queue:
        with pytest.raises(InvalidRequest):
            queue.add({name(1): BLOCKED, "K7Q4-29XD-MM3R": BLOCKED})
        with pytest.raises(ValueError, match="hidden"):
            queue.add({name(1): "hidden"})
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


def test_what_was_added_survives_kill_9(path, service):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    for _ in range(20):
        assert process.stdout.readline()
    process.kill()
    told = [int(line) for line in process.stdout.read().split("\n") if line]
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    last = told[-1] if told else 19
    with VerdictQueue(path) as queue, service.client() as client:
        queue.send(client)
    assert set(service.verdicts) >= {name(n) for n in range(last + 1)}


def test_each_change_is_on_the_disk_before_it_is_reported(path):
    with VerdictQueue(path) as queue:
        assert queue._number("PRAGMA synchronous") == 2  # FULL: the log is synced at each commit


def test_only_the_owner_reads_the_files(path):
    with VerdictQueue(path) as queue:
        queue.add({name(1): BLOCKED})
        files = list(path.parent.iterdir())
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_threads_and_processes_add_to_one_queue(path, service):
    with VerdictQueue(path) as one, VerdictQueue(path) as other:

        def add(queue, start):
            for number in range(start, start + 20):
                queue.add({name(number): BLOCKED})

        threads = [
            threading.Thread(target=add, args=(queue, 100 * place))
            for place, queue in enumerate([one, other, one, other])
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
        one.add({name(1): BLOCKED})
        first, second = one.batch(), other.batch()
        assert first == second
        one.done(first)
        one.add({name(1): NOT_BLOCKED})
        newer = one.batch()
        other.done(second)  # late: it must not take the newer one along
        assert one.batch() == newer
        assert newer.verdicts == {name(1): NOT_BLOCKED}


def test_foreign_damaged_and_newer_files_are_refused_and_left_alone(path):
    path.write_text("these are notes, and no database at all. " * 30)
    before = path.read_bytes()
    with pytest.raises(QueueInvalid):
        VerdictQueue(path)
    assert path.read_bytes() == before

    path.unlink()
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE notes (text)")
    database.close()
    with pytest.raises(QueueInvalid, match="no queue of verdicts"):
        VerdictQueue(path)

    path.unlink()
    VerdictQueue(path).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(QueueInvalid, match="newer version"):
        VerdictQueue(path)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        VerdictQueue(tmp_path / "nowhere" / "verdicts")


# --- the sender --------------------------------------------------------------------------------


def sender(queue, service, **options):
    options = {"every": 0.01, "retry": AT_ONCE, "pauses": AT_ONCE} | options
    return VerdictSender(SERVER, KEY, queue, http=service.transport(), **options)


def test_a_sender_sends_what_comes_and_tells_what_goes_wrong(path, service):
    away = threading.Event()
    service.before = lambda request: problem(503, "busy") if away.is_set() else None
    with VerdictQueue(path) as queue, sender(queue, service) as sending:
        queue.add({name(1): BLOCKED})
        until(lambda: sending.health().recorded == 1)
        away.set()
        queue.add({name(2): BLOCKED})
        until(lambda: sending.health().trouble is not None)
        assert sending.health().waiting == 1
        away.clear()
        until(lambda: sending.health().recorded == 2)
        assert (sending.health().waiting, sending.health().trouble) == (0, None)
    assert set(service.verdicts) == {name(1), name(2)}


def test_a_sender_in_asyncio(path, service):
    async def run():
        with VerdictQueue(path) as queue:
            async with sender(queue, service) as sending:
                queue.add({name(1): BLOCKED})
                await asyncio.to_thread(until, lambda: sending.health().recorded == 1)

    asyncio.run(run())
    assert service.verdicts == {name(1): BLOCKED}


def test_a_wrong_key_ends_no_sender_and_a_long_pause_ends_with_the_block(path, service):
    service.before = lambda request: problem(401, "credentials_wrong")
    hour = RetryPolicy(base=7200.0, cap=7200.0)
    with VerdictQueue(path) as queue:
        with sender(queue, service, pauses=hour) as sending:
            queue.add({name(1): BLOCKED})
            until(lambda: sending.health().trouble is not None)
            assert "does not accept this key" in sending.health().trouble
        assert len(queue) == 1


# --- the real service --------------------------------------------------------------------------


class Forgetful(httpx.BaseTransport):
    """Carries requests to the service, and loses so many answers."""

    def __init__(self, losses):
        self.losses = losses
        self.carried = 0
        self.real = httpx.HTTPTransport()

    def handle_request(self, request):
        response = self.real.handle_request(request)
        self.carried += 1
        if self.losses:
            self.losses -= 1
            response.close()
            raise httpx.ReadError("x")
        return response

    def close(self):
        self.real.close()


def test_the_service_takes_each_verdict_and_the_newest_counts(local, path):
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
    way = Forgetful(losses=1)
    with VerdictQueue(path) as queue:
        queue.add({id: UNSURE, secrets.token_hex(16): BLOCKED})
        with PlatformClient(local.address, key, http=way, retry=AT_ONCE) as client:
            with pytest.raises(ServiceUnreachable):
                queue.send(client)
            queue.add({id: BLOCKED})
        with VerdictSender(local.address, key, queue, every=0.01) as sending:
            until(lambda: len(queue) == 0 and sending.health().recorded == 2)
            assert sending.health().unknown == 1
    local.pass_midnight()
    with local.survivor() as client:
        (seen,) = client.status(*case).items
    given = [v for platform in seen.platforms for v, count in platform.verdicts.items() if count]
    assert given == [BLOCKED]
