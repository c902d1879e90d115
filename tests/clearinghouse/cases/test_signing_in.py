"""Signing in and withdrawing while many requests wait: which proofs of work are asked for."""

import base64
import json

import httpx
import pytest

from clearinghouse.abuse import proof_of_work
from clearinghouse.cases import check_queue, passphrases
from nciihash.client import Client
from nciihash.errors import ServiceRefused
from nciihash.wire import Reason
from nciihash.wire.proof_of_work import WorkAsked, from_header, solves, to_header
from support.local import random_item
from support.serving import credentials, problem, solved

CODE = "work_needed_to_sign_in"


@pytest.fixture
def crowded(service, monkeypatch):
    """Return a service at which too many requests wait already."""
    monkeypatch.setattr(check_queue, "FREE", 0)
    return service


def proof(reply):
    """Solve the challenge of a response; return the header."""
    asked = WorkAsked.model_validate(problem(reply, 428, CODE)["work"])
    return {"Work": to_header(solved(asked))}


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_solved_challenge_lets_one_request_in(crowded, method):
    case = crowded.open()
    ask = lambda **headers: crowded.client.request(  # noqa: E731
        method, "/v1/case", headers=case.headers | headers
    )
    work = proof(ask())
    assert crowded.parts.checks.checked == 0
    assert ask(**work).status_code == 200
    problem(ask(**work), 428, CODE)
    assert crowded.parts.checks.checked == 1
    forged = json.loads(base64.b64decode(work["Work"])) | {"challenge": "0" * 82}
    problem(ask(Work=base64.b64encode(json.dumps(forged).encode()).decode()), 428, CODE)
    assert crowded.parts.checks.checked == 1


def test_wrong_guesses_are_refused_without_waiting(crowded):
    case = crowded.open()
    for headers in (
        credentials(case.number, "wrong"),
        credentials("0000-0000-0000", case.passphrase),
    ):
        reply = crowded.client.get("/v1/case", headers=headers)
        problem(reply, 401, "credentials_wrong")
    assert crowded.parts.checks.checked == 0


def test_after_a_correct_passphrase_no_work_is_asked_for_some_minutes(service, monkeypatch):
    case = service.open()
    case.status()
    monkeypatch.setattr(check_queue, "FREE", 0)
    assert case.status()["state"] == "open"
    assert case.withdraw().json()["state"] == "withdrawn"
    assert service.parts.checks.checked == 1


def test_an_unneeded_proof_is_ignored(service, monkeypatch):
    case = service.open()
    with monkeypatch.context() as patched:
        patched.setattr(check_queue, "FREE", 0)
        work = proof(service.client.get("/v1/case", headers=case.headers))
    assert service.client.get("/v1/case", headers=case.headers | work).status_code == 200


class RecordingTransport(httpx.MockTransport):
    """A transport that forwards the client's requests to the service, and records them."""

    def __init__(self, service):
        super().__init__(self._forward)
        self.requests = []
        self._client = service.client

    def _forward(self, request):
        self.requests.append(request)
        headers = {n: v for n, v in request.headers.items() if n != "host"}
        reply = self._client.request(
            request.method, request.url.path, content=request.content, headers=headers
        )
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)


def test_the_client_signs_in_adds_and_withdraws_with_work(crowded, monkeypatch):
    monkeypatch.setattr(passphrases, "_KNOWN_SECONDS", -1)
    transport, progress = RecordingTransport(crowded), []
    on_work = lambda *step: progress.append(step)  # noqa: E731
    with Client("http://127.0.0.1", http=transport) as client:
        facts = {"reason": Reason.SHARED, "adult": True, "depicted": True}
        opened = client.open_case([random_item()], **facts)
        assert progress == []
        secret = (opened.case, opened.passphrase)
        assert len(client.status(*secret, on_work=on_work).items) == 1
        assert progress[0][0] == 0
        assert progress[-1] == (progress[0][1], progress[0][1])
        client.add(*secret, [random_item()])
        assert client.withdraw(*secret, 1).remaining == 1
        assert client.withdraw(*secret).remaining == 0
    sent = [(r.method, "work" in r.headers) for r in transport.requests]
    twice = [(method, work) for method in ("GET", "POST", "DELETE", "DELETE") for work in (0, 1)]
    assert sent == [("POST", False), *twice]
    keys = {r.headers["idempotency-key"] for r in transport.requests[3:5]}
    assert len(keys) == 1
    shown = from_header(transport.requests[2].headers["work"])
    assert solves(shown.challenge, int(shown.challenge[:2], 16), shown.nonces, len(shown.nonces))


def test_the_client_stops_after_some_rounds_and_reports_the_problem(crowded, monkeypatch):
    monkeypatch.setattr(check_queue, "EFFORT_FIRST", 2**6)
    monkeypatch.setattr(proof_of_work, "CHECK_LIFE", -1)  # every proof is expired
    case = crowded.open()
    transport = RecordingTransport(crowded)
    with (
        Client("http://127.0.0.1", http=transport) as client,
        pytest.raises(ServiceRefused) as caught,
    ):
        client.withdraw(case.number, case.passphrase)
    assert caught.value.problem == CODE
    assert not caught.value.uncertain
    assert len(transport.requests) == 9
