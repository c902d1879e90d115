"""Follow another clearinghouse that speaks the StopNCII format, so that two can share their hashes.

Each round fetches everything that the other side holds, from the beginning, since this format sends
no removals: what is new is imported, and what the whole no longer holds is withdrawn here. A fetch
that fails in the middle changes nothing, however much of it had arrived.

We ask for `firstHand` records alone: what the other side imported itself stays out, so that no hash
goes round in a circle of clearinghouses and outlives its withdrawal there.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Final, Self, TypeVar

import httpx
from pydantic import Field, StrictBool, StrictInt, ValidationError

from clearinghouse.abuse.allowlist import LawfulList
from clearinghouse.abuse.screening import screened
from clearinghouse.database.queries.contributions import IMPORTED
from clearinghouse.database.store import Store
from clearinghouse.errors import ClearinghouseError, ContributionsFull, SettingInvalid
from clearinghouse.http.foreign_replies import BoundedBody, ReplyTooLong
from clearinghouse.platforms.contributions import (
    Contribution,
    contribute,
    lookup_of,
    make_ready,
    take_back,
)
from clearinghouse.platforms.keys import find_or_add
from clearinghouse.platforms.stopncii import PAGE_MAX, START, Document, RecordStatus, RecordType
from clearinghouse.settings import Settings
from nciihash.client.address import server_address
from nciihash.errors import InvalidRequest, InvalidSignal
from nciihash.signals import Signal

REPLY_MAX: Final = 64 * 2**20  # bytes; a page of ten thousand records has about 3 MB
_PAGES_MAX: Final = 10_000
_ATTEMPTS: Final = 4
_PASSING: Final = frozenset({429, 500, 502, 503, 504})
_TIMEOUT: Final = 60.0  # seconds
_BATCH: Final = (
    500  # hashes filed or withdrawn in one transaction, so that writers between are not kept
)
_GONE: Final = frozenset({RecordStatus.WITHDRAWN, RecordStatus.DELETED})

T = TypeVar("T")


class _Record(Document):
    """What we use of a record. Other members differ between servers."""

    signal_type: Annotated[str, Field(alias="signalType")]
    value: Annotated[str, Field(alias="hashValue")]
    status: Annotated[str, Field(alias="hashStatus")]


class _Page(Document):
    """What we use of a page."""

    count: StrictInt
    next_page: Annotated[str | None, Field(alias="nextPageToken")] = None
    more: Annotated[StrictBool, Field(alias="hasMoreRecords")]
    records: Annotated[tuple[_Record, ...], Field(alias="hashRecords")] = ()


class FollowFailed(ClearinghouseError):
    """The other clearinghouse could not be read to its end, or holds too much: the message says."""


@dataclass(frozen=True, slots=True)
class Source:
    """Another clearinghouse, and our keys there.

    Attributes:
        url: what `/FetchHashes` is added to, such as `https://HOST/stopncii/v1`.
        function_key: for the header `x-functions-key`.
        subscription_key: for the header `Ocp-Apim-Subscription-Key`.
    """

    url: str
    function_key: str = field(repr=False)
    subscription_key: str = field(repr=False)

    @classmethod
    def of(cls, url: str, key: str) -> Self:
        """Read an address and a key, or two keys as `FUNCTION,SUBSCRIPTION`.

        Raises:
            SettingInvalid: either cannot be right.
        """
        address = url.strip().rstrip("/")
        try:
            server_address(address)
        except InvalidRequest:
            raise SettingInvalid(
                "The address of the other clearinghouse begins with https:// and ends before "
                "/FetchHashes. (http:// is for this machine alone.)"
            ) from None
        keys = [part.strip() for part in key.split(",")]
        if len(keys) > 2 or not all(k and k.isascii() and k.isprintable() for k in keys):
            raise SettingInvalid("The key is one key, or two with a comma between them.")
        return cls(str(httpx.URL(address)), keys[0], keys[-1])


@dataclass(frozen=True, slots=True)
class Round:
    """What one round found and changed.

    `held`: hashes of the other side that we can use. `passed_over`: records of kinds that we have
    no use for, or withdrawn, or damaged. `added` leaves out what a survivor's case holds here.
    """

    held: int
    passed_over: int
    added: int
    removed: int


def follow(
    store: Store,
    settings: Settings,
    name: str,
    source: Source,
    *,
    clock: Callable[[], datetime],
    pause: Callable[[float], None] = time.sleep,
) -> Round:
    """Make one round.

    Args:
        store: where hashes are imported.
        settings: for their bounds.
        name: under which platform they are filed; it is added, without a key, if it is new.
        source: where they come from.
        clock: the time.
        pause: waits some seconds before another attempt.

    Raises:
        FollowFailed: the other side could not be read to its end, and nothing was changed; or it
            holds more than `contributions_max`, and a part of it was imported.
    """
    held, passed_over = _fetch_all(source, pause)
    lawful = LawfulList()
    platform = find_or_add(store, name, clock())
    wanted = {lookup_of(store, hash.signal): hash for hash in held}
    with store.read() as tx:
        case = tx.contributions.find(platform, IMPORTED)
        there = {} if case is None else tx.cases.values(case)
    removed = added = 0
    # First what is gone, so that its place is free, and since a withdrawal is never kept waiting.
    for gone in _batches([lookup for lookup in there if lookup not in wanted]):
        with store.write() as tx:
            removed += take_back(tx, platform, IMPORTED, gone, now=clock())
    new = [hash for lookup, hash in wanted.items() if lookup not in there]
    # Once at least, for that renews what is there.
    for batch in list(_batches(new)) or [()]:

        def file(batch: Sequence[Contribution] = batch) -> int:
            ready = make_ready(store, lawful, batch)
            with store.write() as tx:
                return contribute(
                    tx,
                    platform,
                    IMPORTED,
                    ready,
                    months=settings.case_months,
                    most=settings.contributions_max,
                    now=clock(),
                )

        try:
            added += screened(file)
        except ContributionsFull:
            raise FollowFailed(
                f"The other clearinghouse holds more than {settings.contributions_max:,} hashes, "
                "and a part of them was imported. CLEARINGHOUSE_CONTRIBUTIONS_MAX allows more."
            ) from None
    return Round(len(held), passed_over, added, removed)


def _fetch_all(source: Source, pause: Callable[[float], None]) -> tuple[set[Contribution], int]:
    """Fetch every record from the beginning; give the usable hashes and count the others."""
    held: set[Contribution] = set()
    passed_over = 0
    token: str | None = None
    headers = {
        "x-functions-key": source.function_key,
        "Ocp-Apim-Subscription-Key": source.subscription_key,
    }
    with httpx.Client(headers=headers, timeout=_TIMEOUT, follow_redirects=False) as http:
        for _ in range(_PAGES_MAX):
            page = _fetch(http, source.url, token, pause)
            for record in page.records:
                hash = _read(record)
                if hash is None:
                    passed_over += 1
                elif record.status in _GONE:
                    passed_over += 1
                    held.discard(hash)
                else:
                    held.add(hash)
            if not page.more:
                return held, passed_over
            if not page.next_page or page.next_page == token:
                raise FollowFailed(
                    "The other clearinghouse says that there is more and not where. Nothing was "
                    "changed; ask its operator."
                )
            token = page.next_page
    raise FollowFailed("The other clearinghouse has no last page. Nothing was changed.")


def _read(record: _Record) -> Contribution | None:
    try:
        kind = RecordType(record.signal_type)
        return Contribution(kind.media, Signal.from_hex(kind.signal, record.value))
    except (ValueError, InvalidSignal):
        return None


def _fetch(
    http: httpx.Client, url: str, token: str | None, pause: Callable[[float], None]
) -> _Page:
    params = {"startTimestamp": str(START), "pageSize": str(PAGE_MAX), "firstHand": "true"}
    if token is not None:
        params["nextPageToken"] = token
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            status, body = _get(http, f"{url}/FetchHashes", params)
        except httpx.HTTPError:
            status, body = 0, b""
        if status == 200:
            return _parse(body)
        if status and status not in _PASSING:
            break
        if attempt < _ATTEMPTS:
            pause(2.0**attempt / 2)
    answer = f"answered with status {status}" if status else "could not be reached"
    raise FollowFailed(
        f"The other clearinghouse {answer}. Nothing was changed; check the address and the key, or "
        "try again later."
    )


def _get(http: httpx.Client, url: str, params: dict[str, str]) -> tuple[int, bytes]:
    body = BoundedBody(REPLY_MAX)
    try:
        with http.stream("GET", url, params=params) as reply:
            for part in reply.iter_bytes():
                body.add(part)
    except ReplyTooLong:
        raise FollowFailed("The other clearinghouse sends pages without end.") from None
    return reply.status_code, bytes(body)


def _parse(body: bytes) -> _Page:
    try:
        page = _Page.model_validate_json(body)
        whole = page.count == len(page.records)
    except ValidationError:
        whole = False
    if not whole:
        raise FollowFailed(
            "The other clearinghouse sent something else than a whole page of the StopNCII format. "
            "Nothing was changed; check the address."
        )
    return page


def _batches(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(rows), _BATCH):
        yield rows[start : start + _BATCH]
