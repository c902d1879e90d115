import asyncio
import inspect
import secrets
import threading

import httpx
import pytest

from nciihash.client import AsyncPlatformClient, Client, PlatformClient
from nciihash.errors import InvalidRequest, ProtocolError, ServiceRefused
from nciihash.feed import Added, FeedPage, Removed
from nciihash.signals import Band, Hashed, Item, Media, Signal, SignalType, Variant, Verdict
from nciihash.wire import (
    ITEMS_MAX,
    OCTETS,
    PDQ_BYTES,
    QUERIES_MAX,
    SIGNALS_MAX,
    VERDICTS_MAX,
    CaseState,
    FeedbackTaken,
    Reason,
)
from support import serving
from support.local import random_item

KEY = "nciik_thisisnotarealkeyatall"


def pdq(value=None):
    return Signal(SignalType.PDQ, bytes.fromhex(serving.pdq()) if value is None else value)


def flipped(signal, bits):
    return Signal.from_hex(signal.type, serving.near(signal.hex, bits))


# --- against the real service ------------------------------------------------------------------


def test_a_case_from_opening_to_withdrawal(local):
    items = [random_item(), random_item(2)]
    with local.survivor() as client:
        opened = client.open_case(items, reason=Reason.SYNTHETIC, adult=True, depicted=True)
        assert [(i.item, i.accepted) for i in opened.items] == [(1, 1), (2, 2)]
        assert opened.passphrase not in repr(opened)
        credentials = opened.case, opened.passphrase

        added = client.add(*credentials, [random_item()])
        assert [i.item for i in added.items] == [3]

        status = client.status(*credentials)
        assert (status.state, status.reason) == (CaseState.OPEN, Reason.SYNTHETIC)
        assert [i.signals for i in status.items] == [1, 2, 1]

        one = client.withdraw(*credentials, 2)
        assert (one.withdrawn, one.remaining, one.state) == (1, 2, CaseState.OPEN)
        rest = client.withdraw(*credentials)
        assert (rest.withdrawn, rest.remaining, rest.state) == (2, 0, CaseState.WITHDRAWN)
        assert client.withdraw(*credentials).withdrawn == 0
        with pytest.raises(ServiceRefused) as caught:
            client.add(*credentials, [random_item()])
        assert caught.value.problem == "case_closed"


def test_repeating_open_case_under_the_same_key_opens_one_case(local, platform):
    key, item = secrets.token_hex(16), random_item()
    with local.survivor() as client:
        first, second = (
            client.open_case(
                [item], reason=Reason.SHARED, adult=True, depicted=True, idempotency_key=key
            )
            for _ in range(2)
        )
    assert first == second
    assert len(platform.match([item.hashes[0].signal])[0]) == 1


@pytest.mark.parametrize(("adult", "depicted"), [(False, True), (True, False), (False, False)])
def test_a_refusal_for_a_missing_declaration_is_not_uncertain(local, adult, depicted):
    with local.survivor() as client, pytest.raises(ServiceRefused) as caught:
        client.open_case([random_item()], reason=Reason.SHARED, adult=adult, depicted=depicted)
    assert caught.value.problem == "declaration_missing"
    assert not caught.value.uncertain


def test_a_wrong_passphrase_and_an_unknown_case_look_the_same(local):
    case, passphrase = local.open(random_item())
    with local.survivor() as client:
        problems = []
        for pair in ((case, "wrong words"), ("K7Q4-29XD-MM3R", passphrase)):
            with pytest.raises(ServiceRefused) as caught:
                client.status(*pair)
            problems.append(str(caught.value))
            assert passphrase not in str(caught.value)
        assert problems[0] == problems[1]


def test_feed_pages_acknowledgement_and_deletion(local, platform):
    cursor = None
    while (page := platform.feed(cursor)).entries or page.more:
        cursor = page.cursor
    item = Item(
        Media.IMAGE,
        (
            Hashed(pdq(), quality=77, variant=Variant.FLIPX),
            Hashed(Signal(SignalType.SHA256, secrets.token_bytes(32))),
        ),
    )
    case = local.open(item)
    page = platform.feed(cursor)
    assert len(page.entries) == len(item.hashes)
    assert {(e.signal, e.quality, e.variant, e.media) for e in page.entries} == {
        (h.signal, h.quality, h.variant, Media.IMAGE) for h in item.hashes
    }
    assert all(isinstance(e, Added) for e in page.entries)
    first = platform.feed(cursor, limit=1)
    assert (first.entries, first.more) == (page.entries[:1], True)
    assert platform.feed(first.cursor, limit=1).entries == page.entries[1:]

    platform.acknowledge(page.cursor)
    with local.survivor() as client:
        (status,) = client.status(*case).items
        assert any(p.has_it_since is not None for p in status.platforms)
    local.withdraw(case)
    removals = platform.feed(page.cursor)
    assert set(removals.entries) == {Removed(e.id) for e in page.entries}


def test_a_long_poll_returns_when_a_case_is_opened(local, platform):
    cursor = None
    while (page := platform.feed(cursor)).entries or page.more:
        cursor = page.cursor
    cursor = page.cursor
    polled = []
    thread = threading.Thread(target=lambda: polled.append(platform.feed(cursor, wait=30)))
    thread.start()
    local.open(random_item())
    thread.join(timeout=20)
    assert not thread.is_alive()
    assert len(polled[0].entries) == 1


def test_match_returns_bands_in_the_order_of_the_queries(local, platform):
    base, other = pdq(), pdq()
    sha = Signal(SignalType.SHA256, secrets.token_bytes(32))
    phash = Signal(SignalType.PHASH, secrets.token_bytes(8))
    local.open(
        Item(Media.IMAGE, (Hashed(base, quality=90), Hashed(sha), Hashed(phash))),
        Item(Media.IMAGE, (Hashed(other, quality=90),)),
    )
    queries = [
        *(sha, flipped(base, 32), flipped(base, 31), pdq(), flipped(base, 16), base),
        *(flipped(phash, 10), other, flipped(sha, 1)),
    ]
    while not platform.match([other])[0]:
        pass  # until the case is in the service's index
    found = platform.match(queries)
    strong, likely = [Band.STRONG], [Band.LIKELY]
    bands = [[hit.band for hit in hits] for hits in found]
    assert bands == [strong, [], likely, [], strong, strong, likely, strong, []]
    assert found[0][0].item == found[5][0].item != found[7][0].item
    assert platform.match([]) == []


def test_verdicts_reach_the_status(local, platform):
    item = random_item()
    case = local.open(item)
    while not (hits := platform.match([item.hashes[0].signal])[0]):
        pass
    reply = platform.feedback({hits[0].id: Verdict.BLOCKED, secrets.token_hex(16): Verdict.UNSURE})
    assert (reply.recorded, reply.unknown) == (1, 1)
    local.backdate_a_day()
    with local.survivor() as client:
        (status,) = client.status(*case).items
    assert [p.verdicts for p in status.platforms if p.verdicts] == [{Verdict.BLOCKED: 1}]
    assert platform.feedback({}).recorded == 0


def test_a_wrong_key_and_a_missing_scope(local):
    with PlatformClient(local.address, KEY) as client, pytest.raises(ServiceRefused) as caught:
        client.feed()
    assert (caught.value.status, caught.value.problem) == (401, "credentials_wrong")
    assert KEY not in str(caught.value)
    with (
        PlatformClient(local.address, local.platform("match")) as client,
        pytest.raises(ServiceRefused) as caught,
    ):
        client.feed()
    assert (caught.value.status, caught.value.problem) == (403, "scope_missing")


def test_a_foreign_cursor_is_refused(platform):
    with pytest.raises(ServiceRefused) as caught:
        platform.feed(secrets.token_hex(16))
    assert caught.value.problem == "bad_cursor"


# --- requests that are never sent, and invalid responses ---------------------------------------


def test_all_calls_return_the_same_in_asyncio(local, key, platform):
    case = local.open(item := random_item())
    signal = item.hashes[0].signal

    async def run():
        async with AsyncPlatformClient(local.address, key) as client:
            cursor, entries = None, []
            while True:
                page = await client.feed(cursor)
                assert page == platform.feed(cursor)
                entries += page.entries
                cursor = page.cursor
                if not page.more:
                    break
            await client.acknowledge(cursor)
            # many at once over one client
            found = await asyncio.gather(*(client.match([pdq(), signal]) for _ in range(8)))
            assert found == [platform.match([pdq(), signal])] * 8
            ((none, (hit,)), *_) = found
            assert none == ()
            reply = await client.feedback(
                {hit.id: Verdict.BLOCKED, secrets.token_hex(16): Verdict.UNSURE}
            )
            assert (reply.recorded, reply.unknown) == (1, 1)
            assert await client.veil() == platform.veil()
        async with AsyncPlatformClient(local.address, KEY) as stranger:
            with pytest.raises(ServiceRefused, match="does not accept this key"):
                await stranger.veil()

    asyncio.run(run())
    local.backdate_a_day()
    with local.survivor() as client:
        (status,) = client.status(*case).items
        assert any(p.has_it_since and p.verdicts.get(Verdict.BLOCKED) for p in status.platforms)


def test_a_long_poll_in_asyncio_ends_with_a_new_entry_and_can_be_cancelled(local, key, platform):
    cursor = None
    while (page := platform.feed(cursor)).entries or page.more:
        cursor = page.cursor

    async def run():
        async with AsyncPlatformClient(local.address, key) as client:
            waiting = asyncio.create_task(client.feed(cursor, wait=30))
            cancelled = asyncio.create_task(client.feed(cursor, wait=30))
            await asyncio.sleep(0.2)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            await asyncio.to_thread(local.open, item := random_item())
            page = await waiting
            assert [entry.signal for entry in page.entries] == [item.hashes[0].signal]

    asyncio.run(run())


def test_methods_have_signatures_and_docstrings_on_both_clients():
    names = ("veil", "feed", "acknowledge", "match", "feedback")
    for name in names:
        method, coroutine = getattr(PlatformClient, name), getattr(AsyncPlatformClient, name)
        assert inspect.signature(method) == inspect.signature(coroutine)
        assert next(iter(inspect.signature(method).parameters)) == "self"
        assert method.__doc__ == coroutine.__doc__
        assert inspect.iscoroutinefunction(coroutine)
        assert not inspect.iscoroutinefunction(method)
    assert inspect.signature(PlatformClient.feed).return_annotation is FeedPage
    assert inspect.signature(PlatformClient.feedback).return_annotation is FeedbackTaken
    public = {name for name in dir(AsyncPlatformClient) if not name.startswith("_")}
    assert public == {*names, "aclose"}
    assert public - {"aclose"} <= set(dir(PlatformClient))


def test_an_idempotency_key_covers_one_request():
    many = dict.fromkeys((f"{n:032x}" for n in range(VERDICTS_MAX + 1)), Verdict.BLOCKED)
    with client_of(refuse) as client, pytest.raises(InvalidRequest, match="idempotency key covers"):
        client.feedback(many, idempotency_key="ab" * 16)


def client_of(handler):
    return PlatformClient("https://example.org/base", KEY, http=httpx.MockTransport(handler))


def refuse(request):
    raise AssertionError("nothing should have been sent")


@pytest.mark.parametrize(
    "items", [[], [random_item()] * (ITEMS_MAX + 1), [random_item(SIGNALS_MAX + 1)]]
)
def test_too_few_or_too_many_items_are_never_sent(items):
    with (
        Client("https://example.org", http=httpx.MockTransport(refuse)) as client,
        pytest.raises(InvalidRequest),
    ):
        client.open_case(items, reason=Reason.SHARED, adult=True, depicted=True)


@pytest.mark.parametrize(
    ("case", "passphrase"), [("", "x"), ("a:b", "x"), ("K7Q4", " "), ("K7Q4", "\udce9")]
)
def test_malformed_credentials_are_never_sent(case, passphrase):
    with (
        Client("https://example.org", http=httpx.MockTransport(refuse)) as client,
        pytest.raises(InvalidRequest),
    ):
        client.status(case, passphrase)


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.feedback({"not an id": Verdict.BLOCKED}),
        lambda client: client.acknowledge("not a cursor"),
        lambda client: client.feed(limit=0),
        lambda client: client.feed(limit=10_001),
        lambda client: client.feed(wait=31),
    ],
)
def test_invalid_arguments_are_never_sent(call):
    with client_of(refuse) as client, pytest.raises(InvalidRequest):
        call(client)


def test_large_batches_are_split():
    sizes = []

    def handler(request):
        assert request.url.path == "/base/v1/match"
        assert request.headers["content-type"] == OCTETS
        count = len(request.content) // PDQ_BYTES
        sizes.append(count)
        hit = {"id": "0" * 32, "item": request.content[:16].hex(), "band": "strong"}
        rows = [[hit], *[[]] * (count - 1)]
        return httpx.Response(200, json={"as_of": "0" * 32, "matches": rows})

    queries = [pdq() for _ in range(2 * QUERIES_MAX + 1)]
    with client_of(handler) as client:
        found = client.match(queries)
    assert sizes == [QUERIES_MAX, QUERIES_MAX, 1]
    firsts = {i: found[i][0].item for i in range(len(found)) if found[i]}
    assert firsts == {i: queries[i].value[:16].hex() for i in (0, QUERIES_MAX, 2 * QUERIES_MAX)}


def test_plain_hashes_are_not_sent_and_truncated_hits_are_flagged():
    query, plain, tied = pdq(), Hashed(pdq(), quality=49), Hashed(pdq(), quality=90, tied=True)

    def handler(request):
        assert request.content == query.value * 2
        hit = {"id": "0" * 32, "item": "1" * 32, "band": "strong"}
        return httpx.Response(
            200, json={"as_of": "0" * 32, "matches": [[hit], [hit]], "truncated": [1]}
        )

    with client_of(handler) as client:
        found = client.match([plain, query, tied, Hashed(query, quality=50)])
    assert [len(hits) for hits in found] == [0, 1, 0, 1]
    assert [hits.truncated for hits in found] == [False, False, False, True]
    assert found[1] == tuple(found[3]), "hits compare equal to a tuple"


def test_many_verdicts_are_split():
    keys = []

    def handler(request):
        keys.append(request.headers["idempotency-key"])
        return httpx.Response(200, json={"recorded": 3, "unknown": 1})

    with client_of(handler) as client:
        reply = client.feedback(
            {secrets.token_hex(16): Verdict.UNSURE for _ in range(VERDICTS_MAX + 1)}
        )
    assert (reply.recorded, reply.unknown) == (6, 2)
    assert len(set(keys)) == 2


def test_a_response_about_another_number_of_hashes_is_a_protocol_error():
    def handler(request):
        return httpx.Response(200, json={"as_of": "0" * 32, "matches": [[]]})

    with client_of(handler) as client, pytest.raises(ProtocolError, match="2 hashes"):
        client.match([pdq(), pdq()])


def test_a_cursor_that_does_not_advance_is_a_protocol_error():
    def handler(request):
        return httpx.Response(200, json={"entries": [], "cursor": "0" * 32, "more": True})

    with client_of(handler) as client:
        assert client.feed().more
        with pytest.raises(ProtocolError, match="does not advance"):
            client.feed("0" * 32)


@pytest.mark.parametrize("call", [lambda c: c.feed(), lambda c: c.acknowledge("0" * 32)])
def test_a_refused_key_has_a_message_for_platforms(call):
    def handler(request):
        return httpx.Response(
            401,
            headers={"content-type": "application/problem+json"},
            json={"title": "Credentials", "status": 401, "code": "credentials_wrong"},
        )

    with (
        client_of(handler) as client,
        pytest.raises(ServiceRefused, match="does not accept") as caught,
    ):
        call(client)
    assert (caught.value.status, caught.value.problem) == (401, "credentials_wrong")
    assert "revoked" in str(caught.value)
    assert "passphrase" not in str(caught.value)


def test_a_page_with_a_value_of_another_length_is_a_protocol_error():
    entry = {
        "op": "add",
        "id": "0" * 32,
        "item": "0" * 32,
        "type": "pdq",
        "value": "0" * 16,
        "quality": 90,
        "media": "image",
        "variant": "original",
    }

    def handler(request):
        return httpx.Response(200, json={"entries": [entry], "cursor": "0" * 32, "more": False})

    with client_of(handler) as client, pytest.raises(ProtocolError, match="not one that"):
        client.feed()


def test_the_read_timeout_includes_the_wait_of_a_long_poll():
    timeouts = []

    def handler(request):
        timeouts.append(request.extensions["timeout"]["read"])
        return httpx.Response(200, json={"entries": [], "cursor": "0" * 32, "more": False})

    with client_of(handler) as client:
        client.feed(wait=30)
        client.feed()
    assert timeouts == [60.0, 30.0]
