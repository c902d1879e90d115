"""Validate the replies of the sandbox's child, which a malicious file may control."""

import math
from collections.abc import Sequence
from typing import Any, Final

from nciihash import errors
from nciihash.sandbox.pipe import RANGE_MAX
from nciihash.signals import Hashed, Item, Media, Signal, SignalType, Variant

_MESSAGE_MAX: Final = 500  # characters of an error message
_REFUSALS: Final = {
    kind.code: kind
    for kind in (
        *(errors.FileRefused, errors.NotAFile, errors.UnreadableFile, errors.EmptyFile),
        *(errors.UnsupportedFormat, errors.TooLarge, errors.CorruptFile, errors.TimedOut),
        *(errors.TooPlain, errors.ProgramFault),
    )
}


def parse_item(reply: dict[str, Any], requested: Sequence[SignalType]) -> Item:
    """Parse the child's final reply to a request for signals of the `requested` types.

    Raises:
        FileRefused: the child refused the file, or its reply is invalid.
        ValueError: the child refused the request.
    """
    invalid_request = ""
    try:
        match reply:
            case {"item": {"media": media, "hashes": list(hashes), **more}}:
                frames = more.get("frames", 1)
                parsed = tuple(_hashed(entry) for entry in hashes)
                if {hashed.signal.type for hashed in parsed} == set(requested) and (
                    isinstance(frames, int) and frames >= 1
                ):
                    every = _seconds(more.get("every", 0.0))
                    reduced, motion = (bool(more.get(n, False)) for n in ("reduced", "motion"))
                    return Item(Media(media), parsed, frames, every, reduced, motion)
            case {"refused": code, "message": str(message)} if code in _REFUSALS:
                # the message is printed to a terminal, so it must have no escape sequences
                if message.isprintable() and len(message) <= _MESSAGE_MAX:
                    raise _REFUSALS[code](message)
            case {"invalid": str(message)} if message.isprintable():
                invalid_request = message
    except (ValueError, TypeError, KeyError):
        pass
    if invalid_request:
        raise ValueError(invalid_request)
    raise invalid_reply()


def requested_range(reply: dict[str, Any], size: int) -> tuple[int, int]:
    """Parse a request for a range of a video of `size` bytes; return its start and length.

    Raises:
        ValueError: the range is invalid or outside of the file.
    """
    match reply:
        case {"read": [int(start), int(length)]}:
            if 0 <= start < size and 0 < length <= RANGE_MAX:
                return start, length
    raise ValueError("the range is outside of the file")


def invalid_reply() -> errors.CorruptFile:
    """Return the refusal of a file for which the child sent an invalid reply."""
    return errors.CorruptFile(
        "The process that decodes files returned an invalid reply for this file, so it was not "
        "hashed. Use another copy of the file, or export it as JPEG or PNG."
    )


def _hashed(entry: dict[str, Any]) -> Hashed:
    type = SignalType(entry["type"])
    quality = entry["quality"]
    if type is SignalType.PDQ and not (isinstance(quality, int) and 0 <= quality <= 100):
        raise ValueError
    return Hashed(
        Signal.from_hex(type, entry["value"]),
        quality=int(quality) if type is SignalType.PDQ else None,
        variant=Variant(entry["variant"]),
        tied=bool(entry["tied"]),
        time=None if entry["time"] is None else _seconds(entry["time"]),
    )


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, float | int) or not 0 <= value < math.inf:
        raise ValueError
    return float(value)
