"""The store: creating and opening a database, its transactions, and what its files contain."""

import os
import secrets
import stat
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy.exc import DBAPIError

from clearinghouse.database.queries.cases import NewItem
from clearinghouse.database.store import Store
from clearinghouse.errors import KeyMismatch, KeyMissing, SettingInvalid
from clearinghouse.settings import Settings
from clearinghouse.times import hour
from support.serving import NOW, Case, item, opening, pdq


@pytest.fixture
def store(settings):
    store = Store.open(settings)
    yield store
    store.close()


@pytest.mark.sqlite
def test_only_the_owner_can_read_the_files(store, tmp_path):
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir() if p.is_file()}
    assert "db.sqlite3" in modes
    assert set(modes.values()) == {0o600}


def test_opening_again_changes_nothing(store, settings):
    second = Store.open(settings)
    assert second.epoch == store.epoch
    second.close()


def test_workers_that_start_at_once_open_the_same_database(settings):
    stores, start = [], threading.Barrier(4)

    def open_():
        start.wait()
        stores.append(Store.open(settings))

    threads = [threading.Thread(target=open_) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores) == 4
    assert len({s.epoch for s in stores}) == 1
    for store in stores:
        store.close()


def test_a_database_does_not_open_without_its_key(store, settings, tmp_path):
    store.close()
    key = tmp_path / "db.sqlite3-key" / "master"
    original = key.read_text()
    key.unlink()
    with pytest.raises(KeyMissing, match="CLEARINGHOUSE_KEY_FILE"):
        Store.open(settings)
    assert not key.exists(), "no new key is created for an existing database"
    key.write_text(secrets.token_hex(32))
    with pytest.raises(KeyMismatch):
        Store.open(settings)
    Store.open(
        replace(settings, key_file=None, notes=settings.key_file.parent, key=original.strip())
    ).close()


def restore_file(tmp_path, saved):
    for path in tmp_path.glob("db.sqlite3*"):
        if path.is_file():
            path.unlink()
    (tmp_path / "db.sqlite3").write_bytes(saved)


@pytest.mark.sqlite
def test_a_restored_database_begins_a_new_epoch_and_reuses_no_number(settings, tmp_path):
    from datetime import UTC, datetime

    from clearinghouse.abuse.allowlist import AllowlistIndex
    from clearinghouse.cases import lifecycle
    from clearinghouse.cases.intake import prepare
    from clearinghouse.errors import CursorExpired
    from clearinghouse.platforms import keys
    from clearinghouse.platforms.feed import read_cursor, read_page
    from clearinghouse.platforms.keys import Scope
    from nciihash.signals import ALWAYS_MATCHED
    from nciihash.wire import OpenCase

    now = datetime(2026, 5, 17, tzinfo=UTC)

    def open_case(store, number):
        request = OpenCase.model_validate(opening(item(pdq())))
        intake = prepare(store, AllowlistIndex(), request.items, ALWAYS_MATCHED)
        with store.write() as tx:
            lifecycle.open_case(
                tx,
                request.declaration,
                request.reason,
                intake,
                lookup=number.encode().rjust(32),
                number=number,
                passphrase="p",
                verifier="v",
                months=24,
                now=now,
            )

    first = Store.open(settings)
    key = keys.add_platform(first, "Example", [Scope.FEED], now)
    open_case(first, "1")
    assert first.checkpoint()
    saved = (tmp_path / "db.sqlite3").read_bytes()
    open_case(first, "2")
    first.save_high_water_mark()
    platform = keys.authorize(first, key, {Scope.FEED}, now)
    before = read_page(first, platform, 0, 10, None)
    first.close()

    restore_file(tmp_path, saved)
    second = Store.open(settings)
    platform = keys.authorize(second, key, {Scope.FEED}, now)
    with pytest.raises(CursorExpired):
        read_cursor(second, platform, before.cursor)
    open_case(second, "3")
    after = read_page(second, platform, 0, 10, None)
    kept, new = (
        [e.id for e in after.entries if e.id in {x.id for x in before.entries}],
        after.entries[-1],
    )
    assert kept == [before.entries[0].id]
    assert new.id not in {e.id for e in before.entries}
    assert new.item not in {e.item for e in before.entries}
    epoch = second.epoch
    second.save_high_water_mark()
    second.close()
    third = Store.open(settings)
    assert third.epoch == epoch != first.epoch, "the restore is handled once"
    third.close()


@pytest.mark.sqlite
def test_a_withdrawn_value_is_overwritten_in_the_files(service, tmp_path):
    import time

    case = service.open(item(pdq()))
    with service.parts.store.read() as tx:
        [entry] = tx.log.read(0, 10)
        sealed = entry.value

    def files_with_value():
        return [p.name for p in tmp_path.iterdir() if p.is_file() and sealed in p.read_bytes()]

    assert files_with_value(), "the search finds it before"
    case.withdraw()
    end = time.monotonic() + 15
    while files_with_value() and time.monotonic() < end:
        time.sleep(0.05)
    assert files_with_value() == []


def test_the_cost_of_a_passphrase_check_does_not_change(store, settings):
    store.close()
    changed = Store.open(replace(settings, argon2_memory=128))
    assert changed.argon2_memory == settings.argon2_memory == 64
    changed.close()


def test_a_failed_write_is_rolled_back(store):
    case = {"verifier": "v", "reason": "shared", "state": "open", "opened": 0, "expires": 0}

    def fail():
        with store.write() as tx:
            tx.cases.add_items(tx.cases.add(lookup=b"x" * 32, **case), [NewItem(1, 1, "image")], 0)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with store.read() as tx:
        assert tx.figures.totals()["cases_open"] == 0


def test_a_read_transaction_cannot_write(store):
    with pytest.raises(DBAPIError, match=r"read.?only"), store.read() as tx:
        tx.platforms.add("Example", b"", 0)


def read_files(request, settings, tmp_path):
    """Return the contents of the database files, and of those next to the key, by name."""
    outside = settings.key_file.parent.iterdir()
    files = {p.name: p.read_bytes() for p in outside if p.name != "master"}
    if settings.database.startswith("sqlite"):
        return files | {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    return files | request.getfixturevalue("databases").dump(settings.database)


def test_the_files_contain_no_hash_passphrase_key_or_name(service, settings, tmp_path, request):
    """SQLite: the file and its WAL. PostgreSQL: the output of pg_dump, the files and the WAL."""
    values = [pdq() for _ in range(20)]
    key = "ab12" * 8
    reply = service.client.post(
        "/v1/cases",
        json=opening(*(item(v) for v in values)),
        headers={"Idempotency-Key": key},
    ).json()
    service.client.post("/v1/cases", json=opening(item(pdq()), file_name="her-own-name.jpg"))
    peer = service.platform("A name in clear text")
    page = peer.feed()
    peer.post("/v1/feed/ack", {"cursor": page["cursor"]}, **{"Idempotency-Key": key})
    peer.match(*values)
    wrong = {"Authorization": peer.headers["Authorization"] + "x"}
    service.client.get("/v1/feed", headers=wrong)
    Case(service.client, reply["case"], reply["passphrase"], reply).withdraw(3)
    master = settings.key_file.read_text().strip()
    texts = [peer.key, key, reply["passphrase"], reply["case"], reply["case"].replace("-", "")]
    texts += [e["id"] for e in page["entries"]] + values + ["her-own-name", master]
    secrets_ = [s.encode() for s in texts]
    secrets_ += [bytes.fromhex(s) for s in [*values, key, master]]

    def encodings(secret):
        # as it is, in capitals, and in the hexadecimal of a dump
        return secret, secret.upper(), secret.hex().encode()

    files = read_files(request, settings, tmp_path)
    assert sum(map(len, files.values())) > 50_000, "this is the database and its journal"
    for name, data in files.items():
        for secret in secrets_:
            for encoded in encodings(secret):
                assert encoded not in data, f"{name} contains a secret"
    for text_ in (b"A name in clear text", sealed_value(service)):
        assert any(e in data for data in files.values() for e in encodings(text_)), "search works"


def sealed_value(service):
    """Return a sealed value, which the search must find. The order of entries is random."""
    with service.parts.store.read() as tx:
        return next(entry.value for entry in tx.log.read(0, 10) if entry.value is not None)


@pytest.mark.parametrize(
    "environ",
    [
        {"CLEARINGHOUSE_DATABASE": "postgresql://x"},
        {"CLEARINGHOUSE_DATABASE": "sqlite:///"},
        {"CLEARINGHOUSE_CONNECTIONS": "1"},
        {"CLEARINGHOUSE_DATABASE": "sqlite:///:memory:"},
        {"CLEARINGHOUSE_CASE_MONTHS": "many"},
        {"CLEARINGHOUSE_CASE_MONTHS": "0"},
        {"CLEARINGHOUSE_BODY_MAX": "-1"},
        {"CLEARINGHOUSE_MATCH_TYPES": "phash,ahash"},
        {"CLEARINGHOUSE_MATCH_TYPES": "pdq-veil128"},
    ],
)
def test_invalid_settings_are_refused(environ):
    with pytest.raises(SettingInvalid):
        Settings.from_environment(environ)


def test_settings_come_from_the_environment():
    settings = Settings.from_environment(
        {"CLEARINGHOUSE_CASE_MONTHS": "6", "CLEARINGHOUSE_KEY": "00" * 32, "HOME": os.sep}
    )
    assert settings.case_months == 6
    assert "00" * 32 not in repr(settings)
    address = "postgresql+psycopg://charity:a-word@host/clearinghouse"
    settings = Settings.from_environment({"CLEARINGHOUSE_DATABASE": address})
    assert settings.database == address
    assert "a-word" not in repr(settings)
    assert "00" * 32 not in repr(settings)


def test_intake_is_counted_by_hour_and_a_proof_is_used_once(store):
    start = NOW.replace(minute=0, second=0)
    for signals in (600, 400):
        with store.write() as tx:
            tx.proofs.add_intake(signals, hour(start))
    with store.read() as tx:
        later = [start + timedelta(minutes=m) for m in (0, 59, 60, 90, 120)]
        assert [tx.proofs.count_intake(now) for now in later] == [1000, 1000, 1000, 500, 0]
    first_uses, ready = [], threading.Barrier(4)

    def spend():
        ready.wait()
        with store.write() as tx:
            first_uses.append(tx.proofs.spend(b"m" * 32, hour(start)))

    threads = [threading.Thread(target=spend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(first_uses) == [False, False, False, True]
    with store.write() as tx:
        tx.proofs.delete_before(hour(start) + 1)
    with store.read() as tx:
        assert tx.proofs.count_intake(start) == 0
