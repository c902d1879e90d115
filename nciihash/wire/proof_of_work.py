"""Solve and verify proofs of work, which requests must contain while the service is flooded.

The scheme is that of Hashcash (A. Back, 2002), with several puzzles. Puzzle number i of a challenge
is solved by a nonce n below 2**32 for which SHA-256(seed || i || n) begins with `difficulty` zero
bits. The seed is the SHA-256 of the challenge's text, and i and n are four bytes each, big-endian,
so that the input fits one block of SHA-256. The time for several small puzzles varies less than
that for a large one: with 16 puzzles one solution in a hundred takes more than 1.7 times the
average, with 64 more than 1.3 times.
"""

import base64
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Annotated, Final

from pydantic import Field, StrictInt

from nciihash.wire.base import Message, Problem

PUZZLES: Final = 16  # for clients that do not name the number of signals
PUZZLES_MAX: Final = 64
DIFFICULTY_MAX: Final = 20  # bits; clients refuse more, which would take minutes
CHALLENGE_DIGITS: Final = 82
SIGNALS_ASKED_MAX: Final = 100_000  # the largest number of signals for `GET /v1/work`
WORK_HEADER: Final = "Work"
_NONCES: Final = 2**32
_HEADER_MAX: Final = 4096  # characters

Challenge = Annotated[str, Field(pattern=rf"^[0-9a-f]{{{CHALLENGE_DIGITS}}}$")]


class WorkAsked(Message):
    """The proof of work that a request requires at the moment, if any.

    Puzzle number i (from 0) is solved by a nonce n below 2**32 for which
    SHA-256(SHA-256(challenge) || i || n) begins with `difficulty` zero bits; i and n are four bytes
    each, big-endian. A solved challenge is valid for one request: for an hour if it is for sending
    hashes, for two minutes if it is for signing in or withdrawing.
    """

    challenge: Annotated[
        Challenge | None, Field(description="The challenge; null if no work is required.")
    ]
    difficulty: Annotated[
        int, Field(description="The number of zero bits; 0 if no work is required.")
    ]
    puzzles: Annotated[int, Field(description="How many nonces to find.")]


class Work(Message):
    """A proof of work: a challenge and the nonces that solve its puzzles."""

    challenge: Challenge
    nonces: Annotated[
        tuple[Annotated[StrictInt, Field(ge=0, lt=_NONCES)], ...],
        Field(
            min_length=1,
            max_length=PUZZLES_MAX,
            description="The nonce of each puzzle, in the order of the puzzles.",
        ),
    ]


class WorkProblem(Problem):
    """An error response (428) to a request that requires a proof of work."""

    work: Annotated[WorkAsked, Field(description="The work to do before repeating the request.")]


def to_header(work: Work) -> str:
    """Return a proof as the value of the `Work` header: its JSON in base64."""
    return base64.b64encode(work.model_dump_json().encode()).decode()


def from_header(value: str) -> Work:
    """Parse the value of a `Work` header.

    Raises:
        ValueError: it is too long, or not a proof in base64.
    """
    if len(value) > _HEADER_MAX:
        raise ValueError("too long")
    try:
        return Work.model_validate_json(base64.b64decode(value.strip(), validate=True))
    except ValueError:
        raise ValueError("not a proof of work") from None


def solve(
    challenge: str,
    difficulty: int,
    puzzles: int = PUZZLES,
    *,
    solved: Callable[[], object] = lambda: None,
) -> tuple[int, ...]:
    """Return the nonces that solve a challenge's puzzles.

    Args:
        challenge: the text of the challenge.
        difficulty: the required number of zero bits, at most `DIFFICULTY_MAX`.
        puzzles: the number of puzzles, at most `PUZZLES_MAX`.
        solved: called after each puzzle.

    Raises:
        ValueError: the difficulty or the number of puzzles is out of range.
    """
    if not 0 <= difficulty <= DIFFICULTY_MAX:
        raise ValueError(f"the difficulty must be 0 to {DIFFICULTY_MAX} bits")
    if not 1 <= puzzles <= PUZZLES_MAX:
        raise ValueError(f"the number of puzzles must be 1 to {PUZZLES_MAX}")
    limit = _limit(difficulty)
    nonces = []
    for prefix in _prefixes(challenge, puzzles):
        for nonce in range(_NONCES):
            if sha256(prefix + nonce.to_bytes(4)).digest()[:8] < limit:
                break
        nonces.append(nonce)
        solved()
    return tuple(nonces)


def solves(challenge: str, difficulty: int, nonces: Sequence[int], puzzles: int = PUZZLES) -> bool:
    """Whether the nonces solve the challenge's puzzles."""
    limit = _limit(difficulty)
    return len(nonces) == puzzles and all(
        0 <= nonce < _NONCES and sha256(prefix + nonce.to_bytes(4)).digest()[:8] < limit
        for prefix, nonce in zip(_prefixes(challenge, puzzles), nonces, strict=True)
    )


def _prefixes(challenge: str, puzzles: int) -> list[bytes]:
    seed = sha256(challenge.encode()).digest()
    return [seed + puzzle.to_bytes(4) for puzzle in range(puzzles)]


def _limit(difficulty: int) -> bytes:
    """Return the bound below which the first eight bytes of a digest must be."""
    return (2 ** (64 - difficulty)).to_bytes(8) if difficulty else b"\xff" * 9
