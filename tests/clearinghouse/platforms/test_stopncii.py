"""The StopNCII-compatible API: requests, records, pages and feedback."""

import secrets
from collections import Counter
from contextlib import contextmanager

import pytest

from clearinghouse.database.queries.platforms import Platforms
from clearinghouse.database.store import Store
from clearinghouse.platforms import keys, verdicts
from clearinghouse.platforms.keys import Scope
from clearinghouse.times import hour
from support.serving import item, pdq, problem
from support.stopncii import (
    API,
    feedback,
    feedback_on,
    fetch,
    fetch_all,
    key_headers,
    submit,
    values,
)

OPERATIONS = [
    ("GET", "FetchHashes", Scope.FEED, None),
    (
        "POST",
        "SubmitFeedback",
        Scope.FEEDBACK,
        {"count": 1, "hashFeedbacks": [{"feedbackValue": "Blocked", "hashValue": "0" * 64}]},
    ),
    (
        "POST",
        "SubmitHashes",
        Scope.CONTRIBUTE,
        {"count": 1, "hashRecords": [{"signalType": "ImagePDQ", "hashValue": "0" * 64}]},
    ),
]


@pytest.mark.parametrize(("method", "path", "scope", "body"), OPERATIONS)
def test_every_operation_needs_both_headers_and_its_scope(service, method, path, scope, body):
    def send(headers):
        return service.client.request(method, f"{API}/{path}", json=body, headers=headers)

    right = service.platform("Right", [scope])
    others = service.platform("Others", [s for s in Scope if s is not scope])
    problem(send({}), 401, "credentials_missing")
    problem(send({"Authorization": f"Bearer {right.key}"}), 401, "credentials_missing")
    problem(send({"x-functions-key": right.key}), 401, "credentials_missing")
    problem(send({"Ocp-Apim-Subscription-Key": right.key}), 401, "credentials_missing")
    problem(send(key_headers("nciik_wrong")), 401, "credentials_wrong")
    problem(send(key_headers(right.key, others.key)), 401, "credentials_wrong")
    problem(send(key_headers(others.key)), 403, "scope_missing")
    assert send(key_headers(right.key)).status_code == 200
    newer = keys.rotate_key(service.parts.store, "Right", service.clock())
    assert send(key_headers(newer, right.key)).status_code == 200, "two keys of one platform"
    keys.revoke_keys(service.parts.store, "Right", None, service.clock())
    problem(send(key_headers(right.key)), 401, "credentials_wrong")


def test_records_have_the_form_that_clients_read(service):
    image, video = pdq(), secrets.token_hex(16)
    service.open(
        item(image),
        {"media": "video", "signals": [{"type": "md5", "value": video}]},
    )
    # not part of this format: frames of a video, the digest of an image, other types
    service.open(
        item(pdq(), media="video"),
        {"media": "image", "signals": [{"type": "md5", "value": secrets.token_hex(16)}]},
        {"media": "video", "signals": [{"type": "sha256", "value": pdq()}]},
        {"media": "image", "signals": [{"type": "phash", "value": secrets.token_hex(8)}]},
    )
    peer = service.platform()
    page = fetch(peer)
    assert set(page) == {
        "count",
        "nextPageToken",
        "nextSetTimestamp",
        "hasMoreRecords",
        "hashRecords",
    }
    hour_ = hour(service.clock())
    assert (page["count"], page["nextSetTimestamp"], page["hasMoreRecords"]) == (2, hour_, False)
    records = sorted(page["hashRecords"], key=lambda record: record["signalType"])
    for record, kind, value in zip(records, ("ImagePDQ", "VideoMD5"), (image, video), strict=True):
        [(number, state)] = record.pop("caseNumbers").items()
        assert len(number) == 36
        assert state == "Active"
        assert record == {
            "lastModtimestamp": hour_,
            "signalType": kind,
            "hashValue": value,
            "hashStatus": "Active",
            "CSPFeedbacks": [],
        }


def test_an_empty_page_keeps_the_requested_timestamp(service):
    peer = service.platform()
    assert fetch(peer)["nextSetTimestamp"] == 10
    assert fetch(peer, startTimestamp=2**33)["nextSetTimestamp"] == 2**33
    [case] = [service.open()]
    case.withdraw()
    assert fetch(peer, startTimestamp=77) == {
        "count": 0,
        "nextPageToken": None,
        "nextSetTimestamp": 77,
        "hasMoreRecords": False,
        "hashRecords": [],
    }


def test_withdrawn_hashes_are_in_no_page(service):
    kept, withdrawn, twice = pdq(), pdq(), pdq()
    service.open(item(kept))
    case, first = service.open(item(withdrawn)), service.open(item(twice))
    service.open(item(twice))
    peer = service.platform()
    before = fetch_all(peer)
    assert sorted(values(before)) == sorted([kept, withdrawn, twice]), "each value once"
    case.withdraw()
    first.withdraw()
    found = fetch_all(peer)
    assert sorted(values(found)) == sorted([kept, twice])
    assert "Withdrawn" not in str(found)


def test_case_numbers_of_records_cannot_be_linked(service):
    """Promise 8: a number of its own per record and platform, although all are of one case."""
    service.open(*(item(pdq()) for _ in range(5)))
    numbers = [
        [n for r in fetch_all(service.platform(name)) for n in r["caseNumbers"]]
        for name in ("One", "Two")
    ]
    assert len({*numbers[0], *numbers[1]}) == 10


@pytest.mark.sqlite  # nothing in it depends on the database, and it takes a while
def test_many_records_of_one_hour_are_read_in_pages(service):
    """A thousand: their timestamps spread, no reader stalls, and a stop loses nothing."""
    hashes = [pdq() for _ in range(1000)]
    for start in range(0, 1000, 200):
        service.open(*(item(v) for v in hashes[start : start + 200]))
    peer = service.platform()
    whole = fetch_all(peer)
    seen = values(whole)
    assert sorted(seen) == sorted(hashes)
    for start in range(0, 1000, 200):
        case = set(hashes[start : start + 200])
        assert set(seen[start : start + 200]) == case, "case by case, as in the log"
    shared = Counter(r["lastModtimestamp"] for r in whole)
    assert max(shared.values()) == 100
    assert len(shared) == 10
    for size in (1, 100, 150, 800):
        start, seen, pages = 10, {}, 0
        while True:  # a reader that stops after every page and resumes
            page = fetch(peer, startTimestamp=start, pageSize=size)
            assert page["nextSetTimestamp"] >= start
            seen |= {r["hashValue"]: r for r in page["hashRecords"]}
            pages += 1
            if not page["hasMoreRecords"]:
                break
            assert page["nextSetTimestamp"] > start, "otherwise it would stall"
            start = page["nextSetTimestamp"]
        assert set(seen) == set(hashes)
        assert pages <= 1000 if size < 101 else pages <= 20


def test_timestamps_never_decrease_when_the_clock_is_set_back(service):
    peer = service.platform()
    last = 0
    for days in (0, 5, -9, 1, 400, -400):
        service.clock.advance(days=days)
        value = pdq()
        service.open(item(value))
        page = fetch(peer, startTimestamp=last or 10)
        assert value in values(page["hashRecords"]), "a reader that resumes gets it"
        assert page["nextSetTimestamp"] >= last
        last = page["nextSetTimestamp"]
        peer = service.platform(f"Peer {days}") if days == 400 else peer


def test_invalid_page_tokens_and_numbers_are_refused(service):
    service.open(*(item(pdq()) for _ in range(150)))
    ours, theirs = service.platform("Ours"), service.platform("Theirs")

    def fetch_page(peer, **query):
        return service.client.get(f"{API}/FetchHashes", params=query, headers=key_headers(peer.key))

    token = fetch_page(ours, pageSize=101).json()["nextPageToken"]
    assert len(fetch_page(ours, nextPageToken=token).json()["hashRecords"]) == 49
    # one in 256 decrypts to a token of an unknown epoch
    assert fetch_page(theirs, nextPageToken=token).json()["code"] in {
        "bad_cursor",
        "cursor_expired",
    }
    problem(fetch_page(ours, nextPageToken="p2"), 400, "bad_cursor")
    cursor = ours.feed()["cursor"]
    problem(fetch_page(ours, nextPageToken=cursor), 400, "bad_cursor")
    for query in (
        {"startTimestamp": -1},
        {"startTimestamp": 2**63},
        {"startTimestamp": "soon"},
        {"pageSize": 0},
        {"pageSize": 10_001},
        {"nextPageToken": "0" * 65},
    ):
        problem(fetch_page(ours, **query), 422, "invalid_request")
    platform = keys.authorize(service.parts.store, ours.key, {Scope.FEED}, service.clock())
    ids = platform.ids
    other = ids.write(ids.PAGE, [5], epoch=service.parts.store.epoch ^ 1)[0]
    problem(fetch_page(ours, nextPageToken=other), 410, "cursor_expired")


def test_feedback_moves_the_record_in_its_own_platforms_list_only(service):
    hashes = [pdq() for _ in range(3)]
    case = service.open(*(item(v) for v in hashes))
    ours, theirs = service.platform("Ours"), service.platform("Theirs")
    start = fetch(ours)["nextSetTimestamp"]
    service.clock.advance(hours=2)
    reply = feedback(ours, hashes[0], "Blocked")
    assert (reply.status_code, reply.json()) == (200, {"count": 1})
    fresh = fetch(ours, startTimestamp=start + 1)
    [record] = fresh["hashRecords"]
    assert record["hashValue"] == hashes[0]
    assert record["CSPFeedbacks"] == [{"source": "Ours", "feedbackValue": "Blocked"}]
    assert record["lastModtimestamp"] == hour(service.clock())
    in_theirs = values(fetch_all(theirs))
    assert sorted(in_theirs) == sorted(hashes)
    others = [value for value in in_theirs if value != hashes[0]]
    assert values(fetch_all(ours)) == [*others, hashes[0]], "each once, in order"
    assert "Blocked" not in str(fetch_all(theirs))
    service.clock.advance(days=1)
    by_name = {p["platform"]: p["verdicts"] for p in case.status()["items"][0]["platforms"]}
    assert by_name == {"Ours": {"blocked": 1}, "Theirs": {}}


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        ("PendingReview", "pending"),
        ("Blocked", "blocked"),
        ("NotBlocked", "not_blocked"),
        ("Unknown", "unsure"),
        ("None", "unsure"),
        ("QualityUnknown", "unsure"),
        ("Withdrawn", "unsure"),
        ("Deleted", "unsure"),
    ],
)
def test_feedback_is_a_verdict_on_every_file_with_the_hash(service, value, verdict):
    pdq_value = pdq()
    cases = [service.open(item(pdq_value)) for _ in range(2)]
    peer = service.platform()
    assert feedback(peer, pdq_value, value).status_code == 200
    service.clock.advance(days=1)
    for case in cases:
        [seen] = case.status()["items"][0]["platforms"]
        assert seen["verdicts"] == {verdict: 1}
    [record] = fetch_all(peer)
    assert len(record["CSPFeedbacks"]) == 1


def test_feedback_on_a_value_of_many_files_uses_several_transactions(service, monkeypatch):
    """So that it does not block other writers for as long as it has files."""
    value, other = pdq(), pdq()
    cases = [service.open(*(item(value) for _ in range(10))) for _ in range(5)]
    service.open(item(other))
    peer = service.platform()
    counts, add, write = [], Platforms.add_verdict, Store.write

    @contextmanager
    def begin(store):
        counts.append(0)
        with write(store) as tx:
            yield tx

    def count(*args):
        counts[-1] += 1
        return add(*args)

    monkeypatch.setattr(Store, "write", begin)
    monkeypatch.setattr(Platforms, "add_verdict", count)
    sent = [(value, "PendingReview"), (other, "Blocked"), (value, "Blocked")]
    assert feedback_on(peer, *sent).status_code == 200
    assert (sum(counts), max(counts)) == (51, verdicts.BATCH), "each once, in batches"
    service.clock.advance(days=1)
    for case in cases:
        for file in case.status()["items"]:
            assert file["platforms"][0]["verdicts"] == {"blocked": 1}


def test_contributions_are_withdrawn_in_batches(service, monkeypatch):
    peer, mine = service.platform(), [pdq() for _ in range(300)]
    submit(peer, *mine).raise_for_status()
    began, write = [], Store.write

    def begin(store):
        began.append(1)
        return write(store)

    monkeypatch.setattr(Store, "write", begin)
    assert feedback_on(peer, *((value, "Withdrawn") for value in mine)).status_code == 200
    assert len(began) == 4, "three to withdraw them, and one to record verdicts"
    assert fetch_all(peer) == []


def test_verdicts_sent_to_v1_appear_in_records(service):
    service.open()
    peer = service.platform()
    [entry] = peer.feed()["entries"]
    peer.post("/v1/feedback", {"verdicts": [{"id": entry["id"], "verdict": "not_blocked"}]})
    [record] = fetch_all(peer)
    assert record["CSPFeedbacks"] == [{"source": "Example", "feedbackValue": "NotBlocked"}]


def test_feedback_does_not_reveal_which_values_are_known(service):
    value = pdq()
    service.open(item(value))
    peer = service.platform("Feedback", [Scope.FEEDBACK])
    known, unknown = (feedback(peer, v, "Blocked") for v in (value, pdq()))
    assert known.content == unknown.content
    assert known.status_code == unknown.status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"hashValue": "0" * 63},
        {"hashValue": "A" * 64},
        {"hashValue": None},
        {"feedbackValue": "Perhaps"},
        {"tags": ["x" * 201]},
        {"tags": ["x"] * 101},
    ],
)
def test_invalid_feedback_is_refused(service, change):
    peer = service.platform()
    entry = {"tags": [], "feedbackValue": "Blocked", "hashValue": "0" * 64} | change
    for body in (
        {"count": 1, "hashFeedbacks": [entry]},
        {"count": 0, "hashFeedbacks": []},
        {"count": 1001, "hashFeedbacks": [entry | {"hashValue": "0" * 64}] * 1001},
    ):
        url = f"{API}/SubmitFeedback"
        reply = service.client.post(url, json=body, headers=key_headers(peer.key))
        problem(reply, 422, "invalid_request")
