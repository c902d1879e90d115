import json
import socket
import time

import httpx
import pytest

from nciihash.errors import ServiceUnreachable
from nciihash.gate.config import UploadLimits
from nciihash.gate.outcome import Dialect
from nciihash.gate.policy import Action, Fail, MediaPolicy, Policy
from support.gate_thread import GateThread, bank_of, dialect_config, gate_config, picture

HELD, OTHER = picture(1), picture(2)
OPEN = Policy(review_as=Action.CLEAR)
CLOSED = Policy(
    unsupported=Fail.CLOSED, unreadable=Fail.CLOSED, unchecked=Fail.CLOSED, review_as=Action.CLEAR
)
REVIEWED = MediaPolicy(strong=Action.REVIEW, likely=Action.REVIEW)
CUT_PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
LIMITS = UploadLimits(
    image_bytes=1 << 20, video_bytes=2 << 20, memory=8 << 20, idle_seconds=0.5, request_seconds=20
)


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return bank_of(tmp_path_factory.mktemp("held"), held=HELD)


@pytest.fixture(scope="module")
def running(tmp_path_factory, bank):
    dialects = {Dialect.HTTP: dialect_config(), Dialect.PICTRS: dialect_config()}
    config = gate_config(tmp_path_factory.mktemp("gate"), dialects, limits=LIMITS)
    with GateThread(config, bank) as thread:
        yield thread


@pytest.fixture
def gate(running, bank):
    yield running
    running.change_gate()
    bank.changes, bank.fails = {}, None
    # whatever a test did, it has left nothing in memory
    assert until(lambda: running.call(lambda: running.gate.memory.used) == 0)


@pytest.fixture(scope="module")
def http(running):
    with httpx.Client(base_url=running.urls[Dialect.HTTP], timeout=60) as client:
        yield client


@pytest.fixture
def client(gate, http):
    return http


def until(condition):
    """Wait until a condition is true, at most a minute; return whether it is."""
    end = time.monotonic() + 60
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return found


def check(client, content, **query):
    return client.post("/check", content=content, params=query)


def problem(reply, status, code):
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    body = reply.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["title"]
    assert body["detail"]
    return body


def test_blocks_a_picture_of_the_bank(client):
    reply = check(client, HELD)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cache-control"] == "no-store"
    assert "server" not in reply.headers
    answer = reply.json()
    assert answer["decision"] == "block"
    assert (answer["reason"], answer["stop"], answer["media"]) == ("match", True, "image")
    assert answer["reference"]
    assert answer["detail"].startswith("Refuse this upload")
    assert answer["as_of"].endswith("Z")
    match = answer["matches"][0]
    assert (match["item"], match["type"], match["band"]) == ("held", "pdq", "strong")
    assert (match["distance"], match["review"]) == (0, False)


def test_accepts_any_other_picture(client):
    answer = check(client, OTHER).json()
    assert (answer["decision"], answer["reason"], answer["stop"]) == ("clear", "no_match", False)
    assert answer["reference"] is None
    assert answer["matches"] == []


def test_holds_a_picture_for_review(gate, client):
    gate.change(policy=Policy(image=REVIEWED))
    answer = check(client, HELD).json()
    assert (answer["decision"], answer["stop"]) == ("review", False)
    assert check(client, HELD, answer="status").status_code == 202


def test_a_dry_run_accepts_and_says_why_it_would_not(gate, client):
    gate.change(dry_run=True)
    answer = check(client, HELD).json()
    assert (answer["decision"], answer["stop"], answer["dry_run"]) == ("clear", False, True)
    assert answer["reason"] == "match"
    assert "dry run" in answer["detail"]
    assert check(client, HELD, answer="status").status_code == 200


def test_checks_several_files_in_their_order(client):
    files = [("f", ("x", OTHER)), ("f", ("y", HELD)), ("g", ("z", b"text"))]
    reply = client.post("/check", files=files, data={"title": "holiday"})
    answer = reply.json()
    assert (reply.status_code, answer["decision"], answer["stop"]) == (200, "block", True)
    assert [file["decision"] for file in answer["files"]] == ["clear", "block", "unreadable"]
    assert client.post("/check?answer=status", files=files).status_code == 451
    assert client.post("/check?answer=status", files=files[:1]).status_code == 200


def test_a_form_of_one_file_is_answered_like_the_file(client):
    answer = client.post("/check", files={"f": ("x", HELD)}).json()
    assert answer["decision"] == "block"
    assert "files" not in answer


@pytest.mark.parametrize(
    ("content", "reason", "status"),
    [
        (b"", "empty", 422),
        (b"text", "unsupported", 415),
        (CUT_PNG, "corrupt", 422),
        (HELD + bytes(1 << 20), "too_large", 413),
        (bytes((2 << 20) + 1), "too_large", 413),
    ],
)
def test_what_cannot_be_hashed_is_accepted_or_refused(gate, client, content, reason, status):
    gate.change(policy=OPEN)
    answer = check(client, content).json()
    assert (answer["decision"], answer["reason"], answer["stop"]) == ("unreadable", reason, False)
    assert check(client, content, answer="status").status_code == 200
    gate.change(policy=CLOSED)
    reply = check(client, content)
    assert reply.status_code == 200
    assert (reply.json()["decision"], reply.json()["stop"]) == ("unreadable", True)
    assert check(client, content, answer="status").status_code == status


def stale(gate, bank):
    bank.changes = {"as_of": time.time() - 3600, "error": "No answer."}


def empty(gate, bank):
    bank.changes = {"as_of": None, "current": False}


def full(gate, bank):
    held = gate.gate.memory.total
    gate.call(lambda: setattr(gate.gate.memory, "total", 0))
    return lambda: gate.call(lambda: setattr(gate.gate.memory, "total", held))


def unconfirmed(gate, bank):
    bank.fails = ServiceUnreachable("No answer.")


def faulty(gate, bank):
    bank.fails = RuntimeError("telltale")


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("bank_stale", stale),
        ("bank_empty", empty),
        ("queue_full", full),
        ("unconfirmed", unconfirmed),
        ("internal", faulty),
    ],
)
@pytest.mark.parametrize("query", [{}, {"answer": "status"}])
def test_what_cannot_be_checked_is_accepted_or_refused(gate, client, bank, reason, cause, query):
    restore = cause(gate, bank) or (lambda: None)
    try:
        gate.change(policy=OPEN)
        reply = check(client, HELD, **query)
        assert reply.status_code == 200
        answer = reply.json()
        assert (answer["decision"], answer["reason"]) == ("unchecked", reason)
        assert answer["stop"] is False
        gate.change(policy=CLOSED)
        reply = check(client, HELD, **query)
        answer = problem(reply, 503, reason)
        assert (answer["decision"], answer["stop"]) == ("unchecked", True)
        assert int(reply.headers["retry-after"]) > 0
        assert "telltale" not in reply.text
    finally:
        restore()


def test_one_unchecked_file_makes_a_form_unchecked(gate, client, bank):
    gate.change(policy=CLOSED)
    bank.changes = {"as_of": None}
    reply = client.post("/check", files=[("f", ("x", HELD)), ("f", ("y", OTHER))])
    answer = problem(reply, 503, "bank_empty")
    assert [file["reason"] for file in answer["files"]] == ["bank_empty", "bank_empty"]


def test_a_gate_without_child_processes_says_so(tmp_path, bank):
    config = gate_config(tmp_path, {Dialect.HTTP: dialect_config(policy=CLOSED)})
    with GateThread(config, bank) as gate:
        gate.run(gate.gate.pool.close())
        url = gate.urls[Dialect.HTTP]
        problem(httpx.post(f"{url}/check", content=HELD), 503, "sandbox_unavailable")
        gate.change(policy=OPEN)
        answer = httpx.post(f"{url}/check", content=HELD).json()
        assert (answer["decision"], answer["stop"]) == ("unchecked", False)


def test_only_a_share_is_checked(gate, client):
    gate.change(share=0.0)
    answer = check(client, HELD).json()
    assert (answer["decision"], answer["reason"]) == ("clear", "not_sampled")


# --- requests that cannot be answered ---


def test_answers_errors_as_problem_documents(client):
    problem(check(client, HELD, answer="xml"), 400, "unknown_answer")
    reply = client.post("/check", content=HELD, headers={"Content-Encoding": "gzip"})
    problem(reply, 415, "encoded_body")
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    problem(client.post("/check", content=b"no form", headers=form), 400, "malformed_form")
    problem(client.post("/check", content=b"--x--\r\n", headers=form), 400, "no_file")
    problem(client.get("/check"), 405, "method_not_allowed")
    problem(client.get("/nothing"), 404, "not_found")
    problem(client.post("/check/", content=HELD), 404, "not_found")


def test_a_body_beyond_any_limit_is_refused_with_an_answer_that_arrives(client):
    problem(check(client, bytes(5 << 20)), 413, "body_too_large")
    pieces = iter([bytes(1 << 20)] * 5)
    problem(client.post("/check", content=pieces), 413, "body_too_large")


def raw(gate, sent):
    """Open a connection and send bytes; return the connection."""
    address = httpx.URL(gate.urls[Dialect.HTTP])
    connection = socket.create_connection((address.host, address.port))
    connection.settimeout(60)
    connection.sendall(sent)
    return connection


def received(connection):
    """Return everything until the connection is closed."""
    data = b""
    while piece := connection.recv(65536):
        data += piece
    return data


HEAD = b"POST /check HTTP/1.1\r\nHost: gate\r\nContent-Length: 100000\r\n\r\n"


def test_a_body_that_stops_arriving_is_refused(gate):
    with raw(gate, HEAD + b"x") as connection:
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer.lower()


def test_a_client_that_hangs_up_while_it_sends_leaves_nothing(gate, client):
    with raw(gate, HEAD + bytes(50_000)):
        assert until(lambda: gate.call(lambda: gate.gate.memory.used) > 0)
    assert until(lambda: gate.call(lambda: gate.gate.memory.used) == 0)
    assert check(client, OTHER).json()["decision"] == "clear"


def test_a_client_that_hangs_up_while_it_waits_leaves_nothing(gate, client):
    big = picture(3)
    head = b"POST /check HTTP/1.1\r\nHost: gate\r\nContent-Length: %d\r\n\r\n" % len(big)
    for _ in range(5):
        raw(gate, head + big).close()
    assert until(lambda: gate.call(lambda: gate.gate.memory.used) == 0)
    assert check(client, OTHER).json()["decision"] == "clear"


@pytest.mark.parametrize(
    "request_",
    [
        b"\r\n\r\nnonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /check HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /check HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZ\r\nhello",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 20_000,
        b"GET /" + b"a" * 100_000,
    ],
)
def test_what_is_not_http_is_refused(gate, client, request_):
    with raw(gate, request_) as connection:
        try:
            connection.shutdown(socket.SHUT_WR)  # else the server waits for the rest of the headers
            answer = received(connection)
        except OSError:
            answer = b""
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    assert check(client, OTHER).json()["decision"] == "clear"


def test_pipelined_requests_are_answered_in_order(gate):
    post = b"POST /check HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s"
    last = b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    both = post % (len(HELD), HELD) + post % (len(OTHER), OTHER)
    with raw(gate, both + last) as connection:
        answer = received(connection)
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert answer.index(b'"block"') < answer.index(b'"clear"') < answer.index(b'"live"')


def test_an_offer_of_http_2_does_not_lose_the_body(gate):
    """As Java's HttpClient offers it by default."""
    head = (
        b"POST /check HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: %d\r\n\r\n"
    )
    with raw(gate, head % len(HELD) + HELD) as connection:
        answer = b""
        while b"\r\n\r\n{" not in answer or not answer.endswith(b"}"):
            answer += connection.recv(65536)
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["decision"] == "block"


# --- tokens, health, metrics, status page ---


def test_a_token_is_required(gate, client):
    gate.change(token="s3cret")
    for authorization in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "s3cret"}):
        reply = client.post("/check", content=HELD, headers=authorization)
        problem(reply, 401, "token_needed")
        assert reply.headers["www-authenticate"].startswith("Bearer")
        problem(client.get("/metrics", headers=authorization), 401, "token_needed")
        problem(client.get("/", headers=authorization), 401, "token_needed")
    for accepted in ({"headers": {"Authorization": "Bearer s3cret"}}, {"auth": ("any", "s3cret")}):
        assert client.post("/check", content=HELD, **accepted).json()["decision"] == "block"
        assert client.get("/metrics", **accepted).status_code == 200
        assert client.get("/", **accepted).status_code == 200
    problem(client.get("/", auth=("any", "wrong")), 401, "token_needed")
    problem(client.get("/", headers={"Authorization": "Basic ?"}), 401, "token_needed")
    assert client.get("/health/live").status_code == 200


def test_reports_its_health(gate, client, bank):
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {"status": "ready"}
    for changes in ({"as_of": None}, {"as_of": 0.0}):
        bank.changes = changes
        problem(client.get("/health/ready"), 503, "not_ready")
        assert client.get("/health/live").status_code == 200


def test_metrics_have_what_happened(client):
    check(client, HELD)
    reply = client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'decisions_total{decision="block",dialect="http"' in reply.text
    assert 'stage_seconds_count{media="image",stage="receive"}' in reply.text
    assert 'connections{dialect="pictrs"}' in reply.text


def test_the_status_page_has_no_script_and_shows_what_happened(gate, client, bank):
    check(client, HELD)
    reply = client.get("/")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'; style-src 'sha256-" in reply.headers["content-security-policy"]
    assert "<script" not in reply.text
    assert "Uploads are checked" in reply.text
    assert 'http-equiv="refresh"' in client.get("/", params={"refresh": "yes"}).text
    bank.changes = {"as_of": None, "error": "No <b>answer</b>."}
    page = client.get("/").text
    assert "Uploads are not checked" in page
    assert "No &lt;b&gt;answer&lt;/b&gt;." in page


# --- pict-rs ---


def test_pictrs_keeps_or_refuses(gate, client):
    def post(data, **settings):
        gate.change(Dialect.PICTRS, **settings)
        # pict-rs streams the file, so that its length is not declared
        headers = {"Content-Type": "image/jpeg"}
        return client.post("/pictrs", content=iter([data]), headers=headers).status_code

    def review_as(action):
        return Policy(image=REVIEWED, review_as=action)

    assert post(HELD, policy=OPEN) == 451
    assert post(OTHER, policy=OPEN) == 200
    assert post(HELD, policy=OPEN, dry_run=True) == 200
    assert post(HELD, policy=review_as(Action.BLOCK)) == 451
    assert post(HELD, policy=review_as(Action.CLEAR)) == 200
    assert post(b"text", policy=OPEN) == 200
    assert post(b"text", policy=CLOSED) == 415


def test_pictrs_without_a_check_keeps_or_refuses(gate, client, bank):
    bank.changes = {"as_of": None}
    gate.change(Dialect.PICTRS, policy=OPEN)
    assert client.post("/pictrs", content=HELD).status_code == 200
    gate.change(Dialect.PICTRS, policy=CLOSED)
    assert client.post("/pictrs", content=HELD).status_code == 503
