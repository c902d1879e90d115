"""Case numbers and passphrases: minting them, checking them, and slowing down whoever guesses.

A passphrase is six words of the EFF's long list (7,776 words: 77 bits), kept as Argon2id. An
unknown case costs and looks the same as a wrong passphrase. Nobody is ever locked out, since a lock
would let an abuser shut the survivor out: wrong guesses make later checks of that case wait a few
seconds, each for itself. At most two checks run at a time, in the order of
`clearinghouse.cases.check_queue`; openings have a queue of their own, so that a flood of one does
not stop the other.

Two things keep strangers from filling that queue. Before the Argon2id verifier, 16 bits of an HMAC
of the passphrase are kept, its tag, under a key that the database does not hold: of 65,536 wrong
guesses one reaches Argon2. Whoever has both the database and the key learns 16 of the 77 bits. And
a passphrase that was right is known again for some minutes, in memory and as an HMAC, so that one
case buys one check in that time. What bounds guessing is 77 bits, and the wait.
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
# Crockford's base 32: no I, L, O or U, so that a number survives being read aloud.
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CONFUSED: Final = str.maketrans("ILO", "110")
_NUMBER: Final = re.compile(rf"[{_ALPHABET}]{{12}}")

_CHECKS_AT_ONCE: Final = 2
_OPENINGS_MAX: Final = 200  # that wait; at ten verifiers a second, the last waits for 20 s
_REMEMBERED: Final = 10_000  # cases whose recent wrong guesses are counted
_FREE_GUESSES: Final = 3
_TAG: Final = 4  # hexadecimal digits
_KNOWN_SECONDS: Final = 600.0  # for which a passphrase that was right is known again
_KNOWN_MAX: Final = 10_000
_DELAY_MAX: Final = 5.0  # seconds


def mint_number() -> str:
    """Make a case number: twelve characters (60 bits), in three groups."""
    letters = "".join(secrets.choice(_ALPHABET) for _ in range(12))
    return "-".join(letters[i : i + 4] for i in range(0, 12, 4))


def read_number(text: str) -> str | None:
    """Bring a case number into its written form; None if it cannot be one."""
    letters = re.sub(r"[\s-]", "", text).upper().translate(_CONFUSED)
    if not _NUMBER.fullmatch(letters):
        return None
    return "-".join(letters[i : i + 4] for i in range(0, 12, 4))


def mint_passphrase() -> str:
    """Make a passphrase of six random words."""
    words = (files("xkcdpass") / "static" / "eff-long").read_text().split()
    return " ".join(secrets.choice(words) for _ in range(WORDS))


def _normal(passphrase: str) -> str:
    """Reduce to letters, so that capitals, commas, hyphens and doubled spaces do no harm."""
    folded = unicodedata.normalize("NFKC", passphrase).casefold()
    return "".join(c for c in folded if c.isalpha())


class PassphraseChecker:
    """Make and check Argon2id verifiers, few at a time; slow down guessing at one case.

    Belongs to one event loop. Wrong guesses are counted in memory only, by the look-up value of the
    case number, known or not.

    Args:
        memory: KiB for one check.
        clock: seconds that never go back.
        key: 32 bytes for the tags, the same for the life of the database, and not in it.

    Attributes:
        made: verifiers that were made.
        checked: passphrases that were checked.
    """

    def __init__(self, *, memory: int, clock: Callable[[], float], key: bytes) -> None:
        self._hasher = PasswordHasher(time_cost=3, memory_cost=memory, parallelism=1, type=Type.ID)
        self._nobody = self._hasher.hash(secrets.token_hex(16))
        self.made = self.checked = 0
        self.queue = CheckQueue(at_once=_CHECKS_AT_ONCE, clock=clock)
        self._opening = asyncio.Lock()
        self._places: set[object] = set()
        self._key = key
        self._own_key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, float] = OrderedDict()
        self._wrong: OrderedDict[bytes, tuple[int, float]] = OrderedDict()
        self._clock = clock

    @contextmanager
    def place(self, of: int | None = None) -> Iterator[None]:
        """Keep a place among the openings, in which one verifier is made.

        Take it before anything is spent on the opening.

        Args:
            of: the case that is handed over; it keeps one place at a time.

        Raises:
            TooManyChecks: there is none left, or another request keeps it.
        """
        key: object = object() if of is None else of
        if key in self._places or len(self._places) >= _OPENINGS_MAX:
            raise TooManyChecks
        self._places.add(key)
        try:
            yield
        finally:
            self._places.remove(key)

    async def make(self, passphrase: str) -> str:
        """Make the verifier of a new passphrase, one at a time."""
        async with self._opening:
            self.made += 1
            normal = _normal(passphrase)
            made = await asyncio.to_thread(lambda: self._hasher.hash(normal))
            return self._tag(b"passphrase", normal.encode()) + made

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
        """Check a passphrase; with no verifier (an unknown case) do the same work and say no.

        Args:
            case: the look-up value of the case number.
            verifier: what the passphrase is checked against.
            passphrase: as it was sent.
            lane: where it waits.
            effort: the hashes of the proof of work that came with it.

        Raises:
            Crowded: too many wait for a check.
        """
        normal = _normal(passphrase)
        kept = verifier or self._tag(b"unknown", case) + self._nobody
        # a verifier of an earlier version has no tag
        tag, argon2 = ("", kept) if kept.startswith("$") else (kept[:_TAG], kept[_TAG:])
        mark = hmac.digest(self._own_key, f"{argon2}\0{normal}".encode(), hashlib.sha256)
        if self._known.get(mark, 0.0) > self._clock():
            return True
        if tag and not hmac.compare_digest(tag, self._tag(b"passphrase", normal.encode())):
            await asyncio.sleep(self._delay(case))
            self._count(case)
            return False
        self.queue.admit(lane, effort)
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
        """Give the seconds to wait: none for the first guesses, then doubling up to five."""
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
