"""Several workers on one PostgreSQL database, each with its own index."""

import secrets
import signal
import threading
import time

import pytest
from sqlalchemy import create_engine
from starlette.testclient import TestClient

from clearinghouse.app import create_app
from clearinghouse.database.engines import Postgres
from clearinghouse.database.store import Store
from clearinghouse.settings import Settings
from nciihash.wire import Problem
from support.service_process import ServiceProcess, bearer
from support.serving import RunningService, credentials, item, opening, pdq

RARELY = {"CLEARINGHOUSE_POLL_INTERVAL": "3600"}
PATIENCE = 60  # seconds until a test fails; nothing is measured


class Workers:
    """Workers with separate folders, as on separate machines, and one key."""

    def __init__(self, folder, database, count, **environ):
        self.folder, self.database = folder, database
        self.environ = {"CLEARINGHOUSE_KEY": secrets.token_hex(32)} | environ
        self.all = [self.start(n) for n in range(count)]
        self.bearer = bearer(self.all[0].platform())

    def start(self, number):
        own = self.folder / f"worker{number}"
        own.mkdir(exist_ok=True)
        return ServiceProcess(own, self.database, CLEARINGHOUSE_NOTES=str(own), **self.environ)

    def kill(self, number):
        self.all[number].end(signal.SIGKILL)

    def open(self, number, value):
        reply = self.all[number].client.post("/v1/cases", json=opening(item(value)))
        assert reply.status_code == 201, reply.text
        return credentials(reply.json()["case"], reply.json()["passphrase"])

    def matches(self, number, value):
        body = {"type": "pdq", "values": [value]}
        reply = self.all[number].client.post("/v1/match", json=body, headers=self.bearer)
        return reply.is_success and len(reply.json()["matches"][0]) == 1

    def wait(self, number, value, *, matched=True):
        until(lambda: self.matches(number, value) == matched)

    def end(self):
        for process in self.all:
            process.end(signal.SIGKILL)


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "the condition did not become true"
        time.sleep(0.01)


@pytest.fixture
def workers(databases, tmp_path):
    running = []

    def start(count, **environ):
        database = stack.enter_context(databases.fresh())
        running.append(Workers(tmp_path, database, count, **environ))
        return running[-1]

    from contextlib import ExitStack

    with ExitStack() as stack:
        yield start
        for each in running:
            each.end()


def test_submissions_and_withdrawals_at_one_worker_take_effect_at_all(workers):
    """By notifications alone, since these workers poll once in an hour."""
    three = workers(3, **RARELY)
    for writer in range(3):
        value = pdq()
        case = three.open(writer, value)
        for each in range(3):
            three.wait(each, value)
        assert three.all[writer].client.delete("/v1/case", headers=case).is_success
        # at once, at every worker: the log is read before the response
        assert not any(three.matches(each, value) for each in range(3))


def test_a_killed_worker_catches_up_after_its_restart(workers):
    two = workers(2)
    before, during, withdrawn = pdq(), pdq(), pdq()
    two.open(0, before)
    case = two.open(0, withdrawn)
    two.wait(1, withdrawn)
    two.kill(1)
    two.open(0, during)
    assert two.all[0].client.delete("/v1/case", headers=case).is_success
    two.all[1] = two.start(1)
    for value in (before, during):
        two.wait(1, value)
    assert not two.matches(1, withdrawn)


def test_a_follower_misses_nothing_of_concurrent_writers(workers):
    three = workers(3)
    values, lock, failures = [], threading.Lock(), []

    def write(number):
        try:
            for _ in range(8):
                value = pdq()
                three.open(number, value)
                with lock:
                    values.append(value)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=write, args=(n,)) for n in (0, 1, 2, 0, 1, 2)]
    for thread in threads:
        thread.start()
    received, cursor, pages, at_end = [], None, 0, False
    while any(t.is_alive() for t in threads) or not at_end:
        query = {"limit": 7, "wait": 0.2} | ({"cursor": cursor} if cursor else {})
        # pages from different workers: a cursor is valid at all of them
        client = three.all[pages % 3].client
        page = client.get("/v1/feed", params=query, headers=three.bearer).json()
        received += [e["value"] for e in page["entries"]]
        cursor, pages, at_end = page["cursor"], pages + 1, not page["entries"]
    for thread in threads:
        thread.join()
    assert not failures
    assert len(values) == 48
    assert sorted(received) == sorted(values), "each exactly once"


@pytest.fixture
def on_postgres(databases, tmp_path):
    """Yield a running application on PostgreSQL."""
    with databases.fresh() as address:
        settings = Settings(
            database=address, argon2_memory=64, key_file=tmp_path / "key" / "master"
        )
        app = create_app(settings)
        from clearinghouse.app import utc_now

        with TestClient(app, raise_server_exceptions=False) as client:
            yield RunningService(app, client, utc_now, settings)


def test_a_lost_notification_does_no_harm(on_postgres, monkeypatch):
    """Polling finds what no notification announced."""
    monkeypatch.setattr(Postgres, "announce", lambda self, connection: None)
    peer, value = on_postgres.platform(), pdq()
    other_worker = TestClient(create_app(on_postgres.settings))
    with other_worker:
        assert other_worker.post("/v1/cases", json=opening(item(value))).status_code == 201
        assert len(peer.match(value)[0]) == 1


def test_listening_resumes_after_its_connection_is_lost(databases):
    with databases.fresh() as address:
        store = Postgres(Settings(database=address))
        notified, stopping = threading.Semaphore(0), threading.Event()
        listening = threading.Thread(target=store.listen, args=(notified.release, stopping))
        listening.start()
        engine = create_engine(address, isolation_level="AUTOCOMMIT")
        try:
            assert notified.acquire(timeout=PATIENCE), "it listens"
            for _ in range(2):
                with engine.connect() as connection:
                    # the listening one
                    connection.exec_driver_sql(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE query LIKE 'LISTEN%%' AND datname = current_database()"
                    )
                assert notified.acquire(timeout=PATIENCE), "it listens again"
                with store.writer.begin() as connection:
                    store.announce(connection)
                assert notified.acquire(timeout=PATIENCE), "and is notified"
        finally:
            stopping.set()
            listening.join()
            engine.dispose()
            store.writer.dispose()
            store.reader.dispose()


def test_the_service_recovers_from_a_database_outage(own_server, tmp_path):
    address = own_server.address
    process = ServiceProcess(tmp_path, address)
    try:
        platform = bearer(process.platform())
        ask = process.client
        value = pdq()
        case = ask.post("/v1/cases", json=opening(item(value))).json()
        headers = credentials(case["case"], case["passphrase"])
        key = {"Idempotency-Key": secrets.token_hex(16)}
        own_server.stop("immediate")
        later = opening(item(pdq()))
        query = {"type": "pdq", "values": [value]}
        for send in (
            lambda: ask.post("/v1/cases", json=later, headers=key),
            lambda: ask.get("/v1/case", headers=headers),
            lambda: ask.delete("/v1/case/items/1", headers=headers),
            lambda: ask.get("/v1/feed", headers=platform),
            lambda: ask.post("/v1/match", json=query, headers=platform),
        ):
            reply = send()
            assert (reply.status_code, reply.headers["content-type"]) == (
                503,
                "application/problem+json",
            )
            assert Problem.model_validate_json(reply.content).code == "database_away"
            assert int(reply.headers["retry-after"]) > 0
        until(lambda: ask.get("/health/ready").status_code == 503)
        assert ask.get("/health/live").status_code == 200
        own_server.start()
        until(lambda: ask.get("/health/ready").status_code == 200)
        assert ask.post("/v1/cases", json=later, headers=key).status_code == 201
        assert ask.get("/v1/case", headers=headers).json()["state"] == "open"
        reply = ask.post("/v1/match", json=query, headers=platform)
        assert len(reply.json()["matches"][0]) == 1
        assert ask.delete("/v1/case", headers=headers).status_code == 200
    finally:
        process.end()
    log = (tmp_path / "log.txt").read_text()
    assert log.count("The log cannot be read") < 3, "logged once, not every second"
    for secret in (value, case["case"], case["passphrase"], str(own_server.folder)):
        assert secret not in log


def test_a_database_that_would_lose_writes_is_refused(databases):
    from clearinghouse.errors import SettingInvalid

    with databases.fresh() as address:
        engine = create_engine(address, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            name = connection.exec_driver_sql("SELECT current_database()").scalar()
            connection.exec_driver_sql(f"ALTER DATABASE {name} SET synchronous_commit = off")
        engine.dispose()
        with pytest.raises(SettingInvalid, match="synchronous_commit"):
            Store.open(Settings(database=address))


def test_concurrent_starts_on_an_empty_database_agree(databases, tmp_path):
    with databases.fresh(empty=True) as address:
        settings = Settings(database=address, key_file=tmp_path / "master", argon2_memory=64)
        stores, start = [], threading.Barrier(4)

        def open_():
            start.wait()
            stores.append(Store.open(settings))

        threads = [threading.Thread(target=open_) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({s.epoch for s in stores}) == 1
        assert len(stores) == 4
        for store in stores:
            store.close()
