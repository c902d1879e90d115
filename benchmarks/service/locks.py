"""How long the largest legal request of each route keeps other writers waiting.

    .venv/bin/python -m benchmarks.service.locks                      # SQLite, a minute
    .venv/bin/python -m benchmarks.service.locks --database postgresql+psycopg://… --out locks

The service has one writer at a time. Each route that writes is asked for as much as one request may
bring, again and again, over a bank of random hashes. Timed is every write transaction from the
moment at which it has the lock to the end of its commit, inside the service, which is in this
process. The same figures are in the service's metrics (`clearinghouse_write_lock_seconds`).
"""

import argparse
import base64
import gc
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from starlette.testclient import TestClient

from benchmarks.common import reporting
from clearinghouse.app import create_app, utc_now
from clearinghouse.platforms import keys
from clearinghouse.platforms.keys import Scope
from clearinghouse.platforms.stopncii import BATCH_MAX
from clearinghouse.settings import Settings
from nciihash.wire import REQUEST_SIGNALS_MAX, SIGNALS_MAX, VERDICTS_MAX

PER_ITEM: Final = 26  # hashes of a picture with its altered copies
BITS: Final = 256
Body = dict[str, Any]


def hashes(count: int) -> list[str]:
    """Make random hashes with as many ones as PDQ's have."""
    rng = np.random.default_rng(secrets.randbits(64))
    half = np.tile(np.arange(BITS) < BITS // 2, (count, 1))
    return [row.tobytes().hex() for row in np.packbits(rng.permuted(half, axis=1), axis=1)]


def signals(values: list[str]) -> list[Body]:
    """Write PDQ hashes as a submission has them."""
    return [{"type": "pdq", "value": v, "quality": 90, "variant": "original"} for v in values]


def pictures(count: int) -> list[Body]:
    """Make pictures with so many hashes in all."""
    values = hashes(count)
    return [
        {"media": "image", "signals": signals(values[at : at + PER_ITEM])}
        for at in range(0, count, PER_ITEM)
    ]


class Bench:
    """A service in this process, and the write transactions that it made."""

    def __init__(self, client: TestClient, store: Any) -> None:  # noqa: ANN401 - of the service
        self._client = client
        self._store = store
        self._held: list[float] = []
        store.record_write = self._held.append

    def ask(self, method: str, path: str, body: Body | None = None, **headers: str) -> Body:
        """Send a request and read its answer."""
        reply = self._client.request(method, path, json=body, headers=headers)
        if reply.status_code >= 300:
            raise SystemExit(f"{method} {path}: {reply.status_code} {reply.text[:300]}")
        answer: Body = reply.json()
        return answer

    def open(self, items: list[Body]) -> tuple[dict[str, str], Body]:
        """Open a case; return the header that its holder sends, and the answer."""
        opened = self.ask(
            "POST",
            "/v1/cases",
            {
                "declaration": {"adult": True, "depicted": True},
                "reason": "precaution",
                "work": None,
                "items": items,
            },
        )
        pair = f"{opened['case']}:{opened['passphrase']}".encode()
        return {"Authorization": f"Case {base64.b64encode(pair).decode()}"}, opened

    def timed(self, repeats: int, prepare: Callable[[], Any], act: Callable[[Any], object]) -> Body:
        """Run `act` again and again; describe the transactions that it made."""
        held: list[float] = []
        for _ in range(repeats):
            given = prepare()
            self._held.clear()
            act(given)
            held += self._held
        p50, p99 = np.quantile(held, [0.5, 0.99]) * 1e3
        return {
            "transactions": len(held) / repeats,
            "p50_ms": float(p50),
            "p99_ms": float(p99),
            "max_ms": max(held) * 1e3,
        }


@contextmanager
def service(database: str, folder: Path) -> Iterator[tuple[Bench, str]]:
    """Run the service; give it and a platform's key with every scope."""
    settings = Settings(
        database=database,
        key_file=folder / "key" / "master",
        argon2_memory=64,
        quiet_openings=10**9,
        quiet_signals=10**15,
        contributions_max=10**7,
    )
    app = create_app(settings)
    with TestClient(app) as client:
        store = app.state.service.store
        gc.collect()
        gc.freeze()  # as `clearinghouse serve` does
        key = keys.add_platform(store, f"Bench {secrets.token_hex(4)}", tuple(Scope), utc_now())
        yield Bench(client, store), key
    gc.unfreeze()


def measure(bench: Bench, key: str, repeats: int) -> dict[str, Body]:
    """Time each route."""
    bearer = {"Authorization": f"Bearer {key}"}
    stopncii = {"x-functions-key": key, "Ocp-Apim-Subscription-Key": key}
    film = {"media": "video", "more": True}
    most = REQUEST_SIGNALS_MAX

    def waiting_film() -> dict[str, str]:
        return bench.open([film | {"signals": signals(hashes(most))}])[0]

    def long_film() -> dict[str, str]:
        secret = waiting_film()
        rest = {"after": most, "signals": signals(hashes(SIGNALS_MAX - most))}
        bench.ask("POST", "/v1/case/items/1/signals", rest, **secret)
        return secret

    def full_case() -> dict[str, str]:
        secret, _ = bench.open(pictures(39 * PER_ITEM))
        for _ in range(4):
            bench.ask("POST", "/v1/case/items", {"items": pictures(40 * PER_ITEM - 16)}, **secret)
        return secret

    def entries() -> list[str]:
        value_sets = [pictures(VERDICTS_MAX)]
        bench.open(value_sets[0])
        page = bench.ask("GET", "/v1/feed?limit=10000", **bearer)
        while page["more"]:
            page = bench.ask("GET", f"/v1/feed?limit=10000&cursor={page['cursor']}", **bearer)
        return [entry["id"] for entry in page["entries"][-VERDICTS_MAX:]]

    def judge(ids: list[str]) -> None:
        said = [{"id": id, "verdict": "not_blocked"} for id in ids]
        bench.ask("POST", "/v1/feedback", {"verdicts": said}, **bearer)

    def contribute(values: list[str]) -> None:
        records = [
            {
                "lastModtimestamp": 1,
                "signalType": "ImagePDQ",
                "hashValue": value,
                "CSPFeedbacks": [{"tags": [], "feedbackValue": "Blocked"}],
            }
            for value in values
        ]
        body = {"count": len(records), "hashRecords": records}
        bench.ask("POST", "/stopncii/v1/SubmitHashes", body, **stopncii)

    def contributed() -> list[str]:
        values = hashes(BATCH_MAX)
        contribute(values)
        return values

    def say(value: str) -> Callable[[list[str]], None]:
        def act(values: list[str]) -> None:
            said = [{"tags": [], "feedbackValue": value, "hashValue": v} for v in values]
            body = {"count": len(said), "hashFeedbacks": said}
            bench.ask("POST", "/stopncii/v1/SubmitFeedback", body, **stopncii)

        return act

    def nothing() -> None:
        return None

    def add(secret: dict[str, str]) -> object:
        return bench.ask("POST", "/v1/case/items", {"items": pictures(most)}, **secret)

    def append(secret: dict[str, str]) -> object:
        part = {"after": most, "signals": signals(hashes(most))}
        return bench.ask("POST", "/v1/case/items/1/signals", part, **secret)

    def withdraw(path: str) -> Callable[[dict[str, str]], object]:
        return lambda secret: bench.ask("DELETE", path, **secret)

    def one_picture() -> dict[str, str]:
        return bench.open(pictures(PER_ITEM))[0]

    rows: list[tuple[str, Callable[[], Any], Callable[[Any], object]]] = [
        ("open a case, 1,024 hashes", nothing, lambda _: bench.open(pictures(most))),
        ("add files, 1,024 hashes", one_picture, add),
        ("add 1,024 hashes to a video", waiting_film, append),
        ("withdraw a video of 2,048", long_film, withdraw("/v1/case/items/1")),
        ("withdraw a case of 199 pictures", full_case, withdraw("/v1/case")),
        ("1,000 verdicts", entries, judge),
        ("1,000 contributions", lambda: hashes(BATCH_MAX), contribute),
        ("1,000 feedbacks by value", contributed, say("NotBlocked")),
        ("1,000 contributions taken back", contributed, say("Withdrawn")),
    ]
    found: dict[str, Body] = {}
    for name, prepare, act in rows:
        found[name] = bench.timed(repeats, prepare, act)
        print(f"{name}: {found[name]}", flush=True)
    return found


def markdown(results: Body) -> str:
    """Write what was measured as a table."""
    lines = [
        (
            f"{results['database']}, {results['rows']:,} hashes in the bank, {results['repeats']} "
            "requests of each kind."
        ),
        "",
        "| the largest request | write transactions | p50, ms | p99, ms | longest, ms |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, row in results["routes"].items():
        lines.append(
            f"| {name} | {row['transactions']:.1f} | {row['p50_ms']:.1f} | {row['p99_ms']:.1f} "
            f"| {row['max_ms']:.1f} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=float, default=1e5)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--database", help="an address of a PostgreSQL database that is empty")
    parser.add_argument("--out", type=Path, help="where to write NAME.json and NAME.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = options.database or f"sqlite:///{folder}/bank.sqlite3"
        with service(database, Path(folder)) as (bench, key):
            for _ in range(0, int(options.rows), REQUEST_SIGNALS_MAX):
                bench.open(pictures(REQUEST_SIGNALS_MAX))
            results = {
                "database": "PostgreSQL" if options.database else "SQLite",
                "rows": int(options.rows),
                "repeats": options.repeats,
                "routes": measure(bench, key, options.repeats),
            }
    print(markdown(results))
    if options.out:
        reporting.write(options.out, results, markdown(results))


if __name__ == "__main__":
    main()
