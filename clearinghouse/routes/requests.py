"""What every door needs of a request: the service behind it, and safe repetition of writes."""

from typing import Annotated

from fastapi import Depends, Header, Request, Response

from clearinghouse.idempotency import Attempt, Reply, read_attempt
from clearinghouse.service import Service


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


def answer(reply: Reply) -> Response:
    """Send a stored or fresh reply as JSON."""
    return Response(reply.body, reply.status, media_type="application/json")
