import os
import random
import secrets
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest

from nciihash.bank import Bank
from nciihash.client import PlatformClient
from nciihash.errors import CursorExpired, ProtocolError, ServiceRefused, ServiceUnreachable
from nciihash.feed import Added, Removed
from nciihash.sdk.follow_loop import FollowerOptions, Progress, Stop, follow
from support.local import random_item
from support.paths import ROOT
from support.scripted_feed import AT_ONCE, ScriptedFeed, added, expired, hex_id, problem


def signals_in(path):
    """Return the bank's signals by their ids."""
    with Bank.read(path) as bank:
        return {entry.id: entry for entry in bank}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bank"


def options(limit=5_000):
    return FollowerOptions(limit=limit, backoff=AT_ONCE)


def run(feed, path, limit=5_000, on_progress=None):
    with feed.client() as client, Bank.open(path) as bank:
        return follow(client, bank, options(limit), once=True, on_progress=on_progress)


def test_every_page_is_on_disk_before_it_is_acknowledged(path):
    feed = ScriptedFeed(*(added(n) for n in range(5)), Removed(hex_id(2)))
    on_disk = []

    def count_signals(request):
        if request.url.path.endswith("/ack"):
            on_disk.append(len(signals_in(path)))

    feed.before = count_signals
    end = run(feed, path, limit=2)
    assert on_disk == [2, 4, 4]
    assert feed.acknowledged == [2, 4, 6]
    assert end == Progress(signals=4, added=5, removed=1, current=True)
    assert set(signals_in(path)) == {hex_id(n) for n in (0, 1, 3, 4)}


def test_a_second_run_continues_where_the_first_ended(path):
    feed = ScriptedFeed(added(0), added(1))
    run(feed, path)
    feed.entries += [Removed(hex_id(0)), added(2)]
    feed.requested.clear()
    run(feed, path)
    assert feed.requested[0] == 2
    assert set(signals_in(path)) == {hex_id(1), hex_id(2)}


def test_the_next_run_acknowledges_what_a_killed_one_did_not(path):
    feed = ScriptedFeed(added(0))

    def die(request):
        if request.url.path.endswith("/ack"):
            raise KeyboardInterrupt

    feed.before = die
    with pytest.raises(KeyboardInterrupt):
        run(feed, path)
    assert set(signals_in(path)) == {hex_id(0)}
    assert feed.acknowledged == []
    feed.before = lambda request: None
    assert run(feed, path).added == 0
    assert feed.acknowledged == [1]


def test_an_empty_feed_ends_at_once(path):
    assert run(ScriptedFeed(), path) == Progress(current=True)


def test_an_expired_cursor_builds_a_new_bank_and_swaps_it_in(path):
    feed = ScriptedFeed(*(added(n) for n in range(6)))
    run(feed, path)
    feed.epoch += 1
    feed.entries = [added(n) for n in range(3, 9)]
    feed.acknowledged.clear()
    states = []

    def on_progress(progress):
        # a reader of the bank sees the complete old bank, or the complete new one
        states.append((progress.rebuilding, progress.current, sorted(signals_in(path))))

    run(feed, path, limit=2, on_progress=on_progress)
    old, new = ([hex_id(n) for n in range(a, a + 6)] for a in (0, 3))
    assert states == [(True, False, old)] * 3 + [(False, True, new)]
    assert feed.acknowledged == [6]  # nothing of the replacement before it is adopted


def test_a_killed_rebuild_leaves_the_old_bank_and_starts_again(path):
    feed = ScriptedFeed(added(0), added(1))
    run(feed, path)
    feed.epoch += 1
    feed.entries = [added(2), added(3)]

    def on_progress(progress):
        if progress.rebuilding and progress.added:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(feed, path, limit=1, on_progress=on_progress)
    assert set(signals_in(path)) == {hex_id(0), hex_id(1)}
    run(feed, path, limit=1)
    assert set(signals_in(path)) == {hex_id(2), hex_id(3)}


def test_a_rebuild_to_an_empty_feed(path):
    feed = ScriptedFeed(added(0))
    run(feed, path)
    feed.epoch += 1
    feed.entries = []
    run(feed, path)
    assert signals_in(path) == {}
    assert feed.acknowledged == [1, 0]


def test_a_service_that_refuses_its_own_cursors_is_not_asked_forever(path):
    feed = ScriptedFeed(added(0))
    paths = []

    def refuse(request):
        paths.append(request.url.path)
        return expired() if request.url.path.endswith("/ack") else None

    feed.before = refuse
    with pytest.raises(CursorExpired):
        run(feed, path)
    assert len(paths) < 10


def test_a_transient_fault_is_reported_and_retried(path):
    feed = ScriptedFeed(added(0))
    faults = [httpx.ConnectError("x"), problem(503, "not_ready"), problem(429, "too_many")]
    errors = []
    stop = Stop()

    def fail(request):
        if request.url.path.endswith("/ack"):
            stop.ask()
        if faults and isinstance(fault := faults.pop(0), Exception):
            raise fault
        return fault if faults else None

    feed.before = fail
    with feed.client() as client, Bank.open(path) as bank:
        end = follow(
            client, bank, options(), stop=stop, on_progress=lambda p: errors.append(p.error)
        )
    assert sum(error is not None for error in errors) >= 2
    assert (end.error, end.signals, feed.acknowledged) == (None, 1, [1])


def test_retry_after_is_observed_up_to_a_limit(path, monkeypatch):
    feed = ScriptedFeed(added(0))
    busy = [problem(503, "busy", {"Retry-After": seconds}) for seconds in ("7", "999999", "0")]
    stop, pauses = Stop(), []

    def respond(request):
        if request.url.path.endswith("/ack"):
            stop.ask()
        return busy.pop(0) if busy else None

    feed.before = respond
    monkeypatch.setattr(stop, "sleep", pauses.append)
    with feed.client() as client, Bank.open(path) as bank:
        end = follow(client, bank, options(), stop=stop)
    assert (end.error, end.signals) == (None, 1)
    first, second, third = pauses
    assert first == 7
    assert 60 < second < 3600  # no service can make a follower pause for days
    assert third < 7


@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize(
    ("response", "error"),
    [
        (problem(401, "credentials_wrong"), ServiceRefused),
        (problem(403, "scope_missing"), ServiceRefused),
        (problem(400, "bad_cursor"), ServiceRefused),
        (httpx.Response(200, text="<html>"), ProtocolError),
    ],
)
def test_a_permanent_error_ends_the_loop(path, once, response, error):
    feed = ScriptedFeed(added(0))
    feed.before = lambda request: response
    with feed.client() as client, Bank.open(path) as bank, pytest.raises(error):
        follow(client, bank, options(), once=once)


def test_once_does_not_wait_for_an_unreachable_service(path):
    feed = ScriptedFeed()

    def fail(request):
        raise httpx.ConnectError("x")

    feed.before = fail
    with pytest.raises(ServiceUnreachable):
        run(feed, path)


# --- against the real service ------------------------------------------------------------------

PROGRAM = """
import sys
from nciihash.bank import Bank
from nciihash.client import PlatformClient
from nciihash.sdk.follow_loop import FollowerOptions, Stop, follow

server, key, path, once = sys.argv[1:]
stop = Stop()
with PlatformClient(server, key) as client, Bank.open(path) as bank, stop.on_signals():
    print("following", flush=True)
    follow(client, bank, FollowerOptions(limit=3), once=once == "once", stop=stop,
           on_progress=lambda progress: print(progress.signals, flush=True))
print("ended", flush=True)
"""


def start_follower(local, key, path, mode="forever"):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, local.address, key, str(path), mode],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def signals_in_feed(local, key):
    """Return the signals that a bank must contain, by their ids."""
    signals, cursor = {}, None
    with PlatformClient(local.address, key) as client:
        while True:
            page = client.feed(cursor)
            for entry in page.entries:
                match entry:
                    case Added():
                        signals[entry.id] = entry
                    case Removed():
                        signals.pop(entry.id, None)
            cursor = page.cursor
            if not page.more:
                return signals


def test_a_follower_that_is_killed_at_any_point_loses_and_invents_nothing(local, tmp_path):
    key, path = local.platform("feed"), tmp_path / "bank"
    chance = random.Random(7)
    cases = [local.open(*(random_item() for _ in range(4))) for _ in range(4)]
    # before it has read anything, and after so many pages, while cases are opened and withdrawn
    for pages in (0, 4, 1, 0, 2):
        process = start_follower(local, key, path)
        assert process.stdout.readline() == "following\n"
        # at least one page each, or it would wait in the long poll
        cases += [local.open(*(random_item() for _ in range(3))) for _ in range(max(1, pages))]
        local.withdraw(cases.pop(chance.randrange(len(cases))))
        for _ in range(pages):
            assert process.stdout.readline().strip().isdigit()
        time.sleep(chance.uniform(0, 0.05))
        process.kill()
        process.stdout.read()
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()

    end = start_follower(local, key, path, "once")
    assert end.communicate()[0].endswith("ended\n")
    expected = signals_in_feed(local, key)
    assert signals_in(path) == expected
    assert expected
    with Bank.read(path) as bank:
        rows = bank.query([entry.signal for entry in expected.values()])
    assert [row[0].id for row in rows] == list(expected)

    # and the bank was acknowledged: the holder of the last case sees it
    with local.survivor() as client:
        (status, *_) = client.status(*cases[-1]).items
    assert any(platform.has_it_since for platform in status.platforms)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_waiting_follower_at_once_and_cleanly(local, tmp_path, number):
    key, path = local.platform("feed"), tmp_path / "bank"
    local.open(random_item())
    process = start_follower(local, key, path)
    expected = signals_in_feed(local, key)
    while (line := process.stdout.readline().strip()) != str(len(expected)):
        assert line
    time.sleep(0.3)  # by now it is in a long poll of up to 25 seconds
    process.send_signal(number)
    # had the poll ended by itself, another line would come before the last
    assert process.stdout.read() == "ended\n"
    assert process.wait() == 0
    process.stdout.close()
    assert signals_in(path) == expected


def test_new_entries_reach_a_waiting_follower(local, tmp_path):
    key, path = local.platform("feed"), tmp_path / "bank"
    process = start_follower(local, key, path)
    try:
        before = len(signals_in_feed(local, key))
        while process.stdout.readline().strip() not in {str(before), ""}:
            pass
        case = local.open(random_item())
        assert process.stdout.readline().strip() == str(before + 1)
        local.withdraw(case)
        assert process.stdout.readline().strip() == str(before)
    finally:
        process.terminate()
        process.communicate()


def test_on_signals_restores_the_previous_handlers():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    stop = Stop()
    with stop.on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
        assert stop.signal == signal.SIGTERM
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_another_thread_ends_a_pause():
    stop = Stop()
    threading.Timer(0.1, stop.ask).start()
    stop.sleep(3600)
    assert stop.asked


def test_random_banks_equal_the_feed_after_any_interruptions(tmp_path):
    """Interrupt random requests many times: the result is always the whole feed."""
    for seed in range(12):
        chance = random.Random(seed)
        entries, live = [], []
        for number in range(40):
            if live and chance.random() < 0.3:
                entries.append(Removed(live.pop(chance.randrange(len(live)))))
            else:
                entries.append(added(number))
                live.append(hex_id(number))
        feed = ScriptedFeed(*entries)
        path = tmp_path / secrets.token_hex(4)

        def interrupt(request, chance=chance):
            if chance.random() < 0.3:
                raise KeyboardInterrupt

        feed.before = interrupt
        for _ in range(200):
            try:
                end = run(feed, path, limit=chance.randrange(1, 6))
            except KeyboardInterrupt:
                continue
            break
        assert end.current
        assert set(signals_in(path)) == set(live)
        assert feed.acknowledged == sorted(feed.acknowledged)
        assert feed.acknowledged[-1] == len(entries)
