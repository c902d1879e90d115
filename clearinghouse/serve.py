"""Serving with uvicorn: quick shutdown, and nothing about clients in any log."""

import gc
import resource
from collections.abc import Callable
from typing import Final

import uvicorn
from fastapi import FastAPI

from clearinghouse.app import create_app
from clearinghouse.database.store import Store, check_not_lost, claim_serving
from clearinghouse.http.connections import ConnectionLimiter
from clearinghouse.http.import_blocker import block_decoders
from clearinghouse.http.redacting_log import log_config
from clearinghouse.http.uvicorn_server import Server
from clearinghouse.settings import Settings
from nciihash import core_dumps

_GRACE: Final = 3  # seconds for running requests to finish after SIGTERM
_FILES: Final = 65_536  # file descriptors to request
_FILES_RESERVED: Final = 128  # for the database and everything else
_KEEP_ALIVE: Final = 65  # seconds; longer than load balancers keep an idle connection


def serve(
    settings: Settings,
    *,
    host: str,
    port: int,
    ready: Callable[[str], None],
    sandbox: bool = False,
) -> bool:
    """Serve until SIGTERM or SIGINT; after SIGTERM, drain for `drain_seconds` first.

    Args:
        settings: the settings.
        host: the address to listen on.
        port: the port; 0 for any free one.
        ready: called with the URL of the service once it accepts requests.
        sandbox: as in `create_app`.

    Returns:
        Whether the service started at all.
    """
    block_decoders()
    core_dumps.forbid()
    core_dumps.forbid_tracing()
    # Errors of the database or its key are raised here, before the server starts.
    check_not_lost(settings)
    with claim_serving(settings):
        Store.open(settings).close()
        app = create_app(settings, sandbox=sandbox)
        server = _build_server(app, settings, host=host, port=port, ready=ready)
        server.run()
        gc.unfreeze()
        return server.started


def _build_server(
    app: FastAPI, settings: Settings, *, host: str, port: int, ready: Callable[[str], None]
) -> Server:
    connections_max = max(_raise_file_limit() - _FILES_RESERVED, 64)
    limiter = ConnectionLimiter(min(settings.clients_max, connections_max - 1))
    config = uvicorn.Config(
        app,
        http=limiter.protocol(),
        host=host,
        port=port,
        log_config=log_config(),
        access_log=False,
        server_header=False,
        proxy_headers=False,  # client addresses are never read
        ws="none",
        # beyond it, an immediate 503 is better than a server that cannot accept connections
        limit_concurrency=connections_max,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE,
    )

    def drain() -> None:
        if service := getattr(app.state, "service", None):
            service.draining.set()

    def release() -> None:
        if service := getattr(app.state, "service", None):
            service.waiters.close()

    def started(address: str) -> None:
        # Objects created at startup live as long as the process. If the collector traversed them
        # during a write transaction, all other writers would wait for a quarter of a second.
        gc.collect()
        gc.freeze()
        ready(address)

    return Server(
        config,
        ready=started,
        drain=drain,
        drain_seconds=settings.drain_seconds,
        release=release,
    )


def _raise_file_limit() -> int:
    """Raise the limit of open files as far as allowed, up to `_FILES`; return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return files
