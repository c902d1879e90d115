"""Send a request to a clearinghouse and read its answer, or say plainly what went wrong.

HTTPS except on this machine itself, no redirects, no cookies, bounded answers, bounded time. What
can safely be sent twice is sent again after a passing fault, with growing random pauses.
"""

import contextlib
import ipaddress
import re
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final, TypeVar, cast

import httpx
from pydantic import ValidationError

from nciihash import __version__
from nciihash.deadline import Deadline, Stream
from nciihash.errors import (
    CursorExpired,
    InvalidRequest,
    ProtocolError,
    ServiceError,
    ServiceRefused,
    ServiceUnreachable,
)
from nciihash.wire import PROBLEM, Message, Problem

REPLY_MAX: Final = 64 * 2**20  # bytes; ten thousand queries with a few dozen hits each fit

_JSON: Final = "application/json"
_PASSING: Final = frozenset({429, 502, 503, 504})
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
)
_HOPELESS: Final = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)
_RANDOM: Final = secrets.SystemRandom()

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Patience:
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


PATIENCE: Final = Patience()


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One request, as it is sent at each attempt."""

    method: str
    path: str
    authorization: str | None = None
    body: bytes | None = None
    content_type: str = _JSON
    params: Mapping[str, str] | None = None
    idempotency_key: str | None = None
    wait: float = 0.0  # seconds that the service may hold the answer back

    def __repr__(self) -> str:
        # the other fields hold credentials and hashes
        return f"Outgoing({self.method} {self.path})"


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    kind: str
    retry_after: float | None
    body: bytes


def new_idempotency_key() -> str:
    """Make the key under which one write is sent, however often: 128 random bits."""
    return secrets.token_hex(16)


def server_address(server: str) -> httpx.URL:
    """Read the address of a clearinghouse: `https://HOST`, or `http://` on this machine alone.

    Raises:
        InvalidRequest: another scheme, credentials in the address, or no address at all.
    """
    try:
        url = httpx.URL(server.strip())
        # Raises for a port that is none; the port itself is not needed here.
        _ = url.port
    except (httpx.InvalidURL, ValueError):
        raise InvalidRequest(
            "The address of the clearinghouse cannot be read: write it as https://HOST."
        ) from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise InvalidRequest("The address of the clearinghouse begins with https:// and a host.")
    if url.userinfo or url.query or url.fragment:
        raise InvalidRequest(
            "The address of the clearinghouse holds more than a host, a port and a path: leave out "
            "names, passwords, question marks and what follows them."
        )
    if url.scheme == "http" and not _is_loopback(url.host):
        raise InvalidRequest(
            "Plain http:// would let others on the network read the hashes and the passphrase: "
            "use https://. (Only a service on this machine may be reached without.)"
        )
    return url.copy_with(path=url.path.rstrip("/") or "/")


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Transport:
    """The way to one clearinghouse; close it after use.

    Args:
        server: its address, as `server_address` takes it.
        patience: how often and how long to try again.
        http: what carries the requests, instead of real connections.
        clock: seconds that never go back.
        sleep: waits some seconds.

    Raises:
        InvalidRequest: the address cannot be right.
    """

    def __init__(
        self,
        server: str,
        *,
        patience: Patience = PATIENCE,
        http: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.server = server_address(server)
        self._patience = patience
        self._clock = clock
        self._sleep = sleep
        self._deadline = Deadline()
        # Whether anything of the last call has left and may have been carried out unanswered:
        # what a caller can tell when Ctrl-C breaks a call off.
        self.unanswered = False
        self._writing = False
        self._http = httpx.Client(
            transport=http,
            # A proxy that is set for this machine would see a plain request to loopback.
            trust_env=self.server.scheme == "https",
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            headers={
                "User-Agent": f"nciihash/{__version__}",
                "Accept": f"{_JSON}, {PROBLEM}",
                # A compressed answer could not be bounded before it is unpacked.
                "Accept-Encoding": "identity",
            },
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(self, request: Outgoing, *, status: int, reply: type[M]) -> M:
        """Send a request, again after passing faults, and read the answer.

        The request must be one that may be carried out twice: a read, a deletion, or a write with
        an idempotency key.

        Args:
            request: what to send.
            status: the HTTP status of the answer that is expected.
            reply: the form of its body.

        Raises:
            ServiceUnreachable: no answer, or none in time.
            ServiceRefused: a problem document, `CursorExpired` for that code.
            ProtocolError: an answer of another form.
        """
        started = self._clock()
        uncertain = self.unanswered = False
        self._writing = request.method != "GET"
        error: ServiceError
        for attempt in range(1, self._patience.attempts + 1):
            pause = self._patience.pause(attempt)
            try:
                answer = self._exchange(request, started)
                if answer.status == status:
                    self.unanswered = False
                    return _read(reply, answer)
                error = _refusal(answer)
                uncertain |= answer.status in _UNCERTAIN
                # A definite refusal settles what earlier attempts left open: had one of them
                # been carried out, the same idempotency key would have brought its answer.
                if isinstance(error, ServiceRefused) and 400 <= answer.status < 500:
                    uncertain &= answer.status in _PASSING
                again = answer.status in _PASSING
                pause = max(pause, answer.retry_after or 0.0)
            except httpx.TransportError as fault:
                error = _unreachable(fault)
                uncertain |= not isinstance(fault, _UNSENT)
                again = not isinstance(fault, _HOPELESS) and not _untrusted(fault)
            except ProtocolError as fault:
                error = fault
                uncertain = True
                again = False
            self.unanswered = uncertain
            late = self._clock() - started + pause > self._patience.total + request.wait
            if not again or late or attempt == self._patience.attempts:
                break
            self._sleep(pause)
        error.uncertain = uncertain and request.method != "GET"
        # The fault's own text may name what was sent, so that it is not chained.
        raise error from None

    def _trace(self, event: str, info: Mapping[str, object]) -> None:
        """Hear from the connection what it does, by the names that httpcore gives to its steps."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._deadline.bind(cast(Stream, info["return_value"]))
        if event.endswith(".send_request_headers.started"):
            self.unanswered = self._writing

    def _exchange(self, request: Outgoing, started: float) -> _Answer:
        headers = {}
        if request.authorization is not None:
            headers["Authorization"] = request.authorization
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        if request.idempotency_key is not None:
            headers["Idempotency-Key"] = request.idempotency_key
        timeout = httpx.Timeout(
            self._patience.answer,
            connect=self._patience.connect,
            read=self._patience.answer + request.wait,
        )
        url = self.server.copy_with(path=self.server.path.rstrip("/") + request.path)
        left = started + 2 * self._patience.total + request.wait - self._clock()
        with (
            self._deadline.within(left),
            self._http.stream(
                request.method,
                url,
                content=request.body,
                params=request.params,
                headers=headers,
                timeout=timeout,
                extensions={"trace": self._trace},
            ) as response,
        ):
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise ProtocolError(_NOT_OURS)
            body = bytearray()
            for part in response.iter_bytes():
                body += part
                if len(body) > REPLY_MAX:
                    raise ProtocolError(
                        "The answer is larger than any that this version expects. Ask for less at "
                        "a time, or check the address of the clearinghouse."
                    )
            return _Answer(
                response.status_code,
                response.headers.get("content-type", "").partition(";")[0].strip().lower(),
                _seconds(response.headers.get("retry-after", "")),
                bytes(body),
            )


_NOT_OURS: Final = (
    "The answer is not one that a clearinghouse of this version gives. Check the address, and that "
    "this program and the service are up to date."
)


def _read(form: type[M], answer: _Answer) -> M:
    if answer.kind != _JSON:
        raise ProtocolError(_NOT_OURS)
    try:
        return form.model_validate_json(answer.body)
    except ValidationError:
        # Its text quotes the answer, in which a passphrase may stand.
        raise ProtocolError(_NOT_OURS) from None


def _refusal(answer: _Answer) -> ServiceError:
    if 300 <= answer.status < 400:
        return ProtocolError(
            "The address leads on to another one, which is not followed. Use the address at which "
            "the clearinghouse itself answers."
        )
    problem = None
    if answer.kind == PROBLEM:
        with contextlib.suppress(ValidationError):
            problem = Problem.model_validate_json(answer.body)
    if problem is None:
        if answer.status in _PASSING:
            return ServiceUnreachable(
                "The clearinghouse is not answering right now: it may be starting, or very busy. "
                "Try again in a few minutes."
            )
        return ProtocolError(_NOT_OURS)
    kind = CursorExpired if problem.code == CursorExpired.code else ServiceRefused
    code, title, detail = map(_plain, (problem.code, problem.title, problem.detail))
    return kind(answer.status, code, title, detail, retry_after=answer.retry_after)


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
