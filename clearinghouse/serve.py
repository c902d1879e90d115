"""Run the service under uvicorn, so that it ends promptly and writes nothing about anybody."""

import gc
import resource
from collections.abc import Callable
from typing import Final

import uvicorn

from clearinghouse.app import create_app
from clearinghouse.database.store import Store
from clearinghouse.http.connections import ConnectionLimiter
from clearinghouse.http.import_blocker import block_decoders
from clearinghouse.http.redacting_log import log_config
from clearinghouse.http.uvicorn_server import Server
from clearinghouse.settings import Settings
from nciihash import core_dumps

_GRACE: Final = 3  # seconds that requests under way get to finish after SIGTERM
_FILES: Final = 65_536  # descriptors to ask the system for
_FILES_KEPT: Final = 128  # for the database and the rest
_KEEP_ALIVE: Final = 65  # seconds; longer than load balancers keep an idle connection


def serve(
    settings: Settings,
    *,
    host: str,
    port: int,
    ready: Callable[[str], None],
    sandbox: bool = False,
) -> bool:
    """Serve until SIGTERM or SIGINT; tell whether it came up at all.

    Args:
        settings: how to run.
        host: the address to listen on.
        port: 0 for any free one.
        ready: called with the service's address when it answers.
        sandbox: as `create_app` takes it.
    """
    block_decoders()
    core_dumps.forbid()
    core_dumps.forbid_tracing()
    # Trouble with the database or its key is told in one line, before the server starts.
    Store.open(settings).close()
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = min(most, _FILES) if most != resource.RLIM_INFINITY else _FILES
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    app = create_app(settings, sandbox=sandbox)
    room = max(files - _FILES_KEPT, 64)
    lines = ConnectionLimiter(min(settings.clients_max, room - 1))
    config = uvicorn.Config(
        app,
        http=lines.protocol(),
        host=host,
        port=port,
        log_config=log_config(),
        access_log=False,
        server_header=False,
        proxy_headers=False,  # addresses of clients are never looked at
        ws="none",
        # past this an answer 503 at once is better than a server that cannot accept any more
        limit_concurrency=room,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE,
    )

    def release() -> None:
        if service := getattr(app.state, "service", None):
            service.waiters.close()

    def answering(address: str) -> None:
        # What starting up made lives as long as this process. Were the collector to go through it
        # in a write transaction, all other writers would wait for a quarter of a second.
        gc.collect()
        gc.freeze()
        ready(address)

    server = Server(config, release=release, ready=answering)
    server.run()
    gc.unfreeze()
    return server.started
