"""The master key is changed under a running service, and a change that breaks off goes on."""

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
from clearinghouse.sealing.master_key import NEXT, key_file, old_files, successor_file
from clearinghouse.sealing.vault import Vault
from support.service_process import ServiceProcess, bearer
from support.serving import credentials, item, opening, pdq

NOW = datetime(2026, 5, 17, tzinfo=UTC)


def change(store, settings, **others):
    return rotate(store, settings, now=NOW, pause=lambda _seconds: None, **others)


def sealed(store):
    with store.read() as tx:
        rows = tx.connection.execute(select(signals).where(signals.c.value.is_not(None))).all()
        return rows, tx.connection.execute(select(platforms)).all()


def test_every_value_and_look_up_belongs_to_the_new_key(service, settings):
    peer, shared = service.platform(), pdq()
    cases = [service.open(item(shared), item(pdq())) for _ in range(3)]
    gone = service.open()
    gone.withdraw()
    old = key_file(settings).read_text()
    before, _ = sealed(service.parts.store)
    place = peer.feed()["cursor"]
    done = change(service.parts.store, settings)
    assert (done.resealed, done.damaged) == (6, 0)
    assert key_file(settings).read_text() != old
    assert [file.read_text() for file in old_files(settings)] == [old]
    assert not successor_file(settings).exists()

    after, owners = sealed(service.parts.store)
    alone = Vault(bytes.fromhex(key_file(settings).read_text()))
    for row, was in zip(after, before, strict=True):
        value = alone.open(row.value, "signals", "value", row.item_id, row.ordinal)
        assert row.lookup == alone.lookup("pdq", value) != was.lookup
        assert row.next_lookup is None
        with pytest.raises(KeyMismatch):
            Vault(bytes.fromhex(old)).open(row.value, "signals", "value", row.item_id, row.ordinal)
    for row in owners:
        alone.open(row.secret, "platforms", "secret", row.name)
    with service.parts.store.read() as tx:
        assert NEXT not in tx.facts.read([NEXT])

    # nothing is noticed from outside
    assert peer.feed(cursor=place)["entries"] == []
    assert len(peer.match(shared)[0]) == 3
    for case in cases:
        assert case.status()["state"] == "open"
    cases[0].withdraw()
    assert len(peer.match(shared)[0]) == 2
    service.open(item(shared))
    assert len(peer.match(shared)[0]) == 3


def test_a_reader_of_before_gives_no_writer_the_old_key(service, settings, monkeypatch):
    """What is sealed and signed in a transaction is so by the key that the database has in it."""
    store, find = service.parts.store, Platforms.find
    with store.read() as before:

        def late(*args):
            store._unlock(before)  # as its own next transaction would, in another thread
            return find(*args)

        change(store, settings)
        monkeypatch.setattr(Platforms, "find", late)
        keys.add_platform(store, "Late", tuple(Scope), NOW)
    alone = Vault(bytes.fromhex(key_file(settings).read_text()))
    _, owners = sealed(store)
    for row in owners:
        alone.open(row.secret, "platforms", "secret", row.name)
    with store.read() as tx:
        assert audit.verify(tx.vault, tx).broken is None


def test_the_old_key_alone_opens_nothing_any_more(service, settings):
    service.open()
    old = key_file(settings).read_text().strip()
    change(service.parts.store, settings)
    alone = replace(settings, key=old, key_file=key_file(settings).parent / "elsewhere" / "master")
    with pytest.raises(KeyMismatch):
        Store.open(alone)
    Store.open(settings).close()


class Crash(BaseException):
    pass


@pytest.mark.parametrize("step", range(1, 9))
def test_a_change_that_breaks_off_goes_on(settings, monkeypatch, step):
    """Broken off before any of its transactions, files and pauses in turn."""
    monkeypatch.setattr(key_rotation, "_BATCH", 2)
    from starlette.testclient import TestClient

    from clearinghouse.app import create_app
    from support.serving import Running

    app = create_app(settings, clock=lambda: NOW)
    with TestClient(app) as client:
        service = Running(app, client, lambda: NOW, settings)
        peer, values = service.platform(), [pdq() for _ in range(3)]
        case = service.open(*(item(v) for v in values))
        store, left = Store.open(settings), [step]

        def count():
            left[0] -= 1
            if left[0] == 0:
                raise Crash

        write, put = store.write, key_rotation._write
        monkeypatch.setattr(store, "write", lambda: count() or write())
        monkeypatch.setattr(key_rotation, "_write", lambda *words: count() or put(*words))
        with pytest.raises(Crash):
            rotate(store, settings, now=NOW, pause=lambda _seconds: count())
        store.close()
        monkeypatch.setattr(key_rotation, "_write", put)
        # in between all goes on, for a worker that starts now as well
        value = pdq()
        other = service.open(item(value))
        assert [len(row) for row in peer.match(*values, value)] == [1, 1, 1, 1]
        assert case.status()["state"] == "open"
        again = Store.open(settings)
        change(again, settings)
        again.close()
    alone = Vault(bytes.fromhex(key_file(settings).read_text()))
    last = Store.open(settings)
    rows, _ = sealed(last)
    found = {
        alone.open(row.value, "signals", "value", row.item_id, row.ordinal).hex() for row in rows
    }
    assert found == {*values, value}
    assert {row.lookup for row in rows} == {alone.lookup("pdq", bytes.fromhex(v)) for v in found}
    assert not successor_file(settings).exists()
    last.close()
    assert other.number


def test_a_key_in_the_environment_needs_its_successor(settings):
    ours = replace(settings, key=secrets.token_hex(32))
    store = Store.open(ours)
    with pytest.raises(SettingInvalid, match="CLEARINGHOUSE_NEXT_KEY"):
        change(store, ours)
    new = secrets.token_bytes(32)
    change(store, ours, successor=new)
    store.close()
    with pytest.raises(KeyMismatch):
        Store.open(ours)
    Store.open(replace(ours, key=new.hex())).close()


def test_all_that_is_sealed_is_known_to_the_rotation():
    """A column with bytes is sealed anew, or there is a reason not to: a new one must be placed."""
    handled = {"signals.value", "signals.lookup", "signals.next_lookup", "platforms.secret"}
    handled.add("lawful.value")
    kept = {
        *("cases.lookup", "keys.lookup"),  # of what is not kept: random, and under `steady`
        *("replies.lookup", "replies.body"),  # likewise, and gone after a day
        "replies.reply",  # sealed under the caller's own key
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


def test_writers_at_work_notice_nothing(tmp_path, database):
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
            done = json.loads(process.command("rotate-key", "--json").stdout)
            assert done["damaged"] == 0
        stop.set()
        for writer in writers:
            writer.join()
        assert not failures
        page = process.client.get("/v1/feed", params={"limit": 10_000}, headers=headers).json()
        assert sorted(e["value"] for e in page["entries"]) == sorted(values)
    finally:
        process.end()
