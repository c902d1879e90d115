"""Withdrawn values are remembered for 400 days, to refuse them from contributors only."""

import pytest
from sqlalchemy import func, select

from clearinghouse.abuse.allowlist import AllowlistIndex
from clearinghouse.database.queries.contributions import CONTRIBUTED, IMPORTED
from clearinghouse.database.schema import withdrawn
from clearinghouse.maintenance.backup import back_up, restore
from clearinghouse.maintenance.key_rotation import rotate
from clearinghouse.maintenance.purge import purge
from clearinghouse.platforms import contributions
from clearinghouse.platforms.contributions import Contribution, contribute, prepare
from clearinghouse.platforms.keys import find
from nciihash.signals import Media, Signal, SignalType
from support.serving import item, pdq


@pytest.fixture
def peer(service):
    return service.platform()


def add(service, peer, *values, kind=CONTRIBUTED):
    """Contribute hashes, and return how many were added."""
    store = service.parts.store
    hashes = [Contribution(Media.IMAGE, Signal.from_hex(SignalType.PDQ, v)) for v in values]
    prepared = prepare(store, AllowlistIndex(), hashes)
    with store.write() as tx:
        number = tx.platforms.find(peer.name).id
        count = contribute(tx, number, kind, prepared, months=24, most=100, now=service.clock())
    service.parts.waiters.poke()
    return count


def remembered(service):
    with service.parts.store.read() as tx:
        return tx.connection.scalar(select(func.count()).select_from(withdrawn))


@pytest.mark.parametrize("kind", [CONTRIBUTED, IMPORTED])
def test_a_withdrawn_value_cannot_be_contributed(service, peer, kind):
    value = pdq()
    case = service.open(item(value), item(pdq()))
    case.withdraw(1)
    assert add(service, peer, value, pdq(), kind=kind) == 1
    assert peer.match(value) == [[]]


def test_a_withdrawn_case_of_an_advocate_is_remembered_too(service):
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


def test_a_new_submission_is_accepted_and_ends_it(service, peer):
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
    assert remembered(service) == 0, "also when it is added to an open case"


def test_expired_and_contributed_values_are_not_remembered(service, peer):
    value, contributed = pdq(), pdq()
    add(service, peer, contributed)
    store = service.parts.store
    number = find(store, peer.name)
    assert contributions.withdraw_all_contributions(store, number, now=service.clock()) == 1
    service.open(item(value))
    service.clock.advance(days=732)
    assert purge(store, retention_days=400, now=service.clock()).expired >= 1
    assert remembered(service) == 0
    assert add(service, peer, value, contributed) == 2


def test_it_is_forgotten_after_400_days(service, peer):
    value = pdq()
    service.open(item(value)).withdraw()
    service.clock.advance(days=399)
    purge(service.parts.store, retention_days=400, now=service.clock())
    assert add(service, peer, value) == 0
    service.clock.advance(days=1)
    purge(service.parts.store, retention_days=400, now=service.clock())
    assert add(service, peer, value) == 1


def test_the_period_starts_at_the_last_withdrawal(service, peer):
    value = pdq()
    first, second = service.open(item(value)), service.open(item(value))
    first.withdraw()
    service.clock.advance(days=300)
    second.withdraw()
    service.clock.advance(days=200)
    purge(service.parts.store, retention_days=400, now=service.clock())
    assert add(service, peer, value) == 0


def test_it_survives_a_rotation_of_the_master_key(service, peer):
    value = pdq()
    service.open(item(value)).withdraw()
    rotate(service.parts.store, service.settings, now=service.clock(), pause=lambda _: None)
    assert add(service, peer, value) == 0


def test_a_restored_backup_remembers_later_withdrawals(service, peer, tmp_path):
    value, contributed = pdq(), pdq()
    case = service.open(item(value))
    add(service, peer, contributed)
    back_up(service.settings, tmp_path / "backup")
    case.withdraw()
    contributions.withdraw_all_contributions(
        service.parts.store, find(service.parts.store, peer.name), now=service.clock()
    )
    assert restore(service.settings, tmp_path / "backup").withdrawn_again == 2
    assert remembered(service) == 1
    assert add(service, peer, value) == 0
