"""What passes between a client and a clearinghouse, without sending any of it.

A call is a generator, an `Exchange`: it yields each attempt, receives its result, and returns the
parsed response or raises. The retry policy and the limits on a response are enforced here. I/O and
waiting are in `nciihash.client.transport`, for threads and for asyncio.
"""

import contextlib
import re
import secrets
import ssl
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

import httpx
from pydantic import ValidationError

from nciihash.errors import (
    CursorExpired,
    ProtocolError,
    ServiceError,
    ServiceRefused,
    ServiceUnreachable,
)
from nciihash.wire import PROBLEM, Message, Problem
from nciihash.wire.proof_of_work import WORK_HEADER, WorkProblem


class Cancelled(httpx.TransportError):
    """Nothing was sent, since this program itself asked that its calls end."""


REPLY_MAX: Final = 64 * 2**20  # bytes; ten thousand queries with a few dozen hits each fit

JSON: Final = "application/json"
_PASSING: Final = frozenset({429, 502, 503, 504})
_WORK_ASKED: Final = 428
# Answers after which a write may have been carried out all the same.
_UNCERTAIN: Final = frozenset({500, 502, 504})
# What httpx raises before a byte of the request has left.
_UNSENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
    Cancelled,
)
_HOPELESS: Final = (httpx.UnsupportedProtocol, httpx.LocalProtocolError, Cancelled)
_RANDOM: Final = secrets.SystemRandom()

T = TypeVar("T")
M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long a request is tried again.

    The pause before attempt n + 1 is drawn evenly from 0 to min(`cap`, `base` * 2**(n - 1)) seconds
    ("full jitter"), or is what the service asked for in Retry-After, if that is longer. No attempt
    starts later than `total` seconds after the first. Within an attempt, `connect` seconds are
    given for a connection, and `answer` seconds for each part that is sent or received; all
    attempts together end after twice `total`, however steadily an answer trickles in.
    """

    attempts: int = 6
    total: float = 60.0
    base: float = 0.5
    cap: float = 15.0
    connect: float = 10.0
    answer: float = 30.0

    def pause(self, attempt: int) -> float:
        """Draw the seconds to wait after attempt number `attempt`, counted from 1."""
        return _RANDOM.uniform(0, min(self.cap, self.base * 2.0 ** min(attempt - 1, 60)))


RETRY_POLICY: Final = RetryPolicy()


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as it is sent at each attempt."""

    method: str
    path: str
    authorization: str | None = None
    body: bytes | None = None
    content_type: str = JSON
    params: Mapping[str, str] | None = None
    idempotency_key: str | None = None
    work: str | None = None  # proof of work, as its header holds it
    wait: float = 0.0  # seconds that the service may hold the answer back

    def __repr__(self) -> str:
        # the other fields hold credentials and hashes
        return f"Request({self.method} {self.path})"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sending of a request, as it is to be made.

    Attributes:
        request: what to send.
        pause: seconds to wait first.
        until: when, on the clock of the call, all of it has to be over.
        timeout: how long each step may take.
        uncertain: whether an earlier attempt may have been carried out unanswered.
    """

    request: Request
    pause: float
    until: float
    timeout: httpx.Timeout
    uncertain: bool

    def built(self, http: httpx.Client | httpx.AsyncClient, server: httpx.URL) -> httpx.Request:
        """Make the request for a server at this address."""
        request = self.request
        headers = {}
        if request.authorization is not None:
            headers["Authorization"] = request.authorization
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        if request.idempotency_key is not None:
            headers["Idempotency-Key"] = request.idempotency_key
        if request.work is not None:
            headers[WORK_HEADER] = request.work
        return http.build_request(
            request.method,
            server.copy_with(path=server.path.rstrip("/") + request.path),
            content=request.body,
            params=request.params,
            headers=headers,
            timeout=self.timeout,
        )


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, whole."""

    status: int
    kind: str
    retry_after: float | None
    body: bytes


class IncomingResponse:
    """An answer that is coming in.

    Raises:
        ProtocolError: it is compressed, so that its size could not be bounded.
    """

    def __init__(self, response: httpx.Response) -> None:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise ProtocolError(_NOT_OURS)
        self._response = response
        self._body = bytearray()

    def take(self, part: bytes) -> None:
        """Take in a part of its body.

        Raises:
            ProtocolError: it has become too large.
        """
        self._body += part
        if len(self._body) > REPLY_MAX:
            raise ProtocolError(
                "The answer is larger than any that this version expects. Ask for less at a time, "
                "or check the address of the clearinghouse."
            )

    def answer(self) -> Response:
        """Give all of it."""
        headers = self._response.headers
        return Response(
            self._response.status_code,
            headers.get("content-type", "").partition(";")[0].strip().lower(),
            _seconds(headers.get("retry-after", "")),
            bytes(self._body),
        )


LookupResult: TypeAlias = Response | httpx.TransportError | ProtocolError
Exchange: TypeAlias = Generator[Attempt, LookupResult, T]


def new_idempotency_key() -> str:
    """Make the key under which one write is sent, however often: 128 random bits."""
    return secrets.token_hex(16)


def exchange(
    request: Request,
    reply: type[M],
    *,
    status: int,
    retry: RetryPolicy,
    clock: Callable[[], float],
) -> Exchange[M]:
    """Send a request, again after passing faults, and read the answer.

    The request must be one that may be carried out twice: a read, a deletion, or a write with an
    idempotency key.

    Args:
        request: what to send.
        reply: the form of the answer's body.
        status: the HTTP status of the answer that is expected.
        retry: how often and how long to try again.
        clock: seconds that never go back.

    Raises:
        ServiceUnreachable: no answer, or none in time.
        ServiceRefused: a problem document, `CursorExpired` for that code.
        ProtocolError: an answer of another form.
    """
    started = clock()
    timeout = httpx.Timeout(retry.answer, connect=retry.connect, read=retry.answer + request.wait)
    uncertain, pause = False, 0.0
    error: ServiceError
    for attempt in range(1, retry.attempts + 1):
        until = started + 2 * retry.total + request.wait
        outcome = yield Attempt(request, pause, until, timeout, uncertain)
        pause = retry.pause(attempt)
        match outcome:
            case Response():
                if outcome.status == status:
                    try:
                        return _read(reply, outcome)
                    except ProtocolError as fault:
                        error = fault
                        uncertain = True
                        break
                error = _refusal(outcome)
                uncertain |= outcome.status in _UNCERTAIN
                # A definite refusal settles what earlier attempts left open: had one of them been
                # carried out, the same idempotency key would have brought its answer. A question
                # for work settles nothing: that attempt may be under way with the proof that it has
                # spent.
                if isinstance(error, ServiceRefused) and 400 <= outcome.status < 500:
                    uncertain &= outcome.status in {*_PASSING, _WORK_ASKED}
                again = outcome.status in _PASSING
                pause = max(pause, outcome.retry_after or 0.0)
            case ProtocolError():
                error, again = outcome, False
                uncertain = True
            case _:
                error = _unreachable(outcome)
                uncertain |= not isinstance(outcome, _UNSENT)
                again = not isinstance(outcome, _HOPELESS) and not _untrusted(outcome)
        if not again or clock() - started + pause > retry.total + request.wait:
            break
    error.uncertain = uncertain and request.method != "GET"
    # The fault's own text may name what was sent, so that it is not chained.
    raise error from None


_NOT_OURS: Final = (
    "The answer is not one that a clearinghouse of this version gives. Check the address, and that "
    "this program and the service are up to date."
)


def _read(form: type[M], answer: Response) -> M:
    if answer.kind != JSON:
        raise ProtocolError(_NOT_OURS)
    try:
        return form.model_validate_json(answer.body)
    except ValidationError:
        # Its text quotes the answer, in which a passphrase may stand.
        raise ProtocolError(_NOT_OURS) from None


def _refusal(answer: Response) -> ServiceError:
    if 300 <= answer.status < 400:
        return ProtocolError(
            "The address leads on to another one, which is not followed. Use the address at which "
            "the clearinghouse itself answers."
        )
    problem, work = None, None
    if answer.kind == PROBLEM:
        with contextlib.suppress(ValidationError):
            problem = Problem.model_validate_json(answer.body)
        if answer.status == _WORK_ASKED:
            with contextlib.suppress(ValidationError):
                work = WorkProblem.model_validate_json(answer.body).work.model_dump()
    if problem is None:
        if answer.status in _PASSING:
            return ServiceUnreachable(
                "The clearinghouse is not answering right now: it may be starting, or very busy. "
                "Try again in a few minutes."
            )
        return ProtocolError(_NOT_OURS)
    kind = CursorExpired if problem.code == CursorExpired.code else ServiceRefused
    code, title, detail = map(_plain, (problem.code, problem.title, problem.detail))
    return kind(answer.status, code, title, detail, retry_after=answer.retry_after, work=work)


def _seconds(header: str) -> float | None:
    """Read Retry-After in seconds; a date in it is passed over, since clocks differ."""
    return float(header) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", header.strip()) else None


def _plain(text: str) -> str:
    """Keep what can be shown on a terminal without being obeyed by it."""
    return "".join(c for c in text if c.isprintable())[:500]


def _untrusted(fault: BaseException) -> bool:
    """Tell whether the server's certificate was refused."""
    seen: BaseException | None = fault
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _unreachable(fault: httpx.TransportError) -> ServiceUnreachable:
    if _untrusted(fault):
        return ServiceUnreachable(
            "The clearinghouse could not prove who it is: its certificate is not trusted here. "
            "Nothing was sent. Check the address; on a network that asks you to log in, do that "
            "first."
        )
    if isinstance(fault, Cancelled):
        return ServiceUnreachable(
            "The request was broken off, because this program is ending. What it was about can be "
            "asked or sent again."
        )
    if isinstance(fault, httpx.TimeoutException):
        return ServiceUnreachable(
            "The clearinghouse did not answer in time. Check the network, or try again later."
        )
    if isinstance(fault, _UNSENT):
        return ServiceUnreachable(
            "No connection to the clearinghouse. Check the address and the network, then try again."
        )
    return ServiceUnreachable(
        "The connection to the clearinghouse broke off before its answer had come. Try again."
    )
