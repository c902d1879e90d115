"""Bounds on what a request may bring, as plain ASGI: size, kind and pace of its body."""

import asyncio
from contextlib import suppress
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clearinghouse.errors import MediaRefused, RequestRefused, TooLarge, TooSlow
from nciihash.wire import OCTETS, PROBLEM

BODY_SECONDS: Final = 20.0  # in which a body may bring nothing
BODY_PACE: Final = 4096  # bytes that earn one second again; the slowest phones send twice as many
_JSON: Final = "application/json"


class BodyLimits:
    """Refuse a body that is too large or of a type that the service never takes.

    A declared length is refused before a byte is read; a chunked body as soon as it passes the
    bound. Either way the connection is closed, so that the rest is never received. So it is when
    the body comes too slowly.

    Args:
        app: what serves the requests that pass.
        body_max: the bound, in bytes.
        octets: the paths that take `application/octet-stream` beside JSON.
        seconds: in which a body may bring nothing. Each `BODY_PACE` bytes earn one of them again,
            and none beyond the first: what has been sent fast does not pay for a pause later.
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
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        chunked = b"transfer-encoding" in headers
        if not length.isdigit() or int(length) > self._max:
            await _refuse(TooLarge(), send)
            return
        if int(length) or chunked:
            kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
            octets = kind == OCTETS.encode() and scope["path"] in self._octets
            if kind != _JSON.encode() and not octets:
                await _refuse(MediaRefused(), send)
                return

        seen = 0
        whole = answered = False
        cut: RequestRefused | None = None
        clock = asyncio.get_running_loop().time
        end = clock() + self._seconds

        async def bounded() -> Message:
            nonlocal seen, whole, cut, end
            try:
                async with asyncio.timeout_at(None if whole else end):
                    message = await receive()
            except TimeoutError:
                cut = TooSlow()
                raise _Cut from None
            if message["type"] == "http.request":
                brought = len(message.get("body", b""))
                seen += brought
                end = min(end + brought / BODY_PACE, clock() + self._seconds)
                whole = not message.get("more_body", False)
                if seen > self._max:
                    cut = TooLarge()
                    raise _Cut
            return message

        async def watched(message: Message) -> None:
            nonlocal answered
            if cut is None or answered:
                answered = True
                await send(message)
            # Once it is cut, whatever the application makes of it is replaced by the refusal below.

        with suppress(_Cut):
            await self._app(scope, bounded, watched)
        if cut is not None and not answered:
            await _refuse(cut, send)


class _Cut(Exception):
    """The body passed a bound while it was read."""


async def _refuse(refusal: RequestRefused, send: Send) -> None:
    body = refusal.problem().model_dump_json().encode()
    headers = [
        (b"content-type", PROBLEM.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
