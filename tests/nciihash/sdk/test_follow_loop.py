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
from nciihash.sdk.follow_loop import Progress, Stop, follow
from support.local import random_item
from support.paths import ROOT
from support.written_feed import AT_ONCE, Log, added, expired, name, problem


def held(path):
    with Bank.read(path) as bank:
        return {entry.id: entry for entry in bank}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bank"


def run(log, path, **options):
    with log.client() as client, Bank.open(path) as bank:
        return follow(client, bank, once=True, pauses=AT_ONCE, **options)


def test_every_page_is_on_disk_before_it_is_acknowledged(path):
    log = Log(*(added(n) for n in range(5)), Removed(name(2)))
    on_disk = []

    def look(request):
        if request.url.path.endswith("/ack"):
            on_disk.append(len(held(path)))

    log.before = look
    end = run(log, path, limit=2)
    assert on_disk == [2, 4, 4]
    assert log.acknowledged == [2, 4, 6]
    assert end == Progress(signals=4, added=5, removed=1, current=True)
    assert set(held(path)) == {name(n) for n in (0, 1, 3, 4)}


def test_a_second_run_goes_on_where_the_first_ended(path):
    log = Log(added(0), added(1))
    run(log, path)
    log.entries += [Removed(name(0)), added(2)]
    log.asked.clear()
    run(log, path)
    assert log.asked[0] == 2
    assert set(held(path)) == {name(1), name(2)}


def test_what_a_killed_run_did_not_acknowledge_is_acknowledged_by_the_next(path):
    log = Log(added(0))

    def die(request):
        if request.url.path.endswith("/ack"):
            raise KeyboardInterrupt

    log.before = die
    with pytest.raises(KeyboardInterrupt):
        run(log, path)
    assert set(held(path)) == {name(0)}
    assert log.acknowledged == []
    log.before = lambda request: None
    assert run(log, path).added == 0
    assert log.acknowledged == [1]


def test_an_empty_feed_ends_at_once(path):
    assert run(Log(), path) == Progress(current=True)


def test_an_expired_cursor_builds_a_new_bank_and_swaps_it_in(path):
    log = Log(*(added(n) for n in range(6)))
    run(log, path)
    log.epoch += 1
    log.entries = [added(n) for n in range(3, 9)]
    log.acknowledged.clear()
    seen = []

    def tell(progress):
        # a matcher beside the follower sees the old bank whole, or the new one whole
        seen.append((progress.rebuilding, progress.current, sorted(held(path))))

    run(log, path, limit=2, tell=tell)
    old, new = ([name(n) for n in range(a, a + 6)] for a in (0, 3))
    assert seen == [(True, False, old)] * 3 + [(False, True, new)]
    assert log.acknowledged == [6]  # no page of the replacement before all of it is in place


def test_a_killed_rebuild_leaves_the_old_bank_and_begins_again(path):
    log = Log(added(0), added(1))
    run(log, path)
    log.epoch += 1
    log.entries = [added(2), added(3)]

    def tell(progress):
        if progress.rebuilding and progress.added:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(log, path, limit=1, tell=tell)
    assert set(held(path)) == {name(0), name(1)}
    run(log, path, limit=1)
    assert set(held(path)) == {name(2), name(3)}


def test_a_rebuild_to_an_empty_feed(path):
    log = Log(added(0))
    run(log, path)
    log.epoch += 1
    log.entries = []
    run(log, path)
    assert held(path) == {}
    assert log.acknowledged == [1, 0]


def test_a_service_that_refuses_its_own_cursors_is_not_asked_for_ever(path):
    log = Log(added(0))
    asked = []

    def refuse(request):
        asked.append(request.url.path)
        return expired() if request.url.path.endswith("/ack") else None

    log.before = refuse
    with pytest.raises(CursorExpired):
        run(log, path)
    assert len(asked) < 10


def test_a_passing_fault_is_tried_through_and_told(path):
    log = Log(added(0))
    faults = [httpx.ConnectError("x"), problem(503, "not_ready"), problem(429, "too_many")]
    troubles = []
    stop = Stop()

    def fail(request):
        if request.url.path.endswith("/ack"):
            stop.ask()
        if faults and isinstance(fault := faults.pop(0), Exception):
            raise fault
        return fault if faults else None

    log.before = fail
    with log.client() as client, Bank.open(path) as bank:
        end = follow(
            client, bank, stop=stop, pauses=AT_ONCE, tell=lambda p: troubles.append(p.trouble)
        )
    assert sum(trouble is not None for trouble in troubles) >= 2
    assert (end.trouble, end.signals, log.acknowledged) == (None, 1, [1])


def test_a_busy_service_is_given_the_time_it_asks_for(path, monkeypatch):
    log = Log(added(0))
    busy = [problem(503, "busy", {"Retry-After": seconds}) for seconds in ("7", "999999", "0")]
    stop, slept = Stop(), []

    def answer(request):
        if request.url.path.endswith("/ack"):
            stop.ask()
        return busy.pop(0) if busy else None

    log.before = answer
    monkeypatch.setattr(stop, "sleep", slept.append)
    with log.client() as client, Bank.open(path) as bank:
        end = follow(client, bank, stop=stop, pauses=AT_ONCE)
    assert (end.trouble, end.signals) == (None, 1)
    first, second, third = slept
    assert first == 7
    assert 60 < second < 3600  # no service sends a follower to sleep for days
    assert third < 7


@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem(401, "credentials_wrong"), ServiceRefused),
        (problem(403, "scope_missing"), ServiceRefused),
        (problem(400, "bad_cursor"), ServiceRefused),
        (httpx.Response(200, text="<html>"), ProtocolError),
    ],
)
def test_what_does_not_pass_ends_it(path, once, answer, error):
    log = Log(added(0))
    log.before = lambda request: answer
    with log.client() as client, Bank.open(path) as bank, pytest.raises(error):
        follow(client, bank, once=once, pauses=AT_ONCE)


def test_once_does_not_wait_for_a_service_that_is_away(path):
    log = Log()

    def fail(request):
        raise httpx.ConnectError("x")

    log.before = fail
    with pytest.raises(ServiceUnreachable):
        run(log, path)


# --- the real service --------------------------------------------------------------------------

PROGRAM = """
import sys
from nciihash.bank import Bank
from nciihash.client import PlatformClient
from nciihash.sdk.follow_loop import Stop, follow

server, key, path, once = sys.argv[1:]
stop = Stop()
with PlatformClient(server, key) as client, Bank.open(path) as bank, stop.on_signals():
    print("following", flush=True)
    follow(client, bank, once=once == "once", stop=stop, limit=3,
           tell=lambda progress: print(progress.signals, flush=True))
print("ended", flush=True)
"""


def follower(local, key, path, how="on"):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, local.address, key, str(path), how],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def everything(local, key):
    """Read the whole feed into memory: what a bank must hold."""
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


def test_a_follower_that_is_killed_at_any_point_holds_what_the_service_holds(local, tmp_path):
    key, path = local.platform("feed"), tmp_path / "bank"
    chance = random.Random(7)
    cases = [local.open(*(random_item() for _ in range(4))) for _ in range(4)]
    # Before it has read anything, and after so many pages, while cases come and go.
    for pages in (0, 4, 1, 0, 2):
        process = follower(local, key, path)
        assert process.stdout.readline() == "following\n"
        # a page each at least, or it would wait for news
        cases += [local.open(*(random_item() for _ in range(3))) for _ in range(max(1, pages))]
        local.withdraw(cases.pop(chance.randrange(len(cases))))
        for _ in range(pages):
            assert process.stdout.readline().strip().isdigit()
        time.sleep(chance.uniform(0, 0.05))
        process.kill()
        process.stdout.read()
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()

    end = follower(local, key, path, "once")
    assert end.communicate()[0].endswith("ended\n")
    expected = everything(local, key)
    assert held(path) == expected
    assert expected
    with Bank.read(path) as bank:
        rows = bank.query([entry.signal for entry in expected.values()])
    assert [row[0].id for row in rows] == list(expected)

    # and what is in the bank was acknowledged: the last case's holder is told
    with local.survivor() as client:
        (seen, *_) = client.status(*cases[-1]).items
    assert any(platform.has_it_since for platform in seen.platforms)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_waiting_follower_at_once_and_cleanly(local, tmp_path, number):
    key, path = local.platform("feed"), tmp_path / "bank"
    local.open(random_item())
    process = follower(local, key, path)
    expected = everything(local, key)
    while (line := process.stdout.readline().strip()) != str(len(expected)):
        assert line
    time.sleep(0.3)  # it is waiting for news by now, for up to 25 seconds
    process.send_signal(number)
    # Had the poll run out by itself, another line would come before the last.
    assert process.stdout.read() == "ended\n"
    assert process.wait() == 0
    process.stdout.close()
    assert held(path) == expected


def test_news_reach_a_waiting_follower(local, tmp_path):
    key, path = local.platform("feed"), tmp_path / "bank"
    process = follower(local, key, path)
    try:
        before = len(everything(local, key))
        while process.stdout.readline().strip() not in {str(before), ""}:
            pass
        case = local.open(random_item())
        assert process.stdout.readline().strip() == str(before + 1)
        local.withdraw(case)
        assert process.stdout.readline().strip() == str(before)
    finally:
        process.terminate()
        process.communicate()


def test_stopping_leaves_the_old_handlers_in_place():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    stop = Stop()
    with stop.on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
        assert stop.signal == signal.SIGTERM
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_a_pause_is_cut_short_by_another_thread():
    stop = Stop()
    threading.Timer(0.1, stop.ask).start()
    stop.sleep(3600)
    assert stop.asked


def test_random_banks_equal_the_feed_after_any_interruptions(tmp_path):
    """Break off at random requests, many times over: the end is always the whole feed."""
    for seed in range(12):
        chance = random.Random(seed)
        entries, live = [], []
        for number in range(40):
            if live and chance.random() < 0.3:
                entries.append(Removed(live.pop(chance.randrange(len(live)))))
            else:
                entries.append(added(number))
                live.append(name(number))
        log = Log(*entries)
        path = tmp_path / secrets.token_hex(4)

        def interrupt(request, chance=chance):
            if chance.random() < 0.3:
                raise KeyboardInterrupt

        log.before = interrupt
        for _ in range(200):
            try:
                end = run(log, path, limit=chance.randrange(1, 6))
            except KeyboardInterrupt:
                continue
            break
        assert end.current
        assert set(held(path)) == set(live)
        assert log.acknowledged == sorted(log.acknowledged)
        assert log.acknowledged[-1] == len(entries)
