"""Run a client through a clearinghouse's sandbox, and say what it gets wrong.

Two commands tell how to use the client. FOLLOW takes in what is new in the feed and ends; it may
fail, and is then run again. HELD prints the PDQ hashes that it would match against now, one a line.
In both, {server}, {key} and {folder} stand for the sandbox's address, its key, and a folder that
stays the same from one run to the next. For this project's own client:

    python check_client.py \
        --follow "nciihash follow --once --server {server} --bank {folder}/bank" \
        --held "python held.py {folder}/bank"

The key is also in the environment, as NCIIHASH_KEY. Starts a sandbox of its own unless --server and
--key name one. Exit status: 0 when all is well, 1 when something is wrong, 2 for wrong usage.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

RUNS = 3  # times that a client may need to get over a trouble


class Client:
    """The client that is checked, as two commands."""

    def __init__(self, follow: str, held: str, places: dict[str, str]) -> None:
        self._follow = [part.format(**places) for part in shlex.split(follow)]
        self._held = [part.format(**places) for part in shlex.split(held)]
        self._environment = os.environ | {"NCIIHASH_KEY": places["key"]}

    def follow(self) -> bool:
        """Let it take in what is new; tell whether it thinks that it could."""
        done = subprocess.run(
            self._follow, env=self._environment, capture_output=True, text=True, check=False
        )
        return done.returncode == 0

    def held(self) -> Counter[str]:
        """Ask what it would match against."""
        done = subprocess.run(
            self._held, env=self._environment, capture_output=True, text=True, check=True
        )
        return Counter(done.stdout.lower().split())


class Sandbox:
    """The clearinghouse's control desk."""

    def __init__(self, server: str) -> None:
        self._server = server

    def ask(self, path: str, **body: object) -> dict[str, list[str]]:
        """Send a command, or without a body a question."""
        request = urllib.request.Request(
            f"{self._server}/sandbox/{path}",
            json.dumps(body).encode() if body else None,
            {"Content-Type": "application/json"} if body else {},
        )
        with urllib.request.urlopen(request) as answer:
            found: dict[str, list[str]] = json.load(answer)
            return found

    def held(self) -> Counter[str]:
        """Give what a client that is up to date holds."""
        return Counter(self.ask("held")["values"])


@contextmanager
def started() -> Iterator[tuple[str, str]]:
    """Start a sandbox; give its address and key."""
    process = subprocess.Popen(
        [sys.executable, "-m", "clearinghouse", "serve", "--sandbox", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        said = "".join(process.stdout.readline() for _ in range(2)) if process.stdout else ""
        found = re.search(r"key is (\S+)\n.*listening on (\S+)", said)
        if not found:
            raise SystemExit("The sandbox did not start: is nciihash[server] installed?")
        yield found[2], found[1]
    finally:
        process.terminate()
        process.communicate()


def difference(client: Client, sandbox: Sandbox) -> str:
    """Say how what the client holds differs from what it should hold."""
    has, should = client.held(), sandbox.held()
    parts = []
    if missing := should - has:
        parts.append(f"{missing.total()} hashes are missing")
    if extra := Counter(value for value in has if value not in should):
        parts.append(f"{extra.total()} are held that were withdrawn or never sent")
    if doubled := has - should - extra:
        parts.append(f"{doubled.total()} are held more often than once")
    return "; ".join(parts)


def steps(sandbox: Sandbox) -> Iterator[tuple[str, str]]:
    """Arrange one thing after the other; give its name, and what a client that fails does wrong."""
    yield "an empty feed", "It should end well when there is nothing."
    sandbox.ask("burst", cases=50, files=30)
    yield (
        "1,500 hashes of one moment",
        ("It probably asks by time and not by cursor, or stops after the first page."),
    )
    sandbox.ask("burst", cases=1, files=1)
    yield "one more hash", "It should go on from the cursor of the last page."
    sandbox.ask("withdraw", cases=15)
    yield "450 withdrawn", "An entry with `op: remove` must take the hash out of what it matches."
    sandbox.ask("burst", cases=25, files=20)
    sandbox.ask("withdraw", cases=10)
    yield "added and withdrawn in one page", "Entries must be applied in the order of the page."
    sandbox.ask("burst", cases=20, files=20)
    sandbox.ask("fault", fault="cut", times=2)
    yield (
        "pages cut short",
        "A page that is cut short must be thrown away as a whole, and asked again.",
    )
    sandbox.ask("burst", cases=5, files=5)
    sandbox.ask("fault", fault="busy", times=2)
    yield "a busy service", "503 with Retry-After means: the same request again, that much later."
    sandbox.ask("burst", cases=5, files=5)
    sandbox.ask("withdraw", cases=5)
    sandbox.ask("fault", fault="expired", times=1)
    yield (
        "an expired cursor",
        ("410 means: read the feed from its beginning into a new list; swap it in when complete."),
    )
    sandbox.ask("withdraw", cases=200)
    sandbox.ask("withdraw", cases=200)
    yield (
        "all withdrawn",
        "The last hash must go too: a list that is never cleared keeps matching it.",
    )


def check(client: Client, sandbox: Sandbox) -> bool:
    """Go through the steps; print what came of each."""
    well = True
    for name, advice in steps(sandbox):
        runs, wrong = 0, "it never ends well"
        while runs < RUNS and wrong:
            runs += 1
            if client.follow():
                wrong = difference(client, sandbox)
        again = f" (in {runs} runs)" if runs > 1 and not wrong else ""
        print(f"{'WRONG' if wrong else 'well '}  {name}{again}" + (f": {wrong}" if wrong else ""))
        if wrong:
            print(f"       {advice}")
            well = False
    return well


def main() -> int:
    """Check the client that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--follow", required=True, metavar="COMMAND")
    parser.add_argument("--held", required=True, metavar="COMMAND")
    parser.add_argument("--server")
    parser.add_argument("--key")
    options = parser.parse_args()
    if (options.server is None) != (options.key is None):
        parser.error("--server and --key belong together")
    with tempfile.TemporaryDirectory() as folder:
        if options.server:
            places = {"server": options.server.rstrip("/"), "key": options.key, "folder": folder}
            client = Client(options.follow, options.held, places)
            return 0 if check(client, Sandbox(places["server"])) else 1
        with started() as (server, key):
            places = {"server": server, "key": key, "folder": folder}
            client = Client(options.follow, options.held, places)
            return 0 if check(client, Sandbox(server)) else 1


if __name__ == "__main__":
    sys.exit(main())
