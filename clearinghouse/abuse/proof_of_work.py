"""Proof of work: what taking in signals costs, and what a check costs while many wait for one.

Nothing is refused by it for good: a request without enough work is answered with a challenge, and
goes through with the solution. Work is counted in the SHA-256 computations that it takes on
average. It keeps somebody with one machine from filling the service for everybody else. It does not
keep out somebody with graphics cards, and is not meant to: an old phone must get through.

The price of the first `SMALL` signals of a case, all its requests together, is at most
`EFFORT_MAX`: the page computes that in about a second on a phone (2.3 million hashes a second on a
desk computer's core, a quarter of that with the processor throttled four times). It follows the
openings of the last minute, since each costs an Argon2 verifier, and the signals that were taken in
during the last hour. What a case holds beyond `SMALL` signals costs a little also while it is
quiet, by the same rate at most.

A challenge is signed and kept nowhere. It holds its difficulty, its number of puzzles, its time and
random bits. Only what was used is noted, as an HMAC, in a transaction of its own before anything
costly is done: of requests that show one proof, one goes on. If that one fails afterwards, its
proof is gone, and the same request is repeated with a fresh one under the same idempotency key.
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

LIFE: Final = 3600  # seconds that a proof for signals is good for
CHECK_LIFE: Final = 120  # seconds, for a check: there is nothing to fill in first
SMALL: Final = 1024  # signals: ten photos have 260 to 520
EFFORT_MAX: Final = 2**19  # hashes; a second on a throttled phone
EFFORT_MIN: Final = 2**8  # hashes; less is not worth a round trip
_SLACK: Final = 1.25  # by which more is asked than is needed, so that a rise does not void it
_NEEDED_MAX: Final = EFFORT_MAX // _SLACK  # hashes
_RATE_MAX: Final = _NEEDED_MAX / SMALL  # hashes a signal
_OPENING: Final = 2**16  # hashes for an opening at the quiet rate, which grows with the rate
_RATE: Final = 200.0  # hashes a signal at the quiet intake, and in proportion to it
_WINDOW: Final = 60.0  # seconds over which openings are averaged
_RANDOM: Final = 16  # bytes
_SIGNATURE: Final = 16  # bytes
_BYTES: Final = 1 + 1 + 7 + _RANDOM + _SIGNATURE
assert 2 * _BYTES == CHALLENGE_DIGITS  # noqa: S101 - both ends speak of one form


class _For(Enum):
    """What a challenge pays for; part of what is signed."""

    SIGNALS = "work"
    CHECK = "work for a check"


class WorkGate:
    """Ask for work by what the service took in lately, and check it.

    The count of openings is in memory only, and each worker's own; that of signals is in the
    database.

    Args:
        vault: signs the challenges.
        openings: a minute, for which no work is asked.
        signals: an hour, for which no work is asked of a case of up to `SMALL` signals.
    """

    def __init__(self, vault: Vault, *, openings: int, signals: int) -> None:
        self._vault = vault
        self._quiet_openings = openings
        self._quiet_signals = signals
        self._lock = threading.Lock()
        self._openings = 0.0  # in the last minute, about
        self._counted = 0.0

    def count(self, now: datetime) -> None:
        """Note that a case is being opened."""
        with self._lock:
            self._openings = self._recent(now) + 1
            self._counted = now.timestamp()

    def _recent(self, now: datetime) -> float:
        # a clock that was put back forgets nothing
        passed = max(now.timestamp() - self._counted, 0.0)
        return self._openings * exp(-passed / _WINDOW)

    # --- what it costs -----------------------------------------------------------------------

    def needed(self, before: int, new: int, taken: float, now: datetime) -> int:
        """Return the hashes that a request takes now, or 0.

        Args:
            before: signals that the case has, withdrawn ones included; 0 for a new case.
            new: signals that the request brings.
            taken: signals that the service took in during the last hour.
            now: the time.
        """
        opening = self._opening(now)
        load = (taken + new) / self._quiet_signals
        whole = _price(before + new, opening, load)
        paid = _price(before, opening, load) if before else 0.0
        found = int(whole - paid)
        return min(found, _DEAREST) if found >= EFFORT_MIN else 0

    def _opening(self, now: datetime) -> float:
        """Return the hashes that an opening takes now, whatever it brings: 0 while it is quiet."""
        load = self._recent(now) / self._quiet_openings
        return 0.0 if load <= 1 else min(_OPENING * load, _NEEDED_MAX)

    def ask(self, store: Store, now: datetime, signals: int | None, before: int = 0) -> WorkAsked:
        """Return what a request with so many signals takes: a bit more than is needed now.

        Without a number of signals, it is what opens a case of up to `SMALL`, in `PUZZLES` puzzles.
        """
        with store.read() as tx:
            taken = tx.proofs.taken_in(now)
        needed = self.needed(before, SMALL if signals is None else signals, taken, now)
        return self._asked(needed, now, PUZZLES if signals is None else PUZZLES_MAX)

    def _asked(self, needed: int, now: datetime, puzzles: int) -> WorkAsked:
        if not needed:
            return WorkAsked(challenge=None, difficulty=0, puzzles=puzzles)
        return self._challenge(ceil(needed * _SLACK), now, puzzles, _For.SIGNALS)

    def _challenge(self, effort: int, now: datetime, puzzles: int, purpose: _For) -> WorkAsked:
        difficulty = (ceil(effort / puzzles) - 1).bit_length()
        if puzzles != PUZZLES:  # fewer of them, rather than harder ones than are needed
            puzzles = ceil(effort / 2**difficulty)
        plain = (
            bytes([difficulty, puzzles])
            + int(now.timestamp()).to_bytes(7)
            + secrets.token_bytes(_RANDOM)
        )
        signed = (plain + self._sign(plain, purpose)).hex()
        return WorkAsked(challenge=signed, difficulty=difficulty, puzzles=puzzles)

    # --- paying ------------------------------------------------------------------------------

    def pay(
        self,
        store: Store,
        work: Work | None,
        *,
        signals: int,
        now: datetime,
        case: int | None = None,
    ) -> None:
        """Spend the work that taking in these signals takes now, and count them.

        Call it when everything that a request can be refused for was looked at, and before
        anything costly. It has a transaction of its own, so that a proof is good for one request,
        whatever becomes of that.

        Args:
            store: where it is noted.
            work: what came with the request.
            signals: how many it brings.
            now: the time.
            case: the row number of the case that they are added to; None for a new case.

        Raises:
            WorkNeeded: no proof, or one that does not hold, has run out, was used or is too easy by
                now; it says what to solve.
        """
        # The proof is checked here: whoever did no work keeps no writer waiting, and who did, for
        # as long as it takes to spend it.
        effort, mark = self._worth(work, now, _For.SIGNALS, LIFE)
        with store.read() as tx:
            self._check(tx, effort, signals, case, now)
        with store.write() as tx:
            needed = self._check(tx, effort, signals, case, now)
            if needed and not tx.proofs.spend(mark, hour(now)):
                raise WorkNeeded(self._asked(needed, now, PUZZLES_MAX))
            tx.proofs.take_in(signals, hour(now))
            if case is None:
                self.count(now)

    def look(
        self,
        store: Store,
        work: Work | None,
        *,
        signals: int,
        now: datetime,
        case: int | None = None,
    ) -> None:
        """Raise what `pay` would raise, and spend nothing."""
        effort, _ = self._worth(work, now, _For.SIGNALS, LIFE)
        with store.read() as tx:
            self._check(tx, effort, signals, case, now)

    def _check(
        self, tx: Transaction, effort: int, signals: int, case: int | None, now: datetime
    ) -> int:
        """Return the hashes that are needed; raise where a proof took fewer."""
        before = 0 if case is None else tx.cases.count_signals(case)
        needed = self.needed(before, signals, tx.proofs.taken_in(now), now)
        if effort < needed:
            raise WorkNeeded(self._asked(needed, now, PUZZLES_MAX))
        return needed

    def ask_for_check(self, effort: int, now: datetime) -> WorkAsked:
        """Return a challenge for a check of a passphrase."""
        return self._challenge(min(effort, EFFORT_MAX), now, PUZZLES_MAX, _For.CHECK)

    def pay_for_check(self, store: Store, work: Work, effort: int, now: datetime) -> int:
        """Spend a proof for a check; return the hashes that it took.

        Args:
            store: where it is noted.
            work: the proof.
            effort: what is asked where it does not hold.
            now: the time.

        Raises:
            CheckWorkNeeded: it does not hold, has run out, or was used.
        """
        found, mark = self._worth(work, now, _For.CHECK, CHECK_LIFE)
        if found:
            with store.write() as tx:
                if tx.proofs.spend(mark, hour(now)):
                    return found
        raise CheckWorkNeeded(self.ask_for_check(effort, now))

    def _worth(
        self, work: Work | None, now: datetime, purpose: _For, life: int
    ) -> tuple[int, bytes]:
        """Return the hashes that a proof took, 0 if it does not hold, and its mark."""
        if work is None:
            return 0, b""
        signed = bytes.fromhex(work.challenge)
        plain, signature = signed[:-_SIGNATURE], signed[-_SIGNATURE:]
        if not hmac.compare_digest(signature, self._sign(plain, purpose)):
            return 0, b""
        difficulty, puzzles, made = plain[0], plain[1], int.from_bytes(plain[2:9])
        fresh = -life <= now.timestamp() - made <= life
        if not fresh or not solves(work.challenge, difficulty, work.nonces, puzzles):
            return 0, b""
        return puzzles << difficulty, self._vault.lookup("spent work", plain)

    def _sign(self, plain: bytes, purpose: _For) -> bytes:
        return self._vault.lookup(purpose.value, plain)[:_SIGNATURE]


_DEAREST: Final = int(PUZZLES_MAX * 2**DIFFICULTY_MAX / _SLACK)  # no request comes near it


def _price(signals: int, opening: float, load: float) -> float:
    """Return the hashes that a case of so many signals takes, all its requests together.

    Args:
        signals: their number.
        opening: hashes for the opening itself; it counts towards the first `SMALL` signals.
        load: signals of the last hour, over the quiet number.
    """
    rate = min(_RATE * load, _RATE_MAX)
    first = 0.0 if load <= 1 else rate * min(signals, SMALL)
    return max(opening, first) + rate * max(signals - SMALL, 0)
