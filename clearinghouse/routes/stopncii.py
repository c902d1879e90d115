"""The StopNCII-compatible API: for clients that send a key in each of two headers."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.security import APIKeyHeader

from clearinghouse.errors import InvalidCredentials
from clearinghouse.platforms import keys, stopncii
from clearinghouse.platforms.keys import Platform, Scope
from clearinghouse.platforms.stopncii import FetchReply, SubmitFeedback, SubmitHashes, SubmitReply
from clearinghouse.routes.dependencies import ServiceDep, documented_problems, problems

router = APIRouter(
    prefix="/stopncii/v1",
    tags=["platforms, StopNCII format"],
    responses=problems(400, 401, 403, 408, 413, 415, 422, 503),
)

_function_key = APIKeyHeader(
    name="x-functions-key",
    scheme_name="stopncii_function_key",
    description="The platform's API key, which the operator of the clearinghouse issues.",
    auto_error=False,
)
_subscription_key = APIKeyHeader(
    name="Ocp-Apim-Subscription-Key",
    scheme_name="stopncii_subscription_key",
    description="The same key again, or another key of the same platform.",
    auto_error=False,
)


def _requires(scope: Scope) -> Callable[..., Platform]:
    def dependency(
        service: ServiceDep,
        function_key: Annotated[str | None, Depends(_function_key)],
        subscription_key: Annotated[str | None, Depends(_subscription_key)],
    ) -> Platform:
        now = service.clock()
        platform = keys.authorize(service.store, function_key, {scope}, now)
        if keys.authenticate(service.store, subscription_key, now).number != platform.number:
            raise InvalidCredentials
        service.uses.record(platform.key, now)
        return platform

    return dependency


FeedPlatform = Annotated[Platform, Depends(_requires(Scope.FEED))]
FeedbackPlatform = Annotated[Platform, Depends(_requires(Scope.FEEDBACK))]
Contributor = Annotated[Platform, Depends(_requires(Scope.CONTRIBUTE))]


@router.get(
    "/FetchHashes",
    summary="Fetch hashes",
    response_description="A page of live hashes.",
    responses=documented_problems(
        {
            410: "`cursor_expired`: the token is from before the database was restored. Fetch "
            "everything from the beginning."
        }
    ),
)
def fetch_hashes(
    platform: FeedPlatform,
    service: ServiceDep,
    start: Annotated[
        int,
        Query(
            alias="startTimestamp",
            ge=0,
            le=stopncii.TIME_MAX,
            description="The `nextSetTimestamp` of the last page; 10 to fetch everything.",
        ),
    ] = stopncii.START,
    page_size: Annotated[
        int,
        Query(
            alias="pageSize",
            ge=1,
            le=stopncii.PAGE_MAX,
            description=f"The number of records per page, raised to {stopncii.PAGE_MIN} if less.",
        ),
    ] = 800,
    token: Annotated[
        str | None,
        Query(
            alias="nextPageToken",
            max_length=64,
            description="The `nextPageToken` of the previous page. Omit it for the first page.",
        ),
    ] = None,
    *,
    first_hand: Annotated[
        bool,
        Query(
            alias="firstHand",
            description="Omit hashes that were imported from another clearinghouse. Set by other "
            "clearinghouses, so that hashes do not circulate among them.",
        ),
    ] = False,
) -> FetchReply:
    """Return live hashes, ordered by `lastModtimestamp`.

    Fetch further pages with `nextPageToken` while `hasMoreRecords` is true; later, continue from
    `nextSetTimestamp` to get what is new or changed. Repeating a request is safe.

    This format has no removals: a withdrawn hash is missing from all later pages. Fetch everything
    from the beginning regularly and drop what is missing, or use `GET /v1/feed`, which sends
    removals.

    Needs the scope `feed`.
    """
    return stopncii.read_hashes(
        service.store,
        platform,
        start=start,
        page_size=page_size,
        token=token,
        first_hand=first_hand,
    )


@router.post(
    "/SubmitFeedback",
    summary="Send feedback on hashes",
    response_description="The number of entries processed.",
)
def submit_feedback(
    body: SubmitFeedback, platform: FeedbackPlatform, service: ServiceDep
) -> SubmitReply:
    """Report what you decided about up to 1,000 hashes, by their values.

    `Blocked`, `NotBlocked` and `PendingReview` are recorded as verdicts for every file with this
    value; other feedback is recorded as `unsure`. `Withdrawn` and `Deleted` also withdraw the hash
    if you contributed it. Unknown values are ignored, and the response does not reveal which they
    are. The request is idempotent; if it fails, retry it.

    Needs the scope `feedback`.
    """
    reply = stopncii.record_feedback(service.store, platform, body.feedbacks, clock=service.clock)
    service.waiters.poke()
    return reply


@router.post(
    "/SubmitHashes",
    summary="Contribute hashes",
    response_description="The number of entries processed.",
)
def submit_hashes(body: SubmitHashes, platform: Contributor, service: ServiceDep) -> SubmitReply:
    """Add up to 1,000 hashes of your own, or withdraw them, and record your feedback on them.

    Hashes with the feedback `Withdrawn` or `Deleted` are withdrawn; the others are added. Some are
    skipped, which the response does not reveal: hashes that are in a survivor's open case, that a
    survivor withdrew within the last 400 days, that are on hold after verdicts, that are near a
    picture known to be lawful, or that only a blank picture has. Do not send back hashes that you
    received from the feed.

    All of your hashes expire if you send none for two years (by default). The number of hashes per
    platform is limited; `contributions_full` (422) means that none of the request was added. The
    request is idempotent.

    Needs the scope `contribute`.
    """
    reply = stopncii.add_hashes(
        service.store,
        service.lawful,
        platform,
        body.records,
        months=service.settings.case_months,
        most=service.settings.contributions_max,
        clock=service.clock,
    )
    service.waiters.poke()
    return reply
