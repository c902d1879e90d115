"""The door for clients of the StopNCII format: a platform's one key in both of their headers."""

from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query
from fastapi.security import APIKeyHeader

from clearinghouse.errors import CredentialsWrong
from clearinghouse.platforms import keys, stopncii
from clearinghouse.platforms.keys import Platform, Scope
from clearinghouse.platforms.stopncii import FetchReply, SubmitFeedback, SubmitHashes, SubmitReply
from clearinghouse.routes.dependencies import Serving
from nciihash.wire import Problem

_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": Problem} for status in (400, 401, 403, 408, 413, 415, 422)
}

router = APIRouter(prefix="/stopncii/v1", tags=["platforms, StopNCII format"], responses=_PROBLEMS)

_function_key = APIKeyHeader(
    name="x-functions-key",
    scheme_name="StopNCII function key",
    description="The key that the operator gave to the platform, with the scope of the address.",
    auto_error=False,
)
_subscription_key = APIKeyHeader(
    name="Ocp-Apim-Subscription-Key",
    scheme_name="StopNCII subscription key",
    description="The same key again, or another one of the same platform.",
    auto_error=False,
)


def _admitted(scope: Scope) -> Callable[..., Platform]:
    def admit(
        serving: Serving,
        function_key: Annotated[str | None, Depends(_function_key)],
        subscription_key: Annotated[str | None, Depends(_subscription_key)],
    ) -> Platform:
        now = serving.clock()
        platform = keys.admit(serving.store, function_key, {scope}, now)
        if keys.identify(serving.store, subscription_key, now).number != platform.number:
            raise CredentialsWrong
        serving.uses.note(platform.key, now)
        return platform

    return admit


Follower = Annotated[Platform, Depends(_admitted(Scope.FEED))]
Judge = Annotated[Platform, Depends(_admitted(Scope.FEEDBACK))]
Contributor = Annotated[Platform, Depends(_admitted(Scope.CONTRIBUTE))]


@router.get("/FetchHashes", responses={410: {"model": Problem}})
def fetch_hashes(
    platform: Follower,
    serving: Serving,
    start: Annotated[
        int,
        Query(
            alias="startTimestamp",
            ge=0,
            le=stopncii.TIME_MAX,
            description="Of the last fetch's `nextSetTimestamp`; 10 for the beginning.",
        ),
    ] = stopncii.START,
    page_size: Annotated[
        int,
        Query(
            alias="pageSize",
            ge=1,
            le=stopncii.PAGE_MAX,
            description=f"A page has {stopncii.PAGE_MIN} records at least, unless it is the last.",
        ),
    ] = 800,
    token: Annotated[str | None, Query(alias="nextPageToken", max_length=64)] = None,
    *,
    first_hand: Annotated[
        bool,
        Query(
            alias="firstHand",
            description="For other clearinghouses: leave out what was imported, so that nothing "
            "goes round in a circle.",
        ),
    ] = False,
) -> FetchReply:
    """Read live hashes in the order of their times. What is missing from the whole is withdrawn."""
    return stopncii.read_hashes(
        serving.store,
        platform,
        start=start,
        page_size=page_size,
        token=token,
        first_hand=first_hand,
    )


@router.post("/SubmitFeedback")
def submit_feedback(body: SubmitFeedback, platform: Judge, serving: Serving) -> SubmitReply:
    """Say what was decided about hashes, by their values."""
    taken = stopncii.record_feedback(serving.store, platform, body.feedbacks, clock=serving.clock)
    serving.waiters.poke()
    return taken


@router.post("/SubmitHashes")
def submit_hashes(body: SubmitHashes, platform: Contributor, serving: Serving) -> SubmitReply:
    """Contribute hashes, or take them back with the feedback `Withdrawn` or `Deleted`."""
    taken = stopncii.take_hashes(
        serving.store,
        serving.lawful,
        platform,
        body.records,
        months=serving.settings.case_months,
        most=serving.settings.contributions_max,
        clock=serving.clock,
    )
    serving.waiters.poke()
    return taken
