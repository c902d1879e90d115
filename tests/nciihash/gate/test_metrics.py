import math
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nciihash.gate.metrics import GateState, Happened, Metrics
from nciihash.gate.outcome import Decision, Dialect, Outcome, Reason
from nciihash.gate.pool import LaneState
from nciihash.signals import Media

STATE = GateState(
    signals=7,
    as_of=1000.0,
    current=True,
    stale=False,
    veiled=False,
    error=None,
    lanes={Media.IMAGE: LaneState(3, 2, 1), Media.VIDEO: LaneState()},
    upload_memory=4096,
    verdicts_waiting=5,
    floods=1,
)
BLOCK = Outcome(Decision.BLOCK, Reason.MATCH, stop=True, media=Media.IMAGE)


class Clock:
    def __init__(self):
        self.now = 1060.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def metrics(clock):
    return Metrics(clock=clock)


def samples(metrics, state=STATE):
    families = text_string_to_metric_families(metrics.read(state).decode())
    return {
        (sample.name.removeprefix("nciihash_gate_"), *sorted(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def test_counts_decisions_by_closed_labels(metrics):
    metrics.observe(Dialect.HTTP, BLOCK, receive=0.25, wait=0.0, hash=0.02, match=0.001)
    metrics.observe(Dialect.HTTP, BLOCK, receive=0.5, wait=0.0, hash=0.02, match=0.001)
    metrics.observe(Dialect.CLAMD, Outcome(Decision.UNREADABLE, Reason.EMPTY))
    found = samples(metrics)
    assert found["decisions_total", "block", "http", "image", "match"] == 2
    assert found["decisions_total", "clamd", "empty", "none", "unreadable"] == 1
    assert found["stage_seconds_sum", "image", "receive"] == 0.75
    assert found["stage_seconds_count", "hash", "image"] == 2


def test_counts_what_a_dry_run_would_have_stopped(metrics):
    dry = Outcome(Decision.CLEAR, Reason.MATCH, media=Media.IMAGE, dry_run=True)
    metrics.observe(Dialect.ICAP, dry, intended=BLOCK)
    unreadable = Outcome(Decision.UNREADABLE, Reason.CORRUPT)  # fails open
    metrics.observe(Dialect.ICAP, replace(dry, reason=Reason.CORRUPT), intended=unreadable)
    clear = Outcome(Decision.CLEAR, Reason.NO_MATCH, media=Media.IMAGE)
    metrics.observe(Dialect.ICAP, replace(clear, dry_run=True), intended=clear)
    found = samples(metrics)
    stopped = {key: value for key, value in found.items() if key[0] == "would_have_stopped_total"}
    assert stopped == {("would_have_stopped_total", "block", "icap", "image", "match"): 1}
    assert metrics.last_hour() == {
        Happened(Dialect.ICAP, Decision.BLOCK, dry_run=True): 1,
        Happened(Dialect.ICAP, Decision.UNREADABLE, dry_run=True): 1,
        Happened(Dialect.ICAP, Decision.CLEAR, dry_run=True): 1,
    }


def test_reports_the_state_of_the_gate(metrics):
    metrics.reference_not_stored()
    metrics.flooded()
    metrics.watch_connections(Dialect.HTTP, lambda: 1)
    found = samples(metrics)
    assert found["bank_age_seconds",] == 60
    assert found["bank_signals",] == 7
    assert found["bank_current",] == 1
    assert found["bank_stale",] == 0
    assert found["bank_failing",] == 0
    assert found["queue_length", "image"] == 3
    assert found["running", "image"] == 2
    assert found["child_deaths", "image"] == 1
    assert found["queue_length", "video"] == 0
    assert found["upload_memory_bytes",] == 4096
    assert found["verdicts_waiting",] == 5
    assert found["flooded_items",] == 1
    assert found["flood_alerts_total",] == 1
    assert found["references_not_stored_total",] == 1
    assert found["connections", "http"] == 1


def test_a_bank_that_was_never_complete_has_no_age(metrics):
    found = samples(metrics, replace(STATE, as_of=None, current=False, error="No news."))
    assert math.isnan(found["bank_age_seconds",])
    assert found["bank_failing",] == 1


def test_decisions_are_forgotten_after_an_hour(metrics, clock):
    happened = Happened(Dialect.HTTP, Decision.BLOCK)
    metrics.observe(Dialect.HTTP, BLOCK)
    clock.now += 1800
    metrics.observe(Dialect.HTTP, BLOCK)
    assert metrics.last_hour() == {happened: 2}
    clock.now += 1800
    assert metrics.last_hour() == {happened: 1}
    clock.now += 1860
    assert metrics.last_hour() == {}


def test_a_clock_that_is_set_back_keeps_no_more_than_an_hour(metrics, clock):
    metrics.observe(Dialect.HTTP, BLOCK)
    clock.now -= 10 * 3600
    for _ in range(600):
        clock.now += 60
        metrics.observe(Dialect.HTTP, BLOCK)
    assert sum(metrics.last_hour().values()) <= 61


def test_two_gates_have_metrics_of_their_own(metrics):
    metrics.observe(Dialect.HTTP, BLOCK)
    assert not [key for key in samples(Metrics()) if key[0] == "decisions_total"]
