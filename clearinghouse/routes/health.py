"""Whether the process is up, and whether its index answers for the whole log."""

import secrets
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from clearinghouse.errors import CredentialsWrong, NotFound, NotReady
from clearinghouse.metrics import CONTENT_TYPE, Metrics
from clearinghouse.routes.dependencies import Serving
from nciihash.wire import Problem

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live")
async def live() -> dict[str, str]:
    """Say that the process answers."""
    return {"status": "live"}


@router.get("/ready", responses={503: {"model": Problem}})
def ready(serving: Serving) -> dict[str, str]:
    """Say that the index has caught up with the log and the database answers."""
    if not serving.live.caught_up:
        raise NotReady
    with serving.store.read() as tx:
        tx.log.head()
    return {"status": "ready"}


metrics_router = APIRouter(include_in_schema=False)


@metrics_router.get("/metrics")
def metrics(
    request: Request,
    serving: Serving,
    authorization: Annotated[str | None, Header()] = None,
) -> Response:
    """Give the figures for Prometheus to whoever has the key, if the operator set one."""
    key = serving.settings.metrics_key
    if key is None:
        raise NotFound
    if not secrets.compare_digest((authorization or "").encode(), f"Bearer {key}".encode()):
        raise CredentialsWrong
    counted: Metrics = request.app.state.metrics
    return Response(counted.read(serving), media_type=CONTENT_TYPE)
