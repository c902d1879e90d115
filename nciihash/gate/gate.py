"""Check uploads: hash them, look them up, decide, and keep a reference of each decision."""

import logging
import random
import time
from collections.abc import Callable
from typing import Final

from nciihash.errors import (
    CorruptFile,
    EmptyFile,
    FileRefused,
    TimedOut,
    TooLarge,
    UnsupportedFormat,
)
from nciihash.gate.bank import GateBank
from nciihash.gate.config import GateConfig
from nciihash.gate.decisions import DecisionStore
from nciihash.gate.flood import FloodStop
from nciihash.gate.metrics import Metrics
from nciihash.gate.outcome import Dialect, Outcome, Reason
from nciihash.gate.pool import HashPool
from nciihash.gate.upload import Upload, UploadMemory
from nciihash.gate.verdicts import VerdictReporter

_log: Final = logging.getLogger("nciihash.gate")

# The reason for each refusal of a file. The first class that fits counts.
_REFUSALS: Final[tuple[tuple[type[FileRefused], Reason], ...]] = (
    (EmptyFile, Reason.EMPTY),
    (UnsupportedFormat, Reason.UNSUPPORTED),
    (TooLarge, Reason.TOO_LARGE),
    (TimedOut, Reason.TIMED_OUT),
    (CorruptFile, Reason.CORRUPT),
    (FileRefused, Reason.FAULT),
)


class Gate:
    """Checks uploads against a bank. Belongs to one event loop.

        with gate.upload() as upload:
            upload.write(chunk)
            outcome = await gate.check(Dialect.HTTP, upload)

    Args:
        config: the configuration.
        bank: what uploads are looked up in.
        pool: hashes uploads; started and closed by the caller.
        decisions: stores references and counts.
        reporter: reports decisions to the clearinghouse; None for a gate without one.
        metrics: counts what happens.
        clock: Unix time in seconds.
        monotonic: monotonic time in seconds.
        sample: returns a random number of at least 0 and less than 1.
    """

    def __init__(
        self,
        config: GateConfig,
        *,
        bank: GateBank,
        pool: HashPool,
        decisions: DecisionStore,
        metrics: Metrics,
        reporter: VerdictReporter | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sample: Callable[[], float] = random.random,
    ) -> None:
        self.config = config
        self.bank = bank
        self.pool = pool
        self.decisions = decisions
        self.reporter = reporter
        self.metrics = metrics
        self.memory = UploadMemory(config.limits.memory)
        self.flood = FloodStop(config.flood)
        self._clock = clock
        self._monotonic = monotonic
        self._sample = sample

    def upload(self) -> Upload:
        """Return an empty upload."""
        limits = self.config.limits
        return Upload(self.memory, max(limits.image_bytes, limits.video_bytes))

    async def check(self, dialect: Dialect, upload: Upload) -> Outcome:
        """Decide about an upload that has been received completely.

        Every failure is an outcome: nothing is raised but a cancellation.
        """
        settings = self.config.dialects[dialect]
        started = self._monotonic()
        state = self.bank.state()
        times = _Times()
        try:
            outcome = await self._check(_Check(dialect, settings, state, times), upload)
        except Exception as error:  # noqa: BLE001 - the caller needs an answer, whatever happens
            _log.error("A check failed: %s. Please report it.", _location(error))
            outcome = _unanswered(settings, state, Reason.INTERNAL)
        self.metrics.observe(dialect, outcome, hash=times.hashed - started, match=times.matched)
        self.decisions.count(dialect, outcome, now=self._clock())
        return outcome
