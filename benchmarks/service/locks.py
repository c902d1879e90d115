"""The time that the largest valid request of each route holds the write lock.

    .venv/bin/python -m benchmarks.service.locks                      # SQLite, a minute
    .venv/bin/python -m benchmarks.service.locks --database postgresql+psycopg://… --out locks

The service has one writer at a time. Each route that writes gets several requests of the maximum
size, with a bank of random hashes. Every write transaction is timed from acquiring the lock to the
end of its commit, inside the service, which runs in this process. The service's metrics have the
same times (`clearinghouse_write_lock_seconds`).
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
Headers = dict[str, str]


def hashes(count: int) -> list[str]:
    """Return random hashes in hexadecimal, with half of the bits set as in PDQ."""
    rng = np.random.default_rng(secrets.randbits(64))
    half = np.tile(np.arange(BITS) < BITS // 2, (count, 1))
    return [row.tobytes().hex() for row in np.packbits(rng.permuted(half, axis=1), axis=1)]


def signals(values: list[str]) -> list[Body]:
    """Return PDQ hashes in the form of a submission."""
    return [{"type": "pdq", "value": v, "quality": 90, "variant": "original"} for v in values]


def pictures(count: int) -> list[Body]:
    """Return pictures that have `count` random hashes together."""
    values = hashes(count)
    return [
        {"media": "image", "signals": signals(values[at : at + PER_ITEM])}
        for at in range(0, count, PER_ITEM)
    ]


class TimedService:
    """A service in this process, with the durations of its write transactions."""

    def __init__(self, client: TestClient, store: Any) -> None:  # noqa: ANN401 - of the service
        self._client = client
        self._store = store
        self._durations: list[float] = []
        store.record_write = self._durations.append

    def request(
        self, method: str, path: str, body: Body | None = None, headers: Headers | None = None
    ) -> Body:
        """Send a request and return the JSON of its response; an error status ends the run."""
        response = self._client.request(method, path, json=body, headers=headers)
        if response.status_code >= 300:
            raise SystemExit(f"{method} {path}: {response.status_code} {response.text[:300]}")
        document: Body = response.json()
        return document

    def open(self, items: list[Body]) -> tuple[Headers, Body]:
        """Open a case; return its authorization header and the response."""
        opened = self.request(
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
        """Run `act` on what `prepare` returns; summarise the write transactions of `act`."""
        durations: list[float] = []
        for _ in range(repeats):
            prepared = prepare()
            self._durations.clear()
            act(prepared)
            durations += self._durations
        p50, p99 = np.quantile(durations, [0.5, 0.99]) * 1e3
        return {
            "transactions": len(durations) / repeats,
            "p50_ms": float(p50),
            "p99_ms": float(p99),
            "max_ms": max(durations) * 1e3,
        }


@contextmanager
def run_service(database: str, folder: Path) -> Iterator[tuple[TimedService, str]]:
    """Run the service; yield it, and a platform key with every scope."""
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
        yield TimedService(client, store), key
    gc.unfreeze()


def measure(service: TimedService, key: str, repeats: int) -> dict[str, Body]:
    """Time the largest request of each route."""
    bearer = {"Authorization": f"Bearer {key}"}
    stopncii = {"x-functions-key": key, "Ocp-Apim-Subscription-Key": key}
    video = {"media": "video", "more": True}
    most = REQUEST_SIGNALS_MAX

    def incomplete_video() -> Headers:
        return service.open([video | {"signals": signals(hashes(most))}])[0]

    def long_video() -> Headers:
        headers = incomplete_video()
        rest = {"after": most, "signals": signals(hashes(SIGNALS_MAX - most))}
        service.request("POST", "/v1/case/items/1/signals", rest, headers)
        return headers

    def full_case() -> Headers:
        headers, _ = service.open(pictures(39 * PER_ITEM))
        for _ in range(4):
            more = {"items": pictures(40 * PER_ITEM - 16)}
            service.request("POST", "/v1/case/items", more, headers)
        return headers

    def entries() -> list[str]:
        service.open(pictures(VERDICTS_MAX))
        page = service.request("GET", "/v1/feed?limit=10000", headers=bearer)
        while page["more"]:
            path = f"/v1/feed?limit=10000&cursor={page['cursor']}"
            page = service.request("GET", path, headers=bearer)
        return [entry["id"] for entry in page["entries"][-VERDICTS_MAX:]]

    def send_verdicts(ids: list[str]) -> None:
        verdicts = [{"id": id, "verdict": "not_blocked"} for id in ids]
        service.request("POST", "/v1/feedback", {"verdicts": verdicts}, bearer)

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
        service.request("POST", "/stopncii/v1/SubmitHashes", body, stopncii)

    def contributed() -> list[str]:
        values = hashes(BATCH_MAX)
        contribute(values)
        return values

    def send_feedback(value: str) -> Callable[[list[str]], None]:
        def act(values: list[str]) -> None:
            feedbacks = [{"tags": [], "feedbackValue": value, "hashValue": v} for v in values]
            body = {"count": len(feedbacks), "hashFeedbacks": feedbacks}
            service.request("POST", "/stopncii/v1/SubmitFeedback", body, stopncii)

        return act

    def nothing() -> None:
        return None

    def add(headers: Headers) -> object:
        return service.request("POST", "/v1/case/items", {"items": pictures(most)}, headers)

    def append(headers: Headers) -> object:
        part = {"after": most, "signals": signals(hashes(most))}
        return service.request("POST", "/v1/case/items/1/signals", part, headers)

    def withdraw(path: str) -> Callable[[Headers], object]:
        return lambda headers: service.request("DELETE", path, headers=headers)

    def one_picture() -> Headers:
        return service.open(pictures(PER_ITEM))[0]

    rows: list[tuple[str, Callable[[], Any], Callable[[Any], object]]] = [
        ("open a case, 1,024 hashes", nothing, lambda _: service.open(pictures(most))),
        ("add files, 1,024 hashes", one_picture, add),
        ("add 1,024 hashes to a video", incomplete_video, append),
        ("withdraw a video of 2,048 hashes", long_video, withdraw("/v1/case/items/1")),
        ("withdraw a case of 199 pictures", full_case, withdraw("/v1/case")),
        ("send 1,000 verdicts", entries, send_verdicts),
        ("send 1,000 contributions", lambda: hashes(BATCH_MAX), contribute),
        ("send 1,000 feedback entries by value", contributed, send_feedback("NotBlocked")),
        ("withdraw 1,000 contributions", contributed, send_feedback("Withdrawn")),
    ]
    found: dict[str, Body] = {}
    for name, prepare, act in rows:
        found[name] = service.timed(repeats, prepare, act)
        print(f"{name}: {found[name]}", flush=True)
    return found


def markdown(results: Body) -> str:
    """Return the table in Markdown."""
    lines = [
        (
            f"{results['database']}, {results['rows']:,} hashes in the bank, {results['repeats']} "
            "requests of each kind."
        ),
        "",
        "| largest request | write transactions per request | p50, ms | p99, ms | max, ms |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, row in results["routes"].items():
        lines.append(
            f"| {name} | {row['transactions']:.1f} | {row['p50_ms']:.1f} | {row['p99_ms']:.1f} "
            f"| {row['max_ms']:.1f} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    """Run the benchmark, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=float, default=1e5)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--database", help="URL of an empty PostgreSQL database")
    parser.add_argument("--out", type=Path, help="where to write NAME.json and NAME.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = options.database or f"sqlite:///{folder}/bank.sqlite3"
        with run_service(database, Path(folder)) as (service, key):
            for _ in range(0, int(options.rows), REQUEST_SIGNALS_MAX):
                service.open(pictures(REQUEST_SIGNALS_MAX))
            results = {
                "database": "PostgreSQL" if options.database else "SQLite",
                "rows": int(options.rows),
                "repeats": options.repeats,
                "routes": measure(service, key, options.repeats),
            }
    print(markdown(results))
    if options.out:
        reporting.write(options.out, results, markdown(results))


if __name__ == "__main__":
    main()
