"""Platforms that no longer come, do not confirm, or whose keys end."""

import time

import pytest

from clearinghouse.platforms import keys
from clearinghouse.platforms.health import Alert, Concern, KeyUses, alerts
from clearinghouse.platforms.keys import Scope
from clearinghouse.times import hour


def found(service):
    with service.parts.store.read() as tx:
        return [(a.platform, a.concern) for a in alerts(tx, now=service.clock())]


def used(service):
    """Give the hours in which keys were last used, once the service has written all down."""
    end = time.monotonic() + 60
    while service.parts.uses._new:
        assert time.monotonic() < end, "the use of a key is not written down"
        service.parts.waiters.poke()
        time.sleep(0.01)
    with service.parts.writing, service.parts.store.read() as tx:
        return [row.used for row in tx.platforms.list_keys()]


def test_one_that_does_not_come_is_told(service):
    peer = service.platform("One", [Scope.FEED])
    service.platform("Asks", [Scope.MATCH])
    assert found(service) == []
    service.clock.pass_(hours=20)
    peer.feed()
    assert used(service) == [hour(service.clock()), None]
    service.clock.pass_(hours=20)
    assert found(service) == [], "it came within a day"
    service.clock.pass_(hours=6)
    assert found(service) == [("One", Concern.SILENT)], "the other one comes when it has to ask"
    peer.feed()
    assert used(service)[0] == hour(service.clock())
    assert found(service) == []


def test_one_that_was_added_and_never_came_is_told(service):
    service.platform("One", [Scope.FEED])
    service.clock.pass_(hours=26)
    assert found(service) == [("One", Concern.SILENT)]


def test_one_that_does_not_confirm_is_told_until_it_does(service):
    peer = service.platform("One", [Scope.FEED])
    first = service.open()
    service.clock.pass_(hours=47)
    first.withdraw()
    page = peer.feed()
    used(service)
    assert found(service) == []
    service.clock.pass_(hours=3)
    assert found(service) == [("One", Concern.BEHIND)], "the addition is fifty hours old"
    assert peer.post("/v1/feed/ack", {"cursor": page["cursor"]}).status_code == 200
    assert found(service) == []
    service.open()
    service.clock.pass_(hours=50)
    peer.feed()
    used(service)
    assert found(service) == [("One", Concern.BEHIND)]


def test_a_new_one_has_time_for_what_was_there_before_it(service):
    service.open()
    service.clock.pass_(days=30)
    peer = service.platform("One", [Scope.FEED])
    peer.feed()
    assert found(service) == []
    service.clock.pass_(hours=50)
    peer.feed()
    used(service)
    assert found(service) == [("One", Concern.BEHIND)]


def test_a_key_that_ends_is_told_unless_another_one_goes_on(service):
    service.platform("One", [Scope.MATCH])
    service.clock.pass_(days=371)
    assert found(service) == [("One", Concern.EXPIRING)]
    keys.rotate_key(service.parts.store, "One", service.clock())
    assert found(service) == []
    service.clock.pass_(days=500)
    assert found(service) == [("One", Concern.EXPIRING)], "after the end as well"
    keys.revoke_keys(service.parts.store, "One", None, service.clock())
    assert found(service) == [], "one that has left need not come"


def test_alerts_are_logged_once_and_name_no_more_than_the_platform(service, caplog):
    service.platform("One", [Scope.FEED])
    service.clock.pass_(days=3)
    told = service.parts._alert(frozenset())
    assert len(told) == 1
    assert caplog.messages == [
        "One may follow the feed and has not asked since 2026-05-17 13:00 UTC."
    ]
    assert service.parts._alert(told) == told
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    ("concern", "word"),
    [(Concern.SILENT, "asked"), (Concern.BEHIND, "confirmed"), (Concern.EXPIRING, "ends")],
)
def test_every_concern_has_a_sentence(concern, word):
    assert word in Alert("One", concern, 0).words


def test_a_key_is_written_once_an_hour(service):
    uses, now = KeyUses(), service.clock()
    uses.note(1, now)
    uses.note(1, now)
    assert uses.take() == {1: hour(now)}
    uses.note(1, now)
    assert uses.take() == {}
    service.clock.pass_(hours=1)
    uses.note(1, service.clock())
    lost = uses.take()
    uses.note(2, now)
    uses.give_back(lost)
    assert uses.take() == {1: hour(service.clock()), 2: hour(now)}


def test_the_other_door_notes_it_too(service):
    peer = service.platform("One", [Scope.FEED])
    keys = {"x-functions-key": peer.key, "Ocp-Apim-Subscription-Key": peer.key}
    assert service.client.get("/stopncii/v1/FetchHashes", headers=keys).status_code == 200
    assert used(service) == [hour(service.clock())]
