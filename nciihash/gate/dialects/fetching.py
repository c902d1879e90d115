"""Fetch files from URLs that a caller names, from the hosts that the configuration names."""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from functools import partial
from typing import Final, TypeAlias

import httpx

from nciihash import __version__
from nciihash.gate.config.hosts import (
    SCHEMES,
    URL_MOST,
    Host,
    IPAddress,
    host_name,
    is_host_name,
    parse_host,
)
from nciihash.gate.upload import Upload

# Returns the addresses of a host name. Raises OSError if it has none.
Resolver: TypeAlias = Callable[[str], Awaitable[Sequence[IPAddress]]]

_REDIRECTS: Final = 3
_REDIRECT_STATUS: Final = frozenset({301, 302, 303, 307, 308})
_ADDRESSES: Final = 4  # of a host, to which connections are tried
_CONNECT_SECONDS: Final = 5.0
_FETCHES: Final = 32  # at a time
_RESOLVER_THREADS: Final = 8


class Refusal(StrEnum):
    """Why a file was not fetched."""

    URL = "url"
    HOST = "host"
    ADDRESS = "address"
    REDIRECTS = "redirects"
    CONNECTION = "connection"
    STATUS = "status"
    ENCODING = "encoding"
    TIMEOUT = "timeout"


_MESSAGES: Final = {
    Refusal.URL: "url must be an http or https URL without a user name or password.",
    Refusal.HOST: "Files are not fetched from this host. The configuration names the hosts.",
    Refusal.ADDRESS: "The host has an address from which files are not fetched.",
    Refusal.REDIRECTS: "The host redirects too often, or from https to http.",
    Refusal.CONNECTION: "The file could not be fetched: the host does not answer.",
    Refusal.STATUS: "The file could not be fetched: the host answers with an error.",
    Refusal.ENCODING: "The file could not be fetched: the host compresses it.",
    Refusal.TIMEOUT: "The file could not be fetched in time.",
}


class FetchRefused(Exception):
    """A file was not fetched. The message does not contain the URL.

    Attributes:
        refusal: why.
    """

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(_MESSAGES[refusal])
        self.refusal = refusal


def system_resolver() -> Resolver:
    """Return a resolver that asks the system, in threads of its own.

    A slow name server then delays nothing but fetches.
    """
    threads = ThreadPoolExecutor(_RESOLVER_THREADS, thread_name_prefix="resolver")

    async def resolve(name: str) -> Sequence[IPAddress]:
        look_up = partial(socket.getaddrinfo, name, None, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(threads, look_up)
        return [ipaddress.ip_address(sockaddr[0]) for *_, sockaddr in found]

    return resolve


class Fetcher:
    """Fetches files from some hosts.

    The name of a host is resolved once for each request. All its addresses are checked, and the
    connection goes to a checked address, so that a second answer of the DNS (DNS rebinding) has no
    effect. No proxy, cookie or credential is used, no compression is accepted, and redirects are
    checked as the first URL is.

    Args:
        seconds: for a whole fetch, redirects included.
        resolver: of host names; None for the system's.
        tls: verifies servers; by default against the authorities that httpx knows, or those of
            SSL_CERT_FILE.

    Attributes:
        running: how many fetches have begun and not ended.
    """

    def __init__(
        self,
        *,
        seconds: float = 15.0,
        resolver: Resolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._seconds = seconds
        self._resolve = resolver or system_resolver()
        self._tls = tls or httpx.create_ssl_context()
        self._slots = asyncio.Semaphore(_FETCHES)
        self.running = 0

    async def fetch(self, url: str, upload: Upload, hosts: Iterable[str]) -> str:
        """Fetch a file into an upload, which drops it if it is too large.

        Args:
            url: of the file.
            upload: receives it.
            hosts: from which files may be fetched, as `nciihash.gate.config.hosts.parse_host` reads
                them; none for no files at all.

        Returns:
            The media type that the host declares, in lower case and without parameters; "" for
            none.

        Raises:
            FetchRefused: it was not fetched.
            ValueError: a host is not valid.
        """
        named = [parse_host(host) for host in hosts]
        target = _parse(url)
        self.running += 1
        try:
            async with asyncio.timeout(self._seconds), self._slots:
                return await self._follow(target, upload, named)
        except TimeoutError:
            raise FetchRefused(Refusal.TIMEOUT) from None
        except (httpx.HTTPError, httpx.StreamError, OSError):
            # the errors of httpx contain the URL
            raise FetchRefused(Refusal.CONNECTION) from None
        finally:
            self.running -= 1

    async def _follow(self, url: httpx.URL, upload: Upload, hosts: Sequence[Host]) -> str:
        for _ in range(_REDIRECTS + 1):
            async with self._respond(url, hosts) as response:
                if response.status_code not in _REDIRECT_STATUS:
                    return await _receive(response, upload)
                location = response.headers.get("location", "")
            try:
                following = _parse(str(url.join(location)))
            except (httpx.InvalidURL, ValueError):
                raise FetchRefused(Refusal.URL) from None
            if url.scheme == "https" and following.scheme != "https":
                raise FetchRefused(Refusal.REDIRECTS)
            url = following
        raise FetchRefused(Refusal.REDIRECTS)

    @contextlib.asynccontextmanager
    async def _respond(
        self, url: httpx.URL, hosts: Sequence[Host]
    ) -> AsyncIterator[httpx.Response]:
        """Send a request to the first checked address that accepts a connection."""
        addresses = await self._addresses(url, hosts)
        # A client of its own: a connection to an address must not be reused for another name.
        async with httpx.AsyncClient(
            verify=self._tls,
            trust_env=False,
            timeout=httpx.Timeout(self._seconds, connect=_CONNECT_SECONDS),
        ) as client:
            for address in addresses[:_ADDRESSES]:
                request = client.build_request(
                    "GET",
                    url.copy_with(host=str(address)),
                    headers={
                        "Host": url.netloc.decode("ascii"),
                        "User-Agent": f"nciihash/{__version__}",
                        "Accept": "image/*, video/*",
                        "Accept-Encoding": "identity",
                        "Connection": "close",
                    },
                    extensions={"sni_hostname": host_name(url)},
                )
                try:
                    response = await client.send(request, stream=True, follow_redirects=False)
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    continue
                async with contextlib.aclosing(response):
                    yield response
                return
        raise FetchRefused(Refusal.CONNECTION)

    async def _addresses(self, url: httpx.URL, hosts: Sequence[Host]) -> Sequence[IPAddress]:
        """Return the addresses of a URL's host.

        Raises:
            FetchRefused: the host is not one of the named, or it may not have one of its addresses.
        """
        named = [host for host in hosts if host.has(url)]
        if not named:
            raise FetchRefused(Refusal.HOST)
        addresses = list(dict.fromkeys(await self._resolve(host_name(url))))
        if not any(all(host.permits(address) for address in addresses) for host in named):
            raise FetchRefused(Refusal.ADDRESS)
        return addresses


def _parse(text: str) -> httpx.URL:
    """Return a URL.

    Raises:
        FetchRefused: it is not one of http or https, or it has credentials.
    """
    try:
        if len(text) > URL_MOST:
            raise FetchRefused(Refusal.URL)
        url = httpx.URL(text)
        valid = url.scheme in SCHEMES and not url.userinfo and is_host_name(host_name(url))
        _ = url.port
    except (httpx.InvalidURL, ValueError):
        valid = False
    if not valid:
        raise FetchRefused(Refusal.URL)
    return url.copy_with(fragment=None)


async def _receive(response: httpx.Response, upload: Upload) -> str:
    if response.status_code != 200:
        raise FetchRefused(Refusal.STATUS)
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise FetchRefused(Refusal.ENCODING)
    async for chunk in response.aiter_raw():
        upload.write(chunk)
        if upload.refused is not None:
            break
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()
