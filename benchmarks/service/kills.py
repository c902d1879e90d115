"""Kill the service hundreds of times under concurrent writers, and count lost and doubled writes.

    PYTHONPATH=tests python -m benchmarks.service.kills --kills 200
    PYTHONPATH=tests python -m benchmarks.service.kills --kills 200 --postgres

The service is killed by SIGKILL at random moments, on either database. Every write is retried until
it is acknowledged; at the end, the lost and the doubled ones are counted. Ctrl-C ends the run after
the current round, and prints the counts so far.
"""

import argparse
import json
import signal
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from support.killing import KillLoop
from support.postgres import Databases, server


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--writers", type=int, default=3)
    parser.add_argument(
        "--postgres", action="store_true", help="start a PostgreSQL server for the run"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    interrupted = threading.Event()
    signal.signal(signal.SIGINT, lambda _number, _frame: interrupted.set())
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ch-kills-")))
        database = None
        if options.postgres:
            running = stack.enter_context(server())
            if running is None:
                sys.exit("PostgreSQL is not installed in /usr/lib/postgresql.")
            databases = Databases(running.address)
            stack.callback(databases.close)
            database = stack.enter_context(databases.fresh(empty=True))
        start = time.monotonic()

        def show_progress(done: int) -> None:
            if done % 10 == 0:
                print(f"\r{done} kills, {time.monotonic() - start:.0f} s", end="", file=sys.stderr)

        loop = KillLoop(folder, database, writers=options.writers)
        tally = loop.run(options.kills, on_kill=show_progress, should_stop=interrupted.is_set)
    print(file=sys.stderr)
    name = "PostgreSQL" if options.postgres else "SQLite"
    if options.json:
        print(json.dumps({"database": name} | asdict(tally)))
    else:
        print(
            f"{name}: {tally.kills} kills, {tally.acknowledged} writes acknowledged "
            f"({tally.cut_off} interrupted and retried), {tally.lost} lost, {tally.doubled} doubled"
        )
    sys.exit(bool(tally.lost or tally.doubled))


if __name__ == "__main__":
    main()
