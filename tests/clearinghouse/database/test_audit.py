"""The audit trail: what it records, and which tampering it detects."""

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
from clearinghouse.sealing.master_key import KEY, STEADY, has_old_key, key_file, unlock
from clearinghouse.sealing.vault import parse_key
from nciihash.signals import Signal, SignalType
from support.service_process import command


def verify(service, sought=None):
    store = service.parts.store
    with store.read() as tx:
        return audit.verify(store.vault, tx, sought)


def entries(service):
    with service.parts.store.read() as tx:
        return [(row.act, row.subject, row.amount) for row in audit.entries(tx, 100)]


def test_actions_of_operators_are_recorded_without_case_numbers(service, settings):
    store, now = service.parts.store, service.clock()
    service.platform("One")
    keys.rotate_key(store, "One", now)
    keys.revoke_keys(store, "One", None, now)
    contributions.withdraw_all_contributions(store, keys.find(store, "One"), now=now)
    case = service.open()
    rotate(store, settings, now=now, pause=lambda _seconds: None)
    service.clock.advance(days=800)
    purge(store, retention_days=400, now=service.clock())
    review.list_lawful(store, [Signal(SignalType.PDQ, bytes(32))], now=now)
    review.unlist_lawful(store, [Signal(SignalType.PDQ, bytes(32))], now=now)
    advocates.add(store, "Helpline", now)
    advocates.revoke(store, "Helpline", now)
    assert entries(service) == [
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
    result = verify(service)
    assert (result.entries, result.broken) == (11, None), "intact across a rotation of the key"
    assert case.number not in str(entries(service))


@pytest.mark.parametrize(
    ("tampering", "broken"),
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
def test_the_first_entry_that_was_tampered_with_is_found(service, tampering, broken):
    for name in ("One", "Two", "Three"):
        service.platform(name)
    intact = verify(service)
    assert (intact.entries, intact.broken) == (6, None)
    with service.parts.store.write() as tx:
        tx.connection.execute(tampering)
    result = verify(service)
    assert (result.broken, result.entries) == (broken, broken - 1)


def steal(service, settings):
    """Return the master key and the sealing facts, as an attacker may have copied them."""
    with service.parts.store.read() as tx:
        facts = tx.facts.read([KEY, STEADY])
    return key_file(settings).read_text(), facts


def forge_trail(store, vault, entries):
    """Replace the trail with other entries, with digests computed by `vault`."""
    with store.write() as tx:
        tx.connection.execute(delete(table))
        for number, act, subject in entries:
            last = tx.audit.last()
            before = last.digest if last else b"\0" * 32
            entry = (number, act, subject, 1, 0)
            tx.audit.add(*entry, audit._digest(vault, before, *entry))


@pytest.mark.parametrize("kept", ["the entry on the change", "all after the change", "nothing"])
def test_an_old_key_with_an_old_copy_cannot_forge_a_trail(service, settings, kept):
    store = service.parts.store
    service.platform("One")
    key, facts = steal(service, settings)
    stolen_vault = unlock(facts, [parse_key(key)])
    rotate(store, settings, now=service.clock(), pause=lambda _seconds: None)
    service.platform("Two")
    assert verify(service).broken is None
    assert not has_old_key(settings, store.vault)
    with store.read() as tx:
        rows = audit.entries(tx, 100)
    assert rows[2].act == Act.MASTER_CHANGED
    # the forged trail omits the addition of the first platform
    forged = [(1, Act.PURGED.value, ""), (2, Act.PURGED.value, "")]
    forge_trail(store, stolen_vault, forged)
    with store.write() as tx:
        for row in rows[2:3] if kept == "the entry on the change" else rows[2:]:
            if kept != "nothing":
                tx.audit.add(*row)
    assert verify(service).broken == 3
    # nor can the stolen key continue the trail with a change of the key
    more = [(3, Act.MASTER_CHANGED.value, ""), (4, Act.PURGED.value, "")]
    forge_trail(store, stolen_vault, [*forged, *more])
    assert verify(service).broken == 3


def test_a_forged_trail_with_restored_facts_is_reported_as_sealed_with_an_old_key(
    service, settings
):
    store = service.parts.store
    service.platform("One")
    key, facts = steal(service, settings)
    stolen_vault = unlock(facts, [parse_key(key)])
    rotate(store, settings, now=service.clock(), pause=lambda _seconds: None)
    forge_trail(store, stolen_vault, [(1, Act.PURGED.value, "")])
    with store.write() as tx:
        for name, value in facts.items():
            tx.facts.write(name, value)
    environment = {"CLEARINGHOUSE_KEY_FILE": str(key_file(settings))}
    arguments = ("audit", "verify", "--json")
    output = command(*arguments, database=settings.database, code=1, **environment).stdout
    assert json.loads(output)["old_key"] is True


def test_the_trail_is_intact_after_several_rotations_of_the_key(service, settings):
    store, now = service.parts.store, service.clock()
    for name in ("One", "Two", "Three"):
        service.platform(name)
        rotate(store, settings, now=now, pause=lambda _seconds: None)
    service.platform("Four")
    assert verify(service).broken is None
    with store.read() as tx:
        assert len(store.vault.trail) == 3
        last = tx.audit.last().number
    reopened = Store.open(settings)  # with the keys as a new process reads them
    with reopened.read() as tx:
        result = audit.verify(reopened.vault, tx)
    reopened.close()
    assert (result.entries, result.broken) == (last, None)


def test_a_truncated_trail_is_detected_by_an_earlier_digest(service):
    service.platform("One")
    service.platform("Two")
    digest = verify(service).digest
    service.platform("Three")
    assert verify(service, digest).found
    with service.parts.store.write() as tx:
        tx.connection.execute(delete(table).where(table.c.number > 3))
    result = verify(service, digest)
    assert (result.broken, result.found) == (None, False)


def test_the_commands(tmp_path):
    def run(*arguments, code=0):
        return command(*arguments, database=f"sqlite:///{tmp_path}/db.sqlite3", code=code).stdout

    run("platform", "add", "Example")
    assert "platform added" in run("audit", "list")
    [first, second] = json.loads(run("audit", "list", "--json"))
    assert (first["act"], second["act"]) == ("platform added", "key made")
    digest = json.loads(run("audit", "verify", "--json"))["digest"]
    assert "2 entries are intact." in run("audit", "verify", "--digest", digest)
    assert "not among them" in run("audit", "verify", "--digest", "00" * 32, code=1)


def test_an_os_error_names_the_file_and_what_to_do(tmp_path):
    database = f"sqlite:///{tmp_path}/db.sqlite3"
    command("migrate", database=database)
    target = tmp_path / "nowhere" / "backup"
    output = command("backup", str(target), database=database, code=3).stderr
    assert f"clearinghouse: No such file or directory: {target}. Check the path." in output
