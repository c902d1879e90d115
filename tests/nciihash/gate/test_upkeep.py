import asyncio
import logging

import pytest

from nciihash.gate.outcome import Decision, Dialect, Reason
from nciihash.gate.records import DecisionKind
from nciihash.gate.upkeep import Upkeep
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
