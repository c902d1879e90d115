"""PieFed's hashing endpoint, asked as PieFed does (`retrieve_image_hash` in app/utils.py)."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from nciihash.errors import SandboxUnavailable
from nciihash.gate.dialects.fetching import Fetcher
from nciihash.gate.dialects.piefed import routes
from nciihash.gate.outcome import Dialect
from nciihash.gate.pool import PoolFull
from nciihash.gate.rehearsal import picture_items
from support.gating import dialect_config, gate_config, open_gate
from support.origin import Names, Origin, origin, respond
from support.pictures import encode, textured
from support.videos import make_video, moving_frames

BLOCK = (Path(__file__).parents[3] / "docs" / "gate" / "block.jpg").read_bytes()
ITEM = "test picture: block"
FILES = {"/static/block.jpg": BLOCK, "/static/none": b"text"}


@pytest.fixture(scope="module")
def runner():
    with asyncio.Runner() as running:
        yield running


@pytest.fixture(scope="module")
def gate(runner, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gate")
    opening = open_gate(folder, picture_items(), gate_config(folder))
    yield runner.run(opening.__aenter__())
    runner.run(opening.__aexit__(None, None, None))


@dataclass
class Asking:
    """Asks for the hash of a file of the platform's own host."""

    client: httpx.AsyncClient
    served: Origin

    def __call__(self, path, host=None, **keywords):
        url = f"http://{host or f'piefed.test:{self.served.port}'}{path}"
        return self.client.get("/pdq-hash", params={"image_url": url}, **keywords)


@asynccontextmanager
async def piefed(gate, files=FILES, *, hosts=None, limits=None, **changes):
    """Run a gate that fetches from a host of files."""
    names = Names(piefed_test="127.0.0.1", other_test="127.0.0.1")
    async with origin(lambda path: respond(files[path])) as served:
        host = f"piefed.test:{served.port}"
        named = frozenset({f"{host}@127.0.0.1"}) if hosts is None else frozenset(hosts)
        dialects = {Dialect.PIEFED: dialect_config(hosts=named, **changes)}
        gate.reload(replace(gate.config, dialects=dialects, limits=limits or gate.config.limits))
        transport = httpx.ASGITransport(Starlette(routes=routes(gate, Fetcher(resolver=names))))
        async with httpx.AsyncClient(transport=transport, base_url="http://gate.test") as client:
            yield Asking(client, served)


def test_the_hash_is_one_that_piefed_compares(runner, gate):
    async def run():
        async with piefed(gate) as ask:
            answer = await ask("/static/block.jpg")
            assert answer.status_code == 200
            found = answer.json()
            assert found.keys() == {"pdq_hash_binary", "quality"}
            assert set(found["pdq_hash_binary"]) == {"0", "1"}
            assert len(found["pdq_hash_binary"]) == 256
            assert found["quality"] == 100
            bank = picture_items()[ITEM].hashes[0].signal
            banked = f"{int.from_bytes(bank.value, 'big'):0256b}"
            pairs = zip(found["pdq_hash_binary"], banked, strict=True)
            assert sum(one != other for one, other in pairs) < 15

    runner.run(run())


def test_a_plain_image_has_a_low_quality(runner, gate):
    flat = encode(textured(5).point(lambda _: 128), "PNG")

    async def run():
        async with piefed(gate, {"/flat.png": flat}) as ask:
            assert (await ask("/flat.png")).json()["quality"] < 70

    runner.run(run())


def test_what_cannot_be_hashed(runner, gate):
    files = FILES | {"/video.mp4": make_video(moving_frames()), "/empty": b""}

    async def run():
        async with piefed(gate, files) as ask:
            for path in ("/static/none", "/video.mp4", "/empty"):
                answer = await ask(path)
                assert answer.status_code == 400
                assert answer.json() == {"error": "The image cannot be hashed."}

    runner.run(run())


def test_other_hosts_and_bad_urls_are_refused(runner, gate):
    async def run():
        async with piefed(gate) as ask:
            for host in ("other.test", "127.0.0.1", "piefed.test", "u:p@piefed.test", "[::1]"):
                answer = await ask("/secret", host)
                assert answer.status_code == 400
                assert list(answer.json()) == ["error"]
                assert "secret" not in answer.text
            assert (await ask.client.get("/pdq-hash")).status_code == 400
            assert (await ask.client.get("/pdq-hash?image_url=")).status_code == 400
            assert (await ask.client.post("/pdq-hash")).status_code == 405
            assert not ask.served.requests
        async with piefed(gate, hosts=()) as ask:
            assert (await ask("/static/block.jpg")).status_code == 400
            assert not ask.served.requests

    runner.run(run())


def test_piefed_is_asked_to_try_again_while_there_is_no_capacity(runner, gate, monkeypatch):
    async def full(*_, **__):
        raise PoolFull("full")

    async def none(*_, **__):
        raise SandboxUnavailable("none")

    async def run():
        async with piefed(gate) as ask:
            monkeypatch.setattr(gate.pool, "hash", full)
            assert (await ask("/static/block.jpg")).status_code == 429
            monkeypatch.setattr(gate.pool, "hash", none)
            assert (await ask("/static/block.jpg")).status_code == 503
            monkeypatch.undo()
            monkeypatch.setattr(gate.memory, "total", 1000)
            assert (await ask("/static/block.jpg")).status_code == 429
            assert gate.memory.used == 0

    runner.run(run())


def test_too_large_images(runner, gate, monkeypatch):
    monkeypatch.setattr(gate, "config", gate.config)
    limits = replace(gate.config.limits, image_bytes=1000, video_bytes=1000)

    async def run():
        async with piefed(gate, limits=limits) as ask:
            assert (await ask("/static/block.jpg")).status_code == 400
            assert gate.memory.used == 0

    runner.run(run())


def test_a_token_is_required_where_one_is_set(runner, gate):
    async def run():
        async with piefed(gate, token="secret") as ask:
            assert (await ask("/static/block.jpg")).status_code == 401
            headers = {"Authorization": "Bearer secret"}
            assert (await ask("/static/block.jpg", headers=headers)).status_code == 200
            # httpx, which PieFed uses, takes it from IMAGE_HASHING_ENDPOINT
            asked = {"image_url": f"http://piefed.test:{ask.served.port}/static/block.jpg"}
            url = "http://gate:secret@gate.test/pdq-hash"
            assert (await ask.client.get(url, params=asked)).status_code == 200

    runner.run(run())


def test_any_url_is_answered(runner, gate):
    async def run():
        async with piefed(gate) as ask:
            loop = asyncio.get_running_loop()

            async def send(url):
                answer = await ask.client.get("/pdq-hash", params={"image_url": url})
                assert answer.status_code == 400
                assert list(answer.json()) == ["error"]

            @settings(deadline=None, suppress_health_check=list(HealthCheck))
            @given(st.text(max_size=50) | st.text(max_size=50).map("http://piefed.test".__add__))
            def attempt(url):
                asyncio.run_coroutine_threadsafe(send(url), loop).result()

            await asyncio.to_thread(attempt)

    runner.run(run())
