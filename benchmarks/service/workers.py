"""The delay from a submission at one worker until the others match it, with one PostgreSQL.

    PYTHONPATH=tests python -m benchmarks.service.workers --submissions 200

Each worker is a process with its own index. Cases are opened at the workers in turn, and the other
workers are polled until they match. The delay is measured from sending the submission, and includes
its response and the polling.
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

_PAUSE = 0.002  # seconds between polls


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--submissions", type=int, default=200)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ch-workers-")))
        running = stack.enter_context(server())
        if running is None:
            print("PostgreSQL is not installed in /usr/lib/postgresql.", file=sys.stderr)
            return
        databases = Databases(running.address)
        stack.callback(databases.close)
        database = stack.enter_context(databases.fresh())
        key = {"CLEARINGHOUSE_KEY": secrets.token_hex(32)}
        workers = []
        for number in range(options.workers):
            own = folder / str(number)
            own.mkdir()
            notes = {"CLEARINGHOUSE_NOTES": str(own)}
            workers.append(ServiceProcess(own, database, forked=False, **key, **notes))
            stack.callback(workers[-1].end)
        headers = bearer(workers[0].platform())
        answered, matched = _measure(workers, headers, options.submissions)
    figures = {
        "workers": options.workers,
        "submissions": options.submissions,
        "load": round(os.getloadavg()[0], 1),
        "answered_ms": _quantiles(answered),
        "matched_elsewhere_ms": _quantiles(matched),
    }
    if options.json:
        print(json.dumps(figures))
        return
    print(f"{options.workers} workers, {options.submissions} submissions, load {figures['load']}")
    for name in ("answered_ms", "matched_elsewhere_ms"):
        p50, p99, longest = figures[name]
        print(f"{name:24} p50 {p50:7.1f}   p99 {p99:7.1f}   max {longest:7.1f}")


def _quantiles(seconds: list[float]) -> list[float]:
    return [round(1000 * float(np.quantile(seconds, q)), 1) for q in (0.5, 0.99, 1)]


def _measure(
    workers: list[ServiceProcess], headers: dict[str, str], submissions: int
) -> tuple[list[float], list[float]]:
    answered, matched = [], []
    for number in range(submissions + 5):
        value, submitter = pdq(), number % len(workers)
        others = [w for i, w in enumerate(workers) if i != submitter]
        seen: list[float] = []
        start = time.monotonic()
        pollers = [
            threading.Thread(target=_poll, args=(w.client, headers, value, seen)) for w in others
        ]
        for thread in pollers:
            thread.start()
        reply = workers[submitter].client.post("/v1/cases", json=opening(item(value)))
        took = time.monotonic() - start
        assert reply.status_code == 201, reply.text
        for thread in pollers:
            thread.join()
        assert len(seen) == len(others), "not every worker matched within a minute"
        if number >= 5:  # the first five are the warm-up
            answered.append(took)
            matched += [at - start for at in seen]
        if sys.stderr.isatty():
            print(f"\r{number}", end="", file=sys.stderr)
    return answered, matched


def _poll(client: httpx.Client, headers: dict[str, str], value: str, seen: list[float]) -> None:
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
