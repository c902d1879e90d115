"""Proof of work on opening a case: asked for in a flood alone, checked, spent, and solved."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from hashlib import sha256

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearinghouse.abuse.proof_of_work import EASIEST, HARDEST, LIFE, Gate
from clearinghouse.errors import WorkNeeded
from clearinghouse.maintenance.purge import purge
from clearinghouse.sealing.vault import Vault
from nciihash.client import Client
from nciihash.errors import ProtocolError, ServiceRefused
from nciihash.wire import Reason
from nciihash.wire.proof_of_work import DIFFICULTY_MAX, PUZZLES, Work, solve, solves
from support.local import random_item
from support.pictures import scene
from support.service_process import ServiceProcess
from support.serving import NOW, figures, flood, item, opening, pdq, problem

KEY = "0123456789abcdef0123456789abcdef"


# --- the puzzles -----------------------------------------------------------------------------


@given(st.text("0123456789abcdef", max_size=200), st.integers(0, 7))
def test_what_is_solved_is_a_solution_by_its_definition(challenge, difficulty):
    told = []
    nonces = solve(challenge, difficulty, solved=lambda: told.append(1))
    assert solves(challenge, difficulty, nonces)
    assert len(nonces) == len(told) == PUZZLES
    seed = sha256(challenge.encode()).digest()
    for puzzle, nonce in enumerate(nonces):
        digest = sha256(seed + puzzle.to_bytes(4) + nonce.to_bytes(4)).hexdigest()
        assert f"{int(digest, 16):0256b}".startswith("0" * difficulty)


def test_what_is_no_solution_is_told():
    nonces = solve("abc", 6)
    assert solves("abc", 6, nonces)
    assert not solves("abd", 6, nonces)
    assert not solves("abc", 6, nonces[:-1])
    assert not solves("abc", 6, (*nonces, 0))
    assert not solves("abc", 6, nonces[::-1])
    assert not solves("abc", 6, (-1, *nonces[1:]))
    assert not solves("abc", 6, (2**32, *nonces[1:]))
    with pytest.raises(ValueError, match="0 to 20"):
        solve("abc", DIFFICULTY_MAX + 1)


# --- the gate --------------------------------------------------------------------------------


def proof(asked):
    return Work(challenge=asked.challenge, nonces=solve(asked.challenge, asked.difficulty))


@pytest.fixture
def vault():
    return Vault(b"\1" * 32)


@pytest.fixture
def gate(vault):
    return Gate(vault, quiet=10)


def test_the_difficulty_follows_the_load_and_has_a_cap(gate):
    assert gate.challenge(NOW).challenge is None
    assert gate.check(None, NOW) is None
    found = []
    for _ in range(1000):
        gate.count(NOW)
        found.append(gate.difficulty(NOW))
    assert found[:10] == [0] * 10
    assert found[10:20] == [EASIEST] * 10
    assert found[20:40] == [EASIEST + 1] * 20
    assert found[-1] == max(found) == HARDEST
    assert gate.difficulty(NOW + timedelta(minutes=1)) == HARDEST
    assert gate.difficulty(NOW + timedelta(minutes=5)) == 0
    assert gate.difficulty(NOW - timedelta(days=1)) == HARDEST, "a clock put back forgets nothing"
    # a desk computer tries a million numbers a second, an old phone a tenth of that
    assert PUZZLES * 2**HARDEST <= 2**19


def test_a_proof_passes_for_an_hour_and_not_for_another_service(gate, vault):
    flood(gate, 11)
    work = proof(gate.challenge(NOW))
    mark = gate.check(work, NOW)
    assert mark is not None
    assert gate.check(work, NOW) == mark, "it is the database that knows what is spent"
    later = NOW + timedelta(seconds=LIFE)
    flood(gate, 11, later)
    assert gate.check(work, later) == mark
    with pytest.raises(WorkNeeded):
        gate.check(work, later + timedelta(seconds=1))
    other = Gate(Vault(b"\2" * 32), quiet=10)
    flood(other, 11)
    with pytest.raises(WorkNeeded):
        other.check(work, NOW)
    twin = Gate(vault, quiet=10)  # another worker of the same service
    flood(twin, 11)
    assert twin.check(work, NOW) == mark


def test_what_is_missing_forged_unsolved_or_too_easy_is_refused(gate):
    flood(gate, 11)
    asked = gate.challenge(NOW)
    work = proof(asked)
    wrong = [None, work.model_copy(update={"nonces": (*work.nonces[1:], work.nonces[0])})]
    for place in (0, 10, 30, 81):  # difficulty, time, random bits, signature
        digits = list(asked.challenge)
        digits[place] = f"{int(digits[place], 16) ^ 1:x}"
        challenge = "".join(digits)
        wrong.append(Work(challenge=challenge, nonces=solve(challenge, asked.difficulty)))
    for bad in wrong:
        with pytest.raises(WorkNeeded):
            gate.check(bad, NOW)
    assert asked.difficulty == EASIEST + 1, "a bit more than is needed now"
    flood(gate, 20)
    assert gate.check(work, NOW), "so that a rise does not void it"
    flood(gate, 100)
    with pytest.raises(WorkNeeded):
        gate.check(work, NOW)


# --- over HTTP -------------------------------------------------------------------------------


@pytest.fixture
def flooded(service):
    flood(service.parts.gate, 61, service.clock())
    return service


def test_nothing_is_asked_while_it_is_quiet(service):
    reply = service.client.get("/v1/work")
    assert reply.json() == {"challenge": None, "difficulty": 0, "puzzles": PUZZLES}
    service.open()
    assert figures(service)["cases_open"] == 1


def test_in_a_flood_a_case_takes_a_proof_and_each_proof_opens_one(flooded):
    post = flooded.client.post
    body = problem(post("/v1/cases", json=opening()), 428, "work_needed")
    assert "/v1/work" in body["detail"]
    asked = flooded.client.get("/v1/work").json()
    assert asked["difficulty"] == EASIEST + 1
    work = {"challenge": asked["challenge"], "nonces": solve(asked["challenge"], EASIEST + 1)}
    plain = opening(item(pdq(), quality=3), work=work)
    problem(post("/v1/cases", json=plain), 422, "nothing_accepted")
    assert post("/v1/cases", json=opening(work=work)).status_code == 201, "a refusal spends nothing"
    problem(post("/v1/cases", json=opening(work=work)), 428, "work_needed")
    assert figures(flooded)["cases_open"] == 1
    # adding to a case that is open takes none
    again = flooded.client.get("/v1/work").json()
    assert again["challenge"] != asked["challenge"]


@pytest.mark.parametrize(
    "work",
    [
        {},
        {"challenge": "00", "nonces": [0] * 16},
        {"challenge": "0" * 82, "nonces": [0] * 15},
        {"challenge": "0" * 82, "nonces": [0] * 17},
        {"challenge": "0" * 82, "nonces": [-1] * 16},
        {"challenge": "0" * 82, "nonces": ["0"] * 16},
        {"challenge": "0" * 82, "nonces": [0] * 16, "name": "x"},
    ],
)
def test_a_malformed_proof_is_a_bad_body(service, work):
    problem(service.client.post("/v1/cases", json=opening(work=work)), 422, "invalid_request")


def test_a_forged_proof_costs_no_verifier(flooded, monkeypatch):
    def never(_self, _passphrase):
        raise AssertionError("a verifier was made")

    monkeypatch.setattr(type(flooded.parts.checks), "make", never)
    forged = {"challenge": "0" * 82, "nonces": [0] * 16}
    problem(flooded.client.post("/v1/cases", json=opening(work=forged)), 428, "work_needed")


def test_a_lost_answer_is_given_again_even_when_the_proof_has_run_out(flooded):
    asked = flooded.client.get("/v1/work").json()
    work = {"challenge": asked["challenge"], "nonces": solve(asked["challenge"], EASIEST + 1)}
    body, headers = opening(work=work), {"Idempotency-Key": KEY}
    first = flooded.client.post("/v1/cases", json=body, headers=headers)
    assert first.status_code == 201
    flooded.clock.pass_(seconds=LIFE + 60)
    flood(flooded.parts.gate, 61, flooded.clock())
    again = flooded.client.post("/v1/cases", json=body, headers=headers)
    assert (again.status_code, again.content) == (201, first.content)
    bare = flooded.client.post("/v1/cases", json=body | {"work": None}, headers=headers)
    assert bare.content == first.content, "whatever proof comes with it"
    other = flooded.client.post("/v1/cases", json=opening(), headers=headers)
    problem(other, 422, "idempotency_conflict")


def test_spent_proofs_are_forgotten_when_they_have_run_out(flooded):

    store = flooded.parts.store
    with store.write() as tx:
        assert tx.proofs.spend(b"a" * 32, 0)
        assert not tx.proofs.spend(b"a" * 32, 0)
    purge(store, retention_days=400, now=flooded.clock())
    with store.write() as tx:
        assert tx.proofs.spend(b"a" * 32, 0)


# --- the client and the command line ---------------------------------------------------------


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """Give a service at which many cases have just been opened."""
    with ServiceProcess(
        tmp_path_factory.mktemp("busy"), CLEARINGHOUSE_QUIET_OPENINGS="1"
    ) as running:
        yield running


def crowd(serving):
    with Client(serving.address) as client:
        for _ in range(4):
            client.open_case([random_item()], reason=Reason.SHARED, adult=True, depicted=True)


def test_the_client_does_the_work_that_is_asked(busy):
    crowd(busy)
    told = []
    with Client(busy.address) as client:
        client.open_case(
            [random_item()],
            reason=Reason.SHARED,
            adult=True,
            depicted=True,
            working=lambda *progress: told.append(progress),
        )
    assert told[: PUZZLES + 1] == [(done, PUZZLES) for done in range(PUZZLES + 1)]


def submit(busy, folder, **options):
    scene(320, 240, seed=3).save(folder / "a.jpg", quality=95)
    words = ("submit", "a.jpg", "--server", busy.address, "--yes", "--reason", "shared", "--json")
    return subprocess.Popen(
        [sys.executable, "-m", "nciihash", *words], cwd=folder, text=True, **options
    )


def test_the_command_line_says_why_it_takes_a_moment(busy, tmp_path):
    crowd(busy)
    with submit(busy, tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["case"]
    assert "takes a moment more" in err


class Asking(threading.Thread):
    """A service that asks for more work than anybody does in a minute."""

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


def test_ctrl_c_during_the_work_opens_nothing_and_says_so(tmp_path):
    service = Asking()
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
        ({"challenge": "0" * 82, "difficulty": 2, "puzzles": 16}, ServiceRefused),
        ({"challenge": None, "difficulty": 0, "puzzles": 16}, ServiceRefused),
    ],
)
def test_the_client_gives_up_what_never_ends(asked, error):
    posts = []

    def answer(request):
        if request.method == "GET":
            return httpx.Response(200, json=asked)
        posts.append(json.loads(request.content)["work"])
        problem = {"title": "x", "status": 428, "code": "work_needed"}
        return httpx.Response(
            428, content=json.dumps(problem), headers={"Content-Type": "application/problem+json"}
        )

    with (
        Client("https://example.org", http=httpx.MockTransport(answer)) as client,
        pytest.raises(error) as caught,
    ):
        client.open_case([random_item()], reason=Reason.SHARED, adult=True, depicted=True)
    assert not caught.value.uncertain
    assert 1 <= len(posts) <= 4
