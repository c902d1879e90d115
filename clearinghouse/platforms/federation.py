"""Import the hashes of another clearinghouse that serves the StopNCII API.

The StopNCII format sends no removals, so each round fetches the full list from the beginning: new
hashes are imported, and imported ones that the list no longer contains are withdrawn here. A fetch
that fails partway changes nothing.

Only `firstHand` records are requested, which excludes what the other clearinghouse imported itself.
Otherwise a hash could circulate among clearinghouses and survive its withdrawal at the source.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Final, Self, TypeVar

import httpx
from pydantic import Field, StrictBool, StrictInt, ValidationError

from clearinghouse.abuse.allowlist import AllowlistIndex
from clearinghouse.abuse.screening import retry_if_outdated
from clearinghouse.database.queries.contributions import IMPORTED
from clearinghouse.database.store import Store
from clearinghouse.errors import ClearinghouseError, ContributionsFull, SettingInvalid
from clearinghouse.http.foreign_replies import BoundedBody, ReplyTooLong
from clearinghouse.platforms.contributions import (
    Contribution,
    contribute,
    lookup_of,
    prepare,
    withdraw_contributions,
)
from clearinghouse.platforms.keys import find_or_add
from clearinghouse.platforms.stopncii import PAGE_MAX, START, Document, RecordStatus, RecordType
from clearinghouse.settings import Settings
from nciihash.client.address import server_address
from nciihash.errors import InvalidRequest, InvalidSignal
from nciihash.signals import Signal

REPLY_MAX: Final = 64 * 2**20  # bytes; a page of 10,000 records takes about 3 MB
_PAGES_MAX: Final = 10_000
_ATTEMPTS: Final = 4
_RETRYABLE: Final = frozenset({429, 500, 502, 503, 504})
_TIMEOUT: Final = 60.0  # seconds
_BATCH: Final = 500  # hashes per write transaction, so that other writers get their turn
_ENDED: Final = frozenset({RecordStatus.WITHDRAWN, RecordStatus.DELETED})

T = TypeVar("T")


class _Record(Document):
    """The fields of a record that are used. The others differ between servers."""

    signal_type: Annotated[str, Field(alias="signalType")]
    value: Annotated[str, Field(alias="hashValue")]
    status: Annotated[str, Field(alias="hashStatus")]


class _Page(Document):
    """The fields of a page that are used."""

    count: StrictInt
    next_page: Annotated[str | None, Field(alias="nextPageToken")] = None
    more: Annotated[StrictBool, Field(alias="hasMoreRecords")]
    records: Annotated[tuple[_Record, ...], Field(alias="hashRecords")] = ()


class FollowFailed(ClearinghouseError):
    """The other clearinghouse could not be fetched completely, or has too many hashes."""


@dataclass(frozen=True, slots=True)
class Source:
    """The address of another clearinghouse and this one's credentials there.

    Attributes:
        url: the base URL, to which `/FetchHashes` is appended; such as `https://HOST/stopncii/v1`.
        function_key: sent in the header `x-functions-key`.
        subscription_key: sent in the header `Ocp-Apim-Subscription-Key`.
    """

    url: str
    function_key: str = field(repr=False)
    subscription_key: str = field(repr=False)

    @classmethod
    def of(cls, url: str, key: str) -> Self:
        """Return the source at a base URL.

        Args:
            url: the base URL; https, or http on a loopback address.
            key: one key for both headers, or two as `FUNCTION,SUBSCRIPTION`.

        Raises:
            SettingInvalid: the URL or the key is malformed.
        """
        address = url.strip().rstrip("/")
        try:
            server_address(address)
        except InvalidRequest:
            raise SettingInvalid(
                "The address of the other clearinghouse must start with https:// and end before "
                "/FetchHashes. (http:// is allowed for localhost only.)"
            ) from None
        keys = [part.strip() for part in key.split(",")]
        if len(keys) > 2 or not all(k and k.isascii() and k.isprintable() for k in keys):
            raise SettingInvalid("Set one key, or two keys separated by a comma.")
        return cls(str(httpx.URL(address)), keys[0], keys[-1])


@dataclass(frozen=True, slots=True)
class Round:
    """The result of one round.

    Attributes:
        held: usable hashes that the other clearinghouse lists.
        passed_over: records that were skipped: of an unsupported type, withdrawn, or malformed.
        added: hashes imported. Excludes those that a survivor's case here contains already.
        removed: imported hashes that were withdrawn because they are no longer listed.
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
    """Fetch everything once; import new hashes and withdraw those no longer listed.

    Args:
        store: the database to import into.
        settings: `case_months` and `contributions_max` apply to the imported hashes.
        name: the platform to file the hashes under. Added without a key if it does not exist.
        source: the other clearinghouse.
        clock: returns the time.
        pause: sleeps for a number of seconds before a retry.

    Raises:
        FollowFailed: the list could not be fetched completely, and nothing was changed; or it has
            more than `contributions_max` hashes, and only some were imported.
    """
    fetched, skipped = _fetch_all(source, pause)
    lawful = AllowlistIndex()
    platform = find_or_add(store, name, clock())
    wanted = {lookup_of(store, contribution.signal): contribution for contribution in fetched}
    with store.read() as tx:
        case = tx.contributions.find(platform, IMPORTED)
        imported = {} if case is None else tx.cases.values(case)
    removed = added = 0
    # Removals first: a withdrawal must not wait, and they free capacity for the additions.
    for ended in _batches([lookup for lookup in imported if lookup not in wanted]):
        with store.write() as tx:
            removed += withdraw_contributions(tx, platform, IMPORTED, ended, now=clock())
    new = [contribution for lookup, contribution in wanted.items() if lookup not in imported]
    # At least one call, which renews the expiry of what was imported before.
    for batch in list(_batches(new)) or [()]:

        def file(batch: Sequence[Contribution] = batch) -> int:
            prepared = prepare(store, lawful, batch)
            with store.write() as tx:
                return contribute(
                    tx,
                    platform,
                    IMPORTED,
                    prepared,
                    months=settings.case_months,
                    most=settings.contributions_max,
                    now=clock(),
                )

        try:
            added += retry_if_outdated(file)
        except ContributionsFull:
            raise FollowFailed(
                f"The other clearinghouse has more than {settings.contributions_max:,} hashes, and "
                "only some were imported. Raise CLEARINGHOUSE_CONTRIBUTIONS_MAX to import all."
            ) from None
    return Round(len(fetched), skipped, added, removed)


def _fetch_all(source: Source, pause: Callable[[float], None]) -> tuple[set[Contribution], int]:
    """Fetch all records; return the usable hashes and the number of other records."""
    hashes: set[Contribution] = set()
    skipped = 0
    token: str | None = None
    headers = {
        "x-functions-key": source.function_key,
        "Ocp-Apim-Subscription-Key": source.subscription_key,
    }
    with httpx.Client(headers=headers, timeout=_TIMEOUT, follow_redirects=False) as http:
        for _ in range(_PAGES_MAX):
            page = _fetch(http, source.url, token, pause)
            for record in page.records:
                contribution = _read(record)
                if contribution is None:
                    skipped += 1
                elif record.status in _ENDED:
                    skipped += 1
                    hashes.discard(contribution)
                else:
                    hashes.add(contribution)
            if not page.more:
                return hashes, skipped
            if not page.next_page or page.next_page == token:
                raise FollowFailed(
                    "The other clearinghouse announced another page but sent no new token for it. "
                    "Nothing was changed; ask its operator."
                )
            token = page.next_page
    raise FollowFailed(
        f"The other clearinghouse sent {_PAGES_MAX:,} pages and no last one. Nothing was changed."
    )


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
        if status and status not in _RETRYABLE:
            break
        if attempt < _ATTEMPTS:
            pause(2.0**attempt / 2)
    outcome = f"answered with status {status}" if status else "could not be reached"
    raise FollowFailed(
        f"The other clearinghouse {outcome}. Nothing was changed. Check the address and the key, "
        "or try again later."
    )


def _get(http: httpx.Client, url: str, params: dict[str, str]) -> tuple[int, bytes]:
    body = BoundedBody(REPLY_MAX)
    try:
        with http.stream("GET", url, params=params) as response:
            for part in response.iter_bytes():
                body.add(part)
    except ReplyTooLong:
        raise FollowFailed(
            f"The other clearinghouse sent a page of more than {REPLY_MAX // 2**20} MiB. Nothing "
            "was changed; ask its operator."
        ) from None
    return response.status_code, bytes(body)


def _parse(body: bytes) -> _Page:
    try:
        page = _Page.model_validate_json(body)
        complete = page.count == len(page.records)
    except ValidationError:
        complete = False
    if not complete:
        raise FollowFailed(
            "The other clearinghouse's reply is not a complete page in the StopNCII format. "
            "Nothing was changed; check the address."
        )
    return page


def _batches(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(rows), _BATCH):
        yield rows[start : start + _BATCH]
