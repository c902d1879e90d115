import asyncio
import secrets
import socket
import threading
import time
from dataclasses import replace

import httpx
import pytest

from nciihash.bank import Bank
from nciihash.bank.journal import Journal
from nciihash.client.sans_io import RetryPolicy
from nciihash.errors import BankError, BankLocked, InvalidRequest, ServiceRefused
from nciihash.feed import Removed
from nciihash.sdk.follower import Follower, VeiledFollower
from nciihash.sdk.veiled import keep_veil, kept_veil
from nciihash.signals import Band, SignalType
from nciihash.veil import Veil
from nciihash.wire.veil import VeilReply
from support.local import random_item
from support.written_feed import AT_ONCE, KEY, Log, added, name, problem

NEVER = RetryPolicy(total=3600.0, answer=3600.0, base=3600.0, cap=3600.0)


class Live(Log):
    """A feed that holds an answer back for a moment when nothing is new."""

    def answer(self, request):
        answer = super().answer(request)
        if answer.json().get("entries") == []:
            time.sleep(0.01)
        return answer

    def follower(self, path, **options):
        options = {"retry": AT_ONCE, "pauses": AT_ONCE, "repairs": AT_ONCE} | options
        return Follower(
            "https://example.org", KEY, path, http=httpx.MockTransport(self.answer), **options
        )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bank"


def until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def ids(found):
    return [[match.id for match in matches] for matches in found]


def test_the_bank_follows_and_answers_meanwhile(path):
    log = Live(added(0), added(1))
    signals = [added(n).signal for n in range(3)]
    with log.follower(path) as follower:
        assert follower.ready()
        assert ids(follower.query(signals)) == [[name(0)], [name(1)], []]
        log.entries += [Removed(name(0)), added(2)]
        until(lambda: follower.bank.entry(name(2)) is not None)
        assert ids(follower.query(signals)) == [[], [name(1)], [name(2)]]
        until(lambda: log.acknowledged[-1] == 4)
        health = follower.health()
        assert (health.signals, health.rebuilding, health.trouble) == (2, False, None)
        assert health.age >= 0
    with Bank.read(path) as bank:
        assert {entry.id for entry in bank} == {name(1), name(2)}
    with log.follower(path) as again:  # its lock was given back
        assert again.ready()


def test_an_expired_cursor_swaps_banks_and_no_query_waits_or_sees_a_half(path):
    old, new = range(60), range(40, 100)
    log = Live(*(added(n) for n in old))
    signals = [added(n).signal for n in range(100)]
    whole = {
        which: [[name(n)] if n in numbers else [] for n in range(100)]
        for which, numbers in (("old", old), ("new", new))
    }
    held_back, go_on = threading.Event(), threading.Event()

    def hold(request):
        if request.method == "GET" and "cursor" not in request.url.params and log.epoch == 2:
            held_back.set()
            go_on.wait()

    log.before = hold
    seen, wrong, over = set(), [], threading.Event()

    def ask(follower):
        while not over.is_set():
            found = ids(follower.query(signals))
            which = [name for name, answer in whole.items() if found == answer]
            seen.update(which)
            if not which:
                wrong.append(found)

    with log.follower(path) as follower:
        assert follower.ready()
        askers = [threading.Thread(target=ask, args=(follower,)) for _ in range(3)]
        try:
            for asker in askers:
                asker.start()
            log.epoch = 2  # first: who asks between the two is held until both are there
            log.entries = [added(n) for n in new]
            held_back.wait()
            assert follower.health().rebuilding
            assert not follower.health().current
            assert ids(follower.query(signals)) == whole["old"]
            go_on.set()
            until(lambda: ids(follower.query(signals)) == whole["new"])
            until(lambda: "new" in seen)
        finally:
            go_on.set()
            over.set()
            for asker in askers:
                asker.join()
        until(lambda: not follower.health().rebuilding)
    assert wrong == []
    assert seen == {"old", "new"}


def test_trouble_is_told_while_the_bank_goes_on_answering(path):
    log = Live(added(0))
    now = [1000.0]
    with log.follower(path, clock=lambda: now[0]) as follower:
        assert follower.ready()
        log.before = lambda request: problem(503, "busy")
        until(lambda: follower.health().trouble is not None)
        now[0] += 500
        assert follower.health().age == 500
        assert ids(follower.query([added(0).signal])) == [[name(0)]]
        log.before = lambda request: None
        until(lambda: follower.health().age == 0)
        assert follower.health().trouble is None


def test_a_key_that_is_refused_ends_no_follower(path):
    log = Live(added(0))
    log.before = lambda request: problem(401, "credentials_wrong")
    with log.follower(path) as follower:
        until(lambda: follower.health().trouble is not None)
        assert "does not accept this key" in follower.health().trouble
        assert follower.health().age is None
        assert not follower.ready(0)
        log.before = lambda request: None
        assert follower.ready()


def test_a_disk_that_failed_is_tried_again(path, monkeypatch):
    log = Live(added(0))
    append, failures = Journal.append, [OSError(28, "No space left on device")] * 2

    def fail(self, payload):
        if failures:
            raise failures.pop()
        append(self, payload)

    with log.follower(path) as follower:
        assert follower.ready()
        monkeypatch.setattr(Journal, "append", fail)
        log.entries.append(added(1))
        until(lambda: name(1) in follower.bank)
        until(lambda: follower.health().current)
        assert ids(follower.query([added(0).signal])) == [[name(0)]]
    assert failures == []
    with Bank.read(path) as bank:
        assert len(bank) == 2


def test_what_nobody_foresaw_is_told_without_its_words(path):
    log = Live(added(0))

    def fail(request):
        raise ZeroDivisionError(KEY)

    log.before = fail
    with log.follower(path) as follower:
        until(lambda: follower.health().trouble is not None)
        assert "ZeroDivisionError" in follower.health().trouble
        assert KEY not in follower.health().trouble


def test_the_block_ends_although_the_service_is_silent(path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Follower(server, KEY, path, retry=NEVER) as follower:
            connection, _ = silent.accept()
            assert connection.recv(100).startswith(b"GET /v1/feed")
            waiting = threading.Thread(target=follower.ready)
            waiting.start()
        waiting.join()  # it was waiting for a bank that will not be filled
        connection.close()
    Bank.open(path).close()


def test_the_block_ends_in_a_pause(path):
    log = Live()
    log.before = lambda request: problem(401, "credentials_wrong")
    with log.follower(path, repairs=NEVER) as follower:
        until(lambda: follower.health().trouble is not None)


def test_what_can_fail_at_the_beginning_fails_there(path):
    log = Live()
    follower = log.follower(path)
    with pytest.raises(BankError, match="`with` block"):
        follower.query([])
    with Bank.open(path), pytest.raises(BankLocked):
        follower.__enter__()
    with follower, pytest.raises(RuntimeError, match="runs already"):
        follower.__enter__()
    with pytest.raises(InvalidRequest), Follower("http://example.org", KEY, path):
        pass
    with log.follower(path):  # neither left the bank locked
        pass


def test_a_bank_of_the_other_kind_is_refused(path, tmp_path):
    keep_veil(path, Veil(SignalType.PDQ_VEIL128, secrets.token_bytes(32)))
    with pytest.raises(BankError, match="veiled"), Live().follower(path):
        pass
    whole = tmp_path / "whole"
    with Live(added(0)).follower(whole) as follower:
        assert follower.ready()
    with (
        pytest.raises(BankError, match="whole hashes"),
        VeiledFollower("https://example.org", KEY, whole),
    ):
        pass
    Bank.open(whole).close()  # it was not left locked


def test_in_asyncio_the_loop_goes_on(path):
    log = Live(added(0))
    begun, over = threading.Event(), threading.Event()

    def hold(request):
        begun.set()
        over.wait()

    log.before = hold

    async def run():
        async with log.follower(path) as follower:
            await asyncio.to_thread(begun.wait)  # the loop is free, or this would not end
            over.set()
            assert await asyncio.to_thread(follower.ready)
            found = await asyncio.to_thread(follower.query, [added(0).signal])
            assert ids(found) == [[name(0)]]
        Bank.open(path).close()

    asyncio.run(run())


def test_a_beginning_that_is_cancelled_leaves_nothing_open(path, monkeypatch):
    opened, go_on = threading.Event(), threading.Event()
    open_bank = Bank.open

    def slow(path):
        bank = open_bank(path)
        opened.set()
        go_on.wait()
        return bank

    async def begin():
        async with Live().follower(path):
            raise AssertionError("it was cancelled before")

    async def run():
        task = asyncio.create_task(begin())
        assert await asyncio.to_thread(opened.wait, 30), task
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    monkeypatch.setattr(Bank, "open", slow)
    asyncio.run(run())
    monkeypatch.undo()
    Bank.open(path).close()


def test_a_key_that_is_shown_only_parts_of_hashes_is_told(local, path):
    local.open(random_item())
    with Follower(local.address, local.platform("veil"), path, repairs=NEVER) as follower:
        until(lambda: follower.health().trouble is not None)
        assert "only a part of each hash" in follower.health().trouble
        assert len(follower.bank) == 0


def test_with_the_real_service(local, path):
    key = local.platform("feed")
    with Follower(local.address, key, path) as follower:
        assert follower.ready()
        case = local.open(item := random_item())
        signals = [hashed.signal for hashed in item.hashes]
        until(lambda: follower.query(signals)[0])

        def seen():
            with local.survivor() as client:
                return client.status(*case).items[0].platforms

        until(lambda: any(platform.has_it_since for platform in seen()))
        local.withdraw(case)
        until(lambda: not follower.query(signals)[0])
        assert follower.health().trouble is None


def test_veiled_only_candidates_are_asked_about_with_the_real_service(local, path):
    asked = []

    class Watched(httpx.HTTPTransport):
        def handle_request(self, request):
            if request.url.path == "/v1/match":
                asked.append(request.read())
            return super().handle_request(request)

    key = local.platform("veil,match")
    item, stranger = random_item(), random_item()
    [signal] = [hashed.signal for hashed in item.hashes]
    [other] = [hashed.signal for hashed in stranger.hashes]
    with VeiledFollower(local.address, key, path, http=Watched()) as follower:
        assert follower.ready()
        assert follower.query([signal, other]) == [(), ()]
        case = local.open(item)
        # what confirms may hear of a case a moment later than the feed tells of it
        until(lambda: follower.query([signal, other])[0])
        [hits, none] = follower.query([signal, other])
        assert ([hit.band for hit in hits], none) == ([Band.STRONG], ())
        assert all(signal.value in each and other.value not in each for each in asked)
        questions = len(asked)
        assert follower.query([other] * 3) == [(), (), ()]
        assert len(asked) == questions
    assert kept_veil(path).type is SignalType.PDQ_VEIL128
    assert signal.value not in path.read_bytes()
    with VeiledFollower(local.address, key, path) as again:
        assert again.ready()
        assert again.query([signal])[0]
        local.withdraw(case)
        [part] = kept_veil(path).over([signal])
        until(lambda: again.bank.query([part]) == [()])
        assert again.query([signal]) == [()]


def test_veiled_a_candidate_that_nobody_confirms_is_told(path):
    veil = Veil(SignalType.PDQ_VEIL128, secrets.token_bytes(32))
    [part] = veil.over([added(0).signal])
    log = Live(replace(added(0), signal=part))

    def answer(request):
        if request.url.path == "/v1/veil":
            return httpx.Response(200, json=VeilReply.of(veil).model_dump(mode="json"))
        if request.url.path == "/v1/match":
            return problem(503, "busy")
        return log.answer(request)

    with VeiledFollower(
        "https://example.org",
        KEY,
        path,
        http=httpx.MockTransport(answer),
        retry=AT_ONCE,
        confirming=AT_ONCE,
    ) as follower:
        assert follower.ready()
        assert follower.query([added(1).signal]) == [()]
        with pytest.raises(ServiceRefused):
            follower.query([added(0).signal])
        assert follower.health().trouble is None
