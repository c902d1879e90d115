"""Backup and restore: withdrawn hashes stay withdrawn, and a restored database gets a new epoch."""

import json
import secrets
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import chdir, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from sqlalchemy import create_engine, make_url
from starlette.testclient import TestClient

from clearinghouse.app import create_app
from clearinghouse.database.store import Store
from clearinghouse.database.withdrawal_journal import Removal, WithdrawalJournal
from clearinghouse.errors import KeyMismatch, KeyMissing
from clearinghouse.maintenance.backup import BackupRefused, back_up, restore
from clearinghouse.maintenance.key_rotation import rotate
from clearinghouse.maintenance.purge import purge
from clearinghouse.platforms import keys
from clearinghouse.sealing.master_key import key_file
from clearinghouse.settings import Settings
from support.service_process import command
from support.serving import RunningService, item, pdq

NOW = datetime(2026, 5, 17, 13, 45, tzinfo=UTC)


class Backups:
    """Makes and restores backups of either database."""

    def __init__(self, settings, folder):
        self.settings, self.file, self.copies = settings, folder / "backup", []

    def save(self):
        if self.settings.database.startswith("sqlite"):
            back_up(self.settings, self.file)
        else:
            self.copies.append(f"clearinghouse_test_{secrets.token_hex(6)}")
            self._run(f"CREATE DATABASE {self.copies[-1]} TEMPLATE {self._name}")

    def restore(self):
        if self.settings.database.startswith("sqlite"):
            restore(self.settings, self.file)
        else:
            self._run(f"DROP DATABASE {self._name} WITH (FORCE)")
            self._run(f"CREATE DATABASE {self._name} TEMPLATE {self.copies[-1]}")

    def close(self):
        for name in self.copies:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    @property
    def _name(self):
        return make_url(self.settings.database).database

    def _run(self, statement):
        address = make_url(self.settings.database).set(database="postgres")
        engine = create_engine(address, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)
        engine.dispose()


@pytest.fixture
def backups(settings, tmp_path):
    backups = Backups(settings, tmp_path)
    yield backups
    backups.close()


@contextmanager
def served(settings, now=NOW):
    app = create_app(settings, clock=lambda: now)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield RunningService(app, client, lambda: now, settings)


def test_what_was_withdrawn_since_the_backup_stays_withdrawn(settings, backups):
    kept, withdrawn, first, second, late = (pdq() for _ in range(5))
    with served(settings) as service:
        peer = service.platform()
        open_case, closed_case = service.open(item(kept)), service.open(item(withdrawn))
        partial_case = service.open(item(first), item(second))
        revoked = service.platform("Revoked")
    backups.save()
    with served(settings) as service:
        for case in (open_case, closed_case, partial_case):
            case.client = service.client
        peer.service = revoked.service = service
        closed_case.withdraw()
        partial_case.withdraw(1)
        service.open(item(late)).withdraw()
        keys.revoke_keys(service.parts.store, "Revoked", None, NOW)
        cursor = peer.feed()["cursor"]
        epoch = service.parts.store.epoch
    backups.restore()
    with served(settings) as service:
        for case in (open_case, closed_case, partial_case):
            case.client = service.client
        peer.service = revoked.service = service
        assert service.parts.store.epoch != epoch
        reply = service.client.get("/v1/feed", params={"cursor": cursor}, headers=peer.headers)
        assert (reply.status_code, reply.json()["code"]) == (410, "cursor_expired")
        found = peer.match(kept, withdrawn, first, second, late)
        assert [len(hits) for hits in found] == [1, 0, 0, 1, 0]
        page = peer.feed()
        assert {e["value"] for e in page["entries"] if e["op"] == "add"} == {kept, second}
        assert closed_case.status()["state"] == "withdrawn"
        assert [bool(i["withdrawn"]) for i in partial_case.status()["items"]] == [True, False]
        assert open_case.status()["state"] == "open"
        reply = service.client.get("/v1/feed", headers=revoked.headers)
        assert reply.status_code == 401, "a revoked key stays revoked"
        # new cases are matched in the new epoch
        service.open(item(late))
        assert [len(hits) for hits in peer.match(late)] == [1]
        new_epoch = service.parts.store.epoch
    with served(settings) as service:
        assert service.parts.store.epoch == new_epoch, "the restore is handled once"


@pytest.fixture
def opened_long_ago(settings, backups):
    """Cases in a backup: of 2026, of 2022, and one of 2026 that was withdrawn after the backup."""
    values = SimpleNamespace(kept=pdq(), due=pdq(), withdrawn=pdq())
    with served(settings, datetime(2022, 5, 17, 13, tzinfo=UTC)) as service:
        values.due_case = service.open(item(values.due))
    with served(settings) as service:
        values.kept_case = service.open(item(values.kept))
        withdrawn = service.open(item(values.withdrawn))
    backups.save()
    with served(settings) as service:
        withdrawn.client = service.client
        withdrawn.withdraw()
    return values


def test_cases_that_expired_under_a_wrong_clock_come_back_with_the_backup(
    settings, backups, opened_long_ago
):
    """Only what has expired by the present clock is removed again, and what was withdrawn."""
    given = opened_long_ago
    wrong = NOW + timedelta(days=5 * 365)
    with served(settings, wrong) as service:
        done = purge(service.parts.store, retention_days=4000, now=wrong)
        assert done.expired == 2
        journal = service.parts.store._journal._path.read_text()
        assert (journal.count("expired"), journal.count("gone")) == (2, 1)
    for _ in range(2):  # also if the same backup is restored again
        backups.restore()
        with served(settings) as service:
            peer = service.platform(secrets.token_hex(4))
            found = peer.match(given.kept, given.due, given.withdrawn)
            assert [len(hits) for hits in found] == [1, 0, 0]
            given.due_case.client = given.kept_case.client = service.client
            assert given.due_case.status()["state"] == "expired"
            assert given.kept_case.status()["state"] == "open"
            assert [bool(i["withdrawn"]) for i in given.due_case.status()["items"]] == [True]
            # a later withdrawal is replayed as such
    with served(settings) as service:
        given.kept_case.client = service.client
        given.kept_case.withdraw()
    backups.restore()
    with served(settings) as service:
        peer = service.platform(secrets.token_hex(4))
        assert peer.match(given.kept, given.due, given.withdrawn) == [[], [], []]


def test_expiries_in_the_journal_of_an_earlier_version_are_withdrawals(
    settings, backups, opened_long_ago
):
    """It did not distinguish them: its lines are replayed whatever the clock shows."""
    given = opened_long_ago
    wrong = NOW + timedelta(days=5 * 365)
    with served(settings, wrong) as service:
        purge(service.parts.store, retention_days=4000, now=wrong)
        journal = service.parts.store._journal._path
    journal.write_text(journal.read_text().replace("expired", "gone"))
    backups.restore()
    with served(settings) as service:
        peer = service.platform()
        assert peer.match(given.kept, given.due, given.withdrawn) == [[], [], []]


def test_a_restore_is_noticed_by_a_running_service(settings, backups):
    """The service begins a new epoch and withdraws again, without a restart."""
    kept, withdrawn = pdq(), pdq()
    with served(settings) as service:
        peer = service.platform()
        service.open(item(kept))
        case = service.open(item(withdrawn))
    backups.save()
    with served(settings) as service:
        peer.service, case.client = service, service.client
        case.withdraw()
        service.open()
        service.caught_up()
        epoch = service.parts.store.epoch
        backups.restore()
        end = time.monotonic() + 60
        while service.parts.store.epoch == epoch or not service.parts.live.caught_up:
            assert time.monotonic() < end, "the restore was not noticed"
            time.sleep(0.01)
        assert [len(hits) for hits in peer.match(kept, withdrawn)] == [1, 0]


@pytest.mark.sqlite
def test_numbers_reserved_before_a_restore_are_not_used_after_it(settings, tmp_path):
    """If nothing was logged since the backup, row numbers are not advanced and are reused."""
    store = Store.open(settings)
    with (
        closing(sqlite3.connect(settings.database.removeprefix("sqlite:///"))) as live,
        closing(sqlite3.connect(tmp_path / "copy")) as copy,
    ):
        live.backup(copy)
        store.reserve_items(1)  # reserves a block, of which the store keeps the rest
        copy.backup(live)
    store.reconcile()
    other = Store.open(settings)
    try:
        reserved = [n for each in (store, other) for n in each.reserve_items(700)]
        assert len(reserved) == len(set(reserved))
    finally:
        store.close()
        other.close()


@pytest.mark.sqlite
def test_a_backup_of_a_running_service_is_one_file_without_secrets(service, settings, tmp_path):
    file, value = tmp_path / "backup", pdq()
    case = service.open(item(value))
    size = back_up(settings, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.stat().st_size == size
    assert [p.name for p in tmp_path.glob("backup*")] == ["backup"], "it is a single file"
    data = file.read_bytes()
    for secret in (value, case.number, case.passphrase, key_file(settings).read_text().strip()):
        assert secret.encode() not in data
        assert bytes.fromhex(value) not in data
    connection = sqlite3.connect(file)
    assert connection.execute("SELECT count(*) FROM signals").fetchone() == (1,)
    connection.close()


@pytest.mark.sqlite
def test_an_incomplete_backup_is_refused_and_changes_nothing(service, settings, tmp_path):
    file = tmp_path / "backup"
    peer, value = service.platform(), pdq()
    service.open(item(value))
    back_up(settings, file)
    complete = file.read_bytes()

    def check_refused(match):
        with pytest.raises(BackupRefused, match=match):
            restore(settings, file)
        assert len(peer.match(value)[0]) == 1

    file.write_bytes(b"nonsense" * 1000)
    check_refused("not a complete backup")
    file.write_bytes(complete[: len(complete) // 2])
    check_refused("not a complete backup")
    file.write_bytes(complete)
    connection = sqlite3.connect(file)
    connection.execute("UPDATE signals SET value = randomblob(60)")
    connection.commit()
    connection.close()
    check_refused("cannot be decrypted")
    file.unlink()
    check_refused("no such backup")
    empty = sqlite3.connect(file)
    empty.execute("CREATE TABLE facts (name, value)")
    empty.close()
    check_refused("not a complete backup")
    file.write_bytes(complete)
    key = settings.key_file.parent.with_name("elsewhere") / "master"
    with pytest.raises(KeyMissing):
        restore(replace(settings, key_file=key), file)
    with pytest.raises(KeyMismatch):
        restore(replace(settings, key=secrets.token_hex(32)), file)
    assert restore(settings, file).signals == 1


@pytest.mark.sqlite
def test_a_damaged_database_must_be_moved_away_first(settings, tmp_path):
    file, database = tmp_path / "backup", tmp_path / "db.sqlite3"
    with served(settings) as service:
        service.open()
        back_up(settings, file)
    database.write_bytes(b"nonsense" * 1000)
    with pytest.raises(BackupRefused, match="Move it away"):
        restore(settings, file)
    for path in tmp_path.glob("db.sqlite3*"):
        if path.is_file():
            path.unlink()
    assert restore(settings, file).signals == 1


@pytest.mark.sqlite
def test_a_backup_from_before_a_rotation_is_restored(settings, tmp_path):
    file = tmp_path / "backup"
    with served(settings) as service:
        peer, value = service.platform(), pdq()
        service.open(item(value))
        back_up(settings, file)
        rotate(service.parts.store, settings, now=NOW, pause=lambda _seconds: None)
    assert restore(settings, file).signals == 1
    with served(settings) as service:
        peer.service = service
        assert len(peer.match(value)[0]) == 1


def test_backup_on_postgresql_says_what_to_do_instead(databases, tmp_path):
    for arguments in (["backup", "x"], ["restore", "x", "--yes"]):
        with databases.fresh() as address, chdir(tmp_path):
            assert "pg_dump" in command(*arguments, database=address, code=2).stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.sqlite
def test_the_commands(settings, tmp_path):
    with served(settings) as service:
        service.open()
        case = service.open()

    def run(*arguments, **options):
        return command(*arguments, database=settings.database, **options)

    file = str(tmp_path / "backup")
    assert json.loads(run("backup", file, "--json").stdout)["bytes"] > 10_000
    with served(settings) as service:
        case.client = service.client
        case.withdraw()
    run("restore", file, code=1, typed="n\n")
    result = json.loads(run("restore", file, "--yes", "--json").stdout)
    assert result == {"signals": 1, "withdrawn_again": 1}


@pytest.mark.sqlite
def test_a_missing_database_is_not_replaced_by_an_empty_one(tmp_path):
    database, backup = tmp_path / "clearinghouse.sqlite3", str(tmp_path / "backup")
    address = f"sqlite:///{database}"
    settings = Settings(database=address, argon2_memory=64)
    with served(settings) as service:
        service.open()
    command("backup", backup, database=address)
    for file in tmp_path.glob("clearinghouse.sqlite3*"):
        if file.is_file():
            file.unlink()
    message = command("stats", database=address, code=2).stderr
    assert "is missing" in message
    assert "restore" in message
    assert not database.exists()
    # a process of its own: `serve` refuses to start where a decoder was imported, as here
    served_by = subprocess.run(
        [sys.executable, "-m", "clearinghouse", "serve", "--database", address, "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert served_by.returncode == 2
    assert "is missing" in served_by.stderr
    assert not database.exists()
    command("restore", backup, "--yes", database=address)
    with served(settings) as service:
        assert service.parts.store
    assert json.loads(command("stats", "--json", database=address).stdout)


def head(rows):
    return rows[-1][0] if rows else 0


def test_the_journal_has_each_removal_once_with_several_writers(tmp_path):
    path = tmp_path / "outside" / "journal"
    one, two = WithdrawalJournal(path), WithdrawalJournal(path)
    rows = [Removal(n, 100 + n, expired=False) for n in range(1, 8)]

    def read(after, limit):
        return [row for row in rows if row[0] > after][:limit]

    one.catch_up(head(rows), read)
    two.catch_up(head(rows), read)
    rows += [Removal(9, 109, expired=True)]
    two.catch_up(head(rows), read)
    one.catch_up(head(rows), read)
    one.add_keys([5])
    assert (path.read_text().count("gone"), path.read_text().count("expired")) == (7, 1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert two.last_seq() == 9
    assert list(WithdrawalJournal(path).replay(100)) == [([r[1] for r in rows[:-1]], [109], [5])]


def test_a_truncated_line_names_no_other_signal(tmp_path):
    path = tmp_path / "journal"
    rows = [Removal(1, 1234, expired=False), Removal(2, 5678, expired=True)]
    WithdrawalJournal(path).catch_up(2, lambda after, _limit: [r for r in rows if r[0] > after])
    complete = path.read_bytes()
    for end in range(len(complete)):
        path.write_bytes(complete[:end])
        reopened = WithdrawalJournal(path)
        reopened.catch_up(2, lambda after, _limit: [r for r in rows if r[0] > after])
        assert list(WithdrawalJournal(path).replay(100)) == [([1234], [5678], [])], complete[:end]


def test_a_withdrawal_is_in_the_journal_before_its_response(service, settings, monkeypatch):
    case = service.open()
    journal = service.parts.store._journal

    def fail(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal, "catch_up", fail)
    reply = case.withdraw()
    assert (reply.status_code, reply.json()["code"]) == (503, "database_away")
    monkeypatch.undo()
    assert case.withdraw().status_code == 200, "the request can be repeated"
    assert list(journal.replay(10)) == [([1], [], [])]


def test_journals_of_two_databases_in_one_folder_are_kept_apart(settings, tmp_path, databases):
    with databases.fresh() as address:
        other = Store.open(replace(settings, database=address))
        first = Store.open(settings)
        assert first._journal._path.parent == other._journal._path.parent
        assert first._journal._path != other._journal._path
        first.close()
        other.close()
