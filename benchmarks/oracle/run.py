"""What it costs to find one hash out by asking, without the alarm and with it.

    .venv/bin/python -m benchmarks.oracle.run

The attacker has a match key and a copy of a listed picture so altered that it still matches, and
asks `POST /v1/match` of a real service (in this process, over ASGI) until the hash is known, bit by
bit. Two ways: along the edge between a match and none, and along that between `strong` and
`likely`. Counted are the questions, those that match, and what was known when the alarm came; from
that follows what a patient attacker needs who never raises it. No figure depends on the machine.
"""

import argparse
import secrets
import statistics
import tempfile
from dataclasses import dataclass
from math import ceil

from rich.console import Console
from rich.table import Table
from starlette.testclient import TestClient

from clearinghouse.app import create_app, utc_now
from clearinghouse.platforms import keys
from clearinghouse.platforms.keys import Scope
from clearinghouse.settings import Settings
from nciihash.signals import SignalType

BITS = SignalType.PDQ.bits


@dataclass
class Attack:
    """One hash found out: questions asked, those that matched, and where the alarm came."""

    questions: int
    matching: int
    alarm: int | None
    known: int | None
    right: bool


class Oracle:
    """The service, as somebody with a match key sees it, and a look at its alarm from inside."""

    def __init__(self, client: TestClient, watch: object, key: str, item: int) -> None:
        self._client = client
        self._watch = watch
        self._headers = {"Authorization": f"Bearer {key}"}
        self._item = item
        self.questions = self.matching = 0
        self.alarm: int | None = None

    def ask(self, value: int) -> str | None:
        """Give the band of the nearest hit, None where there is none."""
        body = {"type": "pdq", "values": [f"{value:064x}"]}
        reply = self._client.post("/v1/match", json=body, headers=self._headers)
        [hits] = reply.raise_for_status().json()["matches"]
        self.questions += 1
        self.matching += bool(hits)
        seen = self._watch._seen.get((1, self._item))
        if self.alarm is None and seen is not None and seen.edge is None:
            self.alarm = self.questions
        return hits[0]["band"] if hits else None


def find_out(
    oracle: Oracle, start: int, answers: tuple[str | None, str | None]
) -> tuple[int, list[int]]:
    """Walk to the edge between two answers, then turn each bit over once.

    Gives the hash as found, and after how many questions each bit was known.
    """
    near, _far = answers
    # Turning over more and more bits leads away from the hash: bisect to where the answer changes.
    order = secrets.SystemRandom().sample(range(BITS), BITS)

    def turned(count: int) -> int:
        return start ^ sum(1 << bit for bit in order[:count])

    # with half of the bits turned over it is far from everything
    low, high = 0, BITS // 2
    while high - low > 1:
        middle = (low + high) // 2
        if oracle.ask(turned(middle)) in {near, "strong"}:
            low = middle
        else:
            high = middle
    base = turned(low)
    differing, known = 0, []
    for bit in range(BITS):
        # at the edge, a bit that agrees with the hash leads over it, one that differs leads back
        if oracle.ask(base ^ (1 << bit)) in {near, "strong"}:
            differing |= 1 << bit
        known.append(oracle.questions)
    return base ^ differing, known


def attack(answers: tuple[str | None, str | None], distance: int) -> Attack:
    """Find one hash out along the edge between two answers, from a copy so many bits away."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            database=f"sqlite:///{folder}/db.sqlite3", argon2_memory=64, quiet_openings=1000
        )
        app = create_app(settings)
        with TestClient(app) as client:
            service = app.state.service
            target = secrets.randbits(BITS)
            signal = {"type": "pdq", "value": f"{target:064x}", "quality": 100}
            opened = client.post(
                "/v1/cases",
                json={
                    "declaration": {"adult": True, "depicted": True},
                    "reason": "shared",
                    "work": None,
                    "items": [{"media": "image", "signals": [signal]}],
                },
            )
            opened.raise_for_status()
            key = keys.add_platform(service.store, "Curious", [Scope.MATCH], utc_now())
            while service.live.seq < 1:
                pass
            oracle = Oracle(client, service.watch, key, 1)
            bits = secrets.SystemRandom().sample(range(BITS), distance)
            found, known = find_out(oracle, target ^ sum(1 << bit for bit in bits), answers)
    at_alarm = None if oracle.alarm is None else sum(n <= oracle.alarm for n in known)
    return Attack(oracle.questions, oracle.matching, oracle.alarm, at_alarm, found == target)


def main() -> None:
    """Run some attacks of each kind and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    bound = Settings().oracle_edge
    table = Table(
        *("Edge", "Questions", "of them matching", "Found", "Alarm at question", "Bits known then"),
        f"Days below the alarm ({bound} a day)",
    )
    for name, answers, distance in (
        ("match / none", ("likely", None), 20),
        ("strong / likely", ("strong", "likely"), 8),
    ):
        done = [attack(answers, distance) for _ in range(runs)]

        def middle(values: list[int | None]) -> str:
            there = [v for v in values if v is not None]
            return f"{statistics.median(there):.0f}" if there else "none"

        matching = statistics.median(a.matching for a in done)
        table.add_row(
            name,
            middle([a.questions for a in done]),
            f"{matching:.0f}",
            f"{sum(a.right for a in done)} of {runs}",
            middle([a.alarm for a in done]),
            f"{middle([a.known for a in done])} of {BITS}",
            f"{ceil(matching / bound)}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
