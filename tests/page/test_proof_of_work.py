"""The proof of work that a busy service requires of the page."""

import json
import secrets
import time

import httpx
import pytest

from nciihash.client import Client
from nciihash.wire import OpenCase, Reason
from nciihash.wire.proof_of_work import Work, from_header, solves
from support.browsers.chosen_files import pictures
from support.browsers.leaks import leaks
from support.browsers.visitor import ELSEWHERE
from support.local import random_item
from support.service_process import ServiceProcess


@pytest.fixture(scope="module")
def flooded(tmp_path_factory):
    """A service that requires work once two cases were opened in a minute."""
    folder = tmp_path_factory.mktemp("flooded")
    with ServiceProcess(folder, CLEARINGHOUSE_QUIET_OPENINGS="1") as process:
        yield process


def make_busy(process):
    """Open cases until the service requires work, for at least 40 more seconds."""
    with Client(process.address) as client:
        # 16 puzzles of 14 bits are required after more than two openings
        while httpx.get(process.address + "/v1/work").json()["difficulty"] < 14:
            client.open_case([random_item()], reason=Reason.SHARED, adult=True, depicted=True)


def challenge_requests(visitor):
    return [r for r in visitor.requests if r.url == visitor.url + "/v1/work"]


def test_the_challenge_is_fetched_with_the_page_and_the_request_says_nothing(visit):
    visitor = visit()
    (asked,) = challenge_requests(visitor)
    assert asked.method == "GET"
    assert asked.post_data_buffer is None
    ours = {"authorization", "cookie", "referer", "idempotency-key", "content-type"}
    assert not ours & set(asked.all_headers())
    visitor.open_case(pictures())
    assert len(challenge_requests(visitor)) == 1
    visitor.press("receipt.done")
    visitor.press("next.finish")
    visitor.open_case(pictures())
    assert len(challenge_requests(visitor)) == 2, "a second case needs a new challenge"


def test_the_work_is_done_while_she_answers_the_questions(visit, flooded):
    make_busy(flooded)
    visitor = visit(arrive=False)
    visitor.url = flooded.address
    visitor.arrive()
    assert len(visitor.page.workers) == 0, "no work is done before she starts"
    visitor.answer_questions()
    visitor.choose(pictures())
    visitor.press("continue")
    visitor.at("review.title")
    # the worker that hashes stays; the one that solved ends before anything is sent
    deadline = time.monotonic() + 60
    while len(visitor.page.workers) > 1:
        assert time.monotonic() < deadline
        visitor.page.wait_for_timeout(50)
    before = len(visitor.requests)
    visitor.press("review.send")
    visitor.at("receipt.title")
    (post,) = visitor.requests[before:]
    work = OpenCase.model_validate_json(post.post_data_buffer).work
    assert solves(work.challenge, int(work.challenge[:2], 16), work.nonces)
    assert len(challenge_requests(visitor)) == 1
    assert leaks(visitor) == [f"request: {visitor.url}/"]


def test_work_that_is_required_later_is_done_while_sending(visit, flooded):
    """She started while the service was quiet, or took longer than a proof is valid."""
    visitor = visit(arrive=False)
    visitor.url = flooded.address
    quiet = '{"challenge":null,"difficulty":0,"puzzles":16}'
    path = "**/v1/work"
    visitor.page.route(path, lambda route: route.fulfill(body=quiet), times=1)
    visitor.arrive()
    visitor.answer_questions()
    visitor.choose(pictures())
    visitor.press("continue")
    visitor.at("review.title")
    make_busy(flooded)
    before = len(visitor.requests)
    visitor.press("review.send")
    visitor.at("receipt.title")
    sent = [r.method for r in visitor.requests[before:] if "/page/" not in r.url]
    assert sent == ["POST", "POST"], "the answer says what to solve"
    first, second = (r for r in visitor.requests[before:] if r.method == "POST")
    keys = {r.headers["idempotency-key"] for r in (first, second)}
    assert len(keys) == 1
    assert json.loads(second.post_data) == json.loads(first.post_data) | {
        "work": json.loads(second.post_data)["work"]
    }


def test_a_service_that_keeps_requiring_work_is_reported_as_busy(visit):
    visitor = visit(arrive=False)
    asked = json.dumps({"challenge": "0" * 82, "difficulty": 4, "puzzles": 16})
    tries = []

    def never(route):
        tries.append(route.request.post_data)
        route.fulfill(status=428, body='{"code":"work_needed"}')

    visitor.page.route("**/v1/work", lambda route: route.fulfill(body=asked))
    visitor.page.route("**/v1/cases", never)
    visitor.arrive()
    visitor.answer_questions()
    visitor.choose(pictures()[:1])
    visitor.press("continue")
    visitor.press("review.send")
    visitor.sees("error.busy")
    assert len(tries) == 4
    visitor.page.unroute("**/v1/cases")
    visitor.page.unroute("**/v1/work")
    visitor.press("again")
    visitor.at("receipt.title")


def require_work(visitor, path, method, code, bits=4):
    """Answer the first such request with a challenge; return it, and headers and bodies of all."""
    asked = {"challenge": f"{secrets.token_hex(41)}", "difficulty": bits, "puzzles": 16}
    seen = []

    def answer(route):
        if route.request.method != method:
            route.fallback()
            return
        # copies: the changes below would apply to the request as well
        seen.append((dict(route.request.headers), route.request.post_data))
        if len(seen) > 1:
            headers = {n: v for n, v in route.request.headers.items() if n != "work"}
            body = json.loads(route.request.post_data or "{}")
            body.pop("work", None)  # the service itself requires none, and would refuse this proof
            route.continue_(headers=headers, post_data=json.dumps(body) if body else None)
            return
        body = json.dumps({"code": code, "work": asked})
        route.fulfill(status=428, body=body, content_type="application/problem+json")

    visitor.page.route(path, answer)
    return asked, seen


def is_solved(asked, work):
    return work.challenge == asked["challenge"] and solves(
        work.challenge, asked["difficulty"], work.nonces
    )


@pytest.fixture
def signed_out(visit):
    """A visitor who opened a case and finished, with its number and passphrase."""
    visitor = visit()
    secret = visitor.open_case(pictures())
    visitor.press("receipt.done")
    visitor.press("next.finish")
    return visitor, secret


def test_work_is_done_to_sign_in_and_to_withdraw(signed_out):
    visitor, secret = signed_out
    code = "work_needed_to_sign_in"
    asked, looks = require_work(visitor, "**/v1/case", "GET", code)
    visitor.sign_in(*secret)
    visitor.at("status.title")
    assert len(looks) == 2
    assert "work" not in looks[0][0]
    assert is_solved(asked, from_header(looks[1][0]["work"]))
    assert len(visitor.page.workers) <= 1, "the worker that solved has ended"
    asked, withdrawals = require_work(visitor, "**/v1/case/items/1", "DELETE", code)
    visitor.press("status.withdraw_one", number=1)
    visitor.press("withdraw.yes")
    visitor.at("status.title")
    visitor.page.get_by_text(visitor.words["status.gone"].partition(":")[0]).first.wait_for()
    assert len(withdrawals) == 2
    assert is_solved(asked, from_header(withdrawals[1][0]["work"]))
    assert "work_needed" not in visitor.page.locator("body").inner_text()


def test_the_wait_is_explained_and_she_can_leave(signed_out):
    visitor, secret = signed_out
    require_work(visitor, "**/v1/case", "GET", "work_needed_to_sign_in", bits=32)
    visitor.page.route(ELSEWHERE, lambda route: route.fulfill(body="x", content_type="text/html"))
    with visitor.page.expect_worker() as worker:
        visitor.sign_in(*secret)
    visitor.sees("work.what")
    with worker.value.expect_event("close"):
        visitor.press("exit")
    visitor.page.wait_for_url(ELSEWHERE)


def test_work_is_done_to_add_files(signed_out):
    visitor, secret = signed_out
    visitor.sign_in(*secret)
    visitor.at("status.title")
    visitor.press("status.add")
    visitor.choose(pictures()[:1])
    visitor.press("continue")
    asked, sent = require_work(visitor, "**/v1/case/items", "POST", "work_needed")
    visitor.press("review.send")
    visitor.at("added.title")
    first, second = (json.loads(body) for _, body in sent)
    assert is_solved(asked, Work.model_validate(second.pop("work")))
    assert first == second
    assert len({headers["idempotency-key"] for headers, _ in sent}) == 1
    assert "work" not in sent[1][0]


def test_a_service_that_never_accepts_a_proof_is_reported_as_busy(signed_out):
    visitor, secret = signed_out
    asked = {"challenge": "0" * 82, "difficulty": 2, "puzzles": 16}
    body = json.dumps({"code": "work_needed_to_sign_in", "work": asked})
    tries = []

    def never(route):
        tries.append(route.request)
        route.fulfill(status=428, body=body)

    visitor.page.route("**/v1/case", never)
    visitor.sign_in(*secret)
    visitor.sees("error.busy")
    assert len(tries) == 9
    visitor.page.unroute("**/v1/case")
    visitor.sign_in(*secret)
    visitor.at("status.title")


def test_leaving_ends_the_work(visit):
    visitor = visit(arrive=False)
    asked = json.dumps({"challenge": "0" * 82, "difficulty": 32, "puzzles": 16})
    visitor.page.route("**/v1/work", lambda route: route.fulfill(body=asked))
    visitor.page.route(ELSEWHERE, lambda route: route.fulfill(body="x", content_type="text/html"))
    visitor.arrive()
    with visitor.page.expect_worker() as worker:
        visitor.press("start.go")
    with worker.value.expect_event("close"):
        visitor.press("exit")
    visitor.page.wait_for_url(ELSEWHERE)
