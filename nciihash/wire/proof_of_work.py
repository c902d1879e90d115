"""Solve and check proofs of work: what opening a case costs while a service is flooded.

A challenge stands for several puzzles. Puzzle number i is solved by a number n below 2**32 for
which SHA-256(seed, i, n) begins with `difficulty` zero bits; the seed is the SHA-256 of the
challenge's text, and i and n are written as four bytes each, the highest first. All of it fits into
one block of SHA-256. Several small puzzles take a steadier time than a large one: with sixteen, one
attempt in a hundred takes more than 1.7 times the average.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Annotated, Final

from pydantic import Field, StrictInt

from nciihash.wire.base import Message

PUZZLES: Final = 16
DIFFICULTY_MAX: Final = 20  # bits; a client refuses more, for its user would wait for minutes
CHALLENGE_DIGITS: Final = 82
_NONCES: Final = 2**32

Challenge = Annotated[str, Field(pattern=rf"^[0-9a-f]{{{CHALLENGE_DIGITS}}}$")]


class WorkAsked(Message):
    """What opening a case takes at the moment: puzzles to solve, or nothing.

    `challenge` is null and `difficulty` 0 while nothing is asked. A solved challenge is good for
    one case, within an hour.
    """

    challenge: Challenge | None
    difficulty: int
    puzzles: int


class Work(Message):
    """A challenge, and the numbers that solve its puzzles."""

    challenge: Challenge
    nonces: Annotated[
        tuple[Annotated[StrictInt, Field(ge=0, lt=_NONCES)], ...],
        Field(min_length=PUZZLES, max_length=PUZZLES),
    ]


def solve(
    challenge: str, difficulty: int, *, solved: Callable[[], object] = lambda: None
) -> tuple[int, ...]:
    """Find the numbers that solve a challenge's puzzles; Ctrl-C breaks it off.

    Args:
        challenge: its text.
        difficulty: the zero bits that are asked for, at most `DIFFICULTY_MAX`.
        solved: called after each of the `PUZZLES` puzzles.

    Raises:
        ValueError: the difficulty is beyond the bound.
    """
    if not 0 <= difficulty <= DIFFICULTY_MAX:
        raise ValueError(f"a difficulty is 0 to {DIFFICULTY_MAX} bits")
    limit = _limit(difficulty)
    nonces = []
    for start in _starts(challenge):
        for nonce in range(_NONCES):
            if sha256(start + nonce.to_bytes(4)).digest()[:8] < limit:
                break
        nonces.append(nonce)
        solved()
    return tuple(nonces)


def solves(challenge: str, difficulty: int, nonces: Sequence[int]) -> bool:
    """Tell whether these numbers solve the challenge's puzzles."""
    limit = _limit(difficulty)
    return len(nonces) == PUZZLES and all(
        0 <= nonce < _NONCES and sha256(start + nonce.to_bytes(4)).digest()[:8] < limit
        for start, nonce in zip(_starts(challenge), nonces, strict=True)
    )


def _starts(challenge: str) -> list[bytes]:
    seed = sha256(challenge.encode()).digest()
    return [seed + puzzle.to_bytes(4) for puzzle in range(PUZZLES)]


def _limit(difficulty: int) -> bytes:
    """Give what the first eight bytes must lie below."""
    return (2 ** (64 - difficulty)).to_bytes(8) if difficulty else b"\xff" * 9
