"""What a survivor withdrew is remembered against contributors, and against nobody else."""

import pytest
from sqlalchemy import func, select

from clearinghouse.abuse.allowlist import LawfulList
from clearinghouse.database.queries.contributions import CONTRIBUTED, IMPORTED
from clearinghouse.database.schema import withdrawn
from clearinghouse.maintenance.backup import back_up, restore
from clearinghouse.maintenance.key_rotation import rotate
from clearinghouse.maintenance.purge import purge
from clearinghouse.platforms import contributions
from clearinghouse.platforms.contributions import Contribution, contribute, make_ready
from clearinghouse.platforms.keys import find
from nciihash.signals import Media, Signal, SignalType
from support.serving import item, pdq


@pytest.fixture
def peer(service):
    return service.platform()


def add(service, peer, *values, kind=CONTRIBUTED):
    """Let a platform contribute hashes, and return how many were filed."""
    store = service.parts.store
    hashes = [Contribution(Media.IMAGE, Signal.from_hex(SignalType.PDQ, v)) for v in values]
    ready = make_ready(store, LawfulList(), hashes)
    with store.write() as tx:
        number = tx.platforms.find(peer.name).id
        taken = contribute(tx, number, kind, ready, months=24, most=100, now=service.clock())
    service.parts.waiters.poke()
    return taken


def remembered(service):
    with service.parts.store.read() as tx:
        return tx.connection.scalar(select(func.count()).select_from(withdrawn))


@pytest.mark.parametrize("kind", [CONTRIBUTED, IMPORTED])
def test_it_is_not_taken_from_a_contributor(service, peer, kind):
    value = pdq()
    case = service.open(item(value), item(pdq()))
    case.withdraw(1)
    assert add(service, peer, value, pdq(), kind=kind) == 1
    assert peer.match(value) == [[]]


def test_one_file_of_an_advocates_case_is_remembered_like_any_other(service):
    from clearinghouse.cases import advocates

    key = advocates.add(service.parts.store, "Helpline", service.clock())
    value = pdq()
    body = {
        "consent": True,
        "declaration": {"adult": True, "depicted": True},
        "reason": "threatened",
        "items": [item(value)],
    }
    headers = {"Authorization": f"Bearer {key}"}
    opened = service.client.post("/v1/advocate/cases", json=body, headers=headers)
    assert opened.status_code == 201, opened.text
    path = f"/v1/advocate/cases/{opened.json()['reference']}"
    assert service.client.delete(path, headers=headers).is_success
    assert remembered(service) == 1


def test_her_resubmission_works_and_forgets_it(service, peer):
    value = pdq()
    service.open(item(value)).withdraw()
    assert remembered(service) == 1
    case = service.open(item(value))
    assert case.reply["items"][0]["accepted"] == 1
    assert len(peer.match(value)[0]) == 1
    assert remembered(service) == 0
    case.withdraw()
    added = service.open()
    body = {"items": [item(value)]}
    reply = service.client.post("/v1/case/items", json=body, headers=added.headers)
    assert reply.json()["items"][0]["accepted"] == 1
    assert remembered(service) == 0, "by adding a file as well"


def test_what_ends_otherwise_is_not_remembered(service, peer):
    value, contributed = pdq(), pdq()
    add(service, peer, contributed)
    store = service.parts.store
    number = find(store, peer.name)
    assert contributions.take_back_all(store, number, now=service.clock()) == 1
    service.open(item(value))
    service.clock.pass_(days=732)
    assert purge(store, retention_days=400, now=service.clock())["expired"] >= 1
    assert remembered(service) == 0
    assert add(service, peer, value, contributed) == 2


def test_it_is_forgotten_after_400_days(service, peer):
    value = pdq()
    service.open(item(value)).withdraw()
    service.clock.pass_(days=399)
    purge(service.parts.store, retention_days=400, now=service.clock())
    assert add(service, peer, value) == 0
    service.clock.pass_(days=1)
    purge(service.parts.store, retention_days=400, now=service.clock())
    assert add(service, peer, value) == 1


def test_the_last_withdrawal_counts(service, peer):
    value = pdq()
    first, second = service.open(item(value)), service.open(item(value))
    first.withdraw()
    service.clock.pass_(days=300)
    second.withdraw()
    service.clock.pass_(days=200)
    purge(service.parts.store, retention_days=400, now=service.clock())
    assert add(service, peer, value) == 0


def test_it_outlives_a_change_of_the_master_key(service, peer):
    value = pdq()
    service.open(item(value)).withdraw()
    rotate(service.parts.store, service.settings, now=service.clock(), pause=lambda _: None)
    assert add(service, peer, value) == 0


def test_a_restored_backup_remembers_what_was_withdrawn_since(service, peer, tmp_path):
    value, contributed = pdq(), pdq()
    case = service.open(item(value))
    add(service, peer, contributed)
    back_up(service.settings, tmp_path / "backup")
    case.withdraw()
    contributions.take_back_all(
        service.parts.store, find(service.parts.store, peer.name), now=service.clock()
    )
    assert restore(service.settings, tmp_path / "backup").withdrawn_again == 2
    assert remembered(service) == 1
    assert add(service, peer, value) == 0
