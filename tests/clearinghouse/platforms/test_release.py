"""Release periods: feeds get new hashes together at the end of each, removals at once."""

import json
import random
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from clearinghouse.app import create_app
from clearinghouse.database.store import Store
from clearinghouse.errors import SettingInvalid
from clearinghouse.settings import Settings
from clearinghouse.times import hour
from support.serving import Clock, RunningService, item, pdq


@pytest.fixture
def service(settings):
    """A service with release periods of 30 minutes, at 13:45:59."""
    clock = Clock()
    changed = replace(settings, release_every=30)
    with TestClient(create_app(changed, clock=clock), raise_server_exceptions=False) as client:
        yield RunningService(client.app, client, clock, changed)


@pytest.fixture
def peer(service):
    return service.platform()


def values(entries):
    return [entry["value"] for entry in entries if entry["op"] == "add"]


def fetched_values(service, peer, **query):
    headers = {"x-functions-key": peer.key, "Ocp-Apim-Subscription-Key": peer.key}
    reply = service.client.get("/stopncii/v1/FetchHashes", params=query, headers=headers)
    return [record["hashValue"] for record in reply.json()["hashRecords"]]


def snapshot(service, peer):
    """Return the values in a snapshot, and its last cursor."""
    text = service.client.get("/v1/feed/snapshot", headers=peer.headers).text
    lines = [json.loads(line) for line in text.splitlines()]
    return [entry["value"] for line in lines for entry in line["entries"]], lines[-1]["cursor"]


def test_new_hashes_are_released_at_the_end_of_the_period(service, peer):
    first, second, third = pdq(), pdq(), pdq()
    service.open(item(first))
    service.clock.advance(minutes=10)
    service.open(item(second))
    assert (
        peer.feed()["entries"] == fetched_values(service, peer) == snapshot(service, peer)[0] == []
    )
    assert len(peer.match(first)[0]) == 1, "a match query finds it at once"
    service.clock.advance(minutes=4)  # 13:59:59
    assert peer.feed()["entries"] == []
    service.clock.advance(seconds=1)
    page = peer.feed()
    assert values(page["entries"]) == [first, second] == fetched_values(service, peer)
    service.open(item(third))
    assert peer.feed(cursor=page["cursor"])["entries"] == []
    released, cursor = snapshot(service, peer)
    assert (released, cursor) == ([first, second], page["cursor"])
    assert fetched_values(service, peer) == [first, second]
    service.clock.advance(minutes=30)
    assert values(peer.feed(cursor=cursor)["entries"]) == [third]


def test_unreleased_hashes_cannot_be_acknowledged(service, peer):
    """`as_of` of a match covers entries that feeds have not been sent yet."""
    early, late = pdq(), pdq()
    cases = [service.open(item(early))]
    service.clock.advance(minutes=30)
    cases.append(service.open(item(late)))
    service.caught_up()
    reply = peer.post("/v1/match", {"type": "pdq", "values": [late]}).json()
    assert len(reply["matches"][0]) == 1
    assert peer.post("/v1/feed/ack", {"cursor": reply["as_of"]}).status_code == 200

    def acknowledged():
        files = [case.status()["items"][0]["platforms"] for case in cases]
        return [[bool(platform["has_it_since"]) for platform in found] for found in files]

    assert acknowledged() == [[True], [False]]
    service.clock.advance(minutes=30)
    assert acknowledged() == [[True], [False]], "nor later, without another acknowledgement"
    peer.post("/v1/feed/ack", {"cursor": peer.feed()["cursor"]}).raise_for_status()
    assert acknowledged() == [[True], [True]]


def test_a_removal_is_sent_at_once(service, peer):
    early, late = pdq(), pdq()
    case = service.open(item(early))
    service.clock.advance(minutes=30)
    cursor = peer.feed()["cursor"]
    service.open(item(late))
    assert peer.feed(cursor=cursor)["entries"] == []
    case.withdraw()
    page = peer.feed(cursor=cursor)
    assert [entry["op"] for entry in page["entries"]] == ["add", "remove"], "in log order"
    assert fetched_values(service, peer) == [late]
    new = pdq()
    service.open(item(new))
    assert peer.feed(cursor=page["cursor"])["entries"] == [], "later hashes wait again"
    assert fetched_values(service, peer) == [late]


def test_a_removal_by_the_command_line_is_sent_at_once(service, peer, settings):
    """It does not know the periods: `settings` has none."""
    store = Store.open(settings, clock=service.clock)
    value = pdq()
    service.open(item(value))
    assert peer.feed()["entries"] == []
    with store.write() as tx:
        [case] = tx.cases.list_expired(2**40, 10)
        tx.cases.withdraw_items(case, None, hour(service.clock()))
    assert [entry["op"] for entry in peer.feed()["entries"]] == ["remove"]
    store.close()


def test_hashes_removed_by_verdicts_are_removed_at_once(service):
    one, two = service.platform("One"), service.platform("Two")
    value = pdq()
    service.open(item(value))
    service.clock.advance(minutes=30)
    cursor = one.feed()["cursor"]
    for peer in (one, two):
        [hit] = peer.match(value)[0]
        peer.post("/v1/feedback", {"verdicts": [{"id": hit["id"], "verdict": "not_blocked"}]})
    assert [entry["op"] for entry in one.feed(cursor=cursor)["entries"]] == ["remove"]
    assert fetched_values(service, one) == []


def test_a_verdict_does_not_hide_a_record_until_the_next_period(service, peer):
    value = pdq()
    service.open(item(value))
    service.clock.advance(minutes=30)
    service.open(item(pdq()))
    headers = {"x-functions-key": peer.key, "Ocp-Apim-Subscription-Key": peer.key}
    feedback = {"hashValue": value, "feedbackValue": "Blocked"}
    body = {"count": 1, "hashFeedbacks": [feedback]}
    service.client.post("/stopncii/v1/SubmitFeedback", json=body, headers=headers)
    assert fetched_values(service, peer) == [value]


def test_a_long_poll_gets_new_hashes_when_the_period_ends(service, peer):
    """Nothing wakes it, and its clock is ours, so the length of its wait is checked."""
    service.open()
    assert service.parts.store.releases.left() == 14 * 60 + 1
    page = peer.feed(wait=0.3)
    assert page["entries"] == []
    service.clock.advance(minutes=14, seconds=1)
    assert len(peer.feed(cursor=page["cursor"], wait=20)["entries"]) == 1


def test_the_feed_is_complete_and_in_order_under_release_periods(service, peer):
    """Promise 6: after random writes and reads, the bank of a reader equals the snapshot."""
    draw = random.Random(7)
    cases, cursor, seen, bank = [], None, [], {}
    for _ in range(80):
        match draw.randrange(4):
            case 0 | 1:
                cases.append(service.open(item(pdq())))
            case 2 if cases:
                cases.pop(draw.randrange(len(cases))).withdraw()
            case _:
                service.clock.advance(minutes=draw.choice([1, 7, 31]))
        page = peer.feed(limit=3, **({"cursor": cursor} if cursor else {}))
        cursor = page["cursor"]
        seen += page["entries"]
    service.clock.advance(minutes=30)
    while (page := peer.feed(cursor=cursor, limit=3))["entries"]:
        cursor = page["cursor"]
        seen += page["entries"]
    for entry in seen:
        if entry["op"] == "add":
            assert entry["id"] not in bank
            bank[entry["id"]] = entry["value"]
        else:
            bank.pop(entry["id"], None)
    assert sorted(bank.values()) == sorted(snapshot(service, peer)[0])
    assert len(bank) == len(cases)
    assert sorted(fetched_values(service, peer, pageSize=1000)) == sorted(bank.values())


def test_the_period_can_be_changed_and_disabled(service, peer, settings):
    service.open()
    assert peer.feed()["entries"] == []
    for every in (0, 30, 45):
        clock = service.clock
        with TestClient(create_app(replace(settings, release_every=every), clock=clock)) as client:
            other = client.get("/v1/feed", headers=peer.headers).json()["entries"]
            assert len(other) == (1 if every == 0 else 0)
            clock.advance(minutes=45)
            other = client.get("/v1/feed", headers=peer.headers).json()["entries"]
            assert len(other) == 1
            clock.advance(minutes=-45)


def test_a_period_is_at_most_a_day():
    assert Settings.from_environment({"CLEARINGHOUSE_RELEASE_EVERY": "60"}).release_every == 60
    for value in ("-1", "1441"):
        with pytest.raises(SettingInvalid, match="1440 minutes"):
            Settings.from_environment({"CLEARINGHOUSE_RELEASE_EVERY": value})
