"""Many cases that expire at once need the operator's word."""

import json
import secrets
from contextlib import chdir
from datetime import UTC, datetime, timedelta

import pytest

from clearinghouse.database.engines import Postgres
from clearinghouse.maintenance.purge import purge, usual_limit
from clearinghouse.times import hour
from support.service_process import command
from support.serving import figures, item, pdq

DAY = timedelta(days=1)


def add_cases(store, count, expires):
    with store.write() as tx:
        for _ in range(count):
            tx.cases.add(
                lookup=secrets.token_bytes(32),
                verifier="-",
                reason="shared",
                state="open",
                opened=hour(expires - 731 * DAY),
                expires=hour(expires),
            )


def run_purge(service, **options):
    store, now = service.parts.store, service.clock()
    return purge(store, retention_days=400, now=now, **options)


@pytest.mark.parametrize(("cases", "limit"), [(0, 20), (400, 20), (420, 21), (100_000, 5_000)])
def test_the_usual_limit(cases, limit):
    assert usual_limit(cases) == limit


def test_few_cases_expire_by_themselves(service):
    add_cases(service.parts.store, 20, service.clock())
    done = run_purge(service)
    assert (done.expired, done.refused, done.refusal) == (20, 0, None)


def test_many_cases_wait_for_the_operators_word(service):
    store, value = service.parts.store, pdq()
    due = service.open(item(value))
    service.open(item(pdq())).withdraw()
    service.clock.advance(days=800)
    add_cases(store, 20, service.clock() - DAY)
    add_cases(store, 20, service.clock() + DAY)
    done = run_purge(service)
    assert (done.expired, done.refused, done.open_cases) == (0, 21, 41)
    assert done.forgotten == 0, "nothing is removed from cases if the clock is in doubt"
    assert "21 of 41 open cases" in done.refusal
    assert "--expire 21" in done.refusal
    assert run_purge(service, may_expire=20).refused == 21, "the word is for a number"
    assert figures(service)["cases_open"] == 41
    peer = service.platform()
    assert len(peer.match(value)[0]) == 1
    done = run_purge(service, may_expire=21)
    assert (done.expired, done.refused, done.forgotten) == (21, 0, 1)
    assert peer.match(value) == [[]]
    assert due.status()["state"] == "expired"


def test_the_service_says_that_cases_wait(service, caplog, monkeypatch):
    monkeypatch.setattr(Postgres, "server_time", lambda *_arguments: service.clock())
    service.open()
    add_cases(service.parts.store, 21, service.clock())
    for _ in range(2):
        service.parts._purge()
    assert list(service.parts.refused) == ["expiry"]
    logged = [r.getMessage() for r in caplog.records if "--expire 21" in r.getMessage()]
    assert len(logged) == 1
    metrics = service.app.state.metrics
    assert 'purge_refused{what="expiry"} 1.0' in metrics.read(service.parts).decode()
    run_purge(service, may_expire=21)
    service.parts._purge()
    assert 'purge_refused{what="expiry"} 0.0' in metrics.read(service.parts).decode()


def test_the_command_asks_for_the_number(service, tmp_path):
    present = datetime.now(UTC)
    service.clock.now = present
    service.open()
    add_cases(service.parts.store, 30, present)

    def run(*options, code):
        key = {"CLEARINGHOUSE_KEY_FILE": str(service.settings.key_file)}
        with chdir(tmp_path):
            return command("purge", *options, database=service.settings.database, code=code, **key)

    assert "--expire 30" in run(code=1).stderr
    refused = run("--json", code=1)
    assert "--expire 30" in refused.stderr
    assert json.loads(refused.stdout)["refused"] == 30
    assert run("--expire", "29", code=1)
    assert json.loads(run("--expire", "30", "--json", code=0).stdout)["expired"] == 30
