"""The trail of what operators did: whole, or the first entry that is not."""

import json

import pytest
from sqlalchemy import delete, insert, update

from clearinghouse.abuse import review
from clearinghouse.cases import advocates
from clearinghouse.database import audit
from clearinghouse.database.audit import Act
from clearinghouse.database.schema import audit as table
from clearinghouse.database.store import Store
from clearinghouse.maintenance.key_rotation import rotate
from clearinghouse.maintenance.purge import purge
from clearinghouse.platforms import contributions, keys
from clearinghouse.sealing.master_key import KEY, STEADY, is_old, key_file, unlock
from clearinghouse.sealing.vault import parse_key
from nciihash.signals import Signal, SignalType
from support.service_process import command


def look(service, sought=None):
    store = service.parts.store
    with store.read() as tx:
        return audit.verify(store.vault, tx, sought)


def acts(service):
    with service.parts.store.read() as tx:
        return [(row.act, row.subject, row.amount) for row in audit.entries(tx, 100)]


def test_what_operators_do_is_in_it_and_nothing_of_anybody(service, settings):
    store, now = service.parts.store, service.clock()
    service.platform("One")
    keys.rotate_key(store, "One", now)
    keys.revoke_keys(store, "One", None, now)
    contributions.take_back_all(store, keys.find(store, "One"), now=now)
    case = service.open()
    rotate(store, settings, now=now, pause=lambda _seconds: None)
    service.clock.pass_(days=800)
    purge(store, retention_days=400, now=service.clock())
    review.list_lawful(store, [Signal(SignalType.PDQ, bytes(32))], now=now)
    review.unlist_lawful(store, [Signal(SignalType.PDQ, bytes(32))], now=now)
    advocates.add(store, "Helpline", now)
    advocates.revoke(store, "Helpline", now)
    assert acts(service) == [
        (Act.PLATFORM_ADDED, "One", 1),
        (Act.KEY_MADE, "One", 1),
        (Act.KEY_MADE, "One", 1),
        (Act.KEYS_REVOKED, "One", 2),
        (Act.PLATFORM_WITHDRAWN, "One", 0),
        (Act.MASTER_CHANGED, "", 1),
        (Act.PURGED, "", 1),
        (Act.LAWFUL_LISTED, "", 1),
        (Act.LAWFUL_UNLISTED, "", 1),
        (Act.ADVOCATE_KEY, "Helpline", 1),
        (Act.ADVOCATE_REVOKED, "Helpline", 1),
    ]
    found = look(service)
    assert (found.entries, found.broken) == (11, None), "whole, over a change of the key"
    assert case.number not in str(acts(service))


@pytest.mark.parametrize(
    ("harm", "broken"),
    [
        (update(table).where(table.c.number == 3).values(amount=7), 3),
        (update(table).where(table.c.number == 3).values(subject="Other"), 3),
        (update(table).where(table.c.number == 2).values(hour=0), 2),
        (delete(table).where(table.c.number == 4), 4),
        (delete(table).where(table.c.number == 1), 1),
        (
            insert(table).values(
                number=7, act="keys revoked", subject="One", amount=1, hour=0, digest=b"0" * 32
            ),
            7,
        ),
    ],
)
def test_a_change_is_found_where_it_is(service, harm, broken):
    for name in ("One", "Two", "Three"):
        service.platform(name)
    whole = look(service)
    assert (whole.entries, whole.broken) == (6, None)
    with service.parts.store.write() as tx:
        tx.connection.execute(harm)
    found = look(service)
    assert (found.broken, found.entries) == (broken, broken - 1)


def stolen(service, settings):
    """Return what somebody has who took the key and a copy of the database before a change."""
    with service.parts.store.read() as tx:
        facts = tx.facts.read([KEY, STEADY])
    return key_file(settings).read_text(), facts


def forged(store, vault, entries):
    """Write another trail in the place of the one that is there, each entry as `vault` has it."""
    with store.write() as tx:
        tx.connection.execute(delete(table))
        for number, act, subject in entries:
            last = tx.audit.last()
            before = last.digest if last else b"\0" * 32
            entry = (number, act, subject, 1, 0)
            tx.audit.add(*entry, audit._digest(vault, before, *entry))


@pytest.mark.parametrize("kept", ["the entry on the change", "all after the change", "nothing"])
def test_an_old_key_and_an_old_copy_forge_no_trail(service, settings, kept):
    store = service.parts.store
    service.platform("One")
    key, facts = stolen(service, settings)
    thief = unlock(facts, [parse_key(key)])
    rotate(store, settings, now=service.clock(), pause=lambda _seconds: None)
    service.platform("Two")
    assert look(service).broken is None
    assert not is_old(settings, store.vault)
    with store.read() as tx:
        rows = audit.entries(tx, 100)
    assert rows[2].act == Act.MASTER_CHANGED
    # one platform was never added: what is left out of the beginning
    made_up = [(1, Act.PURGED.value, ""), (2, Act.PURGED.value, "")]
    forged(store, thief, made_up)
    with store.write() as tx:
        for row in rows[2:3] if kept == "the entry on the change" else rows[2:]:
            if kept != "nothing":
                tx.audit.add(*row)
    assert look(service).broken == 3
    # nor by going on as the thief's key would have it
    forged(store, thief, [*made_up, (3, Act.MASTER_CHANGED.value, ""), (4, Act.PURGED.value, "")])
    assert look(service).broken == 3


def test_old_facts_put_back_with_a_forged_trail_are_told(service, settings):
    store = service.parts.store
    service.platform("One")
    key, facts = stolen(service, settings)
    thief = unlock(facts, [parse_key(key)])
    rotate(store, settings, now=service.clock(), pause=lambda _seconds: None)
    forged(store, thief, [(1, Act.PURGED.value, "")])
    with store.write() as tx:
        for name, value in facts.items():
            tx.facts.write(name, value)
    environment = {"CLEARINGHOUSE_KEY_FILE": str(key_file(settings))}
    words = ("audit", "verify", "--json")
    told = command(*words, database=settings.database, code=1, **environment).stdout
    assert json.loads(told)["old_key"] is True


def test_the_trail_is_whole_over_several_changes_of_the_key(service, settings):
    store, now = service.parts.store, service.clock()
    for name in ("One", "Two", "Three"):
        service.platform(name)
        rotate(store, settings, now=now, pause=lambda _seconds: None)
    service.platform("Four")
    assert look(service).broken is None
    with store.read() as tx:
        assert len(store.vault.trail) == 3
        last = tx.audit.last().number
    again = Store.open(settings)  # as the next start has it
    with again.read() as tx:
        found = audit.verify(again.vault, tx)
    again.close()
    assert (found.entries, found.broken) == (last, None)


def test_a_cut_end_is_found_by_a_digest_that_was_written_down(service):
    service.platform("One")
    service.platform("Two")
    told = look(service).digest
    service.platform("Three")
    assert look(service, told).found
    with service.parts.store.write() as tx:
        tx.connection.execute(delete(table).where(table.c.number > 3))
    found = look(service, told)
    assert (found.broken, found.found) == (None, False)


def test_the_commands(tmp_path):
    def run(*words, code=0):
        return command(*words, database=f"sqlite:///{tmp_path}/db.sqlite3", code=code).stdout

    run("platform", "add", "Example")
    assert "platform added" in run("audit", "list")
    [first, second] = json.loads(run("audit", "list", "--json"))
    assert (first["act"], second["act"]) == ("platform added", "key made")
    digest = json.loads(run("audit", "verify", "--json"))["digest"]
    assert "2 entries are whole." in run("audit", "verify", "--digest", digest)
    assert "not among them" in run("audit", "verify", "--digest", "00" * 32, code=1)


def test_what_the_system_refuses_names_the_file_and_what_to_do(tmp_path):
    """Whichever command it is."""
    database = f"sqlite:///{tmp_path}/db.sqlite3"
    command("migrate", database=database)
    target = tmp_path / "nowhere" / "backup"
    told = command("backup", str(target), database=database, code=3).stderr
    assert f"clearinghouse: No such file or directory: {target}. Check the path." in told
