"""Check uploads inside a web service of one's own (ASGI), before anybody else can see them.

An upload is hashed in the sandbox, looked for in a bank that a thread keeps up to date, and refused
or accepted; verdicts wait on the disk until the clearinghouse has them.

    POST /uploads    the file's bytes: 201 when it may be shown, 403 when it may not
    GET  /health     how the bank and the verdicts fare, for your monitoring

The address and the key come from the environment as NCIIHASH_SERVER and NCIIHASH_KEY; the key needs
the scopes `feed` and `feedback`. The bank and the verdicts lie in the folder NCIIHASH_FOLDER.

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
                # No upload is let in unchecked because the list has not come yet.
                await asyncio.to_thread(follower.ready)
                app.state.checks = Checks(follower, sandbox, verdicts, sender)
                yield

    routes = [Route("/uploads", upload, methods=["POST"]), Route("/health", health)]
    return Starlette(routes=routes, lifespan=lifespan)


class Checks:
    """What an upload is checked with."""

    def __init__(
        self, follower: Follower, sandbox: Sandbox, verdicts: VerdictQueue, sender: VerdictSender
    ) -> None:
        self.follower = follower
        self.sandbox = sandbox
        self.verdicts = verdicts
        self.sender = sender

    def matched(self, path: str) -> bool:
        """Tell whether a file looks like one in the bank; if so, the verdict waits durably."""
        signals = [hashed.signal for hashed in self.sandbox.hash_file(path).hashes]
        ids = {match.id for matches in self.follower.query(signals) for match in matches}
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
            # Hashing and searching take the processor, so that they happen beside the loop.
            matched = await run_in_threadpool(checks.matched, file.name)
        except FileRefused as error:  # what cannot be looked at is not shown
            return JSONResponse({"error": str(error)}, 422)
        # Here you would keep the file, unless it matched.
    if matched:
        return JSONResponse({"error": "This file may not be shared here."}, 403)
    return JSONResponse({"accepted": True}, 201)


async def health(request: Request) -> JSONResponse:
    checks: Checks = request.app.state.checks
    bank, sent = checks.follower.health(), await run_in_threadpool(checks.sender.health)
    # Alarm when there is trouble, or when the bank was last known to be complete too long ago.
    well = bank.age is not None and bank.age < 300
    return JSONResponse({"bank": asdict(bank), "verdicts": asdict(sent)}, 200 if well else 503)
