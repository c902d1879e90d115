"""Test a platform's client against a sandbox of the clearinghouse, and report its errors.

Two commands run the client. FOLLOW reads the new entries of the feed and exits; if it fails, it is
run again. HELD prints the PDQ hashes that the client would match against now, one per line. In
both, {server}, {key} and {folder} are replaced by the sandbox's address, its key, and a folder that
is the same for all runs. For this project's own client:

    python check_client.py \
        --follow "nciihash follow --once --server {server} --bank {folder}/bank" \
        --held "python held.py {folder}/bank"

The key is also in the environment, as NCIIHASH_KEY. Without --server and --key, a sandbox is
started. Exit status: 0 if every check passes, 1 if one fails, 2 for a usage error.
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

RUNS = 3  # attempts of the client at each check


class Client:
    """The client under test, as two commands."""

    def __init__(self, follow: str, held: str, values: dict[str, str]) -> None:
        self._follow = [part.format(**values) for part in shlex.split(follow)]
        self._held = [part.format(**values) for part in shlex.split(held)]
        self._environment = os.environ | {"NCIIHASH_KEY": values["key"]}

    def follow(self) -> bool:
        """Run FOLLOW; return whether it succeeded."""
        result = subprocess.run(
            self._follow, env=self._environment, capture_output=True, text=True, check=False
        )
        return result.returncode == 0

    def hashes(self) -> Counter[str]:
        """Run HELD; return the hashes that the client would match against."""
        result = subprocess.run(
            self._held, env=self._environment, capture_output=True, text=True, check=True
        )
        return Counter(result.stdout.lower().split())


class Sandbox:
    """The control API of the sandbox, under /sandbox/."""

    def __init__(self, server: str) -> None:
        self._server = server

    def call(self, path: str, **body: object) -> dict[str, list[str]]:
        """Send a JSON body with POST, or a GET request without one; return the response."""
        request = urllib.request.Request(
            f"{self._server}/sandbox/{path}",
            json.dumps(body).encode() if body else None,
            {"Content-Type": "application/json"} if body else {},
        )
        with urllib.request.urlopen(request) as response:
            reply: dict[str, list[str]] = json.load(response)
            return reply

    def hashes(self) -> Counter[str]:
        """Return the hashes that a client must have once it is up to date."""
        return Counter(self.call("held")["values"])


@contextmanager
def start_sandbox() -> Iterator[tuple[str, str]]:
    """Start a sandbox; yield its address and key."""
    process = subprocess.Popen(
        [sys.executable, "-m", "clearinghouse", "serve", "--sandbox", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        output = "".join(process.stdout.readline() for _ in range(2)) if process.stdout else ""
        started = re.search(r"key is (\S+)\n.*listening on (\S+)", output)
        if not started:
            raise SystemExit("The sandbox did not start. Check that nciihash[server] is installed.")
        yield started[2], started[1]
    finally:
        process.terminate()
        process.communicate()


def difference(client: Client, sandbox: Sandbox) -> str:
    """Describe how the client's hashes differ from the expected ones; empty if they do not."""
    actual, expected = client.hashes(), sandbox.hashes()
    parts = []
    if missing := expected - actual:
        parts.append(f"{missing.total()} hashes are missing")
    if extra := Counter(value for value in actual if value not in expected):
        parts.append(f"{extra.total()} hashes were withdrawn or never sent")
    if duplicates := actual - expected - extra:
        parts.append(f"{duplicates.total()} hashes are duplicates")
    return "; ".join(parts)


def steps(sandbox: Sandbox) -> Iterator[tuple[str, str]]:
    """Set up one situation after another; yield its name, and advice for a client that fails."""
    yield "an empty feed", "FOLLOW must succeed although there are no entries."
    sandbox.call("burst", cases=50, files=30)
    yield (
        "1,500 hashes added at once",
        "Request pages by cursor, not by time, until `more` is false.",
    )
    sandbox.call("burst", cases=1, files=1)
    yield "one more hash", "Continue from the cursor of the last page."
    sandbox.call("withdraw", cases=15)
    yield "450 withdrawn", "For an entry with `op: remove`, stop matching against that hash."
    sandbox.call("burst", cases=25, files=20)
    sandbox.call("withdraw", cases=10)
    yield "added and withdrawn in one page", "Apply the entries in the order of the page."
    sandbox.call("burst", cases=20, files=20)
    sandbox.call("fault", fault="cut", times=2)
    yield (
        "truncated pages",
        "Discard a truncated page completely, and request it again.",
    )
    sandbox.call("burst", cases=5, files=5)
    sandbox.call("fault", fault="busy", times=2)
    yield "a busy service", "After 503, repeat the same request when Retry-After has passed."
    sandbox.call("burst", cases=5, files=5)
    sandbox.call("withdraw", cases=5)
    sandbox.call("fault", fault="expired", times=1)
    yield (
        "an expired cursor",
        "After 410, read the feed from its beginning into a new list, and use it once complete.",
    )
    sandbox.call("withdraw", cases=200)
    sandbox.call("withdraw", cases=200)
    yield (
        "all withdrawn",
        "Remove the last hash, too: an empty list must replace the old one.",
    )


def check(client: Client, sandbox: Sandbox) -> bool:
    """Run all checks and print their results; return whether all of them passed."""
    passed = True
    for name, advice in steps(sandbox):
        runs, error = 0, f"FOLLOW failed {RUNS} times"
        while runs < RUNS and error:
            runs += 1
            if client.follow():
                error = difference(client, sandbox)
        if error:
            print(f"FAILED  {name}: {error}")
            print(f"        {advice}")
            passed = False
        else:
            print(f"passed  {name}" + (f" (in {runs} runs)" if runs > 1 else ""))
    return passed


def main() -> int:
    """Check the client that the command line specifies."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--follow", required=True, metavar="COMMAND")
    parser.add_argument("--held", required=True, metavar="COMMAND")
    parser.add_argument("--server")
    parser.add_argument("--key")
    options = parser.parse_args()
    if (options.server is None) != (options.key is None):
        parser.error("use --server and --key together")
    with tempfile.TemporaryDirectory() as folder:
        if options.server:
            values = {"server": options.server.rstrip("/"), "key": options.key, "folder": folder}
            client = Client(options.follow, options.held, values)
            return 0 if check(client, Sandbox(values["server"])) else 1
        with start_sandbox() as (server, key):
            values = {"server": server, "key": key, "folder": folder}
            client = Client(options.follow, options.held, values)
            return 0 if check(client, Sandbox(server)) else 1


if __name__ == "__main__":
    sys.exit(main())
