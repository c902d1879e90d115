"""Signing in and withdrawing while many wait: the work that is asked for, and who goes through."""

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
    """Give a service at which too many wait already."""
    monkeypatch.setattr(check_queue, "FREE", 0)
    return service


def proof(reply):
    """Solve what an answer asks for; return the header."""
    asked = WorkAsked.model_validate(problem(reply, 428, CODE)["work"])
    return {"Work": to_header(solved(asked))}


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_whoever_solves_what_the_answer_asks_for_goes_through_once(crowded, method):
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


def test_whoever_guesses_is_told_so_and_waits_for_nobody(crowded):
    case = crowded.open()
    for headers in (
        credentials(case.number, "wrong"),
        credentials("0000-0000-0000", case.passphrase),
    ):
        reply = crowded.client.get("/v1/case", headers=headers)
        problem(reply, 401, "credentials_wrong")
    assert crowded.parts.checks.checked == 0


def test_whoever_was_let_in_once_is_asked_for_nothing_for_some_minutes(service, monkeypatch):
    case = service.open()
    case.status()
    monkeypatch.setattr(check_queue, "FREE", 0)
    assert case.status()["state"] == "open"
    assert case.withdraw().json()["state"] == "withdrawn"
    assert service.parts.checks.checked == 1


def test_a_proof_that_is_not_needed_does_no_harm(service, monkeypatch):
    case = service.open()
    with monkeypatch.context() as patched:
        patched.setattr(check_queue, "FREE", 0)
        work = proof(service.client.get("/v1/case", headers=case.headers))
    assert service.client.get("/v1/case", headers=case.headers | work).status_code == 200


class Seen(httpx.MockTransport):
    """Carries the client's requests to the service, and keeps what they were."""

    def __init__(self, service):
        super().__init__(self._carry)
        self.requests = []
        self._client = service.client

    def _carry(self, request):
        self.requests.append(request)
        headers = {n: v for n, v in request.headers.items() if n != "host"}
        reply = self._client.request(
            request.method, request.url.path, content=request.content, headers=headers
        )
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)


def test_the_client_signs_in_adds_and_withdraws_with_work(crowded, monkeypatch):
    monkeypatch.setattr(passphrases, "_KNOWN_SECONDS", -1)
    seen, told = Seen(crowded), []
    tell = lambda *progress: told.append(progress)  # noqa: E731
    with Client("http://127.0.0.1", http=seen) as client:
        facts = {"reason": Reason.SHARED, "adult": True, "depicted": True}
        opened = client.open_case([random_item()], **facts)
        assert told == []
        secret = (opened.case, opened.passphrase)
        assert len(client.status(*secret, working=tell).items) == 1
        assert told[0][0] == 0
        assert told[-1] == (told[0][1], told[0][1])
        client.add(*secret, [random_item()])
        assert client.withdraw(*secret, 1).remaining == 1
        assert client.withdraw(*secret).remaining == 0
    sent = [(r.method, "work" in r.headers) for r in seen.requests]
    twice = [(method, work) for method in ("GET", "POST", "DELETE", "DELETE") for work in (0, 1)]
    assert sent == [("POST", False), *twice]
    keys = {r.headers["idempotency-key"] for r in seen.requests[3:5]}
    assert len(keys) == 1
    shown = from_header(seen.requests[2].headers["work"])
    assert solves(shown.challenge, int(shown.challenge[:2], 16), shown.nonces, len(shown.nonces))


def test_the_client_gives_up_after_some_rounds_and_says_what_the_service_said(crowded, monkeypatch):
    monkeypatch.setattr(check_queue, "FIRST", 2**6)
    monkeypatch.setattr(proof_of_work, "CHECK_LIFE", -1)  # no proof is ever fresh
    case = crowded.open()
    seen = Seen(crowded)
    with (
        Client("http://127.0.0.1", http=seen) as client,
        pytest.raises(ServiceRefused) as caught,
    ):
        client.withdraw(case.number, case.passphrase)
    assert caught.value.problem == CODE
    assert not caught.value.uncertain
    assert len(seen.requests) == 9
