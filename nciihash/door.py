"""What the clients of all doors are made of."""

import re
from collections.abc import Sequence
from typing import Final, Self, TypeVar

import httpx
from pydantic import ValidationError

from nciihash import wire
from nciihash.errors import InvalidRequest, ServiceRefused
from nciihash.signals import Item
from nciihash.transport import PATIENCE, Outgoing, Patience, Transport
from nciihash.wire import Message

_KEY: Final = re.compile(r"[\x21-\x7e]{1,500}")

M = TypeVar("M", bound=Message)


class Door:
    """What all clients are made of."""

    def __init__(
        self,
        server: str,
        *,
        patience: Patience = PATIENCE,
        http: httpx.BaseTransport | None = None,
    ) -> None:
        self._transport = Transport(server, patience=patience, http=http)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._transport.server)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def unanswered(self) -> bool:
        """Tell whether a request has begun to leave in the last call and was not answered."""
        return self._transport.unanswered

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()


class KeyedDoor(Door):
    """A door that a key opens."""

    def __init__(
        self,
        server: str,
        key: str,
        *,
        patience: Patience = PATIENCE,
        http: httpx.BaseTransport | None = None,
    ) -> None:
        self._bearer = bearer(key)
        super().__init__(server, patience=patience, http=http)

    def _call(self, request: Outgoing, reply: type[M], *, status: int = 200) -> M:
        """Send a request, and say so where the key is refused."""
        try:
            return self._transport.call(request, status=status, reply=reply)
        except ServiceRefused as error:
            if error.status != 401:
                raise
            # The service tells nobody whether a key was ever one, and speaks of passphrases too.
            raise ServiceRefused(
                error.status,
                error.problem,
                "The clearinghouse does not accept this key",
                "It was mistyped or revoked, or has expired: check it, or ask the operator for a "
                "new one.",
            ) from None


def bearer(key: str) -> str:
    """Write a key as it is sent.

    Raises:
        InvalidRequest: it cannot be one.
    """
    key = key.strip()
    if not _KEY.fullmatch(key):
        raise InvalidRequest(
            "The key is empty or holds characters that no key has: copy it again, whole, as the "
            "clearinghouse gave it."
        )
    return f"Bearer {key}"


def encoded(message: Message) -> bytes:
    """Write a message as JSON."""
    return message.model_dump_json().encode()


def wire_items(items: Sequence[Item]) -> tuple[wire.ItemIn, ...]:
    """Write items down for the wire.

    Raises:
        InvalidRequest: none, more than 200, or more signals than an item may have.
    """
    if not 1 <= len(items) <= wire.ITEMS_MAX:
        raise InvalidRequest(f"A request holds 1 to {wire.ITEMS_MAX} files, not {len(items)}.")
    try:
        return tuple(wire.ItemIn.of(item) for item in items)
    except ValidationError:
        raise InvalidRequest(
            f"A file has 1 to {wire.SIGNALS_MAX} hashes, and PDQ ones come with their quality."
        ) from None
