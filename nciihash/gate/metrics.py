"""Metrics of a gate for Prometheus, and the decisions of the last hour for its status page.

Every label is one of a closed set: a dialect, a decision, a reason, a kind of file, a stage or a
lane. None comes from a caller, and nothing identifies an upload.
"""

import time
from collections import Counter as Counted
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from nciihash.gate.outcome import Decision, Dialect, Outcome
from nciihash.gate.pool import LaneState
from nciihash.signals import Media

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_PREFIX: Final = "nciihash_gate_"
_NO_MEDIA: Final = "none"  # for uploads that were not hashed
# of JPEG files, hashing takes some 3 ms at the level `fast`, and some 50 ms at `windows`
_SECONDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
    *(2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 600.0),
)
_RECENT_SECONDS: Final = 3600
_INTERVAL_SECONDS: Final = 60  # the resolution of the last hour
_INTERVALS: Final = _RECENT_SECONDS // _INTERVAL_SECONDS + 1


@dataclass(frozen=True, slots=True)
class GateState:
    """The state of a gate at one moment.

    Attributes:
        signals: how many signals the bank has.
        as_of: when the bank last had everything in the feed, in Unix seconds; None if never.
        current: whether the bank has the last page of the feed.
        stale: whether the bank is empty, or older than the configuration allows.
        veiled: whether the bank has only a part of each hash.
        error: why the feed cannot be followed at the moment; None while it can.
        lanes: of child processes, by the media that they hash.
        upload_memory: bytes that uploads take.
        verdicts_waiting: verdicts that the clearinghouse has not confirmed yet.
        floods: items that many unlike pictures match at the moment.
    """

    signals: int
    as_of: float | None
    current: bool
    stale: bool
    veiled: bool
    error: str | None
    lanes: Mapping[Media, LaneState]
    upload_memory: int
    verdicts_waiting: int
    floods: int


@dataclass(frozen=True, slots=True)
class Happened:
    """What happened to uploads, as it is counted.

    Attributes:
        dialect: in which they arrived.
        decision: the decision; with `dry_run`, what it would have been.
        dry_run: whether the dialect only counts.
    """

    dialect: Dialect
    decision: Decision
    dry_run: bool = False


class Metrics:
    """The metrics of one gate, in a registry of their own.

    Args:
        clock: Unix time in seconds.

    Attributes:
        references_not_stored: blocks and reviews whose reference could not be stored.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self.registry = CollectorRegistry()
        self._clock = clock
        self.references_not_stored = 0
        # bounded, since after the clock was set back the oldest ones seem to be new
        self._recent: deque[tuple[int, Counted[Happened]]] = deque(maxlen=_INTERVALS)
        self._decisions = self._counter(
            "decisions", "Uploads by what was decided.", "dialect", "decision", "reason", "media"
        )
        self._would_have_stopped = self._counter(
            "would_have_stopped",
            "Uploads that dialects with `dry_run` would have blocked, held for review or refused.",
            *("dialect", "decision", "reason", "media"),
        )
        self._seconds = Histogram(
            f"{_PREFIX}stage_seconds",
            "Time that each stage of an upload took.",
            ("stage", "media"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._unstored = self._counter(
            "references_not_stored", "Blocks and reviews whose reference could not be stored."
        )
        self._alerts = self._counter(
            "flood_alerts", "Times that many unlike pictures were found to match one item."
        )
        self._deaths = self._gauge(
            "child_deaths", "Child processes that ended in the middle of an upload.", "lane"
        )
        self._waiting = self._gauge("queue_length", "Uploads that wait to be hashed.", "lane")
        self._running = self._gauge("running", "Uploads that are being hashed.", "lane")
        self._memory = self._gauge(
            "upload_memory_bytes", "Memory that uploads being received or checked take."
        )
        self._verdicts = self._gauge(
            "verdicts_waiting", "Verdicts that the clearinghouse has not confirmed yet."
        )
        self._floods = self._gauge(
            "flooded_items", "Items that many unlike pictures match at the moment."
        )
        self._connections = self._gauge("connections", "Open connections.", "dialect")
        self._signals = self._gauge("bank_signals", "Signals in the bank.")
        self._age = self._gauge(
            "bank_age_seconds",
            "Time since the bank last had everything in the feed; NaN if it never had.",
        )
        self._current = self._gauge(
            "bank_current", "Whether the bank has the last page of the feed."
        )
        self._stale = self._gauge(
            "bank_stale", "Whether the bank is too old to rely on, so that nothing is checked."
        )
        self._failing = self._gauge(
            "bank_failing", "Whether the feed cannot be followed at the moment."
        )

    def _counter(self, name: str, description: str, *labels: str) -> Counter:
        return Counter(_PREFIX + name, description, labels, registry=self.registry)

    def _gauge(self, name: str, description: str, *labels: str) -> Gauge:
        return Gauge(_PREFIX + name, description, labels, registry=self.registry)

    def observe(
        self,
        dialect: Dialect,
        outcome: Outcome,
        *,
        intended: Outcome | None = None,
        receive: float | None = None,
        wait: float | None = None,
        hash: float | None = None,  # noqa: A002 - a stage
        match: float | None = None,
    ) -> None:
        """Count an upload that was answered.

        Args:
            dialect: in which it arrived.
            outcome: the answer.
            intended: with `dry_run`, what the answer would have been without it.
            receive: seconds from its first byte to its last; None, as for the others, if unknown or
                if the upload did not get that far.
            wait: seconds until a child process was free.
            hash: seconds in the child process.
            match: seconds to look its hashes up and to decide.
        """
        media = _NO_MEDIA if outcome.media is None else outcome.media.value
        self._decisions.labels(
            dialect.value, outcome.decision.value, outcome.reason.value, media
        ).inc()
        happened = outcome
        if intended is not None:
            happened = intended
            if intended.stop or intended.decision in {Decision.BLOCK, Decision.REVIEW}:
                self._would_have_stopped.labels(
                    dialect.value, intended.decision.value, intended.reason.value, media
                ).inc()
        for stage, seconds in (
            *(("receive", receive), ("wait", wait)),
            *(("hash", hash), ("match", match)),
        ):
            if seconds is not None:
                self._seconds.labels(stage, media).observe(seconds)
        self._count(Happened(dialect, happened.decision, dry_run=intended is not None))

    def reference_not_stored(self) -> None:
        """Count a block or review whose reference could not be stored."""
        self.references_not_stored += 1
        self._unstored.inc()

    def flooded(self) -> None:
        """Count an item that many unlike pictures were found to match."""
        self._alerts.inc()

    def watch_connections(self, dialect: Dialect, count: Callable[[], int]) -> None:
        """Report the open connections of a dialect's address.

        Args:
            dialect: one of those at the address.
            count: returns how many are open.
        """
        self._connections.labels(dialect.value).set_function(count)

    def last_hour(self) -> Mapping[Happened, int]:
        """Return what happened to the uploads of the last hour, with their numbers."""
        self._drop_old(self._clock())
        total: Counted[Happened] = Counted()
        for _, counts in self._recent:
            total.update(counts)
        return total

    def read(self, state: GateState) -> bytes:
        """Return the current metrics in the Prometheus text format."""
        for media, lane in state.lanes.items():
            self._deaths.labels(media.value).set(lane.deaths)
            self._waiting.labels(media.value).set(lane.waiting)
            self._running.labels(media.value).set(lane.running)
        self._memory.set(state.upload_memory)
        self._verdicts.set(state.verdicts_waiting)
        self._floods.set(state.floods)
        self._signals.set(state.signals)
        self._age.set(
            float("nan") if state.as_of is None else max(self._clock() - state.as_of, 0.0)
        )
        self._current.set(state.current)
        self._stale.set(state.stale)
        self._failing.set(state.error is not None)
        return generate_latest(self.registry)

    def _count(self, happened: Happened) -> None:
        now = self._clock()
        interval = int(now // _INTERVAL_SECONDS)
        if not self._recent or self._recent[-1][0] != interval:
            self._recent.append((interval, Counted()))
            self._drop_old(now)
        self._recent[-1][1][happened] += 1

    def _drop_old(self, now: float) -> None:
        oldest = (now - _RECENT_SECONDS) // _INTERVAL_SECONDS
        while self._recent and self._recent[0][0] <= oldest:
            self._recent.popleft()
