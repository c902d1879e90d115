"""The ASGI application, built from settings, without global state."""

import asyncio
import logging
import threading
import time
from collections import ChainMap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from fastapi_swagger import patch_fastapi
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from clearinghouse.abuse.allowlist import AllowlistIndex
from clearinghouse.abuse.oracle import OracleDetector
from clearinghouse.abuse.proof_of_work import ProofOfWork
from clearinghouse.abuse.quotas import Budgets
from clearinghouse.cases.passphrases import PassphraseChecker
from clearinghouse.database.engines import to_refusal
from clearinghouse.database.store import Store
from clearinghouse.errors import (
    BadBody,
    DatabaseUnavailable,
    InternalError,
    MethodNotAllowed,
    NotFound,
    NotJson,
    RequestRefused,
)
from clearinghouse.http.body_limits import BodyLimits
from clearinghouse.http.headers import PrivateHeaders
from clearinghouse.metrics import Metrics, MetricsMiddleware
from clearinghouse.routes import advocates, health, page, platforms, stopncii, survivors
from clearinghouse.routes import rehearsal as rehearsals
from clearinghouse.routes.dependencies import problem_response
from clearinghouse.routes.rehearsal import FaultInjector, Rehearsal
from clearinghouse.service import Service
from clearinghouse.settings import Settings
from nciihash import __version__
from nciihash.wire import PROBLEM, AddItems, AddSignals, MatchQuery, OpenCase, Problem
from nciihash.wire.advocates import OpenForOther
from nciihash.wire.proof_of_work import WorkProblem

_log = logging.getLogger(__name__)

_LISTENER_ENDS: Final = 2.0  # seconds
_OCTET_PATHS: Final = frozenset({"/v1/match"})
# The documentation page runs scripts, all served by this application.
_DOCS_POLICY: Final = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'"
)


_DESCRIPTION: Final = """\
Errors are problem documents (RFC 9457); `code` is stable, and the texts may change. They never
repeat what the request contained. Times about a survivor are rounded to the hour (UTC). Under
`/v1`, unknown fields are refused.
"""
_TAGS: Final = [
    {"name": "survivors", "description": "Cases, with a case number and a passphrase."},
    {"name": "advocates", "description": "Cases that helplines open for others, with their key."},
    {"name": "platforms", "description": "The feed, matching and feedback, with an API key."},
    {
        "name": "platforms, StopNCII format",
        "description": "The same for existing StopNCII clients, and contributions.",
    },
    {"name": "health", "description": "Probes for load balancers and monitoring."},
]
_OPERATION_PREFIXES: Final = {"platforms, StopNCII format": "stopncii"}
_PROBLEMS: Final = frozenset(
    f"#/components/schemas/{model.__name__}" for model in (Problem, WorkProblem)
)


def utc_now() -> datetime:
    """Return the current time, in UTC."""
    return datetime.now(UTC)


def _new_service(settings: Settings, store: Store, clock: Callable[[], datetime]) -> Service:
    """Build the service on an open store."""
    return Service(
        settings,
        store,
        PassphraseChecker(
            memory=store.argon2_memory,
            clock=time.monotonic,
            key=store.vault.lookup("tags of passphrases", b""),
        ),
        ProofOfWork(store.vault, openings=settings.quiet_openings, signals=settings.quiet_signals),
        Budgets(hour=settings.match_hour, day=settings.match_day),
        OracleDetector(edge_max=settings.oracle_edge, total_max=settings.oracle_any),
        AllowlistIndex(),
        clock,
    )


def create_app(
    settings: Settings, *, clock: Callable[[], datetime] = utc_now, sandbox: bool = False
) -> FastAPI:
    """Build the application. Its startup opens the database, and creates or migrates it.

    Args:
        settings: the settings.
        clock: returns the time, timezone-aware.
        sandbox: add the routes with which a platform tests its client; never with real cases.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        store = await asyncio.to_thread(Store.open, settings, clock=clock)
        try:
            service = _new_service(settings, store, clock)
            service.waiters.bind()
            store.record_write = app.state.metrics.record_write
            app.state.service = service
            following = asyncio.create_task(service.follow_log())
            stopping = threading.Event()
            listening = threading.Thread(
                target=store.listen, args=(service.waiters.poke, stopping), daemon=True
            )
            listening.start()
            try:
                yield
            finally:
                stopping.set()
                service.waiters.close()
                await following
                # a database server that does not respond must not delay the shutdown
                await asyncio.to_thread(listening.join, _LISTENER_ENDS)
        finally:
            store.close()

    app = FastAPI(
        title="Clearinghouse",
        version=__version__,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        # relative to the document: the service does not know its own name
        servers=[{"url": "/", "description": "this service"}],
        generate_unique_id_function=_operation_id,
        summary="Passes hashes of intimate pictures from the people in them to platforms.",
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        # a redirect would send a POST, with its hashes, to an address that clients do not check
        redirect_slashes=False,
        swagger_ui_oauth2_redirect_url=None,
        exception_handlers={
            RequestRefused: _refused,
            RequestValidationError: _invalid,
            HTTPException: _framework,
            SQLAlchemyError: _database_failed,
            OSError: _disk_failed,
            ClientDisconnect: _client_gone,
            Exception: _broken,
        },
    )
    app.include_router(survivors.router)
    app.include_router(advocates.router)
    app.include_router(platforms.router)
    app.include_router(stopncii.router)
    app.include_router(health.router)
    app.include_router(health.metrics_router)
    app.include_router(page.create_router())
    if sandbox:
        rehearsal = app.state.rehearsal = Rehearsal()
        app.include_router(rehearsals.router)
        app.add_middleware(FaultInjector, rehearsal=rehearsal)
    app.add_api_route("/docs", _documentation, include_in_schema=False)
    patch_fastapi(  # for the files of the page
        app,
        redirect_from_root_to_docs=False,
        swagger_js_url="/docs/swagger-ui.js",
        swagger_css_url="/docs/swagger-ui.css",
        swagger_favicon_url="/docs/icon.png",
    )
    app.state.metrics = metrics = Metrics()
    app.add_middleware(
        BodyLimits,
        body_max=settings.body_max,
        octets=_OCTET_PATHS,
        seconds=settings.body_seconds,
    )
    app.add_middleware(PrivateHeaders, policies={"/docs": _DOCS_POLICY, **page.POLICIES})
    app.add_middleware(MetricsMiddleware, metrics=metrics)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign] # as in FastAPI's docs
    return app


async def _documentation(request: Request) -> Response:
    # relative addresses: behind a proxy the service knows neither the scheme nor a prefix
    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title=request.app.title,
        swagger_js_url="docs/swagger-ui.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="docs/icon.png",
        # never store a key that was typed into the page
        swagger_ui_parameters={"persistAuthorization": False},
    )


# --- errors ----------------------------------------------------------------------------------


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestRefused)  # noqa: S101 - registered for this class alone
    return problem_response(error)


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - likewise
    errors = error.errors()
    if any(e["type"] == "json_invalid" for e in errors):
        return problem_response(NotJson())
    return problem_response(BadBody(errors))


async def _framework(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - likewise
    if error.status_code == 404:
        return problem_response(NotFound())
    if error.status_code == 405:
        response = problem_response(MethodNotAllowed())
        response.headers.update(error.headers or {})
        return response
    if error.status_code < 500:
        # such as a body that is not UTF-8
        return problem_response(NotJson())
    return problem_response(InternalError())


async def _database_failed(_request: Request, error: Exception) -> Response:
    assert isinstance(error, SQLAlchemyError)  # noqa: S101 - likewise
    if known := to_refusal(error):
        return problem_response(known)
    _log.error("Database error.", exc_info=error)
    return problem_response(InternalError())


async def _disk_failed(_request: Request, error: Exception) -> Response:
    # such as a full disk when the journal of withdrawals is written
    _log.error("Disk error.", exc_info=error)
    return problem_response(DatabaseUnavailable())


async def _client_gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)  # nobody receives it; it is no error of the service


async def _broken(_request: Request, _error: Exception) -> Response:
    return problem_response(InternalError())


# --- the OpenAPI document --------------------------------------------------------------------


def _operation_id(route: APIRoute) -> str:
    """Return the id of an operation; generated clients have a method of this name."""
    group = str(route.tags[0]) if route.tags else ""
    return f"{_OPERATION_PREFIXES.get(group, group)}_{route.name}"


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            description=app.description,
            tags=app.openapi_tags,
            servers=app.servers,
            license_info=app.license_info,
            routes=app.routes,
        )
        components = document["components"]["schemas"]
        for model in (
            OpenCase,
            AddItems,
            AddSignals,
            MatchQuery,
            OpenForOther,
        ):  # parsed by `routes.dependencies.parsed`, so FastAPI does not know them
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            components.update(schema.pop("$defs", {}))
            components[model.__name__] = schema
        for path in document["paths"].values():
            for operation in path.values():
                # FastAPI lists schemes as alternatives, and StopNCII's format needs both keys
                schemes = operation.get("security", [])
                operation["security"] = [dict(ChainMap(*schemes))] if schemes else []
                for response in operation["responses"].values():
                    content = response.get("content", {})
                    reference = content.get("application/json", {}).get("schema", {}).get("$ref")
                    if reference in _PROBLEMS:
                        content[PROBLEM] = content.pop("application/json")
        app.openapi_schema = document
    return app.openapi_schema
