"""Decisions over HTTP: look at what the gate decided, and turn it.

    curl http://127.0.0.1:8480/decisions/REFERENCE
    curl --json '{"verdict": "not_blocked", "by": "Ana"}' http://127.0.0.1:8480/decisions/REFERENCE

The answer is the decision: see `nciihash.gate.decisions.records.StoredDecision.fields`. Another
site cannot make a browser send such a request, since its type is `application/json` (CSRF).
"""

import asyncio
import json
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from nciihash.gate.decisions.records import (
    DecisionsInvalid,
    ReferenceUnknown,
    StoredDecision,
    operator_name,
)
from nciihash.gate.dialects.requests import guarded, json_response, problem
from nciihash.gate.dialects.uploads import BodyRefused, BodyTooSlow, ClientGone
from nciihash.gate.gate import Gate
from nciihash.gate.outcome import Dialect
from nciihash.signals import Verdict

_BODY_MAX: Final = 4096  # bytes
_BODY_SECONDS: Final = 20.0
_VERDICTS: Final = {verdict.value: verdict for verdict in Verdict if verdict != Verdict.PENDING}


class JsonNeeded(BodyRefused):
    """A verdict in a body that is not declared as JSON."""

    status = 415
    code = "json_needed"
    title = "The body is not JSON"
    detail = "Send the header `Content-Type: application/json`."


class VerdictInvalid(BodyRefused):
    """A body that is not a verdict."""

    status = 400
    code = "verdict_invalid"
    title = "The body is not a verdict"
    detail = (
        'Send `{"verdict": "blocked"}`, or `not_blocked` or `unsure`, and if you like who decided: '
        '`"by"`, with at most 64 characters on one line.'
    )


def decision_routes(gate: Gate, *, clock: Callable[[], float] = time.time) -> list[BaseRoute]:
    """Return the routes of decisions, which the own HTTP dialect serves.

    Args:
        gate: the gate.
        clock: Unix time in seconds.
    """
    store = gate.decisions

    async def show(request: Request) -> Response:
        reference = request.path_params["reference"]
        return await _answer(lambda: store.get(reference, now=clock()))

    async def decide(request: Request) -> Response:
        reference = request.path_params["reference"]
        verdict, by = await _read(request)
        return await _answer(lambda: store.decide(reference, verdict, by=by, now=clock()))

    return [
        Route("/decisions/{reference}", guarded(gate, Dialect.HTTP, endpoint), methods=[method])
        for method, endpoint in (("GET", show), ("POST", decide))
    ]


async def _answer(find: Callable[[], StoredDecision]) -> Response:
    """Answer with a decision, which is looked up or changed in another thread."""
    try:
        decision = await asyncio.to_thread(find)
    except ReferenceUnknown as error:
        return problem(HTTPStatus.NOT_FOUND, error.code, "There is no such decision", str(error))
    except (OSError, DecisionsInvalid):
        return problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "decisions_unavailable",
            "The decisions cannot be read or written",
            "Is the disk full? Nothing was changed; try again later.",
            headers={"Retry-After": "10"},
        )
    return json_response(decision.fields())


async def _read(request: Request) -> tuple[Verdict, str]:
    """Return the verdict in the body of a request, and the name of who decided.

    Raises:
        BodyRefused: the body is something else.
        ClientGone: the client has closed the connection.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0]
    if media_type.strip().lower() != "application/json":
        raise JsonNeeded
    body = b""
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _BODY_MAX:
                    raise VerdictInvalid
    except TimeoutError:
        raise BodyTooSlow from None
    except ClientDisconnect:
        raise ClientGone from None
    try:
        return _parse(body)
    except ValueError:
        raise VerdictInvalid from None


def _parse(body: bytes) -> tuple[Verdict, str]:
    """Return the verdict and the name in a body.

    Raises:
        ValueError: it is something else.
    """
    try:
        content: Any = json.loads(body)
    except RecursionError:
        raise ValueError from None
    if not isinstance(content, dict) or not content.keys() <= {"verdict", "by"}:
        raise ValueError
    verdict, by = content.get("verdict"), content.get("by", "")
    if not isinstance(verdict, str) or verdict not in _VERDICTS or not isinstance(by, str):
        raise ValueError
    return _VERDICTS[verdict], operator_name(by)
