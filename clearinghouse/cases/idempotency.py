"""A write that is sent twice happens once, and its answer can be read again for a day.

The key is kept as an HMAC, and the answer sealed under a key derived from it, so that the database
holds neither. The answer is stored in the transaction that it reports, so that there is no moment
at which one exists without the other.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from clearinghouse.database.store import Store
from clearinghouse.database.transaction import Transaction
from clearinghouse.errors import BadIdempotencyKey, IdempotencyConflict
from clearinghouse.sealing.vault import ReplyVault
from clearinghouse.times import hour
from nciihash.wire import Message

_KEY: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sending of a write: its key, its caller and address, its body."""

    key: bytes
    lookup: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a write: its status and its JSON."""

    status: int
    body: bytes

    @classmethod
    def of(cls, status: int, message: Message) -> "Reply":
        """Write a message down."""
        return cls(status, message.model_dump_json().encode())


def read_attempt(
    store: Store, header: str | None, caller: str, address: str, body: bytes
) -> Attempt | None:
    """Read the `Idempotency-Key` header; None where there is none.

    Raises:
        BadIdempotencyKey: it is not 32 hexadecimal digits.
    """
    if header is None:
        return None
    if not _KEY.fullmatch(header):
        raise BadIdempotencyKey
    key = bytes.fromhex(header)
    lookup = store.vault.lookup("attempt", b"\0".join((key, caller.encode(), address.encode())))
    return Attempt(key, lookup, _mark(store, key, body))


def about(store: Store, attempt: Attempt, body: bytes) -> Attempt:
    """Let another body stand for the one that was sent, such as one without its proof of work."""
    return replace(attempt, body=_mark(store, attempt.key, body))


def _mark(store: Store, key: bytes, body: bytes) -> bytes:
    return store.vault.lookup("body", key + body)


def earlier(store: Store, attempt: Attempt) -> Reply | None:
    """Give the answer of an earlier sending, before anything is asked of this one.

    Raises:
        IdempotencyConflict: the key was used with another body.
    """
    with store.read() as tx:
        return _found(tx, attempt)


def _found(tx: Transaction, attempt: Attempt) -> Reply | None:
    row = tx.replies.find(attempt.lookup)
    if row is None:
        return None
    if row.body != attempt.body:
        raise IdempotencyConflict
    return Reply(row.status, ReplyVault(attempt.key).open(row.reply))


def once(
    store: Store, attempt: Attempt | None, now: datetime, act: Callable[[Transaction], Reply]
) -> Reply:
    """Run `act` in a write transaction, or give the answer of an earlier sending.

    Raises:
        IdempotencyConflict: the key was used with another body.
    """
    with store.write() as tx:
        if attempt is None:
            return act(tx)
        if (found := _found(tx, attempt)) is not None:
            return found
        reply = act(tx)
        sealed = ReplyVault(attempt.key).seal(reply.body)
        tx.replies.add(attempt.lookup, attempt.body, reply.status, sealed, hour(now))
        return reply
