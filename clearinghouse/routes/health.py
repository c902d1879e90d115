"""Whether the process is up, and whether its index answers for the whole log."""

from fastapi import APIRouter

from clearinghouse.problems import NotReady
from clearinghouse.routes.requests import Serving
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
        tx.head()
    return {"status": "ready"}
