"""Bounds on what a request may bring, as plain ASGI: size and kind of its body."""

from contextlib import suppress
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clearinghouse.problems import MediaRefused, Refused, TooLarge
from nciihash.wire import OCTETS, PROBLEM

_JSON: Final = "application/json"


class BodyLimits:
    """Refuse a body that is too large or of a type that the service never takes.

    A declared length is refused before a byte is read; a chunked body as soon as it passes the
    bound. Either way the connection is closed, so that the rest is never received.

    Args:
        app: what serves the requests that pass.
        body_max: the bound, in bytes.
        octets: the paths that take `application/octet-stream` beside JSON.
    """

    def __init__(self, app: ASGIApp, *, body_max: int, octets: frozenset[str]) -> None:
        self._app = app
        self._max = body_max
        self._octets = octets

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
        answered = False

        async def bounded() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > self._max:
                    raise _Overflow
            return message

        async def watched(message: Message) -> None:
            nonlocal answered
            if seen <= self._max or answered:
                answered = True
                await send(message)
            # Past the bound whatever the application makes of it is replaced by the refusal below.

        with suppress(_Overflow):
            await self._app(scope, bounded, watched)
        if seen > self._max and not answered:
            await _refuse(TooLarge(), send)


class _Overflow(Exception):
    """The body passed the bound while it was read."""


async def _refuse(refusal: Refused, send: Send) -> None:
    body = refusal.problem().model_dump_json().encode()
    headers = [
        (b"content-type", PROBLEM.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
