"""The StopNCII door over HTTP, and the order of its records under every history."""

import secrets
import sqlite3
import tempfile
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import event, select
from starlette.testclient import TestClient

from clearinghouse.abuse.allowlist import LawfulList
from clearinghouse.app import create_app
from clearinghouse.database.queries import stopncii_records
from clearinghouse.database.queries.cases import NewItem
from clearinghouse.database.queries.contributions import CONTRIBUTED, IMPORTED
from clearinghouse.database.queries.signals import NewSignals
from clearinghouse.database.schema import items, signals, verdicts
from clearinghouse.database.store import Store
from clearinghouse.maintenance.purge import expire
from clearinghouse.platforms import keys, stopncii
from clearinghouse.platforms.contributions import Contributed, contribute, lookup_of, take_back
from clearinghouse.platforms.keys import Scope
from clearinghouse.settings import Settings
from clearinghouse.times import hour
from nciihash.signals import Media, Signal, SignalType
from support.serving import Clock, Running, item, pdq, problem
from support.stopncii import DOOR, both, fetch, fetch_all, submit, values


def feedback(peer, value, said, key=None):
    body = {
        "count": 1,
        "hashFeedbacks": [{"tags": ["x"], "feedbackValue": said, "hashValue": value}],
    }
    headers = both(key or peer.key)
    return peer.service.client.post(f"{DOOR}/SubmitFeedback", json=body, headers=headers)


DOORS = [
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


@pytest.mark.parametrize(("method", "path", "scope", "body"), DOORS)
def test_every_address_asks_for_both_headers_and_its_scope(service, method, path, scope, body):
    def ask(headers):
        return service.client.request(method, f"{DOOR}/{path}", json=body, headers=headers)

    right = service.platform("Right", [scope])
    others = service.platform("Others", [s for s in Scope if s is not scope])
    problem(ask({}), 401, "credentials_missing")
    problem(ask({"Authorization": f"Bearer {right.key}"}), 401, "credentials_missing")
    problem(ask({"x-functions-key": right.key}), 401, "credentials_missing")
    problem(ask({"Ocp-Apim-Subscription-Key": right.key}), 401, "credentials_missing")
    problem(ask(both("nciik_wrong")), 401, "credentials_wrong")
    problem(ask(both(right.key, others.key)), 401, "credentials_wrong")
    problem(ask(both(others.key)), 403, "scope_missing")
    assert ask(both(right.key)).status_code == 200
    newer = keys.rotate_key(service.parts.store, "Right", service.clock())
    assert ask(both(newer, right.key)).status_code == 200, "two keys of one platform"
    keys.revoke_keys(service.parts.store, "Right", None, service.clock())
    problem(ask(both(right.key)), 401, "credentials_wrong")


def test_a_record_is_what_the_client_reads(service):
    image, video = pdq(), secrets.token_hex(16)
    service.open(
        item(image),
        {"media": "video", "signals": [{"type": "md5", "value": video}]},
    )
    # what this format has no word for: frames of a video, the digest of an image, other hashes
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
    for record, kind, value in zip(
        page["hashRecords"], ("ImagePDQ", "VideoMD5"), (image, video), strict=True
    ):
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


def test_an_empty_page_answers_where_it_was_asked(service):
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


def test_what_is_withdrawn_is_in_no_page(service):
    kept, gone, twice = pdq(), pdq(), pdq()
    service.open(item(kept))
    case, first = service.open(item(gone)), service.open(item(twice))
    service.open(item(twice))
    peer = service.platform()
    before = fetch_all(peer)
    assert sorted(values(before)) == sorted([kept, gone, twice]), "each value once"
    case.withdraw()
    first.withdraw()
    found = fetch_all(peer)
    assert sorted(values(found)) == sorted([kept, twice])
    assert "Withdrawn" not in str(found)


def test_records_are_not_joined_by_their_numbers(service):
    """Promise 8: one number for each record and reader, though the files are of one case."""
    service.open(*(item(pdq()) for _ in range(5)))
    numbers = [
        [n for r in fetch_all(service.platform(name)) for n in r["caseNumbers"]]
        for name in ("One", "Two")
    ]
    assert len({*numbers[0], *numbers[1]}) == 10


@pytest.mark.sqlite  # nothing in it depends on the database, and it takes a while
def test_many_records_of_one_moment_are_read_in_pieces(service):
    """A thousand in one hour: times spread, no reader stalls, and stopping loses nothing."""
    hashes = [pdq() for _ in range(1000)]
    for start in range(0, 1000, 200):
        service.open(*(item(v) for v in hashes[start : start + 200]))
    peer = service.platform()
    whole = fetch_all(peer)
    assert values(whole) == hashes, "in the order of the log"
    shared = Counter(r["lastModtimestamp"] for r in whole)
    assert max(shared.values()) == 100
    assert len(shared) == 10
    for size in (1, 100, 150, 800):
        start, seen, pages = 10, {}, 0
        while True:  # a reader that stops after every page and starts again
            page = fetch(peer, startTimestamp=start, pageSize=size)
            assert page["nextSetTimestamp"] >= start
            seen |= {r["hashValue"]: r for r in page["hashRecords"]}
            pages += 1
            if not page["hasMoreRecords"]:
                break
            assert page["nextSetTimestamp"] > start, "it would stand still"
            start = page["nextSetTimestamp"]
        assert set(seen) == set(hashes)
        assert pages <= 1000 if size < 101 else pages <= 20


def test_times_never_go_back_when_the_clock_does(service):
    peer = service.platform()
    last = 0
    for days in (0, 5, -9, 1, 400, -400):
        service.clock.pass_(days=days)
        value = pdq()
        service.open(item(value))
        page = fetch(peer, startTimestamp=last or 10)
        assert value in values(page["hashRecords"]), "a reader at the last time gets it"
        assert page["nextSetTimestamp"] >= last
        last = page["nextSetTimestamp"]
        peer = service.platform(f"Peer {days}") if days == 400 else peer


def test_a_bad_page_token_and_bad_numbers_are_refused(service):
    service.open(*(item(pdq()) for _ in range(150)))
    ours, theirs = service.platform("Ours"), service.platform("Theirs")

    def ask(peer, **query):
        return service.client.get(f"{DOOR}/FetchHashes", params=query, headers=both(peer.key))

    token = ask(ours, pageSize=101).json()["nextPageToken"]
    assert len(ask(ours, nextPageToken=token).json()["hashRecords"]) == 49
    # one in 256 looks like a token there, of an epoch that never was
    assert ask(theirs, nextPageToken=token).json()["code"] in {"bad_cursor", "cursor_expired"}
    problem(ask(ours, nextPageToken="p2"), 400, "bad_cursor")
    cursor = ours.feed()["cursor"]
    problem(ask(ours, nextPageToken=cursor), 400, "bad_cursor")
    for query in (
        {"startTimestamp": -1},
        {"startTimestamp": 2**63},
        {"startTimestamp": "soon"},
        {"pageSize": 0},
        {"pageSize": 10_001},
        {"nextPageToken": "0" * 65},
    ):
        problem(ask(ours, **query), 422, "invalid_request")
    platform = keys.admit(service.parts.store, ours.key, {Scope.FEED}, service.clock())
    names = platform.names
    other = names.write(names.PAGE, [5], epoch=service.parts.store.epoch ^ 1)[0]
    problem(ask(ours, nextPageToken=other), 410, "cursor_expired")


def test_feedback_moves_the_record_in_its_platforms_view_alone(service):
    hashes = [pdq() for _ in range(3)]
    case = service.open(*(item(v) for v in hashes))
    ours, theirs = service.platform("Ours"), service.platform("Theirs")
    start = fetch(ours)["nextSetTimestamp"]
    service.clock.pass_(hours=2)
    reply = feedback(ours, hashes[0], "Blocked")
    assert (reply.status_code, reply.json()) == (200, {"count": 1})
    fresh = fetch(ours, startTimestamp=start + 1)
    [record] = fresh["hashRecords"]
    assert record["hashValue"] == hashes[0]
    assert record["CSPFeedbacks"] == [{"source": "Ours", "feedbackValue": "Blocked"}]
    assert record["lastModtimestamp"] == hour(service.clock())
    assert values(fetch_all(ours)) == [hashes[1], hashes[2], hashes[0]], "each once, in order"
    assert values(fetch_all(theirs)) == hashes
    assert "Blocked" not in str(fetch_all(theirs))
    by_name = {p["platform"]: p["verdicts"] for p in case.status()["items"][0]["platforms"]}
    assert by_name == {"Ours": {"blocked": 1}, "Theirs": {}}


@pytest.mark.parametrize(
    ("said", "verdict"),
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
def test_feedback_is_read_as_a_verdict_on_every_file_with_the_value(service, said, verdict):
    value = pdq()
    cases = [service.open(item(value)) for _ in range(2)]
    peer = service.platform()
    assert feedback(peer, value, said).status_code == 200
    for case in cases:
        [seen] = case.status()["items"][0]["platforms"]
        assert seen["verdicts"] == {verdict: 1}
    [record] = fetch_all(peer)
    assert len(record["CSPFeedbacks"]) == 1


def test_a_verdict_given_at_the_other_door_shows_here(service):
    service.open()
    peer = service.platform()
    [entry] = peer.feed()["entries"]
    peer.post("/v1/feedback", {"verdicts": [{"id": entry["id"], "verdict": "not_blocked"}]})
    [record] = fetch_all(peer)
    assert record["CSPFeedbacks"] == [{"source": "Example", "feedbackValue": "NotBlocked"}]


def test_feedback_does_not_tell_what_is_known(service):
    value = pdq()
    service.open(item(value))
    peer = service.platform("Judge", [Scope.FEEDBACK])
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
def test_feedback_of_another_form_is_refused(service, change):
    peer = service.platform()
    entry = {"tags": [], "feedbackValue": "Blocked", "hashValue": "0" * 64} | change
    for body in (
        {"count": 1, "hashFeedbacks": [entry]},
        {"count": 0, "hashFeedbacks": []},
        {"count": 1001, "hashFeedbacks": [entry | {"hashValue": "0" * 64}] * 1001},
    ):
        url = f"{DOOR}/SubmitFeedback"
        reply = service.client.post(url, json=body, headers=both(peer.key))
        problem(reply, 422, "invalid_request")


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


@pytest.mark.parametrize("kind", [CONTRIBUTED, IMPORTED])
def test_a_record_never_falls_back_behind_a_reader(service, kind):
    """Two hold a value, the later one takes it back while a reader stands between the two."""
    store, value = service.parts.store, Signal(SignalType.PDQ, secrets.token_bytes(32))
    peer, times = service.platform(), []
    for name in ("One", None, "Two"):
        times.append(hour(service.clock()))
        if name is None:
            service.open()
        else:
            number = keys.find_or_add(store, name, service.clock())
            with store.write() as tx:
                hashes = [Contributed(Media.IMAGE, value)]
                now, lawful = service.clock(), service.parts.lawful
                contribute(store, lawful, tx, number, kind, hashes, months=1, most=9, now=now)
        service.clock.pass_(hours=1)
    assert [r["lastModtimestamp"] for r in fetch_all(peer)] == times[1:]
    with store.write() as tx:
        take_back(tx, number, kind, [lookup_of(store, value)], now=service.clock())
    rest = fetch(peer, startTimestamp=times[1])["hashRecords"]
    assert values(rest)[1:] == [value.hex], "who had read the record between has not missed it"


def test_nobody_can_open_a_platforms_case(service):
    submit(service.platform(), pdq())
    with service.parts.store.read() as tx:
        figures = tx.figures.totals()
        [row] = tx.connection.execute(select(signals.c.value)).all()
    assert row.value
    assert (figures["cases_open"], figures["signals"]) == (0, 1)
    assert figures["signals_not_from_survivors"] == 1


@pytest.mark.sqlite
def test_a_database_from_before_the_door_gets_its_places(settings):
    """Step 0002 on a database with cases: in the log's order, by their hours, verdicts behind."""
    old = Store.open(settings)  # for its key, and its tables but for the last step
    old.close()
    now = [14 * 3600, 14 * 3600, 12 * 3600, 20 * 3600, 20 * 3600]
    path = settings.database.removeprefix("sqlite:///")
    beside = sqlite3.connect(path)
    beside.executescript(
        """
        DROP INDEX ix_signals_place; ALTER TABLE signals DROP COLUMN place;
        DROP INDEX ix_verdicts_platform_id_place; ALTER TABLE verdicts DROP COLUMN place;
        ALTER TABLE signals DROP COLUMN next_lookup; DROP TABLE audit;
        ALTER TABLE keys DROP COLUMN used;
        DROP TABLE assisted; DROP TABLE advocates; DROP TABLE spent; DROP TABLE budgets;
        DROP TABLE lawful; DROP TABLE reviews;
        DROP TABLE removals; DROP TABLE contributions; DELETE FROM facts WHERE name = 'place';
        UPDATE alembic_version SET version_num = '0001';
        INSERT INTO cases VALUES (1, x'00', '-', 'shared', 'open', 0, 9999999999, NULL);
        INSERT INTO platforms VALUES (1, 'Old', x'00', 0);
        """
    )
    for number, at in enumerate(now, 1):
        media = "video" if number == 4 else "image"  # whose PDQ hash the format cannot name
        item_ = (number, 1, number, media, at, None)
        beside.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?)", item_)
        signal = (number, number, 0, "pdq", b"v", bytes([number]), 90, "original")
        beside.execute("INSERT INTO signals VALUES (?, ?, ?, ?, ?, ?, ?, ?)", signal)
    said = [(1, 2, "blocked", 16 * 3600), (1, 4, "blocked", 16 * 3600)]
    beside.executemany("INSERT INTO verdicts VALUES (?, ?, ?, ?)", said)
    beside.commit()
    beside.close()
    store = Store.open(settings)
    with store.read() as tx:
        found = dict(tx.connection.execute(select(signals.c.id, signals.c.place)).all())
        heard = dict(tx.connection.execute(select(verdicts.c.signal_id, verdicts.c.place)).all())
        read = tx.stopncii.read(1, 0, 10, first_hand=False)
        last = tx.stopncii.last_place()
    base = 14 * 3600 * 100
    end = 20 * 3600 * 100
    assert found == {1: base, 2: base + 1, 3: base + 2, 4: None, 5: end}
    assert heard == {2: end + 1, 4: None}
    assert last == end + 1
    assert [r.number for r in read] == [1, 3, 5, 2]
    store.close()


# --- every history ---------------------------------------------------------------------------

POOL = [Signal(SignalType.PDQ, bytes([n]) * 32) for n in range(6)]
EXAMPLES = hypothesis_settings().max_examples // 5
SAID = [v for v in stopncii.FeedbackValue if not v.takes_back]


class Reader:
    """A client that keeps what it saw last of each value, and where to go on."""

    def __init__(self, platform, *, first_hand=False):
        self.platform = platform
        self.first_hand = first_hand
        self.start, self.token, self.seen = stopncii.START, None, {}
        self.reached, self.received = 0, 0

    def read(self, store, size):
        page = stopncii.read_hashes(
            store,
            self.platform,
            start=self.start,
            page_size=size,
            token=self.token,
            first_hand=self.first_hand,
        )
        assert page.next_start >= self.reached, "checkpoint time rewound"
        for record in page.records:
            said = record.feedbacks[0].feedback_value if record.feedbacks else None
            self.seen[record.value] = (record.last_modified, said)
            self.received += 1
        self.reached, self.token = page.next_start, page.next_page
        if not page.more:
            self.start = self.reached
        return page.more

    def stop(self):
        """Forget the token, as a client does that ends between two pages."""
        self.start, self.token = max(self.reached, stopncii.START), None


def _unsynced(connection, _record):
    connection.execute("PRAGMA synchronous=OFF")


class Histories(RuleBasedStateMachine):
    """Survivors, platforms and another clearinghouse at work, and readers who see it by pages.

    Three records share a time here instead of a hundred, so that short histories meet every edge.
    """

    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(stopncii_records, "SHARED", 3)
        self.patch.setattr(stopncii, "SHARED", 3)
        self.patch.setattr(stopncii, "PAGE_MIN", 4)
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "db"
        self.store = Store.open(Settings(database=f"sqlite:///{path}"))
        # nothing is lost here but time
        event.listen(self.store._database.writer, "connect", _unsynced)
        self.store._database.writer.dispose()
        self.now = datetime(2026, 5, 17, 13, 45, tzinfo=UTC)
        self.platforms = []
        for name in ("One", "Two"):
            key = keys.add_platform(self.store, name, tuple(Scope), self.now)
            self.platforms.append(keys.identify(self.store, key, self.now))
        one, two = self.platforms
        self.readers = [Reader(one), Reader(two), Reader(one, first_hand=True)]
        self.open, self.given = [], defaultdict(set)

    def teardown(self):
        for reader in self.readers:
            for _ in range(50):
                if not reader.read(self.store, 1):
                    break
                reader.stop()  # the slowest of all clients
            else:
                raise AssertionError("a reader does not come to the end")
            expected = self.expected(reader)
            assert expected.items() <= reader.seen.items(), "a reader missed something"
            fresh = Reader(reader.platform, first_hand=reader.first_hand)
            while fresh.read(self.store, 5):
                pass
            assert fresh.seen == expected, "a whole fetch holds exactly what is live"
            assert fresh.received == len(expected), "each once"
        self.store.close()
        self.folder.cleanup()
        self.patch.undo()

    def expected(self, reader):
        """Work out, by the tables alone, what a reader should hold now."""
        live = {s for _, s in self.open}
        for (_, kind), held in self.given.items():
            if kind == CONTRIBUTED or not reader.first_hand:
                live |= held
        hidden = set()
        with self.store.read() as tx:
            if reader.first_hand:
                kinds = [tx.contributions.find(p.number, IMPORTED) for p in self.platforms]
                owned = select(items.c.id).where(items.c.case_id.in_(kinds))
                hidden = set(tx.connection.execute(owned).scalars())
            rows = tx.connection.execute(select(signals).where(signals.c.place.is_not(None))).all()
            said = tx.connection.execute(
                select(verdicts).where(verdicts.c.platform_id == reader.platform.number)
            ).all()
        found = {}
        for signal in live:
            lookup = lookup_of(self.store, signal)
            group = {r.id: r.place for r in rows if r.lookup == lookup and r.item_id not in hidden}
            all_ = {r.id for r in rows if r.lookup == lookup}
            heard = [(v.place, v.verdict) for v in said if v.signal_id in all_]
            moved = [v.place for v in said if v.signal_id in group]
            place = max([*group.values(), *moved])
            verdict = stopncii._SAID[max(heard)[1]].value if heard else None
            found[signal.hex] = (place // 3, verdict)
        return found

    @rule(minutes=st.sampled_from([0, 30, 60, 180, -120]))
    def time_passes(self, minutes):
        self.now += timedelta(minutes=minutes)

    @rule(values=st.lists(st.sampled_from(POOL), min_size=1, max_size=6, unique=True))
    def open_cases(self, values):
        for signal in values:
            with self.store.write() as tx:
                case = tx.cases.add(
                    lookup=secrets.token_bytes(32),
                    verifier="-",
                    reason="shared",
                    state="open",
                    opened=0,
                    expires=2**40,
                )
                [item] = tx.cases.add_items(case, [NewItem(1, "image")], hour(self.now))
                row = {
                    "item_id": item,
                    "ordinal": 0,
                    "type": "pdq",
                    "value": self.store.vault.seal(signal.value, "signals", "value", item, 0),
                    "lookup": lookup_of(self.store, signal),
                    "quality": 90,
                    "variant": "original",
                }
                tx.signals.add([NewSignals("image", [row])], hour(self.now))
            self.open.append((case, signal))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def withdraw(self, data):
        case, _ = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        with self.store.write() as tx:
            tx.cases.withdraw_items(case, None, hour(self.now))

    @rule(
        who=st.integers(0, 1),
        kind=st.sampled_from([CONTRIBUTED, IMPORTED]),
        signal=st.sampled_from(POOL),
    )
    def give(self, who, kind, signal):
        number = self.platforms[who].number
        with self.store.write() as tx:
            new = contribute(
                self.store,
                LawfulList(self.store),
                tx,
                number,
                kind,
                [Contributed(Media.IMAGE, signal)],
                months=24,
                most=100,
                now=self.now,
            )
        held = any(s == signal for _, s in self.open) or signal in self.given[number, kind]
        assert new == (not held)
        if new:
            self.given[number, kind].add(signal)

    @precondition(lambda self: any(self.given.values()))
    @rule(data=st.data())
    def take_back(self, data):
        who, signal = data.draw(
            st.sampled_from(
                [(w, s) for w, held in self.given.items() for s in sorted(held, key=str)]
            )
        )
        with self.store.write() as tx:
            lookup = lookup_of(self.store, signal)
            assert take_back(tx, *who, [lookup], now=self.now) == 1
        self.given[who].discard(signal)

    @rule(who=st.integers(0, 1), signal=st.sampled_from(POOL), said=st.sampled_from(SAID))
    def say(self, who, signal, said):
        entry = stopncii.HashFeedback(hash=signal.hex, value=said)
        with self.store.write() as tx:
            stopncii.record_feedback(self.store, tx, self.platforms[who], [entry], now=self.now)

    @rule(who=st.integers(0, 1), data=st.data())
    def say_of_one_file(self, who, data):
        with self.store.read() as tx:
            ids = tx.connection.execute(select(signals.c.id)).scalars().all()
        if ids:
            signal = data.draw(st.sampled_from(ids))
            with self.store.write() as tx:
                verdict = data.draw(st.sampled_from(["blocked", "unsure"]))
                tx.platforms.add_verdict(
                    self.platforms[who].number, signal, verdict, hour(self.now)
                )

    @rule(which=st.integers(0, 2), size=st.integers(1, 6), stop=st.booleans())
    def read(self, which, size, stop):
        reader = self.readers[which]
        reader.read(self.store, size)
        if stop:
            reader.stop()

    @invariant()
    def few_share_a_time(self):
        with self.store.read() as tx:
            places = list(tx.connection.execute(select(signals.c.place)).scalars())
            places += list(tx.connection.execute(select(verdicts.c.place)).scalars())
            last = tx.stopncii.last_place()
        taken = [p for p in places if p is not None]
        assert len(taken) == len(set(taken))
        assert max(taken, default=0) <= last


TestHistories = Histories.TestCase
TestHistories.settings = hypothesis_settings(max_examples=EXAMPLES, stateful_step_count=30)
