"""Split the files of a case into requests, and merge the receipts.

A request holds at most 200 files and 1,024 hashes. A long video has up to 2,048 hashes: the first
1,024 are sent with the file, the others in requests of their own.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from pydantic import ValidationError

from nciihash import wire
from nciihash.errors import InvalidRequest, PartlySent, ServiceError
from nciihash.signals import Item
from nciihash.wire.advocates import OpenedForOther

Receipt = TypeVar("Receipt", wire.CaseOpened, OpenedForOther, wire.ItemsAdded)
Add = Callable[[tuple[wire.ItemIn, ...], str], wire.ItemsAdded]
Append = Callable[[int, wire.AddSignals, str], wire.SignalsAdded]


@dataclass(frozen=True, slots=True)
class NewFiles:
    """The files of one request."""

    items: tuple[wire.ItemIn, ...]


@dataclass(frozen=True, slots=True)
class MoreSignals:
    """Further hashes of a file, for one request; `file` is its index in the list of files."""

    file: int
    body: wire.AddSignals


Part = NewFiles | MoreSignals


def split(items: Sequence[Item]) -> tuple[NewFiles, list[Part]]:
    """Split files into requests, in their order.

    Returns:
        The first request, and those that follow.

    Raises:
        InvalidRequest: no files, or one with no hash or more than 2,048.
    """
    if not items:
        raise InvalidRequest("There is no file to send. Pass at least one.")
    parts: list[Part] = []
    batch: list[wire.ItemIn] = []
    capacity = wire.REQUEST_SIGNALS_MAX

    def flush() -> None:
        nonlocal batch, capacity
        if batch:
            parts.append(NewFiles(tuple(batch)))
        batch, capacity = [], wire.REQUEST_SIGNALS_MAX

    for file, item in enumerate(items):
        message = _message(item)
        count = len(message.signals)
        if count > capacity or len(batch) == wire.ITEMS_MAX:
            flush()
        if count <= wire.REQUEST_SIGNALS_MAX:
            batch.append(message)
            capacity -= count
            continue
        chunks = [
            message.signals[start : start + wire.REQUEST_SIGNALS_MAX]
            for start in range(0, count, wire.REQUEST_SIGNALS_MAX)
        ]
        parts.append(NewFiles((message.model_copy(update={"signals": chunks[0], "more": True}),)))
        for n, chunk in enumerate(chunks[1:], 1):
            after, last = n * wire.REQUEST_SIGNALS_MAX, n == len(chunks) - 1
            body = wire.AddSignals(after=after, signals=chunk, more=not last)
            parts.append(MoreSignals(file, body))
    flush()
    first = parts[0]
    assert isinstance(first, NewFiles)  # noqa: S101 - further hashes follow their file
    return first, parts[1:]


def _message(item: Item) -> wire.ItemIn:
    try:
        return wire.ItemIn.of(item)
    except ValidationError:
        raise InvalidRequest(
            f"A file must have 1 to {wire.SIGNALS_MAX} hashes, and each PDQ hash its quality."
        ) from None


def send_rest(
    receipt: Receipt,
    rest: Sequence[Part],
    key: str,
    add: Add,
    append: Append,
    on_sent: Callable[[Receipt], object],
) -> Receipt:
    """Send the requests that follow the first one.

    Args:
        receipt: the response to the first request.
        rest: the other requests.
        key: the idempotency key of the first request. Those of the others are derived from it, so
            that all of them can be repeated.
        add: sends new files under an idempotency key.
        append: sends further hashes of a file, by its number in the case, under an idempotency key.
        on_sent: called after each request with the receipts of all files sent so far.

    Returns:
        The receipts of all files.

    Raises:
        PartlySent: a request failed.
    """
    on_sent(receipt)
    for n, part in enumerate(rest, 1):
        derived = hashlib.sha256(f"{key} {n}".encode()).hexdigest()[:32]
        try:
            items, expires = _send(receipt.items, part, derived, add, append)
        except ServiceError as error:
            raise PartlySent(receipt) from error
        receipt = receipt.model_copy(update={"items": items, "expires": expires})
        on_sent(receipt)
    return receipt


def _send(
    receipts: tuple[wire.ItemReceipt, ...], part: Part, key: str, add: Add, append: Append
) -> tuple[tuple[wire.ItemReceipt, ...], datetime]:
    """Send one part; return the updated receipts and the expiry of the case."""
    if isinstance(part, NewFiles):
        added = add(part.items, key)
        return (*receipts, *added.items), added.expires
    before = receipts[part.file]
    more = append(before.item, part.body, key)
    return (*receipts[: part.file], _merged(before, part.body.after, more)), more.expires


def _merged(before: wire.ItemReceipt, after: int, more: wire.SignalsAdded) -> wire.ItemReceipt:
    refused = (wire.Refusal(signal=after + r.signal, code=r.code) for r in more.refused)
    return wire.ItemReceipt(
        item=before.item,
        accepted=before.accepted + more.accepted,
        refused=(*before.refused, *refused),
    )
