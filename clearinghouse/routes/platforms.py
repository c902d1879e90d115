"""The platforms' door: a key with scopes, a feed, matching, and words back."""

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

from clearinghouse.cases.idempotency import Reply, earlier, once
from clearinghouse.database.transaction import Transaction
from clearinghouse.errors import BadBody, TypeNotMatched
from clearinghouse.platforms import feed, keys, live_index, verdicts
from clearinghouse.platforms.keys import Platform, Scope
from clearinghouse.routes.dependencies import Repeatable, Serving, answer, documented, parse
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
    Problem,
)
from nciihash.wire.veil import VeilReply

_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": Problem},
    401: {"model": Problem},
    403: {"model": Problem},
    408: {"model": Problem},
    413: {"model": Problem},
    415: {"model": Problem},
    422: {"model": Problem},
    503: {"model": Problem},
}

router = APIRouter(prefix="/v1", tags=["platforms"], responses=_PROBLEMS)


_bearer = HTTPBearer(
    scheme_name="Platform key",
    description="The key that the operator gave to the platform, with the scope of the address.",
    auto_error=False,
)


Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def _admitted(*scopes: Scope) -> Callable[..., Platform]:
    def admit(
        serving: Serving,
        bearer: Bearer,
    ) -> Platform:
        return _let_in(serving, bearer.credentials if bearer else None, scopes)

    return admit


def _let_in(serving: Service, key: str | None, scopes: Collection[Scope]) -> Platform:
    now = serving.clock()
    platform = keys.admit(serving.store, key, scopes, now)
    serving.uses.note(platform.key, now)
    return platform


Follower = Annotated[Platform, Depends(_admitted(*keys.FOLLOWING))]
Matcher = Annotated[Platform, Depends(_admitted(Scope.MATCH))]
Judge = Annotated[Platform, Depends(_admitted(Scope.FEEDBACK))]


Veiled = Annotated[
    bool, Query(description="Only a part of each hash, although the key opens the whole feed.")
]


@router.get("/veil")
def read_veil(platform: Follower) -> VeilReply:
    """Tell with what a veiled list is searched: which bits, and the key of exact hashes."""
    return VeilReply.of(platform.veil)


@router.get("/feed", responses={410: {"model": Problem}})
async def read_feed(
    bearer: Bearer,
    serving: Serving,
    cursor: Annotated[
        str | None, Query(max_length=64, description="Of the last page; none for the beginning.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 1000,
    wait: Annotated[
        float, Query(ge=0, le=WAIT_MAX, description="Seconds to wait when nothing is new.")
    ] = 0.0,
    *,
    veil: Veiled = False,
) -> FeedReply:
    """Read the next page of the log, in its order; with `wait`, as soon as something is new.

    A key with a scope `veil…` and without `feed` is given a part of each hash.
    """
    key = bearer.credentials if bearer else None
    until = time.monotonic() + wait
    while True:
        # Taken before the look: what is written between the look and the wait ends the wait.
        seen = serving.waiters.generation
        reply = await run_in_threadpool(_page, serving, key, cursor, limit, veil=veil)
        left = until - time.monotonic()
        if reply.entries or reply.more or left <= 0 or serving.waiters.closed:
            return reply
        # nobody is woken when a period of releases ends
        await serving.waiters.wait(min(left, serving.store.releases.left() or left), seen)


def _page(
    serving: Serving, key: str | None, cursor: str | None, limit: int, *, veil: bool
) -> FeedReply:
    # The key is looked at each time, since it may have been revoked during the wait.
    platform = _let_in(serving, key, keys.FOLLOWING)
    after = feed.read_cursor(serving.store, platform, cursor)
    through = feed.view(platform, veil=veil)
    return FeedReply.of(feed.read_page(serving.store, platform, after, limit, through))


_LINES: Final = "application/x-ndjson"


@router.get(
    "/feed/snapshot",
    response_class=StreamingResponse,
    responses={200: {"content": {_LINES: {"schema": {"type": "string"}}}}},
)
def read_snapshot(
    platform: Follower,
    serving: Serving,
    *,
    veil: Veiled = False,
    accept: Annotated[str, Header(alias="Accept-Encoding", include_in_schema=False)] = "",
) -> StreamingResponse:
    """Read the whole bank at once: pages as the feed has them, one a line, until `more` is false.

    The last cursor is that from which the feed goes on. If the lines break off, go on in the feed
    from the last whole one.
    """
    pages = feed.read_snapshot(serving.store, platform, feed.view(platform, veil=veil))
    lines = (FeedReply.of(page).model_dump_json().encode() + b"\n" for page in pages)
    if "gzip" not in accept:
        return StreamingResponse(lines, media_type=_LINES)
    headers = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return StreamingResponse(_packed(lines), media_type=_LINES, headers=headers)


def _packed(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Compress by the frequency of characters alone.

    Were repetitions sought as well, somebody who submits hashes and sees lengths on the network
    could find out the hashes beside them, bit by bit.
    """
    packer = zlib.compressobj(wbits=31, strategy=zlib.Z_HUFFMAN_ONLY)
    for line in lines:
        yield packer.compress(line)
    yield packer.flush()


@router.post("/feed/ack", response_model=Acknowledgement, responses={410: {"model": Problem}})
def acknowledge(
    body: Acknowledgement, platform: Follower, serving: Serving, repeat: Repeatable
) -> Response:
    """Confirm that everything up to a cursor is on disk and in what is matched against."""
    now = serving.clock()

    def act(tx: Transaction) -> Reply:
        taken = verdicts.acknowledge(serving.store, tx, platform, body.cursor, now=now)
        return Reply.of(200, taken)

    return answer(once(serving.store, repeat, now, act))


async def _queries(
    request: Request,
) -> tuple[SignalType, NDArray[np.uint8], tuple[int, ...] | None]:
    """Read the hashes to look for, in either form, with their qualities if these came with them.

    Raises:
        BadBody, NotJson: neither form.
    """
    body = await request.body()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == OCTETS:
        if not body or len(body) % PDQ_BYTES or len(body) > QUERIES_MAX * PDQ_BYTES:
            raise BadBody
        return SignalType.PDQ, np.frombuffer(body, dtype=np.uint8).reshape(-1, PDQ_BYTES), None
    query = await run_in_threadpool(parse, MatchQuery, body)
    packed = np.frombuffer(bytes.fromhex("".join(query.values)), dtype=np.uint8)
    return query.type, packed.reshape(len(query.values), -1), query.qualities


_OCTETS_SCHEMA: Final = {
    "schema": {
        "type": "string",
        "format": "binary",
        "description": f"PDQ hashes of {PDQ_BYTES} bytes, end to end.",
    }
}


@router.post(
    "/match",
    response_model=MatchReply,
    responses={429: {"model": Problem}},
    openapi_extra=documented(MatchQuery, **{OCTETS: _OCTETS_SCHEMA}),
)
async def match(request: Request, platform: Matcher, serving: Serving) -> Response:
    """Look for hashes. The answer tells bands and never distances, by what it holds or its order.

    A PDQ value that only a blank picture has matches nothing, nor one with a quality below 50.
    """
    type, packed, qualities = await _queries(request)
    if type not in serving.settings.matched:
        raise TypeNotMatched

    def look() -> MatchReply:
        now = serving.clock()
        serving.budgets.take(serving.store, platform.key, len(packed), now=now)
        return live_index.match(
            serving.store,
            serving.live,
            serving.watch,
            platform,
            type,
            packed,
            qualities=qualities,
            now=now,
        )

    reply = await run_in_threadpool(look)
    # Written here, since FastAPI would check ten thousand rows of our own making once more.
    return Response(reply.model_dump_json(), media_type="application/json")


@router.post("/feedback", response_model=FeedbackTaken)
def give_feedback(
    body: Feedback, platform: Judge, serving: Serving, repeat: Repeatable
) -> Response:
    """Say what was decided about matches.

    Recorded in several transactions where there are many; a request that failed can be repeated.
    """
    now = serving.clock()
    if repeat is not None and (known := earlier(serving.store, repeat)) is not None:
        return answer(known)
    said = verdicts.read(platform, body.verdicts)
    *first, last = verdicts.parts(said)
    recorded = 0
    for part in first:
        with serving.store.write() as tx:
            recorded += verdicts.record(tx, platform, part, now=now)

    def act(tx: Transaction) -> Reply:
        count = recorded + verdicts.record(tx, platform, last, now=now)
        taken = FeedbackTaken(recorded=count, unknown=len(body.verdicts) - count)
        return Reply.of(200, taken)

    reply = once(serving.store, repeat, now, act)
    serving.waiters.poke()  # platforms may have agreed to take something out
    return answer(reply)
