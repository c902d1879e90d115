"""Carry a call to a clearinghouse and back: `Transport` in a thread, `AsyncTransport` in asyncio.

HTTPS except on this machine itself, no redirects, no cookies, bounded answers, bounded time. What
is sent, and again after a passing fault, `nciihash.client.sans_io` decides for both.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final, TypeVar, cast

import httpx

from nciihash import __version__
from nciihash.client.address import server_address
from nciihash.client.deadline import Deadline, Stream
from nciihash.client.sans_io import (
    JSON,
    RETRY_POLICY,
    Attempt,
    Cancelled,
    Exchange,
    IncomingResponse,
    LookupResult,
    Response,
    RetryPolicy,
)
from nciihash.errors import ProtocolError, ServiceError
from nciihash.wire import PROBLEM

_HEADERS: Final = {
    "User-Agent": f"nciihash/{__version__}",
    "Accept": f"{JSON}, {PROBLEM}",
    # A compressed answer could not be bounded before it is unpacked.
    "Accept-Encoding": "identity",
}

T = TypeVar("T")


class Transport:
    """The way to one clearinghouse; close it after use.

    Args:
        server: its address, as `server_address` takes it.
        retry: how often and how long to try again.
        http: what carries the requests, instead of real connections.
        clock: seconds that never go back.
        sleep: waits some seconds, by default until then or until `break_off`.

    Raises:
        InvalidRequest: the address cannot be right.
    """

    def __init__(
        self,
        server: str,
        *,
        retry: RetryPolicy = RETRY_POLICY,
        http: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self.server = server_address(server)
        self.retry = retry
        self.clock = clock
        self._broken_off = threading.Event()
        self._sleep = sleep or self._broken_off.wait
        self._deadline = Deadline()
        # Whether anything of the last call has left and may have been carried out unanswered:
        # what a caller can tell when Ctrl-C breaks a call off.
        self.unanswered = False
        self._writing = False
        self._http = httpx.Client(
            transport=http,
            trust_env=_trusts_environment(self.server),
            follow_redirects=False,
            cookies=_no_cookies(),
            headers=_HEADERS,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def break_off(self) -> None:
        """End the calls that other threads are in, and let all later ones fail at once."""
        self._broken_off.set()
        self._deadline.break_off()

    def run(self, talk: Exchange[T]) -> T:
        """Make the attempts of a call until it has its answer.

        Raises:
            ServiceError: as the call raises it.
        """
        try:
            attempt = next(talk)
            while True:
                self.unanswered = attempt.uncertain
                attempt = talk.send(self._outcome(attempt))
        except StopIteration as end:
            self.unanswered = False
            return cast(T, end.value)
        except ServiceError as error:
            self.unanswered = error.uncertain
            raise

    def _outcome(self, attempt: Attempt) -> LookupResult:
        if attempt.pause:
            self._sleep(attempt.pause)
        if self._broken_off.is_set():
            return Cancelled("this program is ending")
        try:
            return self._exchange(attempt)
        except (httpx.TransportError, ProtocolError) as fault:
            return fault

    def _trace(self, event: str, info: Mapping[str, object]) -> None:
        """Hear from the connection what it does, by the names that httpcore gives to its steps."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._deadline.bind(cast(Stream, info["return_value"]))
        if event.endswith(".send_request_headers.started"):
            self.unanswered = self._writing

    def _exchange(self, attempt: Attempt) -> Response:
        self._writing = attempt.request.method != "GET"
        request = attempt.built(self._http, self.server)
        request.extensions["trace"] = self._trace
        with (
            self._deadline.within(attempt.until - self.clock()),
            contextlib.closing(self._http.send(request, stream=True)) as response,
        ):
            arrival = IncomingResponse(response)
            for part in response.iter_bytes():
                arrival.take(part)
            return arrival.answer()


class AsyncTransport:
    """The way to one clearinghouse for asyncio; close it after use.

    A call that is cancelled leaves its connection closed and nothing else behind.

    Args:
        server: its address, as `server_address` takes it.
        retry: how often and how long to try again.
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
        retry: RetryPolicy = RETRY_POLICY,
        http: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.server = server_address(server)
        self.retry = retry
        self.clock = clock
        self._sleep = sleep
        self._http = httpx.AsyncClient(
            transport=http,
            trust_env=_trusts_environment(self.server),
            follow_redirects=False,
            cookies=_no_cookies(),
            headers=_HEADERS,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def run(self, talk: Exchange[T]) -> T:
        """Make the attempts of a call until it has its answer.

        Raises:
            ServiceError: as the call raises it.
        """
        try:
            attempt = next(talk)
            while True:
                attempt = talk.send(await self._outcome(attempt))
        except StopIteration as end:
            return cast(T, end.value)

    async def _outcome(self, attempt: Attempt) -> LookupResult:
        if attempt.pause:
            await self._sleep(attempt.pause)
        try:
            async with asyncio.timeout(attempt.until - self.clock()):
                return await self._exchange(attempt)
        except TimeoutError:
            return httpx.ReadTimeout("the answer takes too long")
        except (httpx.TransportError, ProtocolError) as fault:
            return fault

    async def _exchange(self, attempt: Attempt) -> Response:
        request = attempt.built(self._http, self.server)
        async with contextlib.aclosing(await self._http.send(request, stream=True)) as response:
            arrival = IncomingResponse(response)
            async for part in response.aiter_bytes():
                arrival.take(part)
            return arrival.answer()


def _trusts_environment(server: httpx.URL) -> bool:
    """Tell whether a proxy that is set for this machine may see the requests."""
    return server.scheme == "https"  # it would see a plain request to loopback


def _no_cookies() -> CookieJar:
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))
