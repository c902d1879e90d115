import asyncio
import json
import ssl

import httpx
import pytest

from nciihash.client.sans_io import RETRY_POLICY, Request, RetryPolicy, exchange
from nciihash.client.transport import AsyncTransport, Transport
from nciihash.errors import (
    CursorExpired,
    ProtocolError,
    ServiceRefused,
    ServiceUnreachable,
)
from nciihash.wire import FeedbackTaken

PASSPHRASE = "correct horse battery staple six words"
TAKEN = FeedbackTaken(recorded=1, unknown=0)


def taken():
    return httpx.Response(200, json=TAKEN.model_dump())


def problem(status, code="some_code", title="No", detail="Do this.", headers=None):
    return httpx.Response(
        status,
        headers={"content-type": "application/problem+json"} | (headers or {}),
        content=json.dumps({"title": title, "status": status, "detail": detail, "code": code}),
    )


class Script:
    """Answers requests one after another, and keeps them and the pauses between."""

    def __init__(self, *answers, retry=RETRY_POLICY):
        self.answers = list(answers)
        self.requests = []
        self.pauses = []
        self.now = 1000.0
        self.transport = self.way(
            "http://127.0.0.1:1",
            retry=retry,
            http=httpx.MockTransport(self.answer),
            clock=lambda: self.now,
            sleep=self.sleep,
        )

    def answer(self, request):
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        # an answer is read once, and several tests may give this one
        body = httpx.ByteStream(b"".join(answer.stream))
        return httpx.Response(answer.status_code, headers=answer.headers, stream=body)

    def talk(self, method):
        request = Request(method, "/v1/feedback", "Bearer x", b"{}", idempotency_key="ab" * 16)
        retry, clock = self.transport.retry, self.transport.clock
        return exchange(request, FeedbackTaken, status=200, retry=retry, clock=clock)


class InThread(Script):
    way = Transport

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds

    def call(self, method="POST"):
        return self.transport.run(self.talk(method))


class InAsyncio(Script):
    way = AsyncTransport

    async def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds

    def call(self, method="POST"):
        return asyncio.run(self.transport.run(self.talk(method)))


@pytest.fixture(params=[InThread, InAsyncio])
def script(request):
    """Give the way to make a script, for each kind of client: both keep the same promises."""
    return request.param


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_passing_refusals_are_tried_again_under_the_same_key(status, script):
    scripted = script(problem(status), httpx.Response(status), taken())
    assert scripted.call() == TAKEN
    assert len(scripted.requests) == 3
    assert {request.headers["idempotency-key"] for request in scripted.requests} == {"ab" * 16}
    assert {request.content for request in scripted.requests} == {b"{}"}


@pytest.mark.parametrize(
    "fault",
    [
        httpx.ConnectError("x"),
        httpx.ConnectTimeout("x"),
        httpx.ReadTimeout("x"),
        httpx.ReadError("x"),
        httpx.WriteError("x"),
        httpx.RemoteProtocolError("x"),
    ],
)
def test_broken_connections_are_tried_again(fault, script):
    scripted = script(fault, fault, taken())
    assert scripted.call() == TAKEN
    assert len(scripted.pauses) == 2


def test_pauses_are_drawn_from_a_growing_range(script):
    retry = RetryPolicy(attempts=6, base=1.0, cap=4.0, total=1000)
    drawn = [[] for _ in range(5)]
    for _ in range(200):
        scripted = script(*[problem(503)] * 6, retry=retry)
        with pytest.raises(ServiceRefused):
            scripted.call()
        for row, pause in zip(drawn, scripted.pauses, strict=True):
            row.append(pause)
    for row, most in zip(drawn, (1, 2, 4, 4, 4), strict=True):
        # Of 200 even draws none within a tenth of either end: once in 10**9 runs.
        assert 0 <= min(row) < 0.1 * most
        assert 0.9 * most < max(row) <= most


def test_retry_after_is_honoured(script):
    scripted = script(problem(429, headers={"retry-after": "7"}), taken())
    scripted.call()
    assert scripted.pauses[0] >= 7


def test_a_retry_after_beyond_patience_is_told_at_once(script):
    scripted = script(problem(429, headers={"retry-after": "3600"}))
    with pytest.raises(ServiceRefused) as caught:
        scripted.call()
    assert (scripted.pauses, caught.value.retry_after) == ([], 3600)


def test_attempts_are_bounded_in_number_and_time(script):
    scripted = script(*[httpx.ConnectError("x")] * 4, retry=RetryPolicy(attempts=4))
    with pytest.raises(ServiceUnreachable, match="No connection"):
        scripted.call()
    assert len(scripted.requests) == 4

    slow = script(*[problem(503, headers={"retry-after": "25"})] * 9, retry=RetryPolicy(attempts=9))
    with pytest.raises(ServiceRefused):
        slow.call()
    assert len(slow.requests) == 3  # after 0, 25 and 50 seconds; 75 would be past the minute


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 415, 422, 500])
def test_other_refusals_are_told_at_once(status, script):
    scripted = script(problem(status, "a_code", "It is so", "Do this."))
    with pytest.raises(ServiceRefused) as caught:
        scripted.call()
    error = caught.value
    assert (error.status, error.problem, str(error)) == (status, "a_code", "It is so. Do this.")
    assert len(scripted.requests) == 1


def test_an_expired_cursor_has_a_class_of_its_own(script):
    with pytest.raises(CursorExpired) as caught:
        script(problem(410, "cursor_expired")).call()
    assert caught.value.status == 410


@pytest.mark.parametrize(
    ("answers", "uncertain"),
    [
        ([httpx.ConnectError("x")] * 6, False),  # never sent
        ([httpx.ConnectError("x"), httpx.ReadTimeout("x"), *[httpx.ConnectError("x")] * 4], True),
        ([httpx.ReadError("x")] * 6, True),
        ([problem(503)] * 6, False),
        ([httpx.Response(504)] * 6, True),
        ([problem(500)], True),
        ([problem(422)], False),
        # Had the first been carried out, its answer would have come again.
        ([httpx.ReadTimeout("x"), problem(422)], False),
        ([httpx.ReadTimeout("x"), *[problem(429)] * 5], True),
        ([httpx.Response(200, text="<html>")], True),
        ([httpx.Response(301, headers={"location": "https://other.example"})], False),
        ([httpx.ReadTimeout("x"), httpx.Response(403, text="a proxy's words")], True),
    ],
)
def test_it_is_told_whether_a_write_may_have_been_carried_out(answers, uncertain, script):
    scripted = script(*answers)
    with pytest.raises((ServiceUnreachable, ServiceRefused, ProtocolError)) as caught:
        scripted.call()
    assert caught.value.uncertain is uncertain


def test_a_read_is_never_uncertain(script):
    with pytest.raises(ServiceUnreachable) as caught:
        script(*[httpx.ReadError("x")] * 6).call("GET")
    assert not caught.value.uncertain


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>Please log in</html>"),
        httpx.Response(200, json={"recorded": 1}),
        httpx.Response(200, json={"recorded": 1, "unknown": 0, "more": PASSPHRASE}),
        httpx.Response(200, json=[PASSPHRASE]),
        httpx.Response(200, headers={"content-type": "application/json"}, content=b"{"),
        httpx.Response(200, headers={"content-type": "text/html"}, content=TAKEN.model_dump_json()),
        httpx.Response(201, json=TAKEN.model_dump()),
        httpx.Response(302, headers={"location": "https://other.example"}),
        httpx.Response(404, text="not found"),
        httpx.Response(404, headers={"content-type": "application/problem+json"}, content=b"{}"),
        httpx.Response(
            200,
            headers={"content-type": "application/json", "content-encoding": "gzip"},
            stream=httpx.ByteStream(b"\x1f\x8b"),
        ),
    ],
)
def test_an_answer_of_another_form_is_a_protocol_error(answer, script):
    scripted = script(answer)
    with pytest.raises(ProtocolError) as caught:
        scripted.call()
    assert PASSPHRASE not in str(caught.value)
    assert caught.value.__cause__ is None
    assert len(scripted.requests) == 1  # and redirects are not followed


def test_words_from_the_service_cannot_command_a_terminal(script):
    with pytest.raises(ServiceRefused) as caught:
        script(problem(400, "c\x1b[2J", "A\x1b]0;title\x07\nB", "x" * 10_000)).call()
    assert str(caught.value).isprintable()
    assert caught.value.problem.isprintable()
    assert len(str(caught.value)) < 1100


def test_what_is_sent_says_nothing_about_this_machine(script):
    scripted = script(taken())
    scripted.call()
    (request,) = scripted.requests
    assert request.headers["user-agent"] == "nciihash/0.1.0"
    assert set(request.headers) == {
        *("accept", "accept-encoding", "authorization", "connection", "content-length"),
        *("content-type", "host", "idempotency-key", "user-agent"),
    }


def test_cookies_are_not_sent_back(script):
    scripted = script(taken(), taken())
    scripted.answers[0].headers["set-cookie"] = "who=me; Path=/"
    scripted.call()
    scripted.call()
    assert "cookie" not in scripted.requests[1].headers


def test_an_untrusted_certificate_is_not_tried_again(script):
    fault = httpx.ConnectError("x")
    fault.__cause__ = ssl.SSLCertVerificationError("x")
    scripted = script(fault)
    with pytest.raises(ServiceUnreachable, match="certificate"):
        scripted.call()
    assert len(scripted.requests) == 1
