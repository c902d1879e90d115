"""Attack: use one machine's proofs of work, or its connections, to fill the service."""

import asyncio
import re
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import pytest
from argon2 import PasswordHasher

from clearinghouse.cases import lifecycle
from clearinghouse.cases.passphrases import mint_number
from nciihash.client import Client
from nciihash.client.sans_io import RetryPolicy
from nciihash.wire.proof_of_work import WorkAsked, to_header
from support.local import random_item
from support.service_process import ServiceProcess, bearer
from support.serving import credentials, item, opening, pdq, solved

METRICS = "m" * 32
AT_ONCE = 80
CONNECTIONS = 260
# a tenth of the default, so that a tenth of the signals shows the price
QUIET_SIGNALS = 2_000


@pytest.fixture
def serve(tmp_path):
    running = []

    def start(**environment):
        environment = {"CLEARINGHOUSE_METRICS_KEY": METRICS} | environment
        running.append(ServiceProcess(tmp_path, **environment))
        return running[-1]

    yield start
    for process in running:
        process.end()


def argon2_runs(process, what):
    """Return how often the service has created a verifier, or checked a passphrase."""
    text = process.client.get("/metrics", headers=bearer(METRICS)).text
    return int(float(re.search(rf'clearinghouse_argon2_runs{{what="{what}"}} (.+)', text)[1]))


def asked(reply):
    """Return the challenge in a response with status 428."""
    assert reply.status_code == 428, reply.text
    return WorkAsked.model_validate(reply.json()["work"])


def all_at_once(requests, send):
    """Send requests at the same moment, each in a thread and over a connection of its own."""
    barrier = threading.Barrier(len(requests))

    def run(request):
        barrier.wait()
        return send(request)

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(run, requests))


@pytest.mark.parametrize("key", [None, secrets.token_hex(16)], ids=["no key", "one key"])
def test_one_proof_buys_one_run_of_argon2(serve, record_property, key):
    process = serve(CLEARINGHOUSE_QUIET_OPENINGS="1")
    while process.client.post("/v1/cases", json=opening()).status_code == 201:
        pass
    work = solved(asked(process.client.post("/v1/cases", json=opening()))).model_dump()
    before = argon2_runs(process, "opening")
    headers = {"Idempotency-Key": key} if key else {}
    body = opening(work=work)

    def send(_):
        return httpx.post(f"{process.address}/v1/cases", json=body, headers=headers, timeout=60)

    statuses = [reply.status_code for reply in all_at_once(range(AT_ONCE), send)]
    runs = argon2_runs(process, "opening") - before
    record_property("got", f"{runs} run of Argon2 by {AT_ONCE} requests with one proof")
    assert runs == 1
    # with a key, requests that arrive after the first has finished get its response
    assert set(statuses) <= {201, 428}
    assert statuses.count(201) == 1 or key
    assert process.cases() == before + 1


def test_one_code_buys_one_run_of_argon2(serve, record_property):
    process = serve()
    advocate = bearer(process.command("advocate", "add", "Helpline").stdout.strip())
    ask = process.client
    body = {k: v for k, v in opening(consent=True).items() if k != "work"}
    reference = ask.post("/v1/advocate/cases", json=body, headers=advocate).json()["reference"]
    path = f"/v1/advocate/cases/{reference}/handover"
    code = ask.post(path, headers=advocate).json()["code"]

    def send(_):
        return httpx.post(f"{process.address}/v1/claim", json={"code": code}, timeout=60)

    statuses = [reply.status_code for reply in all_at_once(range(AT_ONCE), send)]
    runs = argon2_runs(process, "opening")
    record_property("got", f"{runs} run of Argon2 by {AT_ONCE} requests with one code")
    assert runs == 1
    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 404, 429}


def test_hashes_cost_work_after_many_in_an_hour(serve, record_property):
    """In cases small enough to be free under light load, which is the cheapest way."""
    process = serve(CLEARINGHOUSE_QUIET_SIGNALS=str(QUIET_SIGNALS))
    paid = free = 0
    for _ in range(24):
        body = opening(item(*(pdq() for _ in range(500))))
        reply = process.client.post("/v1/cases", json=body)
        if reply.status_code == 201:
            free += 500
            continue
        work = asked(reply)
        paid += work.puzzles << work.difficulty
        reply = process.client.post("/v1/cases", json=body | {"work": solved(work).model_dump()})
        assert reply.status_code == 201, "no request with its work is refused"
    record_property(
        "got",
        f"12,000 hashes at a tenth of the default free rate, {free} of them free, the "
        f"others for {paid / 1e6:.1f} million SHA-256; so 120,000 cost {paid / 1e5:.0f} million",
    )
    assert free <= QUIET_SIGNALS
    assert paid >= 3_800_000


# --- the queue of checks ---------------------------------------------------------------------


class Flood(threading.Thread):
    """Connections that send one request after another, without work or with prepared proofs.

    Args:
        process: the service.
        requests: returns the method and the headers of the next request, or None to stop.
        connections: how many.
    """

    def __init__(self, process, requests, connections):
        super().__init__(daemon=True)
        self._port = httpx.URL(process.address).port
        self._requests = requests
        self._connections = connections
        self.ended = False
        self.statuses = {}

    def run(self):
        asyncio.run(self._run())

    async def _run(self):
        await asyncio.gather(*(self._send_requests() for _ in range(self._connections)))

    async def _send_requests(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        while not self.ended and (request := self._requests()):
            method, headers = request
            lines = [f"{method} /v1/case HTTP/1.1", "Host: x", *map(": ".join, headers.items())]
            writer.write("\r\n".join([*lines, "", ""]).encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            await reader.readexactly(int(re.search(r"content-length: (\d+)", head, re.I)[1]))
            status = int(head.split()[1])
            self.statuses[status] = self.statuses.get(status, 0) + 1
        writer.close()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended = True
        self.join(timeout=60)


def guess_unknown():
    """Return the headers of a guess at a case that does not exist."""
    return credentials(secrets.token_hex(6), secrets.token_hex(6))


def guess_known(numbers):
    """Return the headers of a guess at a case whose number is known."""
    return credentials(secrets.choice(numbers), secrets.token_hex(6))


class CountingClient(Client):
    """A survivor's client without retries that counts how often it was asked for work."""

    def __init__(self, server):
        super().__init__(server, retry=RetryPolicy(attempts=1))
        self.rounds = 0

    def on_work(self, done, _all):
        self.rounds += not done


OLD = 400  # cases


def add_old_cases(process):
    """Add cases as an earlier version opened them, so that wrong guesses at them reach Argon2.

    Only an attacker who knows such numbers, or has as many cases of his own, can fill the queue.
    """
    numbers = [mint_number() for _ in range(OLD)]
    memory = int(process.environment["CLEARINGHOUSE_ARGON2_MEMORY"])
    verifier = PasswordHasher(time_cost=3, memory_cost=memory, parallelism=1).hash("right")
    facts = {"reason": "shared", "state": "open", "opened": 0, "expires": 2**40}
    with closing(process.store()) as store, store.write() as tx:
        for number in numbers:
            lookup = lifecycle.case_lookup(store, number)
            tx.cases.add(lookup=lookup, verifier=verifier, **facts)
    return numbers


def test_a_flood_of_guesses_at_unknown_cases_causes_no_check(serve, record_property):
    process = serve(CLEARINGHOUSE_ARGON2_MEMORY=str(16 * 1024))
    case = process.open(random_item(), random_item())
    methods = iter(lambda: secrets.choice(("GET", "DELETE")), None)
    with (
        Flood(process, lambda: (next(methods), guess_unknown()), CONNECTIONS) as flood,
        CountingClient(process.address) as client,
    ):
        while flood.statuses.get(401, 0) < CONNECTIONS:
            threading.Event().wait(0.01)
        assert len(client.status(*case, on_work=client.on_work).items) == 2
        assert client.withdraw(*case, 1, on_work=client.on_work).remaining == 1
        assert client.withdraw(*case, on_work=client.on_work).remaining == 0
        guesses = flood.statuses[401]
        checks = argon2_runs(process, "check")
    record_property(
        "got",
        f"{checks - 1} checks by {guesses} guesses; the survivor's requests were served at once",
    )
    assert client.rounds == 0
    assert checks <= 2, "the survivor's, and that of one guess in 65,536"


def test_an_attacker_who_fills_the_queue_excludes_nobody(serve, record_property):
    """Half of the requests are withdrawals, so that both lanes are full."""
    process = serve(CLEARINGHOUSE_ARGON2_MEMORY=str(16 * 1024))
    case = process.open(random_item(), random_item())
    numbers = add_old_cases(process)
    methods = iter(lambda: secrets.choice(("GET", "DELETE")), None)
    with (
        Flood(process, lambda: (next(methods), guess_known(numbers)), CONNECTIONS) as flood,
        CountingClient(process.address) as client,
    ):
        while not flood.statuses.get(428):
            threading.Event().wait(0.01)
        before = argon2_runs(process, "check")
        assert client.withdraw(*case, 1, on_work=client.on_work).remaining == 1
        checks = argon2_runs(process, "check") - before
        assert len(client.status(*case, on_work=client.on_work).items) == 2
        assert client.withdraw(*case, on_work=client.on_work).remaining == 0
    record_property(
        "got",
        f"{CONNECTIONS} connections: a withdrawal was served with work done {client.rounds} "
        f"times and {checks} checks meanwhile; the next requests did not wait",
    )
    assert client.rounds <= 3


def test_an_attacker_with_proofs_in_the_lane_of_withdrawals_is_overtaken(serve, record_property):
    process = serve(CLEARINGHOUSE_ARGON2_MEMORY=str(64 * 1024))
    case = process.open(random_item())
    numbers = add_old_cases(process)
    proofs = []
    with Flood(process, lambda: ("DELETE", guess_known(numbers)), 24) as flood:
        while len(proofs) < 40:
            reply = process.client.delete("/v1/case", headers=guess_known(numbers))
            if reply.status_code == 428:
                proofs.append(to_header(solved(asked(reply))))
    assert flood.statuses[428]
    prepared = iter([("DELETE", guess_known(numbers) | {"Work": proof}) for proof in proofs])
    before = argon2_runs(process, "check")
    with (
        Flood(process, lambda: next(prepared, None), len(proofs)) as flood,
        CountingClient(process.address) as client,
    ):
        while argon2_runs(process, "check") == before:
            threading.Event().wait(0.01)
        assert client.withdraw(*case, on_work=client.on_work).remaining == 0
        ahead = flood.statuses.get(401, 0)
    record_property(
        "got",
        f"{len(proofs)} withdrawals with proofs: {ahead} of them were checked before hers, "
        f"which needed work {client.rounds} times",
    )
    assert client.rounds == 1
    assert ahead < len(proofs) // 2
