"""The survivor's page, served from the local machine: for advocates, and without internet.

The page's requests are forwarded to a remote clearinghouse: only the survivors' API, each request
unchanged and without anything about its sender. Without a clearinghouse, the offline edition is
served, which can send nothing and saves the fingerprints instead. Requests with another `Host` or
`Origin` than this server's own are refused, so that no other website can reach it.
"""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final

import httpx
import uvicorn
from fastapi import APIRouter, FastAPI, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from clearinghouse.errors import SettingInvalid
from clearinghouse.http.body_limits import BodyLimits
from clearinghouse.http.foreign_replies import BoundedBody, ReplyTooLong
from clearinghouse.http.headers import PrivateHeaders
from clearinghouse.http.import_blocker import block_decoders
from clearinghouse.http.redacting_log import log_config
from clearinghouse.http.uvicorn_server import Server
from clearinghouse.page.single_file import build
from clearinghouse.routes import page
from nciihash import __version__
from nciihash.client.address import server_address
from nciihash.errors import InvalidRequest

HOST: Final = "127.0.0.1"
FORWARDED: Final = (
    ("GET", "/v1/work"),
    ("POST", "/v1/cases"),
    ("POST", "/v1/claim"),
    ("GET", "/v1/case"),
    ("DELETE", "/v1/case"),
    ("POST", "/v1/case/items"),
    ("POST", "/v1/case/items/{item:int}/signals"),
    ("DELETE", "/v1/case/items/{item:int}"),
)

_HEADERS: Final = ("Authorization", "Content-Type", "Idempotency-Key", "Work")
_BODY_MAX: Final = 2 * 2**20  # bytes of a request; the default of a clearinghouse
_REPLY_MAX: Final = 16 * 2**20  # bytes; a case of 200 files at a hundred platforms
_SECONDS: Final = 60.0
_GRACE: Final = 3  # seconds for running requests to finish at shutdown


class OwnAddressOnly:
    """Middleware that accepts only requests to this server's own address, from its own page.

    It blocks DNS rebinding, where the request names another host, and cross-site requests, which
    name another origin.

    Args:
        app: the application.
        host: address and port, as browsers write them in `Host`.
    """

    def __init__(self, app: ASGIApp, *, host: str) -> None:
        self._app = app
        self._host = host.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            hosts = [value for name, value in scope["headers"] if name == b"host"]
            origins = {value for name, value in scope["headers"] if name == b"origin"}
            if hosts != [self._host] or origins - {b"http://" + self._host}:
                await Response(status_code=421)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def create_app(
    server: str | None, host: str, *, transport: httpx.AsyncBaseTransport | None = None
) -> ASGIApp:
    """Build the application that serves the page.

    Args:
        server: the clearinghouse to which requests are forwarded, as in `--server`; None for the
            offline edition.
        host: address and port of this server.
        transport: carries the requests instead of real connections.

    Raises:
        SettingInvalid: `server` is not a valid address.
    """
    if server is None:
        edition = build()
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        router = APIRouter()
        page.add_file(router, "/", "index.html", edition.html.encode())
        app.include_router(router)
        policies = {"/": f"{edition.policy}; frame-ancestors 'none'"}
    else:
        app = _forwarding(server, transport)
        app.include_router(page.create_router())
        policies = dict(page.POLICIES)
    bounded = BodyLimits(app, body_max=_BODY_MAX, octets=frozenset())
    return OwnAddressOnly(PrivateHeaders(bounded, policies=policies), host=host)


def _forwarding(server: str, transport: httpx.AsyncBaseTransport | None) -> FastAPI:
    try:
        address = server_address(server)
    except InvalidRequest as error:
        raise SettingInvalid(str(error)) from None
    client = httpx.AsyncClient(
        base_url=address,
        transport=transport,
        # a configured proxy would see an unencrypted request to loopback
        trust_env=address.scheme == "https",
        follow_redirects=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        timeout=_SECONDS,
        headers={"User-Agent": f"nciihash/{__version__}", "Accept-Encoding": "identity"},
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with client:
            yield

    async def forward(request: Request) -> Response:
        headers = {n: request.headers[n] for n in _HEADERS if n in request.headers}
        content = await request.body() or None
        path = request.url.path
        body = BoundedBody(_REPLY_MAX)
        try:
            async with client.stream(
                request.method, path, content=content, headers=headers
            ) as reply:
                async for part in reply.aiter_bytes():
                    body.add(part)
        except (httpx.HTTPError, ReplyTooLong):
            return _unreachable()
        kept = {n: reply.headers[n] for n in ("Retry-After",) if n in reply.headers}
        return Response(bytes(body), reply.status_code, kept, media_type="application/json")

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    for method, path in FORWARDED:
        app.add_api_route(path, forward, methods=[method], response_model=None)
    return app


def _unreachable() -> Response:
    # the code that the page itself uses for a failed connection
    return Response('{"code":"offline"}', 502, media_type="application/json")


def serve(server: str | None, *, port: int, ready: Callable[[str], None]) -> None:
    """Serve the page until SIGTERM or Ctrl-C.

    Args:
        server: as in `create_app`.
        port: the port; 0 for any free one.
        ready: called with the URL of the page once it can be opened.

    Raises:
        SettingInvalid: `server` is not a valid address.
        OSError: the port is in use.
    """
    block_decoders()
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        host = f"{HOST}:{listening.getsockname()[1]}"
        config = uvicorn.Config(
            create_app(server, host),
            log_config=log_config(),
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_graceful_shutdown=_GRACE,
        )
        Server(config, ready=lambda address: ready(f"{address}/")).run(sockets=[listening])
