"""Load-test one worker of the clearinghouse, and `threatexchange` with Flask as the peer.

    .venv/bin/python -m benchmarks.service.run                       # 100,000 hashes, two minutes
    .venv/bin/python -m benchmarks.service.run --rows 1e5 1e6 --soak 600 --out service

The service runs on one core and the load generator on the others (if there are any) of the same
machine, so the results are a lower bound. Hashes are random; one query in a hundred is a hash of
the bank with a few bits flipped. Latencies are measured by the client.
"""

import argparse
import http.client
import json
import os
import platform
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import reporting

Packed = NDArray[np.uint8]
Results = dict[str, Any]

PER_ITEM, PER_CASE = 26, 39  # hashes of a picture with its altered copies; pictures in a request
OCTETS, JSON = "application/octet-stream", "application/json"
ENVIRONMENT = {
    "CLEARINGHOUSE_QUIET_OPENINGS": "1000000",  # one client opens all cases here
    "CLEARINGHOUSE_QUIET_SIGNALS": "1000000000000",
    "CLEARINGHOUSE_MATCH_HOUR": "1000000000000",
    "CLEARINGHOUSE_MATCH_DAY": "1000000000000",
}


class Connection:
    """A keep-alive connection to a server; an error status ends the run."""

    def __init__(self, address: str, authorization: str | None = None) -> None:
        self._http = http.client.HTTPConnection(urlsplit(address).netloc, timeout=600)
        self._headers = {"Authorization": authorization} if authorization else {}

    def request(
        self, method: str, path: str, body: bytes | None = None, kind: str = JSON, **headers: str
    ) -> Any:  # noqa: ANN401 - what JSON holds
        """Send a request and return the JSON of its response."""
        sent = self._headers | {k.replace("_", "-"): v for k, v in headers.items()}
        self._http.request(method, path, body, sent | ({"Content-Type": kind} if body else {}))
        response = self._http.getresponse()
        data = response.read()
        if response.status >= 300:
            raise SystemExit(f"{method} {path}: {response.status} {data[:300].decode()}")
        return json.loads(data)


@contextmanager
def child(command: list[str], core: int | None, listening: str) -> Iterator[tuple[int, str]]:
    """Run a server as a child process on one core; yield its process id and address."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | ENVIRONMENT | {"OMP_NUM_THREADS": "1"},
        preexec_fn=(lambda: os.sched_setaffinity(0, {core})) if core is not None else None,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(listening, line)
        if not found:
            raise SystemExit(f"{command} did not start: {line}")
        yield process.pid, found[1]
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def resident(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Return the median and the 99th percentile in milliseconds."""
    p50, p99 = np.quantile(seconds, [0.5, 0.99]) * 1e3
    return {"p50_ms": float(p50), "p99_ms": float(p99)}


def load(clients: int, seconds: float, make: Callable[[], Callable[[], int]]) -> Results:
    """Run clients at full speed; count their queries and time each request.

    `make` opens a client, and returns a function that sends a request and returns its queries.
    """
    times: list[float] = []
    total = 0
    lock = threading.Lock()
    begin = time.perf_counter()

    def client() -> None:
        nonlocal total
        send, own, count = make(), [], 0
        while time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            count += send()
            own.append(time.perf_counter() - start)
        with lock:
            times.extend(own)
            total += count

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - begin
    return {"a_second": total / took, "requests": len(times), **quantiles(times)}


def items(rows: Packed) -> list[dict[str, Any]]:
    """Return files with these hashes in the form of a submission."""
    names = ["original", "mirror", "rotate90", "rotate180", "rotate270"]
    return [
        {
            "media": "image",
            "signals": [
                {"type": "pdq", "value": row.tobytes().hex(), "quality": 100,
                 "variant": names[n % len(names)]}
                for n, row in enumerate(rows[at : at + PER_ITEM])
            ],
        }
        for at in range(0, len(rows), PER_ITEM)
    ]  # fmt: skip


def open_case(survivor: Connection, rows: Packed) -> Any:  # noqa: ANN401 - what JSON holds
    """Open a case with these hashes."""
    body = {
        "declaration": {"adult": True, "depicted": True},
        "reason": "precaution",
        "work": None,
        "items": items(rows),
    }
    key = secrets.token_hex(16)
    return survivor.request("POST", "/v1/cases", json.dumps(body).encode(), Idempotency_Key=key)


def fill(address: str, rows: Packed) -> Results:
    """Submit the whole bank, in cases of `PER_CASE` files."""
    survivor = Connection(address)
    start = time.perf_counter()
    for at in range(0, len(rows), PER_ITEM * PER_CASE):
        open_case(survivor, rows[at : at + PER_ITEM * PER_CASE])
    took = time.perf_counter() - start
    return {"hashes_a_second": len(rows) / took, "seconds": took, "files_per_case": PER_CASE}


def random_hashes(count: int, rng: np.random.Generator) -> Packed:
    """Return random hashes with half of the bits set, as in PDQ."""
    half = rng.integers(0, 256, (count, 16), dtype=np.uint8)
    return np.concatenate((half, ~half), axis=1)


def queries(rows: Packed, count: int, rng: np.random.Generator) -> Packed:
    """Return random queries, one in a hundred near a row of the bank."""
    values = random_hashes(count, rng)
    hits = rng.random(count) < 0.01
    near = np.unpackbits(rows[rng.integers(0, len(rows), hits.sum())], axis=1)
    # the same bits in both halves, so that half of all bits stay set
    near ^= np.tile(rng.random((len(near), 128)) < 0.04, 2)
    values[hits] = np.packbits(near, axis=1)
    return values


def matching(
    address: str, bearer: str, hashes: Packed, seconds: float, batch: int, *, octets: bool
) -> Results:
    """Measure queries in batches."""
    if octets:
        bodies = [hashes[at : at + batch].tobytes() for at in range(0, len(hashes), batch)]
    else:
        texts = [row.tobytes().hex() for row in hashes]
        bodies = [
            json.dumps({"type": "pdq", "values": texts[at : at + batch]}).encode()
            for at in range(0, len(texts), batch)
        ]
    kind = OCTETS if octets else JSON

    def make() -> Callable[[], int]:
        connection = Connection(address, bearer)
        turn = iter(range(10**9))

        def send() -> int:
            connection.request("POST", "/v1/match", bodies[next(turn) % len(bodies)], kind)
            return batch

        return send

    # two clients, so that the service is busy while one of them reads a response
    return load(2 if batch > 1000 else 4, seconds, make)


def peer(rows: Packed, hashes: Packed, seconds: float, core: int | None) -> Results:
    """Measure the same queries with the peer, one per request."""
    texts = [row.tobytes().hex() for row in hashes]
    with tempfile.NamedTemporaryFile() as bank:
        rows.tofile(bank.name)
        command = [sys.executable, str(Path(__file__).with_name("peer.py")), bank.name]
        with child(command, core, r"listening on (http://\S+)") as (pid, address):

            def make() -> Callable[[], int]:
                connection = Connection(address)
                turn = iter(range(10**9))

                def send() -> int:
                    text = texts[next(turn) % len(texts)]
                    connection.request("GET", f"/m/raw_lookup?signal={text}")
                    return 1

                return send

            return load(4, seconds, make) | {"memory_mb": resident(pid)}


def feed(address: str, bearer: str, limit: int = 10_000) -> Results:
    """Time reading the whole feed, as a new platform does."""
    connection = Connection(address, bearer)
    pages, entries, cursor, more = 0, 0, "", True
    start = time.perf_counter()
    while more:
        page = connection.request(
            "GET", f"/v1/feed?limit={limit}" + (cursor and f"&cursor={cursor}")
        )
        pages, entries = pages + 1, entries + len(page["entries"])
        cursor, more = page["cursor"], page["more"]
    took = time.perf_counter() - start
    return {
        "pages_a_second": pages / took, "entries_a_second": entries / took,
        "entries": entries, "cursor": cursor,
    }  # fmt: skip


def delivery_delay(address: str, bearer: str, cursor: str, waiting: int, count: int) -> Results:
    """Measure the delay from sending a submission until each of many waiting platforms has it."""
    rng = np.random.default_rng(9)
    survivor = Connection(address)
    delays: list[float] = []
    with ThreadPoolExecutor(waiting) as pool:
        polls = [Connection(address, bearer) for _ in range(waiting)]
        for _ in range(count):

            def poll(connection: Connection, since: str = cursor) -> tuple[float, str]:
                page = connection.request("GET", f"/v1/feed?cursor={since}&wait=30")
                assert page["entries"], "the feed has no entry"
                return time.perf_counter(), page["cursor"]

            waits = [pool.submit(poll, one) for one in polls]
            time.sleep(0.3)
            sent = time.perf_counter()
            open_case(survivor, random_hashes(1, rng))
            received = [wait.result() for wait in waits]
            delays += [arrival - sent for arrival, _ in received]
            cursor = received[0][1]
    return {"platforms": waiting, "submissions": count, **quantiles(delays)}


def soak(address: str, bearer: str, pid: int, hashes: Packed, seconds: float) -> Results:
    """Sample the memory under a steady mix of queries and new cases."""
    rng = np.random.default_rng(10)
    memory = [resident(pid)]
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(max(seconds / 20, 1)):
            memory.append(resident(pid))

    sampler = threading.Thread(target=sample)
    sampler.start()

    def make() -> Callable[[], int]:
        platform, survivor = Connection(address, bearer), Connection(address)
        turn = iter(range(10**9))

        def send() -> int:
            number = next(turn)
            if number % 20 == 0:
                open_case(survivor, random_hashes(26, rng))
            at = number * 100 % (len(hashes) - 100)
            platform.request("POST", "/v1/match", hashes[at : at + 100].tobytes(), OCTETS)
            return 100

        return send

    measured = load(2, seconds, make)
    stop.set()
    sampler.join()
    return measured | {"seconds": seconds, "memory_mb": memory}


def run(count: int, options: argparse.Namespace, cores: list[int]) -> Results:
    """Run all measurements with one bank."""
    rng = np.random.default_rng(0)
    count -= count % PER_ITEM
    rows = random_hashes(count, rng)
    query_hashes = queries(rows, 100_000, rng)
    core = cores[0] if len(cores) > 1 and not options.shared else None
    program = [sys.executable, "-m", "clearinghouse"]
    with tempfile.TemporaryDirectory() as folder:
        database = options.database or f"sqlite:///{folder}/bank.sqlite3"
        serve = [*program, "serve", "--database", database, "--port", "0"]
        with child(serve, core, r"listening on (http://\S+)") as (pid, address):
            added = subprocess.run(
                [*program, "platform", "add", "Bench", "--scope", "feed,match,feedback",
                 "--database", database, "--json"],
                capture_output=True, check=True, text=True, env=os.environ | ENVIRONMENT,
            )  # fmt: skip
            bearer = f"Bearer {json.loads(added.stdout)['key']}"
            results: Results = {"rows": count, "fill": fill(address, rows)}
            ready = Connection(address)
            while ready.request("GET", "/health/ready")["status"] != "ready":
                time.sleep(0.1)
            results["memory_mb"] = resident(pid)
            results["match"] = {
                f"{'octets' if octets else 'JSON'}, {batch:,} a request": matching(
                    address, bearer, query_hashes, options.seconds, batch, octets=octets
                )
                for batch, octets in ((1, False), (100, False), (10_000, False), (10_000, True))
            }
            results["feed"] = feed(address, bearer)
            cursor = results["feed"].pop("cursor")
            results["visible"] = delivery_delay(address, bearer, cursor, 50, options.submissions)

            def opening() -> Callable[[], int]:
                survivor = Connection(address)
                one = random_hashes(26, rng)

                def send() -> int:
                    open_case(survivor, one)
                    return 1

                return send

            results["cases"] = load(4, options.seconds, opening)
            if options.soak:
                results["soak"] = soak(address, bearer, pid, query_hashes, options.soak)
    try:
        results["peer"] = peer(rows, query_hashes, options.seconds, core)
    except SystemExit as error:
        print(f"the peer is skipped: {error}")
    return results


def markdown(results: Results) -> str:
    """Return the tables in Markdown."""
    setting = (
        f"One worker on {results['cores']}, {results['processors']} processors, "
        f"{results['database']}, load average {results['load']:.1f} at the start."
    )
    lines = [setting, ""]
    for bank in results["banks"]:
        lines += [
            f"**{bank['rows']:,} hashes in the bank**",
            "",
            "| queries | per second | p50, ms | p99, ms | relative to the peer |",
            "|---|--:|--:|--:|--:|",
        ]
        other = bank.get("peer")
        for name, found in bank["match"].items():
            ratio = f"{found['a_second'] / other['a_second']:,.1f}" if other else ""
            lines.append(
                f"| {_shown(name)} | {found['a_second']:,.0f} | {found['p50_ms']:.1f} "
                f"| {found['p99_ms']:.1f} | {ratio} |"
            )
        if other:
            lines.append(
                f"| the peer, `threatexchange` with Flask, 1 per request "
                f"| {other['a_second']:,.0f} | {other['p50_ms']:.1f} | {other['p99_ms']:.1f} | 1 |"
            )
        lines += [
            "",
            f"Submissions: {bank['fill']['hashes_a_second']:,.0f} hashes per second in cases of "
            f"{bank['fill']['files_per_case']} files; {bank['cases']['a_second']:.1f} cases per "
            "second with one file each. Feed: "
            f"{bank['feed']['entries_a_second']:,.0f} entries per second in pages of 10,000. "
            "Delay from sending a submission until "
            f"{bank['visible']['platforms']} waiting platforms have received it: p50 "
            f"{bank['visible']['p50_ms']:.0f} ms, p99 {bank['visible']['p99_ms']:.0f} ms. Memory: "
            f"{bank['memory_mb']:.0f} MB"
            + (f"; of the peer: {other['memory_mb']:.0f} MB." if other else "."),
            "",
        ]
        if steady := bank.get("soak"):
            half = len(steady["memory_mb"]) // 2
            lines.append(
                f"Memory during {steady['seconds']:.0f} s of a steady mix of queries and new "
                f"cases: {steady['memory_mb'][0]:.0f} MB at the start, "
                f"{steady['memory_mb'][half]:.0f} MB halfway, {steady['memory_mb'][-1]:.0f} MB at "
                "the end.\n"
            )
    return "\n".join(lines)


def _shown(name: str) -> str:
    """Return what the table shows for a form of request, whose name is a key in the results."""
    return name.replace("octets", "binary").replace(" a request", " per request")


def main() -> None:
    """Run the benchmark, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=float, nargs="+", default=[1e5])
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of each kind of load")
    parser.add_argument("--submissions", type=int, default=20)
    parser.add_argument(
        "--soak", type=float, default=0.0, help="seconds of steady load, for the memory"
    )
    parser.add_argument("--shared", action="store_true", help="let the service use all cores")
    parser.add_argument("--database", help="URL of an empty PostgreSQL database")
    parser.add_argument("--out", type=Path, help="where to write NAME.json and NAME.md")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, set(cores[1:]))
    results: Results = {
        "cores": "one core" if len(cores) > 1 and not options.shared else "all cores",
        "processors": os.cpu_count(),
        "machine": platform.machine(),
        "database": "PostgreSQL" if options.database else "SQLite",
        "load": os.getloadavg()[0],
        "banks": [],
    }
    for count in map(int, options.rows):
        results["banks"].append(run(count, options, cores))
        print(markdown(results | {"banks": results["banks"][-1:]}))
    if options.out:
        reporting.write(options.out, results, markdown(results))


if __name__ == "__main__":
    main()
