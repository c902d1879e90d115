"""Limits on the lookups of a key, per hour and day, over all workers."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from starlette.testclient import TestClient

from clearinghouse.abuse.quotas import UNSAVED_MAX, Budgets
from clearinghouse.app import create_app
from clearinghouse.database.store import Store
from clearinghouse.errors import BudgetSpent
from clearinghouse.maintenance.purge import purge
from clearinghouse.platforms import keys
from clearinghouse.platforms.keys import Scope
from clearinghouse.sealing.master_key import key_file
from nciihash.client import PlatformClient
from nciihash.errors import ServiceRefused
from nciihash.signals import Signal, SignalType
from support.service_process import command
from support.serving import Clock, Peer, RunningService, item, pdq, problem

NOW = datetime(2026, 5, 17, 13, 45, 59, tzinfo=UTC)


@pytest.fixture
def store(settings):
    store = Store.open(settings)
    yield store
    store.close()


@pytest.fixture
def key(store):
    keys.add_platform(store, "Example", [Scope.MATCH], NOW)
    return 1


def test_hours_and_days_have_budgets(store, key):
    budgets = Budgets(hour=1000, day=2500)

    def spend(count, now):
        try:
            budgets.take(store, key, count, now=now)
        except BudgetSpent as refusal:
            return refusal.retry_after
        return None

    assert spend(400, NOW) is None
    assert spend(600, NOW) is None
    assert spend(1, NOW) == 14 * 60 + 1, "until 14:00"
    hour = timedelta(hours=1)
    assert spend(990, NOW + hour) is None
    assert spend(20, NOW + hour) == 14 * 60 + 1
    assert spend(10, NOW + hour) is None, "the rest can still be spent"
    assert spend(500, NOW + 2 * hour) is None
    assert spend(1, NOW + 2 * hour) == 8 * 3600 + 14 * 60 + 1, "until midnight"
    assert spend(1, NOW + 5 * hour) == 5 * 3600 + 14 * 60 + 1
    assert spend(1000, NOW + timedelta(days=1)) is None
    assert spend(1001, NOW + timedelta(days=2)) is not None, "more than the budget of any hour"


def test_all_workers_share_one_budget(store, key):
    """Not one lookup more is granted, whatever runs concurrently."""
    workers = [Budgets(hour=500, day=500) for _ in range(4)]
    keys.add_platform(store, "Other", [Scope.MATCH], NOW)

    def spend(n):
        try:
            workers[n % 4].take(store, key, 3, now=NOW)
        except BudgetSpent:
            return 0
        return 3

    with ThreadPoolExecutor(8) as pool:
        spent = sum(pool.map(spend, range(400)))
    # each worker may have a remainder too small for a request
    assert 500 - 4 * 2 <= spent <= 500
    workers[0].take(store, key + 1, 500, now=NOW)


def test_an_exhausted_budget_causes_no_more_writes(store, key, monkeypatch):
    budgets = Budgets(hour=10, day=10)
    budgets.take(store, key, 10, now=NOW)
    with pytest.raises(BudgetSpent):
        budgets.take(store, key, 1, now=NOW)
    monkeypatch.setattr(store, "write", None)
    with pytest.raises(BudgetSpent):
        budgets.take(store, key, 1, now=NOW)


def test_old_leases_are_deleted(store, key):
    Budgets(hour=10, day=10).take(store, key, 10, now=NOW)
    purge(store, retention_days=400, now=NOW + timedelta(days=1))
    with pytest.raises(BudgetSpent):
        Budgets(hour=10, day=10).take(store, key, 10, now=NOW)
    purge(store, retention_days=400, now=NOW + timedelta(days=3))
    Budgets(hour=10, day=10).take(store, key, 10, now=NOW)


@pytest.fixture
def service(settings):
    clock = Clock()
    app = create_app(replace(settings, match_hour=100, match_day=150), clock=clock)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield RunningService(app, client, clock, settings)


def test_a_refusal_says_when_to_retry(service):
    peer, other = service.platform("One"), service.platform("Two")
    peer.match(*[pdq() for _ in range(60)])
    values = [pdq() for _ in range(41)]
    reply = peer.post("/v1/match", {"type": "pdq", "values": values})
    problem(reply, 429, "budget_spent")
    assert reply.headers["retry-after"] == str(14 * 60 + 1)
    octets = {"Content-Type": "application/octet-stream"} | peer.headers
    raw = bytes.fromhex("".join(values))
    reply = service.client.post("/v1/match", content=raw, headers=octets)
    problem(reply, 429, "budget_spent")
    peer.match(*values[:40])
    other.match(*values)
    service.clock.advance(hours=1)
    peer.match(*values)


def operate(service, *words, code=0):
    key = {"CLEARINGHOUSE_KEY_FILE": str(key_file(service.settings))}
    return command(*words, database=service.settings.database, code=code, **key)


def listed(service):
    rows = json.loads(operate(service, "platform", "list", "--json").stdout)
    return {row["platform"]: (row["match_hour"], row["match_day"]) for row in rows}


def test_a_platform_has_limits_of_its_own(service):
    added = operate(service, *("platform", "add", "Small", "--match-hour", "10", "--json"))
    small = Peer(service, "Small", json.loads(added.stdout)["key"])
    other = service.platform("Other")
    values = [pdq() for _ in range(11)]
    query = {"type": "pdq", "values": values}
    problem(small.post("/v1/match", query), 429, "budget_spent")
    small.match(*values[:10])
    other.match(*values)
    assert listed(service) == {"Small": (10, None), "Other": (None, None)}

    operate(service, "platform", "limit", "Small", "--match-hour", "30", "--match-day", "25")
    small.match(*values)  # at once, although the budget was spent
    problem(small.post("/v1/match", query), 429, "budget_spent")
    operate(service, "platform", "limit", "Other", "--match-hour", "20")
    problem(other.post("/v1/match", query), 429, "budget_spent")
    table = operate(service, "platform", "list").stdout
    assert "30" in table
    assert "default" in table

    operate(service, "platform", "limit", "Small", "--match-hour", "0")
    assert listed(service)["Small"] == (None, 25)
    assert "match limits set" in operate(service, "audit", "list").stdout


def test_limits_need_a_number_and_a_known_platform(service):
    error = operate(service, "platform", "limit", "Example", code=2).stderr
    assert "--match-hour" in error
    error = operate(service, "platform", "limit", "X", "--match-day", "5", code=2).stderr
    assert "No platform" in error


@contextmanager
def read_only(store):
    """Make the database refuse writes, as on a demoted replica or a read-only file system."""
    writer = store._database.writer
    statement = {"sqlite": "PRAGMA query_only = ON", "postgresql": "SET TRANSACTION READ ONLY"}

    def refuse(connection):
        connection.exec_driver_sql(statement[writer.dialect.name])

    event.listen(writer, "begin", refuse)
    try:
        yield
    finally:
        event.remove(writer, "begin", refuse)
        writer.dispose()  # the setting of SQLite belongs to the connection


def test_lookups_continue_for_a_time_while_nothing_can_be_written(store, key):
    """Each worker counts them, within the budget of the hour, and saves the count afterwards."""
    budgets = Budgets(hour=1000, day=1000)
    budgets.take(store, key, 100, now=NOW)
    assert not budgets.failing
    with read_only(store):
        budgets.take(store, key, 500, now=NOW)
        assert budgets.failing
        with pytest.raises(BudgetSpent):
            budgets.take(store, key, 500, now=NOW)
        budgets.take(store, key, 400, now=NOW + UNSAVED_MAX)
        with pytest.raises(SQLAlchemyError):
            budgets.take(store, key, 1, now=NOW + UNSAVED_MAX + timedelta(seconds=1))
    for worker in (budgets, Budgets(hour=1000, day=1000)):
        with pytest.raises(BudgetSpent):
            worker.take(store, key, 1, now=NOW)
        assert not worker.failing


def test_a_locked_database_is_no_reason_to_go_without_a_lease(store, key, monkeypatch):
    monkeypatch.setattr(store, "write", lambda: (_ for _ in ()).throw(PoolExhausted()))
    budgets = Budgets(hour=10, day=10)
    with pytest.raises(PoolExhausted):
        budgets.take(store, key, 1, now=NOW)
    assert not budgets.failing


def test_matching_continues_while_nothing_can_be_written(service, caplog):
    value = pdq()
    peer = service.platform()
    service.open(item(value))
    service.caught_up()
    ready = lambda: service.client.get("/health/ready")  # noqa: E731
    assert ready().status_code == 200
    with read_only(service.parts.store):
        service.parts.writable._until = 0  # the last check is no longer recent
        assert [len(hits) for hits in peer.match(value)] == [1]
        problem(ready(), 503, "database_away")
        assert b"clearinghouse_budgets_unsaved 1.0" in metrics(service)
        service.clock.advance(minutes=11)
        problem(
            peer.post("/v1/match", {"type": "pdq", "values": [value] * 9}), 503, "database_away"
        )
    peer.match(*[value] * 9)
    assert ready().status_code == 200
    assert b"clearinghouse_budgets_unsaved 0.0" in metrics(service)
    assert caplog.text.count("Budgets of lookups cannot be saved") == 1


def metrics(service):
    return service.app.state.metrics.read(service.parts)


def test_the_client_does_not_wait_for_an_hour():
    def respond(_request):
        body = b'{"title":"The limit is reached","status":429,"code":"budget_spent"}'
        kind = {"Content-Type": "application/problem+json", "Retry-After": "3600"}
        return httpx.Response(429, content=body, headers=kind)

    with (
        PlatformClient(
            "https://example.org", "nciik_x", http=httpx.MockTransport(respond)
        ) as client,
        pytest.raises(ServiceRefused) as caught,
    ):
        client.match([Signal(SignalType.PDQ, bytes(32))])
    assert (caught.value.problem, caught.value.retry_after) == ("budget_spent", 3600.0)
