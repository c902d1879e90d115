"""Verdict holds: limits, duration, release and purge."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from clearinghouse.abuse import review, verdict_holds
from clearinghouse.database import audit
from clearinghouse.database.schema import signals
from clearinghouse.maintenance.backup import back_up, restore
from clearinghouse.maintenance.key_rotation import rotate
from clearinghouse.maintenance.purge import purge
from clearinghouse.platforms.health import alerts
from nciihash.signals import Signal, SignalType
from support.serving import item, pdq


@pytest.fixture
def store(service):
    return service.parts.store


@pytest.fixture
def peers(service):
    return [service.platform(f"Platform {n}") for n in range(4)]


def run_purge(service):
    return purge(service.parts.store, retention_days=400, now=service.clock())


def submit_verdict(peer, value, verdict="not_blocked"):
    """Send a verdict on every live hash that equals a value."""
    hits = peer.match(value)[0]
    body = {"verdicts": [{"id": hit["id"], "verdict": verdict} for hit in hits]}
    assert peer.post("/v1/feedback", body).json()["recorded"] == len(hits) > 0


def hold(peers, value):
    for peer in peers[:2]:
        submit_verdict(peer, value)
    assert peers[0].match(value) == [[]]


def entries(peer, cursor=None):
    return peer.feed(**({"cursor": cursor} if cursor else {}))["entries"]


def snapshot(service, peer):
    lines = service.client.get("/v1/feed/snapshot", headers=peer.headers).text.splitlines()
    return [entry["value"] for line in lines for entry in json.loads(line)["entries"]]


def stored_values(store):
    with store.read() as tx:
        query = select(func.count(signals.c.value), func.count(signals.c.lookup))
        return tuple(tx.connection.execute(query).one())


def acts(store):
    with store.read() as tx:
        return [(row.act, row.subject, row.amount) for row in audit.entries(tx, 100)]


def asked(store):
    """Return the questions because of verdicts; those because of hits have tests of their own."""
    return [question for question in review.questions(store) if question.kind != "hits"]


def one(store):
    (question,) = asked(store)
    return question


def fetched(service, peer):
    headers = {"x-functions-key": peer.key, "Ocp-Apim-Subscription-Key": peer.key}
    reply = service.client.get("/stopncii/v1/FetchHashes", headers=headers).json()
    return [record["hashValue"] for record in reply["hashRecords"]]


def test_a_file_on_hold_does_not_match_and_is_not_published(service, store, peers):
    value, other = pdq(), pdq()
    case = service.open(item(value), item(other))
    hold(peers, value)
    assert stored_values(store) == (2, 2)
    assert [e.get("value") for e in entries(peers[3])] == [other, None]
    assert snapshot(service, peers[3]) == [other]
    assert fetched(service, peers[3]) == [other]
    first, second = case.status()["items"]
    assert (first["being_checked"], first["held_back"]) == (1, True)
    assert (first["withdrawn"], first["taken_out"]) == (None, None)
    assert (second["being_checked"], second["held_back"]) == (0, False)
    question = one(store)
    assert (question.kind, question.count, question.held) == ("verdicts", 2, 1)
    assert question.said_by == ("Platform 0", "Platform 1")
    assert ("file held back by verdicts", "Platform 1", 1) in acts(store)
    # a contribution does not bring it back
    headers = {"x-functions-key": peers[2].key, "Ocp-Apim-Subscription-Key": peers[2].key}
    record = {"signalType": "ImagePDQ", "hashValue": value}
    body = {"count": 1, "hashRecords": [record]}
    assert service.client.post("/stopncii/v1/SubmitHashes", json=body, headers=headers).is_success
    assert peers[2].match(value) == [[]]


def test_it_is_purged_after_seven_days(service, store, peers):
    value = pdq()
    case = service.open(item(value), item(pdq()))
    hold(peers, value)
    service.clock.advance(days=6, hours=23)
    assert run_purge(service).taken_out == 0
    service.clock.advance(hours=1)
    assert run_purge(service).taken_out == 1
    assert stored_values(store) == (1, 1)
    first, _ = case.status()["items"]
    assert (first["taken_out"], first["being_checked"]) == ("platforms", 0)
    assert first["withdrawn"] is not None
    assert asked(store) == []
    assert ("files purged after verdicts", "", 1) in acts(store)
    assert run_purge(service).taken_out == 0


def test_only_the_hashes_on_hold_of_a_file_are_purged(service, store, peers):
    value, other = pdq(), pdq()
    case = service.open(item(value, other))
    hold(peers, value)
    [file] = case.status()["items"]
    assert (file["being_checked"], file["held_back"]) == (1, False)
    service.clock.advance(days=7)
    assert run_purge(service).taken_out == 1
    [file] = case.status()["items"]
    assert (file["withdrawn"], file["taken_out"], file["being_checked"]) == (None, None, 0)
    assert asked(store) == []
    assert len(peers[0].match(other)[0]) == 1
    hold(peers, other)
    assert one(store).held == 1


def test_a_kept_file_is_published_again_with_its_id(service, store, peers):
    value = pdq()
    case = service.open(item(value), item(pdq()))
    page = peers[3].feed()
    peers[3].post("/v1/feed/ack", {"cursor": page["cursor"]})
    [mine] = [e for e in page["entries"] if e["value"] == value]
    hold(peers, value)
    removed = peers[3].feed(cursor=page["cursor"])
    peers[3].post("/v1/feed/ack", {"cursor": removed["cursor"]})
    service.clock.advance(days=5)
    review.keep(store, one(store).number, now=service.clock())
    service.parts.waiters.poke()
    assert entries(peers[3], removed["cursor"]) == [mine]
    assert len(peers[0].match(value)[0]) == 1
    assert value in fetched(service, peers[3])
    assert sorted(snapshot(service, peers[3])).count(value) == 1
    [file, _] = case.status()["items"]
    assert (file["being_checked"], file["held_back"], file["withdrawn"]) == (0, False, None)
    assert file["platforms"][3]["has_it_since"] is None, "not since it came back"
    with store.read() as tx:
        late = [a.platform for a in alerts(tx, now=service.clock()) if a.concern == "behind"]
    assert "Platform 3" not in late, "it has had no time to confirm"
    latest = peers[3].feed(cursor=removed["cursor"])
    peers[3].post("/v1/feed/ack", {"cursor": latest["cursor"]})
    [file, _] = case.status()["items"]
    assert file["platforms"][3]["has_it_since"] == "2026-05-22T13:00:00Z"
    assert [row for row in acts(store) if row[0] == "file kept"]
    case.withdraw(1)
    assert entries(peers[3], latest["cursor"]) == [{"op": "remove", "id": mine["id"]}]


def test_a_removed_file_is_purged_at_once(service, store, peers):
    value = pdq()
    case = service.open(item(value), item(pdq()))
    hold(peers, value)
    review.remove(store, one(store).number, now=service.clock())
    assert stored_values(store) == (1, 1)
    assert case.status()["items"][0]["taken_out"] == "operator"


def test_a_platform_that_blocks_it_releases_it(service, store, peers):
    value = pdq()
    service.open(item(value))
    [hit] = peers[2].match(value)[0]
    hold(peers, value)
    body = {"verdicts": [{"id": hit["id"], "verdict": "blocked"}]}
    assert peers[2].post("/v1/feedback", body).json()["recorded"] == 1
    assert len(peers[0].match(value)[0]) == 1
    assert asked(store) == []
    assert ("file put back by a verdict", "Platform 2", 1) in acts(store)


def test_stopncii_feedback_releases_it_too(service, store, peers):
    value = pdq()
    service.open(item(value))
    hold(peers, value)
    headers = {"x-functions-key": peers[2].key, "Ocp-Apim-Subscription-Key": peers[2].key}
    feedback = {"hashValue": value, "feedbackValue": "Blocked"}
    service.client.post(
        "/stopncii/v1/SubmitFeedback",
        json={"count": 1, "hashFeedbacks": [feedback]},
        headers=headers,
    )
    assert len(peers[0].match(value)[0]) == 1


def test_a_kept_file_is_not_put_on_hold_by_the_same_two(service, store, peers):
    value = pdq()
    service.open(item(value))
    hold(peers, value)
    review.keep(store, one(store).number, now=service.clock())
    service.parts.waiters.poke()
    service.clock.advance(days=3)
    for peer in peers[:2]:
        submit_verdict(peer, value)
    assert asked(store) == [], "it was decided"
    submit_verdict(peers[2], value)
    question = one(store)
    assert (question.count, question.held) == (3, 0), (
        "a third opens a question, and holds nothing back"
    )
    assert len(peers[0].match(value)[0]) == 1
    review.remove(store, question.number, now=service.clock())
    assert peers[0].match(value) == [[]]


def test_a_withdrawal_purges_it_at_once(service, store, peers):
    value = pdq()
    case = service.open(item(value))
    [hit] = peers[3].match(value)[0]
    hold(peers, value)
    assert case.withdraw(1).json()["withdrawn"] == 1
    assert stored_values(store) == (0, 0)
    assert asked(store) == []
    assert entries(peers[3])[-1] == {"op": "remove", "id": hit["id"]}
    assert case.status()["items"][0]["taken_out"] is None
    service.clock.advance(days=8)
    assert run_purge(service).taken_out == 0


def test_it_is_purged_when_the_case_expires(service, store, peers):
    value = pdq()
    service.open(item(value))
    service.clock.advance(days=729)
    hold([service.platform(f"New {n}") for n in range(2)], value)
    service.clock.advance(days=3)
    assert run_purge(service).expired == 1
    assert stored_values(store) == (0, 0)


def test_it_survives_a_change_of_the_master_key(service, store, peers):
    value = pdq()
    service.open(item(value))
    hold(peers, value)
    done = rotate(store, service.settings, now=service.clock(), pause=lambda _: None)
    assert (done.resealed, done.damaged) == (1, 0)
    refused = service.open(item(value)).reply["items"][0]["refused"]
    assert refused == [{"signal": 0, "code": "being_checked"}]
    first, again = asked(store)
    assert (first.kind, again.kind) == ("verdicts", "resubmitted")
    review.keep(store, first.number, now=service.clock())
    assert asked(store) == [], "the resubmitted file is published with it"
    service.parts.waiters.poke()
    assert len(peers[0].match(value)[0]) == 2


@pytest.mark.sqlite
@pytest.mark.parametrize("ended", [False, True])
def test_a_restore_brings_back_values_on_hold_but_not_withdrawn_ones(
    service, store, peers, tmp_path, ended
):
    value = pdq()
    case = service.open(item(value))
    back_up(service.settings, tmp_path / "backup")
    hold(peers, value)
    if ended:
        case.withdraw()
    assert restore(service.settings, tmp_path / "backup").withdrawn_again == ended
    assert stored_values(store) == (1 - ended, 1 - ended)


def test_a_resubmitted_file_is_on_hold_for_seven_days_at_most(service, store, peers):
    value = pdq()
    service.open(item(value))
    hold(peers, value)
    case = service.open(item(value), item(pdq()))
    assert case.reply["items"] == [
        {"item": 1, "accepted": 0, "refused": [{"signal": 0, "code": "being_checked"}]},
        {"item": 2, "accepted": 1, "refused": []},
    ]
    [file, _] = case.status()["items"]
    assert (file["held_back"], file["being_checked"]) == (True, 1)
    alone = service.open(item(value)).status()
    assert alone["state"] == "open", "a case may have only such files"
    assert [q.kind for q in asked(store)] == ["verdicts", "resubmitted", "resubmitted"]
    assert peers[0].match(value) == [[]]
    service.clock.advance(days=7)
    assert run_purge(service).taken_out == 1, "the first of the three"
    service.parts.waiters.poke()
    assert len(peers[0].match(value)[0]) == 2
    assert not case.status()["items"][0]["held_back"]
    for peer in peers[:2]:
        submit_verdict(peer, value)
    assert len(peers[0].match(value)[0]) == 2, "verdicts alone do not hold it back again"
    assert [q.kind for q in asked(store)] == ["verdicts", "verdicts"]


def test_submissions_do_not_keep_each_other_on_hold(service, store, peers):
    """Regression: each was put on hold because of the one before, if one came every week."""
    value = pdq()
    service.open(item(value))
    hold(peers, value)
    service.clock.advance(days=6)
    service.open(item(value))
    service.clock.advance(days=1)
    assert run_purge(service).taken_out == 1
    later = service.open(item(value), item(pdq()))
    assert [i["accepted"] for i in later.reply["items"]] == [1, 1]
    assert len(peers[0].match(value)[0]) == 1


def test_a_file_on_hold_near_a_lawful_picture_waits_for_both_decisions(service, store, peers):
    value = pdq()
    service.open(item(value))
    lawful = [Signal.from_hex(SignalType.PDQ, value)]
    review.list_lawful(store, lawful, now=service.clock())
    service.open(item(value))
    hold(peers, value)
    [question] = [q for q in asked(store) if q.kind == "quarantined"]
    review.keep(store, question.number, now=service.clock())
    service.parts.waiters.poke()
    assert peers[0].match(value) == [[]]
    assert "resubmitted" in [q.kind for q in asked(store)]


def test_no_deletion_is_reported_while_the_rest_of_a_file_matches(service, store, peers):
    value, other = pdq(), pdq()
    case = service.open(item(value, other))
    hold(peers, value)
    cursor = peers[0].feed()["cursor"]
    assert peers[0].post("/v1/feed/ack", {"cursor": cursor}).status_code == 200
    [platform, *_] = case.status()["items"][0]["platforms"]
    assert platform["deletion_acknowledged"] is None
    case.withdraw()
    cursor = peers[0].feed()["cursor"]
    peers[0].post("/v1/feed/ack", {"cursor": cursor})
    [platform, *_] = case.status()["items"][0]["platforms"]
    assert platform["deletion_acknowledged"] is not None


def test_a_resubmitted_file_can_be_decided_separately(service, store, peers):
    value = pdq()
    service.open(item(value))
    hold(peers, value)
    cases = [service.open(item(value)) for _ in range(2)]
    first, one, two = asked(store)
    review.keep(store, one.number, now=service.clock())
    assert [q.number for q in asked(store)] == [first.number, two.number]
    review.remove(store, two.number, now=service.clock())
    service.parts.waiters.poke()
    assert len(peers[0].match(value)[0]) == 1
    assert [case.status()["items"][0]["taken_out"] for case in cases] == [None, "operator"]


def test_the_limit_is_per_platform_and_day(service, store, peers, monkeypatch):
    monkeypatch.setattr(verdict_holds, "FILES_A_DAY", 3)
    values = [pdq() for _ in range(8)]
    service.open(*(item(value) for value in values))
    for value in values[:4]:
        for peer in peers[:2]:
            submit_verdict(peer, value)
    live = [len(row) for row in peers[0].match(*values)]
    assert live == [0, 0, 0, 1, 1, 1, 1, 1]
    submit_verdict(peers[3], values[4])
    submit_verdict(peers[0], values[4])
    assert len(peers[0].match(values[4])[0]) == 1, "one of the two is at its limit"
    submit_verdict(peers[2], values[5])
    submit_verdict(peers[3], values[5])
    assert peers[0].match(values[5]) == [[]], "two others are not"
    service.clock.advance(days=1)
    for peer in peers[:2]:
        submit_verdict(peer, values[3])
        submit_verdict(peer, values[6])
    live = [len(row) for row in peers[0].match(*values)]
    assert live == [0, 0, 0, 1, 1, 0, 0, 1], "a file with an open question is left to the operator"
    assert [q.held for q in asked(store)] == [1, 1, 1, 0, 0, 1, 1]
    assert review.put_back(store, 1, now=service.clock()) == 6
    assert [q.said_by for q in asked(store)] == [("Platform 2", "Platform 3")]


def test_several_hashes_of_a_file_count_once(service, peers, monkeypatch):
    monkeypatch.setattr(verdict_holds, "FILES_A_DAY", 1)
    values = [pdq() for _ in range(4)]
    service.open(item(*values[:3]), item(values[3]))
    for value in values:
        for peer in peers[:2]:
            submit_verdict(peer, value)
    assert [len(row) for row in peers[0].match(*values)] == [0, 0, 0, 1]


def test_the_limit_holds_under_concurrent_verdicts(service, store, peers):
    values = [pdq() for _ in range(40)]
    service.open(*(item(value) for value in values))
    verdicts = [
        (peer, hit["id"]) for peer in peers[:2] for [hit] in peer.match(*values) if hit is not None
    ]

    def post(verdict):
        peer, id = verdict
        body = {"verdicts": [{"id": id, "verdict": "not_blocked"}]}
        while (reply := peer.post("/v1/feedback", body)).status_code == 503:
            pass  # many concurrent writes: retry, as the response asks
        assert reply.status_code == 200

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(post, verdicts))
    live = [len(row) for row in peers[0].match(*values)]
    assert live.count(0) == 20
    assert sum(act == "file held back by verdicts" for act, _, _ in acts(store)) == 20


def test_the_limit_grows_with_the_bank():
    assert [verdict_holds.daily_limit(n) for n in (0, 20_000, 20_001, 1_000_000)] == [
        20,
        20,
        21,
        1_000,
    ]
