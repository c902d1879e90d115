import asyncio
import logging
from dataclasses import replace

import pytest

from nciihash.gate.decisions.records import DecisionKind, DecisionsInvalid
from nciihash.gate.decisions.verdicts import VerdictReporter
from nciihash.gate.outcome import Decision, Dialect, Reason
from nciihash.gate.upkeep import Upkeep
from nciihash.sdk.verdict_queue import VerdictQueue
from nciihash.signals import Match, SignalType, Variant
from support.full_disk import full_disk
from support.gating import open_gate

NOW = 1_790_000_000.0
KIND = DecisionKind(
    Dialect.HTTP, None, Decision.CLEAR, Reason.NO_MATCH, None, stopped=False, dry_run=False
)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def run(folder, test):
    """Call a function with a gate, its upkeep and the clock of the upkeep."""

    async def body():
        async with open_gate(folder, {}) as gate:
            clock = Clock()
            test(gate, Upkeep(gate, None, monotonic=clock, clock=lambda: NOW), clock)

    asyncio.run(body())


@pytest.fixture
def messages(caplog):
    caplog.set_level(logging.INFO, "nciihash.gate")
    return lambda: [record.getMessage() for record in caplog.records]


def counted(gate):
    return sum(each.count for each in gate.decisions.counts.of_month("2026-09"))


def test_stores_the_counts_once_a_minute(tmp_path):
    def test(gate, upkeep, clock):
        gate.decisions.counts.add(KIND, now=NOW)
        upkeep.round()
        assert counted(gate) == 0
        clock.now = 61
        upkeep.round()
        assert counted(gate) == 1

    run(tmp_path, test)


def test_a_full_disk_is_logged_once_and_loses_no_count(tmp_path, messages):
    def test(gate, upkeep, clock):
        gate.decisions.counts.add(KIND, now=NOW)
        with full_disk(tmp_path):
            for clock.now in (100.0, 200.0, 300.0):
                upkeep.round()
        failures = [each for each in messages() if "cannot be used" in each]
        assert len(failures) == 1
        clock.now = 400.0
        upkeep.round()
        assert counted(gate) == 1
        assert messages()[-1] == "The file of decisions can be used again."

    run(tmp_path, test)


@pytest.mark.parametrize("error", [DecisionsInvalid("It is damaged."), ZeroDivisionError("secret")])
def test_continues_after_any_error(tmp_path, messages, monkeypatch, error):
    monkeypatch.setattr("nciihash.gate.upkeep._SECONDS", 0.0)

    async def body():
        async with open_gate(tmp_path, {}) as gate:
            rounds = iter(range(3))
            last, loop = asyncio.Event(), asyncio.get_running_loop()

            def refresh():
                if next(rounds, None) is None:
                    loop.call_soon_threadsafe(last.set)
                raise error

            gate.refresh_exceptions = refresh
            running = asyncio.create_task(Upkeep(gate, None).run())
            reached = asyncio.create_task(last.wait())
            await asyncio.wait((running, reached), return_when=asyncio.FIRST_COMPLETED)
            assert reached.done()
            running.cancel()
            await asyncio.wait((running,))

    asyncio.run(body())
    assert len(messages()) == 2  # that the bank is current, and this
    assert "secret" not in messages()[1]


def test_counts_the_waiting_verdicts(tmp_path):
    match = Match("ab" * 16, "cd" * 16, SignalType.PDQ, Variant.ORIGINAL, 3)

    async def body():
        async with open_gate(tmp_path / "gate", {}) as gate:
            with VerdictQueue(tmp_path / "verdicts") as queue:
                upkeep = Upkeep(gate, VerdictReporter(gate.decisions, queue))
                upkeep.round()
                assert gate.state().verdicts_waiting == 0
                blocked = replace(KIND, decision=Decision.BLOCK, reason=Reason.MATCH)
                gate.decisions.record(blocked, [match], obeyed=True, now=NOW)
                upkeep.round()
            # the queue is closed: monitoring reads no file
            assert gate.state().verdicts_waiting == 1

    asyncio.run(body())


def test_logs_when_uploads_are_checked_and_when_not(tmp_path, messages):
    def test(gate, upkeep, _):
        gate.bank.changes = {"as_of": None}
        upkeep.round()
        upkeep.round()
        gate.bank.changes = {}
        upkeep.round()
        gate.bank.changes = {"as_of": 0.0, "error": "No answer."}
        upkeep.round()
        assert messages() == [
            "Uploads are not checked until the bank has everything in the feed.",
            "Uploads are checked. The bank has 0 signals.",
            "Uploads are not checked: the bank is too old. No answer.",
        ]

    run(tmp_path, test)
