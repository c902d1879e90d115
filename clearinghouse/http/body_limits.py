"""ASGI middleware that limits the size, media type and transfer rate of request bodies."""

import asyncio
from contextlib import suppress
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clearinghouse.errors import BodyTimeout, BodyTooLarge, RequestRefused, UnsupportedMediaType
from nciihash.wire import OCTETS, PROBLEM

BODY_SECONDS: Final = 20.0  # in which no part of a body may arrive
BODY_PACE: Final = 4096  # bytes that extend the deadline by 1 s; the slowest phones send 8 kB/s
_JSON: Final = "application/json"


class BodyLimits:
    """Refuse bodies that are too large, too slow or of an unsupported media type.

    A body with a declared length is refused before any of it is read, a chunked one as soon as it
    exceeds the limit. In either case, and if a body is too slow, the connection is closed, so the
    rest is not received.

    Args:
        app: the application.
        body_max: the maximum size, in bytes.
        octets: the paths that accept `application/octet-stream` as well as JSON.
        seconds: how long a body may pause. Each `BODY_PACE` bytes extend the deadline by a second,
            but never beyond `seconds` from now: fast data does not pay for a longer pause later.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        body_max: int,
        octets: frozenset[str],
        seconds: float = BODY_SECONDS,
    ) -> None:
        self._app = app
        self._max = body_max
        self._octets = octets
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        chunked = b"transfer-encoding" in headers
        if not length.isdigit() or int(length) > self._max:
            await _refuse(BodyTooLarge(), send)
            return
        if int(length) or chunked:
            media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
            octets = media_type == OCTETS.encode() and scope["path"] in self._octets
            if media_type != _JSON.encode() and not octets:
                await _refuse(UnsupportedMediaType(), send)
                return

        received = 0
        complete = started = False
        refusal: RequestRefused | None = None
        clock = asyncio.get_running_loop().time
        end = clock() + self._seconds

        async def limited_receive() -> Message:
            nonlocal received, complete, refusal, end
            try:
                async with asyncio.timeout_at(None if complete else end):
                    message = await receive()
            except TimeoutError:
                refusal = BodyTimeout()
                raise _Refused from None
            if message["type"] == "http.request":
                size = len(message.get("body", b""))
                received += size
                end = min(end + size / BODY_PACE, clock() + self._seconds)
                complete = not message.get("more_body", False)
                if received > self._max:
                    refusal = BodyTooLarge()
                    raise _Refused
            return message

        async def watched_send(message: Message) -> None:
            nonlocal started
            # after a refusal the application's own response to the error is discarded
            if refusal is None or started:
                started = True
                await send(message)

        with suppress(_Refused):
            await self._app(scope, limited_receive, watched_send)
        if refusal is not None and not started:
            await _refuse(refusal, send)


class _Refused(Exception):
    """The body exceeded a limit while it was read."""


async def _refuse(refusal: RequestRefused, send: Send) -> None:
    body = refusal.problem().model_dump_json().encode()
    headers = [
        (b"content-type", PROBLEM.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
