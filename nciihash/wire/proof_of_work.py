"""Solve and check proofs of work: what a request costs while a service is flooded.

A challenge stands for several puzzles. Puzzle number i is solved by a number n below 2**32 for
which SHA-256(seed, i, n) begins with `difficulty` zero bits; the seed is the SHA-256 of the
challenge's text, and i and n are written as four bytes each, the highest first. All of it fits into
one block of SHA-256. Several small puzzles take a steadier time than a large one: with sixteen, one
attempt in a hundred takes more than 1.7 times the average, with 64 more than 1.3 times.
"""

import base64
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Annotated, Final

from pydantic import Field, StrictInt

from nciihash.wire.base import Message, Problem

PUZZLES: Final = 16  # where the number of signals is not named, as clients before 64 expect
PUZZLES_MAX: Final = 64
DIFFICULTY_MAX: Final = 20  # bits; a client refuses more, for its user would wait for minutes
CHALLENGE_DIGITS: Final = 82
SIGNALS_ASKED_MAX: Final = 100_000  # that `GET /v1/work` tells the work for
WORK_HEADER: Final = "Work"
_NONCES: Final = 2**32
_HEADER_MAX: Final = 4096  # characters

Challenge = Annotated[str, Field(pattern=rf"^[0-9a-f]{{{CHALLENGE_DIGITS}}}$")]


class WorkAsked(Message):
    """What a request takes at the moment: puzzles to solve, or nothing.

    `challenge` is null and `difficulty` 0 while nothing is asked. A solved challenge is good for
    one request: for an hour where it pays for signals, for two minutes where it pays for signing in
    or withdrawing.
    """

    challenge: Challenge | None
    difficulty: int
    puzzles: int


class Work(Message):
    """A challenge, and the numbers that solve its puzzles."""

    challenge: Challenge
    nonces: Annotated[
        tuple[Annotated[StrictInt, Field(ge=0, lt=_NONCES)], ...],
        Field(min_length=1, max_length=PUZZLES_MAX),
    ]


class WorkProblem(Problem):
    """A problem that goes away with a proof of work: `work` is what to solve."""

    work: WorkAsked


def to_header(work: Work) -> str:
    """Write a proof as the value of the `Work` header: its JSON in base64."""
    return base64.b64encode(work.model_dump_json().encode()).decode()


def from_header(value: str) -> Work:
    """Read the value of a `Work` header.

    Raises:
        ValueError: it holds no proof.
    """
    if len(value) > _HEADER_MAX:
        raise ValueError("too long")
    try:
        return Work.model_validate_json(base64.b64decode(value.strip(), validate=True))
    except ValueError:  # no base64, or no proof in it
        raise ValueError("no proof of work") from None


def solve(
    challenge: str,
    difficulty: int,
    puzzles: int = PUZZLES,
    *,
    solved: Callable[[], object] = lambda: None,
) -> tuple[int, ...]:
    """Find the numbers that solve a challenge's puzzles; Ctrl-C breaks it off.

    Args:
        challenge: its text.
        difficulty: the zero bits that are asked for, at most `DIFFICULTY_MAX`.
        puzzles: their number, at most `PUZZLES_MAX`.
        solved: called after each of the puzzles.

    Raises:
        ValueError: the difficulty or the number is beyond its bound.
    """
    if not 0 <= difficulty <= DIFFICULTY_MAX:
        raise ValueError(f"a difficulty is 0 to {DIFFICULTY_MAX} bits")
    if not 1 <= puzzles <= PUZZLES_MAX:
        raise ValueError(f"a challenge has 1 to {PUZZLES_MAX} puzzles")
    limit = _limit(difficulty)
    nonces = []
    for start in _starts(challenge, puzzles):
        for nonce in range(_NONCES):
            if sha256(start + nonce.to_bytes(4)).digest()[:8] < limit:
                break
        nonces.append(nonce)
        solved()
    return tuple(nonces)


def solves(challenge: str, difficulty: int, nonces: Sequence[int], puzzles: int = PUZZLES) -> bool:
    """Whether these numbers solve the challenge's puzzles."""
    limit = _limit(difficulty)
    return len(nonces) == puzzles and all(
        0 <= nonce < _NONCES and sha256(start + nonce.to_bytes(4)).digest()[:8] < limit
        for start, nonce in zip(_starts(challenge, puzzles), nonces, strict=True)
    )


def _starts(challenge: str, puzzles: int) -> list[bytes]:
    seed = sha256(challenge.encode()).digest()
    return [seed + puzzle.to_bytes(4) for puzzle in range(puzzles)]


def _limit(difficulty: int) -> bytes:
    """Give what the first eight bytes must lie below."""
    return (2 ** (64 - difficulty)).to_bytes(8) if difficulty else b"\xff" * 9
