"""What every door needs of a request: the service behind it, and safe repetition of writes."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool

from clearinghouse.cases.idempotency import Attempt, Reply, about, earlier, read_attempt
from clearinghouse.errors import BadBody, NotJson, RequestRefused
from clearinghouse.service import Service
from nciihash.wire import CASE_SCHEME, PROBLEM, AddItems, AddSignals, OpenCase
from nciihash.wire.proof_of_work import Work, from_header

_ERRORS_MAX: Final = 100


def service(request: Request) -> Service:
    """Give the service that this application serves."""
    found: Service = request.app.state.service
    return found


Serving = Annotated[Service, Depends(service)]


async def attempt(
    request: Request,
    serving: Serving,
    authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="128 random bits in hexadecimal digits; the same again when repeating.",
            examples=["5f0f3c1db7a94b1e8c8f0b6a0d6f7c21"],
        ),
    ] = None,
) -> Attempt | None:
    """Read the idempotency key of a write."""
    return read_attempt(
        serving.store,
        idempotency_key,
        authorization or "",
        f"{request.method} {request.url.path}",
        await request.body(),
    )


Repeatable = Annotated[Attempt | None, Depends(attempt)]


async def shown_work(
    work: Annotated[
        str | None,
        Header(
            alias="Work",
            description="Base64 of a `Work`, as JSON: the solution of the challenge that came with "
            "an answer 428 with the code `work_needed_to_sign_in`.",
        ),
    ] = None,
) -> Work | None:
    """Read the proof of work for a check of the passphrase.

    Raises:
        BadBody: the header holds none.
    """
    if work is None:
        return None
    try:
        return from_header(work)
    except ValueError:
        raise BadBody([{"type": "no_proof", "loc": ("header", "Work")}]) from None


M = TypeVar("M", bound=BaseModel)


def repeated(
    serving: Service, repeat: Attempt | None, body: OpenCase | AddItems | AddSignals
) -> tuple[Attempt | None, Reply | None]:
    """Look for an answer given before; the request may come again with another proof of work."""
    if repeat is None:
        return None, None
    bare = body.model_copy(update={"work": None}).model_dump_json().encode()
    repeat = about(serving.store, repeat, bare)
    return repeat, earlier(serving.store, repeat)


def parsed(model: type[M]) -> Callable[[Request], Awaitable[M]]:
    """Make a dependency that reads a body which may be large, off the event loop."""

    async def read(request: Request) -> M:
        return await run_in_threadpool(parse, model, await request.body())

    return read


def parse(model: type[M], body: bytes) -> M:
    """Read a message.

    Raises:
        NotJson, BadBody: it is none.
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
    """Describe such a body in the OpenAPI document; `others` by their media types."""
    reference = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
    return {"requestBody": {"required": True, "content": {"application/json": reference} | others}}


def answer(reply: Reply) -> Response:
    """Send a stored or fresh reply as JSON."""
    return Response(reply.body, reply.status, media_type="application/json")


def refusal_answer(refusal: RequestRefused) -> Response:
    """Write a refusal as a problem document."""
    headers = {}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = f"{CASE_SCHEME}, Bearer"
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(int(refusal.retry_after))
    body = refusal.problem().model_dump_json()
    return Response(body, refusal.status, headers, media_type=PROBLEM)
