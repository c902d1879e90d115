import logging
from contextlib import contextmanager

import pytest

from nciihash.client import PlatformClient
from nciihash.gate.decisions import DecisionStore
from nciihash.gate.decisions.records import DecisionKind
from nciihash.gate.decisions.verdicts import VerdictReporter
from nciihash.gate.outcome import Decision, Dialect, Reason
from nciihash.sdk.verdict_queue import VerdictQueue
from nciihash.signals import Match, Media, SignalType, Variant, Verdict
from support.full_disk import full_disk
from support.local import random_item

NOW = 1_795_000_123.5
BLOCK = DecisionKind(Dialect.HTTP, Media.IMAGE, Decision.BLOCK, Reason.MATCH, stopped=True)
BLOCKED, NOT_BLOCKED, PENDING = Verdict.BLOCKED, Verdict.NOT_BLOCKED, Verdict.PENDING


def hex_id(number):
    return f"{number:032x}"


def match(number):
    return Match(hex_id(number), hex_id(0), SignalType.PDQ, Variant.ORIGINAL, 4)


@contextmanager
def opened(folder, **options):
    with (
        DecisionStore(folder / "decisions") as store,
        VerdictQueue(folder / "verdicts", **options) as queue,
    ):
        yield store, queue, VerdictReporter(store, queue)


def waiting(queue):
    return queue.waiting(hex_id(number) for number in range(100))


def test_a_block_and_its_reversal_are_both_sent(tmp_path):
    with opened(tmp_path) as (store, queue, reporter):
        reference = store.record(BLOCK, [match(1), match(2)], obeyed=True, now=NOW)
        assert reporter.report()
        assert waiting(queue) == {hex_id(1): BLOCKED, hex_id(2): BLOCKED}
        store.decide(reference, NOT_BLOCKED, now=NOW)
        store.record(BLOCK, [match(3)], obeyed=True, now=NOW)
        assert reporter.report()
        # `not_blocked` would replace what the clearinghouse has not received yet
        assert waiting(queue) == {hex_id(n): BLOCKED for n in (1, 2, 3)}
        queue.done(queue.batch())
        assert reporter.report()
        assert waiting(queue) == {hex_id(1): NOT_BLOCKED, hex_id(2): NOT_BLOCKED}
        assert reporter.state.queued == 5


def test_a_reversal_follows_a_block_that_is_being_sent(tmp_path):
    with opened(tmp_path) as (store, queue, reporter):
        reference = store.record(BLOCK, [match(1)], obeyed=True, now=NOW)
        reporter.report()
        sent = queue.batch()
        store.decide(reference, NOT_BLOCKED, now=NOW)
        reporter.report()
        assert waiting(queue) == {hex_id(1): NOT_BLOCKED}
        queue.done(sent)
        assert queue.batch().verdicts == {hex_id(1): NOT_BLOCKED}


def test_a_pending_verdict_is_replaced_before_it_is_sent(tmp_path):
    with opened(tmp_path) as (store, queue, reporter):
        reference = store.record(BLOCK, [match(1)], obeyed=False, now=NOW)
        reporter.report()
        assert waiting(queue) == {hex_id(1): PENDING}
        store.decide(reference, NOT_BLOCKED, now=NOW)
        reporter.report()
        assert waiting(queue) == {hex_id(1): NOT_BLOCKED}


def test_a_full_queue_is_logged_once_and_loses_nothing(tmp_path, caplog):
    caplog.set_level(logging.INFO, "nciihash.gate")
    with opened(tmp_path, max_waiting=2) as (store, queue, reporter):
        store.record(BLOCK, [match(1), match(2), match(3)], obeyed=True, now=NOW)
        assert not reporter.report()
        assert not reporter.report()
        assert reporter.state.failures == 2
        assert "is full" in reporter.state.error
        assert len(caplog.records) == 1
        assert not any(hex_id(n) in caplog.text for n in range(4))
    with opened(tmp_path) as (store, queue, reporter):  # the next run, with a larger queue
        assert reporter.report()
        assert len(queue) == 3
        assert reporter.state.queued == 3


def test_a_full_disk_is_logged_once_and_loses_nothing(tmp_path, caplog):
    caplog.set_level(logging.INFO, "nciihash.gate")
    with opened(tmp_path) as (store, queue, reporter):
        for number in range(60):
            store.record(BLOCK, [match(number)], obeyed=True, now=NOW)
        with full_disk(tmp_path, spare=-100_000):
            assert not reporter.report()
            assert not reporter.report()
        assert reporter.state.failures == 2
        assert reporter.report()
        assert reporter.state.error is None
        assert len(queue) == 60
        assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
        assert "again" in caplog.records[1].getMessage()


def test_a_crash_between_the_two_files_loses_no_verdict(tmp_path, monkeypatch):
    def crash(*_):
        raise KeyboardInterrupt

    with opened(tmp_path) as (store, queue, reporter):
        store.record(BLOCK, [match(1)], obeyed=True, now=NOW)
        monkeypatch.setattr(store._file, "_connection", Crashing(store._file._connection, crash))
        with pytest.raises(KeyboardInterrupt):
            reporter.report()
        assert len(queue) == 1
    with opened(tmp_path) as (store, queue, reporter):
        assert reporter.report()
        assert reporter.state.queued == len(queue) == 1


class Crashing:
    """A connection that runs queries, and crashes where verdicts are marked as queued."""

    def __init__(self, connection, crash):
        self._connection = connection
        self.executemany = crash

    def __getattr__(self, name):
        return getattr(self._connection, name)


def test_the_clearinghouse_receives_what_people_decided(local, tmp_path):
    case = local.open(random_item())
    key = local.platform("feed,feedback")
    with PlatformClient(local.address, key) as client, opened(tmp_path) as (store, queue, reporter):
        added = client.feed(None).entries[-1]
        matched = Match(added.id, added.item, SignalType.PDQ, Variant.ORIGINAL, 0)
        reference = store.record(BLOCK, [matched], obeyed=False, now=NOW)
        reporter.report()
        assert queue.send(client).recorded == 1
        store.decide(reference, BLOCKED, now=NOW)
        reporter.report()
        assert queue.send(client).recorded == 1
    local.backdate_a_day()
    with local.survivor() as client:
        (status,) = client.status(*case).items
    shown = {v: n for each in status.platforms for v, n in each.verdicts.items() if n}
    assert shown == {BLOCKED: 1}
