"""Case numbers and passphrases: generation, verification, and delays for wrong guesses.

A passphrase is six words of the EFF's long list (7,776 words: 77 bits), stored as Argon2id. An
unknown case costs as much and looks the same as a wrong passphrase. Nobody is ever locked out,
since a lock would let an abuser exclude the survivor: wrong guesses delay later checks of that case
by a few seconds, each one independently. At most two checks run at a time, in the order of
`clearinghouse.cases.check_queue`; opening a case has a queue of its own, so that a flood of one
does not stop the other.

Two measures keep attackers from filling that queue. First, 16 bits of an HMAC of the passphrase,
its tag, are stored with the Argon2id verifier, under a key that the database does not contain: only
one in 65,536 wrong guesses reaches Argon2. Somebody with both the database and the key learns 16 of
the 77 bits. Second, a correct passphrase is remembered for some minutes, in memory and as an HMAC,
so that one case causes one check in that time. Guessing is limited by the 77 bits and the delay.
"""

import asyncio
import hashlib
import hmac
import re
import secrets
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

from clearinghouse.cases.check_queue import CheckQueue, Lane
from clearinghouse.errors import TooManyChecks

WORDS: Final = 6
# Crockford's Base32: no I, L, O or U, so that a number can be read aloud.
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CONFUSED: Final = str.maketrans("ILO", "110")
_NUMBER: Final = re.compile(rf"[{_ALPHABET}]{{12}}")

_CHECKS_AT_ONCE: Final = 2
_OPENINGS_MAX: Final = 200  # waiting; at ten verifiers a second, the last waits for 20 s
_REMEMBERED: Final = 10_000  # cases whose recent wrong guesses are counted
_FREE_GUESSES: Final = 3
_TAG: Final = 4  # hexadecimal digits
_KNOWN_SECONDS: Final = 600.0  # for which a correct passphrase is remembered
_KNOWN_MAX: Final = 10_000
_DELAY_MAX: Final = 5.0  # seconds


def mint_number() -> str:
    """Return a new case number: twelve random characters (60 bits), in three groups."""
    letters = "".join(secrets.choice(_ALPHABET) for _ in range(12))
    return "-".join(letters[i : i + 4] for i in range(0, 12, 4))


def read_number(text: str) -> str | None:
    """Return the canonical form of a case number; None if it cannot be one."""
    letters = re.sub(r"[\s-]", "", text).upper().translate(_CONFUSED)
    if not _NUMBER.fullmatch(letters):
        return None
    return "-".join(letters[i : i + 4] for i in range(0, 12, 4))


def mint_passphrase() -> str:
    """Return a new passphrase of six random words."""
    words = (files("xkcdpass") / "static" / "eff-long").read_text().split()
    return " ".join(secrets.choice(words) for _ in range(WORDS))


def _normal(passphrase: str) -> str:
    """Return its letters, casefolded: capitals, commas, hyphens and extra spaces do not matter."""
    folded = unicodedata.normalize("NFKC", passphrase).casefold()
    return "".join(c for c in folded if c.isalpha())


class PassphraseChecker:
    """Argon2id verifiers, created and checked few at a time, with delays for wrong guesses.

    It belongs to one event loop. Wrong guesses are counted in memory only, by the lookup value of
    the case number, known or not.

    Args:
        memory: KiB for one check.
        clock: a monotonic clock, in seconds.
        key: 32 bytes for the tags, constant for the life of the database and not stored in it.

    Attributes:
        made: how many verifiers were created.
        checked: how many passphrases were checked with Argon2.
    """

    def __init__(self, *, memory: int, clock: Callable[[], float], key: bytes) -> None:
        self._hasher = PasswordHasher(time_cost=3, memory_cost=memory, parallelism=1, type=Type.ID)
        self._no_verifier = self._hasher.hash(secrets.token_hex(16))
        self.made = self.checked = 0
        self.queue = CheckQueue(at_once=_CHECKS_AT_ONCE, clock=clock)
        self._opening = asyncio.Lock()
        self._openings: set[object] = set()
        self._key = key
        self._memory_key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, float] = OrderedDict()
        self._wrong: OrderedDict[bytes, tuple[int, float]] = OrderedDict()
        self._clock = clock

    @contextmanager
    def opening_slot(self, of: int | None = None) -> Iterator[None]:
        """Reserve one of the slots for requests that need a new verifier.

        Reserve it before any costly step of the request.

        Args:
            of: row number of the case that is handed over, which gets one slot at a time; None for
                a new case.

        Raises:
            TooManyChecks: no slot is free, or another request has that of the case.
        """
        key: object = object() if of is None else of
        if key in self._openings or len(self._openings) >= _OPENINGS_MAX:
            raise TooManyChecks
        self._openings.add(key)
        try:
            yield
        finally:
            self._openings.remove(key)

    async def make(self, passphrase: str) -> str:
        """Create the verifier of a new passphrase, one at a time."""
        async with self._opening:
            self.made += 1
            normal = _normal(passphrase)
            argon2 = await asyncio.to_thread(lambda: self._hasher.hash(normal))
            return self._tag(b"passphrase", normal.encode()) + argon2

    def _tag(self, kind: bytes, value: bytes) -> str:
        return hmac.digest(self._key, kind + b"\0" + value, hashlib.sha256).hex()[:_TAG]

    async def passes(
        self,
        case: bytes,
        verifier: str | None,
        passphrase: str,
        *,
        lane: Lane = Lane.OTHERS,
        effort: int = 0,
    ) -> bool:
        """Whether a passphrase is correct. An unknown case costs the same and returns False.

        Args:
            case: the lookup value of the case number.
            verifier: the stored verifier; None for an unknown case.
            passphrase: as it was sent.
            lane: in which to wait.
            effort: hashes of the request's proof of work; 0 without one.

        Raises:
            CheckQueueFull: too many requests wait.
        """
        normal = _normal(passphrase)
        stored = verifier or self._tag(b"unknown", case) + self._no_verifier
        # verifiers of earlier versions have no tag
        tag, argon2 = ("", stored) if stored.startswith("$") else (stored[:_TAG], stored[_TAG:])
        mark = hmac.digest(self._memory_key, f"{argon2}\0{normal}".encode(), hashlib.sha256)
        if self._known.get(mark, 0.0) > self._clock():
            return True
        if tag and not hmac.compare_digest(tag, self._tag(b"passphrase", normal.encode())):
            await asyncio.sleep(self._delay(case))
            self._count(case)
            return False
        self.queue.check_free(lane, effort)
        await asyncio.sleep(self._delay(case))

        def check() -> bool:
            try:
                return self._hasher.verify(argon2, normal)
            except (VerificationError, InvalidHashError):
                return False

        passed = await self.queue.run(lane, effort, check) and verifier is not None
        self.checked += 1
        if passed:
            self._wrong.pop(case, None)
            self._known[mark] = self._clock() + _KNOWN_SECONDS
            self._known.move_to_end(mark)
            if len(self._known) > _KNOWN_MAX:
                self._known.popitem(last=False)
        else:
            self._count(case)
        return passed

    def _delay(self, case: bytes) -> float:
        """Return the delay in seconds: none for the first guesses, then doubling up to five."""
        count, since = self._wrong.get(case, (0, 0.0))
        # a minute without a wrong guess forgives one
        count -= int((self._clock() - since) // 60)
        return 0.0 if count <= _FREE_GUESSES else min(0.25 * 2 ** (count - 4), _DELAY_MAX)

    def _count(self, case: bytes) -> None:
        count, since = self._wrong.pop(case, (0, 0.0))
        now = self._clock()
        forgiven = int((now - since) // 60)
        self._wrong[case] = (min(max(count - forgiven, 0) + 1, 20), now)
        if len(self._wrong) > _REMEMBERED:
            self._wrong.popitem(last=False)
