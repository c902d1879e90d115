"""Concurrent writers on a service that is killed with SIGKILL repeatedly.

Each write is retried with the same idempotency key until it gets a response: a writer whose
connection broke sends the request again to the next process. So in the end every write has been
acknowledged, and must be in the log exactly once: neither lost nor duplicated.
"""

import json
import secrets
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from support.service_process import ServiceProcess, bearer
from support.serving import credentials, item, opening, pdq


@dataclass(frozen=True)
class Tally:
    """The result: how many writes were acknowledged, lost or duplicated."""

    kills: int
    acknowledged: int
    cut_off: int  # repeated, since the first response did not arrive
    lost: int
    doubled: int


@dataclass
class KillLoop:
    """Writers, a reader of the feed, and the process that is killed under them.

    Args:
        folder: for the key, the log and, without `database`, the database.
        database: the address of the database.
        writers: the number of concurrent writers.
    """

    folder: Path
    database: str | None = None
    writers: int = 3
    cases: dict = field(default_factory=dict)  # value: credentials
    withdrawn: set = field(default_factory=set)
    added: int = 0
    removed: int = 0
    cut_off: int = 0

    def run(self, kills, *, on_kill=lambda count: None, should_stop=lambda: False):
        """Kill the service a number of times and return the tally.

        Args:
            kills: how many times.
            on_kill: called after each kill with the number of kills so far.
            should_stop: returns true to stop early.
        """
        self._lock, self._up, self._stop = threading.Lock(), threading.Event(), threading.Event()
        self._failures, self._bank, self._entries, cursor = [], {}, {"add": 0, "remove": 0}, None
        threads = [threading.Thread(target=self._run_writer) for _ in range(self.writers)]
        process, headers = None, None
        try:
            for killed in range(kills + 1):
                process = ServiceProcess(self.folder, self.database)
                headers = headers or bearer(process.platform())
                self._address = process.address
                self._up.set()
                if not killed:
                    for thread in threads:
                        thread.start()
                cursor = self._follow(process, headers, cursor)
                if killed == kills or should_stop():
                    break
                # after some writes, at a random moment of the next one
                wanted, end = self.added + 10, time.monotonic() + 30
                while self.added < wanted and time.monotonic() < end and not self._failures:
                    time.sleep(0.002)
                time.sleep(secrets.randbelow(40) / 1000)
                self._up.clear()
                process.end(signal.SIGKILL)
                on_kill(killed + 1)
            self._stop.set()
            for thread in threads:
                thread.join()
            assert not self._failures, self._failures
            self._follow(process, headers, cursor)
            return self._count(process, killed)
        finally:
            self._stop.set()
            self._up.set()
            if process is not None:
                process.end(signal.SIGKILL)

    def _run_writer(self):
        # a new connection for each request: kept ones would end with the process
        limits = httpx.Limits(max_keepalive_connections=0)
        try:
            with httpx.Client(timeout=60, limits=limits) as client:
                self._write(client)
        except BaseException as error:  # reported by `run`, in the test's thread
            self._failures.append(error)
            raise

    def _write(self, client):
        while not self._stop.is_set():
            value = pdq()
            reply = self._send(client, "POST", "/v1/cases", 201, json=opening(item(value)))
            headers = credentials(reply["case"], reply["passphrase"])
            with self._lock:
                self.cases[value] = headers
                self.added += 1
            if secrets.randbelow(3) == 0:
                second = pdq()
                body = {"items": [item(second)]}
                self._send(client, "POST", "/v1/case/items", 201, json=body, headers=headers)
                with self._lock:
                    self.cases[second] = headers
                    self.added += 1
                self._send(client, "DELETE", "/v1/case/items/1", 200, headers=headers)
                with self._lock:
                    self.withdrawn.add(value)
                    self.removed += 1

    def _send(self, client, method, path, expected, *, headers=None, **content):
        """Send a write with one idempotency key until it gets a response."""
        headers = (headers or {}) | {"Idempotency-Key": secrets.token_hex(16)}
        tries = 0
        while True:
            self._up.wait()
            try:
                reply = client.request(method, self._address + path, headers=headers, **content)
            except httpx.TransportError:
                with self._lock:
                    self.cut_off += not tries
                tries += 1
                time.sleep(0.01)
                continue
            if reply.status_code == 503:  # busy: clients retry
                time.sleep(0.1)
                continue
            assert reply.status_code == expected, reply.text
            return reply.json()

    def _follow(self, process, headers, cursor):
        """Read the feed from a cursor to its end, as a platform does; no entry may be repeated."""
        while True:
            query = {"limit": 10_000} | ({"cursor": cursor} if cursor else {})
            reply = process.client.get("/v1/feed", params=query, headers=headers)
            assert reply.status_code == 200, reply.text
            page = reply.json()
            for entry in page["entries"]:
                self._entries[entry["op"]] += 1
                if entry["op"] == "add":
                    assert entry["id"] not in self._bank, "an addition was sent twice"
                    self._bank[entry["id"]] = entry["value"]
                else:
                    self._bank.pop(entry["id"], None)
            cursor = page["cursor"]
            if not page["more"]:
                return cursor

    def _count(self, process, kills):
        values = list(self._bank.values())
        expected = set(self.cases) - self.withdrawn
        lost = len(expected - set(values)) + len(self.withdrawn & set(values))
        doubled = len(values) - len(set(values)) + len(set(values) - set(self.cases))
        # the log itself: the feed omits what was added and withdrawn between two reads
        log = json.loads(process.command("stats", "--json").stdout)["log"]
        extra = log - self.added - self.removed
        lost += max(-extra, 0)
        doubled += max(extra, 0)
        return Tally(kills, self.added + self.removed, self.cut_off, lost, doubled)
