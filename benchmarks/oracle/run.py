"""What it costs to find whole hashes out by asking, for each scope, and when the alarm comes.

    .venv/bin/python -m benchmarks.oracle.run

A real service (in this process, over ASGI), and an attacker with a platform's key for `POST
/v1/match`:

- `match`, with a copy of a listed picture so altered that it still matches. She walks along the
  edge between a match and none, or between `strong` and `likely`, and turns over one bit after the
  other. Values that PDQ cannot give match nothing (`nciihash.signals.PDQ_ONES`), so she keeps the
  number of bits that are set within that range.
- `veil…,match`, without any picture. She knows a part of each hash from the feed, guesses the rest
  at random until a guess matches, and walks from there. The guesses are sent ten thousand at a
  time. What a guess is likely to take is computed as well, since for the narrowest veil it takes
  too long to try.
- `match` with references: she opens a case without a name with files at distances from her queries
  that she knows, reads a listed file's distance from its place among their hits, and withdraws
  them.

Counted are the questions, those that match, and what was known when the alarm came; from that
follows what a patient attacker needs who never raises it. No figure depends on the machine.
"""

import argparse
import random
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import comb

import numpy as np
from rich.console import Console
from rich.table import Table
from starlette.testclient import TestClient

from clearinghouse.abuse import review
from clearinghouse.app import create_app, utc_now
from clearinghouse.platforms import keys
from clearinghouse.platforms.keys import Scope
from clearinghouse.settings import Settings
from nciihash.signals import PDQ_ONES, SignalType
from nciihash.veil import positions
from nciihash.wire import OCTETS, QUERIES_MAX

BITS = SignalType.PDQ.bits
BOUND = Settings().oracle_edge
DAY = Settings().match_day
MIDDLE = (PDQ_ONES.start + PDQ_ONES.stop) // 2  # bits set, with room on either side
ALONE = 40  # guesses that are sent one by one, to see where the alarm comes
DRAW = random.Random(20_261_129)
EVERYWHERE = tuple(range(BITS))


@dataclass(frozen=True)
class Attack:
    """One hash found out or not: questions, those that matched, and where the alarm came."""

    questions: int
    matching: int
    around: int  # questions that count towards the alarm
    alarm: int | None
    known: int | None
    right: bool


class Oracle:
    """The service as somebody with a key sees it, and a look at its alarm from inside."""

    def __init__(self, client: TestClient, scopes: Sequence[Scope]) -> None:
        self.client = client
        self.service = client.app.state.service  # type: ignore[attr-defined]
        key = keys.add_platform(self.service.store, "Curious", scopes, utc_now())
        self._headers = {"Authorization": f"Bearer {key}"}
        self.questions = self.matching = self.around = 0
        self.alarm: int | None = None

    def add(self, *values: int) -> dict[str, str]:
        """Open a case without a name, and return what opens it again."""
        signals = [{"type": "pdq", "value": f"{v:064x}", "quality": 100} for v in values]
        opened = self.client.post(
            "/v1/cases",
            json={
                "declaration": {"adult": True, "depicted": True},
                "reason": "shared",
                "work": None,
                "items": [{"media": "image", "signals": [signal]} for signal in signals],
            },
        )
        case: dict[str, str] = opened.raise_for_status().json()
        while not all(self.hits(list(values))):
            pass
        self.questions = self.matching = self.around = 0
        self.service.oracle_detector.__init__(edge_max=BOUND, total_max=Settings().oracle_any)
        return case

    def hits(self, values: Sequence[int]) -> list[list[dict[str, str]]]:
        """Ask, and return the hits of each query."""
        return self.answers(b"".join(value.to_bytes(BITS // 8, "big") for value in values))

    def answers(self, body: bytes) -> list[list[dict[str, str]]]:
        """Ask with hashes end to end."""
        headers = self._headers | {"Content-Type": OCTETS}
        reply = self.client.post("/v1/match", content=body, headers=headers)
        found: list[list[dict[str, str]]] = reply.raise_for_status().json()["matches"]
        return found

    def ask(self, value: int) -> str | None:
        """Return the band of the nearest hit, None where there is none."""
        [hits] = self.hits([value])
        self.questions += 1
        self.matching += bool(hits)
        self.note()
        return hits[0]["band"] if hits else None

    def note(self) -> None:
        """Note where the alarm came."""
        oracle_detector = self.service.oracle_detector
        self.around = max(
            self.around, *(len(s.edge or ()) for s in oracle_detector._seen.values()), 0
        )
        if self.alarm is None and oracle_detector._told:
            self.alarm = self.questions


@contextmanager
def served(*scopes: Scope) -> Iterator[Oracle]:
    """Give a service with nothing in it, and somebody with a key."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            database=f"sqlite:///{folder}/db.sqlite3", argon2_memory=64, quiet_openings=1000
        )
        with TestClient(create_app(settings)) as client:
            yield Oracle(client, scopes)


def some_hash() -> int:
    """Draw a value that PDQ could give."""
    return sum(1 << place for place in DRAW.sample(EVERYWHERE, BITS // 2))


def turned_over(value: int, bits: int, places: Sequence[int] = EVERYWHERE) -> int:
    """Turn over an even number of bits, as many that are set as that are not."""
    ones = [place for place in places if value >> place & 1]
    zeros = [place for place in places if not value >> place & 1]
    chosen = DRAW.sample(ones, bits // 2) + DRAW.sample(zeros, bits // 2)
    return value ^ sum(1 << place for place in chosen)


# --- along an edge -------------------------------------------------------------------------------


def walk(
    oracle: Oracle, start: int, answers: tuple[str, str | None], free: Sequence[int]
) -> tuple[int, list[int]]:
    """Walk to the edge between two answers, then turn each unknown bit over once.

    Returns the hash as found, and after how many questions each bit was known.
    """
    nearer = {answers[0], "strong"}
    ones = DRAW.sample([p for p in free if start >> p & 1], sum(start >> p & 1 for p in free))
    zeros = DRAW.sample([p for p in free if not start >> p & 1], len(free) - len(ones))
    spare = max(start.bit_count() - MIDDLE, 0)
    pairs = zip(ones[spare:], zeros, strict=False)
    order = ones[:spare] + [place for pair in pairs for place in pair]

    def turned(count: int) -> int:
        return start ^ sum(1 << place for place in order[:count])

    # Turning over more and more bits leads away from the hash: bisect to where the answer changes.
    low, high = 0, len(order)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if oracle.ask(turned(middle)) in nearer else (low, middle)
    base = turned(low)
    differing, known = 0, []
    for place in free:
        # at the edge, a bit that agrees with the hash leads over it, one that differs leads back
        if oracle.ask(base ^ (1 << place)) in nearer:
            differing |= 1 << place
        known.append(oracle.questions)
    return base ^ differing, known


def with_copy(answers: tuple[str, str | None], distance: int) -> Attack:
    """Find a hash out from a copy so many bits away."""
    with served(Scope.MATCH) as oracle:
        target = some_hash()
        oracle.add(target)
        found, known = walk(oracle, turned_over(target, distance), answers, EVERYWHERE)
        return ended(oracle, known, 0, right=found == target)


def ended(oracle: Oracle, known: Sequence[int], before: int, *, right: bool) -> Attack:
    """Sum an attack up, in which `before` bits were known at its beginning."""
    at_alarm = None
    if oracle.alarm is not None:
        at_alarm = before + sum(n <= oracle.alarm for n in known)
    return Attack(oracle.questions, oracle.matching, oracle.around, oracle.alarm, at_alarm, right)


# --- from a veiled list --------------------------------------------------------------------------


def with_veil(scope: Scope, width: int, most: int) -> Attack:
    """Find a hash out from its published bits, with at most so many guesses."""
    shown = [BITS - 1 - place for place in positions(width).tolist()]
    free = sorted(set(EVERYWHERE) - set(shown))
    with served(scope, Scope.MATCH) as oracle:
        target = some_hash()
        oracle.add(target)
        published = sum(1 << place for place in shown if target >> place & 1)
        start = guess(oracle, published, free, most)
        if start is None:
            return ended(oracle, [], width, right=False)
        found, known = walk(oracle, start, ("likely", None), free)
        return ended(oracle, known, width, right=found == target)


def guess(oracle: Oracle, published: int, free: Sequence[int], most: int) -> int | None:
    """Guess the bits that are not published, until a guess matches."""
    ones = BITS // 2 - published.bit_count()
    base = np.unpackbits(np.frombuffer(published.to_bytes(BITS // 8, "big"), np.uint8))
    at = BITS - 1 - np.array(free)  # bit 255 comes first
    random_bits = np.random.default_rng(DRAW.randrange(2**32))
    while oracle.questions < most:
        count = 1 if oracle.questions < ALONE else QUERIES_MAX
        order = np.argsort(random_bits.random((count, len(free)), dtype=np.float32), axis=1)
        bits = np.tile(base, (count, 1))
        np.put_along_axis(bits, at[order[:, :ones]], 1, axis=1)
        packed = np.packbits(bits, axis=1)
        found = [n for n, hits in enumerate(oracle.answers(packed.tobytes())) if hits]
        oracle.questions += (found[0] + 1) if found else count
        oracle.matching += bool(found)
        oracle.note()
        if found:
            return int.from_bytes(packed[found[0]].tobytes(), "big")
    return None


def guesses(width: int) -> float:
    """Return how many random guesses of the hidden bits one match is likely to take."""
    hidden = BITS - width
    ones = hidden // 2
    near = sum(
        comb(ones, wrong) * comb(hidden - ones, wrong)
        for wrong in range(SignalType.PDQ.threshold // 2 + 1)
    )
    return comb(hidden, ones) / near


# --- with references -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """How well distances were read from places among hits, and what stays after a withdrawal."""

    correlation: float
    questions: int
    alarms: int


def with_references(count: int = 14, questions: int = 150) -> Reading:
    """Read a listed file's distances from its place among files at known distances."""
    with served(Scope.MATCH) as oracle:
        target = some_hash()
        oracle.add(target)
        [[hit]] = oracle.hits([target])
        copy = turned_over(target, 8)
        references = [turned_over(copy, 2 * (n % 6) + 2) for n in range(count)]
        case = oracle.add(*references)
        names = {}
        for reference in references:
            for other in oracle.hits([reference])[0]:
                names.setdefault(other["item"], None)
        apart = [place for place in EVERYWHERE if (copy ^ target) >> place & 1]
        read, true = [], []
        for n in range(questions):
            query = turned_over(copy, 2, apart if n % 3 == 0 else EVERYWHERE)
            [hits] = oracle.hits([query])
            place = [h["item"] for h in hits].index(hit["item"])
            known = sorted((query ^ reference).bit_count() for reference in references)
            read.append(known[min(place, count - 1)])
            true.append((query ^ target).bit_count())
        login = (case["case"], case["passphrase"])
        for edge in range(BOUND + 3):
            oracle.hits([turned_over(references[0], 30 + 2 * (edge % 2))])
        oracle.client.delete("/v1/case", headers=credentials(*login)).raise_for_status()
        oracle.service._write_counts()
        stays = [q for q in review.questions(oracle.service.store) if q.kind == "oracle"]
        varied = len(set(read)) > 1 and len(set(true)) > 1
        correlation = float(np.corrcoef(read, true)[0, 1]) if varied else 0.0
        return Reading(correlation, questions, len(stays))


def credentials(number: str, passphrase: str) -> dict[str, str]:
    """Return the header of a case's holder."""
    from base64 import b64encode

    return {"Authorization": "Case " + b64encode(f"{number}:{passphrase}".encode()).decode()}


# --- the report ----------------------------------------------------------------------------------


def middle(values: Sequence[int | None]) -> str:
    """Return the median of what is there."""
    there = [value for value in values if value is not None]
    return f"{statistics.median(there):,.0f}" if there else "none"


def row(name: str, done: Sequence[Attack], expected: float | None) -> list[str]:
    """Sum the attacks of one kind up."""
    return [
        name,
        "-" if expected is None else f"{expected:,.0f}",
        middle([a.questions for a in done]) if any(a.right for a in done) else "not finished",
        middle([a.matching for a in done]),
        f"{sum(a.right for a in done)} of {len(done)}",
        middle([a.alarm for a in done]),
        f"{middle([a.known for a in done])} of {BITS}",
    ]


def main() -> None:
    """Run some attacks of each kind and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--most", type=int, default=5_000_000, help="Guesses for a veil, at most.")
    options = parser.parse_args()
    runs = options.runs
    table = Table(
        "Attack",
        "Guesses, as computed",
        "Questions",
        "of them matching",
        "Found",
        "Alarm at question",
        "Bits known then",
    )
    for name, answers, distance in (
        ("match, a copy: match / none", ("likely", None), 20),
        ("match, a copy: strong / likely", ("strong", "likely"), 8),
    ):
        done = [with_copy(answers, distance) for _ in range(runs)]
        table.add_row(*row(name, done, None))
    for scope, width in ((Scope.VEIL160, 160), (Scope.VEIL144, 144), (Scope.VEIL, 128)):
        likely = guesses(width)
        tries = runs if likely * 3 < options.most else 1
        most = options.most if likely < options.most else min(options.most, 100_000)
        done = [with_veil(scope, width, most) for _ in range(tries)]
        table.add_row(*row(f"{scope.value},match, no picture", done, likely))
    console = Console(width=160)
    console.print(table)
    read = [with_references() for _ in range(runs)]
    console.print(
        f"Distances read from places among references, {read[0].questions} questions: correlation "
        f"{statistics.mean(r.correlation for r in read):.2f} with the true ones "
        f"({min(r.correlation for r in read):.2f} to {max(r.correlation for r in read):.2f}). "
        f"Alarms that stay after the references were withdrawn: in "
        f"{sum(bool(r.alarms) for r in read)} of {runs}."
    )


if __name__ == "__main__":
    main()
