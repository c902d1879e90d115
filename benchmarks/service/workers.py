"""How long after a submission at one worker the others match it, on one PostgreSQL.

    PYTHONPATH=tests python -m benchmarks.service.workers --submissions 200

Each worker is a process with an index of its own. A case is opened at one, each time another, and
the others are asked until they match. Measured from the sending of the submission, with its answer
and the asking in it.
"""

import argparse
import json
import os
import secrets
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np

from support.postgres import Databases, server
from support.service_process import ServiceProcess, bearer
from support.serving import item, opening, pdq

_PAUSE = 0.002  # seconds between questions


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--submissions", type=int, default=200)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ch-workers-")))
        running = stack.enter_context(server())
        if running is None:
            print("There is no PostgreSQL in /usr/lib/postgresql.", file=sys.stderr)
            return
        made = Databases(running.address)
        stack.callback(made.close)
        database = stack.enter_context(made.fresh())
        key = {"CLEARINGHOUSE_KEY": secrets.token_hex(32)}
        workers = []
        for number in range(wanted.workers):
            own = folder / str(number)
            own.mkdir()
            notes = {"CLEARINGHOUSE_NOTES": str(own)}
            workers.append(ServiceProcess(own, database, forked=False, **key, **notes))
            stack.callback(workers[-1].end)
        headers = bearer(workers[0].platform())
        answered, matched = _measure(workers, headers, wanted.submissions)
    figures = {
        "workers": wanted.workers,
        "submissions": wanted.submissions,
        "load": round(os.getloadavg()[0], 1),
        "answered_ms": _quantiles(answered),
        "matched_elsewhere_ms": _quantiles(matched),
    }
    if wanted.json:
        print(json.dumps(figures))
        return
    print(f"{wanted.workers} workers, {wanted.submissions} submissions, load {figures['load']}")
    for name in ("answered_ms", "matched_elsewhere_ms"):
        p50, p99, most = figures[name]
        print(f"{name:24} p50 {p50:7.1f}   p99 {p99:7.1f}   most {most:7.1f}")


def _quantiles(seconds: list[float]) -> list[float]:
    return [round(1000 * float(np.quantile(seconds, q)), 1) for q in (0.5, 0.99, 1)]


def _measure(
    workers: list[ServiceProcess], headers: dict[str, str], submissions: int
) -> tuple[list[float], list[float]]:
    answered, matched = [], []
    for number in range(submissions + 5):
        value, giver = pdq(), number % len(workers)
        others = [w for i, w in enumerate(workers) if i != giver]
        seen: list[float] = []
        start = time.monotonic()
        asking = [
            threading.Thread(target=_ask, args=(w.client, headers, value, seen)) for w in others
        ]
        for thread in asking:
            thread.start()
        reply = workers[giver].client.post("/v1/cases", json=opening(item(value)))
        took = time.monotonic() - start
        assert reply.status_code == 201, reply.text
        for thread in asking:
            thread.join()
        assert len(seen) == len(others), "it was not matched everywhere"
        if number >= 5:  # the first ones warm everything up
            answered.append(took)
            matched += [at - start for at in seen]
        if sys.stderr.isatty():
            print(f"\r{number}", end="", file=sys.stderr)
    return answered, matched


def _ask(client: httpx.Client, headers: dict[str, str], value: str, seen: list[float]) -> None:
    body = {"type": "pdq", "values": [value]}
    end = time.monotonic() + 60
    while time.monotonic() < end:
        reply = client.post("/v1/match", json=body, headers=headers)
        if reply.json()["matches"][0]:
            seen.append(time.monotonic())
            return
        time.sleep(_PAUSE)


if __name__ == "__main__":
    main()
