"""Validate the replies of the sandbox's child, which a malicious file may control."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from nciihash import errors
from nciihash.media.limits import PARTS_MAX
from nciihash.sandbox.pipe import RANGE_MAX
from nciihash.signals import Hashed, Item, Level, Media, PartKind, Signal, SignalType, Variant
from nciihash.window_tables import WHOLE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nciihash.windows import Part

_MESSAGE_MAX: Final = 500  # characters of an error message
_LUMA: Final = 128 * 128  # bytes of a part's pixels
_SHAPE_MAX: Final = 1e9  # of a part: above the most pixels in a line of any image
_REFUSALS: Final = {
    kind.code: kind
    for kind in (
        *(errors.FileRefused, errors.NotAFile, errors.UnreadableFile, errors.EmptyFile),
        *(errors.UnsupportedFormat, errors.TooLarge, errors.CorruptFile, errors.TimedOut),
        *(errors.TooPlain, errors.ProgramFault),
    )
}


def luma_size(reply: dict[str, Any], level: Level | None) -> int:
    """Return the number of bytes of pixels that follow the child's final reply.

    Args:
        reply: the reply.
        level: the level of the request.

    Raises:
        ValueError: there are more parts than an item can have, or there should be none.
    """
    match reply:
        case {"item": {"parts": list(parts)}} if parts:
            if level is None or len(parts) > PARTS_MAX:
                raise ValueError("more parts than requested")
            return len(parts) * _LUMA
    return 0


def parse_item(
    reply: dict[str, Any],
    requested: Sequence[SignalType],
    level: Level | None = None,
    luma: bytes = b"",
) -> Item:
    """Parse the child's final reply to a request.

    Args:
        reply: the reply.
        requested: the types of signals that were requested.
        level: the level of the request.
        luma: the pixels that followed the reply, `luma_size` bytes.

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
                    parts = _parts(more.get("parts", []), level, luma)
                    return Item(Media(media), parsed, frames, every, reduced, motion, parts)
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
        distinctive=_flag(entry.get("distinctive")),
    )


def _parts(entries: object, level: Level | None, luma: bytes) -> tuple["Part", ...]:
    if not isinstance(entries, list) or len(luma) != len(entries) * _LUMA:
        raise ValueError
    if level is None or len(entries) > PARTS_MAX:
        if entries:
            raise ValueError
        return ()
    # imported here because NumPy takes 0.1 s to load
    import numpy as np

    from nciihash.windows import CELLS

    pixels = np.frombuffer(luma, np.uint8).reshape(-1, CELLS, CELLS)
    parts = tuple(_part(entry, cells) for entry, cells in zip(entries, pixels, strict=True))
    if not parts or parts[0].kind != "whole":
        raise ValueError
    return parts


def _part(entry: dict[str, Any], luma: "NDArray[np.uint8]") -> "Part":
    from nciihash.windows import Part

    kind = PartKind(entry["kind"])
    left, top, right, bottom = box = tuple(_number(side, 0, 1) for side in entry["box"])
    angle = _number(entry["angle"], -360, 360)
    if not (left < right and top < bottom):
        raise ValueError
    if kind in {PartKind.WHOLE, PartKind.ROTATED} and box != WHOLE:
        raise ValueError
    if kind is not PartKind.ROTATED and angle:
        raise ValueError
    return Part(
        kind,
        luma,
        (left, top, right, bottom),
        angle,
        _number(entry["shape"], 1 / _SHAPE_MAX, _SHAPE_MAX),
        None if entry["time"] is None else _seconds(entry["time"]),
    )


def _flag(value: object) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise ValueError
    return value


def _number(value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, float | int) or not low <= value <= high:
        raise ValueError
    return float(value)


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, float | int) or not 0 <= value < math.inf:
        raise ValueError
    return float(value)
