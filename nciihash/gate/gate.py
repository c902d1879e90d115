"""Check uploads: hash them, look them up, decide, and keep a reference of each decision."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Final

from nciihash.errors import (
    FileRefused,
    SandboxUnavailable,
    ServiceError,
)
from nciihash.gate.bank import BankState, GateBank
from nciihash.gate.checks import (
    Check,
    Progress,
    between,
    kind_of,
    refusal_reason,
    without_matches,
)
from nciihash.gate.config import GateConfig
from nciihash.gate.confirmations import Confirmations, ConfirmationsFull
from nciihash.gate.decisions import DecisionStore
from nciihash.gate.exceptions import Exceptions
from nciihash.gate.flood import FloodStop
from nciihash.gate.logs import RateLimitedLog, describe
from nciihash.gate.metrics import GateState, Metrics
from nciihash.gate.outcome import Decision, Dialect, Outcome, Reason
from nciihash.gate.policy import Action, judge
from nciihash.gate.pool import HashPool, PoolFull
from nciihash.gate.upload import Upload, UploadMemory
from nciihash.signals import Item

_log: Final = logging.getLogger("nciihash.gate")


class Gate:
    """Checks uploads against a bank. Belongs to one event loop.

        with gate.upload() as upload:
            upload.write(chunk)
            outcome = await gate.check(Dialect.HTTP, upload)

    Args:
        config: the configuration.
        bank: what uploads are looked up in.
        pool: hashes uploads; started and closed by the caller.
        decisions: stores references, counts and exceptions; closed by the caller.
        metrics: counts what happens.
        clock: Unix time in seconds.
        monotonic: monotonic time in seconds.
        sample: returns a random number of at least 0 and less than 1.

    Attributes:
        memory: of all uploads.
        flood: the flood stop.
        confirmations: runs look-ups that wait for the clearinghouse.
        verdicts_waiting: verdicts that the clearinghouse has not confirmed yet, as they were
            counted last.
    """

    def __init__(
        self,
        config: GateConfig,
        *,
        bank: GateBank,
        pool: HashPool,
        decisions: DecisionStore,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sample: Callable[[], float] = random.random,
    ) -> None:
        self.config = config
        self.bank = bank
        self.pool = pool
        self.decisions = decisions
        self.metrics = metrics
        self.memory = UploadMemory(config.limits.memory)
        self.flood = FloodStop(config.flood, bank.entry, alert=metrics.flooded)
        self.confirmations = Confirmations()
        self.verdicts_waiting = 0
        self._errors = RateLimitedLog(_log, monotonic=monotonic)
        self._exceptions = Exceptions.of(decisions.exceptions.all())
        self._exceptions_version = decisions.exceptions.version()
        self._clock = clock
        self._monotonic = monotonic
        self._sample = sample

    def upload(self) -> Upload:
        """Return an empty upload."""
        limits = self.config.limits
        return Upload(self.memory, max(limits.image_bytes, limits.video_bytes))

    async def check(
        self, dialect: Dialect, upload: Upload, *, receive: float | None = None
    ) -> Outcome:
        """Decide about an upload that has been received completely.

        Every failure is an outcome; nothing but a cancellation is raised.

        Args:
            dialect: in which it arrived.
            upload: the upload.
            receive: seconds in which it was received, for the metrics; None if not known.
        """
        return await self._answer(dialect, partial(self._check_upload, upload), receive=receive)

    async def check_item(self, dialect: Dialect, item: Item) -> Outcome:
        """Decide about a file of which the caller has only the hashes, or some of them.

        Nothing but a cancellation is raised.
        """
        return await self._answer(dialect, partial(self._check_item, item))

    async def _answer(
        self,
        dialect: Dialect,
        look_up: Callable[[Check], Awaitable[Outcome]],
        *,
        receive: float | None = None,
    ) -> Outcome:
        """Count an outcome, and return it, or what `dry_run` makes of it."""
        started = self._monotonic()
        check = Check(dialect, self.config.dialects[dialect], self.bank.state(), Progress())
        try:
            intended = await self._intended(check, look_up)
        except asyncio.CancelledError:
            check.progress.abandoned = True
            raise
        except Exception as error:  # noqa: BLE001 - the caller needs an answer, whatever happens
            self._errors.error("A check failed: %s. Please report it.", describe(error))
            intended = without_matches(check, Reason.INTERNAL)
        outcome = intended
        if check.settings.dry_run:
            outcome = replace(intended, decision=Decision.CLEAR, stop=False, dry_run=True)
        self.decisions.counts.add(kind_of(check, intended), now=self._clock())
        progress = check.progress
        self.metrics.observe(
            dialect,
            outcome,
            intended=intended if outcome.dry_run else None,
            receive=receive,
            wait=between(started, progress.taken),
            hash=between(progress.taken, progress.hashed),
            match=between(progress.hashed or started, progress.decided),
        )
        return outcome

    def state(self) -> GateState:
        """Return the state of the gate, for monitoring."""
        bank = self.bank.state()
        return GateState(
            signals=bank.signals,
            as_of=bank.as_of,
            current=bank.current,
            stale=self._stale(bank),
            veiled=bank.veiled,
            error=bank.error,
            lanes=self.pool.state(),
            upload_memory=self.memory.used,
            verdicts_waiting=self.verdicts_waiting,
            floods=len(self.flood.flooded(now=self._monotonic())),
        )

    def reload(self, config: GateConfig) -> None:
        """Use another configuration from the next upload on; see `nciihash.gate.reloading`."""
        self.config = config

    def refresh_exceptions(self) -> None:
        """Read the list of exceptions again if it was changed, by whichever process.

        Raises:
            OSError: the file of decisions cannot be read.
        """
        stored = self.decisions.exceptions
        if (version := stored.version()) != self._exceptions_version:
            self._exceptions = Exceptions.of(stored.all())
            self._exceptions_version = version

    async def _intended(
        self, check: Check, look_up: Callable[[Check], Awaitable[Outcome]]
    ) -> Outcome:
        """Return the outcome without regard to `dry_run`."""
        if self._sample() >= check.settings.share:
            return Outcome(Decision.CLEAR, Reason.NOT_SAMPLED, as_of=check.state.as_of)
        try:
            return await look_up(check)
        except FileRefused as refusal:
            reason = refusal_reason(refusal)
        except PoolFull:
            reason = Reason.QUEUE_FULL
        except SandboxUnavailable as error:
            self._errors.error("Uploads cannot be hashed: %s", error)
            reason = Reason.SANDBOX_UNAVAILABLE
        except (ServiceError, ConfirmationsFull) as error:
            self._errors.error("Matches cannot be confirmed: %s", error)
            reason = Reason.UNCONFIRMED
        return without_matches(check, reason)

    async def _check_upload(self, upload: Upload, check: Check) -> Outcome:
        reason = upload.refused or (None if upload.size else Reason.EMPTY)
        if reason := reason or self._unusable(check.state):
            return without_matches(check, reason)
        found = await self.pool.hash(
            upload.data,
            level=check.settings.level,
            then=partial(self._decide_hashed, check),
            taken=partial(self._note_taken, check),
        )
        return await self._confirmed(check, found)

    async def _check_item(self, item: Item, check: Check) -> Outcome:
        if reason := self._unusable(check.state):
            return without_matches(check, reason)
        return await self._confirmed(
            check, await asyncio.to_thread(self._decide_locally, check, item)
        )

    async def _confirmed(self, check: Check, found: Outcome | Item) -> Outcome:
        """Return an outcome, for which the clearinghouse is asked if it takes that."""
        if isinstance(found, Outcome):
            return found
        return await self.confirmations.run(partial(self._decide, check, found))

    def _note_taken(self, check: Check) -> None:
        check.progress.taken = self._monotonic()

    def _decide_hashed(self, check: Check, item: Item) -> Outcome | Item:
        check.progress.hashed = self._monotonic()
        return self._decide_locally(check, item)

    def _decide_locally(self, check: Check, item: Item) -> Outcome | Item:
        """Decide about an item, or return it if the clearinghouse has to be asked about it."""
        return item if self.bank.asks(item) else self._decide(check, item)

    def _unusable(self, state: BankState) -> Reason | None:
        """Return why a bank cannot be relied on; None if it can."""
        if not self._stale(state):
            return None
        return Reason.BANK_EMPTY if state.as_of is None else Reason.BANK_STALE

    def _stale(self, state: BankState) -> bool:
        """Whether the bank was never complete, or is too old to rely on."""
        return state.as_of is None or self._clock() - state.as_of > self.config.max_age

    def _decide(self, check: Check, item: Item) -> Outcome:
        """Look an item up and decide; runs in a thread of the pool or of the confirmations."""
        state = self.bank.state()  # the upload may have waited
        check = replace(check, state=state)
        if reason := self._unusable(state):
            return without_matches(check, reason)
        settings = check.settings
        (result,) = self.bank.look_up([item], settings.level)
        judgement = judge(
            settings.policy,
            item,
            result,
            excepted=self._exceptions.matches(item, result),
            flooded=self.flood.meet(item, result, now=self._monotonic()),
        )
        found = judgement.decision is not Decision.CLEAR
        outcome = Outcome(
            judgement.decision,
            judgement.reason,
            stop=judgement.decision is Decision.BLOCK
            or (
                judgement.decision is Decision.REVIEW and settings.policy.review_as is Action.BLOCK
            ),
            media=item.media,
            result=judgement.result,
            as_of=check.state.as_of,
        )
        # where the caller is gone, nothing was answered, so nothing may be reported as blocked
        if found and not settings.dry_run and not check.progress.abandoned:
            outcome = replace(outcome, reference=self._record(check, outcome))
        check.progress.decided = self._monotonic()
        return outcome

    def _record(self, check: Check, outcome: Outcome) -> str | None:
        """Store a decision and return its reference; None if it cannot be stored."""
        matches = [match for _, match in outcome.result.found] if outcome.result else []
        try:
            return self.decisions.record(
                kind_of(check, outcome),
                matches,
                obeyed=check.settings.obeyed,
                now=self._clock(),
            )
        except Exception as error:  # noqa: BLE001 - the decision is answered all the same
            self._errors.error("A decision could not be stored: %s", describe(error))
            self.metrics.reference_not_stored()
            return None
