"""The platforms' API: the feed, matching and feedback, authorized by a key with scopes."""

import time
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Annotated, Any, Final

import numpy as np
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool

from clearinghouse.cases.idempotency import Reply, find_reply, once
from clearinghouse.database.transaction import Transaction
from clearinghouse.errors import BadBody, TypeNotMatched
from clearinghouse.platforms import feed, keys, live_index, verdicts
from clearinghouse.platforms.keys import Platform, Scope
from clearinghouse.routes.dependencies import (
    AttemptDep,
    ServiceDep,
    documented,
    documented_problems,
    json_response,
    parse,
    problems,
)
from clearinghouse.service import Service
from nciihash.signals import SignalType
from nciihash.wire import (
    OCTETS,
    PAGE_MAX,
    PDQ_BYTES,
    QUERIES_MAX,
    WAIT_MAX,
    Acknowledgement,
    Feedback,
    FeedbackTaken,
    FeedReply,
    MatchQuery,
    MatchReply,
)
from nciihash.wire.veil import VeilReply

router = APIRouter(
    prefix="/v1",
    tags=["platforms"],
    responses=problems(400, 401, 403, 408, 413, 415, 422, 503),
)


_bearer = HTTPBearer(
    scheme_name="platform_key",
    description="The platform's API key, which the operator of the clearinghouse issues. Each "
    "operation needs a key with one of the scopes that its description names.",
    auto_error=False,
)


Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def _requires(*scopes: Scope) -> Callable[..., Platform]:
    def dependency(service: ServiceDep, bearer: Bearer) -> Platform:
        return _authorize(service, bearer.credentials if bearer else None, scopes)

    return dependency


def _authorize(service: Service, key: str | None, scopes: Collection[Scope]) -> Platform:
    now = service.clock()
    platform = keys.authorize(service.store, key, scopes, now)
    service.uses.record(platform.key, now)
    return platform


FeedPlatform = Annotated[Platform, Depends(_requires(*keys.FOLLOWING))]
MatchPlatform = Annotated[Platform, Depends(_requires(Scope.MATCH))]
FeedbackPlatform = Annotated[Platform, Depends(_requires(Scope.FEEDBACK))]


Veiled = Annotated[
    bool,
    Query(
        description="Return veiled hashes although the key may read whole ones. A key with a "
        "`veil` scope and without `feed` gets veiled hashes in any case."
    ),
]


@router.get(
    "/veil",
    summary="Get the veil parameters",
    response_description="The type of the veiled hashes, and the key of exact hashes.",
)
def read_veil(platform: FeedPlatform) -> VeilReply:
    """Return what a platform needs to search its veiled feed.

    `type` says which bits of a PDQ hash the feed contains. MD5 and SHA-256 values are in the feed
    as HMACs under `key`, which is the platform's own. Both stay the same for the life of the
    platform, unless it gets a key with another `veil` scope.

    Needs the scope `feed` or a `veil` scope.
    """
    return VeilReply.of(platform.veil)


@router.get(
    "/feed",
    summary="Read the feed",
    response_description="The next page, in log order. `entries` may be empty.",
    responses=problems(410),
)
async def read_feed(
    bearer: Bearer,
    service: ServiceDep,
    cursor: Annotated[
        str | None,
        Query(
            max_length=64,
            description="The `cursor` of the previous page. Omit it to start from the beginning.",
        ),
    ] = None,
    limit: Annotated[
        int, Query(ge=1, le=PAGE_MAX, description="The maximum number of entries in the page.")
    ] = 1000,
    wait: Annotated[
        float,
        Query(
            ge=0,
            le=WAIT_MAX,
            description="Long polling: if nothing is new, respond as soon as something is, or with "
            "an empty page after this many seconds.",
        ),
    ] = 0.0,
    *,
    veil: Veiled = False,
) -> FeedReply:
    """Return the log entries after a cursor: hashes to add to your bank, and ids to remove.

    Apply the entries in their order, write them to disk together with the page's `cursor`, then
    acknowledge the cursor with `POST /v1/feed/ack`. While `more` is true, fetch the next page at
    once; otherwise use `wait` instead of polling.

    A client that follows the cursors sees every entry once and in order, and can resume after a
    crash from the last cursor that it stored. Cursors and ids are opaque and specific to your
    platform. A `remove` entry names an id without a value, which may be one that you never
    received. After 410 (`cursor_expired`) read from the beginning into a new bank, and replace the
    old bank with it when `more` is false.

    Needs the scope `feed`, or a `veil` scope for a part of each hash (`GET /v1/veil`).
    """
    key = bearer.credentials if bearer else None
    until = time.monotonic() + wait
    while True:
        # read before the page: a write between reading the page and waiting ends the wait
        seen = service.waiters.generation
        reply = await run_in_threadpool(_read_page, service, key, cursor, limit, veil=veil)
        left = until - time.monotonic()
        if reply.entries or reply.more or left <= 0 or service.waiters.closed:
            return reply
        # the end of a release period wakes nobody, so it limits the wait
        await service.waiters.wait(min(left, service.store.releases.left() or left), seen)


def _read_page(
    service: Service, key: str | None, cursor: str | None, limit: int, *, veil: bool
) -> FeedReply:
    # checked for each page, since the key may be revoked during the wait
    platform = _authorize(service, key, keys.FOLLOWING)
    after = feed.read_cursor(service.store, platform, cursor)
    applied = feed.view(platform, veil=veil)
    return FeedReply.of(feed.read_page(service.store, platform, after, limit, applied))


_JSON_LINES: Final = "application/x-ndjson"


@router.get(
    "/feed/snapshot",
    summary="Download a snapshot of the feed",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "One page per line, each a `FeedReply` as JSON.",
            "content": {_JSON_LINES: {"schema": {"type": "string"}}},
        }
    },
)
def read_snapshot(
    platform: FeedPlatform,
    service: ServiceDep,
    *,
    veil: Veiled = False,
    accept: Annotated[str, Header(alias="Accept-Encoding", include_in_schema=False)] = "",
) -> StreamingResponse:
    """Return all live hashes at once, the fastest way to fill an empty bank.

    The response is a stream of JSON lines, each a page as `GET /v1/feed` returns it; `more` is
    false in the last one. Hashes that were added and removed are omitted. Continue with
    `GET /v1/feed` from the `cursor` of the last page. If the connection breaks, continue there from
    the cursor of the last complete line, or download the snapshot again.

    Needs the scope `feed`, or a `veil` scope for a part of each hash.
    """
    pages = feed.read_snapshot(service.store, platform, feed.view(platform, veil=veil))
    lines = (FeedReply.of(page).model_dump_json().encode() + b"\n" for page in pages)
    if "gzip" not in accept:
        return StreamingResponse(lines, media_type=_JSON_LINES)
    headers = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return StreamingResponse(_compress(lines), media_type=_JSON_LINES, headers=headers)


def _compress(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Compress by Huffman coding only, without matching repeated strings.

    String matching would make the length of the response depend on similarities between hashes.
    Somebody who submits hashes and observes lengths on the network could then guess other hashes
    bit by bit (CRIME, BREACH).
    """
    compressor = zlib.compressobj(wbits=31, strategy=zlib.Z_HUFFMAN_ONLY)
    for line in lines:
        yield compressor.compress(line)
    yield compressor.flush()


@router.post(
    "/feed/ack",
    summary="Acknowledge the feed",
    response_description="The acknowledged cursor.",
    response_model=Acknowledgement,
    responses=problems(410),
)
def acknowledge(
    body: Acknowledgement, platform: FeedPlatform, service: ServiceDep, attempt: AttemptDep
) -> Response:
    """Acknowledge that you have applied all additions and removals up to a cursor.

    Acknowledge a cursor only when its entries are on disk and in what you match uploads against.
    Survivors see it in the status of their cases ("has it since", "deletion acknowledged"), and
    the operator is alerted if a change is not acknowledged for two days.

    `cursor` is that of a page of the feed, or `as_of` of a match. The request is idempotent, and an
    older cursor than the last changes nothing.

    Needs the scope `feed` or a `veil` scope.
    """
    now = service.clock()

    def act(tx: Transaction) -> Reply:
        acknowledged = verdicts.acknowledge(service.store, tx, platform, body.cursor, now=now)
        return Reply.of(200, acknowledged)

    return json_response(once(service.store, attempt, now, act))


async def _read_queries(
    request: Request,
) -> tuple[SignalType, NDArray[np.uint8], tuple[int, ...] | None]:
    """Read the queries of a match request, as JSON or as octets.

    Returns:
        Their type; the hashes, uint8 (q, bytes of the type); the qualities if they were sent.

    Raises:
        BadBody, NotJson: the body is neither.
    """
    body = await request.body()
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == OCTETS:
        if not body or len(body) % PDQ_BYTES or len(body) > QUERIES_MAX * PDQ_BYTES:
            raise BadBody
        return SignalType.PDQ, np.frombuffer(body, dtype=np.uint8).reshape(-1, PDQ_BYTES), None
    query = await run_in_threadpool(parse, MatchQuery, body)
    packed = np.frombuffer(bytes.fromhex("".join(query.values)), dtype=np.uint8)
    return query.type, packed.reshape(len(query.values), -1), query.qualities


_OCTETS_SCHEMA: Final[dict[str, Any]] = {
    "schema": {
        "type": "string",
        "format": "binary",
        "description": f"PDQ hashes of {PDQ_BYTES} bytes each, concatenated.",
    }
}


@router.post(
    "/match",
    summary="Match hashes",
    response_description="The hits of each query, in the order of the queries.",
    response_model=MatchReply,
    responses=documented_problems(
        {
            429: "`budget_spent`: the key has used its hourly or daily budget of queries. Wait for "
            "`Retry-After` seconds, or ask the operator for a larger budget."
        }
    ),
    openapi_extra=documented(MatchQuery, **{OCTETS: _OCTETS_SCHEMA}),
)
async def match(request: Request, platform: MatchPlatform, service: ServiceDep) -> Response:
    """Find the signals that match up to 10,000 hashes of one type.

    Send JSON, or PDQ hashes as `application/octet-stream`. The result is exact: PDQ hashes match
    within 31 of 256 bits, MD5 and SHA-256 values if they are equal. `band` is `strong` up to 16
    bits and `likely` beyond. Distances are never returned, nor can they be inferred from the order.

    A query has hits in at most 20 files, up to 8 signals each, and a response has at most 40,000
    hits; `truncated` lists the queries that have more. A PDQ hash with a quality below 50, or
    with a value that only a blank picture has, matches nothing. Send `qualities` if you have them.

    A withdrawn signal matches nothing from the moment of its withdrawal. Repeating a request is
    safe, but each hash counts towards the budget of the key. Survivors see roughly how often each
    platform matched their files, with a delay of a day.

    Needs the scope `match`.
    """
    type, packed, qualities = await _read_queries(request)
    if type not in service.settings.matched:
        raise TypeNotMatched

    def find() -> MatchReply:
        now = service.clock()
        service.budgets.take(
            service.store,
            platform.key,
            len(packed),
            now=now,
            hour_max=platform.match_hour,
            day_max=platform.match_day,
        )
        return live_index.match(
            service.store,
            service.live,
            service.oracle_detector,
            platform,
            type,
            packed,
            qualities=qualities,
            now=now,
        )

    reply = await run_in_threadpool(find)
    # serialized here, because FastAPI would validate thousands of our own rows again
    return Response(reply.model_dump_json(), media_type="application/json")


@router.post(
    "/feedback",
    summary="Send verdicts on matches",
    response_description="How many verdicts were recorded, and how many had an unknown id.",
    response_model=FeedbackTaken,
)
def give_feedback(
    body: Feedback, platform: FeedbackPlatform, service: ServiceDep, attempt: AttemptDep
) -> Response:
    """Report what you decided about up to 1,000 matches, by the ids of their signals.

    Survivors see the verdicts in the status of their cases, from the next day on. A later verdict
    on the same signal replaces the earlier one. A signal with `not_blocked` from two platforms and
    `blocked` from none is put on hold, within daily limits: it matches nothing, and the feed
    removes it. If any platform sends `blocked` within seven days after that, the feed adds it again
    under the same id.

    The request is idempotent. It is not atomic: if it fails, some verdicts may have been recorded,
    and repeating it records the others.

    Needs the scope `feedback`.
    """
    now = service.clock()
    if attempt is not None and (known := find_reply(service.store, attempt)) is not None:
        return json_response(known)
    *first, last = verdicts.batches(verdicts.resolve(platform, body.verdicts))
    recorded = 0
    for batch in first:
        with service.store.write() as tx:
            recorded += verdicts.record(tx, platform, batch, now=now)

    def act(tx: Transaction) -> Reply:
        count = recorded + verdicts.record(tx, platform, last, now=now)
        taken = FeedbackTaken(recorded=count, unknown=len(body.verdicts) - count)
        return Reply.of(200, taken)

    reply = once(service.store, attempt, now, act)
    service.waiters.poke()  # the verdicts may have removed a signal from the feed
    return json_response(reply)
