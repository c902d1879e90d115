"""The survivors' API over HTTP: open, view, add, withdraw, expire."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from clearinghouse.maintenance.purge import PurgeResult, expire, purge
from clearinghouse.platforms.keys import Scope
from support.serving import credentials, figures, item, near, opening, pdq, problem


def test_a_case_is_opened_and_viewed(service):
    case = service.open(item(pdq(), pdq()), item(pdq()))
    assert case.reply["items"] == [
        {"item": 1, "accepted": 2, "refused": []},
        {"item": 2, "accepted": 1, "refused": []},
    ]
    # after two years, rounded to the hour
    assert case.reply["expires"] == "2028-05-17T13:00:00Z"
    status = case.status()
    assert status["state"] == "open"
    assert status["reason"] == "threatened"
    assert status["opened"] == "2026-05-17T13:00:00Z"
    assert [i["signals"] for i in status["items"]] == [2, 1]
    assert all(i["added"] == "2026-05-17T13:00:00Z" for i in status["items"])


def test_malformed_and_wrong_credentials_are_refused(service):
    case = service.open()
    get = service.client.get
    problem(get("/v1/case"), 401, "credentials_missing")
    for header in (
        "Bearer x",
        "Case",
        "Case !!!",
        "Case YWJj",
        "Basic YTpi",
        "Case é".encode("latin-1"),
    ):
        problem(get("/v1/case", headers={"Authorization": header}), 401, "credentials_missing")
    wrong = get("/v1/case", headers=credentials(case.number, "not these six words at all"))
    unknown = get("/v1/case", headers=credentials("0000-0000-0000", case.passphrase))
    assert problem(wrong, 401, "credentials_wrong") == problem(unknown, 401, "credentials_wrong")
    assert wrong.headers["www-authenticate"] == "Case, Bearer"
    typed = credentials(case.number.lower().replace("-", " "), case.passphrase.upper())
    assert get("/v1/case", headers=typed).status_code == 200


def test_each_refused_hash_has_a_reason(service):
    """Too many bits set, too few, or a type that is not matched; the rest is accepted."""
    value = pdq()
    file = item(value, "f" * 64, "0" * 64, near(value, 1), quality=100)
    file["signals"] += [
        {"type": "dhash", "value": "0" * 16},
        {"type": "phash", "value": "0" * 16},
        {"type": "md5", "value": "0" * 32},
    ]
    case = service.open(file)
    (receipt,) = case.reply["items"]
    assert receipt["accepted"] == 3
    assert [(r["signal"], r["code"]) for r in receipt["refused"]] == [
        (1, "implausible"),
        (2, "implausible"),
        (4, "type_not_matched"),
        (5, "type_not_matched"),
    ]
    added = service.client.post(
        "/v1/case/items", json={"items": [item("0" * 64)]}, headers=case.headers
    )
    problem(added, 422, "nothing_accepted")
    problem(
        service.client.post("/v1/cases", json=opening(item("0" * 64, quality=100))),
        422,
        "nothing_accepted",
    )


def test_hashes_of_low_quality_are_refused_one_by_one(service):
    mixed = item(pdq(), pdq())
    mixed["signals"][0]["quality"] = 49
    case = service.open(mixed, item(pdq(), quality=3))
    assert case.reply["items"] == [
        {"item": 1, "accepted": 1, "refused": [{"signal": 0, "code": "low_quality"}]},
        {"item": 2, "accepted": 0, "refused": [{"signal": 0, "code": "low_quality"}]},
    ]
    assert [i["item"] for i in case.status()["items"]] == [1]
    added = service.client.post(
        "/v1/case/items", json={"items": [item(pdq())]}, headers=case.headers
    ).json()
    assert [i["item"] for i in added["items"]] == [3], "the refused file keeps its number"
    problem(
        service.client.post("/v1/cases", json=opening(item(pdq(), quality=49))),
        422,
        "nothing_accepted",
    )
    assert figures(service)["cases_open"] == 1


@pytest.mark.parametrize(
    "declaration", [{"adult": False, "depicted": True}, {"adult": True, "depicted": False}]
)
def test_only_depicted_adults_may_open_a_case(service, declaration):
    reply = service.client.post("/v1/cases", json=opening(declaration=declaration))
    body = problem(reply, 422, "declaration_missing")
    assert "Take It Down" in body["detail"]
    assert figures(service)["log"] == 0


BAD = {
    "an unknown field": opening(file_name="IMG_1.jpg"),
    "an unknown field inside": opening(item(pdq()) | {"name": "x.png"}),
    "a missing declaration": {k: v for k, v in opening().items() if k != "declaration"},
    "a declaration in words": opening(declaration={"adult": "yes", "depicted": 1}),
    "another reason": opening(reason="revenge"),
    "free text": opening(reason="because he said so"),
    "no items": opening() | {"items": []},
    "too many items": opening(*[item(pdq())] * 201),
    "a short value": opening(item("ab" * 16)),
    "a long value": opening(item("ab" * 33)),
    "capitals": opening(item("AB" * 32)),
    "no hex": opening(item("g" * 64)),
    "quality over 100": opening(item(pdq(), quality=101)),
    "quality in words": opening(item(pdq(), quality="90")),
    "no quality": opening(item(pdq(), quality=None)),
    "another medium": opening(item(pdq(), media="audio")),
    "another type": opening({"media": "image", "signals": [{"type": "tmk", "value": pdq()}]}),
    "a file name as variant": opening(
        {
            "media": "image",
            "signals": [{"type": "pdq", "value": pdq(), "quality": 90, "variant": "IMG_1.jpg"}],
        }
    ),
    "a variant that only reading knows": opening(
        {
            "media": "image",
            "signals": [{"type": "pdq", "value": pdq(), "quality": 90, "variant": "unknown"}],
        }
    ),
    "work": opening(work="x"),
    "a list": [1, 2],
    "a number": 7,
    "null": None,
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
def test_an_invalid_body_is_refused_and_not_echoed(service, body):
    reply = service.client.post("/v1/cases", json=body)
    detail = problem(reply, 422, "invalid_request")["detail"]
    assert detail.startswith("Fields: body")
    for secret in ("IMG_1", "x.png", "file_name", "revenge", "because", "ab" * 16, "tmk", "audio"):
        assert secret not in reply.text
    assert figures(service) == dict.fromkeys(figures(service), 0)


def test_other_bodies_are_refused(service):
    def post(data, kind):
        return service.client.post("/v1/cases", content=data, headers={"Content-Type": kind})

    problem(post(b"{not json", "application/json"), 400, "not_json")
    problem(post(b"\xff\xfe", "application/json"), 400, "not_json")
    problem(post(b"\xff\xd8\xff\xe0JFIF", "image/jpeg"), 415, "unsupported_media_type")
    problem(post(b"--x\r\n", "multipart/form-data; boundary=x"), 415, "unsupported_media_type")
    problem(post(b"a" * 64, "application/octet-stream"), 415, "unsupported_media_type")
    problem(post(b"x" * 100_000_000, "application/json"), 413, "body_too_large")

    def chunks():
        for _ in range(200):
            yield b" " * 100_000

    problem(post(chunks(), "application/json"), 413, "body_too_large")
    problem(service.client.put("/v1/cases", json={}), 405, "method_not_allowed")
    problem(service.client.get("/v1/elsewhere"), 404, "not_found")
    assert figures(service) == dict.fromkeys(figures(service), 0)


def test_files_are_added_to_an_open_case(service):
    case = service.open()
    service.clock.advance(days=40)
    reply = service.client.post(
        "/v1/case/items", json={"items": [item(pdq()), item(pdq())]}, headers=case.headers
    )
    assert reply.status_code == 201
    assert [i["item"] for i in reply.json()["items"]] == [2, 3]
    assert reply.json()["expires"] == "2028-06-26T13:00:00Z"
    assert [i["item"] for i in case.status()["items"]] == [1, 2, 3]
    full = service.client.post(
        "/v1/case/items", json={"items": [item(pdq())] * 198}, headers=case.headers
    )
    problem(full, 422, "too_many_items")


def test_one_file_and_then_all_are_withdrawn(service):
    case = service.open(item(pdq()), item(pdq()), item(pdq()))
    assert case.withdraw(2).json() == {"withdrawn": 1, "remaining": 2, "state": "open"}
    assert case.withdraw(2).json() == {"withdrawn": 0, "remaining": 2, "state": "open"}
    problem(case.withdraw(9), 404, "item_unknown")
    problem(case.withdraw(0), 422, "invalid_request")
    assert case.withdraw().json() == {"withdrawn": 2, "remaining": 0, "state": "withdrawn"}
    assert case.withdraw().json() == {"withdrawn": 0, "remaining": 0, "state": "withdrawn"}
    status = case.status()
    assert status["state"] == "withdrawn"
    assert [i["withdrawn"] is not None for i in status["items"]] == [True] * 3
    reply = service.client.post(
        "/v1/case/items", json={"items": [item(pdq())]}, headers=case.headers
    )
    problem(reply, 409, "case_closed")


def test_withdrawing_the_last_file_closes_the_case(service):
    case = service.open()
    assert case.withdraw(1).json() == {"withdrawn": 1, "remaining": 0, "state": "withdrawn"}


def test_a_withdrawn_file_matches_nothing_from_that_moment(service):
    """Promise 4, without waiting for the index: from the response to the withdrawal on."""
    value = pdq()
    case = service.open(item(value))
    other = service.open(item(near(value, 3)))
    peer = service.platform()
    [hits] = peer.match(near(value, 10))
    assert len(hits) == 2
    service.parts.waiters.closed = True  # the index stops following the log
    case.withdraw()
    assert service.parts.live.seq == 2
    reply = peer.post("/v1/match", {"type": "pdq", "values": [near(value, 10)]}).json()
    assert len(reply["matches"][0]) == 1
    other.withdraw()
    reply = peer.post("/v1/match", {"type": "pdq", "values": [near(value, 10)]}).json()
    assert reply["matches"] == [[]]


def test_a_value_in_two_cases_matches_while_one_is_open(service):
    value = pdq()
    first, second = service.open(item(value)), service.open(item(value))
    peer = service.platform()
    assert len(peer.match(value)[0]) == 2
    first.withdraw()
    assert len(peer.match(value)[0]) == 1
    second.withdraw()
    assert peer.match(value) == [[]]


def test_no_value_of_a_withdrawn_signal_is_stored(service):
    from sqlalchemy import inspect, text

    values = [pdq(), pdq()]
    case = service.open(item(*values))
    case.withdraw()
    with service.parts.store.read() as tx:
        rows = tx.connection.execute(text("SELECT value, lookup, quality FROM signals")).all()
        tags = tx.connection.execute(text("SELECT tag, day FROM withdrawn")).all()
        tables = inspect(tx.connection).get_table_names()
        elsewhere = b"".join(
            bytes(cell)
            for table in set(tables) - {"withdrawn", "alembic_version"}
            for row in tx.connection.execute(text(f"SELECT * FROM {table}"))
            for cell in row
            if isinstance(cell, bytes | memoryview)
        )
    assert rows == [(None, None, None)] * 2
    # only to recognize contributions: 8 bytes under a key of their own, and the day
    vault = service.parts.store.vault
    assert {bytes(row.tag) for row in tags} == {vault.tag("pdq", bytes.fromhex(v)) for v in values}
    assert {row.day for row in tags} == {1_778_976_000}, "2026-05-17, midnight"
    for value in map(bytes.fromhex, values):
        lookup = vault.lookup("pdq", value)
        assert vault.tag("pdq", value) not in lookup + vault.lookup("case", value) + elsewhere
        assert value not in elsewhere
        assert lookup not in elsewhere


def test_a_case_is_renewed_once_an_hour(service, monkeypatch):
    case, store, writes = service.open(), service.parts.store, []
    write = store.write

    def counted():
        writes.append(service.clock())
        return write()

    monkeypatch.setattr(store, "write", counted)
    for _ in range(3):
        service.clock.advance(hours=1)
        assert case.status() == case.status()
    assert len(writes) == 3


def test_a_visit_renews_and_an_unvisited_case_expires(service):
    value = pdq()
    case = service.open(item(value))
    peer = service.platform()
    service.clock.advance(days=700)
    assert case.status()["expires"] == "2030-04-16T13:00:00Z"
    assert expire(service.parts.store, service.clock()) == 0
    service.clock.advance(days=731)
    assert purge(service.parts.store, retention_days=400, now=service.clock()) == PurgeResult(
        expired=1, taken_out=0, forgotten=0, replies=0, refused=0, open_cases=1
    )
    assert case.status()["state"] == "expired"
    peer = service.platform("Another")
    assert peer.match(value) == [[]]
    assert [e["op"] for e in peer.feed()["entries"]] == ["remove"]
    service.clock.advance(days=401)
    purge(service.parts.store, retention_days=400, now=service.clock())
    problem(service.client.get("/v1/case", headers=case.headers), 401, "credentials_wrong")
    # the removal remains after the case is deleted
    assert [e["op"] for e in service.platform("Third").feed()["entries"]] == ["remove"]


def test_the_status_shows_what_each_platform_did(service):
    value = pdq()
    case = service.open(item(value, pdq()), item(pdq()))
    follower = service.platform("Follower")
    asker = service.platform("Asker", [Scope.MATCH, Scope.FEEDBACK])
    before = case.status()["items"][0]["platforms"]
    unknown = {
        "veiled": False,
        "has_it_since": None,
        "matches": 0,
        "verdicts": {},
        "deletion_acknowledged": None,
    }
    assert before == [
        {"platform": "Asker", "follows": False} | unknown,
        {"platform": "Follower", "follows": True} | unknown,
    ]
    page = follower.feed()
    assert case.status()["items"][0]["platforms"] == before, "reading the feed confirms nothing"
    service.clock.advance(hours=3)
    follower.post("/v1/feed/ack", {"cursor": page["cursor"]})
    service.caught_up()
    [[hit]] = asker.match(value)
    asker.post("/v1/feedback", {"verdicts": [{"id": hit["id"], "verdict": "blocked"}]})
    service.parts._write_counts()
    asked, followed = case.status()["items"][0]["platforms"]
    assert followed["has_it_since"] == "2026-05-17T16:00:00Z"
    assert (asked["matches"], asked["verdicts"]) == (0, {}), "counted from the next day on"
    service.clock.advance(days=1)
    asked, followed = case.status()["items"][0]["platforms"]
    assert asked["matches"] == 1
    assert asked["verdicts"] == {"blocked": 1}
    assert asked["has_it_since"] is None
    case.withdraw(1)
    service.clock.advance(hours=2)
    assert case.status()["items"][0]["platforms"][1]["deletion_acknowledged"] is None
    page = follower.feed(cursor=page["cursor"])
    follower.post("/v1/feed/ack", {"cursor": page["cursor"]})
    _, followed = case.status()["items"][0]["platforms"]
    assert followed["has_it_since"] == "2026-05-17T16:00:00Z"
    assert followed["deletion_acknowledged"] == "2026-05-18T18:00:00Z"
    assert case.status()["items"][1]["platforms"][1]["deletion_acknowledged"] is None


def test_a_copy_acknowledged_and_deleted_within_an_hour_is_shown(service):
    case = service.open()
    follower = service.platform()
    page = follower.feed()
    follower.post("/v1/feed/ack", {"cursor": page["cursor"]})
    case.withdraw()
    page = follower.feed(cursor=page["cursor"])
    follower.post("/v1/feed/ack", {"cursor": page["cursor"]})
    [platform] = case.status()["items"][0]["platforms"]
    assert platform["has_it_since"] == platform["deletion_acknowledged"] == "2026-05-17T13:00:00Z"


def test_a_platform_that_never_had_it_is_not_shown_to_have_it(service):
    case = service.open()
    case.withdraw()
    follower = service.platform()
    follower.post("/v1/feed/ack", {"cursor": follower.feed()["cursor"]})
    [platform] = case.status()["items"][0]["platforms"]
    assert platform["has_it_since"] is None
    assert platform["deletion_acknowledged"] is not None


KEY = "0123456789abcdef0123456789abcdef"


def test_a_retried_opening_opens_one_case_and_gets_the_same_reply(service):
    body, headers = opening(), {"Idempotency-Key": KEY}
    first = service.client.post("/v1/cases", json=body, headers=headers)
    again = service.client.post("/v1/cases", json=body, headers=headers)
    assert first.status_code == again.status_code == 201
    assert first.content == again.content
    assert figures(service)["cases_open"] == 1
    other = service.client.post("/v1/cases", json=opening(), headers=headers)
    problem(other, 422, "idempotency_conflict")
    bad = service.client.post("/v1/cases", json=body, headers={"Idempotency-Key": "short"})
    problem(bad, 400, "bad_idempotency_key")
    service.clock.advance(hours=26)
    done = purge(service.parts.store, retention_days=400, now=service.clock())
    assert done.replies == 1


def test_concurrent_retries_open_one_case(service):
    body, headers = opening(), {"Idempotency-Key": KEY}

    def post(_):
        return service.client.post("/v1/cases", json=body, headers=headers)

    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(post, range(8)))
    assert {r.status_code for r in replies} == {201}
    assert len({r.content for r in replies}) == 1
    assert figures(service)["cases_open"] == 1


def test_idempotency_keys_are_separate_for_each_caller(service):
    first, second = service.open(), service.open()
    body = {"items": [item(pdq())]}
    for case in (first, second):
        headers = case.headers | {"Idempotency-Key": KEY}
        reply = service.client.post("/v1/case/items", json=body, headers=headers)
        assert reply.status_code == 201
    assert [len(c.status()["items"]) for c in (first, second)] == [2, 2]


def test_a_refused_write_can_be_retried_with_its_key(service):
    headers = {"Idempotency-Key": KEY}
    plain = opening(item(pdq(), quality=10))
    problem(service.client.post("/v1/cases", json=plain, headers=headers), 422, "nothing_accepted")
    reply = service.client.post("/v1/cases", json=opening(), headers=headers)
    assert reply.status_code == 201
