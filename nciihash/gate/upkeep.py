"""What a running gate does from time to time: report verdicts, store counts, notice changes."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from nciihash.errors import NciihashError
from nciihash.gate.decisions.verdicts import VerdictReporter
from nciihash.gate.gate import Gate
from nciihash.gate.logs import RateLimitedLog, describe, sentence

_SECONDS: Final = 2.0  # between two rounds
_COUNT_SECONDS: Final = 60.0  # a crash loses the counts since the last time
_PURGE_SECONDS: Final = 3600.0
_log: Final = logging.getLogger("nciihash.gate")


class Upkeep:
    """The regular work of a gate, which blocks on files and so runs in another thread.

    Args:
        gate: the gate.
        reporter: reports verdicts to the clearinghouse; None for a gate without one.
        monotonic: monotonic time in seconds.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        gate: Gate,
        reporter: VerdictReporter | None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._gate = gate
        self._reporter = reporter
        self._monotonic = monotonic
        self._clock = clock
        self._counted = monotonic()
        self._purged: float | None = None
        self._stale: bool | None = None
        self._failing = False
        self._errors = RateLimitedLog(_log, monotonic=monotonic)

    async def run(self) -> None:
        """Repeat the work until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.round)
            except Exception as error:  # noqa: BLE001 - the next round must come
                self._errors.error(
                    "The regular work failed: %s. Please report it.", describe(error)
                )
            await asyncio.sleep(_SECONDS)

    def round(self) -> None:
        """Do what is due."""
        self._notice_bank()
        if self._reporter is not None and self._reporter.report():  # it logs its failures
            self._gate.verdicts_waiting = self._reporter.state.waiting
        try:
            self._gate.refresh_exceptions()
            now = self._monotonic()
            if now - self._counted >= _COUNT_SECONDS:
                self._gate.decisions.counts.flush()
                self._counted = now
            if self._purged is None or now - self._purged >= _PURGE_SECONDS:
                self._gate.decisions.purge(now=self._clock())
                self._purged = now
        except (OSError, NciihashError) as error:
            if not self._failing:
                _log.error("The file of decisions cannot be used: %s", sentence(error))
            self._failing = True
        else:
            if self._failing:
                _log.warning("The file of decisions can be used again.")
            self._failing = False

    def last(self) -> None:
        """Queue the verdicts of the last uploads; closing the store stores the counts."""
        if self._reporter is not None:
            self._reporter.report()

    def _notice_bank(self) -> None:
        """Log when the bank becomes too old to rely on, and when it is up to date again."""
        state = self._gate.state()
        if state.stale == self._stale:
            return
        if state.stale and state.as_of is None:
            _log.warning("Uploads are not checked until the bank has everything in the feed.")
        elif state.stale:
            _log.error("Uploads are not checked: the bank is too old. %s", state.error or "")
        else:
            _log.info("Uploads are checked. The bank has %d signals.", state.signals)
        self._stale = state.stale
