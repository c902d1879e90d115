"""Kill the service hundreds of times while writers are at work, and print what came of the writes.

    PYTHONPATH=tests python -m benchmarks.service.kills --kills 200
    PYTHONPATH=tests python -m benchmarks.service.kills --kills 200 --postgres

Without warning (SIGKILL), at random moments, on either database. Every write is sent until it is
acknowledged; the tally says how many of them the service lost, and how many it did twice. Ctrl-C
ends it after this round, with the tally of what was done.
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
    """Run the loop as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--writers", type=int, default=3)
    parser.add_argument("--postgres", action="store_true", help="on a server of its own")
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    interrupted = threading.Event()
    signal.signal(signal.SIGINT, lambda _number, _frame: interrupted.set())
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ch-kills-")))
        database = None
        if wanted.postgres:
            running = stack.enter_context(server())
            if running is None:
                sys.exit("There is no PostgreSQL in /usr/lib/postgresql.")
            made = Databases(running.address)
            stack.callback(made.close)
            database = stack.enter_context(made.fresh(empty=True))
        start = time.monotonic()

        def on_kill(done: int) -> None:
            if done % 10 == 0:
                print(f"\r{done} kills, {time.monotonic() - start:.0f} s", end="", file=sys.stderr)

        loop = KillLoop(folder, database, writers=wanted.writers)
        tally = loop.run(wanted.kills, on_kill=on_kill, should_stop=interrupted.is_set)
    print(file=sys.stderr)
    name = "PostgreSQL" if wanted.postgres else "SQLite"
    if wanted.json:
        print(json.dumps({"database": name} | asdict(tally)))
    else:
        print(
            f"{name}: {tally.kills} kills, {tally.acknowledged} writes acknowledged "
            f"({tally.cut_off} cut off and sent again), {tally.lost} lost, {tally.doubled} doubled"
        )
    sys.exit(bool(tally.lost or tally.doubled))


if __name__ == "__main__":
    main()
