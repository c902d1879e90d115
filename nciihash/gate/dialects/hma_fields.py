"""The names, parameters and fields of Hasher-Matcher-Actioner's API."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request

from nciihash.errors import InvalidSignal
from nciihash.sdk.lookup import LookupResult
from nciihash.signals import Band, Match, Signal, SignalType
from nciihash.wire import Hit

# HMA's names of the types of signals.
SIGNAL_TYPES: Final = {"pdq": SignalType.PDQ, "video_md5": SignalType.MD5}
SIGNAL_NAMES: Final = {type: name for name, type in SIGNAL_TYPES.items()}

# HMA's types of content, with the type of signal that each of them has.
CONTENT_TYPES: Final = {"photo": "pdq", "video": "video_md5"}

_ID_BITS: Final = 53  # of the integers that a double has exactly, as JavaScript's numbers are
_OBJECT_BYTES: Final = 1 << 14
_TRUE: Final = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE: Final = frozenset({"0", "false", "f", "no", "n", "off"})


class HmaRefused(Exception):
    """A request that is answered with an error in HMA's form. It never repeats input.

    Attributes:
        status: of the response.
        message: its only field.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def content_id(item: str) -> int:
    """Return the integer that represents an item: 53 bits of the digest of its id.

    It never changes. Two of a million items have the same with a probability of 1 in 18,000.
    """
    digest = hashlib.blake2s(item.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - _ID_BITS)


def parse_signal(value: object, type_name: str | None) -> Signal:
    """Return the signal of a request.

    Raises:
        HmaRefused: it is not one.
    """
    if value is None or type_name is None:
        raise HmaRefused(400, "Either url or both signal and signal_type are required")
    type = SIGNAL_TYPES.get(type_name)
    if type is None:
        raise HmaRefused(400, "No such SignalType")
    try:
        return Signal.from_hex(type, value if isinstance(value, str) else "")
    except InvalidSignal as error:
        raise HmaRefused(400, f"invalid signal: {error}") from None


def parse_boolean(text: str) -> bool:
    """Return a parameter's boolean.

    Raises:
        HmaRefused: it is not one.
    """
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise HmaRefused(400, "invalid boolean parameter - prefer true/false")


def parse_types(text: str | None) -> frozenset[str]:
    """Return the names of a parameter that limits the types of signals; all for None.

    Raises:
        HmaRefused: one does not exist, or there is none.
    """
    if text is None:
        return frozenset(SIGNAL_TYPES)
    names = frozenset(name.strip() for name in text.split(",")) - {""}
    if not names:
        raise HmaRefused(400, "empty signal type selection")
    if names - SIGNAL_TYPES.keys():
        raise HmaRefused(400, "signal type doesn't exist or is disabled")
    return names


def nearest_items(result: LookupResult) -> dict[str, dict[str, int]]:
    """Return the distance of the nearest match of each item, by type of signal.

    A hit of a clearinghouse has no distance, and counts as the farthest of its band.
    """
    nearest: dict[str, dict[str, int]] = {}
    for type, match in result.found:
        items = nearest.setdefault(SIGNAL_NAMES.get(type, type.value), {})
        bits = _bits(type, match)
        items[match.item] = min(items.get(match.item, bits), bits)
    return nearest


def match_fields(items: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return matches as HMA's fields, the nearest first."""
    found = sorted((bits, content_id(item)) for item, bits in items.items())
    return [{"bank_content_id": number, "distance": str(bits)} for bits, number in found]


def bank_fields(name: str) -> dict[str, Any]:
    """Return a bank as HMA's fields."""
    return {"name": name, "matching_enabled_ratio": 1.0}


def _bits(type: SignalType, match: Match | Hit) -> int:
    if isinstance(match, Match):
        return match.distance if match.aligned is None else match.aligned
    return (type.threshold + 1) // 2 if match.band is Band.STRONG else type.threshold


async def read_object(request: Request) -> dict[str, Any]:
    """Read an object of JSON.

    Raises:
        HmaRefused: the body is something else, or too large.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _OBJECT_BYTES:
            raise HmaRefused(413, "The request is too large.")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise HmaRefused(400, "The request is not JSON.") from None
    if not isinstance(value, dict):
        raise HmaRefused(400, "Request input was not a dict")
    return value
