"""FastAPI dependencies, request parsing and responses shared by all routes."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool

from clearinghouse.cases.idempotency import Attempt, Reply, find_reply, read_attempt, with_body
from clearinghouse.errors import BadBody, NotJson, RequestRefused
from clearinghouse.service import Service
from nciihash.wire import CASE_SCHEME, PROBLEM, AddItems, AddSignals, OpenCase, Problem
from nciihash.wire.proof_of_work import Work, from_header

_ERRORS_MAX: Final = 100

Responses = dict[int | str, dict[str, Any]]

# --- error responses in the OpenAPI document -------------------------------------------------

_PROBLEMS: Final = {
    400: "Malformed request: `not_json`, `bad_cursor` or `bad_idempotency_key`.",
    401: "`credentials_missing`: none, or malformed ones. `credentials_wrong`: unknown, wrong, "
    "revoked or expired.",
    403: "`scope_missing`: the key does not have a scope that this operation needs.",
    408: "`too_slow`: the body arrived too slowly. Nothing was saved; repeat the request.",
    410: "`cursor_expired`: the cursor is from before the database was restored. Read the feed "
    "from its beginning into a new bank.",
    413: "`body_too_large`: send fewer hashes per request.",
    415: "`unsupported_media_type`: the body is not JSON. Pictures are never accepted.",
    422: "`invalid_request`: a field is missing or invalid, and `detail` names it. Otherwise the "
    "request is refused for the reason in `code`. Repeating it unchanged does not help.",
    429: "`too_many_checks`: wait for `Retry-After` seconds, then repeat the request.",
    503: "`busy`, `not_ready` or `database_away`: wait for `Retry-After` seconds, then repeat the "
    "request, with the same `Idempotency-Key` if it had one.",
}


def problems(*statuses: int) -> Responses:
    """Return the OpenAPI descriptions of error responses that many operations share."""
    return documented_problems({status: _PROBLEMS[status] for status in statuses})


def documented_problems(
    descriptions: Mapping[int, str], model: type[Problem] = Problem
) -> Responses:
    """Return the OpenAPI descriptions of an operation's own error responses."""
    return {status: {"model": model, "description": text} for status, text in descriptions.items()}


# --- dependencies ----------------------------------------------------------------------------


def get_service(request: Request) -> Service:
    """Return the service that the application runs."""
    found: Service = request.app.state.service
    return found


ServiceDep = Annotated[Service, Depends(get_service)]


async def get_attempt(
    request: Request,
    service: ServiceDep,
    authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="Makes it safe to retry the request: 128 random bits as 32 lowercase "
            "hexadecimal digits, new for each request and the same for each retry of it. For a "
            "day, a retry returns the first response and changes nothing.",
            examples=["5f0f3c1db7a94b1e8c8f0b6a0d6f7c21"],
        ),
    ] = None,
) -> Attempt | None:
    """Return the attempt that the `Idempotency-Key` header of a write names, or None."""
    return read_attempt(
        service.store,
        idempotency_key,
        authorization or "",
        f"{request.method} {request.url.path}",
        await request.body(),
    )


AttemptDep = Annotated[Attempt | None, Depends(get_attempt)]


async def get_sign_in_work(
    work: Annotated[
        str | None,
        Header(
            alias="Work",
            description="Needed only after a response 428 with the code `work_needed_to_sign_in`: "
            "a `Work` object that solves its challenge, as JSON in base64.",
        ),
    ] = None,
) -> Work | None:
    """Read the `Work` header, the proof of work for a passphrase check.

    Raises:
        BadBody: the header cannot be decoded.
    """
    if work is None:
        return None
    try:
        return from_header(work)
    except ValueError:
        raise BadBody([{"type": "no_proof", "loc": ("header", "Work")}]) from None


# --- requests --------------------------------------------------------------------------------

M = TypeVar("M", bound=BaseModel)


def find_earlier(
    service: Service, attempt: Attempt | None, body: OpenCase | AddItems | AddSignals
) -> tuple[Attempt | None, Reply | None]:
    """Find the reply to an earlier attempt of a request that may carry a proof of work.

    The proof is not compared, since a retry may carry another one.

    Returns:
        The attempt without its proof of work, and the earlier reply; None for either if there is
        none.

    Raises:
        IdempotencyConflict: the key was used with another body.
    """
    if attempt is None:
        return None, None
    bare = body.model_copy(update={"work": None}).model_dump_json().encode()
    attempt = with_body(service.store, attempt, bare)
    return attempt, find_reply(service.store, attempt)


def parsed(model: type[M]) -> Callable[[Request], Awaitable[M]]:
    """Return a dependency that parses a large body in a worker thread, not on the event loop."""

    async def read(request: Request) -> M:
        return await run_in_threadpool(parse, model, await request.body())

    return read


def parse(model: type[M], body: bytes) -> M:
    """Return the message in a JSON body.

    Raises:
        NotJson: the body is not JSON.
        BadBody: the body is empty or does not fit the model.
    """
    if not body:
        raise BadBody([{"type": "missing", "loc": ("body",)}])
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        if error.error_count() > _ERRORS_MAX:
            raise BadBody from None  # listing them would cost more than the request is worth
        found = error.errors(include_input=False, include_url=False, include_context=False)
        if any(e["type"] == "json_invalid" for e in found):
            raise NotJson from None
        raise BadBody([{**e, "loc": ("body", *e["loc"])} for e in found]) from None


def documented(model: type[BaseModel], **others: Any) -> dict[str, Any]:  # noqa: ANN401 - OpenAPI
    """Return the OpenAPI description of a body that `parsed` reads; `others` by media type."""
    reference = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
    return {"requestBody": {"required": True, "content": {"application/json": reference} | others}}


# --- responses -------------------------------------------------------------------------------


def json_response(reply: Reply) -> Response:
    """Return the response for a reply, whether new or stored for an idempotency key."""
    return Response(reply.body, reply.status, media_type="application/json")


def problem_response(refusal: RequestRefused) -> Response:
    """Return the problem document for a refusal."""
    headers = {}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = f"{CASE_SCHEME}, Bearer"
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(int(refusal.retry_after))
    body = refusal.problem().model_dump_json()
    return Response(body, refusal.status, headers, media_type=PROBLEM)
