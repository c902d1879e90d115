"""What the dialects over HTTP share: tokens, errors, and checks that end when the client leaves."""

import asyncio
import base64
import binascii
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack, suppress
from http import HTTPStatus
from secrets import compare_digest
from typing import Any, Final, TypeAlias, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive

from nciihash.gate.dialects.uploads import BodyRefused, BodyTooSlow, ClientGone, read_uploads
from nciihash.gate.gate import Gate
from nciihash.gate.outcome import Dialect, Outcome

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]
T = TypeVar("T")

# How much of a body that is refused is received all the same, and for how long.
_DROP_BYTES: Final = 64 << 20
_DROP_SECONDS: Final = 5.0

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"  # RFC 9457
_CLOSE: Final = {"Connection": "close"}  # because a part of the body is unread
# a browser asks for a password, of which the token is one
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer, Basic realm="gate"'}


class TokenNeeded(BodyRefused):
    """A request without the token of the dialect; its body is not read."""

    status = 401
    code = "token_needed"
    title = "The token is missing or wrong"
    detail = "Send `Authorization: Bearer TOKEN` with the token of the gate's configuration."


def json_response(
    content: Mapping[str, Any] | Sequence[Any],
    status: int = 200,
    *,
    media_type: str = JSON,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a JSON response that is not to be stored."""
    return Response(
        json.dumps(content, ensure_ascii=False, separators=(",", ":")),
        status,
        {"Cache-Control": "no-store", **(headers or {})},
        media_type,
    )


def problem(
    status: int,
    code: str,
    title: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, Any] | None = None,
) -> Response:
    """Return an error response (RFC 9457).

    Args:
        status: the HTTP status.
        code: what failed, for programs.
        title: what failed, for people.
        detail: what to do next, for people.
        headers: further headers.
        members: further members of the document.
    """
    content = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        **(members or {}),
    }
    return json_response(content, status, media_type=PROBLEM, headers=headers)


def guarded(gate: Gate, dialect: Dialect, endpoint: Endpoint) -> Endpoint:
    """Return an endpoint that requires the token, and answers bodies that cannot be read.

    The token, if the dialect has one, is sent as `Authorization: Bearer`, or as the password of
    `Authorization: Basic` by browsers and by URLs such as `http://gate:TOKEN@127.0.0.1/`.

    Args:
        gate: the gate.
        dialect: whose token is required, as it is configured when the request arrives.
        endpoint: answers a request; may raise `BodyRefused` and `ClientGone`.
    """

    async def guard(request: Request) -> Response:
        body = Body(request.receive)
        try:
            token = gate.config.dialects[dialect].token
            if token is not None and not authorized(request, token):
                raise TokenNeeded
            return await endpoint(Request(request.scope, body))
        except BodyRefused as refusal:
            if "expect" not in request.headers:  # else the client waits for the answer
                await body.drop(0.0 if isinstance(refusal, BodyTooSlow) else _DROP_SECONDS)
            return problem(
                refusal.status,
                refusal.code,
                refusal.title,
                refusal.detail,
                headers=_CLOSE | (_CHALLENGE if isinstance(refusal, TokenNeeded) else {}),
            )
        except ClientGone:
            return Response(status_code=HTTPStatus.BAD_REQUEST, headers=_CLOSE)  # nobody reads it

    return guard


async def check_uploads(gate: Gate, dialect: Dialect, request: Request) -> list[Outcome]:
    """Check the files of a request one after another; several only of a form.

    Raises:
        BodyRefused: the body cannot be read.
        ClientGone: the client has closed the connection.
    """
    clock = asyncio.get_running_loop().time
    start = clock()
    with ExitStack() as opened:
        uploads = await read_uploads(
            request.headers,
            request.receive,
            lambda: opened.enter_context(gate.upload()),
            gate.config.limits,
        )
        receive = clock() - start
        outcomes = []
        for upload in uploads:
            with upload:  # its memory is free while the others are checked
                check = gate.check(dialect, upload, receive=receive)
                outcomes.append(await while_connected(request.receive, check))
        return outcomes


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of some work, or cancel it if the client closes the connection.

    Args:
        receive: of a request whose body has been read.
        work: the work.

    Raises:
        ClientGone: the client has closed the connection.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(receive())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        leaving.cancel()
        if working.cancel():  # until it has ended, it may use the upload
            await asyncio.wait((working,))


class Body:
    """The body of a request, as an ASGI `receive`.

    Args:
        receive: of the request.

    Attributes:
        complete: whether it has been received to its end, or the client is gone.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.complete = False

    async def __call__(self) -> Message:
        """Return the next ASGI message."""
        message = await self._receive()
        self.complete = not message.get("more_body", False)
        return message

    async def drop(self, seconds: float = _DROP_SECONDS) -> None:
        """Receive some of what is unread, so that a client which still sends reads the answer.

        Without this the operating system answers what was not read by resetting the connection,
        and the client may lose the answer (RFC 9112 section 9.6).
        """
        received = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.complete and received < _DROP_BYTES:
                    received += len((await self()).get("body", b""))


async def skip_body(request: Request) -> None:
    """Receive the body of a request that has none, or none that matters, to its end.

    Without this, `while_connected` would take a body for the end of the connection.

    Raises:
        ClientGone: the client has closed the connection, or sends too much.
    """
    received = 0
    while True:
        message = await request.receive()
        received += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or received > _DROP_BYTES:
            raise ClientGone
        if not message.get("more_body", False):
            return


def authorized(request: Request, token: str) -> bool:
    """Whether a request carries a token, as `Bearer` or as the password of `Basic`."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    given = credentials.strip().encode()
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).partition(b":")[2]
        except binascii.Error:
            return False
    elif scheme.lower() != "bearer":
        return False
    return compare_digest(given, token.encode())
