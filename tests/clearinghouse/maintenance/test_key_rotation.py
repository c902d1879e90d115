"""The master key is rotated while the service runs, and an interrupted rotation is resumed."""

import json
import secrets
import threading
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import LargeBinary, select

from clearinghouse.database import audit
from clearinghouse.database.queries.platforms import Platforms
from clearinghouse.database.schema import metadata, platforms, signals
from clearinghouse.database.store import Store
from clearinghouse.errors import KeyMismatch, SettingInvalid
from clearinghouse.maintenance import key_rotation
from clearinghouse.maintenance.key_rotation import rotate
from clearinghouse.platforms import keys
from clearinghouse.platforms.keys import Scope
from clearinghouse.sealing.master_key import NEXT, key_file, old_key_files, successor_file
from clearinghouse.sealing.vault import Vault
from support.service_process import ServiceProcess, bearer
from support.serving import credentials, item, opening, pdq

NOW = datetime(2026, 5, 17, tzinfo=UTC)


def rotate_now(store, settings, **options):
    return rotate(store, settings, now=NOW, pause=lambda _seconds: None, **options)


def sealed_rows(store):
    with store.read() as tx:
        rows = tx.connection.execute(select(signals).where(signals.c.value.is_not(None))).all()
        return rows, tx.connection.execute(select(platforms)).all()


def test_every_value_and_lookup_value_belongs_to_the_new_key(service, settings):
    peer, shared = service.platform(), pdq()
    cases = [service.open(item(shared), item(pdq())) for _ in range(3)]
    service.open().withdraw()
    old = key_file(settings).read_text()
    before, _ = sealed_rows(service.parts.store)
    cursor = peer.feed()["cursor"]
    result = rotate_now(service.parts.store, settings)
    assert (result.resealed, result.damaged) == (6, 0)
    assert key_file(settings).read_text() != old
    assert [file.read_text() for file in old_key_files(settings)] == [old]
    assert not successor_file(settings).exists()

    after, owners = sealed_rows(service.parts.store)
    new_vault = Vault(bytes.fromhex(key_file(settings).read_text()))
    for row, old_row in zip(after, before, strict=True):
        value = new_vault.open(row.value, "signals", "value", row.item_id, row.ordinal)
        assert row.lookup == new_vault.lookup("pdq", value) != old_row.lookup
        assert row.next_lookup is None
        with pytest.raises(KeyMismatch):
            Vault(bytes.fromhex(old)).open(row.value, "signals", "value", row.item_id, row.ordinal)
    for row in owners:
        new_vault.open(row.secret, "platforms", "secret", row.name)
    with service.parts.store.read() as tx:
        assert NEXT not in tx.facts.read([NEXT])

    # clients notice nothing
    assert peer.feed(cursor=cursor)["entries"] == []
    assert len(peer.match(shared)[0]) == 3
    for case in cases:
        assert case.status()["state"] == "open"
    cases[0].withdraw()
    assert len(peer.match(shared)[0]) == 2
    service.open(item(shared))
    assert len(peer.match(shared)[0]) == 3


def test_a_reader_of_an_old_snapshot_does_not_switch_writers_to_the_old_key(
    service, settings, monkeypatch
):
    """A transaction seals and signs with the key that the database has in this transaction."""
    store, find = service.parts.store, Platforms.find
    with store.read() as old_snapshot:

        def late_find(*args):
            store._unlock(old_snapshot)  # as a thread that reads the old snapshot may
            return find(*args)

        rotate_now(store, settings)
        monkeypatch.setattr(Platforms, "find", late_find)
        keys.add_platform(store, "Late", tuple(Scope), NOW)
    new_vault = Vault(bytes.fromhex(key_file(settings).read_text()))
    _, owners = sealed_rows(store)
    for row in owners:
        new_vault.open(row.secret, "platforms", "secret", row.name)
    with store.read() as tx:
        assert audit.verify(tx.vault, tx).broken is None


def test_the_old_key_does_not_open_the_database_after_a_rotation(service, settings):
    service.open()
    old = key_file(settings).read_text().strip()
    rotate_now(service.parts.store, settings)
    elsewhere = key_file(settings).parent / "elsewhere" / "master"
    with pytest.raises(KeyMismatch):
        Store.open(replace(settings, key=old, key_file=elsewhere))
    Store.open(settings).close()


class Crash(BaseException):
    pass


@pytest.mark.parametrize("point", range(1, 10))
def test_an_interrupted_rotation_is_resumed(settings, monkeypatch, point):
    """Interrupted before each of its write transactions, file writes and pauses in turn."""
    monkeypatch.setattr(key_rotation, "_BATCH", 2)
    from starlette.testclient import TestClient

    from clearinghouse.app import create_app
    from support.serving import RunningService

    app = create_app(settings, clock=lambda: NOW)
    with TestClient(app) as client:
        service = RunningService(app, client, lambda: NOW, settings)
        peer, values = service.platform(), [pdq() for _ in range(3)]
        case = service.open(*(item(v) for v in values))
        store, remaining = Store.open(settings), [point]

        def count():
            remaining[0] -= 1
            if remaining[0] == 0:
                raise Crash

        write, write_key = store.write, key_rotation._write_key
        monkeypatch.setattr(store, "write", lambda: count() or write())
        monkeypatch.setattr(key_rotation, "_write_key", lambda *args: count() or write_key(*args))
        with pytest.raises(Crash):
            rotate(store, settings, now=NOW, pause=lambda _seconds: count())
        store.close()
        monkeypatch.setattr(key_rotation, "_write_key", write_key)
        # the service works meanwhile
        value = pdq()
        other = service.open(item(value))
        assert [len(row) for row in peer.match(*values, value)] == [1, 1, 1, 1]
        assert case.status()["state"] == "open"
        reopened = Store.open(settings)
        rotate_now(reopened, settings)
        reopened.close()
    new_vault = Vault(bytes.fromhex(key_file(settings).read_text()))
    last = Store.open(settings)
    rows, _ = sealed_rows(last)
    found = {
        new_vault.open(row.value, "signals", "value", row.item_id, row.ordinal).hex()
        for row in rows
    }
    assert found == {*values, value}
    assert {row.lookup for row in rows} == {
        new_vault.lookup("pdq", bytes.fromhex(v)) for v in found
    }
    with last.read() as tx:
        assert NEXT not in tx.facts.read([NEXT])
    assert not successor_file(settings).exists()
    last.close()
    assert other.number


def test_a_key_in_the_environment_needs_its_successor(settings):
    old_settings = replace(settings, key=secrets.token_hex(32))
    store = Store.open(old_settings)
    with pytest.raises(SettingInvalid, match="CLEARINGHOUSE_NEXT_KEY"):
        rotate_now(store, old_settings)
    new = secrets.token_bytes(32)
    rotate_now(store, old_settings, successor=new)
    store.close()
    with pytest.raises(KeyMismatch):
        Store.open(old_settings)
    Store.open(replace(old_settings, key=new.hex())).close()


def test_every_column_of_bytes_is_resealed_or_known_to_need_no_resealing():
    """A new column of bytes must be added to one of the two sets."""
    handled = {"signals.value", "signals.lookup", "signals.next_lookup", "platforms.secret"}
    handled.add("lawful.value")
    kept = {
        *("cases.lookup", "keys.lookup"),  # of values that are not stored; under `steady`
        *("replies.lookup", "replies.body"),  # likewise, and deleted after a day
        "replies.reply",  # sealed under the client's own key
        "facts.value",  # by name
    }
    kept.add("audit.digest")  # under `steady`
    kept |= {"lawful.lookup", "advocates.lookup", "assisted.code", "spent.mark"}  # likewise
    kept.add("withdrawn.tag")  # under a key that is derived from `steady`
    columns = {
        f"{table.name}.{column.name}"
        for table in metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, LargeBinary)
    }
    assert columns == handled | kept


def test_concurrent_writers_are_not_disturbed_by_a_rotation(tmp_path, database):
    process = ServiceProcess(tmp_path, database)
    try:
        headers = bearer(process.platform())
        values, failures, stop = [], [], threading.Event()

        def write():
            try:
                while not stop.is_set():
                    value = pdq()
                    reply = process.client.post("/v1/cases", json=opening(item(value)))
                    assert reply.status_code == 201, reply.text
                    body = reply.json()
                    headers = credentials(body["case"], body["passphrase"])
                    assert process.client.get("/v1/case", headers=headers).is_success
                    values.append(value)
            except BaseException as error:
                failures.append(error)
                raise

        writers = [threading.Thread(target=write) for _ in range(2)]
        for writer in writers:
            writer.start()
        for _ in range(2):
            result = json.loads(process.command("rotate-key", "--json").stdout)
            assert result["damaged"] == 0
        stop.set()
        for writer in writers:
            writer.join()
        assert not failures
        page = process.client.get("/v1/feed", params={"limit": 10_000}, headers=headers).json()
        assert sorted(e["value"] for e in page["entries"]) == sorted(values)
    finally:
        process.end()
