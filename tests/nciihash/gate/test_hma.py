"""HMA's API, asked as its callers do: Coop, and policyserv, which uses hma-matrix.

The requests are those of roostorg/coop (server/services/hmaService), matrix-org/policyserv
(content/hma.go) and of the documentation of HMA.
"""

import asyncio
import hashlib
import json
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from nciihash.errors import ServiceUnreachable
from nciihash.gate.dialects.fetching import Fetcher
from nciihash.gate.dialects.hma import routes
from nciihash.gate.dialects.hma_fields import content_id, match_fields, nearest_items
from nciihash.gate.dialects.recent import RecentItems
from nciihash.gate.outcome import Decision, Dialect
from nciihash.gate.policy import Action, Fail, MediaPolicy, Policy
from nciihash.gate.pool import PoolFull
from nciihash.gate.rehearsal import picture_items
from nciihash.gate.transport.http_connections import HttpLimits
from nciihash.gate.transport.http_server import HttpServer
from nciihash.sdk.lookup import LookupResult
from nciihash.signals import Band, Level, Match, SignalType, Variant
from nciihash.wire import Hit
from support.gating import SwitchableBank, dialect_config, open_gate
from support.origin import Names, origin, respond
from support.pictures import encode, textured
from support.videos import make_video, moving_frames

PICTURES = Path(__file__).parents[3] / "docs" / "gate"
BLOCK, REVIEW, CLEAR, UNREADABLE = (
    (PICTURES / f"{name}.jpg").read_bytes() for name in ("block", "review", "clear", "unreadable")
)
ITEM = "test picture: block"
OTHER = "f" * 64


@pytest.fixture(scope="module")
def items():
    return picture_items()


@pytest.fixture(scope="module")
def runner():
    """The event loop of all tests: a gate takes seconds to start."""
    with asyncio.Runner() as running:
        yield running


@pytest.fixture(scope="module")
def shared(runner, tmp_path_factory, items):
    """A gate for all tests, with its first bank."""
    stack = AsyncExitStack()
    opening = stack.enter_async_context(open_gate(tmp_path_factory.mktemp("gate"), items))
    yield runner.run(opening)
    runner.run(stack.aclose())


@pytest.fixture
def gate(shared, monkeypatch, items):
    """The gate as it was at first."""
    monkeypatch.setattr(shared, "bank", SwitchableBank(items))
    monkeypatch.setattr(shared, "config", shared.config)
    return shared


@asynccontextmanager
async def client(gate, *, names=None, limits=None, **changes):
    """Return a client of the API of a gate with this configuration of the dialect."""
    config = replace(gate.config, dialects={Dialect.HMA: dialect_config(**changes)})
    gate.reload(replace(config, limits=limits or config.limits))
    transport = httpx.ASGITransport(
        Starlette(routes=routes(gate, Fetcher(resolver=names or Names())))
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://gate.test") as opened:
        yield opened


def form(data, name="photo"):
    return {name: ("x", data)}


def pdq_of(items, name=ITEM):
    return items[name].hashes[0].signal.hex


def near(digits, bits):
    return f"{int(digits, 16) ^ ((1 << bits) - 1):064x}"


def test_coop_matches_an_image_by_the_hash_of_its_url(runner, gate, items):
    """Its bank is created first, and found by its name ever after."""

    async def run():
        async with (
            origin(lambda path: respond(BLOCK if path == "/a%20b.jpg" else CLEAR)) as served,
            client(
                gate,
                names=Names(media_test="127.0.0.1"),
                hosts=frozenset({f"media.test:{served.port}@127.0.0.1"}),
                banks=("COOP_1_NCII",),
            ) as hma,
        ):
            made = await hma.post("/c/banks", json={"name": "COOP_1_NCII", "enabled_ratio": "1"})
            assert made.status_code == 201
            assert made.json() == {"name": "COOP_1_NCII", "matching_enabled_ratio": 1.0}
            assert (await hma.get("/c/bank/COOP_1_NCII")).json() == made.json()

            for path, matched in (("a%20b.jpg", True), ("other.jpg", False)):
                url = f"http://media.test:{served.port}/{path}"
                hashed = await hma.get("/h/hash", params={"url": url})
                assert hashed.status_code == 200
                assert list(hashed.json()) == ["pdq"]
                asked = {"signal_type": "pdq", "signal": hashed.json()["pdq"]}
                found = await hma.get("/m/lookup", params=asked)
                assert found.status_code == 200
                assert (len(found.json().get("COOP_1_NCII", [])) > 0) is matched
                assert found.headers["Gate-Decision"] == ("block" if matched else "clear")

    runner.run(run())


def test_policyserv_hashes_a_file_and_looks_up_what_it_gets(runner, gate, items):
    async def run():
        async with client(gate, token="secret") as hma:
            headers = {"Authorization": "Bearer secret"}
            banks = {}
            for name, data in (("block", BLOCK), ("review", REVIEW), ("clear", CLEAR)):
                hashed = await hma.post("/h/hash", files=form(data), headers=headers)
                assert hashed.status_code == 200
                for signal_type, signal in hashed.json().items():
                    asked = f"/m/lookup?signal_type={signal_type}&signal={signal}"
                    found = await hma.get(asked, headers=headers)
                    banks[name] = list(found.json())
            assert banks == {"block": ["NCII"], "review": ["NCII"], "clear": []}

    runner.run(run())


def test_a_file_is_looked_up_at_once(runner, gate, items):
    async def run():
        async with client(gate) as hma:
            found = await hma.post(
                "/m/lookup", files=form(BLOCK), params={"bypass_coinflip": "true"}
            )
            ((signal_type, banks),) = found.json().items()
            ((bank, (match,)),) = banks.items()
            assert (signal_type, bank) == ("pdq", "NCII")
            assert match == {"bank_content_id": content_id(ITEM), "distance": match["distance"]}
            assert 0 <= int(match["distance"]) <= 31
            assert found.headers["Gate-Decision"] == "block"
            assert found.headers["Cache-Control"] == "no-store"
            reference = found.headers["Gate-Reference"]
            assert gate.decisions.get(reference, now=gate._clock())

            part = await hma.post("/m/lookup", files=form(REVIEW))
            assert part.headers["Gate-Decision"] == "review"
            ((match,),) = part.json()["pdq"].values()
            assert int(match["distance"]) <= 16, "of an aligned window"

            other = await hma.post("/m/lookup", files=form(CLEAR))
            assert other.json() == {"pdq": {}}
            assert "Gate-Reference" not in other.headers

    runner.run(run())


def test_a_url_is_looked_up_at_once(runner, gate, items):
    async def run():
        async with (
            origin(lambda _: respond(BLOCK)) as served,
            client(
                gate,
                names=Names(media_test="127.0.0.1"),
                hosts=frozenset({f"media.test:{served.port}@127.0.0.1"}),
            ) as hma,
        ):
            url = f"http://media.test:{served.port}/x"
            whole = await hma.get("/m/lookup", params={"url": url, "content_type": "photo"})
            assert list(whole.json()["pdq"]) == ["NCII"]
            inner = await hma.get("/m/lookup", params={"url": url, "signal_type": "pdq"})
            assert inner.json() == whole.json()["pdq"]
            assert (
                await hma.get("/m/lookup", params={"url": url, "types": "video_md5"})
            ).json() == {}
            assert len(served.requests) == 3
            for refused in ("http://other.test/", "file:///etc/passwd", "http://127.0.0.1/"):
                for path in ("/m/lookup", "/h/hash"):
                    answer = await hma.get(path, params={"url": refused})
                    assert answer.status_code == 400
                    assert list(answer.json()) == ["message"]
                    assert not any(word in answer.text for word in ("passwd", "127", "other"))
            assert len(served.requests) == 3

    runner.run(run())


def test_urls_are_refused_until_hosts_are_named(runner, gate, items):
    async def run():
        names = Names(media_test="1.1.1.1")
        async with client(gate, names=names) as hma:
            for path in ("/h/hash", "/m/lookup"):
                answer = await hma.get(path, params={"url": "http://media.test/"})
                assert answer.status_code == 400
                assert "configuration names the hosts" in answer.json()["message"]
        assert not names.asked

    runner.run(run())


def test_hashes_are_looked_up_within_31_bits(runner, gate, items):
    async def run():
        async with client(gate) as hma:
            for bits, found in ((0, True), (31, True), (40, False)):
                asked = {"signal_type": "pdq", "signal": near(pdq_of(items), bits)}
                answer = await hma.get("/m/lookup", params=asked)
                raw = await hma.get("/m/raw_lookup", params=asked)
                far = await hma.get("/m/raw_lookup", params=asked | {"include_distance": "True"})
                if found:
                    match = {"bank_content_id": content_id(ITEM), "distance": str(bits)}
                    assert answer.json() == {"NCII": [match]}
                    assert answer.headers["Gate-Decision"] == "review", "its detail is not known"
                    assert raw.json() == {"matches": [match["bank_content_id"]]}
                    assert far.json() == {"matches": [match]}
                else:
                    assert answer.json() == {}
                    assert raw.json() == far.json() == {"matches": []}

    runner.run(run())


def test_banks_can_be_chosen(runner, gate, items):
    async def run():
        async with client(gate, banks=("A", "B")) as hma:
            asked = {"signal_type": "pdq", "signal": pdq_of(items)}
            for banks, expected in (("", ["A", "B"]), ("B", ["B"]), ("C,A", ["A"]), ("C", [])):
                answer = await hma.get("/m/lookup", params=asked | {"banks": banks})
                raw = await hma.get("/m/raw_lookup", params=asked | {"banks": banks})
                assert list(answer.json()) == expected
                assert bool(raw.json()["matches"]) is bool(expected)
                file = await hma.post("/m/lookup", files=form(BLOCK), params={"banks": banks})
                assert list(file.json()["pdq"]) == expected

    runner.run(run())


def test_the_hash_of_a_file(runner, gate, items):
    async def run():
        async with client(gate) as hma:
            hashed = await hma.post("/h/hash", files=form(encode(textured(5), "PNG")))
            ((name, digits),) = hashed.json().items()
            assert name == "pdq"
            assert len(bytes.fromhex(digits)) == 32
            plain = encode(textured(5).resize((8, 8)).resize((300, 300)).convert("L"), "PNG")
            flat = encode(textured(5).point(lambda _: 128), "PNG")
            assert (await hma.post("/h/hash", files=form(flat))).json() == {"pdq": ""}
            assert (await hma.post("/h/hash", files=form(plain))).status_code == 200
            asked = {"types": "video_md5"}
            assert (await hma.post("/h/hash", files=form(flat), params=asked)).json() == {}
            assert (await hma.post("/h/hash", files=form(UNREADABLE))).status_code == 400

    runner.run(run())


def test_a_video_has_an_md5_by_which_its_frames_are_found(runner, gate, items):
    video = make_video(moving_frames())

    async def run():
        frames = await gate.pool.hash(video, level=Level.FAST, then=lambda item: item)
        gate.bank = SwitchableBank({"video": frames})
        async with client(gate) as hma:
            hashed = await hma.post("/h/hash", files=form(video, "video"))
            digest = hashlib.md5(video).hexdigest()
            assert hashed.json() == {"video_md5": digest}
            asked = {"signal_type": "video_md5", "signal": digest}
            assert list((await hma.get("/m/lookup", params=asked)).json()) == ["NCII"]
            assert (await hma.get("/m/raw_lookup", params=asked)).json() == {"matches": []}
            found = await hma.post("/m/lookup", files=form(video, "video"))
            assert found.json()["video_md5"] == {}
            assert list(found.json()["pdq"]) == ["NCII"]

    runner.run(run())


def test_only_files_with_a_match_are_remembered(runner, gate, items):
    async def run():
        gate.reload(replace(gate.config, dialects={Dialect.HMA: dialect_config()}))
        recent = RecentItems()
        built = routes(gate, Fetcher(resolver=Names()), recent)
        transport = httpx.ASGITransport(Starlette(routes=built))
        async with httpx.AsyncClient(transport=transport, base_url="http://gate.test") as hma:
            await hma.post("/h/hash", files=form(CLEAR))
            assert len(recent) == 0
            await hma.post("/h/hash", files=form(REVIEW))
            assert len(recent) == 1

    runner.run(run())


def test_hashes_are_compared(runner, gate, items):
    one = pdq_of(items)

    async def run():
        async with client(gate) as hma:
            pairs = {"pdq": [one, near(one, 9)], "video_md5": ["0" * 32, "0" * 32]}
            answer = await hma.post("/m/compare", json=pairs)
            assert answer.json() == {
                "pdq": [True, {"distance": 9}],
                "video_md5": [True, {"distance": 0}],
            }
            pairs = {"pdq": [one, near(one, 32)], "video_md5": ["0" * 32, "f" * 32]}
            answer = await hma.post("/m/compare", json=pairs)
            assert answer.json() == {
                "pdq": [False, {"distance": 32}],
                "video_md5": [False, {"distance": 1}],
            }
            assert (await hma.post("/m/compare", json={})).json() == {}

    runner.run(run())


def test_what_a_caller_reads_about_the_bank(runner, gate, items):
    async def run():
        async with client(gate, banks=("A", "B")) as hma:

            async def read(path):
                answer = await hma.get(path)
                return answer.status_code, answer.json()

            size = gate.bank.state().signals
            assert await read("/c/banks") == (
                200,
                [{"name": name, "matching_enabled_ratio": 1.0} for name in ("A", "B")],
            )
            assert await read("/c/bank/C") == (404, {"message": "bank not found"})
            status, index = await read("/m/index/status")
            assert status == 200
            assert index.keys() == {"pdq", "video_md5"}
            assert index["pdq"]["present"] is True
            assert index["pdq"]["size"] == size
            assert isinstance(index["pdq"]["built_to"], int)
            assert (await read("/m/index/status?signal_type=pdq"))[1].keys() == {"pdq"}
            assert (await read("/m/index/status?signal_type=x"))[0] == 400
            index = (await read("/c/signal_type/index"))[1]["pdq"]
            assert index["db_size"] == index["index_size"] == size
            assert index["index_out_of_date"] is False
            types = [{"name": name, "enabled_ratio": 1.0} for name in ("pdq", "video_md5")]
            assert await read("/c/signal_type") == (200, types)
            assert (await read("/c/content_type"))[1][0] == {"name": "photo", "enabled": True}
            assert await read("/c/exchanges") == await read("/c/exchanges/apis") == (200, [])
            assert await read("/c/exchange/A") == (404, {"message": "Exchange not found"})
            assert "/m/lookup" in (await read("/site-map"))[1]

    runner.run(run())


def test_the_bank_is_read_only(runner, gate, items):
    async def run():
        async with client(gate) as hma:
            for method, path in (
                ("POST", "/c/banks"),
                ("PUT", "/c/bank/NCII"),
                ("DELETE", "/c/bank/NCII"),
                ("POST", "/c/bank/NCII/content"),
                ("POST", "/c/bank/NCII/signal"),
                ("DELETE", "/c/bank/NCII/content/1"),
                ("POST", "/c/exchanges"),
            ):
                answer = await hma.request(method, path, json={"name": "OTHER", "enabled": False})
                assert answer.status_code == 403
                assert "read-only" in answer.json()["message"]

    runner.run(run())


def test_the_status_says_whether_the_bank_can_be_relied_on(runner, gate, items):
    async def run():
        async with client(gate, token="secret") as hma:
            answers = []
            for changes in ({}, {"as_of": None}, {"as_of": 1.0}):
                gate.bank.changes = changes
                answer = await hma.get("/status")
                answers.append((answer.status_code, answer.text))
            assert answers == [
                (200, "I-AM-ALIVE"),
                (503, "INDEX-NOT-LOADED"),
                (503, "INDEX-STALE"),
            ]
            raw = {"signal_type": "pdq", "signal": OTHER}
            gate.bank.changes = {"as_of": None}
            answer = await hma.get(
                "/m/raw_lookup", params=raw, headers={"Authorization": "Bearer secret"}
            )
            assert answer.status_code == 503

    runner.run(run())


def test_a_token_is_required_where_one_is_set(runner, gate, items):
    async def run():
        async with client(gate, token="secret") as hma:
            for path in ("/c/banks", "/m/lookup", "/h/hash", "/m/index/status"):
                for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}):
                    answer = await hma.get(path, headers=headers)
                    assert answer.status_code == 401
                    assert answer.json() == {"message": "Authentication required"}
            headers = {"Authorization": "Bearer secret"}
            assert (await hma.get("/c/banks", headers=headers)).status_code == 200
            assert (await hma.get("/site-map")).status_code == 200

    runner.run(run())


@pytest.mark.parametrize("fail", Fail)
def test_what_cannot_be_read_fails_as_configured(runner, gate, items, fail):
    async def run():
        async with client(gate, policy=Policy(unsupported=fail, unreadable=fail)) as hma:
            for data in (UNREADABLE, b"%PDF", b"x" * 100):
                found = await hma.post("/m/lookup", files=form(data))
                if fail is Fail.OPEN:
                    assert (found.status_code, found.json()) == (200, {})
                    assert found.headers["Gate-Decision"] == "unreadable"
                else:
                    assert found.status_code == 400
                    assert found.json() == {"message": "The file cannot be hashed."}

    runner.run(run())


BREAKAGES = {
    "empty": lambda gate: gate.bank.changes.update(as_of=None),
    "stale": lambda gate: gate.bank.changes.update(as_of=1.0),
    "unconfirmed": lambda gate: setattr(gate.bank, "error", ServiceUnreachable("away")),
    "fault": lambda gate: setattr(gate.bank, "error", ZeroDivisionError("secret")),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
@pytest.mark.parametrize("fail", Fail)
def test_what_cannot_be_checked_fails_as_configured(runner, gate, items, fail, breakage):
    async def run():
        BREAKAGES[breakage](gate)
        async with client(gate, policy=Policy(unchecked=fail)) as hma:
            asked = {"signal_type": "pdq", "signal": pdq_of(items)}
            for found in (
                await hma.post("/m/lookup", files=form(BLOCK)),
                await hma.get("/m/lookup", params=asked),
            ):
                if fail is Fail.OPEN:
                    assert (found.status_code, found.json()) == (200, {})
                    assert found.headers["Gate-Decision"] == "unchecked"
                else:
                    assert found.status_code == 503
                    assert list(found.json()) == ["message"]

    runner.run(run())


def test_a_full_queue(runner, gate, monkeypatch):
    async def full(*_, **__):
        raise PoolFull("full")

    async def run():
        monkeypatch.setattr(gate.pool, "hash", full)
        async with client(gate) as hma:
            answer = await hma.post("/h/hash", files=form(BLOCK))
            assert answer.status_code == 503
            assert answer.headers["Retry-After"] == "1"

    runner.run(run())


def test_a_dry_run_answers_no_match(runner, gate, items):
    async def run():
        async with client(gate, dry_run=True) as hma:
            found = await hma.post("/m/lookup", files=form(BLOCK))
            assert found.json() == {"pdq": {}}
            asked = {"signal_type": "pdq", "signal": pdq_of(items)}
            assert (await hma.get("/m/lookup", params=asked)).json() == {}

    runner.run(run())


def test_the_policy_decides_which_matches_are_answered(runner, gate, items):
    ignore = Policy(image=MediaPolicy(review=Action.CLEAR))

    async def run():
        async with client(gate, policy=ignore) as hma:
            assert (await hma.post("/m/lookup", files=form(REVIEW))).json() == {"pdq": {}}
            assert (await hma.post("/m/lookup", files=form(BLOCK))).json() != {"pdq": {}}
            asked = {"signal_type": "pdq", "signal": pdq_of(items)}
            assert (await hma.get("/m/lookup", params=asked)).json() == {}

    runner.run(run())


def test_too_large_files(runner, gate, items):
    async def run():
        limits = replace(gate.config.limits, image_bytes=1000, video_bytes=1000)
        async with client(gate, limits=limits) as hma:
            assert (await hma.post("/h/hash", files=form(BLOCK[:1500]))).status_code == 413
            answer = await hma.post("/h/hash", files=form(BLOCK))
            assert answer.status_code == 413
            assert list(answer.json()) == ["message"]
            assert gate.memory.used == 0

    runner.run(run())


@pytest.mark.parametrize(
    ("method", "path", "request_", "status"),
    [
        ("GET", "/h/hash", {}, 400),
        ("GET", "/h/hash?url=", {}, 400),
        ("GET", "/h/hash?url=http://a.test/&content_type=audio", {}, 400),
        ("GET", "/h/hash?url=http://a.test/&types=", {}, 400),
        ("GET", "/h/hash?url=http://a.test/&types=pdq,SECRET", {}, 400),
        ("POST", "/h/hash", {}, 400),
        ("POST", "/h/hash", {"content": BLOCK}, 400),
        ("POST", "/h/hash", {"json": {"url": "http://a.test/"}}, 400),
        ("POST", "/h/hash", {"data": {"photo": "text"}, "files": {"x": ("", b"")}}, 400),
        ("POST", "/h/hash", {"files": [("photo", ("a", b"1")), ("photo", ("b", b"2"))]}, 400),
        ("POST", "/m/lookup", {"files": [("photo", ("a", b"1")), ("video", ("b", b"2"))]}, 400),
        ("POST", "/m/lookup?types=SECRET", {"files": form(b"1")}, 400),
        (
            "POST",
            "/m/lookup",
            {"content": b"--x", "headers": {"Content-Type": "multipart/form-data"}},
            400,
        ),
        ("GET", "/m/lookup", {}, 400),
        ("GET", "/m/lookup?signal_type=pdq", {}, 400),
        ("GET", f"/m/lookup?signal={OTHER}", {}, 400),
        ("GET", f"/m/lookup?signal_type=SECRET&signal={OTHER}", {}, 400),
        ("GET", "/m/lookup?signal_type=pdq&signal=", {}, 400),
        ("GET", "/m/lookup?signal_type=pdq&signal=SECRET", {}, 400),
        ("GET", f"/m/lookup?signal_type=pdq&signal={OTHER}0", {}, 400),
        ("GET", f"/m/lookup?signal_type=video_md5&signal={OTHER}", {}, 400),
        ("GET", "/m/lookup?url=http://a.test/&signal_type=SECRET", {}, 400),
        ("GET", f"/m/raw_lookup?signal_type=pdq&signal={OTHER}&include_distance=SECRET", {}, 400),
        ("GET", "/m/raw_lookup", {}, 400),
        ("POST", "/m/compare", {}, 400),
        ("POST", "/m/compare", {"content": b"{"}, 400),
        ("POST", "/m/compare", {"content": b"\xff\xfe"}, 400),
        ("POST", "/m/compare", {"content": b"[" * 10_000}, 400),
        ("POST", "/m/compare", {"json": ["pdq"]}, 400),
        ("POST", "/m/compare", {"json": {"pdq": "SECRET"}}, 400),
        ("POST", "/m/compare", {"json": {"pdq": [OTHER]}}, 400),
        ("POST", "/m/compare", {"json": {"pdq": [OTHER, OTHER, OTHER]}}, 400),
        ("POST", "/m/compare", {"json": {"pdq": [OTHER, 1]}}, 400),
        ("POST", "/m/compare", {"json": {"pdq": [OTHER, None]}}, 400),
        ("POST", "/m/compare", {"json": {"pdq": [OTHER, "SECRET"]}}, 400),
        ("POST", "/m/compare", {"json": {"SECRET": [OTHER, OTHER]}}, 400),
        ("POST", "/m/compare", {"content": b" " * 20_000}, 413),
        ("POST", "/c/banks", {"json": {}}, 403),
        ("POST", "/c/banks", {"json": {"name": ["NCII"]}}, 403),
        ("POST", "/c/banks", {"content": b"SECRET"}, 400),
        ("GET", "/c/bank/SECRET", {}, 404),
        ("GET", "/c/bank/..%2F..%2Fetc", {}, 404),
    ],
)
def test_malformed_requests(runner, gate, items, method, path, request_, status):
    async def run():
        async with client(gate, hosts=frozenset({"a.test"})) as hma:
            answer = await hma.request(method, path, **request_)
            assert answer.status_code == status
            if answer.headers["content-type"] == "application/json":
                assert list(answer.json()) == ["message"]
            assert "SECRET" not in answer.text

    runner.run(run())


VALUES = st.text(max_size=30) | st.sampled_from(
    ["pdq", "video_md5", OTHER, "http://a.test/", "true"]
)
PATHS = ("/h/hash", "/m/lookup", "/m/raw_lookup", "/m/compare", "/m/index/status", "/c/banks")
NAMES = ("url", "signal", "signal_type", "banks", "types", "content_type", "include_distance")
PARAMETERS = st.dictionaries(st.sampled_from(NAMES), VALUES)


def test_any_parameters_and_bodies_are_answered(runner, gate, items):
    async def run():
        async with client(gate) as hma:
            loop = asyncio.get_running_loop()
            refused = 0

            async def send(method, path, parameters, body):
                nonlocal refused
                answer = await hma.request(method, path, params=parameters, content=body)
                assert answer.status_code in {200, 201, 400, 403, 404, 405, 413}
                if answer.status_code == 400:
                    refused += 1
                    assert list(answer.json()) == ["message"]

            @settings(deadline=None, suppress_health_check=list(HealthCheck))
            @given(
                st.sampled_from(["GET", "POST"]),
                st.sampled_from(PATHS),
                PARAMETERS,
                st.binary(max_size=100)
                | st.recursive(st.none() | st.integers() | VALUES, st.lists)
                .map(json.dumps)
                .map(str.encode),
            )
            def attempt(method, path, parameters, body):
                sent = send(method, path, parameters, body)
                asyncio.run_coroutine_threadsafe(sent, loop).result()

            await asyncio.to_thread(attempt)
            assert refused

    runner.run(run())


def test_a_connection_is_kept_and_what_is_unread_is_dropped(runner, gate):
    async def run():
        dialect = dialect_config()
        gate.reload(replace(gate.config, dialects={Dialect.HMA: dialect}))
        built = routes(gate, Fetcher(resolver=Names()))
        server = HttpServer(dialect.listen, built, HttpLimits(), close_seconds=1)
        await server.start()
        address = f"http://127.0.0.1:{server.port}"
        async with httpx.AsyncClient(base_url=address) as hma:
            ports = set()
            large = bytes(5 << 20)
            for method, path, body, status in (
                ("GET", "/c/banks", None, 200),
                ("GET", "/m/lookup", None, 400),
                ("GET", "/m/lookup", b"a body", 400),
                ("POST", "/m/lookup?types=SECRET", large, 400),
                ("POST", "/c/bank/NCII/content", large, 403),
                ("POST", "/m/compare", large, 413),
                ("GET", "/status", None, 200),
            ):
                answer = await hma.request(method, path, content=body)
                assert answer.status_code == status
                assert answer.content
                stream = answer.extensions["network_stream"]
                ports.add(stream.get_extra_info("client_addr")[1])
            assert len(ports) == 1
        server.close()
        await server.wait_closed()

    runner.run(run())


def test_a_client_that_leaves_ends_the_fetch(runner, gate):
    async def run():
        asked = asyncio.Event()

        async def silent():
            asked.set()
            await asyncio.Event().wait()
            yield b""

        async with origin(lambda _: silent()) as served:
            dialect = dialect_config(hosts=frozenset({f"a.test:{served.port}@127.0.0.1"}))
            gate.reload(replace(gate.config, dialects={Dialect.HMA: dialect}))
            fetcher = Fetcher(resolver=Names(a_test="127.0.0.1"), seconds=600)
            server = HttpServer(
                dialect.listen, routes(gate, fetcher), HttpLimits(), close_seconds=1
            )
            await server.start()
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            url = f"/m/lookup?url=http://a.test:{served.port}/"
            writer.write(f"GET {url} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await asked.wait()
            writer.close()
            while fetcher.running:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.01)
            server.close()
            await server.wait_closed()

    runner.run(run())


def test_hashing_waits_for_no_clearinghouse(runner, gate):
    """A file that resembles something in a veiled bank is kept until its hash is looked up."""

    def unanswered(*_):
        raise ServiceUnreachable("away")

    async def run():
        async with client(gate) as hma:
            gate.bank.remote, look_up = True, gate.bank.look_up
            gate.bank.look_up = unanswered
            hashed = (await hma.post("/h/hash", files={"photo": BLOCK})).json()
            asked = {"signal": hashed["pdq"], "signal_type": "pdq"}
            answer = await hma.get("/m/raw_lookup", params=asked)
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
            gate.bank.look_up = look_up
            found = await hma.get("/m/lookup", params=asked)
            assert found.headers["gate-decision"] == "block"
            raw = await hma.get("/m/raw_lookup", params=asked)
            assert raw.json()["matches"]
            assert gate.confirmations.pending == 0

    runner.run(run())


class TestFields:
    def test_content_ids_fit_a_double_and_do_not_change(self):
        assert content_id("9f0c5d3f7be14f4e0b9d3c1f6a2e8d47") == content_id(
            "9f0c5d3f7be14f4e0b9d3c1f6a2e8d47"
        )
        assert (
            content_id("test picture: block")
            == int.from_bytes(
                hashlib.blake2s(b"test picture: block", digest_size=8).digest(), "big"
            )
            >> 11
        )

    @given(st.text())
    def test_every_id_is_a_safe_integer(self, item):
        number = content_id(item)
        assert 0 <= number < 2**53
        assert int(float(number)) == number

    def test_there_is_one_match_for_each_item_the_nearest(self):
        def match(id, item, distance, aligned=None):
            pdq = SignalType.PDQ
            return pdq, Match(id, item, pdq, Variant.ORIGINAL, distance, aligned)

        found = (match("1", "a", 20), match("2", "a", 10), match("3", "b", 50, 5))
        nearest = nearest_items(LookupResult(found))
        assert nearest == {"pdq": {"a": 10, "b": 5}}
        assert match_fields(nearest["pdq"]) == [
            {"bank_content_id": content_id("b"), "distance": "5"},
            {"bank_content_id": content_id("a"), "distance": "10"},
        ]

    def test_hits_of_a_clearinghouse_have_the_distance_of_their_band(self):
        def hit(item, band):
            return SignalType.PDQ, Hit(id="0" * 32, item=item * 32, band=band)

        found = (hit("a", Band.STRONG), hit("b", Band.LIKELY))
        assert nearest_items(LookupResult(found)) == {"pdq": {"a" * 32: 16, "b" * 32: 31}}

    def test_digests_of_videos_have_hmas_name(self):
        md5 = SignalType.MD5
        found = ((md5, Match("1", "a", md5, Variant.ORIGINAL, 0)),)
        assert nearest_items(LookupResult(found)) == {"video_md5": {"a": 0}}


def test_every_decision_is_answered():
    """A new decision needs an answer here."""
    assert set(Decision) == {
        Decision.BLOCK,
        Decision.REVIEW,
        Decision.CLEAR,
        Decision.UNREADABLE,
        Decision.UNCHECKED,
    }
