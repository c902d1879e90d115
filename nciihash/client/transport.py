"""The I/O of the clients: `Transport` for threads, `AsyncTransport` for asyncio.

HTTPS except to loopback, no redirects, no cookies, and a limit on the size and the time of every
response. Which attempts are made is decided by `nciihash.client.sans_io`.
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
    Outcome,
    Response,
    RetryPolicy,
)
from nciihash.errors import ProtocolError, ServiceError
from nciihash.wire import PROBLEM

_HEADERS: Final = {
    "User-Agent": f"nciihash/{__version__}",
    "Accept": f"{JSON}, {PROBLEM}",
    # the size of a compressed response is not known before it is decompressed
    "Accept-Encoding": "identity",
}

T = TypeVar("T")


class Transport:
    """Blocking transport to one clearinghouse; close it after use.

    Args:
        server: the address, as `server_address` accepts it.
        retry: the retry policy of the calls.
        http: an httpx transport to use instead of real connections.
        clock: monotonic time in seconds.
        sleep: waits some seconds; by default it returns early after `abort`.

    Raises:
        InvalidRequest: the address is invalid.
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
        self._aborted = threading.Event()
        self._sleep = sleep or self._aborted.wait
        self._deadline = Deadline()
        # Whether the last call began to send a write and got no response to it. A caller that
        # Ctrl-C interrupts during a call can know it from this only.
        self.unanswered = False
        self._writing = False
        self._http = httpx.Client(
            transport=http,
            trust_env=_use_proxies(self.server),
            follow_redirects=False,
            cookies=_no_cookies(),
            headers=_HEADERS,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def abort(self) -> None:
        """Abort the calls of other threads, and make all later calls fail at once."""
        self._aborted.set()
        self._deadline.abort()

    def run(self, exchange: Exchange[T]) -> T:
        """Make the attempts of a call until it returns its result.

        Raises:
            ServiceError: as the call raises it.
        """
        try:
            attempt = next(exchange)
            while True:
                self.unanswered = attempt.uncertain
                attempt = exchange.send(self._outcome(attempt))
        except StopIteration as end:
            self.unanswered = False
            return cast(T, end.value)
        except ServiceError as error:
            self.unanswered = error.uncertain
            raise

    def _outcome(self, attempt: Attempt) -> Outcome:
        if attempt.pause:
            self._sleep(attempt.pause)
        if self._aborted.is_set():
            return Cancelled("this program is ending")
        try:
            return self._send(attempt)
        except (httpx.TransportError, ProtocolError) as fault:
            return fault

    def _trace(self, event: str, info: Mapping[str, object]) -> None:
        """Follow the connection's steps: httpx's `trace` extension, with httpcore's event names."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._deadline.bind(cast(Stream, info["return_value"]))
        if event.endswith(".send_request_headers.started"):
            self.unanswered = self._writing

    def _send(self, attempt: Attempt) -> Response:
        self._writing = attempt.request.method != "GET"
        request = attempt.build_request(self._http, self.server)
        request.extensions["trace"] = self._trace
        with (
            self._deadline.within(attempt.deadline - self.clock()),
            contextlib.closing(self._http.send(request, stream=True)) as response,
        ):
            incoming = IncomingResponse(response)
            for chunk in response.iter_bytes():
                incoming.receive(chunk)
            return incoming.complete()


class AsyncTransport:
    """Transport to one clearinghouse for asyncio; close it after use.

    Cancelling a call closes its connection.

    Args:
        server: the address, as `server_address` accepts it.
        retry: the retry policy of the calls.
        http: an httpx transport to use instead of real connections.
        clock: monotonic time in seconds.
        sleep: waits some seconds.

    Raises:
        InvalidRequest: the address is invalid.
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
            trust_env=_use_proxies(self.server),
            follow_redirects=False,
            cookies=_no_cookies(),
            headers=_HEADERS,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def run(self, exchange: Exchange[T]) -> T:
        """Make the attempts of a call until it returns its result.

        Raises:
            ServiceError: as the call raises it.
        """
        try:
            attempt = next(exchange)
            while True:
                attempt = exchange.send(await self._outcome(attempt))
        except StopIteration as end:
            return cast(T, end.value)

    async def _outcome(self, attempt: Attempt) -> Outcome:
        if attempt.pause:
            await self._sleep(attempt.pause)
        try:
            async with asyncio.timeout(attempt.deadline - self.clock()):
                return await self._send(attempt)
        except TimeoutError:
            return httpx.ReadTimeout("the response takes too long")
        except (httpx.TransportError, ProtocolError) as fault:
            return fault

    async def _send(self, attempt: Attempt) -> Response:
        request = attempt.build_request(self._http, self.server)
        async with contextlib.aclosing(await self._http.send(request, stream=True)) as response:
            incoming = IncomingResponse(response)
            async for chunk in response.aiter_bytes():
                incoming.receive(chunk)
            return incoming.complete()


def _use_proxies(server: httpx.URL) -> bool:
    """Whether httpx may use the proxies of the environment: a proxy can read plain HTTP."""
    return server.scheme == "https"


def _no_cookies() -> CookieJar:
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))
