"""The StopNCII-compatible API: hashes that platforms contribute."""

import secrets
from dataclasses import replace

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from clearinghouse.app import create_app
from clearinghouse.database.schema import signals
from clearinghouse.maintenance.purge import expire
from clearinghouse.platforms import keys
from support.serving import Clock, Running, item, pdq, problem
from support.stopncii import DOOR, both, feedback, fetch_all, submit, values


def test_what_pdq_cannot_give_is_skipped(service):
    giver, other, image = service.platform("Giver"), service.platform("Other"), pdq()
    assert submit(giver, "0" * 64, image, "f" * 64).json() == {"count": 3}
    assert values(fetch_all(other)) == [image]


def test_platforms_add_hashes_and_take_them_back(service):
    giver, other = service.platform("Giver"), service.platform("Other")
    image, video = pdq(), secrets.token_hex(16)
    assert submit(giver, image).json() == {"count": 1}
    assert submit(giver, video, type="VideoMD5", said="PendingReview").status_code == 200
    assert submit(giver, image).status_code == 200, "again changes nothing"
    assert sorted(values(fetch_all(other))) == sorted([image, video])
    assert [len(hits) for hits in other.match(image)] == [1]
    entries = other.feed()["entries"]
    assert [(e["type"], e["quality"], e["media"]) for e in entries] == [
        ("pdq", None, "image"),
        ("md5", None, "video"),
    ]
    said = {r["hashValue"]: r["CSPFeedbacks"] for r in fetch_all(giver)}
    assert said[image] == [{"source": "Giver", "feedbackValue": "Blocked"}]
    assert said[video] == [{"source": "Giver", "feedbackValue": "PendingReview"}]
    # nobody else can take it back
    feedback(other, image, "Deleted")
    submit(other, image, said="Withdrawn")
    assert image in values(fetch_all(giver))
    submit(giver, image, said="Withdrawn")
    feedback(giver, video, "Deleted")
    assert fetch_all(giver) == fetch_all(other) == []
    assert other.match(image) == [[]]
    assert [e["op"] for e in service.platform("Late").feed()["entries"]] == ["remove", "remove"]
    submit(giver, image)
    assert values(fetch_all(other)) == [image], "and it can be added again"


def test_a_platforms_echo_never_outlives_a_survivors_withdrawal(service):
    """Promise 4, against a platform that sends back everything that it was given."""
    value = pdq()
    case = service.open(item(value))
    peer = service.platform()
    submit(peer, *values(fetch_all(peer)))
    assert len(peer.feed()["entries"]) == 1
    case.withdraw()
    assert fetch_all(peer) == []
    assert peer.match(value) == [[]]


@pytest.fixture
def narrow(settings):
    """A service where a platform may contribute three hashes."""
    clock = Clock()
    narrow = replace(settings, contributions_max=3)
    app = create_app(narrow, clock=clock)
    with TestClient(app) as client:
        yield Running(app, client, clock, narrow)


def test_contributions_are_bounded(narrow):
    service = narrow
    peer = service.platform()
    first = [pdq() for _ in range(3)]
    assert submit(peer, *first).status_code == 200
    problem(submit(peer, pdq()), 422, "contributions_full")
    submit(peer, first[0], said="Deleted")
    assert submit(peer, pdq()).status_code == 200
    assert len(fetch_all(peer)) == 3
    other = service.platform("Other")
    assert submit(other, pdq()).status_code == 200, "each platform has its own bound"
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
def test_hashes_of_another_form_are_refused_whole(service, change):
    peer = service.platform()
    good = {"signalType": "ImagePDQ", "hashValue": pdq(), "CSPFeedbacks": []}
    body = {"count": 2, "hashRecords": [good, good | change]}
    reply = service.client.post(f"{DOOR}/SubmitHashes", json=body, headers=both(peer.key))
    problem(reply, 422, "invalid_request")
    assert fetch_all(peer) == []


def test_contributions_expire_when_their_platform_is_gone(service):

    peer = service.platform()
    value = pdq()
    submit(peer, value)
    service.clock.pass_(days=390)
    keys.rotate_key(service.parts.store, "Example", service.clock())
    submit(peer, pdq())  # renews
    service.clock.pass_(days=700)
    assert expire(service.parts.store, service.clock()) == 0
    service.clock.pass_(days=100)
    assert expire(service.parts.store, service.clock()) == 1
    late = service.platform("Late")
    assert fetch_all(late) == []
    submit(late, value)
    assert values(fetch_all(late)) == [value]


def test_nobody_can_open_a_platforms_case(service):
    submit(service.platform(), pdq())
    with service.parts.store.read() as tx:
        figures = tx.figures.totals()
        [row] = tx.connection.execute(select(signals.c.value)).all()
    assert row.value
    assert (figures["cases_open"], figures["signals"]) == (0, 1)
    assert figures["signals_not_from_survivors"] == 1
