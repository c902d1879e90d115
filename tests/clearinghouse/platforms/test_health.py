"""Alerts about platforms that are silent, do not acknowledge, or whose keys expire."""

import time

import pytest

from clearinghouse.platforms import keys
from clearinghouse.platforms.health import Alert, Concern, KeyUses, alerts
from clearinghouse.platforms.keys import Scope
from clearinghouse.times import hour


def current_alerts(service):
    with service.parts.store.read() as tx:
        return [(a.platform, a.concern) for a in alerts(tx, now=service.clock())]


def written_uses(service):
    """Return the last hour of use of each key, once the service has written them all."""
    end = time.monotonic() + 60
    while service.parts.uses._unwritten:
        assert time.monotonic() < end, "the use of a key was not written"
        service.parts.waiters.poke()
        time.sleep(0.01)
    with service.parts.writing, service.parts.store.read() as tx:
        return [row.used for row in tx.platforms.list_keys()]


def test_a_platform_without_requests_for_a_day_is_silent(service):
    platform = service.platform("One", [Scope.FEED])
    service.platform("Matches", [Scope.MATCH])
    assert current_alerts(service) == []
    service.clock.advance(hours=20)
    platform.feed()
    assert written_uses(service) == [hour(service.clock()), None]
    service.clock.advance(hours=20)
    assert current_alerts(service) == [], "it sent a request within a day"
    service.clock.advance(hours=6)
    assert current_alerts(service) == [("One", Concern.SILENT)], (
        "a platform that only matches need not send any"
    )
    platform.feed()
    assert written_uses(service)[0] == hour(service.clock())
    assert current_alerts(service) == []


def test_a_platform_that_never_sent_a_request_is_silent(service):
    service.platform("One", [Scope.FEED])
    service.clock.advance(hours=26)
    assert current_alerts(service) == [("One", Concern.SILENT)]


def test_a_platform_is_lagging_until_it_acknowledges(service):
    platform = service.platform("One", [Scope.FEED])
    first = service.open()
    service.clock.advance(hours=47)
    first.withdraw()
    page = platform.feed()
    written_uses(service)
    assert current_alerts(service) == []
    service.clock.advance(hours=3)
    assert current_alerts(service) == [("One", Concern.LAGGING)], "the addition is fifty hours old"
    assert platform.post("/v1/feed/ack", {"cursor": page["cursor"]}).status_code == 200
    assert current_alerts(service) == []
    service.open()
    service.clock.advance(hours=50)
    platform.feed()
    written_uses(service)
    assert current_alerts(service) == [("One", Concern.LAGGING)]


def test_older_changes_count_from_when_a_platform_was_added(service):
    service.open()
    service.clock.advance(days=30)
    platform = service.platform("One", [Scope.FEED])
    platform.feed()
    assert current_alerts(service) == []
    service.clock.advance(hours=50)
    platform.feed()
    written_uses(service)
    assert current_alerts(service) == [("One", Concern.LAGGING)]


def test_an_expiring_key_is_reported_unless_another_is_valid_longer(service):
    service.platform("One", [Scope.MATCH])
    service.clock.advance(days=371)
    assert current_alerts(service) == [("One", Concern.EXPIRING)]
    keys.rotate_key(service.parts.store, "One", service.clock())
    assert current_alerts(service) == []
    service.clock.advance(days=500)
    assert current_alerts(service) == [("One", Concern.EXPIRING)], "also after it has expired"
    keys.revoke_keys(service.parts.store, "One", None, service.clock())
    assert current_alerts(service) == [], "a platform without keys has left"


def test_alerts_are_logged_once_and_name_only_the_platform(service, caplog):
    service.platform("One", [Scope.FEED])
    service.clock.advance(days=3)
    logged = service.parts._alert(frozenset())
    assert len(logged) == 1
    assert caplog.messages == [
        "One can read the feed but has sent no request since 2026-05-17 13:00 UTC."
    ]
    assert service.parts._alert(logged) == logged
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    ("concern", "phrase"),
    [
        (Concern.SILENT, "no request"),
        (Concern.LAGGING, "acknowledged"),
        (Concern.EXPIRING, "expires"),
    ],
)
def test_every_concern_has_a_sentence(concern, phrase):
    assert phrase in Alert("One", concern, 0).text


def test_uses_of_a_key_are_written_once_per_hour(service):
    uses, now = KeyUses(), service.clock()
    uses.record(1, now)
    uses.record(1, now)
    assert uses.take() == {1: hour(now)}
    uses.record(1, now)
    assert uses.take() == {}
    service.clock.advance(hours=1)
    uses.record(1, service.clock())
    lost = uses.take()
    uses.record(2, now)
    uses.restore(lost)
    assert uses.take() == {1: hour(service.clock()), 2: hour(now)}


def test_requests_to_the_stopncii_api_count_as_uses(service):
    platform = service.platform("One", [Scope.FEED])
    keys = {"x-functions-key": platform.key, "Ocp-Apim-Subscription-Key": platform.key}
    assert service.client.get("/stopncii/v1/FetchHashes", headers=keys).status_code == 200
    assert written_uses(service) == [hour(service.clock())]
