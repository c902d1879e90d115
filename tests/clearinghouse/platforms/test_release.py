"""Feeds that are given new hashes once in a period: none too early, none lost, removals at once."""

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
from support.serving import Clock, Running, item, pdq


@pytest.fixture
def service(settings):
    """Serve with periods of 30 minutes; the clock says 13:45:59."""
    clock = Clock()
    changed = replace(settings, release_every=30)
    with TestClient(create_app(changed, clock=clock), raise_server_exceptions=False) as client:
        yield Running(client.app, client, clock, changed)


@pytest.fixture
def peer(service):
    return service.platform()


def values(entries):
    return [entry["value"] for entry in entries if entry["op"] == "add"]


def fetched(service, peer, **query):
    headers = {"x-functions-key": peer.key, "Ocp-Apim-Subscription-Key": peer.key}
    reply = service.client.get("/stopncii/v1/FetchHashes", params=query, headers=headers)
    return [record["hashValue"] for record in reply.json()["hashRecords"]]


def snapshot(service, peer):
    text = service.client.get("/v1/feed/snapshot", headers=peer.headers).text
    lines = [json.loads(line) for line in text.splitlines()]
    return [entry["value"] for line in lines for entry in line["entries"]], lines[-1]["cursor"]


def test_new_hashes_wait_for_the_next_period(service, peer):
    first, second, third = pdq(), pdq(), pdq()
    service.open(item(first))
    service.clock.pass_(minutes=10)
    service.open(item(second))
    assert peer.feed()["entries"] == fetched(service, peer) == snapshot(service, peer)[0] == []
    assert len(peer.match(first)[0]) == 1, "who asks is answered at once"
    service.clock.pass_(minutes=4)  # 13:59:59
    assert peer.feed()["entries"] == []
    service.clock.pass_(seconds=1)
    page = peer.feed()
    assert values(page["entries"]) == [first, second] == fetched(service, peer)
    service.open(item(third))
    assert peer.feed(cursor=page["cursor"])["entries"] == []
    held, cursor = snapshot(service, peer)
    assert (held, cursor) == ([first, second], page["cursor"])
    assert fetched(service, peer) == [first, second]
    service.clock.pass_(minutes=30)
    assert values(peer.feed(cursor=cursor)["entries"]) == [third]


def test_what_was_not_given_out_is_not_confirmed(service, peer):
    """The answer of a match stands behind what it looked at; feeds are not given that far yet."""
    early, late = pdq(), pdq()
    cases = [service.open(item(early))]
    service.clock.pass_(minutes=30)
    cases.append(service.open(item(late)))
    service.caught_up()
    reply = peer.post("/v1/match", {"type": "pdq", "values": [late]}).json()
    assert len(reply["matches"][0]) == 1
    assert peer.post("/v1/feed/ack", {"cursor": reply["as_of"]}).status_code == 200

    def confirmed():
        files = [case.status()["items"][0]["platforms"] for case in cases]
        return [[bool(platform["has_it_since"]) for platform in found] for found in files]

    assert confirmed() == [[True], [False]]
    service.clock.pass_(minutes=30)
    assert confirmed() == [[True], [False]], "nor later, without another word"
    peer.post("/v1/feed/ack", {"cursor": peer.feed()["cursor"]}).raise_for_status()
    assert confirmed() == [[True], [True]]


def test_a_removal_waits_for_nothing(service, peer):
    early, late = pdq(), pdq()
    case = service.open(item(early))
    service.clock.pass_(minutes=30)
    cursor = peer.feed()["cursor"]
    service.open(item(late))
    assert peer.feed(cursor=cursor)["entries"] == []
    case.withdraw()
    page = peer.feed(cursor=cursor)
    assert [entry["op"] for entry in page["entries"]] == ["add", "remove"], "in their order"
    assert fetched(service, peer) == [late]
    new = pdq()
    service.open(item(new))
    assert peer.feed(cursor=page["cursor"])["entries"] == [], "and the next waits again"
    assert fetched(service, peer) == [late]


def test_a_removal_by_the_command_line_waits_for_nothing_either(service, peer, settings):
    """It is not told of the periods: `settings` has none."""
    store = Store.open(settings, clock=service.clock)
    value = pdq()
    service.open(item(value))
    assert peer.feed()["entries"] == []
    with store.write() as tx:
        [case] = tx.cases.expired(2**40, 10)
        tx.cases.withdraw_items(case, None, hour(service.clock()))
    assert [entry["op"] for entry in peer.feed()["entries"]] == ["remove"]
    store.close()


def test_what_verdicts_hold_back_is_removed_at_once(service):
    one, two = service.platform("One"), service.platform("Two")
    value = pdq()
    service.open(item(value))
    service.clock.pass_(minutes=30)
    cursor = one.feed()["cursor"]
    for peer in (one, two):
        [hit] = peer.match(value)[0]
        peer.post("/v1/feedback", {"verdicts": [{"id": hit["id"], "verdict": "not_blocked"}]})
    assert [entry["op"] for entry in one.feed(cursor=cursor)["entries"]] == ["remove"]
    assert fetched(service, one) == []


def test_a_verdict_does_not_hide_a_record_until_the_next_period(service, peer):
    value = pdq()
    service.open(item(value))
    service.clock.pass_(minutes=30)
    service.open(item(pdq()))
    headers = {"x-functions-key": peer.key, "Ocp-Apim-Subscription-Key": peer.key}
    feedback = {"hashValue": value, "feedbackValue": "Blocked"}
    body = {"count": 1, "hashFeedbacks": [feedback]}
    service.client.post("/stopncii/v1/SubmitFeedback", json=body, headers=headers)
    assert fetched(service, peer) == [value]


def test_a_waiting_reader_gets_them_when_the_period_ends(service, peer):
    """Nobody wakes it; the clock of this service is ours, so it is asked how long it would wait."""
    service.open()
    assert service.parts.store.releases.left() == 14 * 60 + 1
    page = peer.feed(wait=0.3)
    assert page["entries"] == []
    service.clock.pass_(minutes=14, seconds=1)
    assert len(peer.feed(cursor=page["cursor"], wait=20)["entries"]) == 1


def test_every_entry_comes_once_and_in_order_whatever_happens(service, peer):
    """Promise 6 under periods: readers of any speed hold what there is in the end."""
    chance = random.Random(7)
    cases, cursor, seen, bank = [], None, [], {}
    for _ in range(80):
        match chance.randrange(4):
            case 0 | 1:
                cases.append(service.open(item(pdq())))
            case 2 if cases:
                cases.pop(chance.randrange(len(cases))).withdraw()
            case _:
                service.clock.pass_(minutes=chance.choice([1, 7, 31]))
        page = peer.feed(limit=3, **({"cursor": cursor} if cursor else {}))
        cursor = page["cursor"]
        seen += page["entries"]
    service.clock.pass_(minutes=30)
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
    assert sorted(fetched(service, peer, pageSize=1000)) == sorted(bank.values())


def test_periods_can_be_ended_and_changed(service, peer, settings):
    service.open()
    assert peer.feed()["entries"] == []
    for every in (0, 30, 45):
        clock = service.clock
        with TestClient(create_app(replace(settings, release_every=every), clock=clock)) as client:
            other = client.get("/v1/feed", headers=peer.headers).json()["entries"]
            assert len(other) == (1 if every == 0 else 0)
            clock.pass_(minutes=45)
            other = client.get("/v1/feed", headers=peer.headers).json()["entries"]
            assert len(other) == 1
            clock.pass_(minutes=-45)


def test_no_more_than_a_day():
    assert Settings.from_environment({"CLEARINGHOUSE_RELEASE_EVERY": "60"}).release_every == 60
    for value in ("-1", "1441"):
        with pytest.raises(SettingInvalid, match="1440 minutes"):
            Settings.from_environment({"CLEARINGHOUSE_RELEASE_EVERY": value})
