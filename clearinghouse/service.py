"""What one running service is made of, and the one task that keeps its index up to date."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from clearinghouse.abuse import review
from clearinghouse.abuse.allowlist import LawfulList
from clearinghouse.abuse.oracle import OracleDetector
from clearinghouse.abuse.proof_of_work import WorkGate
from clearinghouse.abuse.quotas import Budgets
from clearinghouse.cases.passphrases import PassphraseChecker
from clearinghouse.database.store import Store
from clearinghouse.maintenance.purge import purge
from clearinghouse.platforms.health import Alert, KeyUses, alerts
from clearinghouse.platforms.live_index import DatabaseRestored, LiveIndex
from clearinghouse.settings import Settings
from clearinghouse.times import day

_log = logging.getLogger(__name__)

_PURGE_EVERY: Final = 3600.0  # seconds
_PAUSE: Final = 0.5  # seconds before a database that failed is tried again


class FeedWaiters:
    """Everybody who waits for something new in the log, woken together.

    Belongs to one event loop; `poke` and `close` may be called from any thread.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: set[asyncio.Future[None]] = set()
        self._poked = asyncio.Event()
        self.generation = 0  # moves with every waking
        self.closed = False

    def bind(self) -> None:
        """Belong to the loop that runs now."""
        self._loop = asyncio.get_running_loop()

    def poke(self) -> None:
        """Say that something was written."""
        self._call(self._poked.set)

    def close(self) -> None:
        """Let everybody go: the service is ending."""
        self.closed = True
        self._call(self._poked.set)
        self._call(self.wake)

    def _call(self, what: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has just ended, and nobody waits any more
                self._loop.call_soon_threadsafe(what)

    async def poked(self, seconds: float) -> None:
        """Wait for a poke, or for some seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._poked.wait()
        self._poked.clear()

    def wake(self) -> None:
        """Wake everybody who waits."""
        self.generation += 1
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def wait(self, seconds: float, seen: int) -> None:
        """Wait until woken, or for some seconds; not at all if woken since `seen`, a generation."""
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


@dataclass(frozen=True, slots=True)
class Service:
    """The parts that the routes work with."""

    settings: Settings
    store: Store
    checks: PassphraseChecker
    gate: WorkGate
    budgets: Budgets
    watch: OracleDetector
    lawful: LawfulList
    clock: Callable[[], datetime]
    live: LiveIndex = field(default_factory=LiveIndex)
    waiters: FeedWaiters = field(default_factory=FeedWaiters)
    uses: KeyUses = field(default_factory=KeyUses)
    writing: threading.Lock = field(default_factory=threading.Lock)
    failing: set[str] = field(default_factory=set)  # parts of the upkeep

    async def follow_log(self) -> None:
        """Keep the live index behind the log, wake those who wait, and tidy up.

        Notices at once what this process writes and what a notification tells, and within
        `poll_interval` everything else. A database that cannot be read is tried again, and the
        service says that it is not ready until it has caught up; nothing is lost. One that was put
        back from a backup meanwhile is followed from its beginning.
        """
        upkeep = _Upkeep(self)
        told = False
        while not self.waiters.closed:
            try:
                if await asyncio.to_thread(self.live.follow, self.store):
                    self.waiters.wake()  # before the notes, which nobody needs to wait for
                    upkeep.noted = False
                told = False
            except Exception as error:  # noqa: BLE001 - whatever it was, the next round may succeed
                self.live.caught_up = False
                if not told:  # once, and not each second while a database is away
                    _log.exception("The log could not be followed; trying again.")
                told = True
                await self._recover(error)
            else:
                await asyncio.to_thread(upkeep.run)
            await self.waiters.poked(self.settings.poll_interval)
        try:
            await asyncio.to_thread(self._write_counts)
        except Exception:  # noqa: BLE001 - the service ends all the same
            _log.exception("The last counts of matches could not be written.")

    async def _recover(self, error: Exception) -> None:
        if isinstance(error, DatabaseRestored):
            # first, so that nothing of before is in the index, whatever becomes of the rest
            self.live.begin_anew()
            with suppress(Exception):  # tried again, as everything is
                await asyncio.to_thread(self.store.settle)
                return
        await asyncio.sleep(_PAUSE)

    def _write_counts(self) -> None:
        """Write down what was counted and noticed in memory; keep it if that fails."""
        with self.writing:  # whoever comes second finds all of it written
            self._write_what_was_counted()

    def _write_what_was_counted(self) -> None:
        counts, alarms, uses = self.live.take_counts(), self.watch.take(), self.uses.take()
        if not counts and not alarms and not uses:
            return
        now = self.clock()
        try:
            with self.store.write() as tx:
                if counts:
                    tx.platforms.count_matches(counts, day(now))
                review.flag_hits(
                    tx,
                    {item for _, item in counts},
                    platforms=self.settings.flag_platforms,
                    now=now,
                )
                review.raise_alarms(tx, alarms, now=now)
                if uses:
                    tx.platforms.note_uses(uses)
        except BaseException:
            for (platform, item), count in counts.items():
                self.live.count(platform, {item: count})
            self.watch.give_back(alarms)
            self.uses.give_back(uses)
            raise
        for alarm in alarms:
            # a row number is all that a log may hold of it
            _log.warning("Key %d asks around one file: see `clearinghouse review list`.", alarm.key)

    def _purge(self) -> None:
        purge(self.store, retention_days=self.settings.retention_days, now=self.clock())

    def _alert(self, told: frozenset[Alert]) -> frozenset[Alert]:
        """Tell the operator, once each, what is wrong with platforms; give what is."""
        with self.store.read() as tx:
            found = alerts(tx, now=self.clock())
        for alert in found:
            if alert not in told:
                _log.warning("%s", alert.words)
        return frozenset(found)


class _Upkeep:
    """What is written down beside following the log.

    A part that fails, as on a disk without space, is tried again in the next round. The others go
    on, and so do matching and the feed, which need none of it.

    Attributes:
        noted: whether the notes outside the database have what the log has.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self.noted = False
        self._swept = 0
        self._due = time.monotonic() + _PURGE_EVERY
        self._told = frozenset[Alert]()

    def run(self) -> None:
        """Do what is to be done now; report each part once when it begins to fail."""
        failing = self._service.failing
        parts: dict[str, Callable[[], None]] = {
            "The notes on withdrawals": self._note,
            "Counts of matches": self._service._write_counts,
            "Sweeping purged values": self._sweep,
            "The hourly purge": self._by_the_hour,
        }
        for name, part in parts.items():
            try:
                part()
                failing.discard(name)
            except Exception:  # noqa: BLE001 - whatever it was, the next round may succeed
                if name not in failing:
                    _log.exception("%s failed; trying again.", name)
                failing.add(name)

    def _note(self) -> None:
        if self.noted:
            return
        store = self._service.store
        store.note_reached()
        store.keep_withdrawals()
        self.noted = True

    def _sweep(self) -> None:
        removals = self._service.live.removals
        if self._swept != removals and self._service.store.sweep():
            self._swept = removals

    def _by_the_hour(self) -> None:
        if time.monotonic() < self._due:
            return
        self._service._purge()
        self._told = self._service._alert(self._told)
        self._due = time.monotonic() + _PURGE_EVERY
