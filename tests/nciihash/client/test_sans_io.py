import asyncio
import json
import ssl
from collections.abc import Callable

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
REPLY = FeedbackTaken(recorded=1, unknown=0)


def success():
    return httpx.Response(200, json=REPLY.model_dump())


def problem(status, code="some_code", title="No", detail="Do this.", headers=None):
    return httpx.Response(
        status,
        headers={"content-type": "application/problem+json"} | (headers or {}),
        content=json.dumps({"title": title, "status": status, "detail": detail, "code": code}),
    )


class Script:
    """Sends scripted responses one after another; records the requests and the pauses."""

    transport_class: type
    sleep: Callable[[float], object]

    def __init__(self, *responses, retry=RETRY_POLICY):
        self.responses = list(responses)
        self.requests = []
        self.pauses = []
        self.now = 1000.0
        self.transport = self.transport_class(
            "http://127.0.0.1:1",
            retry=retry,
            http=httpx.MockTransport(self.respond),
            clock=lambda: self.now,
            sleep=self.sleep,
        )

    def respond(self, request):
        self.requests.append(request)
        response = self.responses.pop(0)
        if isinstance(response, Exception):
            raise response
        # a response can be read once, and parametrized tests share this one
        body = httpx.ByteStream(b"".join(response.stream))
        return httpx.Response(response.status_code, headers=response.headers, stream=body)

    def exchange(self, method):
        request = Request(method, "/v1/feedback", "Bearer x", b"{}", idempotency_key="ab" * 16)
        retry, clock = self.transport.retry, self.transport.clock
        return exchange(request, FeedbackTaken, status=200, retry=retry, clock=clock)


class ThreadScript(Script):
    transport_class = Transport

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds

    def call(self, method="POST"):
        return self.transport.run(self.exchange(method))


class AsyncioScript(Script):
    transport_class = AsyncTransport

    async def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds

    def call(self, method="POST"):
        return asyncio.run(self.transport.run(self.exchange(method)))


@pytest.fixture(params=[ThreadScript, AsyncioScript])
def script(request):
    """Return the class of scripts for each transport: both must behave alike."""
    return request.param


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_transient_refusals_are_retried_under_the_same_key(status, script):
    scripted = script(problem(status), httpx.Response(status), success())
    assert scripted.call() == REPLY
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
def test_connection_errors_are_retried(fault, script):
    scripted = script(fault, fault, success())
    assert scripted.call() == REPLY
    assert len(scripted.pauses) == 2


def test_pauses_have_exponential_backoff_with_full_jitter(script):
    retry = RetryPolicy(attempts=6, base=1.0, cap=4.0, total=1000)
    drawn = [[] for _ in range(5)]
    for _ in range(200):
        scripted = script(*[problem(503)] * 6, retry=retry)
        with pytest.raises(ServiceRefused):
            scripted.call()
        for row, pause in zip(drawn, scripted.pauses, strict=True):
            row.append(pause)
    for row, limit in zip(drawn, (1, 2, 4, 4, 4), strict=True):
        # that none of 200 uniform draws is within a tenth of either end happens once in 10**9 runs
        assert 0 <= min(row) < 0.1 * limit
        assert 0.9 * limit < max(row) <= limit


def test_retry_after_is_honoured(script):
    scripted = script(problem(429, headers={"retry-after": "7"}), success())
    scripted.call()
    assert scripted.pauses[0] >= 7


def test_a_retry_after_beyond_the_policy_raises_at_once(script):
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
def test_other_refusals_are_not_retried(status, script):
    scripted = script(problem(status, "a_code", "Not so", "Do this."))
    with pytest.raises(ServiceRefused) as caught:
        scripted.call()
    error = caught.value
    assert (error.status, error.problem, str(error)) == (status, "a_code", "Not so. Do this.")
    assert len(scripted.requests) == 1


def test_an_expired_cursor_has_a_class_of_its_own(script):
    with pytest.raises(CursorExpired) as caught:
        script(problem(410, "cursor_expired")).call()
    assert caught.value.status == 410


@pytest.mark.parametrize(
    ("responses", "uncertain"),
    [
        ([httpx.ConnectError("x")] * 6, False),  # never sent
        ([httpx.ConnectError("x"), httpx.ReadTimeout("x"), *[httpx.ConnectError("x")] * 4], True),
        ([httpx.ReadError("x")] * 6, True),
        ([problem(503)] * 6, False),
        ([httpx.Response(504)] * 6, True),
        ([problem(500)], True),
        ([problem(422)], False),
        # had the first been carried out, the second would have returned its response
        ([httpx.ReadTimeout("x"), problem(422)], False),
        ([httpx.ReadTimeout("x"), *[problem(429)] * 5], True),
        ([httpx.Response(200, text="<html>")], True),
        ([httpx.Response(301, headers={"location": "https://other.example"})], False),
        ([httpx.ReadTimeout("x"), httpx.Response(403, text="from a proxy")], True),
    ],
)
def test_an_error_knows_whether_a_write_may_have_been_carried_out(responses, uncertain, script):
    scripted = script(*responses)
    with pytest.raises((ServiceUnreachable, ServiceRefused, ProtocolError)) as caught:
        scripted.call()
    assert caught.value.uncertain is uncertain


def test_a_read_is_never_uncertain(script):
    with pytest.raises(ServiceUnreachable) as caught:
        script(*[httpx.ReadError("x")] * 6).call("GET")
    assert not caught.value.uncertain


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(200, text="<html>Please log in</html>"),
        httpx.Response(200, json={"recorded": 1}),
        httpx.Response(200, json={"recorded": 1, "unknown": 0, "more": PASSPHRASE}),
        httpx.Response(200, json=[PASSPHRASE]),
        httpx.Response(200, headers={"content-type": "application/json"}, content=b"{"),
        httpx.Response(200, headers={"content-type": "text/html"}, content=REPLY.model_dump_json()),
        httpx.Response(201, json=REPLY.model_dump()),
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
def test_an_unexpected_response_is_a_protocol_error(response, script):
    scripted = script(response)
    with pytest.raises(ProtocolError) as caught:
        scripted.call()
    assert PASSPHRASE not in str(caught.value)
    assert caught.value.__cause__ is None
    assert len(scripted.requests) == 1  # and redirects are not followed


def test_text_from_the_service_cannot_control_a_terminal(script):
    with pytest.raises(ServiceRefused) as caught:
        script(problem(400, "c\x1b[2J", "A\x1b]0;title\x07\nB", "x" * 10_000)).call()
    assert str(caught.value).isprintable()
    assert caught.value.problem.isprintable()
    assert len(str(caught.value)) < 1100


def test_request_headers_identify_no_machine(script):
    scripted = script(success())
    scripted.call()
    (request,) = scripted.requests
    assert request.headers["user-agent"] == "nciihash/0.1.0"
    assert set(request.headers) == {
        *("accept", "accept-encoding", "authorization", "connection", "content-length"),
        *("content-type", "host", "idempotency-key", "user-agent"),
    }


def test_cookies_are_not_sent_back(script):
    scripted = script(success(), success())
    scripted.responses[0].headers["set-cookie"] = "who=me; Path=/"
    scripted.call()
    scripted.call()
    assert "cookie" not in scripted.requests[1].headers


def test_an_untrusted_certificate_is_not_retried(script):
    fault = httpx.ConnectError("x")
    fault.__cause__ = ssl.SSLCertVerificationError("x")
    scripted = script(fault)
    with pytest.raises(ServiceUnreachable, match="certificate"):
        scripted.call()
    assert len(scripted.requests) == 1
