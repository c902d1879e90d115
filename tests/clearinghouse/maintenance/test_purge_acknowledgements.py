"""Deletion of acknowledgements that no status of a case depends on."""

import random

import pytest
from sqlalchemy import select

from clearinghouse.database.schema import acknowledgements
from clearinghouse.maintenance import purge as purging
from support.serving import item, pdq

RETENTION = 400  # days


def acknowledge(peer):
    assert peer.post("/v1/feed/ack", {"cursor": peer.feed(limit=1000)["cursor"]}).is_success


def stored(service):
    with service.parts.store.read() as tx:
        return len(tx.connection.execute(select(acknowledgements)).all())


def run_purge(service):
    purging.purge(service.parts.store, retention_days=RETENTION, now=service.clock())


def test_those_of_deleted_cases_are_deleted(service):
    peer = service.platform("One")
    first, second = [], []
    for cases in (first, second):
        cases.append(service.open(item(pdq())))
        acknowledge(peer)
        service.clock.advance(hours=1)
    first[0].withdraw()
    acknowledge(peer)
    service.clock.advance(hours=1)
    shown = second[0].status()["items"]
    assert stored(service) == 3
    run_purge(service)
    assert stored(service) == 3, "all are shown"
    assert first[0].status()["items"][0]["platforms"][0]["deletion_acknowledged"]
    service.clock.advance(days=RETENTION + 1)
    run_purge(service)
    assert stored(service) == 2, "that of the second case, and the newest"
    assert (
        second[0].status()["items"][0]["platforms"][0]["has_it_since"]
        == (shown[0]["platforms"][0]["has_it_since"])
    )


@pytest.mark.parametrize("seed", range(3))
def test_no_status_changes(service, seed, monkeypatch):
    """Whatever was opened, withdrawn and acknowledged before."""
    draw = random.Random(seed)
    peers = [service.platform(f"Platform {n}") for n in range(2)]
    cases = []
    for step in range(40):
        match draw.randrange(4):
            case 0:
                cases.append(service.open(item(pdq()), item(pdq())))
            case 1 if cases:
                draw.choice(cases).withdraw(draw.choice([None, 1]))
            case _:
                acknowledge(draw.choice(peers))
        service.clock.advance(days=250 if step == 20 else 0, hours=1)

    service.clock.advance(days=152)

    def statuses():
        replies = [case.client.get("/v1/case", headers=case.headers) for case in cases]
        return [reply.json() for reply in replies if reply.is_success]

    with monkeypatch.context() as patch:
        patch.setattr(purging, "_delete_acknowledgements", lambda _store: None)
        run_purge(service)
    shown, before = statuses(), stored(service)
    assert 0 < len(shown) < len(cases), "some cases have been deleted"
    run_purge(service)
    assert statuses() == shown
    assert stored(service) < before
