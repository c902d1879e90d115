"""Idempotent writes: a retried request is executed once, and gets the same reply for a day.

The idempotency key is stored as an HMAC, and the reply sealed under a key derived from it, so that
the database contains neither. The reply is saved in the transaction that it reports, so that
neither exists without the other.
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
    """An attempt of a write.

    Attributes:
        key: its idempotency key.
        lookup: HMAC of the key, the caller and the path.
        body: HMAC of the body.
    """

    key: bytes
    lookup: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to a write: its status and its JSON."""

    status: int
    body: bytes

    @classmethod
    def of(cls, status: int, message: Message) -> "Reply":
        """Serialize a message."""
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
    return Attempt(key, lookup, _digest(store, key, body))


def with_body(store: Store, attempt: Attempt, body: bytes) -> Attempt:
    """Return the attempt with another body, such as one without the proof of work."""
    return replace(attempt, body=_digest(store, attempt.key, body))


def _digest(store: Store, key: bytes, body: bytes) -> bytes:
    return store.vault.lookup("body", key + body)


def find_reply(store: Store, attempt: Attempt) -> Reply | None:
    """Return the reply to an earlier attempt of the same request, if there was one.

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
    """Run `act` in a write transaction, or return the reply to an earlier attempt.

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
