"""The routes of decisions, in the application of the own HTTP dialect."""

import asyncio
import json
from contextlib import contextmanager
from dataclasses import replace

import httpx
import pytest
from starlette.applications import Starlette

from nciihash.gate.decisions import DecisionStore
from nciihash.gate.decisions.records import DecisionKind, new_reference
from nciihash.gate.dialects.decision_routes import decision_routes
from nciihash.gate.dialects.http import routes
from nciihash.gate.dialects.uploads import BodyTooSlow
from nciihash.gate.gate import Gate
from nciihash.gate.metrics import Metrics
from nciihash.gate.outcome import Decision, Dialect, Reason
from nciihash.gate.pool import HashPool
from nciihash.signals import Band, Match, Media, SignalType, Variant, Verdict
from support.full_disk import full_disk
from support.gating import SwitchableBank, dialect_config, gate_config

NOW = 1_795_000_123.5
BLOCK = DecisionKind(Dialect.HTTP, Media.IMAGE, Decision.BLOCK, Reason.MATCH, Band.STRONG, True)
MATCH = Match("a" * 32, "b" * 32, SignalType.PDQ, Variant.ORIGINAL, 4)
TOKEN = "a-secret-token-of-the-gate"


@contextmanager
def open_gate(folder, token=None):
    """Open a gate that hashes nothing here, so that its sandbox need not start."""
    config = gate_config(folder, {Dialect.HTTP: replace(dialect_config(), token=token)})
    pool = HashPool(config.limits, jobs=1, video_jobs=1)
    with DecisionStore(folder / "decisions") as store:
        bank = SwitchableBank({})
        yield Gate(config, bank=bank, pool=pool, decisions=store, metrics=Metrics())


def run(folder, test, *, token=None, clock=lambda: NOW):
    """Run an async test with a client of the routes, and the gate's store with one decision."""

    async def main():
        with open_gate(folder, token) as gate:
            reference = gate.decisions.record(BLOCK, [MATCH], obeyed=True, now=NOW)
            app = Starlette(routes=decision_routes(gate, clock=clock))
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://gate") as client:
                await test(client, gate.decisions, reference)

    asyncio.run(main())


def problem(reply, status, code):
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    body = reply.json()
    assert (body["status"], body["code"]) == (status, code)
    return body


def test_a_decision_is_shown_turned_and_turned_again(tmp_path):
    async def test(client, store, reference):
        path = f"/decisions/{reference}"
        reply = await client.get(path)
        assert reply.headers["cache-control"] == "no-store"
        first = {
            "reference": reference,
            "state": "blocked",
            "decision": "block",
            "reason": "match",
            "dialect": "http",
            "media": "image",
            "band": "strong",
            "dry_run": False,
            "items": ["b" * 32],
            "hour": "2026-11-18T11:00:00Z",
            "changed": "2026-11-18T11:00:00Z",
            "by": None,
        }
        assert reply.json() == first
        reply = await client.post(path, json={"verdict": "not_blocked", "by": "Ana"})
        assert reply.status_code == 200
        assert reply.json() == first | {"state": "not_blocked", "by": "Ana"}
        assert (await client.get(path.lower())).json() == reply.json()
        reply = await client.post(path, json={"verdict": "blocked"})
        assert reply.json() == first
        assert store.get(reference, now=NOW).state is Verdict.BLOCKED

    run(tmp_path, test)


def test_unknown_and_expired_references_are_the_same_problem(tmp_path):
    async def test(client, store, reference):
        replies = []
        for unknown in (new_reference(), "x", "%00", "a" * 5000, "<script>"):
            replies.append(await client.get(f"/decisions/{unknown}"))
            replies.append(await client.post(f"/decisions/{unknown}", json={"verdict": "blocked"}))
            assert unknown not in replies[-1].text or unknown == "x"
        late.append(91 * 86400)
        replies.append(await client.get(f"/decisions/{reference}"))
        assert len({reply.text for reply in replies}) == 1
        for reply in replies:
            problem(reply, 404, "reference_unknown")

    late = [0]
    run(tmp_path, test, clock=lambda: NOW + late[-1])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"blocked"',
        b"{}",
        b'{"verdict": "pending"}',
        b'{"verdict": "BLOCKED"}',
        b'{"verdict": ["blocked"]}',
        b'{"verdict": "blocked", "by": 7}',
        b'{"verdict": "blocked", "by": "two\\nlines"}',
        b'{"verdict": "blocked", "more": 1}',
        b'{"verdict": "blocked"}' + b" " * 4096,
        b"[" * 4000,
        b"\xff\xfe",
        json.dumps({"verdict": "blocked", "by": "x" * 65}).encode(),
    ],
)
def test_what_is_not_a_verdict_is_refused_without_an_echo(tmp_path, body):
    async def test(client, store, reference):
        reply = await client.post(
            f"/decisions/{reference}", content=body, headers={"Content-Type": "application/json"}
        )
        detail = problem(reply, 400, "verdict_invalid")["detail"]
        assert "two" not in detail
        assert store.get(reference, now=NOW).decided is None

    run(tmp_path, test)


def test_a_body_that_does_not_arrive_is_given_up(tmp_path, monkeypatch):
    async def trickle():
        yield b"{"
        await asyncio.Event().wait()

    async def test(client, store, reference):
        # the transport of the tests passes chunks on as they are sent
        headers = {"Content-Type": "application/json"}
        path = f"/decisions/{reference}"
        reply = await client.post(path, content=trickle(), headers=headers)
        assert reply.status_code == BodyTooSlow.status
        assert store.get(reference, now=NOW).decided is None

    monkeypatch.setattr("nciihash.gate.dialects.decision_routes._BODY_SECONDS", 0.05)
    run(tmp_path, test)


@pytest.mark.parametrize("type", ["text/plain", "application/x-www-form-urlencoded", "", None])
def test_a_form_of_another_site_decides_nothing(tmp_path, type):
    async def test(client, store, reference):
        headers = {} if type is None else {"Content-Type": type}
        content = b'{"verdict": "not_blocked"}'
        reply = await client.post(f"/decisions/{reference}", content=content, headers=headers)
        problem(reply, 415, "json_needed")
        assert store.get(reference, now=NOW).decided is None

    run(tmp_path, test)


def test_the_token_is_required(tmp_path):
    async def test(client, store, reference):
        path, body = f"/decisions/{reference}", {"verdict": "not_blocked"}
        problem(await client.get(path), 401, "token_needed")
        problem(await client.post(path, json=body), 401, "token_needed")
        assert store.get(reference, now=NOW).decided is None
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert (await client.post(path, json=body, headers=headers)).status_code == 200

    run(tmp_path, test, token=TOKEN)


def fill(store):
    for _ in range(100):
        store.record(BLOCK, [MATCH], obeyed=True, now=NOW)


def test_a_full_disk_is_reported_and_changes_nothing(tmp_path):
    async def test(client, store, reference):
        with full_disk(tmp_path):
            with pytest.raises(OSError, match="cannot be read or written"):
                fill(store)
            reply = await client.post(f"/decisions/{reference}", json={"verdict": "not_blocked"})
            body = problem(reply, 503, "decisions_unavailable")
            assert str(tmp_path) not in body["detail"]
            assert reply.headers["retry-after"]
            assert (await client.get(f"/decisions/{reference}")).status_code == 200
        assert store.get(reference, now=NOW).decided is None

    run(tmp_path, test)


def test_the_own_dialect_serves_them(tmp_path):
    with open_gate(tmp_path) as gate:
        assert "/decisions/{reference}" in {getattr(route, "path", "") for route in routes(gate)}


def test_a_second_store_sees_what_was_decided(tmp_path):
    async def test(client, store, reference):
        await client.post(f"/decisions/{reference}", json={"verdict": "unsure"})
        with DecisionStore(tmp_path / "decisions") as other:
            assert other.get(reference, now=NOW).state is Verdict.UNSURE

    run(tmp_path, test)
