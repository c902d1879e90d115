"""Check uploads in a web service (ASGI) before anybody else can see them.

An upload is hashed in the sandbox and looked up in a bank that a background thread keeps up to
date, crops and collages included. It is accepted, refused, or held until a person has seen it.
Verdicts are queued on disk until the clearinghouse has them.

    POST /uploads    the bytes of a file: 201 if it may be shown, 403 if it matches, 202 if it is
                     held, 503 if the bank is too old to say
    GET  /health     the state of the bank and of the verdicts, for monitoring

The environment has the address as NCIIHASH_SERVER, the key as NCIIHASH_KEY, with the scopes `feed`
and `feedback`, and as NCIIHASH_FOLDER the folder for the bank and the verdicts.

One process may follow the feed into a bank. With several workers, the first one does, and the
others read the same bank. A worker that is started in place of the first one follows again; until
then, the readers refuse to answer once the bank is older than `MAX_AGE`.

Run: uvicorn --factory check_uploads:create_app --workers 2
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from nciihash import BankReader, Follower, Match, Matcher, Verdict, VerdictQueue, VerdictSender
from nciihash.errors import BankLocked, BankStale, FileRefused

MAX_AGE = 300.0  # seconds without news of the feed, after which uploads have to wait
UPLOAD_MAX = 50 * 2**20  # bytes


def create_app() -> Starlette:
    server, key = os.environ["NCIIHASH_SERVER"], os.environ["NCIIHASH_KEY"]
    folder = Path(os.environ["NCIIHASH_FOLDER"])

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            verdicts = stack.enter_context(VerdictQueue(folder / "verdicts"))
            bank: Follower | BankReader = Follower(server, key, folder / "bank", max_age=MAX_AGE)
            try:
                await stack.enter_async_context(bank)
            except BankLocked:  # another worker follows
                bank = BankReader(folder / "bank", max_age=MAX_AGE)
                await stack.enter_async_context(bank)
            sender = await stack.enter_async_context(VerdictSender(server, key, verdicts))
            # accept no upload before the bank is complete
            await asyncio.to_thread(bank.ready)
            app.state.checks = Checks(bank, verdicts, sender)
            yield

    routes = [Route("/uploads", upload, methods=["POST"]), Route("/health", health)]
    return Starlette(routes=routes, lifespan=lifespan)


class Checks:
    """Checks uploads against the bank and queues the verdicts."""

    def __init__(
        self, bank: Follower | BankReader, verdicts: VerdictQueue, sender: VerdictSender
    ) -> None:
        self.bank = bank
        self.matcher = Matcher(bank)
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
    except BankStale as error:
        return JSONResponse({"error": str(error)}, 503, {"Retry-After": "30"})
    # Store the file here, unless it is refused.
    if any(not match.review for match in matches):
        return JSONResponse({"error": "This file may not be shared here."}, 403)
    if matches:
        # Show it to a reviewer, with `match.edit`, and queue the verdict.
        return JSONResponse({"held": "A person will see this file before it is shown."}, 202)
    return JSONResponse({"accepted": True}, 201)


async def health(request: Request) -> JSONResponse:
    checks: Checks = request.app.state.checks
    bank, verdicts = checks.bank.health(), await run_in_threadpool(checks.sender.health)
    # Alert on an `error` that persists, and when the bank has not been current for minutes.
    healthy = bank.age is not None and bank.age < MAX_AGE
    follows = isinstance(checks.bank, Follower)
    content = {"bank": asdict(bank) | {"follows": follows}, "verdicts": asdict(verdicts)}
    return JSONResponse(content, 200 if healthy else 503)
