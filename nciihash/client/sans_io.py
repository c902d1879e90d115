"""The protocol between a client and a clearinghouse, without I/O (sans-I/O, as in h11).

A call is a generator, an `Exchange`: it yields each attempt, receives its outcome, and returns the
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
    """The attempt was not sent, because this program aborted its calls."""


RESPONSE_MAX: Final = 64 * 2**20  # bytes; ten thousand queries with a few dozen hits each fit

JSON: Final = "application/json"
_TRANSIENT: Final = frozenset({429, 502, 503, 504})
_WORK_REQUIRED: Final = 428
# statuses after which a write may have been carried out all the same
_UNCERTAIN: Final = frozenset({500, 502, 504})
# what httpx raises before it has sent a byte of the request
_UNSENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
    Cancelled,
)
_PERMANENT: Final = (httpx.UnsupportedProtocol, httpx.LocalProtocolError, Cancelled)
_RANDOM: Final = secrets.SystemRandom()

T = TypeVar("T")
M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a request is retried, with which pauses, and how long it may take.

    The pause after attempt n is drawn uniformly from 0 to min(`cap`, `base` * 2**(n - 1)) seconds
    (exponential backoff with full jitter: M. Brooker, "Exponential Backoff And Jitter", AWS
    Architecture Blog, 2015). If the service sent a longer Retry-After, the pause is that long.

    Attributes:
        attempts: the largest number of attempts.
        total: seconds after the first attempt within which a further one may start. All attempts
            together end after twice that, however slowly a response arrives.
        base: seconds, see above.
        cap: seconds, see above.
        connect_timeout: seconds for opening a connection.
        read_timeout: seconds for each read and each write.
    """

    attempts: int = 6
    total: float = 60.0
    base: float = 0.5
    cap: float = 15.0
    connect_timeout: float = 10.0
    read_timeout: float = 30.0

    def pause(self, attempt: int) -> float:
        """Draw the seconds to wait after attempt number `attempt`, counted from 1."""
        return _RANDOM.uniform(0, min(self.cap, self.base * 2.0 ** min(attempt - 1, 60)))


RETRY_POLICY: Final = RetryPolicy()


@dataclass(frozen=True, slots=True)
class Request:
    """A request, which every attempt sends unchanged.

    Attributes:
        method: the HTTP method.
        path: the path below the server's address, beginning with a slash.
        authorization: the value of the `Authorization` header.
        body: the content.
        content_type: the media type of `body`.
        params: the query parameters.
        idempotency_key: the value of the `Idempotency-Key` header.
        work: a proof of work, as the value of the `Work` header.
        wait: seconds for which the service may delay its response (long poll).
    """

    method: str
    path: str
    authorization: str | None = None
    body: bytes | None = None
    content_type: str = JSON
    params: Mapping[str, str] | None = None
    idempotency_key: str | None = None
    work: str | None = None
    wait: float = 0.0

    def __repr__(self) -> str:
        # the other fields hold credentials and hashes
        return f"Request({self.method} {self.path})"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to send a request.

    Attributes:
        request: the request.
        pause: seconds to wait before it is sent.
        deadline: when the attempt must have ended, on the clock of the call.
        timeout: the limits of each step.
        uncertain: whether an earlier attempt may have been carried out although no usable response
            arrived.
    """

    request: Request
    pause: float
    deadline: float
    timeout: httpx.Timeout
    uncertain: bool

    def build_request(
        self, http: httpx.Client | httpx.AsyncClient, server: httpx.URL
    ) -> httpx.Request:
        """Build the httpx request to a server."""
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
    """A complete response.

    Attributes:
        status: the HTTP status.
        content_type: the media type, in lower case and without parameters.
        retry_after: the seconds in the `Retry-After` header.
        body: the content.
    """

    status: int
    content_type: str
    retry_after: float | None
    body: bytes


class IncomingResponse:
    """A response whose body is being received.

    Raises:
        ProtocolError: the body is compressed, so that its size could not be limited.
    """

    def __init__(self, response: httpx.Response) -> None:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise ProtocolError(_UNEXPECTED_RESPONSE)
        self._response = response
        self._body = bytearray()

    def receive(self, chunk: bytes) -> None:
        """Append a chunk to the body.

        Raises:
            ProtocolError: the body exceeds `RESPONSE_MAX`.
        """
        self._body += chunk
        if len(self._body) > RESPONSE_MAX:
            raise ProtocolError(
                "The response is larger than any that this version expects. Request less at a "
                "time, or check the address of the clearinghouse."
            )

    def complete(self) -> Response:
        """Return the complete response."""
        headers = self._response.headers
        return Response(
            self._response.status_code,
            headers.get("content-type", "").partition(";")[0].strip().lower(),
            _retry_after(headers.get("retry-after", "")),
            bytes(self._body),
        )


Outcome: TypeAlias = Response | httpx.TransportError | ProtocolError
Exchange: TypeAlias = Generator[Attempt, Outcome, T]


def new_idempotency_key() -> str:
    """Return a new random key (128 bits) for one write and all of its retries."""
    return secrets.token_hex(16)


def exchange(
    request: Request,
    model: type[M],
    *,
    status: int,
    retry: RetryPolicy,
    clock: Callable[[], float],
) -> Exchange[M]:
    """Send a request, retry it after transient failures, and return the parsed response.

    The request must be safe to repeat: a read, a deletion, or a write with an idempotency key.

    Args:
        request: the request.
        model: the Pydantic model of the response body.
        status: the expected HTTP status.
        retry: the retry policy.
        clock: monotonic time in seconds.

    Raises:
        ServiceUnreachable: no response, or none in time.
        ServiceRefused: the response is a problem document; `CursorExpired` for that code.
        ProtocolError: the response is anything else.
    """
    started = clock()
    timeout = httpx.Timeout(
        retry.read_timeout,
        connect=retry.connect_timeout,
        read=retry.read_timeout + request.wait,
    )
    uncertain, pause = False, 0.0
    error: ServiceError
    for number in range(1, retry.attempts + 1):
        deadline = started + 2 * retry.total + request.wait
        outcome = yield Attempt(request, pause, deadline, timeout, uncertain)
        pause = retry.pause(number)
        match outcome:
            case Response():
                if outcome.status == status:
                    try:
                        return _parse(model, outcome)
                    except ProtocolError as fault:
                        error = fault
                        uncertain = True
                        break
                error = _refusal(outcome)
                uncertain |= outcome.status in _UNCERTAIN
                # A definite refusal settles the earlier attempts: had one of them been carried out,
                # the same idempotency key would have brought back its response. A request for work
                # settles nothing: an earlier attempt may be under way with the proof it spent.
                if isinstance(error, ServiceRefused) and 400 <= outcome.status < 500:
                    uncertain &= outcome.status in {*_TRANSIENT, _WORK_REQUIRED}
                transient = outcome.status in _TRANSIENT
                pause = max(pause, outcome.retry_after or 0.0)
            case ProtocolError():
                error, transient = outcome, False
                uncertain = True
            case _:
                error = _unreachable(outcome)
                uncertain |= not isinstance(outcome, _UNSENT)
                transient = not isinstance(outcome, _PERMANENT) and not _untrusted(outcome)
        if not transient or clock() - started + pause > retry.total + request.wait:
            break
    error.uncertain = uncertain and request.method != "GET"
    # not chained: the text of httpx's error may quote what was sent
    raise error from None


_UNEXPECTED_RESPONSE: Final = (
    "The response is not one that a clearinghouse of this version sends. Check the address, and "
    "that this program and the service are up to date."
)


def _parse(model: type[M], response: Response) -> M:
    if response.content_type != JSON:
        raise ProtocolError(_UNEXPECTED_RESPONSE)
    try:
        return model.model_validate_json(response.body)
    except ValidationError:
        # not chained: its text quotes the response, which may contain a passphrase
        raise ProtocolError(_UNEXPECTED_RESPONSE) from None


def _refusal(response: Response) -> ServiceError:
    """Return the error for a response with another status than the expected one."""
    if 300 <= response.status < 400:
        return ProtocolError(
            "The address redirects to another one, and redirects are not followed. Use the address "
            "at which the clearinghouse itself responds."
        )
    problem, work = None, None
    if response.content_type == PROBLEM:
        with contextlib.suppress(ValidationError):
            problem = Problem.model_validate_json(response.body)
        if response.status == _WORK_REQUIRED:
            with contextlib.suppress(ValidationError):
                work = WorkProblem.model_validate_json(response.body).work.model_dump()
    if problem is None:
        if response.status in _TRANSIENT:
            return ServiceUnreachable(
                "The clearinghouse is not available right now: it may be starting, or very busy. "
                "Try again in a few minutes."
            )
        return ProtocolError(_UNEXPECTED_RESPONSE)
    error = CursorExpired if problem.code == CursorExpired.code else ServiceRefused
    code, title, detail = map(_printable, (problem.code, problem.title, problem.detail))
    return error(response.status, code, title, detail, retry_after=response.retry_after, work=work)


def _retry_after(header: str) -> float | None:
    """Parse a Retry-After in seconds; a date is ignored, since the clocks may differ."""
    return float(header) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", header.strip()) else None


def _printable(text: str) -> str:
    """Remove control characters, which could send commands to a terminal, and limit the length."""
    return "".join(c for c in text if c.isprintable())[:500]


def _untrusted(fault: BaseException) -> bool:
    """Whether the cause is that the server's certificate failed verification."""
    cause: BaseException | None = fault
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _unreachable(fault: httpx.TransportError) -> ServiceUnreachable:
    if _untrusted(fault):
        return ServiceUnreachable(
            "The certificate of the clearinghouse is not trusted on this machine, so nothing was "
            "sent. Check the address; if this network asks you to log in, do that first."
        )
    if isinstance(fault, Cancelled):
        return ServiceUnreachable(
            "The request was aborted, because this program is ending. Run it again to repeat the "
            "request."
        )
    if isinstance(fault, httpx.TimeoutException):
        return ServiceUnreachable(
            "The clearinghouse did not respond in time. Check the network, or try again later."
        )
    if isinstance(fault, _UNSENT):
        return ServiceUnreachable(
            "No connection to the clearinghouse. Check the address and the network, then try again."
        )
    return ServiceUnreachable(
        "The connection to the clearinghouse was lost before the response arrived. Try again."
    )
