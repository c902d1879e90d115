import asyncio
import logging
import secrets
import socket
import threading
import time
from dataclasses import replace

import httpx
import numpy as np
import pytest

from nciihash import Matcher
from nciihash.bank import Bank
from nciihash.bank.journal import Journal
from nciihash.client.sans_io import RetryPolicy
from nciihash.errors import BankError, BankLocked, BankStale, InvalidRequest, ServiceRefused
from nciihash.feed import Removed
from nciihash.hashing.hasher import hash_bytes
from nciihash.sdk.follow_loop import FollowerOptions
from nciihash.sdk.follower import Follower, VeiledFollower
from nciihash.sdk.veiled import load_veil, save_veil
from nciihash.signals import Band, SignalType
from nciihash.veil import Veil
from nciihash.wire.veil import VeilReply
from support.local import random_item
from support.pictures import encode, textured
from support.scripted_feed import AT_ONCE, KEY, ScriptedFeed, added, hex_id, problem

AT_ONCE_OPTIONS = FollowerOptions(
    retry=AT_ONCE, backoff=AT_ONCE, repair_backoff=AT_ONCE, confirm_retry=AT_ONCE
)
HOURLY = RetryPolicy(total=3600.0, read_timeout=3600.0, base=3600.0, cap=3600.0)


class PolledFeed(ScriptedFeed):
    """A feed that delays an empty page for a moment, and makes a follower of it."""

    def respond(self, request):
        response = super().respond(request)
        if response.json().get("entries") == []:
            time.sleep(0.01)
        return response

    def follower(self, path, options=AT_ONCE_OPTIONS, **more):
        transport = httpx.MockTransport(self.respond)
        return Follower("https://example.org", KEY, path, options, http=transport, **more)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bank"


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def query_of(picture):
    return hash_bytes(encode(picture, "PNG"), variants="match", level="windows")


def ids(results):
    return [[match.id for match in matches] for matches in results]


def test_the_bank_is_updated_while_it_answers(path):
    feed = PolledFeed(added(0), added(1))
    signals = [added(n).signal for n in range(3)]
    with feed.follower(path) as follower:
        assert follower.ready()
        assert ids(follower.query(signals)) == [[hex_id(0)], [hex_id(1)], []]
        feed.entries += [Removed(hex_id(0)), added(2)]
        wait_until(lambda: follower.bank.entry(hex_id(2)) is not None)
        assert ids(follower.query(signals)) == [[], [hex_id(1)], [hex_id(2)]]
        packed = np.frombuffer(b"".join(signal.value for signal in signals), np.uint8)
        found = follower.candidates(SignalType.PDQ, packed.reshape(3, 32), 60)
        assert [found.entry(n).id for n in range(len(found))] == [hex_id(1), hex_id(2)]
        wait_until(lambda: feed.acknowledged[-1] == 4)
        health = follower.health()
        assert (health.signals, health.rebuilding, health.error) == (2, False, None)
        assert health.age >= 0
    with Bank.read(path) as bank:
        assert {entry.id for entry in bank} == {hex_id(1), hex_id(2)}
    with feed.follower(path) as again:  # its lock was released
        assert again.ready()


def test_queries_see_the_complete_old_or_new_bank_after_the_cursor_expired(path):
    old, new = range(60), range(40, 100)
    feed = PolledFeed(*(added(n) for n in old))
    signals = [added(n).signal for n in range(100)]
    complete = {
        bank: [[hex_id(n)] if n in numbers else [] for n in range(100)]
        for bank, numbers in (("old", old), ("new", new))
    }
    blocked, proceed = threading.Event(), threading.Event()

    def block(request):
        if request.method == "GET" and "cursor" not in request.url.params and feed.epoch == 2:
            blocked.set()
            proceed.wait()

    feed.before = block
    seen, wrong, finished = set(), [], threading.Event()

    def query(follower):
        while not finished.is_set():
            results = ids(follower.query(signals))
            banks = [bank for bank, expected in complete.items() if results == expected]
            seen.update(banks)
            if not banks:
                wrong.append(results)

    with feed.follower(path) as follower:
        assert follower.ready()
        threads = [threading.Thread(target=query, args=(follower,)) for _ in range(3)]
        try:
            for thread in threads:
                thread.start()
            feed.epoch = 2  # first, so that a request between the two lines is blocked
            feed.entries = [added(n) for n in new]
            blocked.wait()
            assert follower.health().rebuilding
            assert not follower.health().current
            assert ids(follower.query(signals)) == complete["old"]
            proceed.set()
            wait_until(lambda: ids(follower.query(signals)) == complete["new"])
            wait_until(lambda: "new" in seen)
        finally:
            proceed.set()
            finished.set()
            for thread in threads:
                thread.join()
        wait_until(lambda: not follower.health().rebuilding)
    assert wrong == []
    assert seen == {"old", "new"}


def test_an_error_is_reported_while_the_bank_still_answers(path):
    feed = PolledFeed(added(0))
    now = [1000.0]
    with feed.follower(path, clock=lambda: now[0]) as follower:
        assert follower.ready()
        feed.before = lambda request: problem(503, "busy")
        wait_until(lambda: follower.health().error is not None)
        now[0] += 500
        assert follower.health().age == 500
        assert ids(follower.query([added(0).signal])) == [[hex_id(0)]]
        feed.before = lambda request: None
        wait_until(lambda: follower.health().age == 0)
        assert follower.health().error is None


def unavailable(request):
    return problem(503, "busy")


def veiled_follower(path, feed, **more):
    veil = Veil(SignalType.PDQ_VEIL128, bytes(32))

    def respond(request):
        if request.url.path == "/v1/veil":
            return httpx.Response(200, json=VeilReply.of(veil).model_dump(mode="json"))
        return feed.respond(request)

    transport = httpx.MockTransport(respond)
    return VeiledFollower("https://example.org", KEY, path, AT_ONCE_OPTIONS, http=transport, **more)


def whole_follower(path, feed, **more):
    return feed.follower(path, **more)


BOTH = pytest.mark.parametrize("make", [whole_follower, veiled_follower])


@BOTH
def test_a_bank_that_was_never_complete_answers_nothing(path, make):
    feed = PolledFeed()
    feed.before = unavailable
    signal = added(7).signal
    with make(path, feed) as follower:
        wait_until(lambda: follower.health().error is not None)
        with pytest.raises(BankStale, match="ever had everything"):
            follower.query([signal])
        with pytest.raises(BankStale):
            follower.query([])
        feed.before = lambda request: None
        assert follower.ready()
        assert not follower.query([signal])[0]


def test_a_matcher_raises_what_its_follower_raises(path):
    feed = PolledFeed()
    feed.before = unavailable
    item = query_of(textured(3))
    with feed.follower(path) as follower:
        matcher = Matcher(follower)
        with pytest.raises(BankStale) as stale:
            matcher.find(item)
        assert stale.value.code == "bank_stale"
        packed = np.frombuffer(item.hashes[0].signal.value, np.uint8).reshape(1, 32)
        with pytest.raises(BankStale):
            follower.candidates(SignalType.PDQ, packed, 60)
        feed.before = lambda request: None
        assert follower.ready()
        assert matcher.find(item) == []


def test_a_bank_that_has_only_the_first_page_answers_nothing(path):
    feed = PolledFeed(added(0), added(1))
    feed.before = lambda request: unavailable(request) if "cursor" in request.url.params else None
    options = replace(AT_ONCE_OPTIONS, limit=1)
    with feed.follower(path, options) as follower:
        wait_until(lambda: len(follower.bank) == 1 and follower.health().error is not None)
        assert follower.health().age is None
        with pytest.raises(BankStale):
            follower.query([added(0).signal])


@BOTH
def test_a_bank_older_than_max_age_answers_nothing(path, make):
    feed, now = PolledFeed(), [1000.0]
    signal = added(7).signal
    with make(path, feed, max_age=300.0, clock=lambda: now[0]) as follower:
        assert follower.ready()
        feed.before = unavailable
        wait_until(lambda: follower.health().error is not None)
        now[0] = 1300.0
        assert not follower.query([signal])[0]
        now[0] = 1301.0
        with pytest.raises(BankStale, match="301 seconds ago, and the limit is 300"):
            follower.query([signal])
        assert follower.health().age == 301.0
        feed.before = lambda request: None
        wait_until(lambda: follower.health().age == 0)
        assert not follower.query([signal])[0]


def test_the_age_of_the_last_run_counts_after_a_restart(path):
    feed, now = PolledFeed(added(0)), [2000.0]
    times = {"now": lambda: now[0], "max_age": 300.0}
    with feed.follower(path, **times) as follower:
        assert follower.ready()
    feed.before = unavailable
    now[0] += 200
    with feed.follower(path, **times) as follower:
        assert not follower.ready(0)
        assert follower.health().age == 200
        assert ids(follower.query([added(0).signal])) == [[hex_id(0)]]
        now[0] += 101
        with pytest.raises(BankStale):
            follower.query([added(0).signal])
        feed.before = lambda request: None
        assert follower.ready()
        assert ids(follower.query([added(0).signal])) == [[hex_id(0)]]


@pytest.mark.parametrize("note", [b"", b"{}", b"[]", b'{"bank": "00", "at": 2000}', b"\xff"])
def test_without_a_valid_note_the_age_of_the_last_run_is_unknown(path, note):
    feed = PolledFeed(added(0))
    with feed.follower(path) as follower:
        assert follower.ready()
    path.with_name("bank-current").write_bytes(note)
    feed.before = unavailable
    with feed.follower(path) as follower:
        assert follower.health().age is None
        with pytest.raises(BankStale):
            follower.query([added(0).signal])


def test_a_note_from_the_future_is_not_believed(path):
    feed = PolledFeed(added(0))
    with feed.follower(path, now=lambda: 10_000.0) as follower:
        assert follower.ready()
    feed.before = unavailable
    for now, age in ((9_000.0, None), (9_990.0, 0.0), (10_005.0, 5.0)):
        with feed.follower(path, now=lambda now=now: now) as follower:
            assert follower.health().age == age


def test_a_note_that_cannot_be_written_does_not_end_the_following(path, monkeypatch, caplog):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nciihash.bank.files.write_current", fail)
    feed = PolledFeed(added(0))
    with feed.follower(path) as follower:
        assert follower.ready()
        assert ids(follower.query([added(0).signal])) == [[hex_id(0)]]
    assert "cannot see how old the bank is" in caplog.text


def test_a_follower_logs_what_changes_and_nothing_identifying(path, caplog):
    caplog.set_level(logging.INFO, logger="nciihash.follower")
    feed = PolledFeed(added(0), added(1))
    failures = []

    def fail(request):
        failures.append(request)
        return unavailable(request)

    with feed.follower(path) as follower:
        assert follower.ready()
        wait_until(lambda: len(feed.requested) > 5)  # empty pages are no news
        feed.before = fail
        wait_until(lambda: len(failures) > 5)  # an outage is one message
        feed.before = lambda request: None
        wait_until(lambda: follower.health().error is None)
        wait_until(lambda: follower.health().current)
        feed.epoch = 2
        feed.entries = [added(2)]
        wait_until(lambda: follower.bank.entry(hex_id(2)) is not None)
        wait_until(lambda: follower.health().current)
        feed.before = lambda request: problem(401, "credentials_wrong")
        wait_until(lambda: follower.health().error is not None)
    messages = [(r.levelno, r.getMessage()) for r in caplog.records]
    starts = [
        (logging.INFO, f"Following the feed into {path}, which has 0 signals"),
        (logging.INFO, "The bank has everything in the feed: 2 signals"),
        (logging.WARNING, "The feed cannot be read, and that is retried: "),
        (logging.INFO, "The bank has everything in the feed: 2 signals"),
        (logging.INFO, "The cursor has expired: building a new bank"),
        (logging.INFO, "The bank has everything in the feed: 1 signals"),
        (logging.WARNING, "Following failed, and is tried again in 0 seconds: "),
    ]
    assert len(messages) > len(starts)
    for (level, message), (expected, start) in zip(messages, starts, strict=False):
        assert level == expected
        assert message.startswith(start)
    assert messages[-1] == (logging.INFO, f"Stopped following the feed into {path}")
    private = [KEY, *(hex_id(n) for n in range(3)), *(added(n).signal.hex for n in range(3))]
    assert not any(secret in caplog.text for secret in [*private, feed.cursor(1)])


def test_a_refused_key_does_not_end_a_follower(path):
    feed = PolledFeed(added(0))
    feed.before = lambda request: problem(401, "credentials_wrong")
    with feed.follower(path) as follower:
        wait_until(lambda: follower.health().error is not None)
        assert "does not accept this key" in follower.health().error
        assert follower.health().age is None
        assert not follower.ready(0)
        feed.before = lambda request: None
        assert follower.ready()


def test_a_failed_write_is_retried(path, monkeypatch):
    feed = PolledFeed(added(0))
    append, failures = Journal.append, [OSError(28, "No space left on device")] * 2

    def fail(self, payload):
        if failures:
            raise failures.pop()
        append(self, payload)

    with feed.follower(path) as follower:
        assert follower.ready()
        monkeypatch.setattr(Journal, "append", fail)
        feed.entries.append(added(1))
        wait_until(lambda: hex_id(1) in follower.bank)
        wait_until(lambda: follower.health().current)
        assert ids(follower.query([added(0).signal])) == [[hex_id(0)]]
    assert failures == []
    with Bank.read(path) as bank:
        assert len(bank) == 2


def test_an_unexpected_error_is_reported_without_its_message(path):
    feed = PolledFeed(added(0))

    def fail(request):
        raise ZeroDivisionError(KEY)

    feed.before = fail
    with feed.follower(path) as follower:
        wait_until(lambda: follower.health().error is not None)
        assert "ZeroDivisionError" in follower.health().error
        assert KEY not in follower.health().error


def test_the_block_ends_although_the_service_never_responds(path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Follower(server, KEY, path, FollowerOptions(retry=HOURLY)) as follower:
            connection, _ = silent.accept()
            assert connection.recv(100).startswith(b"GET /v1/feed")
            waiting = threading.Thread(target=follower.ready)
            waiting.start()
        waiting.join()  # the end of the block ends `ready`, too
        connection.close()
    Bank.open(path).close()


def test_the_block_ends_during_a_pause(path):
    feed = PolledFeed()
    feed.before = lambda request: problem(401, "credentials_wrong")
    with feed.follower(path, replace(AT_ONCE_OPTIONS, repair_backoff=HOURLY)) as follower:
        wait_until(lambda: follower.health().error is not None)


def test_errors_in_starting_are_raised_on_entering_the_block(path):
    feed = PolledFeed()
    follower = feed.follower(path)
    with pytest.raises(BankError, match="`with` block"):
        follower.query([])
    with Bank.open(path), pytest.raises(BankLocked):
        follower.__enter__()
    with follower, pytest.raises(RuntimeError, match="already running"):
        follower.__enter__()
    with pytest.raises(InvalidRequest), Follower("http://example.org", KEY, path):
        pass
    with feed.follower(path):  # neither left the bank locked
        pass


def test_a_veiled_bank_and_one_of_whole_hashes_are_not_mixed(path, tmp_path):
    save_veil(path, Veil(SignalType.PDQ_VEIL128, secrets.token_bytes(32)))
    with pytest.raises(BankError, match="veiled"), PolledFeed().follower(path):
        pass
    whole = tmp_path / "whole"
    with PolledFeed(added(0)).follower(whole) as follower:
        assert follower.ready()
    with (
        pytest.raises(BankError, match="whole hashes"),
        VeiledFollower("https://example.org", KEY, whole),
    ):
        pass
    Bank.open(whole).close()  # it was not left locked


def test_a_follower_does_not_block_the_event_loop(path):
    feed = PolledFeed(added(0))
    blocked, proceed = threading.Event(), threading.Event()

    def block(request):
        blocked.set()
        proceed.wait()

    feed.before = block

    async def run():
        async with feed.follower(path) as follower:
            await asyncio.to_thread(blocked.wait)  # would never return in a blocked loop
            proceed.set()
            assert await asyncio.to_thread(follower.ready)
            found = await asyncio.to_thread(follower.query, [added(0).signal])
            assert ids(found) == [[hex_id(0)]]
        Bank.open(path).close()

    asyncio.run(run())


def test_cancelling_the_start_leaves_nothing_open(path, monkeypatch):
    opened, proceed = threading.Event(), threading.Event()
    open_bank = Bank.open

    def open_slowly(path):
        bank = open_bank(path)
        opened.set()
        proceed.wait()
        return bank

    async def start():
        async with PolledFeed().follower(path):
            raise AssertionError("it was cancelled before")

    async def run():
        task = asyncio.create_task(start())
        assert await asyncio.to_thread(opened.wait, 30), task
        task.cancel()
        await asyncio.sleep(0)
        proceed.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    monkeypatch.setattr(Bank, "open", open_slowly)
    asyncio.run(run())
    monkeypatch.undo()
    Bank.open(path).close()


def test_a_key_for_veiled_hashes_only_is_reported(local, path):
    local.open(random_item())
    options = FollowerOptions(repair_backoff=HOURLY)
    with Follower(local.address, local.platform("veil"), path, options) as follower:
        wait_until(lambda: follower.health().error is not None)
        assert "only a part of each hash" in follower.health().error
        assert len(follower.bank) == 0


def test_with_the_real_service(local, path):
    key = local.platform("feed")
    with Follower(local.address, key, path) as follower:
        assert follower.ready()
        case = local.open(item := random_item())
        signals = [hashed.signal for hashed in item.hashes]
        wait_until(lambda: follower.query(signals)[0])

        def platforms():
            with local.survivor() as client:
                return client.status(*case).items[0].platforms

        wait_until(lambda: any(platform.has_it_since for platform in platforms()))
        local.withdraw(case)
        wait_until(lambda: not follower.query(signals)[0])
        assert follower.health().error is None


def test_a_veiled_follower_sends_candidates_only(local, path):
    bodies = []

    class RecordingTransport(httpx.HTTPTransport):
        def handle_request(self, request):
            if request.url.path == "/v1/match":
                bodies.append(request.read())
            return super().handle_request(request)

    key = local.platform("veil,match")
    item, stranger = random_item(), random_item()
    [signal] = [hashed.signal for hashed in item.hashes]
    [other] = [hashed.signal for hashed in stranger.hashes]
    with VeiledFollower(local.address, key, path, http=RecordingTransport()) as follower:
        assert follower.ready()
        assert follower.query([signal, other]) == [(), ()]
        case = local.open(item)
        # the index that confirms may get the case a moment later than the feed
        wait_until(lambda: follower.query([signal, other])[0])
        [hits, none] = follower.query([signal, other])
        assert ([hit.band for hit in hits], none) == ([Band.STRONG], ())
        assert all(signal.value in each and other.value not in each for each in bodies)
        requests = len(bodies)
        assert follower.query([other] * 3) == [(), (), ()]
        assert len(bodies) == requests
    assert load_veil(path).type is SignalType.PDQ_VEIL128
    assert signal.value not in path.read_bytes()
    with VeiledFollower(local.address, key, path) as again:
        assert again.ready()
        assert again.query([signal])[0]
        local.withdraw(case)
        [part] = load_veil(path).over([signal])
        wait_until(lambda: again.bank.query([part]) == [()])
        assert again.query([signal]) == [()]


def test_a_candidate_that_cannot_be_confirmed_is_an_error(path):
    veil = Veil(SignalType.PDQ_VEIL128, secrets.token_bytes(32))
    [part] = veil.over([added(0).signal])
    feed = PolledFeed(replace(added(0), signal=part))

    def respond(request):
        if request.url.path == "/v1/veil":
            return httpx.Response(200, json=VeilReply.of(veil).model_dump(mode="json"))
        if request.url.path == "/v1/match":
            return problem(503, "busy")
        return feed.respond(request)

    with VeiledFollower(
        "https://example.org", KEY, path, AT_ONCE_OPTIONS, http=httpx.MockTransport(respond)
    ) as follower:
        assert follower.ready()
        assert follower.query([added(1).signal]) == [()]
        with pytest.raises(ServiceRefused):
            follower.query([added(0).signal])
        assert follower.health().error is None
