"""The proof of work that a busy service asks the page for."""

import json
import time

import httpx
import pytest

from nciihash.client import Client
from nciihash.wire import OpenCase, Reason
from nciihash.wire.proof_of_work import solves
from support.browsers.chosen_files import pictures
from support.browsers.leaks import leaks
from support.browsers.visitor import ELSEWHERE
from support.local import random_item
from support.service_process import ServiceProcess


@pytest.fixture(scope="module")
def flooded(tmp_path_factory):
    """Give a service that asks for work when two cases were opened in a minute."""
    folder = tmp_path_factory.mktemp("flooded")
    with ServiceProcess(folder, CLEARINGHOUSE_QUIET_OPENINGS="1") as process:
        yield process


def crowd(process):
    """Open cases until it asks for work, and will for 40 seconds more at least."""
    with Client(process.address) as client:
        # 16 puzzles of 14 bits follow more than two openings
        while httpx.get(process.address + "/v1/work").json()["difficulty"] < 14:
            client.open_case([random_item()], reason=Reason.SHARED, adult=True, depicted=True)


def asked_for_work(visitor):
    return [r for r in visitor.requests if r.url == visitor.url + "/v1/work"]


def test_work_is_asked_about_while_the_page_is_loaded_and_says_nothing(visit):
    visitor = visit()
    (asked,) = asked_for_work(visitor)
    assert asked.method == "GET"
    assert asked.post_data_buffer is None
    ours = {"authorization", "cookie", "referer", "idempotency-key", "content-type"}
    assert not ours & set(asked.all_headers())
    visitor.open_case(pictures())
    assert len(asked_for_work(visitor)) == 1
    visitor.press("receipt.done")
    visitor.press("next.finish")
    visitor.open_case(pictures())
    assert len(asked_for_work(visitor)) == 2, "a second case asks again"


def test_the_work_is_done_while_she_fills_in_the_form(visit, flooded):
    crowd(flooded)
    visitor = visit(arrive=False)
    visitor.url = flooded.address
    visitor.arrive()
    assert len(visitor.page.workers) == 0, "who only reads does not compute"
    visitor.answer_questions()
    visitor.choose(pictures())
    visitor.press("continue")
    visitor.at("review.title")
    # the worker that hashes stays, and the one that solved is gone before anything is sent
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
    assert len(asked_for_work(visitor)) == 1
    assert leaks(visitor) == [f"request: {visitor.url}/"]


def test_more_work_than_was_asked_at_first_is_done_at_sending(visit, flooded):
    """She came while it was quiet, or stayed longer than a proof lasts."""
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
    crowd(flooded)
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


def test_a_service_that_always_asks_for_more_is_called_busy(visit):
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
    visitor.sees("trouble.busy")
    assert len(tries) == 4
    visitor.page.unroute("**/v1/cases")
    visitor.page.unroute("**/v1/work")
    visitor.press("again")
    visitor.at("receipt.title")


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
