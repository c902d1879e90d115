"""The state of a running service, and the task that keeps its index up to date."""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from clearinghouse.abuse import review
from clearinghouse.abuse.allowlist import AllowlistIndex
from clearinghouse.abuse.oracle import OracleDetector
from clearinghouse.abuse.proof_of_work import ProofOfWork
from clearinghouse.abuse.quotas import Budgets
from clearinghouse.cases.passphrases import PassphraseChecker
from clearinghouse.database.store import Store
from clearinghouse.maintenance import clock
from clearinghouse.maintenance.purge import purge
from clearinghouse.platforms.health import Alert, KeyUses, alerts
from clearinghouse.platforms.live_index import DatabaseRestored, LiveIndex
from clearinghouse.settings import Settings
from clearinghouse.times import day

_log = logging.getLogger(__name__)

_PURGE_EVERY: Final = 3600.0  # seconds
_WRITES_EVERY: Final = 5.0  # seconds between the writes of readiness checks
_PAUSE: Final = 0.5  # seconds before a retry after a database error


class FeedWaiters:
    """Requests that wait for new log entries (long polling), woken together.

    It belongs to one event loop; `poke` and `close` may be called from any thread.

    Attributes:
        generation: increases with every wake-up.
        closed: whether the service is shutting down.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: set[asyncio.Future[None]] = set()
        self._poked = asyncio.Event()
        self.generation = 0
        self.closed = False

    def bind(self) -> None:
        """Bind to the running event loop."""
        self._loop = asyncio.get_running_loop()

    def poke(self) -> None:
        """Report that something was written."""
        self._call(self._poked.set)

    def close(self) -> None:
        """Wake all waiting requests, because the service is shutting down."""
        self.closed = True
        self._call(self._poked.set)
        self._call(self.wake)

    def _call(self, callback: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and no request waits
                self._loop.call_soon_threadsafe(callback)

    async def poked(self, seconds: float) -> None:
        """Wait for a poke, at most for some seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._poked.wait()
        self._poked.clear()

    def wake(self) -> None:
        """Wake all waiting requests."""
        self.generation += 1
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def wait(self, seconds: float, seen: int) -> None:
        """Wait until woken, at most for some seconds; return at once if woken since `seen`.

        Args:
            seconds: the timeout.
            seen: the generation that the caller has seen.
        """
        if self.closed or self.generation != seen:
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await future
        finally:
            self._waiting.discard(future)


class WriteCheck:
    """Whether the database can be written, tried at most every few seconds. Thread-safe."""

    def __init__(self) -> None:
        self._until = -math.inf  # in seconds of `time.monotonic`
        self._lock = threading.Lock()

    def run(self, store: Store) -> None:
        """Commit a write, unless one succeeded in the last `_WRITES_EVERY` seconds.

        Raises:
            SQLAlchemyError: the database cannot be written.
        """
        with self._lock:
            if time.monotonic() >= self._until:
                store.check_writable()
                self._until = time.monotonic() + _WRITES_EVERY


@dataclass(frozen=True, slots=True)
class Service:
    """The objects that the routes use.

    Attributes:
        settings: the settings.
        store: the database.
        checks: checks passphrases.
        proof_of_work: prices, challenges and verifies proofs of work.
        budgets: limits the lookups of each key.
        oracle_detector: detects hash extraction.
        lawful: the allowlist of lawful pictures.
        clock: returns the time.
        live: the index for matching.
        waiters: requests that wait for new log entries.
        uses: when keys were used, until saved.
        writing: the lock held while counts are saved.
        failing: names of the maintenance tasks that fail.
        refused: why the hourly purge waits for the operator's word, by what it doubts: "clock" or
            "expiry".
        writable: when a write was last tried successfully for the readiness check.
        draining: set when the service is about to shut down, and therefore reports not ready.
    """

    settings: Settings
    store: Store
    checks: PassphraseChecker
    proof_of_work: ProofOfWork
    budgets: Budgets
    oracle_detector: OracleDetector
    lawful: AllowlistIndex
    clock: Callable[[], datetime]
    live: LiveIndex = field(default_factory=LiveIndex)
    waiters: FeedWaiters = field(default_factory=FeedWaiters)
    uses: KeyUses = field(default_factory=KeyUses)
    writing: threading.Lock = field(default_factory=threading.Lock)
    failing: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    writable: WriteCheck = field(default_factory=WriteCheck)
    draining: threading.Event = field(default_factory=threading.Event)

    async def follow_log(self) -> None:
        """Keep the live index up to date with the log, wake waiting requests, and run maintenance.

        Writes of this process and PostgreSQL notifications are noticed at once, everything else
        within `poll_interval`. If the database cannot be read, it is retried, and the service
        reports that it is not ready until the index has caught up; nothing is lost. If the
        database was restored from a backup in the meantime, its log is read from the beginning.
        """
        maintenance = _Maintenance(self)
        reported = False
        while not self.waiters.closed:
            try:
                if await asyncio.to_thread(self.live.follow, self.store):
                    self.waiters.wake()  # before the maintenance, which they need not wait for
                    maintenance.saved = False
                reported = False
            except Exception as error:  # noqa: BLE001 - any error may be temporary
                self.live.caught_up = False
                if not reported:  # once, not on every retry
                    _log.exception("The log cannot be read; retrying.")
                reported = True
                await self._recover(error)
            else:
                await asyncio.to_thread(maintenance.run)
            await self.waiters.poked(self.settings.poll_interval)
        try:
            await asyncio.to_thread(self._write_counts)
        except Exception:  # noqa: BLE001 - the shutdown continues
            _log.exception("The last match counts could not be saved.")

    async def _recover(self, error: Exception) -> None:
        if isinstance(error, DatabaseRestored):
            # first, so that the index has nothing from before, even if the rest fails
            self.live.reset()
            with suppress(Exception):  # retried like everything else
                await asyncio.to_thread(self.store.reconcile)
                return
        await asyncio.sleep(_PAUSE)

    def _write_counts(self) -> None:
        """Save the counts and alarms that are in memory; keep them there if that fails."""
        with self.writing:  # a second caller finds everything saved
            self._write_counts_locked()

    def _write_counts_locked(self) -> None:
        counts, alarms, uses = (
            self.live.take_match_counts(),
            self.oracle_detector.take(),
            self.uses.take(),
        )
        if not counts and not alarms and not uses:
            return
        now = self.clock()
        try:
            with self.store.write() as tx:
                if counts:
                    tx.platforms.add_matches(counts, day(now))
                review.flag_hits(
                    tx,
                    {item for _, item in counts},
                    platforms=self.settings.flag_platforms,
                    now=now,
                )
                review.raise_alarms(tx, alarms, now=now)
                if uses:
                    tx.platforms.update_key_uses(uses)
        except BaseException:
            for (platform, item), count in counts.items():
                self.live.count(platform, {item: count})
            self.oracle_detector.restore(alarms)
            self.uses.restore(uses)
            raise
        for alarm in alarms:
            # nothing else about it may appear in a log
            _log.warning(
                "Key %d sends many queries around one file. See `clearinghouse review list`.",
                alarm.key,
            )

    def _purge(self) -> None:
        """Purge, unless the clock may be wrong; log what is refused once, when it begins."""
        now = self.clock()
        try:
            clock.check(self.store, now)
        except clock.ClockDoubtful as doubt:
            self._refuse("clock", str(doubt))
            return
        self.refused.pop("clock", None)
        done = purge(self.store, retention_days=self.settings.retention_days, now=now)
        if done.refusal is not None:
            self._refuse("expiry", done.refusal)
        else:
            self.refused.pop("expiry", None)

    def _refuse(self, what: str, why: str) -> None:
        if what not in self.refused:
            _log.warning("The hourly purge is refused. %s", why)
        self.refused[what] = why

    def _alert(self, known: frozenset[Alert]) -> frozenset[Alert]:
        """Log the new alerts about platforms; return all current ones."""
        with self.store.read() as tx:
            current = alerts(tx, now=self.clock())
        for alert in current:
            if alert not in known:
                _log.warning("%s", alert.text)
        return frozenset(current)


class _Maintenance:
    """Maintenance tasks that run after each read of the log.

    A task that fails, for example because the disk is full, is retried in the next round. The
    others continue, as do matching and the feed, which do not depend on them.

    Attributes:
        saved: whether the files outside the database are up to date with the log.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self.saved = False
        self._swept = 0
        self._due = time.monotonic() + _PURGE_EVERY
        self._alerts = frozenset[Alert]()

    def run(self) -> None:
        """Run the tasks that are due; log a failing task once, when it begins to fail."""
        failing = self._service.failing
        tasks: dict[str, Callable[[], None]] = {
            "Saving the withdrawal journal": self._save_journal,
            "Saving match counts": self._service._write_counts,
            "Wiping purged values": self._sweep,
            "The hourly purge": self._purge_hourly,
        }
        for name, task in tasks.items():
            try:
                task()
                failing.discard(name)
            except Exception:  # noqa: BLE001 - any error may be temporary
                if name not in failing:
                    _log.exception("%s failed; retrying.", name)
                failing.add(name)

    def _save_journal(self) -> None:
        if self.saved:
            return
        store = self._service.store
        store.save_high_water_mark()
        store.update_journal()
        self.saved = True

    def _sweep(self) -> None:
        removals = self._service.live.removals
        if self._swept != removals and self._service.store.checkpoint():
            self._swept = removals

    def _purge_hourly(self) -> None:
        if time.monotonic() < self._due:
            return
        self._service._purge()
        self._alerts = self._service._alert(self._alerts)
        self._due = time.monotonic() + _PURGE_EVERY
