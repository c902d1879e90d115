"""What a platform asks of a clearinghouse: each call once, for clients that wait and that await.

A call is written as a talk (`nciihash.client.sans_io.Exchange`): it says what to send and how the
answer is read, and knows nothing of threads or of asyncio. `PlatformClient` and
`AsyncPlatformClient` make a method of each.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from pydantic import ValidationError

from nciihash import wire
from nciihash.client.base import (
    AsyncKeyedClient,
    KeyedClient,
    KeyHolder,
    answered,
    awaited,
    encoded,
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


def veil(by: KeyHolder) -> Exchange[Veil]:
    """Ask how the veiled list of this platform is made.

    Raises:
        ServiceError: a wrong key, or no answer.
    """
    return (yield from by.ask(Request("GET", "/v1/veil"), VeilReply)).veil


def feed(
    by: KeyHolder,
    cursor: str | None = None,
    *,
    limit: int = 1_000,
    wait: float = 0.0,
    veil: bool = False,
) -> Exchange[FeedPage]:
    """Read the next page of the feed.

    Args:
        cursor: that of the last page; None for the beginning.
        limit: entries in the page, at most 10,000.
        wait: seconds, at most 30, that the service may wait when nothing is new.
        veil: only a part of each hash, although the key opens the whole feed.

    Raises:
        CursorExpired: fetch the feed from its beginning into a new bank.
        ProtocolError: the page promises more and leads nowhere, or is not a page.
        ServiceError: a wrong key, or no answer.
    """
    if not 1 <= limit <= wire.PAGE_MAX or not 0 <= wait <= wire.WAIT_MAX:
        raise InvalidRequest(
            f"A page has 1 to {wire.PAGE_MAX} entries, and a request waits 0 to "
            f"{wire.WAIT_MAX:.0f} seconds."
        )
    params = {"limit": str(limit), "wait": f"{wait:.3f}"}
    if cursor is not None:
        params["cursor"] = cursor
    if veil:
        params["veil"] = "true"
    request = Request("GET", "/v1/feed", params=params, wait=wait)
    page = (yield from by.ask(request, wire.FeedReply)).page
    if page.more and page.cursor == cursor:
        raise ProtocolError(
            "The feed says that there is more, and leads back to the same place. Ask the "
            "operator of the clearinghouse."
        )
    return page


def acknowledge(by: KeyHolder, cursor: str) -> Exchange[None]:
    """Confirm that all up to `cursor` is on disk and in what is matched against.

    Call it only when that is so, removals included: survivors are told.

    Raises:
        CursorExpired: the cursor is of another epoch of the log.
        ServiceError: a wrong key, or no answer.
    """
    try:
        body = wire.Acknowledgement(cursor=cursor)
    except ValidationError:
        raise InvalidRequest("A cursor is what a page of the feed ended with, unchanged.") from None
    request = Request(
        "POST", "/v1/feed/ack", body=encoded(body), idempotency_key=new_idempotency_key()
    )
    yield from by.ask(request, wire.Acknowledgement)


def match(by: KeyHolder, signals: Sequence[Signal | Hashed]) -> Exchange[list[Hits]]:
    """Look for hashes, of any types and any number, in the service's bank.

    They are sent in requests of up to 10,000 hashes of one type. A repeated request may be
    counted twice among the matches that a survivor sees.

    Args:
        signals: what to look for. A `Hashed` whose picture is too plain (`Hashed.plain`) matches
            nothing, and is not sent.

    Returns:
        The hits of each signal, in the order of `signals`. `Hits.truncated` says that there are
        more: hits are told of at most 20 files, those with a `strong` one first.

    Raises:
        ServiceError: a wrong key, an answer for another number of hashes, or no answer.
    """
    found = [Hits()] * len(signals)
    asked = {n: signal for n, given in enumerate(signals) if (signal := _sent(given)) is not None}
    for type in SignalType:
        places = [n for n, signal in asked.items() if signal.type is type]
        for batch in _batches(places, wire.QUERIES_MAX):
            hits = yield from _match(by, type, [asked[n].value for n in batch])
            for place, hit in zip(batch, hits, strict=True):
                found[place] = hit
    return found


def _sent(given: Signal | Hashed) -> Signal | None:
    if isinstance(given, Signal):
        return given
    return None if given.plain else given.signal


def _match(by: KeyHolder, type: SignalType, values: Sequence[bytes]) -> Exchange[list[Hits]]:
    if type is SignalType.PDQ:
        body, content_type = b"".join(values), wire.OCTETS
        assert len(body) == len(values) * wire.PDQ_BYTES  # noqa: S101 - Signal checks its length
    else:
        query = wire.MatchQuery(type=type, values=tuple(value.hex() for value in values))
        body, content_type = encoded(query), "application/json"
    request = Request("POST", "/v1/match", body=body, content_type=content_type)
    reply = yield from by.ask(request, wire.MatchReply)
    if len(reply.matches) != len(values):
        raise ProtocolError(
            f"{len(values)} hashes were looked for, and {len(reply.matches)} were answered. "
            "Ask the operator of the clearinghouse."
        )
    return reply.hits


def feedback(
    by: KeyHolder, verdicts: Mapping[str, Verdict], *, idempotency_key: str | None = None
) -> Exchange[wire.FeedbackTaken]:
    """Say what was decided about matches; a later verdict on an id replaces the earlier.

    Args:
        verdicts: by the ids that the feed or `match` gave.
        idempotency_key: that of an earlier call with the same verdicts whose outcome is unknown, so
            that they are not taken a second time; a new one by default. Only for up to 1,000
            verdicts, which travel in one request.

    Returns:
        How many were recorded, and how many ids this platform was never given.

    Raises:
        InvalidRequest: something is not an id, or too many go with one key.
        ServiceError: a wrong key, or no answer.
    """
    check_ids(verdicts)
    if idempotency_key is not None and len(verdicts) > wire.VERDICTS_MAX:
        raise InvalidRequest(f"One key goes with {wire.VERDICTS_MAX} verdicts at most.")
    recorded = unknown = 0
    for batch in _batches(list(verdicts.items()), wire.VERDICTS_MAX):
        body = wire.Feedback(verdicts=tuple(wire.VerdictIn(id=id, verdict=v) for id, v in batch))
        request = Request(
            "POST",
            "/v1/feedback",
            body=encoded(body),
            idempotency_key=idempotency_key or new_idempotency_key(),
        )
        taken = yield from by.ask(request, wire.FeedbackTaken)
        recorded += taken.recorded
        unknown += taken.unknown
    return wire.FeedbackTaken(recorded=recorded, unknown=unknown)


def check_ids(ids: Iterable[str]) -> None:
    """Make sure that verdicts are about ids.

    Raises:
        InvalidRequest: something is not one.
    """
    if not all(_ID.fullmatch(id) for id in ids):
        raise InvalidRequest("An id has 32 hexadecimal digits, as the matches show it.")


def _batches(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


class PlatformClient(KeyedClient):
    """What a platform asks of a clearinghouse; any number of threads may use one.

    The calls are those of `nciihash.client.platform`, as methods that return when they have their
    answer:

        with PlatformClient("https://clearinghouse.example", key) as client:
            page = client.feed(cursor)
            [hits] = client.match([signal])
            client.feedback({hit.id: Verdict.BLOCKED for hit in hits})

    Args:
        server: the address, `https://HOST`; `http://` on this machine alone.
        key: the platform's key.
        retry: how often and how long to try again after a passing fault.
        http: what carries the requests, instead of real connections.

    Raises:
        InvalidRequest: the address or the key cannot be right.
    """

    veil = answered(veil)
    feed = answered(feed)
    acknowledge = answered(acknowledge)
    match = answered(match)
    feedback = answered(feedback)


class AsyncPlatformClient(AsyncKeyedClient):
    """What a platform asks of a clearinghouse, from asyncio; any number of tasks may use one.

    The calls, errors, attempts and limits are those of `PlatformClient`; each call is awaited, and
    may be cancelled at any moment. A write that was cancelled may have been carried out.

        async with AsyncPlatformClient("https://clearinghouse.example", key) as client:
            page = await client.feed(cursor)
            [hits] = await client.match([signal])
            await client.feedback({hit.id: Verdict.BLOCKED for hit in hits})

    Args:
        server: the address, `https://HOST`; `http://` on this machine alone.
        key: the platform's key.
        retry: how often and how long to try again after a passing fault.
        http: what carries the requests, instead of real connections.

    Raises:
        InvalidRequest: the address or the key cannot be right.
    """

    veil = awaited(veil)
    feed = awaited(feed)
    acknowledge = awaited(acknowledge)
    match = awaited(match)
    feedback = awaited(feedback)
