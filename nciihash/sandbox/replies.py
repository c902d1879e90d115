"""Read what the sandbox's child says, trusting nothing in it."""

import math
from collections.abc import Sequence
from typing import Any, Final

from nciihash import errors
from nciihash.sandbox.pipe import PIECE
from nciihash.signals import Hashed, Item, Media, Signal, SignalType, Variant

_SENTENCE_MAX: Final = 500  # characters of a reason
_REFUSALS: Final = {
    kind.code: kind
    for kind in (
        *(errors.FileRefused, errors.NotAFile, errors.UnreadableFile, errors.EmptyFile),
        *(errors.UnsupportedFormat, errors.TooLarge, errors.CorruptFile, errors.TimedOut),
        *(errors.TooPlain, errors.ProgramFault),
    )
}


def understood(reply: dict[str, Any], asked: Sequence[SignalType]) -> Item:
    """Read the child's answer, trusting nothing in it.

    Raises:
        FileRefused: the child refused the file, or its answer is not one.
        ValueError: the child refused the request.
    """
    invalid = ""
    try:
        match reply:
            case {"item": {"media": media, "hashes": list(hashes), **more}}:
                frames = more.get("frames", 1)
                told = tuple(_hashed(entry) for entry in hashes)
                if {hashed.signal.type for hashed in told} == set(asked) and (
                    isinstance(frames, int) and frames >= 1
                ):
                    every = _seconds(more.get("every", 0.0))
                    marks = (bool(more.get(mark, False)) for mark in ("reduced", "motion"))
                    return Item(Media(media), told, frames, every, *marks)
            case {"refused": code, "message": str(message)} if code in _REFUSALS:
                # what a person reads in a terminal must not be able to command it
                if message.isprintable() and len(message) <= _SENTENCE_MAX:
                    raise _REFUSALS[code](message)
            case {"invalid": str(message)} if message.isprintable():
                invalid = message
    except (ValueError, TypeError, KeyError):
        pass
    if invalid:
        raise ValueError(invalid)
    raise nonsense()


def piece(reply: dict[str, Any], size: int) -> tuple[int, int]:
    """Read which piece of a video of `size` bytes the child asks for: start and length.

    Raises:
        ValueError: none that there is.
    """
    match reply:
        case {"read": [int(start), int(length)]}:
            if 0 <= start < size and 0 < length <= PIECE:
                return start, length
    raise ValueError("no piece of the file")


def nonsense() -> errors.CorruptFile:
    """Make the refusal of a file about which the child has said what is no answer."""
    return errors.CorruptFile(
        "The process that decodes files answered nonsense about this one, so it was not hashed. "
        "Use another copy, or export it anew as JPEG or PNG."
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
