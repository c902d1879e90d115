"""The platforms' API, each call written once for blocking and for asyncio clients.

A call is a generator (`nciihash.client.sans_io.Exchange`) that yields what to send and returns the
parsed result; it does no I/O itself. `PlatformClient` and `AsyncPlatformClient` have a method for
each.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from pydantic import ValidationError

from nciihash import wire
from nciihash.client.base import (
    AsyncKeyedClient,
    KeyedClient,
    Session,
    async_method,
    sync_method,
    to_json,
)
from nciihash.client.sans_io import Exchange, Request, new_idempotency_key
from nciihash.errors import InvalidRequest, ProtocolError
from nciihash.feed import FeedPage
from nciihash.signals import Hashed, Signal, SignalType, Verdict
from nciihash.veil import Veil
from nciihash.wire import Hits
from nciihash.wire.veil import VeilReply

_ID: Final = re.compile(r"[0-9a-f]{32}")

T = TypeVar("T")


def veil(session: Session) -> Exchange[Veil]:
    """Return how this platform's hashes are veiled.

    Raises:
        ServiceError: the key is wrong, or there is no response.
    """
    return (yield from session.call(Request("GET", "/v1/veil"), VeilReply)).veil


def feed(
    session: Session,
    cursor: str | None = None,
    *,
    limit: int = 1_000,
    wait: float = 0.0,
    veil: bool = False,
) -> Exchange[FeedPage]:
    """Return the next page of the feed.

    Args:
        cursor: the cursor of the previous page; None for the beginning.
        limit: the largest number of entries, at most 10,000.
        wait: seconds, at most 30, for which the service may delay an empty page (long poll).
        veil: request veiled hashes although the key has access to whole ones.

    Raises:
        InvalidRequest: `limit` or `wait` is out of range.
        CursorExpired: read the feed from its beginning into a new bank.
        ProtocolError: the response is not a page, or its cursor does not advance although `more`
            is set.
        ServiceError: the key is wrong, or there is no response.
    """
    if not 1 <= limit <= wire.PAGE_MAX or not 0 <= wait <= wire.WAIT_MAX:
        raise InvalidRequest(
            f"A page has 1 to {wire.PAGE_MAX} entries, and a long poll takes 0 to "
            f"{wire.WAIT_MAX:.0f} seconds. Change `limit` or `wait`."
        )
    params = {"limit": str(limit), "wait": f"{wait:.3f}"}
    if cursor is not None:
        params["cursor"] = cursor
    if veil:
        params["veil"] = "true"
    request = Request("GET", "/v1/feed", params=params, wait=wait)
    page = (yield from session.call(request, wire.FeedReply)).page
    if page.more and page.cursor == cursor:
        raise ProtocolError(
            "The feed announces more entries, but its cursor does not advance. Report this to the "
            "operator of the clearinghouse."
        )
    return page


def acknowledge(session: Session, cursor: str) -> Exchange[None]:
    """Confirm that everything up to `cursor` is on disk and in use for matching.

    Call it only once that is true of removals too: survivors see it.

    Raises:
        InvalidRequest: `cursor` is not a cursor.
        CursorExpired: the cursor belongs to another epoch of the log.
        ServiceError: the key is wrong, or there is no response.
    """
    try:
        body = wire.Acknowledgement(cursor=cursor)
    except ValidationError:
        raise InvalidRequest(
            "This is not a cursor. Pass the cursor of a page of the feed, unchanged."
        ) from None
    request = Request(
        "POST", "/v1/feed/ack", body=to_json(body), idempotency_key=new_idempotency_key()
    )
    yield from session.call(request, wire.Acknowledgement)


def match(session: Session, signals: Sequence[Signal | Hashed]) -> Exchange[list[Hits]]:
    """Match any number of hashes of any types against the service's bank.

    They are sent in requests of up to 10,000 hashes of one type. If a request is retried, its
    matches may count twice in what survivors see.

    Args:
        signals: the queries. A `Hashed` that is too plain (`Hashed.plain`) matches nothing and is
            not sent.

    Returns:
        The hits of each query, in the order of `signals`. The service reports hits of at most 20
        files for a query, those with a `strong` hit first; `Hits.truncated` is set if there are
        more.

    Raises:
        ServiceError: the key is wrong, the response is about another number of hashes, or there is
            no response.
    """
    found = [Hits()] * len(signals)
    queries = {
        n: query for n, signal in enumerate(signals) if (query := _query(signal)) is not None
    }
    for type in SignalType:
        positions = [n for n, query in queries.items() if query.type is type]
        for batch in _batches(positions, wire.QUERIES_MAX):
            replies = yield from _match(session, type, [queries[n].value for n in batch])
            for n, hits in zip(batch, replies, strict=True):
                found[n] = hits
    return found


def _query(signal: Signal | Hashed) -> Signal | None:
    if isinstance(signal, Signal):
        return signal
    return None if signal.plain else signal.signal


def _match(session: Session, type: SignalType, values: Sequence[bytes]) -> Exchange[list[Hits]]:
    if type is SignalType.PDQ:
        body, content_type = b"".join(values), wire.OCTETS
        assert len(body) == len(values) * wire.PDQ_BYTES  # noqa: S101 - Signal checks its length
    else:
        query = wire.MatchQuery(type=type, values=tuple(value.hex() for value in values))
        body, content_type = to_json(query), "application/json"
    request = Request("POST", "/v1/match", body=body, content_type=content_type)
    reply = yield from session.call(request, wire.MatchReply)
    if len(reply.matches) != len(values):
        raise ProtocolError(
            f"The query had {len(values)} hashes, but the response is about {len(reply.matches)}. "
            "Report this to the operator of the clearinghouse."
        )
    return reply.hits


def feedback(
    session: Session, verdicts: Mapping[str, Verdict], *, idempotency_key: str | None = None
) -> Exchange[wire.FeedbackTaken]:
    """Report verdicts on matches; a later verdict on an id replaces the earlier one.

    Args:
        verdicts: verdicts by the ids that the feed or `match` returned.
        idempotency_key: the key of an earlier call with the same verdicts whose outcome is unknown,
            so that they are not recorded twice; a new key by default. It can be used only for up to
            1,000 verdicts, which fit one request.

    Returns:
        How many verdicts were recorded, and how many ids this platform never received.

    Raises:
        InvalidRequest: something is not an id, or there are too many verdicts for one key.
        ServiceError: the key is wrong, or there is no response.
    """
    check_ids(verdicts)
    if idempotency_key is not None and len(verdicts) > wire.VERDICTS_MAX:
        raise InvalidRequest(
            f"An idempotency key covers at most {wire.VERDICTS_MAX} verdicts. Send fewer at a time."
        )
    recorded = unknown = 0
    for batch in _batches(list(verdicts.items()), wire.VERDICTS_MAX):
        body = wire.Feedback(verdicts=tuple(wire.VerdictIn(id=id, verdict=v) for id, v in batch))
        request = Request(
            "POST",
            "/v1/feedback",
            body=to_json(body),
            idempotency_key=idempotency_key or new_idempotency_key(),
        )
        reply = yield from session.call(request, wire.FeedbackTaken)
        recorded += reply.recorded
        unknown += reply.unknown
    return wire.FeedbackTaken(recorded=recorded, unknown=unknown)


def check_ids(ids: Iterable[str]) -> None:
    """Check that all strings have the form of an id.

    Raises:
        InvalidRequest: one of them does not.
    """
    if not all(_ID.fullmatch(id) for id in ids):
        raise InvalidRequest(
            "An id has 32 lowercase hexadecimal digits. Pass it as the match or the feed returned "
            "it."
        )


def _batches(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


class PlatformClient(KeyedClient):
    """A platform's client; any number of threads may share one.

    Its methods are the calls of `nciihash.client.platform`, and return when the response is there:

        with PlatformClient("https://clearinghouse.example", key) as client:
            page = client.feed(cursor)
            [hits] = client.match([signal])
            client.feedback({hit.id: Verdict.BLOCKED for hit in hits})

    Args:
        server: the address, `https://HOST`; `http://` only for a service on this machine.
        key: the platform's key.
        retry: the retry policy after transient failures.
        http: an httpx transport to use instead of real connections.

    Raises:
        InvalidRequest: the address or the key is invalid.
    """

    veil = sync_method(veil)
    feed = sync_method(feed)
    acknowledge = sync_method(acknowledge)
    match = sync_method(match)
    feedback = sync_method(feedback)


class AsyncPlatformClient(AsyncKeyedClient):
    """A platform's client for asyncio; any number of tasks may share one.

    Calls, errors, retries and limits are those of `PlatformClient`. Each call is a coroutine and
    can be cancelled at any time; a cancelled write may have been carried out.

        async with AsyncPlatformClient("https://clearinghouse.example", key) as client:
            page = await client.feed(cursor)
            [hits] = await client.match([signal])
            await client.feedback({hit.id: Verdict.BLOCKED for hit in hits})

    Args:
        server: the address, `https://HOST`; `http://` only for a service on this machine.
        key: the platform's key.
        retry: the retry policy after transient failures.
        http: an httpx transport to use instead of real connections.

    Raises:
        InvalidRequest: the address or the key is invalid.
    """

    veil = async_method(veil)
    feed = async_method(feed)
    acknowledge = async_method(acknowledge)
    match = async_method(match)
    feedback = async_method(feedback)
