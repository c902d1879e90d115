"""Dividing the files of a case among requests, and putting their receipts together.

A request holds at most 200 files and 1,024 hashes. A long video has up to 2,048 hashes: the first
ones are sent with the file, the others follow in requests of their own.
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
    """Files that go in one request."""

    items: tuple[wire.ItemIn, ...]


@dataclass(frozen=True, slots=True)
class MoreSignals:
    """Further hashes of one file, by its index in the list of files."""

    file: int
    body: wire.AddSignals


Part = NewFiles | MoreSignals


def divide(items: Sequence[Item]) -> tuple[NewFiles, list[Part]]:
    """Divide files among requests, in their order.

    Returns:
        The first request, and those that follow.

    Raises:
        InvalidRequest: no files, or one with no hash or more than 2,048.
    """
    if not items:
        raise InvalidRequest("Give one file at least.")
    parts: list[Part] = []
    batch: list[wire.ItemIn] = []
    room = wire.REQUEST_SIGNALS_MAX

    def flush() -> None:
        nonlocal batch, room
        if batch:
            parts.append(NewFiles(tuple(batch)))
        batch, room = [], wire.REQUEST_SIGNALS_MAX

    for file, item in enumerate(items):
        written = _written(item)
        count = len(written.signals)
        if count > room or len(batch) == wire.ITEMS_MAX:
            flush()
        if count <= wire.REQUEST_SIGNALS_MAX:
            batch.append(written)
            room -= count
            continue
        chunks = [
            written.signals[start : start + wire.REQUEST_SIGNALS_MAX]
            for start in range(0, count, wire.REQUEST_SIGNALS_MAX)
        ]
        parts.append(NewFiles((written.model_copy(update={"signals": chunks[0], "more": True}),)))
        for n, chunk in enumerate(chunks[1:], 1):
            after, last = n * wire.REQUEST_SIGNALS_MAX, n == len(chunks) - 1
            body = wire.AddSignals(after=after, signals=chunk, more=not last)
            parts.append(MoreSignals(file, body))
    flush()
    first = parts[0]
    assert isinstance(first, NewFiles)  # noqa: S101 - further hashes follow their file
    return first, parts[1:]


def _written(item: Item) -> wire.ItemIn:
    try:
        return wire.ItemIn.of(item)
    except ValidationError:
        raise InvalidRequest(
            f"A file has 1 to {wire.SIGNALS_MAX} hashes, and PDQ ones come with their quality."
        ) from None


def send_rest(
    receipt: Receipt,
    rest: Sequence[Part],
    key: str,
    add: Add,
    append: Append,
    sent: Callable[[Receipt], object],
) -> Receipt:
    """Send what follows the first request.

    Args:
        receipt: the answer to the first request.
        rest: what follows.
        key: the idempotency key of the first request; those of the others are derived from it, so
            that all of them can be repeated.
        add: sends new files, under an idempotency key.
        append: sends further hashes of the file with this number in the case.
        sent: called after each request with all that the case is known to hold.

    Returns:
        The receipts of all files.

    Raises:
        PartlySent: a request failed.
    """
    sent(receipt)
    for n, part in enumerate(rest, 1):
        derived = hashlib.sha256(f"{key} {n}".encode()).hexdigest()[:32]
        try:
            items, expires = _send(receipt.items, part, derived, add, append)
        except ServiceError as error:
            raise PartlySent(receipt) from error
        receipt = receipt.model_copy(update={"items": items, "expires": expires})
        sent(receipt)
    return receipt


def _send(
    receipts: tuple[wire.ItemReceipt, ...], part: Part, key: str, add: Add, append: Append
) -> tuple[tuple[wire.ItemReceipt, ...], datetime]:
    """Send one part; return the receipts with what became of it, and the expiry of the case."""
    if isinstance(part, NewFiles):
        added = add(part.items, key)
        return (*receipts, *added.items), added.expires
    before = receipts[part.file]
    more = append(before.item, part.body, key)
    return (*receipts[: part.file], _joined(before, part.body.after, more)), more.expires


def _joined(before: wire.ItemReceipt, after: int, more: wire.SignalsAdded) -> wire.ItemReceipt:
    refused = (wire.Refusal(signal=after + r.signal, code=r.code) for r in more.refused)
    return wire.ItemReceipt(
        item=before.item,
        accepted=before.accepted + more.accepted,
        refused=(*before.refused, *refused),
    )
