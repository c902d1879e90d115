"""Check uploads in a web service (ASGI) before anybody else can see them.

An upload is hashed in the sandbox, looked up in a bank that a background thread keeps up to date,
and accepted or refused. Verdicts are queued on disk until the clearinghouse has them.

    POST /uploads    the bytes of a file: 201 if it may be shown, 403 if it matches
    GET  /health     the state of the bank and of the verdicts, for monitoring

The environment has the address as NCIIHASH_SERVER, the key as NCIIHASH_KEY, with the scopes `feed`
and `feedback`, and as NCIIHASH_FOLDER the folder for the bank and the verdicts.

Run: uvicorn --factory check_uploads:create_app
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import NamedTemporaryFile

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from nciihash import Follower, Verdict, VerdictQueue, VerdictSender
from nciihash.errors import FileRefused
from nciihash.sandbox import Sandbox

UPLOAD_MAX = 50 * 2**20  # bytes


def create_app() -> Starlette:
    server, key = os.environ["NCIIHASH_SERVER"], os.environ["NCIIHASH_KEY"]
    folder = Path(os.environ["NCIIHASH_FOLDER"])

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        with VerdictQueue(folder / "verdicts") as verdicts, Sandbox() as sandbox:
            async with (
                Follower(server, key, folder / "bank") as follower,
                VerdictSender(server, key, verdicts) as sender,
            ):
                # accept no upload before the bank is complete
                await asyncio.to_thread(follower.ready)
                app.state.checks = Checks(follower, sandbox, verdicts, sender)
                yield

    routes = [Route("/uploads", upload, methods=["POST"]), Route("/health", health)]
    return Starlette(routes=routes, lifespan=lifespan)


class Checks:
    """Checks uploads against the bank and queues the verdicts."""

    def __init__(
        self, follower: Follower, sandbox: Sandbox, verdicts: VerdictQueue, sender: VerdictSender
    ) -> None:
        self.follower = follower
        self.sandbox = sandbox
        self.verdicts = verdicts
        self.sender = sender

    def matches(self, path: str) -> bool:
        """Whether a file matches the bank; if so, a verdict is queued durably."""
        signals = [hashed.signal for hashed in self.sandbox.hash_file(path).hashes]
        ids = {match.id for found in self.follower.query(signals) for match in found}
        if ids:
            self.verdicts.add(dict.fromkeys(ids, Verdict.BLOCKED))
        return bool(ids)


async def upload(request: Request) -> JSONResponse:
    checks: Checks = request.app.state.checks
    with NamedTemporaryFile() as file:
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > UPLOAD_MAX:
                return JSONResponse({"error": "The file is too large."}, 413)
            file.write(part)
        file.flush()
        try:
            # hashing and searching are CPU-bound and would block the event loop
            matches = await run_in_threadpool(checks.matches, file.name)
        except FileRefused as error:  # a file that cannot be checked is not shown
            return JSONResponse({"error": str(error)}, 422)
        # Store the file here, unless it matches.
    if matches:
        return JSONResponse({"error": "This file may not be shared here."}, 403)
    return JSONResponse({"accepted": True}, 201)


async def health(request: Request) -> JSONResponse:
    checks: Checks = request.app.state.checks
    bank, verdicts = checks.follower.health(), await run_in_threadpool(checks.sender.health)
    # Alert on an `error` that persists, and when the bank has not been current for minutes.
    healthy = bank.age is not None and bank.age < 300
    content = {"bank": asdict(bank), "verdicts": asdict(verdicts)}
    return JSONResponse(content, 200 if healthy else 503)
