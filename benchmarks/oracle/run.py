"""The cost of an oracle attack that recovers whole hashes, by scope, and when the alarm is raised.

    .venv/bin/python -m benchmarks.oracle.run

A real service (in this process, over ASGI), and an attacker with a platform's key for `POST
/v1/match`. The attacks, by scope:

- `match`, with an altered copy of a listed picture that still matches: hill climbing. The attacker
  finds a query at the boundary between a match and none, or between `strong` and `likely`, and
  flips one bit after another. Values that PDQ cannot produce match nothing
  (`nciihash.signals.PDQ_ONES`), so the number of bits that are set is kept within that range.
- `veil…,match`, without a picture. A part of each hash is known from the feed; the rest is guessed
  at random until a guess matches, and hill climbing starts there. Guesses are sent 10,000 a
  request. The expected number of guesses is computed as well, because for the narrowest veil the
  attack takes too long to run.
- `match` with references. The attacker opens an anonymous case whose files have known distances
  from the queries, estimates a listed file's distance from its position among their hits, and
  withdraws them.

Counted are the queries, those that match, and the bits that were known when the alarm was raised;
from these follows the time that an attacker needs who never raises it. No figure depends on the
machine.
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
EDGE_LIMIT = Settings().oracle_edge
DAY = Settings().match_day
MIDDLE = (PDQ_ONES.start + PDQ_ONES.stop) // 2  # bits set, in the middle of the valid range
SINGLE_GUESSES = 40  # sent one a request, to find the query that raises the alarm
RNG = random.Random(20_261_129)
ALL_BITS = tuple(range(BITS))


@dataclass(frozen=True)
class Attack:
    """The outcome of an attack on one hash.

    Attributes:
        queries: number sent.
        matching: number that matched.
        counted: number that counted towards the alarm.
        alarm: the query that raised the alarm, None if none did.
        known: bits known when the alarm was raised.
        succeeded: whether the hash was recovered.
    """

    queries: int
    matching: int
    counted: int
    alarm: int | None
    known: int | None
    succeeded: bool


class Oracle:
    """A service that an attacker with a key queries, and the state of its alarm."""

    def __init__(self, client: TestClient, scopes: Sequence[Scope]) -> None:
        self.client = client
        self.service = client.app.state.service  # type: ignore[attr-defined]
        key = keys.add_platform(self.service.store, "Attacker", scopes, utc_now())
        self._headers = {"Authorization": f"Bearer {key}"}
        self.queries = self.matching = self.counted = 0
        self.alarm: int | None = None

    def add(self, *values: int) -> dict[str, str]:
        """Open an anonymous case; return its number and passphrase."""
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
        self.queries = self.matching = self.counted = 0
        self.service.oracle_detector.__init__(
            edge_max=EDGE_LIMIT, total_max=Settings().oracle_any
        )  # forget these queries
        return case

    def hits(self, values: Sequence[int]) -> list[list[dict[str, str]]]:
        """Return the hits of each query."""
        return self.match(b"".join(value.to_bytes(BITS // 8, "big") for value in values))

    def match(self, body: bytes) -> list[list[dict[str, str]]]:
        """Return the hits of each query in a body of concatenated hashes."""
        headers = self._headers | {"Content-Type": OCTETS}
        reply = self.client.post("/v1/match", content=body, headers=headers)
        found: list[list[dict[str, str]]] = reply.raise_for_status().json()["matches"]
        return found

    def band(self, value: int) -> str | None:
        """Count a query; return the band of its nearest hit, None without a hit."""
        [hits] = self.hits([value])
        self.queries += 1
        self.matching += bool(hits)
        self.update()
        return hits[0]["band"] if hits else None

    def update(self) -> None:
        """Update the state of the alarm."""
        detector = self.service.oracle_detector
        self.counted = max(self.counted, *(len(s.edge or ()) for s in detector._seen.values()), 0)
        if self.alarm is None and detector._raised:
            self.alarm = self.queries


@contextmanager
def running_service(*scopes: Scope) -> Iterator[Oracle]:
    """Run an empty service, and yield an attacker with a key of these scopes."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            database=f"sqlite:///{folder}/db.sqlite3", argon2_memory=64, quiet_openings=1000
        )
        with TestClient(create_app(settings)) as client:
            yield Oracle(client, scopes)


def random_hash() -> int:
    """Return a random value with as many bits set as a PDQ hash has."""
    return sum(1 << bit for bit in RNG.sample(ALL_BITS, BITS // 2))


def flip(value: int, count: int, among: Sequence[int] = ALL_BITS) -> int:
    """Flip an even number of random bits, half of them set and half of them clear."""
    ones = [bit for bit in among if value >> bit & 1]
    zeros = [bit for bit in among if not value >> bit & 1]
    chosen = RNG.sample(ones, count // 2) + RNG.sample(zeros, count // 2)
    return value ^ sum(1 << bit for bit in chosen)


# --- hill climbing -------------------------------------------------------------------------------


def climb(
    oracle: Oracle, start: int, bands: tuple[str, str | None], free: Sequence[int]
) -> tuple[int, list[int]]:
    """Find the boundary between two bands by bisection, then flip each unknown bit once.

    Args:
        oracle: the service.
        start: a value that matches.
        bands: the nearer and the farther one.
        free: the unknown bits.

    Returns:
        The hash that was found, and the number of queries after which each bit was known.
    """
    nearer = {bands[0], "strong"}
    ones = RNG.sample([p for p in free if start >> p & 1], sum(start >> p & 1 for p in free))
    zeros = RNG.sample([p for p in free if not start >> p & 1], len(free) - len(ones))
    spare = max(start.bit_count() - MIDDLE, 0)
    pairs = zip(ones[spare:], zeros, strict=False)
    order = ones[:spare] + [bit for pair in pairs for bit in pair]

    def flipped(count: int) -> int:
        return start ^ sum(1 << bit for bit in order[:count])

    # The more bits are flipped, the farther is the query from the hash: bisect to the boundary.
    low, high = 0, len(order)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if oracle.band(flipped(middle)) in nearer else (low, middle)
    base = flipped(low)
    differing, known = 0, []
    for bit in free:
        # flipping a right bit crosses the boundary, flipping a wrong one does not
        if oracle.band(base ^ (1 << bit)) in nearer:
            differing |= 1 << bit
        known.append(oracle.queries)
    return base ^ differing, known


def with_copy(bands: tuple[str, str | None], distance: int) -> Attack:
    """Recover a hash from a copy at this distance in bits."""
    with running_service(Scope.MATCH) as oracle:
        target = random_hash()
        oracle.add(target)
        found, known = climb(oracle, flip(target, distance), bands, ALL_BITS)
        return outcome(oracle, known, 0, succeeded=found == target)


def outcome(oracle: Oracle, known: Sequence[int], before: int, *, succeeded: bool) -> Attack:
    """Return the outcome of an attack that started with `before` known bits."""
    at_alarm = None
    if oracle.alarm is not None:
        at_alarm = before + sum(n <= oracle.alarm for n in known)
    return Attack(
        oracle.queries, oracle.matching, oracle.counted, oracle.alarm, at_alarm, succeeded
    )


# --- from a veiled list --------------------------------------------------------------------------


def with_veil(scope: Scope, width: int, most: int) -> Attack:
    """Recover a hash from its published bits, with at most `most` guesses."""
    shown = [BITS - 1 - position for position in positions(width).tolist()]
    free = sorted(set(ALL_BITS) - set(shown))
    with running_service(scope, Scope.MATCH) as oracle:
        target = random_hash()
        oracle.add(target)
        published = sum(1 << bit for bit in shown if target >> bit & 1)
        start = guess(oracle, published, free, most)
        if start is None:
            return outcome(oracle, [], width, succeeded=False)
        found, known = climb(oracle, start, ("likely", None), free)
        return outcome(oracle, known, width, succeeded=found == target)


def guess(oracle: Oracle, published: int, free: Sequence[int], most: int) -> int | None:
    """Guess the unpublished bits until a guess matches; return it, or None after `most` guesses."""
    ones = BITS // 2 - published.bit_count()
    base = np.unpackbits(np.frombuffer(published.to_bytes(BITS // 8, "big"), np.uint8))
    unpublished = BITS - 1 - np.array(free)  # bit 255 comes first
    rng = np.random.default_rng(RNG.randrange(2**32))
    while oracle.queries < most:
        count = 1 if oracle.queries < SINGLE_GUESSES else QUERIES_MAX
        order = np.argsort(rng.random((count, len(free)), dtype=np.float32), axis=1)
        bits = np.tile(base, (count, 1))
        np.put_along_axis(bits, unpublished[order[:, :ones]], 1, axis=1)
        packed = np.packbits(bits, axis=1)
        found = [n for n, hits in enumerate(oracle.match(packed.tobytes())) if hits]
        oracle.queries += (found[0] + 1) if found else count
        oracle.matching += bool(found)
        oracle.update()
        if found:
            return int.from_bytes(packed[found[0]].tobytes(), "big")
    return None


def guesses(width: int) -> float:
    """Return the expected number of random guesses of the hidden bits until one matches."""
    hidden = BITS - width
    ones = hidden // 2
    near = sum(
        comb(ones, wrong) * comb(hidden - ones, wrong)
        for wrong in range(SignalType.PDQ.threshold // 2 + 1)
    )
    return comb(hidden, ones) / near


# --- with references -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """The outcome of estimating distances from positions among hits.

    Attributes:
        correlation: of the estimated with the true distances.
        queries: number sent.
        alarms: alarms that remain after the references are withdrawn.
    """

    correlation: float
    queries: int
    alarms: int


def with_references(count: int = 14, queries: int = 150) -> Estimate:
    """Estimate a listed file's distances from its position among files at known distances."""
    with running_service(Scope.MATCH) as oracle:
        target = random_hash()
        oracle.add(target)
        [[hit]] = oracle.hits([target])
        copy = flip(target, 8)
        references = [flip(copy, 2 * (n % 6) + 2) for n in range(count)]
        case = oracle.add(*references)
        differing = [bit for bit in ALL_BITS if (copy ^ target) >> bit & 1]
        estimated, true = [], []
        for n in range(queries):
            query = flip(copy, 2, differing if n % 3 == 0 else ALL_BITS)
            [hits] = oracle.hits([query])
            position = [h["item"] for h in hits].index(hit["item"])
            known = sorted((query ^ reference).bit_count() for reference in references)
            estimated.append(known[min(position, count - 1)])
            true.append((query ^ target).bit_count())
        login = (case["case"], case["passphrase"])
        for edge in range(EDGE_LIMIT + 3):
            oracle.hits([flip(references[0], 30 + 2 * (edge % 2))])
        oracle.client.delete("/v1/case", headers=credentials(*login)).raise_for_status()
        oracle.service._write_counts()
        alarms = [q for q in review.questions(oracle.service.store) if q.kind == "oracle"]
        varied = len(set(estimated)) > 1 and len(set(true)) > 1
        correlation = float(np.corrcoef(estimated, true)[0, 1]) if varied else 0.0
        return Estimate(correlation, queries, len(alarms))


def credentials(number: str, passphrase: str) -> dict[str, str]:
    """Return the authorization header of a case."""
    from base64 import b64encode

    return {"Authorization": "Case " + b64encode(f"{number}:{passphrase}".encode()).decode()}


# --- the report ----------------------------------------------------------------------------------


def median(values: Sequence[int | None]) -> str:
    """Format the median of the values that are not None."""
    present = [value for value in values if value is not None]
    return f"{statistics.median(present):,.0f}" if present else "none"


def row(name: str, attacks: Sequence[Attack], expected: float | None) -> list[str]:
    """Return the table row of the attacks of one kind."""
    return [
        name,
        "-" if expected is None else f"{expected:,.0f}",
        median([a.queries for a in attacks])
        if any(a.succeeded for a in attacks)
        else "not finished",
        median([a.matching for a in attacks]),
        f"{sum(a.succeeded for a in attacks)} of {len(attacks)}",
        median([a.alarm for a in attacks]),
        f"{median([a.known for a in attacks])} of {BITS}",
    ]


def main() -> None:
    """Run attacks of each kind and print a table of their cost."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--most", type=int, default=5_000_000, help="maximum number of guesses for a veil"
    )
    options = parser.parse_args()
    runs = options.runs
    table = Table(
        "Attack",
        "Expected guesses",
        "Queries",
        "Matching",
        "Recovered",
        "Alarm at query",
        "Bits known by then",
    )
    for name, bands, distance in (
        ("match, a copy: match / none", ("likely", None), 20),
        ("match, a copy: strong / likely", ("strong", "likely"), 8),
    ):
        attacks = [with_copy(bands, distance) for _ in range(runs)]
        table.add_row(*row(name, attacks, None))
    for scope, width in ((Scope.VEIL160, 160), (Scope.VEIL144, 144), (Scope.VEIL, 128)):
        expected = guesses(width)
        tries = runs if expected * 3 < options.most else 1
        most = options.most if expected < options.most else min(options.most, 100_000)
        attacks = [with_veil(scope, width, most) for _ in range(tries)]
        table.add_row(*row(f"{scope.value},match, no picture", attacks, expected))
    console = Console(width=160)
    console.print(table)
    estimates = [with_references() for _ in range(runs)]
    console.print(
        f"Distances estimated from positions among references, {estimates[0].queries} queries: "
        f"correlation {statistics.mean(r.correlation for r in estimates):.2f} with the true ones "
        f"({min(r.correlation for r in estimates):.2f} to "
        f"{max(r.correlation for r in estimates):.2f}). "
        "Alarms that remain after the references are withdrawn: in "
        f"{sum(bool(r.alarms) for r in estimates)} of {runs}."
    )


if __name__ == "__main__":
    main()
