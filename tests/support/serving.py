"""The service under test, on a database of its own, and clients that use it."""

import base64
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from clearinghouse.app import create_app
from clearinghouse.platforms import keys
from clearinghouse.platforms.keys import Scope
from clearinghouse.settings import Settings
from nciihash.wire.proof_of_work import Work, solve

ALL = tuple(Scope)
NOW = datetime(2026, 5, 17, 13, 45, 59, tzinfo=UTC)


class Clock:
    """A clock that tests set."""

    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now

    def advance(self, **duration):
        self.now += timedelta(**duration)


def pdq(seed=None):
    """Return a plausible PDQ value as hexadecimal digits: random, or fixed by a seed."""
    half = secrets.token_bytes(16) if seed is None else seed.to_bytes(4, "big") * 4
    return (half + bytes(byte ^ 0xFF for byte in half)).hex()


def near(value, bits):
    """Flip the lowest bits of a value, alternately a set and an unset one.

    So a plausible PDQ value stays plausible. The bits flipped for a smaller number are among those
    flipped for a larger one.
    """
    number = int(value, 16)
    positions = range(4 * len(value))
    ones = [1 << n for n in positions if number >> n & 1]
    zeros = [1 << n for n in positions if not number >> n & 1]
    order = [bit for pair in zip(ones, zeros, strict=False) for bit in pair]
    return f"{number ^ sum(order[:bits]):0{len(value)}x}"


def item(*values, quality=90, media="image"):
    return {
        "media": media,
        "signals": [{"type": "pdq", "value": v, "quality": quality} for v in values],
    }


def opening(*items, **changes):
    return {
        "declaration": {"adult": True, "depicted": True},
        "reason": "threatened",
        "work": None,
        "items": list(items) or [item(pdq())],
    } | changes


@dataclass
class Case:
    """A case as its holder knows it."""

    client: TestClient
    number: str
    passphrase: str
    reply: dict = field(repr=False)

    @property
    def headers(self):
        return credentials(self.number, self.passphrase)

    def status(self):
        reply = self.client.get("/v1/case", headers=self.headers)
        assert reply.status_code == 200, reply.text
        status = reply.json()
        # omitted at their defaults, since older clients do not know them
        status["items"] = [{"being_checked": 0, "complete": True} | i for i in status["items"]]
        return status

    def withdraw(self, number=None):
        path = "/v1/case" if number is None else f"/v1/case/items/{number}"
        return self.client.delete(path, headers=self.headers)


def credentials(number, passphrase):
    return {"Authorization": "Case " + base64.b64encode(f"{number}:{passphrase}".encode()).decode()}


@dataclass
class Peer:
    """A platform and its key."""

    service: "RunningService"
    name: str
    key: str

    @property
    def headers(self):
        return {"Authorization": f"Bearer {self.key}"}

    def feed(self, **query):
        reply = self.service.client.get("/v1/feed", params=query, headers=self.headers)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def post(self, path, body, **headers):
        return self.service.client.post(path, json=body, headers=self.headers | headers)

    def match(self, *values, type="pdq"):
        self.service.caught_up()
        reply = self.post("/v1/match", {"type": type, "values": list(values)})
        assert reply.status_code == 200, reply.text
        return reply.json()["matches"]


@dataclass
class RunningService:
    """The application while it runs."""

    app: FastAPI
    client: TestClient
    clock: Callable[[], datetime]
    settings: Settings

    @property
    def parts(self):
        return self.app.state.service

    def open(self, *items, **changes):
        content = opening(*items, **changes)
        end = time.monotonic() + 60
        reply = self.client.post("/v1/cases", json=content)
        while reply.status_code == 503 and time.monotonic() < end:  # retry, as it asks for
            reply = self.client.post("/v1/cases", json=content)
        assert reply.status_code == 201, reply.text
        body = reply.json()
        return Case(self.client, body["case"], body["passphrase"], body)

    def platform(self, name="Example", scopes=ALL):
        return Peer(self, name, keys.add_platform(self.parts.store, name, scopes, self.clock()))

    def caught_up(self):
        """Wait until the live index has applied the whole log."""
        end = time.monotonic() + 60
        while True:
            with self.parts.store.read() as tx:
                head = tx.log.head()
            if self.parts.live.seq >= head:
                return
            assert time.monotonic() < end, "the live index does not catch up"
            time.sleep(0.005)


@pytest.fixture
def settings(database, tmp_path):
    # the default for SQLite
    key = tmp_path / "db.sqlite3-key" / "master"
    # the proof of work has tests of its own
    return Settings(database=database, argon2_memory=64, key_file=key, quiet_signals=10**9)


@pytest.fixture
def service(settings):
    clock = Clock()
    app = create_app(settings, clock=clock)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield RunningService(app, client, clock, settings)


def problem(reply, status, code):
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    body = reply.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["title"]
    return body


def figures(service):
    with service.parts.store.read() as tx:
        return tx.figures.totals()


def flood(proof_of_work, openings, now=NOW):
    """Count this many openings of cases at a time."""
    for _ in range(openings):
        proof_of_work.count(now)


def solved(asked):
    """Solve a proof of work."""
    nonces = solve(asked.challenge, asked.difficulty, asked.puzzles)
    return Work(challenge=asked.challenge, nonces=nonces)
