"""A wrong clock does not destroy the list: the purge is refused until the operator has checked."""

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from starlette.testclient import TestClient

from clearinghouse.app import create_app
from clearinghouse.database.engines import Postgres
from clearinghouse.database.store import Store
from clearinghouse.maintenance import clock
from clearinghouse.maintenance.clock import GAP_DAYS, ClockDoubtful
from clearinghouse.times import hour
from support.service_process import ENVIRONMENT, PROGRAM
from support.serving import RunningService, figures, item, pdq

DAY = timedelta(days=1)
YEAR = 365 * DAY

FAR = "The clock of this machine shows .*, and that of the database server"


@pytest.fixture
def present():
    return datetime.now(UTC)


@pytest.fixture
def store(settings):
    store = Store.open(settings)
    yield store
    store.close()


def opened(store, at):
    """Record that a case was opened."""
    with store.write() as tx:
        tx.cases.add(
            lookup=os.urandom(32),
            verifier="-",
            reason="shared",
            state="open",
            opened=hour(at),
            expires=hour(at + 2 * YEAR),
        )


def set_server(monkeypatch, at):
    """Set the clock of the PostgreSQL server to that of the machine in a test."""
    monkeypatch.setattr(Postgres, "server_time", lambda *_arguments: at)


def test_an_empty_database_has_nothing_to_lose(store, present):
    clock.check(store, present)


def test_a_clock_years_ahead_is_refused(store, monkeypatch, present):
    opened(store, present)
    clock.check(store, present)
    later = present + 3 * YEAR
    set_server(monkeypatch, later)
    with pytest.raises(ClockDoubtful, match="1,095 days after the last activity"):
        clock.check(store, later)
    # what is written under the wrong clock is no reason to believe it
    opened(store, later)
    with pytest.raises(ClockDoubtful, match="1,095 days after the last activity"):
        clock.check(store, later)


def test_without_an_earlier_purge_the_newest_entry_counts(store, monkeypatch, present):
    opened(store, present)
    later = present + (GAP_DAYS + 1) * DAY
    set_server(monkeypatch, later)
    with pytest.raises(ClockDoubtful, match=f"{GAP_DAYS + 1} days after"):
        clock.check(store, later)
    sooner = present + GAP_DAYS * DAY - DAY / 2
    set_server(monkeypatch, sooner)
    clock.check(store, sooner)


def test_activity_without_a_gap_shows_that_time_has_passed(store, monkeypatch, present):
    clock.check(store, present)
    for days in range(10, 90, 10):
        opened(store, present + days * DAY)
    later = present + 90 * DAY
    set_server(monkeypatch, later)
    clock.check(store, later)


def test_after_a_long_stop_the_operator_confirms_the_clock(store, monkeypatch, present):
    opened(store, present)
    later = present + 60 * DAY
    set_server(monkeypatch, later)
    with pytest.raises(ClockDoubtful):
        clock.check(store, later)
    clock.check(store, later, confirmed=True)
    clock.check(store, later)
    set_server(monkeypatch, later + DAY)
    clock.check(store, later + DAY)


def test_a_slow_clock_is_refused(store, monkeypatch, present):
    opened(store, present)
    earlier = present - 3 * DAY
    set_server(monkeypatch, earlier)
    with pytest.raises(ClockDoubtful, match="Either the clock is slow"):
        clock.check(store, earlier)


def test_a_clock_that_was_fast_is_confirmed_once_it_is_right(store, monkeypatch, present):
    clock.check(store, present)
    opened(store, present + 3 * YEAR)
    set_server(monkeypatch, present)
    with pytest.raises(ClockDoubtful, match="or it was fast then"):
        clock.check(store, present)
    clock.check(store, present, confirmed=True)
    clock.check(store, present)
    # only the entries that were there are known to be wrong
    opened(store, present + 4 * YEAR)
    with pytest.raises(ClockDoubtful, match="or it was fast then"):
        clock.check(store, present)


def test_the_clock_of_the_database_server_counts(store, present):
    opened(store, present)
    clock.check(store, present)
    with store.read() as tx:
        server = store.server_time(tx)
    if server is None:
        clock.check(store, present + 2 * DAY)
        return
    assert abs(server - present) < timedelta(minutes=10)
    with pytest.raises(ClockDoubtful, match=FAR):
        clock.check(store, present + 2 * DAY)
    with pytest.raises(ClockDoubtful, match=FAR):
        clock.check(store, present - 2 * DAY)


def test_the_service_refuses_by_itself_and_says_so(service, caplog, monkeypatch):
    service.open(item(pdq()))
    set_server(monkeypatch, service.clock())
    service.parts._purge()
    assert not service.parts.refused
    service.clock.advance(days=1100)
    set_server(monkeypatch, service.clock())
    for _ in range(2):
        service.parts._purge()
    assert list(service.parts.refused) == ["clock"]
    assert figures(service)["cases_open"] == 1
    logged = [r.getMessage() for r in caplog.records if "purge is refused" in r.getMessage()]
    assert len(logged) == 1
    assert "--clock-is-right" in logged[0]
    metrics = service.app.state.metrics.read(service.parts).decode()
    assert 'clearinghouse_purge_refused{what="clock"} 1.0' in metrics
    clock.check(service.parts.store, service.clock(), confirmed=True)
    service.parts._purge()
    assert not service.parts.refused
    assert figures(service)["cases_open"] == 0


def run_under(shift, settings, *words, code=0):
    """Run `clearinghouse` in a process whose clock is shifted by faketime."""
    environment = {**os.environ, **ENVIRONMENT, "CLEARINGHOUSE_KEY_FILE": str(settings.key_file)}
    done = subprocess.run(
        ["faketime", "-f", shift, *PROGRAM, *words, "--database", settings.database],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


needs_faketime = pytest.mark.skipif(not shutil.which("faketime"), reason="needs faketime")


@needs_faketime
def test_the_command_under_a_shifted_clock(settings, store, present):
    opened(store, present)
    run_under("+0", settings, "purge")

    def open_cases():
        with store.read() as tx:
            return tx.figures.totals()["cases_open"]

    for options in ((), ("--json",)):
        refused = run_under("+3y", settings, "purge", *options, code=2)
        assert "--clock-is-right" in refused.stderr
        assert not refused.stdout
        assert open_cases() == 1
    assert "clock" in run_under("-30d", settings, "purge", code=2).stderr
    run_under("+0", settings, "purge")
    run_under("+3y", settings, "purge", "--clock-is-right")
    assert open_cases() == 0


@needs_faketime
@pytest.mark.sqlite
def test_a_backup_undoes_a_purge_under_a_wrong_clock(settings, tmp_path):
    """Even if the operator said by mistake that the clock was right."""
    app = create_app(settings)
    with TestClient(app) as client:
        service, value = RunningService(app, client, app.state.service.clock, settings), pdq()
        service.open(item(value))
    backup = str(tmp_path / "backup")
    run_under("+0", settings, "backup", backup)
    wrong = run_under("+3y", settings, "purge", "--clock-is-right", "--json")
    assert json.loads(wrong.stdout)["expired"] == 1
    restored = json.loads(run_under("+0", settings, "restore", backup, "--yes", "--json").stdout)
    assert restored == {"signals": 1, "withdrawn_again": 0}
    assert json.loads(run_under("+0", settings, "purge", "--json").stdout)["expired"] == 0
    assert json.loads(run_under("+0", settings, "stats", "--json").stdout)["cases_open"] == 1
