"""Proof of work: the price of submitting signals, and that a proof is valid for one request."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from clearinghouse.abuse.proof_of_work import EFFORT_MAX, LIFE, SMALL, ProofOfWork
from clearinghouse.app import create_app
from clearinghouse.cases import lifecycle, passphrases
from clearinghouse.database.store import Store
from clearinghouse.errors import CheckWorkNeeded, WorkNeeded
from clearinghouse.maintenance.purge import purge
from clearinghouse.sealing.vault import Vault
from clearinghouse.settings import Settings
from clearinghouse.times import hour
from nciihash.client import Client
from nciihash.errors import ProtocolError, ServiceRefused
from nciihash.wire import Reason
from nciihash.wire.proof_of_work import (
    DIFFICULTY_MAX,
    PUZZLES,
    PUZZLES_MAX,
    Work,
    WorkAsked,
    from_header,
    solve,
    solves,
    to_header,
)
from support.local import random_item
from support.pictures import scene
from support.service_process import ServiceProcess
from support.serving import (
    NOW,
    Clock,
    RunningService,
    figures,
    flood,
    item,
    opening,
    pdq,
    problem,
    solved,
)

KEY = "0123456789abcdef0123456789abcdef"


# --- the puzzles -----------------------------------------------------------------------------


@given(st.text("0123456789abcdef", max_size=200), st.integers(0, 7))
def test_a_solution_satisfies_the_definition(challenge, difficulty):
    progress = []
    nonces = solve(challenge, difficulty, solved=lambda: progress.append(1))
    assert solves(challenge, difficulty, nonces)
    assert len(nonces) == len(progress) == PUZZLES
    seed = sha256(challenge.encode()).digest()
    for puzzle, nonce in enumerate(nonces):
        digest = sha256(seed + puzzle.to_bytes(4) + nonce.to_bytes(4)).hexdigest()
        assert f"{int(digest, 16):0256b}".startswith("0" * difficulty)


def test_wrong_solutions_are_rejected():
    nonces = solve("abc", 6)
    assert solves("abc", 6, nonces)
    assert not solves("abd", 6, nonces)
    assert not solves("abc", 6, nonces[:-1])
    assert not solves("abc", 6, (*nonces, 0))
    assert not solves("abc", 6, nonces[::-1])
    assert not solves("abc", 6, (-1, *nonces[1:]))
    assert not solves("abc", 6, (2**32, *nonces[1:]))
    assert not solves("abc", 6, nonces, PUZZLES - 1)
    with pytest.raises(ValueError, match="0 to 20"):
        solve("abc", DIFFICULTY_MAX + 1)
    with pytest.raises(ValueError, match="1 to 64"):
        solve("abc", 6, PUZZLES_MAX + 1)


@given(st.integers(0, 5), st.integers(1, PUZZLES_MAX))
def test_a_proof_survives_a_round_trip_in_a_header(difficulty, puzzles):
    challenge = "ab" * 41
    work = Work(challenge=challenge, nonces=solve(challenge, difficulty, puzzles))
    assert from_header(to_header(work)) == work
    assert solves(challenge, difficulty, work.nonces, puzzles)
    assert to_header(work).isascii()


@pytest.mark.parametrize("text", ["", "é", "e30=", "!", "x" * 5000, "bnVsbA=="])
def test_an_invalid_header_is_rejected(text):
    with pytest.raises(ValueError, match=r"too long|not a proof"):
        from_header(text)


# --- the price -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("work") / "db"
    store = Store.open(Settings(database=f"sqlite:///{path}", argon2_memory=64))
    yield store
    store.close()


@pytest.fixture
def now(store):
    """Return a time with no records in the store."""
    store.hours = getattr(store, "hours", 0) + 10
    return NOW + timedelta(hours=store.hours)


@pytest.fixture
def proof_of_work(store):
    return ProofOfWork(store.vault, openings=10, signals=20_000)


def effort(asked):
    return asked.puzzles << asked.difficulty if asked.challenge else 0


def test_opening_a_case_is_free_under_light_load_and_capped_under_heavy_load(
    proof_of_work, store, now
):
    asked = []
    for _ in range(1000):
        asked.append(effort(proof_of_work.ask(store, now, 1)))
        proof_of_work.count(now)
    assert asked[:11] == [0] * 11
    assert asked[11:] == sorted(asked[11:])
    assert 2**16 <= asked[11] <= 2**17
    assert asked[-1] == max(asked) == EFFORT_MAX
    assert effort(proof_of_work.ask(store, now + timedelta(minutes=5), 1)) == 0
    assert effort(proof_of_work.ask(store, now - timedelta(days=1), 1)) == EFFORT_MAX, (
        "a clock set back does not reset the count"
    )


@given(
    st.lists(st.integers(1, 1024), min_size=1, max_size=20),
    st.floats(0, 1e9),
    st.integers(0, 1000),
)
def test_ten_files_never_cost_more_than_the_cap(parts, taken, openings):
    """Whatever the load and the number of requests; the same holds for a check."""
    proof_of_work = ProofOfWork(Vault(b"\1" * 32), openings=10, signals=20_000)
    flood(proof_of_work, openings)
    before = total = 0
    for part in parts:
        new = min(part, SMALL - before)
        if not new:
            break
        needed = proof_of_work.needed(before, new, taken, NOW)
        total += effort(proof_of_work._asked(needed, NOW, PUZZLES_MAX))
        before += new
    # the cap is a second on a phone (docs/limits.md); 1/32 is for rounding to whole puzzles
    assert total <= EFFORT_MAX * (1 + 1 / 32)
    assert effort(proof_of_work.ask_for_check(2**30, NOW)) == EFFORT_MAX


@given(st.integers(1, 30_000), st.integers(1, 30_000), st.floats(0, 1e6), st.integers(0, 50))
def test_the_price_of_a_case_does_not_depend_on_how_it_is_divided(one, other, taken, openings):
    proof_of_work = ProofOfWork(Vault(b"\1" * 32), openings=10, signals=20_000)
    flood(proof_of_work, openings)
    whole = proof_of_work.needed(0, one + other, taken, NOW)
    # the load includes submitted signals, so the first part raises the price of the second
    parts = proof_of_work.needed(0, one, taken + other, NOW) + proof_of_work.needed(
        one, other, taken + one, NOW
    )
    assert parts >= whole - 2 * 256, "work of less than 256 hashes is not asked for"
    assert parts <= whole + 2


def test_the_price_depends_on_the_signals_of_the_last_hour(proof_of_work, store, now):
    def price(signals, **later):
        return effort(proof_of_work.ask(store, now + timedelta(**later), signals))

    assert price(SMALL) == 0
    assert 0 < price(3 * SMALL) < EFFORT_MAX, "a large case always costs a little"
    proof_of_work.pay(store, None, signals=SMALL, now=now)
    with store.write() as tx:
        tx.proofs.add_intake(20_000, hour(now))
    few, many = price(260), price(520)
    assert 0 < few < many < 2.1 * few
    with store.write() as tx:
        tx.proofs.add_intake(20_000, hour(now))
    assert 1.8 * few < price(260) < 2.2 * few
    with store.write() as tx:
        tx.proofs.add_intake(10**9, hour(now))
    assert EFFORT_MAX * 0.98 <= price(SMALL) <= EFFORT_MAX * 1.04
    assert price(SMALL, hours=3) == 0
    other = ProofOfWork(store.vault, openings=10, signals=20_000)
    assert effort(other.ask(store, now, SMALL)) == price(SMALL), "workers and restarts agree"


def test_signals_of_the_previous_hour_count_in_part(store, now):
    start = now.replace(minute=0, second=0)
    with store.write() as tx:
        tx.proofs.add_intake(1000, hour(start))
    with store.read() as tx:
        found = [tx.proofs.count_intake(start + timedelta(minutes=m)) for m in (0, 59, 60, 90, 120)]
    assert found == [1000, 1000, 1000, 500, 0]


def test_twenty_thousand_hashes_are_not_free(proof_of_work):
    assert proof_of_work.needed(0, 20_480, 0, NOW) > 3_900_000
    taken = price = 0
    for _ in range(6):
        price += proof_of_work.needed(0, 20_480, taken, NOW)
        taken += 20_480
    assert price > 40_000_000
    # as cases small enough to be free at first
    taken = small = 0
    while taken < 120_000:
        small += proof_of_work.needed(0, SMALL, taken, NOW)
        taken += SMALL
    assert small > 38_000_000


# --- payment ---------------------------------------------------------------------------------


@pytest.fixture
def pay(proof_of_work, store, now):
    """Return a function that pays for ten signals of a new case."""
    return lambda work, later=0: proof_of_work.pay(
        store, work, signals=10, now=now + timedelta(seconds=later)
    )


def test_a_proof_is_valid_once_for_an_hour_at_one_service(proof_of_work, store, now, pay):
    flood(proof_of_work, 11, now)
    first, second, third = (solved(proof_of_work.ask(store, now, 10)) for _ in range(3))
    pay(first)
    with pytest.raises(WorkNeeded):
        pay(first)
    flood(proof_of_work, 11, now + timedelta(seconds=LIFE))
    pay(second, LIFE)
    with pytest.raises(WorkNeeded):
        pay(third, LIFE + 1)
    other = ProofOfWork(Vault(b"\2" * 32), openings=10, signals=20_000)
    flood(other, 11, now)
    with pytest.raises(WorkNeeded):
        other.pay(store, third, signals=10, now=now)
    # another worker of the same service
    twin = ProofOfWork(store.vault, openings=10, signals=20_000)
    flood(twin, 11, now)
    twin.pay(store, third, signals=10, now=now)
    with pytest.raises(WorkNeeded):
        proof_of_work.pay(store, third, signals=10, now=now)


def test_missing_forged_unsolved_and_too_easy_proofs_are_refused(proof_of_work, store, now, pay):
    flood(proof_of_work, 11, now)
    asked = proof_of_work.ask(store, now, 10)
    work = solved(asked)
    wrong = [None, work.model_copy(update={"nonces": (*work.nonces[1:], work.nonces[0])})]
    wrong.append(work.model_copy(update={"nonces": work.nonces[:-1]}))
    # difficulty, puzzles, time, random bits, signature
    for index in (1, 3, 10, 30, 81):
        digits = list(asked.challenge)
        digits[index] = f"{int(digits[index], 16) ^ 1:x}"
        challenge = "".join(digits)
        nonces = solve(challenge, asked.difficulty, asked.puzzles)
        wrong.append(Work(challenge=challenge, nonces=nonces))
    wrong.append(solved(proof_of_work.ask_for_check(EFFORT_MAX, now)))  # for another purpose
    for bad in wrong:
        with pytest.raises(WorkNeeded) as caught:
            pay(bad)
        assert effort(caught.value.work) >= effort(asked)
    flood(proof_of_work, 1, now)
    pay(work)  # a little more than needed, so that it survives a price rise
    work = solved(proof_of_work.ask(store, now, 10))
    flood(proof_of_work, 100, now)
    with pytest.raises(WorkNeeded) as caught:
        pay(work)
    pay(solved(caught.value.work))


def test_a_proof_for_a_check_is_valid_for_two_minutes_and_once(proof_of_work, store, now):
    first, second = (solved(proof_of_work.ask_for_check(2**10, now)) for _ in range(2))
    late = now + timedelta(seconds=121)
    with pytest.raises(CheckWorkNeeded):
        proof_of_work.pay_for_check(store, second, 2**10, late)
    assert proof_of_work.pay_for_check(store, first, 2**10, now) == 2**10
    with pytest.raises(CheckWorkNeeded) as caught:
        proof_of_work.pay_for_check(store, first, 2**12, now)
    assert effort(caught.value.work) == 2**12
    flood(proof_of_work, 11, now)
    with pytest.raises(CheckWorkNeeded):
        proof_of_work.pay_for_check(store, solved(proof_of_work.ask(store, now, 10)), 2**10, now)


# --- over HTTP -------------------------------------------------------------------------------


@pytest.fixture
def flooded(service):
    flood(service.parts.proof_of_work, 61, service.clock())
    return service


def work_for(service, **query):
    """Solve the service's current challenge."""
    reply = service.client.get("/v1/work", params=query)
    return solved(WorkAsked.model_validate(reply.json())).model_dump()


def test_no_work_is_asked_for_under_light_load(service):
    reply = service.client.get("/v1/work")
    assert reply.json() == {"challenge": None, "difficulty": 0, "puzzles": PUZZLES}
    service.open()
    assert figures(service)["cases_open"] == 1


def test_a_request_without_a_count_gets_what_older_clients_expect(flooded):
    asked = flooded.client.get("/v1/work").json()
    assert asked["puzzles"] == PUZZLES
    problem(flooded.client.get("/v1/work", params={"signals": 0}), 422, "invalid_request")
    more = flooded.client.get("/v1/work", params={"signals": 40}).json()
    assert more["puzzles"] <= PUZZLES_MAX


def test_in_a_flood_each_case_needs_a_proof_of_its_own(flooded):
    post = flooded.client.post
    body = problem(post("/v1/cases", json=opening()), 428, "work_needed")
    assert "/v1/work" in body["detail"]
    offered = solved(WorkAsked.model_validate(body["work"])).model_dump()
    work = work_for(flooded)
    plain = opening(item(pdq(), quality=3), work=work)
    problem(post("/v1/cases", json=plain), 422, "nothing_accepted")
    undeclared = opening(work=work, declaration={"adult": True, "depicted": False})
    problem(post("/v1/cases", json=undeclared), 422, "declaration_missing")
    assert post("/v1/cases", json=opening(work=work)).status_code == 201, (
        "a refused request spends no proof"
    )
    problem(post("/v1/cases", json=opening(work=work)), 428, "work_needed")
    assert figures(flooded)["cases_open"] == 1
    assert post("/v1/cases", json=opening(work=offered)).status_code == 201


def test_every_request_of_a_large_case_needs_work(settings):
    clock = Clock()
    app = create_app(replace(settings, quiet_signals=2000), clock=clock)
    with TestClient(app, raise_server_exceptions=False) as client:
        service = RunningService(app, client, clock, settings)
        case = service.open(*(item(*(pdq() for _ in range(500))) for _ in range(2)))
        add = partial(client.post, "/v1/case/items", headers=case.headers)
        new = {"items": [item(*(pdq() for _ in range(400)))]}
        offered = problem(add(json=new), 428, "work_needed")["work"]
        asked = client.get("/v1/work", params={"signals": 400, "before": 1000}).json()
        assert {**asked, "challenge": ""} == {**offered, "challenge": ""}
        work = solved(WorkAsked.model_validate(offered)).model_dump()
        closed = service.open()
        closed.withdraw()
        late = client.post("/v1/case/items", headers=closed.headers, json=new | {"work": work})
        problem(late, 409, "case_closed")
        case.withdraw(1)
        key = {"Idempotency-Key": KEY}
        first = add(json=new | {"work": work}, headers=case.headers | key)
        assert first.status_code == 201, (
            "withdrawn ones count, and a refused request spends no proof"
        )
        again = add(json=new | {"work": work}, headers=case.headers | key)
        assert (again.status_code, again.content) == (201, first.content)
        problem(add(json=new | {"work": work}), 428, "work_needed")


@pytest.mark.parametrize(
    "work",
    [
        {},
        {"challenge": "00", "nonces": [0] * 16},
        {"challenge": "0" * 82, "nonces": []},
        {"challenge": "0" * 82, "nonces": [0] * 65},
        {"challenge": "0" * 82, "nonces": [-1] * 16},
        {"challenge": "0" * 82, "nonces": ["0"] * 16},
        {"challenge": "0" * 82, "nonces": [0] * 16, "name": "x"},
    ],
)
def test_a_malformed_proof_is_an_invalid_request(service, work):
    problem(service.client.post("/v1/cases", json=opening(work=work)), 422, "invalid_request")


def test_a_malformed_header_is_rejected_before_the_check(service):
    case = service.open()
    reply = service.client.get("/v1/case", headers=case.headers | {"Work": "secret"})
    body = problem(reply, 422, "invalid_request")
    assert "secret" not in reply.text
    assert "Work" in body["detail"]
    assert service.parts.checks.checked == 0


def test_a_forged_or_used_proof_creates_no_verifier(flooded):
    forged = {"challenge": "0" * 82, "nonces": [0] * 16}
    problem(flooded.client.post("/v1/cases", json=opening(work=forged)), 428, "work_needed")
    work = work_for(flooded)
    with ThreadPoolExecutor(16) as pool:
        send = lambda _: flooded.client.post("/v1/cases", json=opening(work=work))  # noqa: E731
        replies = list(pool.map(send, range(32)))
    assert sorted(r.status_code for r in replies) == [201] + [428] * 31
    assert flooded.parts.checks.made == 1


def test_a_lost_reply_is_sent_again_even_after_the_proof_expired(flooded):
    body, headers = opening(work=work_for(flooded)), {"Idempotency-Key": KEY}
    first = flooded.client.post("/v1/cases", json=body, headers=headers)
    assert first.status_code == 201
    flooded.clock.advance(seconds=LIFE + 60)
    flood(flooded.parts.proof_of_work, 61, flooded.clock())
    again = flooded.client.post("/v1/cases", json=body, headers=headers)
    assert (again.status_code, again.content) == (201, first.content)
    bare = flooded.client.post("/v1/cases", json=body | {"work": None}, headers=headers)
    assert bare.content == first.content, "whatever proof is sent with it"
    other = flooded.client.post("/v1/cases", json=opening(), headers=headers)
    problem(other, 422, "idempotency_conflict")


def test_a_request_that_failed_after_its_proof_was_spent_needs_a_new_one(flooded, monkeypatch):
    body, headers = opening(work=work_for(flooded)), {"Idempotency-Key": KEY}

    def die(*_args, **_kwargs):
        raise OSError("no space")

    with monkeypatch.context() as patched:
        patched.setattr(lifecycle, "open_case", die)
        reply = flooded.client.post("/v1/cases", json=body, headers=headers)
        problem(reply, 503, "database_away")
    reply = flooded.client.post("/v1/cases", json=body, headers=headers)
    offered = problem(reply, 428, "work_needed")["work"]
    work = solved(WorkAsked.model_validate(offered)).model_dump()
    reply = flooded.client.post("/v1/cases", json=body | {"work": work}, headers=headers)
    assert reply.status_code == 201
    assert figures(flooded)["cases_open"] == 1


def test_no_proof_is_spent_while_too_many_openings_wait(flooded, monkeypatch):
    body = opening(work=work_for(flooded))
    with monkeypatch.context() as patched:
        patched.setattr(passphrases, "_OPENINGS_MAX", 0)
        problem(flooded.client.post("/v1/cases", json=body), 429, "too_many_checks")
    assert flooded.client.post("/v1/cases", json=body).status_code == 201


def test_spent_proofs_are_deleted_after_they_expired(flooded):
    store = flooded.parts.store
    with store.write() as tx:
        assert tx.proofs.spend(b"a" * 32, 0)
        assert not tx.proofs.spend(b"a" * 32, 0)
        tx.proofs.add_intake(5, 0)
    purge(store, retention_days=400, now=flooded.clock())
    with store.write() as tx:
        assert tx.proofs.spend(b"a" * 32, 0)
        assert tx.proofs.count_intake(datetime.fromtimestamp(0, UTC)) == 0


# --- the client and the command line ---------------------------------------------------------


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """Yield a service that asks for work after one opened case a minute."""
    with ServiceProcess(
        tmp_path_factory.mktemp("busy"), CLEARINGHOUSE_QUIET_OPENINGS="1"
    ) as running:
        yield running


def crowd(serving):
    with Client(serving.address) as client:
        for _ in range(4):
            client.open_case([random_item()], reason=Reason.SHARED, adult=True, depicted=True)


def test_the_client_does_the_requested_work(busy):
    crowd(busy)
    progress = []
    with Client(busy.address) as client:
        client.open_case(
            [random_item()],
            reason=Reason.SHARED,
            adult=True,
            depicted=True,
            on_work=lambda *step: progress.append(step),
        )
    puzzles = progress[0][1]
    assert 1 <= puzzles <= PUZZLES_MAX
    assert progress[: puzzles + 1] == [(done, puzzles) for done in range(puzzles + 1)]


def submit(busy, folder, **options):
    scene(320, 240, seed=3).save(folder / "a.jpg", quality=95)
    arguments = (
        "submit",
        "a.jpg",
        "--server",
        busy.address,
        "--yes",
        "--reason",
        "shared",
        "--json",
    )
    return subprocess.Popen(
        [sys.executable, "-m", "nciihash", *arguments], cwd=folder, text=True, **options
    )


def test_the_command_line_explains_the_delay(busy, tmp_path):
    crowd(busy)
    with submit(busy, tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["case"]
    assert "takes a little longer" in err


class DemandingService(threading.Thread):
    """A service that asks for more work than a client can do in a minute."""

    def __init__(self):
        super().__init__(daemon=True)
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        posts = self.posts = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.reply(200, {"challenge": "0" * 82, "difficulty": 20, "puzzles": 16})

            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                posts.append(self.path)
                self.reply(428, {"title": "x", "status": 428, "code": "work_needed"})

            def reply(self, status, value):
                body = json.dumps(value).encode()
                self.send_response(status)
                kind = "application/json" if status == 200 else "application/problem+json"
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def run(self):
        self.server.serve_forever()


def test_ctrl_c_during_the_work_opens_no_case_and_says_so(tmp_path):
    service = DemandingService()
    service.start()
    leader, follower = pty.openpty()
    with submit(service, tmp_path, stdout=subprocess.PIPE, stderr=follower) as process:
        os.close(follower)
        shown = b""
        while b"Working" not in shown:
            shown += os.read(leader, 4096)
        process.send_signal(signal.SIGINT)
        try:
            while part := os.read(leader, 4096):
                shown += part
        except OSError:  # the other end is closed
            pass
        assert process.wait(timeout=30) == 130
    os.close(leader)
    service.server.shutdown()
    service.server.server_close()
    assert b"No case was opened." in shown
    assert b"not known" not in shown
    assert len(service.posts) == 1


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"challenge": "0" * 82, "difficulty": 21, "puzzles": 16}, ProtocolError),
        ({"challenge": "0" * 82, "difficulty": 2, "puzzles": 10**9}, ProtocolError),
        ({"challenge": "0" * 82, "difficulty": 2, "puzzles": 0}, ProtocolError),
        ({"challenge": "0" * 82, "difficulty": 2, "puzzles": 16}, ServiceRefused),
        ({"challenge": None, "difficulty": 0, "puzzles": 16}, ServiceRefused),
    ],
)
def test_the_client_abandons_endless_work(asked, error):
    posts = []

    def respond(request):
        if request.method == "GET":
            return httpx.Response(200, json=asked)
        posts.append(json.loads(request.content)["work"])
        problem = {"title": "x", "status": 428, "code": "work_needed"}
        return httpx.Response(
            428, content=json.dumps(problem), headers={"Content-Type": "application/problem+json"}
        )

    with (
        Client("https://example.org", http=httpx.MockTransport(respond)) as client,
        pytest.raises(error) as caught,
    ):
        client.open_case([random_item()], reason=Reason.SHARED, adult=True, depicted=True)
    assert not caught.value.uncertain
    assert 1 <= len(posts) <= 4
