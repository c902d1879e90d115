"""The platforms' API over HTTP: keys and scopes, feed, matching, verdicts."""

import re
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
from nciihash.signals import Variant
from nciihash.wire import FeedReply, MatchReply
from support.serving import Clock, RunningService, item, near, pdq, problem

OPERATIONS = [
    ("GET", "/v1/feed", Scope.FEED, None),
    ("GET", "/v1/feed/snapshot", Scope.FEED, None),
    ("POST", "/v1/feed/ack", Scope.FEED, {"cursor": "0" * 32}),
    ("POST", "/v1/match", Scope.MATCH, {"type": "pdq", "values": ["0" * 64]}),
    ("POST", "/v1/feedback", Scope.FEEDBACK, {"verdicts": [{"id": "0" * 32, "verdict": "unsure"}]}),
]


@pytest.mark.parametrize(("method", "path", "scope", "body"), OPERATIONS)
def test_every_operation_needs_a_key_with_its_scope(service, method, path, scope, body):
    def send(headers):
        return service.client.request(method, path, json=body, headers=headers)

    problem(send({}), 401, "credentials_missing")
    problem(send({"Authorization": "Case YTpi"}), 401, "credentials_missing")
    problem(send({"Authorization": "Bearer nciik_wrong"}), 401, "credentials_wrong")
    others = service.platform(
        "Others",
        [s for s in Scope if s not in (keys.FOLLOWING if scope is Scope.FEED else {scope})],
    )
    problem(send(others.headers), 403, "scope_missing")
    right = service.platform("Right", [scope])
    assert send(right.headers).status_code in {200, 400}
    keys.revoke_keys(service.parts.store, "Right", None, service.clock())
    problem(send(right.headers), 401, "credentials_wrong")


def test_a_key_expires(service):
    peer = service.platform()
    service.clock.advance(days=401)
    reply = service.client.get("/v1/feed", headers=peer.headers)
    problem(reply, 401, "credentials_wrong")


def test_a_key_can_be_rotated_without_downtime(service):
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
    assert peer.feed(cursor=page["cursor"])["cursor"] == page["cursor"], (
        "a new key sees the same ids"
    )
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
def test_the_feed_is_the_log_at_every_page_size(service, limit):
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
    assert len(fresh) == 7, "removals are sent even to platforms that never got the values"


class DictBank:
    """A bank as a dictionary (`nciihash.feed.Members`)."""

    def __init__(self):
        self.values = {}

    def __contains__(self, id):
        return id in self.values

    def add(self, added):
        self.values |= {e.id: e.signal.hex for e in added}

    def remove(self, ids):
        for id in ids:
            del self.values[id]


def test_a_reader_misses_nothing_among_concurrent_writers(service):
    """Promise 6: concurrent writers, one reader; no entry skipped, repeated or out of order."""
    peer, bank = service.platform(), DictBank()
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
            last = done.is_set()
            query = {"limit": 5} | ({"cursor": cursor} if cursor else {})
            reply = FeedReply.model_validate(peer.feed(**query))
            seen.extend(reply.page.entries)
            apply(reply.page, bank)
            cursor = reply.cursor
            if last and not reply.more:
                return

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in (reader, *writers):
        thread.start()
    for writer in writers:
        writer.join()
    done.set()
    reader.join()
    assert set(bank.values.values()) == kept
    ids = [(type(e), e.id) for e in seen]
    assert len(ids) == len(set(ids)), "no entry was repeated"


def test_a_cursor_is_valid_for_its_platform_only(service):
    ours, theirs = service.platform("Ours"), service.platform("Theirs")
    service.open()
    cursor = ours.feed()["cursor"]
    for bad in (cursor[:-1] + ("0" if cursor[-1] != "0" else "1"), "x", "0" * 32, "é" * 4):
        reply = service.client.get("/v1/feed", params={"cursor": bad}, headers=ours.headers)
        problem(reply, 400, "bad_cursor")
    reply = service.client.get("/v1/feed", params={"cursor": cursor}, headers=theirs.headers)
    problem(reply, 400, "bad_cursor")
    problem(theirs.post("/v1/feed/ack", {"cursor": cursor}), 400, "bad_cursor")
    too_long = service.client.get("/v1/feed", params={"cursor": "0" * 65}, headers=ours.headers)
    problem(too_long, 422, "invalid_request")


def test_a_cursor_of_another_epoch_has_expired(service):
    from clearinghouse.sealing.platform_ids import PlatformIds

    peer = service.platform()
    platform = keys.authorize(service.parts.store, peer.key, {Scope.FEED}, service.clock())
    other = platform.ids.write(PlatformIds.CURSOR, [0], epoch=service.parts.store.epoch ^ 1)[0]
    reply = service.client.get("/v1/feed", params={"cursor": other}, headers=peer.headers)
    problem(reply, 410, "cursor_expired")
    problem(peer.post("/v1/feed/ack", {"cursor": other}), 410, "cursor_expired")


def test_a_cursor_beyond_the_log_has_expired(service):
    from clearinghouse.sealing.platform_ids import PlatformIds

    peer = service.platform()
    platform = keys.authorize(service.parts.store, peer.key, {Scope.FEED}, service.clock())
    ahead = platform.ids.write(PlatformIds.CURSOR, [99], epoch=service.parts.store.epoch)[0]
    problem(peer.post("/v1/feed/ack", {"cursor": ahead}), 410, "cursor_expired")
    reply = service.client.get("/v1/feed", params={"cursor": ahead}, headers=peer.headers)
    problem(reply, 410, "cursor_expired")


def test_platforms_cannot_link_their_records(service):
    """Promise 8: no id, item or cursor is shared, and no case number is sent."""
    case = service.open(item(pdq(), pdq()), item(pdq()))
    feeds = [service.platform(name).feed() for name in ("One", "Two")]
    ids = [
        {e["id"] for e in f["entries"]} | {e["item"] for e in f["entries"]} | {f["cursor"]}
        for f in feeds
    ]
    assert len(ids[0]) == len(ids[1]) == 6
    assert not ids[0] & ids[1]
    assert case.number not in str(feeds)
    assert case.number.replace("-", "") not in str(feeds)
    entry = feeds[0]["entries"][0]
    assert set(entry) == {"op", "id", "item", "type", "value", "quality", "media", "variant"}


def test_every_variant_is_accepted_and_reaches_platforms(service):
    variants = [variant for variant in Variant if variant is not Variant.UNKNOWN]
    submitted = [
        {"type": "pdq", "value": pdq(), "quality": 90, "variant": variant} for variant in variants
    ]
    service.open({"media": "image", "signals": submitted})
    entries = service.platform().feed(limit=1000)["entries"]
    sent = {signal["value"]: signal["variant"] for signal in submitted}
    assert {entry["value"]: entry["variant"] for entry in entries} == sent
    assert len({entry["item"] for entry in entries}) == 1


def test_a_long_poll_returns_an_addition_at_once(service):
    peer, received = service.platform(), {}
    cursor = peer.feed()["cursor"]

    def wait():
        received["page"] = peer.feed(cursor=cursor, wait=30)

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.3)
    assert "page" not in received, "nothing is new, so it waits"
    service.open()
    waiter.join(timeout=25)
    assert len(received["page"]["entries"]) == 1


def test_a_key_revoked_during_a_long_poll_gets_nothing_more(service):
    peer, received = service.platform(), {}

    def wait():
        received["reply"] = service.client.get(
            "/v1/feed", params={"wait": 30}, headers=peer.headers
        )

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.3)
    keys.revoke_keys(service.parts.store, peer.name, None, service.clock())
    service.open()
    waiter.join(timeout=25)
    problem(received["reply"], 401, "credentials_wrong")


def test_a_write_between_reading_and_waiting_ends_the_wait(service, monkeypatch):
    """The reader is woken after it read an empty page and before it waits: it must not wait."""
    from clearinghouse.routes import platforms

    peer, read = service.platform(), platforms._read_page
    pages = []

    def read_and_write(*arguments, **others):
        reply = read(*arguments, **others)
        if not pages:
            pages.append(reply)
            before = service.parts.waiters.generation
            service.open()
            while service.parts.waiters.generation == before:
                time.sleep(0.01)
        return reply

    monkeypatch.setattr(platforms, "_read_page", read_and_write)
    start = time.monotonic()
    assert len(peer.feed(wait=30)["entries"]) == 1
    assert time.monotonic() - start < 25, "it did not wait for the end of the poll"


def test_a_damaged_row_is_omitted_and_the_rest_works(service):
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


def test_a_long_poll_ends_with_an_empty_page(service):
    peer = service.platform()
    page = peer.feed(wait=0.2)
    assert page["entries"] == []
    assert page["more"] is False
    reply = service.client.get("/v1/feed", params={"wait": 31}, headers=peer.headers)
    problem(reply, 422, "invalid_request")


def test_writes_of_the_command_line_reach_the_index(service):
    """A second store on the same file, as `clearinghouse purge` opens while the service runs."""
    from clearinghouse.database.store import Store

    value = pdq()
    service.open(item(value))
    peer = service.platform()
    assert len(peer.match(value)[0]) == 1
    service.clock.advance(days=1000)
    other = Store.open(service.settings)
    try:
        assert expire(other, service.clock()) == 1
    finally:
        other.close()
    fresh = service.platform("Fresh")
    assert fresh.match(value) == [[]]


def test_matching_returns_bands_and_no_distances(service):
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
    assert (hit["id"], hit["item"]) == (entry["id"], entry["item"]), "the ids of the feed"


def test_octets_and_json_have_the_same_result(service):
    values = [pdq() for _ in range(5)]
    service.open(*(item(v) for v in values[:3]))
    peer = service.platform()
    by_json = peer.match(*values)
    raw = bytes.fromhex("".join(values))
    octets = {"Content-Type": "application/octet-stream"}
    reply = service.client.post("/v1/match", content=raw, headers=peer.headers | octets)
    assert MatchReply.model_validate(reply.json()).matches
    assert reply.json()["matches"] == by_json
    for bad in (b"", raw[:-1], b"\0" * 32 * 10_001):
        reply = service.client.post("/v1/match", content=bad, headers=peer.headers | octets)
        assert reply.status_code in {415, 422}
        assert reply.json()["code"] in {"unsupported_media_type", "invalid_request"}


@pytest.fixture
def all_types(settings):
    app = create_app(replace(settings, match_types="phash, dhash"), clock=Clock())
    with TestClient(app, raise_server_exceptions=False) as client:
        yield RunningService(app, client, app.state.service.clock, settings)


@pytest.mark.parametrize(
    ("type", "digits"), [("phash", 16), ("dhash", 16), ("md5", 32), ("sha256", 64)]
)
def test_other_types_match_by_their_own_rules(all_types, type, digits):
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
    as_json = {"Content-Type": "application/json"}
    reply = service.client.post("/v1/match", content=b"{", headers=peer.headers | as_json)
    problem(reply, 400, "not_json")


def test_later_verdicts_replace_earlier_ones_and_unknown_ids_are_counted(service):
    case = service.open()
    peer, other = service.platform(), service.platform("Other")
    [entry] = peer.feed()["entries"]
    for verdict in ("pending", "blocked"):
        reply = peer.post("/v1/feedback", {"verdicts": [{"id": entry["id"], "verdict": verdict}]})
        assert reply.json() == {"recorded": 1, "unknown": 0}
    stranger = {"verdicts": [{"id": entry["id"], "verdict": "not_blocked"}]}
    assert other.post("/v1/feedback", stranger).json() == {"recorded": 0, "unknown": 1}
    service.clock.advance(days=1)
    by_name = {p["platform"]: p["verdicts"] for p in case.status()["items"][0]["platforms"]}
    assert by_name == {"Example": {"blocked": 1}, "Other": {}}
    case.withdraw()
    late = {"verdicts": [{"id": entry["id"], "verdict": "not_blocked"}]}
    assert peer.post("/v1/feedback", late).json() == {"recorded": 1, "unknown": 0}


def test_an_older_acknowledgement_changes_nothing(service):
    case = service.open(item(pdq()), item(pdq()))
    peer = service.platform()
    first, last = peer.feed(limit=1)["cursor"], peer.feed()["cursor"]
    peer.post("/v1/feed/ack", {"cursor": last})
    service.clock.advance(hours=5)
    peer.post("/v1/feed/ack", {"cursor": first})
    since = [i["platforms"][0]["has_it_since"] for i in case.status()["items"]]
    assert since == ["2026-05-17T13:00:00Z"] * 2


def test_health_and_openapi_document(service):
    service.caught_up()
    assert service.client.get("/health/live").json() == {"status": "live"}
    assert service.client.get("/health/ready").status_code == 200
    page = service.client.get("/docs")
    assert page.status_code == 200
    assert "http" not in re.sub(r"<!--.*?-->", "", page.text), "all addresses are relative"
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
        "advocate_key",
        "case",
        "platform_key",
        "stopncii_function_key",
        "stopncii_subscription_key",
    }


def test_no_redirect_leads_a_request_to_another_address(service):
    for method, path in (("POST", "/v1/cases/"), ("POST", "/v1/match/"), ("GET", "/v1/feed/")):
        reply = service.client.request(method, path, follow_redirects=False)
        assert reply.status_code == 404


def test_probes_may_ask_for_the_headers_alone(service):
    for path in ("/health/live", "/health/ready"):
        reply = service.client.head(path)
        assert reply.status_code == 200
        assert not reply.content


def test_clients_can_be_generated_from_the_document(service):
    """`make openapi-clients` generates some; these are the rules that it needs."""
    document = service.client.get("/openapi.json").json()
    assert all(re.fullmatch(r"[a-z_]+", name) for name in document["components"]["securitySchemes"])
    operations = [
        (path, operation)
        for path, methods in document["paths"].items()
        for operation in methods.values()
    ]
    ids = [operation["operationId"] for _, operation in operations]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z_]+", id) for id in ids)
    assert document["servers"]
    assert document["info"]["license"]["identifier"] == "Apache-2.0"
    for path, operation in operations:
        assert len(operation["security"]) <= 1  # several would be alternatives
        if path.startswith("/stopncii"):
            [both] = operation["security"]
            assert set(both) == {"stopncii_function_key", "stopncii_subscription_key"}
    for entry in ("AddedEntry", "RemovedEntry"):
        assert "op" in document["components"]["schemas"][entry]["required"]


def test_responses_have_security_headers(service):
    for reply in (service.client.get("/health/live"), service.client.get("/nothing")):
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert "set-cookie" not in reply.headers


def test_a_clock_set_back_loses_and_reorders_nothing(service):
    peer, values = service.platform(), [pdq() for _ in range(3)]
    case = service.open(item(values[0]))
    expires = case.status()["expires"]
    page = peer.feed()
    service.clock.advance(days=-3)
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
    [status] = [p for p in case.status()["items"][0]["platforms"] if p["platform"] == peer.name]
    assert status["deletion_acknowledged"] is not None
