"""Check uploads in a web service (ASGI) before anybody else can see them.

An upload is hashed in the sandbox and looked up in a bank that a background thread keeps up to
date, crops and collages included. It is accepted, refused, or held until a person has seen it.
Verdicts are queued on disk until the clearinghouse has them.

    POST /uploads    the bytes of a file: 201 if it may be shown, 403 if it matches, 202 if it is
                     held
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

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from nciihash import Follower, Match, Matcher, Verdict, VerdictQueue, VerdictSender
from nciihash.errors import FileRefused

UPLOAD_MAX = 50 * 2**20  # bytes


def create_app() -> Starlette:
    server, key = os.environ["NCIIHASH_SERVER"], os.environ["NCIIHASH_KEY"]
    folder = Path(os.environ["NCIIHASH_FOLDER"])

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        with VerdictQueue(folder / "verdicts") as verdicts:
            async with (
                Follower(server, key, folder / "bank") as follower,
                VerdictSender(server, key, verdicts) as sender,
            ):
                # accept no upload before the bank is complete
                await asyncio.to_thread(follower.ready)
                app.state.checks = Checks(follower, verdicts, sender)
                yield

    routes = [Route("/uploads", upload, methods=["POST"]), Route("/health", health)]
    return Starlette(routes=routes, lifespan=lifespan)


class Checks:
    """Checks uploads against the bank and queues the verdicts."""

    def __init__(self, follower: Follower, verdicts: VerdictQueue, sender: VerdictSender) -> None:
        self.follower = follower
        self.matcher = Matcher(follower)
        self.verdicts = verdicts
        self.sender = sender

    def matches(self, file: bytearray) -> list[Match]:
        """Return the matches of a file; queue a verdict on those that need no review."""
        matches = self.matcher.find(file)
        if blocked := [match.id for match in matches if not match.review]:
            self.verdicts.add(dict.fromkeys(blocked, Verdict.BLOCKED))
        return matches


async def upload(request: Request) -> JSONResponse:
    checks: Checks = request.app.state.checks
    file = bytearray()  # in memory, so that a refused file is never on the disk
    async for part in request.stream():
        file += part
        if len(file) > UPLOAD_MAX:
            return JSONResponse({"error": "The file is too large."}, 413)
    try:
        # hashing and searching are CPU-bound and would block the event loop
        matches = await run_in_threadpool(checks.matches, file)
    except FileRefused as error:  # a file that cannot be checked is not shown
        return JSONResponse({"error": str(error)}, 422)
    # Store the file here, unless it is refused.
    if any(not match.review for match in matches):
        return JSONResponse({"error": "This file may not be shared here."}, 403)
    if matches:
        # Show it to a reviewer, with `match.edit`, and queue the verdict.
        return JSONResponse({"held": "A person will see this file before it is shown."}, 202)
    return JSONResponse({"accepted": True}, 201)


async def health(request: Request) -> JSONResponse:
    checks: Checks = request.app.state.checks
    bank, verdicts = checks.follower.health(), await run_in_threadpool(checks.sender.health)
    # Alert on an `error` that persists, and when the bank has not been current for minutes.
    healthy = bank.age is not None and bank.age < 300
    content = {"bank": asdict(bank), "verdicts": asdict(verdicts)}
    return JSONResponse(content, 200 if healthy else 503)
