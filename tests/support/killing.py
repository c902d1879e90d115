"""Writers at work on a service that is killed without warning, again and again, and the tally.

Each write is sent until it is answered, under one idempotency key: a writer whose answer was cut
off sends the same request to the process that comes next. So at the end every write is one that was
acknowledged, and the log must hold each of them once: neither lost nor doubled.
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
    """What came of all writes."""

    kills: int
    acknowledged: int
    cut_off: int  # sent again, since their first answer never came
    lost: int
    doubled: int


@dataclass
class Loop:
    """Writers, a follower of the feed, and the process that they all lose.

    Args:
        folder: for the key, the log and, without `database`, the database.
        database: its address.
        writers: how many write at once.
    """

    folder: Path
    database: str | None = None
    writers: int = 3
    cases: dict = field(default_factory=dict)  # value: credentials
    withdrawn: set = field(default_factory=set)
    added: int = 0
    removed: int = 0
    cut_off: int = 0

    def run(self, kills, *, told=lambda round_: None, enough=lambda: False):
        """Kill the service so many times, or until it is `enough`, and count."""
        self._lock, self._up, self._stop = threading.Lock(), threading.Event(), threading.Event()
        self._failures, self._held, self._entries, cursor = [], {}, {"add": 0, "remove": 0}, None
        threads = [threading.Thread(target=self._guarded) for _ in range(self.writers)]
        process, headers = None, None
        try:
            for round_ in range(kills + 1):
                process = ServiceProcess(self.folder, self.database)
                headers = headers or bearer(process.platform())
                self._address = process.address
                self._up.set()
                if not round_:
                    for thread in threads:
                        thread.start()
                cursor = self._follow(process, headers, cursor)
                if round_ == kills or enough():
                    break
                # some writes into the round, and then at any moment of the next one
                wanted, end = self.added + 10, time.monotonic() + 30
                while self.added < wanted and time.monotonic() < end and not self._failures:
                    time.sleep(0.002)
                time.sleep(secrets.randbelow(40) / 1000)
                self._up.clear()
                process.end(signal.SIGKILL)
                told(round_ + 1)
            self._stop.set()
            for thread in threads:
                thread.join()
            assert not self._failures, self._failures
            self._follow(process, headers, cursor)
            return self._count(process, round_)
        finally:
            self._stop.set()
            self._up.set()
            if process is not None:
                process.end(signal.SIGKILL)

    def _guarded(self):
        # a connection for each request: one that is kept would end with the process
        limits = httpx.Limits(max_keepalive_connections=0)
        try:
            with httpx.Client(timeout=60, limits=limits) as client:
                self._write(client)
        except BaseException as error:  # told by `run`, in its own thread
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
        """Send a write until it is answered; the same request under the same key each time."""
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
            if reply.status_code == 503:  # busy, which a client waits for
                time.sleep(0.1)
                continue
            assert reply.status_code == expected, reply.text
            return reply.json()

    def _follow(self, process, headers, cursor):
        """Read the feed on from where it was, as a platform does; each entry must be new."""
        while True:
            query = {"limit": 10_000} | ({"cursor": cursor} if cursor else {})
            reply = process.client.get("/v1/feed", params=query, headers=headers)
            assert reply.status_code == 200, reply.text
            page = reply.json()
            for entry in page["entries"]:
                self._entries[entry["op"]] += 1
                if entry["op"] == "add":
                    assert entry["id"] not in self._held, "an addition was told twice"
                    self._held[entry["id"]] = entry["value"]
                else:
                    self._held.pop(entry["id"], None)
            cursor = page["cursor"]
            if not page["more"]:
                return cursor

    def _count(self, process, kills):
        held = list(self._held.values())
        expected = set(self.cases) - self.withdrawn
        lost = len(expected - set(held)) + len(self.withdrawn & set(held))
        doubled = len(held) - len(set(held)) + len(set(held) - set(self.cases))
        # The log itself: what was added and withdrawn between two looks at the feed is not in it.
        log = json.loads(process.command("stats", "--json").stdout)["log"]
        written = log - self.added - self.removed
        lost += max(-written, 0)
        doubled += max(written, 0)
        return Tally(kills, self.added + self.removed, self.cut_off, lost, doubled)
