"""Proof of work on opening a case: nothing while it is quiet, about a second at most in a flood.

The limit of openings is elsewhere: each costs the service an Argon2 verifier, and these are made
one at a time. The work keeps somebody with one machine from filling that queue for everybody else.
It does not keep out somebody with a farm of graphics cards, and is not meant to: an old phone must
get through, so that the difficulty has a low cap.

A challenge is signed and kept nowhere. It holds its difficulty, its time and random bits; it is
good for an hour and for one case. Only what was used is noted, as an HMAC, until it has run out.
"""

import hmac
import secrets
from datetime import datetime
from math import ceil, exp, log2
from typing import Final

from clearinghouse.database.transaction import Transaction
from clearinghouse.errors import WorkNeeded
from clearinghouse.sealing.vault import Vault
from clearinghouse.times import hour
from nciihash.wire.proof_of_work import CHALLENGE_DIGITS, PUZZLES, Work, WorkAsked, solves

LIFE: Final = 3600  # seconds
EASIEST: Final = 12  # bits; 16 puzzles of these take a phone that is ten years old about a second
HARDEST: Final = 15  # bits; half a second at a desk, some seconds on that phone
_WINDOW: Final = 60.0  # seconds over which openings are averaged
_RANDOM: Final = 16  # bytes
_SIGNATURE: Final = 16  # bytes
_BYTES: Final = 1 + 8 + _RANDOM + _SIGNATURE
assert 2 * _BYTES == CHALLENGE_DIGITS  # noqa: S101 - both ends speak of one form


class Gate:
    """Ask for work by how many cases were opened lately, and check it.

    Belongs to one event loop. The count is in memory only, and each worker's own.

    Args:
        vault: signs the challenges.
        quiet: openings a minute for which no work is asked.
    """

    def __init__(self, vault: Vault, *, quiet: int) -> None:
        self._vault = vault
        self._quiet = quiet
        self._openings = 0.0  # in the last minute, about
        self._counted = 0.0

    def count(self, now: datetime) -> None:
        """Note that a case is being opened."""
        self._openings = self._recent(now) + 1
        self._counted = now.timestamp()

    def difficulty(self, now: datetime) -> int:
        """Give the bits that are needed now: 0 while it is quiet, one more at each doubling."""
        recent = self._recent(now)
        if recent <= self._quiet:
            return 0
        return min(EASIEST - 1 + ceil(log2(recent / self._quiet)), HARDEST)

    def _recent(self, now: datetime) -> float:
        # a clock that was put back forgets nothing
        passed = max(now.timestamp() - self._counted, 0.0)
        return self._openings * exp(-passed / _WINDOW)

    def challenge(self, now: datetime) -> WorkAsked:
        """Make a challenge: a bit harder than needed now, so that a rise does not void it."""
        needed = self.difficulty(now)
        if not needed:
            return WorkAsked(challenge=None, difficulty=0, puzzles=PUZZLES)
        difficulty = min(needed + 1, HARDEST)
        plain = (
            bytes([difficulty]) + int(now.timestamp()).to_bytes(8) + secrets.token_bytes(_RANDOM)
        )
        signed = (plain + self._sign(plain)).hex()
        return WorkAsked(challenge=signed, difficulty=difficulty, puzzles=PUZZLES)

    def check(self, work: Work | None, now: datetime) -> bytes | None:
        """Check a proof; give the mark by which it is spent, or None where none was needed.

        Raises:
            WorkNeeded: none, one that does not hold, has run out, or is too easy by now.
        """
        needed = self.difficulty(now)
        if not needed:
            return None
        if work is None:
            raise WorkNeeded
        signed = bytes.fromhex(work.challenge)
        plain, signature = signed[:-_SIGNATURE], signed[-_SIGNATURE:]
        if not hmac.compare_digest(signature, self._sign(plain)):
            raise WorkNeeded
        difficulty, made = plain[0], int.from_bytes(plain[1:9])
        fresh = -LIFE <= now.timestamp() - made <= LIFE
        if difficulty < needed or not fresh or not solves(work.challenge, difficulty, work.nonces):
            raise WorkNeeded
        return self._vault.lookup("spent work", plain)

    def _sign(self, plain: bytes) -> bytes:
        return self._vault.lookup("work", plain)[:_SIGNATURE]


def spend(tx: Transaction, mark: bytes | None, now: datetime) -> None:
    """Note that a proof was used, in the transaction that it pays for.

    Raises:
        WorkNeeded: it was used before.
    """
    if mark is not None and not tx.proofs.spend(mark, hour(now)):
        raise WorkNeeded
