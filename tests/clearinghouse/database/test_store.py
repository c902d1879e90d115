"""The database: made, migrated, sealed, and refused when it is not ours."""

import os
import secrets
import stat
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from clearinghouse.database.queries.cases import NewItem
from clearinghouse.database.queries.signals import NewSignals
from clearinghouse.database.queries.stopncii_records import SHARED
from clearinghouse.database.schema import metadata
from clearinghouse.database.store import Store
from clearinghouse.errors import KeyMismatch, KeyMissing, NewerDatabase, SettingInvalid
from clearinghouse.settings import Settings
from clearinghouse.times import hour
from support.serving import NOW, Case, item, opening, pdq


@pytest.fixture
def store(settings):
    store = Store.open(settings)
    yield store
    store.close()


def test_the_migrations_lead_to_the_schema(store, settings):
    engine = create_engine(settings.database)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


BEFORE_0060 = """
DROP INDEX ix_signals_record_seq;
DROP INDEX ix_verdicts_platform_id_record_seq;
ALTER TABLE signals RENAME COLUMN record_seq TO place;
ALTER TABLE verdicts RENAME COLUMN record_seq TO place;
CREATE INDEX ix_signals_place ON signals (place);
CREATE INDEX ix_verdicts_platform_id_place ON verdicts (platform_id, place);
UPDATE facts SET name = 'place' WHERE name = 'record_seq';
UPDATE alembic_version SET version_num = '0050'
"""


def test_migration_0060_keeps_the_order_of_stopncii_records(store, settings):
    """The columns are renamed, with their values, their indexes and the last seq allocated."""
    opened = {"verifier": "-", "reason": "shared", "state": "open", "opened": 0, "expires": 2**40}
    row = {"type": "pdq", "value": b"sealed", "quality": 90, "variant": "original"}
    [file] = store.reserve_items(1)
    with store.write() as tx:
        case = tx.cases.add(lookup=b"c" * 32, **opened)
        tx.cases.add_items(case, [NewItem(file, 1, "image")], 0)
        rows = [row | {"item_id": file, "ordinal": n, "lookup": bytes([n]) * 32} for n in range(3)]
        tx.signals.add([NewSignals("image", rows)], hour(NOW))
        platform = tx.platforms.add("Example", b"", 0)
        first = tx.log.read(0, 1)[0].signal
        assert tx.platforms.add_verdict(platform, first, "blocked", hour(NOW))

    def order(tx):
        return tx.stopncii.read(platform, 0, 10, first_hand=False), tx.stopncii.last_seq()

    with store.write() as tx:
        before = order(tx)
        for statement in BEFORE_0060.split(";"):
            tx.connection.execute(text(statement))
    assert [record.verdict for record in before[0]] == [None, None, "blocked"]
    assert before[1] == hour(NOW) * SHARED + 3
    migrated = Store.open(settings)
    with migrated.read() as tx:
        assert order(tx) == before
        assert compare_metadata(MigrationContext.configure(tx.connection), metadata) == []
    migrated.close()


@pytest.mark.sqlite
def test_the_database_is_its_owners_alone(store, tmp_path):
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir() if p.is_file()}
    assert "db.sqlite3" in modes
    assert set(modes.values()) == {0o600}


def test_opening_again_changes_nothing(store, settings):
    again = Store.open(settings)
    assert again.epoch == store.epoch
    again.close()


def test_two_that_start_at_once_agree(settings):
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


def test_without_its_key_it_does_not_open(store, settings, tmp_path):
    store.close()
    key = tmp_path / "db.sqlite3-key" / "master"
    kept = key.read_text()
    key.unlink()
    with pytest.raises(KeyMissing, match="CLEARINGHOUSE_KEY_FILE"):
        Store.open(settings)
    assert not key.exists(), "no new key is made for an old database"
    key.write_text(secrets.token_hex(32))
    with pytest.raises(KeyMismatch):
        Store.open(settings)
    Store.open(
        replace(settings, key_file=None, notes=settings.key_file.parent, key=kept.strip())
    ).close()


def put_back(tmp_path, saved):
    for path in tmp_path.glob("db.sqlite3*"):
        if path.is_file():
            path.unlink()
    (tmp_path / "db.sqlite3").write_bytes(saved)


@pytest.mark.sqlite
def test_a_restored_database_begins_a_new_epoch_and_reuses_no_number(settings, tmp_path):
    from datetime import UTC, datetime

    from clearinghouse.abuse.allowlist import LawfulList
    from clearinghouse.cases import lifecycle
    from clearinghouse.cases.intake import prepare
    from clearinghouse.errors import CursorExpired
    from clearinghouse.platforms import keys
    from clearinghouse.platforms.feed import read_cursor, read_page
    from clearinghouse.platforms.keys import Scope
    from nciihash.signals import MATCHED
    from nciihash.wire import OpenCase

    now = datetime(2026, 5, 17, tzinfo=UTC)

    def open_case(store, number):
        request = OpenCase.model_validate(opening(item(pdq())))
        intake = prepare(store, LawfulList(), request.items, MATCHED)
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
    assert first.sweep()
    saved = (tmp_path / "db.sqlite3").read_bytes()
    open_case(first, "2")
    first.note_reached()
    platform = keys.admit(first, key, {Scope.FEED}, now)
    before = read_page(first, platform, 0, 10, None)
    first.close()

    put_back(tmp_path, saved)
    second = Store.open(settings)
    platform = keys.admit(second, key, {Scope.FEED}, now)
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
    second.note_reached()
    second.close()
    third = Store.open(settings)
    assert third.epoch == epoch != first.epoch, "once is enough"
    third.close()


@pytest.mark.sqlite
def test_a_withdrawn_value_leaves_the_files(service, tmp_path):
    import time

    case = service.open(item(pdq()))
    with service.parts.store.read() as tx:
        [entry] = tx.log.read(0, 10)
        sealed = entry.value

    def held():
        return [p.name for p in tmp_path.iterdir() if p.is_file() and sealed in p.read_bytes()]

    assert held(), "it is found where it is"
    case.withdraw()
    end = time.monotonic() + 15
    while held() and time.monotonic() < end:
        time.sleep(0.05)
    assert held() == []


def test_the_cost_of_a_check_is_the_databases_own(store, settings):
    store.close()
    changed = Store.open(replace(settings, argon2_memory=128))
    assert changed.argon2_memory == settings.argon2_memory == 64
    changed.close()


def test_a_newer_database_is_left_alone(store, settings):
    with store.write() as tx:
        tx.connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    store.close()
    with pytest.raises(NewerDatabase):
        Store.open(settings)


def test_a_failed_write_leaves_nothing(store):
    case = {"verifier": "v", "reason": "shared", "state": "open", "opened": 0, "expires": 0}

    def fail():
        with store.write() as tx:
            tx.cases.add_items(tx.cases.add(lookup=b"x" * 32, **case), [NewItem(1, 1, "image")], 0)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with store.read() as tx:
        assert tx.figures.totals()["cases_open"] == 0


def test_a_read_cannot_write(store):
    with pytest.raises(DBAPIError, match=r"read.?only"), store.read() as tx:
        tx.platforms.add("Example", b"", 0)


def written(request, settings, tmp_path):
    """Give all that the database has on the disk, by name, with the files that lie beside it."""
    outside = settings.key_file.parent.iterdir()
    found = {p.name: p.read_bytes() for p in outside if p.name != "master"}
    if settings.database.startswith("sqlite"):
        return found | {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    return found | request.getfixturevalue("databases").dump(settings.database)


def test_the_files_hold_no_hash_passphrase_key_or_name(service, settings, tmp_path, request):
    """Of SQLite its file and its log; of PostgreSQL what pg_dump writes, its files and its log."""
    values = [pdq() for _ in range(20)]
    key = "ab12" * 8
    reply = service.client.post(
        "/v1/cases",
        json=opening(*(item(v) for v in values)),
        headers={"Idempotency-Key": key},
    ).json()
    service.client.post("/v1/cases", json=opening(item(pdq()), file_name="her-own-name.jpg"))
    peer = service.platform("Told in the clear")
    page = peer.feed()
    peer.post("/v1/feed/ack", {"cursor": page["cursor"]}, **{"Idempotency-Key": key})
    peer.match(*values)
    wrong = {"Authorization": peer.headers["Authorization"] + "x"}
    service.client.get("/v1/feed", headers=wrong)
    Case(service.client, reply["case"], reply["passphrase"], reply).withdraw(3)
    master = settings.key_file.read_text().strip()
    words = [peer.key, key, reply["passphrase"], reply["case"], reply["case"].replace("-", "")]
    words += [e["id"] for e in page["entries"]] + values + ["her-own-name", master]
    needles = [s.encode() for s in words]
    needles += [bytes.fromhex(s) for s in [*values, key, master]]

    def forms(needle):
        # as it is, in capitals, and as a dump writes bytes
        return needle, needle.upper(), needle.hex().encode()

    files = written(request, settings, tmp_path)
    assert sum(map(len, files.values())) > 50_000, "this is the database and its journal"
    for name, data in files.items():
        for needle in needles:
            for form in forms(needle):
                assert form not in data, f"{name} holds a secret"
    for needle in (b"Told in the clear", sealed_value(service)):
        assert any(form in data for data in files.values() for form in forms(needle)), "it looks"


def sealed_value(service):
    """Give a sealed value, which a search must find. The order of entries is random."""
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
def test_settings_that_make_no_sense_are_refused(environ):
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


def test_signals_are_counted_by_the_hour_and_a_proof_is_spent_once(store):
    start = NOW.replace(minute=0, second=0)
    for signals in (600, 400):
        with store.write() as tx:
            tx.proofs.take_in(signals, hour(start))
    with store.read() as tx:
        later = [start + timedelta(minutes=m) for m in (0, 59, 60, 90, 120)]
        assert [tx.proofs.taken_in(now) for now in later] == [1000, 1000, 1000, 500, 0]
    spent, ready = [], threading.Barrier(4)

    def spend():
        ready.wait()
        with store.write() as tx:
            spent.append(tx.proofs.spend(b"m" * 32, hour(start)))

    threads = [threading.Thread(target=spend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(spent) == [False, False, False, True]
    with store.write() as tx:
        tx.proofs.forget(hour(start) + 1)
    with store.read() as tx:
        assert tx.proofs.taken_in(start) == 0
