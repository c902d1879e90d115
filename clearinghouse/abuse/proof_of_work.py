"""Proof of work: what submitting signals costs, and what a passphrase check costs under load.

No request is refused for good: the response to one with too little work contains a challenge, and
the request is accepted with its solution. Work is counted in SHA-256 computations, on average. It
keeps somebody with one machine from using up the service. It does not stop somebody with graphics
cards and is not meant to: an old phone must be able to do it.

The price of the first `SMALL` signals of a case, over all its requests, is at most `EFFORT_MAX`:
about a second of the page's computation on a phone (2.3 million hashes a second on a desktop core,
a quarter of that with the processor throttled four times). It depends on the cases opened in the
last minute, since each costs an Argon2 verifier, and on the signals submitted in the last hour.
Signals of a case beyond `SMALL` cost a little even without load, up to the same rate.

A challenge is signed and not stored. It holds its difficulty, its number of puzzles, its time and
random bits. Only used proofs are recorded, as an HMAC, in a transaction of their own before any
costly step: of several requests with one proof, one proceeds. If that one fails later, its proof is
spent, and the client repeats the request with a new proof and the same idempotency key.
"""

import hmac
import secrets
import threading
from datetime import datetime
from enum import Enum
from math import ceil, exp
from typing import Final

from clearinghouse.database.store import Store
from clearinghouse.database.transaction import Transaction
from clearinghouse.errors import CheckWorkNeeded, WorkNeeded
from clearinghouse.sealing.vault import Vault
from clearinghouse.times import hour
from nciihash.wire.proof_of_work import (
    CHALLENGE_DIGITS,
    DIFFICULTY_MAX,
    PUZZLES,
    PUZZLES_MAX,
    Work,
    WorkAsked,
    solves,
)

LIFE: Final = 3600  # seconds for which a proof for signals is valid
CHECK_LIFE: Final = 120  # seconds; shorter, since there is no form to fill in first
SMALL: Final = 1024  # signals: ten photos have 260 to 520
EFFORT_MAX: Final = 2**19  # hashes; a second on a throttled phone
EFFORT_MIN: Final = 2**8  # hashes; less is not worth a round trip
_SLACK: Final = 1.25  # a challenge asks for more than needed, so that it survives a price rise
_NEEDED_MAX: Final = EFFORT_MAX // _SLACK  # hashes
_RATE_MAX: Final = _NEEDED_MAX / SMALL  # hashes per signal
_OPENING: Final = 2**16  # hashes to open a case at the free rate; proportional to the rate
_RATE: Final = 200.0  # hashes per signal at the free intake; proportional to the intake
_WINDOW: Final = 60.0  # seconds over which openings are averaged
_RANDOM: Final = 16  # bytes
_SIGNATURE: Final = 16  # bytes
_BYTES: Final = 1 + 1 + 7 + _RANDOM + _SIGNATURE
assert 2 * _BYTES == CHALLENGE_DIGITS  # noqa: S101 - server and clients agree on the length


class _Purpose(Enum):
    """What a challenge is for; part of the signed text."""

    SIGNALS = "work"
    CHECK = "work for a check"


class ProofOfWork:
    """Proofs of work: their price under the current load, their challenges and verification.

    Opened cases are counted in memory, separately in each worker; signals in the database.

    Args:
        vault: signs the challenges.
        openings: cases opened in a minute without any work.
        signals: signals submitted in an hour without any work for cases of up to `SMALL` signals.
    """

    def __init__(self, vault: Vault, *, openings: int, signals: int) -> None:
        self._vault = vault
        self._free_openings = openings
        self._free_signals = signals
        self._lock = threading.Lock()
        self._openings = 0.0  # cases opened in about the last minute
        self._counted_at = 0.0

    def count(self, now: datetime) -> None:
        """Count the opening of a case."""
        with self._lock:
            self._openings = self._recent(now) + 1
            self._counted_at = now.timestamp()

    def _recent(self, now: datetime) -> float:
        # max: a clock set back does not increase the count
        passed = max(now.timestamp() - self._counted_at, 0.0)
        return self._openings * exp(-passed / _WINDOW)

    # --- prices -------------------------------------------------------------------------------

    def needed(self, before: int, new: int, taken: float, now: datetime) -> int:
        """Return how many hashes a request costs now; 0 if none.

        Args:
            before: signals of the case, withdrawn ones included; 0 for a new case.
            new: signals in the request.
            taken: signals submitted to the service in the last hour.
            now: the time.
        """
        opening = self._opening(now)
        load = (taken + new) / self._free_signals
        total = _price(before + new, opening, load)
        paid = _price(before, opening, load) if before else 0.0
        price = int(total - paid)
        return min(price, _PRICE_MAX) if price >= EFFORT_MIN else 0

    def _opening(self, now: datetime) -> float:
        """Return how many hashes it costs now to open a case, whatever its signals."""
        load = self._recent(now) / self._free_openings
        return 0.0 if load <= 1 else min(_OPENING * load, _NEEDED_MAX)

    def ask(self, store: Store, now: datetime, signals: int | None, before: int = 0) -> WorkAsked:
        """Return a challenge for a request, a little harder than needed now.

        Args:
            store: has the count of recent signals.
            now: the time.
            signals: signals in the request; None to open a case of up to `SMALL`, in exactly
                `PUZZLES` puzzles.
            before: signals that the case has already.
        """
        with store.read() as tx:
            taken = tx.proofs.count_intake(now)
        needed = self.needed(before, SMALL if signals is None else signals, taken, now)
        return self._asked(needed, now, PUZZLES if signals is None else PUZZLES_MAX)

    def _asked(self, needed: int, now: datetime, puzzles: int) -> WorkAsked:
        if not needed:
            return WorkAsked(challenge=None, difficulty=0, puzzles=puzzles)
        return self._challenge(ceil(needed * _SLACK), now, puzzles, _Purpose.SIGNALS)

    def _challenge(self, effort: int, now: datetime, puzzles: int, purpose: _Purpose) -> WorkAsked:
        difficulty = (ceil(effort / puzzles) - 1).bit_length()
        if puzzles != PUZZLES:  # fewer puzzles, rather than more work than needed
            puzzles = ceil(effort / 2**difficulty)
        plain = (
            bytes([difficulty, puzzles])
            + int(now.timestamp()).to_bytes(7)
            + secrets.token_bytes(_RANDOM)
        )
        challenge = (plain + self._sign(plain, purpose)).hex()
        return WorkAsked(challenge=challenge, difficulty=difficulty, puzzles=puzzles)

    # --- payment ------------------------------------------------------------------------------

    def pay(
        self,
        store: Store,
        work: Work | None,
        *,
        signals: int,
        now: datetime,
        case: int | None = None,
    ) -> None:
        """Spend a proof for submitting signals at the current price, and count the signals.

        Call it after all other checks of the request, and before any costly step. It uses a
        transaction of its own, so that a proof is valid for one request, whether that succeeds or
        not.

        Args:
            store: records the proof.
            work: the proof in the request.
            signals: how many are submitted.
            now: the time.
            case: row number of the case to which they are added; None for a new case.

        Raises:
            WorkNeeded: the proof is missing, invalid, expired, used or too easy by now. The error
                carries a new challenge.
        """
        # Verified before the write lock is taken: a request without work delays no writer.
        effort, mark = self._worth(work, now, _Purpose.SIGNALS, LIFE)
        with store.read() as tx:
            self._check(tx, effort, signals, case, now)
        with store.write() as tx:
            needed = self._check(tx, effort, signals, case, now)
            if needed and not tx.proofs.spend(mark, hour(now)):
                raise WorkNeeded(self._asked(needed, now, PUZZLES_MAX))
            tx.proofs.add_intake(signals, hour(now))
            if case is None:
                self.count(now)

    def check(
        self,
        store: Store,
        work: Work | None,
        *,
        signals: int,
        now: datetime,
        case: int | None = None,
    ) -> None:
        """Raise what `pay` would raise, without spending the proof."""
        effort, _ = self._worth(work, now, _Purpose.SIGNALS, LIFE)
        with store.read() as tx:
            self._check(tx, effort, signals, case, now)

    def _check(
        self, tx: Transaction, effort: int, signals: int, case: int | None, now: datetime
    ) -> int:
        """Return how many hashes are needed; raise `WorkNeeded` if the proof took fewer."""
        before = 0 if case is None else tx.cases.count_signals(case)
        needed = self.needed(before, signals, tx.proofs.count_intake(now), now)
        if effort < needed:
            raise WorkNeeded(self._asked(needed, now, PUZZLES_MAX))
        return needed

    def ask_for_check(self, effort: int, now: datetime) -> WorkAsked:
        """Return a challenge for checking a passphrase, of `effort` hashes if allowed."""
        return self._challenge(min(effort, EFFORT_MAX), now, PUZZLES_MAX, _Purpose.CHECK)

    def pay_for_check(self, store: Store, work: Work, effort: int, now: datetime) -> int:
        """Spend a proof for checking a passphrase; return how many hashes it took.

        Args:
            store: records the proof.
            work: the proof.
            effort: hashes to ask for if the proof is refused.
            now: the time.

        Raises:
            CheckWorkNeeded: the proof is invalid, expired or used.
        """
        paid, mark = self._worth(work, now, _Purpose.CHECK, CHECK_LIFE)
        if paid:
            with store.write() as tx:
                if tx.proofs.spend(mark, hour(now)):
                    return paid
        raise CheckWorkNeeded(self.ask_for_check(effort, now))

    def _worth(
        self, work: Work | None, now: datetime, purpose: _Purpose, life: int
    ) -> tuple[int, bytes]:
        """Return how many hashes a proof took, 0 if it is invalid, and the HMAC to record it by."""
        if work is None:
            return 0, b""
        signed = bytes.fromhex(work.challenge)
        plain, signature = signed[:-_SIGNATURE], signed[-_SIGNATURE:]
        if not hmac.compare_digest(signature, self._sign(plain, purpose)):
            return 0, b""
        difficulty, puzzles, issued = plain[0], plain[1], int.from_bytes(plain[2:9])
        fresh = -life <= now.timestamp() - issued <= life
        if not fresh or not solves(work.challenge, difficulty, work.nonces, puzzles):
            return 0, b""
        return puzzles << difficulty, self._vault.lookup("spent work", plain)

    def _sign(self, plain: bytes, purpose: _Purpose) -> bytes:
        return self._vault.lookup(purpose.value, plain)[:_SIGNATURE]


_PRICE_MAX: Final = int(PUZZLES_MAX * 2**DIFFICULTY_MAX / _SLACK)  # far above any real request


def _price(signals: int, opening: float, load: float) -> float:
    """Return how many hashes a case costs, over all its requests.

    Args:
        signals: signals of the case.
        opening: hashes for opening it, which also pay for the first `SMALL` signals.
        load: signals of the last hour, divided by the free number.
    """
    rate = min(_RATE * load, _RATE_MAX)
    first = 0.0 if load <= 1 else rate * min(signals, SMALL)
    return max(opening, first) + rate * max(signals - SMALL, 0)
