"""Liveness and readiness checks, and metrics."""

import secrets
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from clearinghouse.errors import InvalidCredentials, NotFound, NotReady
from clearinghouse.metrics import CONTENT_TYPE, Metrics
from clearinghouse.routes.dependencies import ServiceDep, documented_problems

router = APIRouter(prefix="/health", tags=["health"])


@router.head("/live", include_in_schema=False)
@router.get(
    "/live",
    summary="Check that the process responds",
    response_description="The process responds.",
)
async def live() -> dict[str, str]:
    """Return 200 whenever the process handles requests. Use it as a liveness probe."""
    return {"status": "live"}


@router.head("/ready", include_in_schema=False)
@router.get(
    "/ready",
    summary="Check that the service is ready",
    response_description="The service is ready.",
    responses=documented_problems(
        {
            503: "`not_ready`: the index is loading, or the service is shutting down; or "
            "`database_away`: the database is unavailable, or cannot be written."
        }
    ),
)
def ready(service: ServiceDep) -> dict[str, str]:
    """Return 200 if the index is up to date with the log and the database can be written.

    A write is tried every five seconds at most.

    Use it as a readiness probe: matching fails with 503 until then. After SIGTERM it returns 503
    while the service still handles requests, so that a load balancer can stop sending them.
    """
    if service.draining.is_set() or not service.live.caught_up:
        raise NotReady
    service.writable.run(service.store)
    with service.store.read() as tx:
        tx.log.head()
    return {"status": "ready"}


metrics_router = APIRouter(include_in_schema=False)


@metrics_router.get("/metrics")
def metrics(
    request: Request,
    service: ServiceDep,
    authorization: Annotated[str | None, Header()] = None,
) -> Response:
    """Return the metrics in the Prometheus format. Needs `metrics_key`; 404 if none is set."""
    key = service.settings.metrics_key
    if key is None:
        raise NotFound
    if not secrets.compare_digest((authorization or "").encode(), f"Bearer {key}".encode()):
        raise InvalidCredentials
    found: Metrics = request.app.state.metrics
    return Response(found.read(service), media_type=CONTENT_TYPE)
