"""Keys and scopes, feed, matching, verdicts: the platforms' door over HTTP."""

import threading
import time
from dataclasses import replace

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from clearinghouse.app import create_app
from clearinghouse.database.schema import signals
from clearinghouse.maintenance.purge import expire
from clearinghouse.platforms import keys
from clearinghouse.platforms.keys import KeysInUse, PlatformExists, PlatformUnknown, Scope
from nciihash import wire
from nciihash.feed import apply
from nciihash.wire import FeedReply, MatchReply
from support.serving import Clock, Running, item, near, pdq, problem

DOORS = [
    ("GET", "/v1/feed", Scope.FEED, None),
    ("GET", "/v1/feed/snapshot", Scope.FEED, None),
    ("POST", "/v1/feed/ack", Scope.FEED, {"cursor": "0" * 32}),
    ("POST", "/v1/match", Scope.MATCH, {"type": "pdq", "values": ["0" * 64]}),
    ("POST", "/v1/feedback", Scope.FEEDBACK, {"verdicts": [{"id": "0" * 32, "verdict": "unsure"}]}),
]


@pytest.mark.parametrize(("method", "path", "scope", "body"), DOORS)
def test_every_door_asks_for_its_key_and_scope(service, method, path, scope, body):
    def ask(headers):
        return service.client.request(method, path, json=body, headers=headers)

    problem(ask({}), 401, "credentials_missing")
    problem(ask({"Authorization": "Case YTpi"}), 401, "credentials_missing")
    problem(ask({"Authorization": "Bearer nciik_wrong"}), 401, "credentials_wrong")
    others = service.platform(
        "Others",
        [s for s in Scope if s not in (keys.FOLLOWING if scope is Scope.FEED else {scope})],
    )
    problem(ask(others.headers), 403, "scope_missing")
    right = service.platform("Right", [scope])
    assert ask(right.headers).status_code in {200, 400}
    keys.revoke_keys(service.parts.store, "Right", None, service.clock())
    problem(ask(right.headers), 401, "credentials_wrong")


def test_a_key_expires(service):
    peer = service.platform()
    service.clock.pass_(days=401)
    reply = service.client.get("/v1/feed", headers=peer.headers)
    problem(reply, 401, "credentials_wrong")


def test_keys_change_over_without_a_gap(service):
    peer = service.platform("Example")
    store, now = service.parts.store, service.clock()
    page = peer.feed()
    with pytest.raises(PlatformExists):
        keys.add_platform(store, "Example", [Scope.FEED], now)
    newer = keys.rotate_key(store, "Example", now)
    with pytest.raises(KeysInUse):
        keys.rotate_key(store, "Example", now)
    old = keys.list_keys(store, now)[0]
    assert keys.revoke_keys(store, "Example", old.key, now) == 1
    problem(service.client.get("/v1/feed", headers=peer.headers), 401, "credentials_wrong")
    peer.key = newer
    assert peer.feed(cursor=page["cursor"])["cursor"] == page["cursor"], "its ids stay its ids"
    with pytest.raises(PlatformUnknown):
        keys.rotate_key(store, "Nobody", now)
    with pytest.raises(PlatformUnknown):
        keys.revoke_keys(store, "Nobody", None, now)


def follow(peer, limit=1000, cursor=None):
    """Read the feed to its end."""
    entries = []
    while True:
        query = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        reply = FeedReply.model_validate(peer.feed(**query))
        entries += reply.page.entries
        cursor = reply.cursor
        if not reply.more:
            return entries, cursor


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
def test_the_feed_is_the_log_whatever_the_pages(service, limit):
    values = [pdq() for _ in range(7)]
    cases = [service.open(item(v)) for v in values]
    peer = service.platform()
    added, cursor = follow(peer, limit)
    assert [e.signal.hex for e in added] == values
    assert len({e.id for e in added}) == len({e.item for e in added}) == 7
    cases[4].withdraw()
    cases[1].withdraw()
    removed, _ = follow(peer, limit, cursor)
    assert [e.id for e in removed] == [added[4].id, added[1].id]
    fresh, _ = follow(service.platform("Later"), limit)
    assert [e.signal.hex for e in fresh[:5]] == [values[i] for i in (0, 2, 3, 5, 6)]
    assert len(fresh) == 7, "removals are sent even to those who never had the values"


class TypeContents:
    """The simplest members that a page can be applied to."""

    def __init__(self):
        self.held = {}

    def __contains__(self, id):
        return id in self.held

    def add(self, added):
        self.held |= {e.id: e.signal.hex for e in added}

    def remove(self, ids):
        for id in ids:
            del self.held[id]


def test_a_reader_among_writers_misses_nothing(service):
    """Promise 6: concurrent writers, one reader; no entry skipped, repeated or out of order."""
    peer, shelf = service.platform(), TypeContents()
    kept, lock, done = set(), threading.Lock(), threading.Event()
    seen = []

    def write(seed):
        for i in range(12):
            value = pdq(seed * 1000 + i)
            case = service.open(item(value))
            if i % 3 == 0:
                case.withdraw()
            else:
                with lock:
                    kept.add(value)

    def read():
        cursor = None
        while True:
            ending = done.is_set()
            query = {"limit": 5} | ({"cursor": cursor} if cursor else {})
            reply = FeedReply.model_validate(peer.feed(**query))
            seen.extend(reply.page.entries)
            apply(reply.page, shelf)
            cursor = reply.cursor
            if ending and not reply.more:
                return

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in (reader, *writers):
        thread.start()
    for writer in writers:
        writer.join()
    done.set()
    reader.join()
    assert set(shelf.held.values()) == kept
    ids = [(type(e), e.id) for e in seen]
    assert len(ids) == len(set(ids)), "nothing came twice"


def test_a_cursor_is_its_platforms_own(service):
    ours, theirs = service.platform("Ours"), service.platform("Theirs")
    service.open()
    cursor = ours.feed()["cursor"]
    for bad in (cursor[:-1] + ("0" if cursor[-1] != "0" else "1"), "x", "0" * 32, "é" * 4):
        reply = service.client.get("/v1/feed", params={"cursor": bad}, headers=ours.headers)
        problem(reply, 400, "bad_cursor")
    reply = service.client.get("/v1/feed", params={"cursor": cursor}, headers=theirs.headers)
    problem(reply, 400, "bad_cursor")
    problem(theirs.post("/v1/feed/ack", {"cursor": cursor}), 400, "bad_cursor")
    long = service.client.get("/v1/feed", params={"cursor": "0" * 65}, headers=ours.headers)
    problem(long, 422, "invalid_request")


def test_a_cursor_of_another_epoch_has_expired(service):
    from clearinghouse.sealing.platform_ids import PlatformIds

    peer = service.platform()
    platform = keys.admit(service.parts.store, peer.key, {Scope.FEED}, service.clock())
    other = platform.names.write(PlatformIds.CURSOR, [0], epoch=service.parts.store.epoch ^ 1)[0]
    reply = service.client.get("/v1/feed", params={"cursor": other}, headers=peer.headers)
    problem(reply, 410, "cursor_expired")
    problem(peer.post("/v1/feed/ack", {"cursor": other}), 410, "cursor_expired")


def test_a_place_that_is_not_in_the_log_cannot_be_confirmed(service):
    from clearinghouse.sealing.platform_ids import PlatformIds

    peer = service.platform()
    platform = keys.admit(service.parts.store, peer.key, {Scope.FEED}, service.clock())
    ahead = platform.names.write(PlatformIds.CURSOR, [99], epoch=service.parts.store.epoch)[0]
    problem(peer.post("/v1/feed/ack", {"cursor": ahead}), 410, "cursor_expired")
    reply = service.client.get("/v1/feed", params={"cursor": ahead}, headers=peer.headers)
    problem(reply, 410, "cursor_expired")


def test_platforms_cannot_join_their_records(service):
    """Promise 8: no id, item or cursor is shared, and no case number is sent."""
    case = service.open(item(pdq(), pdq()), item(pdq()))
    feeds = [service.platform(name).feed() for name in ("One", "Two")]
    names = [
        {e["id"] for e in f["entries"]} | {e["item"] for e in f["entries"]} | {f["cursor"]}
        for f in feeds
    ]
    assert len(names[0]) == len(names[1]) == 6
    assert not names[0] & names[1]
    assert case.number not in str(feeds)
    assert case.number.replace("-", "") not in str(feeds)
    entry = feeds[0]["entries"][0]
    assert set(entry) == {"op", "id", "item", "type", "value", "quality", "media", "variant"}


def test_a_long_poll_hears_of_an_addition_at_once(service):
    peer, heard = service.platform(), {}
    cursor = peer.feed()["cursor"]

    def wait():
        heard["page"] = peer.feed(cursor=cursor, wait=30)
        heard["at"] = time.monotonic()

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.3)
    assert "page" not in heard, "nothing is new, so it waits"
    service.open()
    waiter.join(timeout=25)
    assert len(heard["page"]["entries"]) == 1


def test_a_key_revoked_during_a_long_poll_gets_nothing_more(service):
    peer, heard = service.platform(), {}

    def wait():
        heard["reply"] = service.client.get("/v1/feed", params={"wait": 30}, headers=peer.headers)

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.3)
    keys.revoke_keys(service.parts.store, peer.name, None, service.clock())
    service.open()
    waiter.join(timeout=25)
    problem(heard["reply"], 401, "credentials_wrong")


def test_what_is_written_while_a_waiter_looks_ends_its_wait(service, monkeypatch):
    """The wake-up comes between the look and the wait, which then must not begin."""
    from clearinghouse.routes import platforms

    peer, look = service.platform(), platforms._page
    looked = []

    def page(*arguments, **others):
        reply = look(*arguments, **others)
        if not looked:
            looked.append(reply)
            before = service.parts.waiters.generation
            service.open()
            while service.parts.waiters.generation == before:
                time.sleep(0.01)
        return reply

    monkeypatch.setattr(platforms, "_page", page)
    start = time.monotonic()
    assert len(peer.feed(wait=30)["entries"]) == 1
    assert time.monotonic() - start < 25, "it heard of it without waiting for the end of the poll"


def test_a_damaged_row_is_left_out_and_the_rest_goes_on(service):

    peer = service.platform()
    service.parts.waiters.closed = True
    time.sleep(0.4)
    values = [pdq(), pdq()]
    for value in values:
        service.open(item(value))
    with service.parts.store.write() as tx:
        tx.connection.execute(update(signals).where(signals.c.id == 1).values(value=b"\0"))
    service.parts.live.follow(service.parts.store)
    assert [e["value"] for e in peer.feed()["entries"]] == values[1:]
    hits = peer.post("/v1/match", {"type": "pdq", "values": values}).json()["matches"]
    assert [len(h) for h in hits] == [0, 1]


def test_a_long_poll_ends_empty_handed(service):
    peer = service.platform()
    page = peer.feed(wait=0.2)
    assert page["entries"] == []
    assert page["more"] is False
    reply = service.client.get("/v1/feed", params={"wait": 31}, headers=peer.headers)
    problem(reply, 422, "invalid_request")


def test_what_the_command_line_writes_is_noticed(service):
    """A second store on the same file, as `clearinghouse purge` beside a serving process has."""
    from clearinghouse.database.store import Store

    value = pdq()
    service.open(item(value))
    peer = service.platform()
    assert len(peer.match(value)[0]) == 1
    service.clock.pass_(days=1000)
    beside = Store.open(service.settings)
    try:
        assert expire(beside, service.clock()) == 1
    finally:
        beside.close()
    fresh = service.platform("Fresh")
    assert fresh.match(value) == [[]]


def test_matching_tells_bands_and_never_distances(service):
    value = pdq()
    service.open(item(value))
    peer = service.platform()
    queries = [near(value, bits) for bits in (0, 16, 17, 31, 32)]
    bands = [[hit["band"] for hit in hits] for hits in peer.match(*queries)]
    assert bands == [["strong"], ["strong"], ["likely"], ["likely"], []]
    assert {key for hits in peer.match(*queries) for hit in hits for key in hit} == {
        "id",
        "item",
        "band",
    }
    entry = peer.feed()["entries"][0]
    hit = peer.match(value)[0][0]
    assert (hit["id"], hit["item"]) == (entry["id"], entry["item"]), "as the feed names them"


def test_octets_and_json_answer_the_same(service):
    values = [pdq() for _ in range(5)]
    service.open(*(item(v) for v in values[:3]))
    peer = service.platform()
    by_json = peer.match(*values)
    raw = bytes.fromhex("".join(values))
    kind = {"Content-Type": "application/octet-stream"}
    reply = service.client.post("/v1/match", content=raw, headers=peer.headers | kind)
    assert MatchReply.model_validate(reply.json()).matches
    assert reply.json()["matches"] == by_json
    for bad in (b"", raw[:-1], b"\0" * 32 * 10_001):
        reply = service.client.post("/v1/match", content=bad, headers=peer.headers | kind)
        assert reply.status_code in {415, 422}
        assert reply.json()["code"] in {"unsupported_media_type", "invalid_request"}


@pytest.fixture
def all_types(settings):
    app = create_app(replace(settings, match_types="phash, dhash"), clock=Clock())
    with TestClient(app, raise_server_exceptions=False) as client:
        yield Running(app, client, app.state.service.clock, settings)


@pytest.mark.parametrize(
    ("type", "digits"), [("phash", 16), ("dhash", 16), ("md5", 32), ("sha256", 64)]
)
def test_other_signals_match_by_their_own_rules(all_types, type, digits):
    service = all_types
    value = pdq()[:digits]
    signal = {"type": type, "value": value}
    case = service.open({"media": "image", "signals": [signal]})
    peer = service.platform()
    assert [hit["band"] for hit in peer.match(value, type=type)[0]] == ["strong"]
    exact = type in {"md5", "sha256"}
    assert len(peer.match(near(value, 7), type=type)[0]) == (0 if exact else 1)
    assert peer.match(near(value, 11), type=type) == [[]]
    case.withdraw()
    assert peer.match(value, type=type) == [[]]


def test_bad_queries_are_refused(service):
    peer = service.platform()
    for body in (
        {"type": "pdq", "values": []},
        {"type": "pdq", "values": ["00"]},
        {"type": "md5", "values": ["0" * 64]},
        {"type": "pdq", "values": ["0" * 64] * 10_001},
        {"type": "pdq", "values": ["0" * 64], "distance": True},
        [],
    ):
        problem(peer.post("/v1/match", body), 422, "invalid_request")
    kind = {"Content-Type": "application/json"}
    reply = service.client.post("/v1/match", content=b"{", headers=peer.headers | kind)
    problem(reply, 400, "not_json")


def test_verdicts_replace_and_unknown_ids_are_counted(service):
    case = service.open()
    peer, other = service.platform(), service.platform("Other")
    [entry] = peer.feed()["entries"]
    for verdict in ("pending", "blocked"):
        reply = peer.post("/v1/feedback", {"verdicts": [{"id": entry["id"], "verdict": verdict}]})
        assert reply.json() == {"recorded": 1, "unknown": 0}
    stranger = {"verdicts": [{"id": entry["id"], "verdict": "not_blocked"}]}
    assert other.post("/v1/feedback", stranger).json() == {"recorded": 0, "unknown": 1}
    service.clock.pass_(days=1)
    by_name = {p["platform"]: p["verdicts"] for p in case.status()["items"][0]["platforms"]}
    assert by_name == {"Example": {"blocked": 1}, "Other": {}}
    case.withdraw()
    late = {"verdicts": [{"id": entry["id"], "verdict": "not_blocked"}]}
    assert peer.post("/v1/feedback", late).json() == {"recorded": 1, "unknown": 0}


def test_an_acknowledgement_never_goes_back(service):
    case = service.open(item(pdq()), item(pdq()))
    peer = service.platform()
    first, last = peer.feed(limit=1)["cursor"], peer.feed()["cursor"]
    peer.post("/v1/feed/ack", {"cursor": last})
    service.clock.pass_(hours=5)
    peer.post("/v1/feed/ack", {"cursor": first})
    since = [i["platforms"][0]["has_it_since"] for i in case.status()["items"]]
    assert since == ["2026-05-17T13:00:00Z"] * 2


def test_health_and_documents(service):
    service.caught_up()
    assert service.client.get("/health/live").json() == {"status": "live"}
    assert service.client.get("/health/ready").status_code == 200
    page = service.client.get("/docs")
    assert page.status_code == 200
    assert "https://" not in page.text, "the page of the documents asks nobody else for anything"
    document = service.client.get("/openapi.json").json()
    assert {"/v1/cases", "/v1/case", "/v1/feed", "/v1/match"} <= set(document["paths"])
    for path in document["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert list(response["content"]) == ["application/problem+json"]
    assert "HTTPValidationError" not in document["components"]["schemas"]
    schemas = document["components"]["schemas"]
    for request in ("OpenCase", "AddItems", "MatchQuery", "Feedback", "Acknowledgement"):
        [example] = schemas[request]["examples"]
        getattr(wire, request).model_validate(example)
    assert set(document["components"]["securitySchemes"]) == {
        "Advocate key",
        "Case",
        "Platform key",
        "StopNCII function key",
        "StopNCII subscription key",
    }


def test_answers_stay_out_of_caches_and_frames(service):
    for reply in (service.client.get("/health/live"), service.client.get("/nothing")):
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert "set-cookie" not in reply.headers


def test_a_clock_that_goes_back_loses_nothing_and_changes_no_order(service):
    peer, values = service.platform(), [pdq() for _ in range(3)]
    case = service.open(item(values[0]))
    expires = case.status()["expires"]
    page = peer.feed()
    service.clock.pass_(days=-3)
    late = service.open(item(values[1]))
    assert peer.match(*values[:2]) != [[], []]
    assert [entry["value"] for entry in peer.feed(cursor=page["cursor"])["entries"]] == [values[1]]
    assert peer.post("/v1/feed/ack", {"cursor": peer.feed()["cursor"]}).status_code == 200
    assert case.status()["expires"] == expires, "a visit never shortens it"
    assert case.withdraw().status_code == 200
    assert case.status()["state"] == "withdrawn"
    assert late.status()["state"] == "open"
    assert peer.match(*values[:2])[0] == []
    page = peer.feed(cursor=page["cursor"])
    assert [entry["op"] for entry in page["entries"]] == ["add", "remove"]
    assert peer.post("/v1/feed/ack", {"cursor": page["cursor"]}).status_code == 200
    [told] = [p for p in case.status()["items"][0]["platforms"] if p["platform"] == peer.name]
    assert told["deletion_acknowledged"] is not None
