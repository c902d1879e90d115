"""The StopNCII-compatible API: contributed hashes."""

import secrets
from dataclasses import replace

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from clearinghouse.app import create_app
from clearinghouse.database.schema import signals
from clearinghouse.maintenance.purge import expire
from clearinghouse.platforms import keys
from support.serving import Clock, RunningService, item, pdq, problem
from support.stopncii import API, feedback, fetch_all, key_headers, submit, values


def test_implausible_pdq_values_are_skipped(service):
    contributor, other, image = service.platform("Contributor"), service.platform("Other"), pdq()
    assert submit(contributor, "0" * 64, image, "f" * 64).json() == {"count": 3}
    assert values(fetch_all(other)) == [image]


def test_platforms_contribute_and_withdraw_hashes(service):
    contributor, other = service.platform("Contributor"), service.platform("Other")
    image, video = pdq(), secrets.token_hex(16)
    assert submit(contributor, image).json() == {"count": 1}
    assert (
        submit(contributor, video, type="VideoMD5", feedback_value="PendingReview").status_code
        == 200
    )
    assert submit(contributor, image).status_code == 200, "repeating it changes nothing"
    assert sorted(values(fetch_all(other))) == sorted([image, video])
    assert [len(hits) for hits in other.match(image)] == [1]
    entries = other.feed()["entries"]
    assert [(e["type"], e["quality"], e["media"]) for e in entries] == [
        ("pdq", None, "image"),
        ("md5", None, "video"),
    ]
    recorded = {r["hashValue"]: r["CSPFeedbacks"] for r in fetch_all(contributor)}
    assert recorded[image] == [{"source": "Contributor", "feedbackValue": "Blocked"}]
    assert recorded[video] == [{"source": "Contributor", "feedbackValue": "PendingReview"}]
    # another platform cannot withdraw them
    feedback(other, image, "Deleted")
    submit(other, image, feedback_value="Withdrawn")
    assert image in values(fetch_all(contributor))
    submit(contributor, image, feedback_value="Withdrawn")
    feedback(contributor, video, "Deleted")
    assert fetch_all(contributor) == fetch_all(other) == []
    assert other.match(image) == [[]]
    assert [e["op"] for e in service.platform("Late").feed()["entries"]] == ["remove", "remove"]
    submit(contributor, image)
    assert values(fetch_all(other)) == [image], "and it can be added again"


def test_hashes_sent_back_from_the_feed_end_with_a_survivors_withdrawal(service):
    """Promise 4, with a platform that contributes everything that it got from the feed."""
    value = pdq()
    case = service.open(item(value))
    peer = service.platform()
    submit(peer, *values(fetch_all(peer)))
    assert len(peer.feed()["entries"]) == 1
    case.withdraw()
    assert fetch_all(peer) == []
    assert peer.match(value) == [[]]


@pytest.fixture
def limited(settings):
    """A service where a platform may contribute three hashes."""
    clock = Clock()
    changed = replace(settings, contributions_max=3)
    app = create_app(changed, clock=clock)
    with TestClient(app) as client:
        yield RunningService(app, client, clock, changed)


def test_the_number_of_contributions_is_limited(limited):
    service = limited
    peer = service.platform()
    first = [pdq() for _ in range(3)]
    assert submit(peer, *first).status_code == 200
    problem(submit(peer, pdq()), 422, "contributions_full")
    submit(peer, first[0], feedback_value="Deleted")
    assert submit(peer, pdq()).status_code == 200
    assert len(fetch_all(peer)) == 3
    other = service.platform("Other")
    assert submit(other, pdq()).status_code == 200, "each platform has its own limit"
    problem(submit(peer, *[pdq()] * 1001), 422, "invalid_request")


@pytest.mark.parametrize(
    "change",
    [
        {"signalType": "VideoTMK"},
        {"signalType": "URL", "hashValue": "https://example.org/"},
        {"signalType": "VideoMD5"},
        {"hashValue": "0" * 32},
        {"signalType": "Evil.ImagePDQ"},
    ],
)
def test_a_request_with_an_invalid_hash_is_refused_as_a_whole(service, change):
    peer = service.platform()
    good = {"signalType": "ImagePDQ", "hashValue": pdq(), "CSPFeedbacks": []}
    body = {"count": 2, "hashRecords": [good, good | change]}
    reply = service.client.post(f"{API}/SubmitHashes", json=body, headers=key_headers(peer.key))
    problem(reply, 422, "invalid_request")
    assert fetch_all(peer) == []


def test_contributions_expire_when_their_platform_sends_none(service):
    peer = service.platform()
    value = pdq()
    submit(peer, value)
    service.clock.advance(days=390)
    keys.rotate_key(service.parts.store, "Example", service.clock())
    submit(peer, pdq())  # renews
    service.clock.advance(days=700)
    assert expire(service.parts.store, service.clock()) == 0
    service.clock.advance(days=100)
    assert expire(service.parts.store, service.clock()) == 1
    late = service.platform("Late")
    assert fetch_all(late) == []
    submit(late, value)
    assert values(fetch_all(late)) == [value]


def test_nobody_can_open_the_case_of_contributions(service):
    submit(service.platform(), pdq())
    with service.parts.store.read() as tx:
        figures = tx.figures.totals()
        [row] = tx.connection.execute(select(signals.c.value)).all()
    assert row.value
    assert (figures["cases_open"], figures["signals"]) == (0, 1)
    assert figures["signals_not_from_survivors"] == 1
