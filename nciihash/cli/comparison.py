"""Compare two pictures or videos, and check a copy against saved hashes of the original."""

import string
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from nciihash.cli.saved_hashes import read_saved
from nciihash.cli.submission.preparation import too_plain
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.errors import FileRefused, InvalidRequest, TooPlain
from nciihash.sandbox.pool import hash_files
from nciihash.signals import Band, Hashed, Item, Signal, SignalType, Variant, VariantSet, band
from nciihash.vpdq import Comparison, Share, compare, group_by_frame

_PDQ_DIGITS: Final = SignalType.PDQ.bits // 4
_THRESHOLD: Final = SignalType.PDQ.threshold
_MEANING: Final = {
    Band.STRONG: "A strong match: almost certainly copies of one picture.",
    Band.LIKELY: "A likely match: probably copies of one picture, one of them edited.",
    None: "No match: different pictures, or an edit that PDQ does not recognise.",
}


def compare_pair(terminal: Terminal, a: str, b: str, *, sandboxed: bool = True) -> ExitCode:
    """Compare two files or hashes, and print their distance and what it means.

    Args:
        terminal: where to print it.
        a: path of a picture or video, or a PDQ hash in hexadecimal digits.
        b: likewise.
        sandboxed: open files in the sandbox.

    Returns:
        `SOME_FAILED` if a file was refused, else `OK`.
    """
    # frames of the first video as dense as for matching: the two may be sampled at other times
    first = _hashes(terminal, a, VariantSet.MATCH, sandboxed=sandboxed)
    second = _hashes(terminal, b, VariantSet.NONE, sandboxed=sandboxed)
    if first is None or second is None:
        return ExitCode.SOME_FAILED
    pair = compare(group_by_frame(first), group_by_frame(second))
    if terminal.as_json:
        line: dict[str, object] = {
            "distance": pair.distance,
            "threshold": _THRESHOLD,
            "band": _band(pair),
            "qualities": None if _of_videos(pair) else [first[0].quality, second[0].quality],
        }
        terminal.line(line | _share_fields(pair))
    elif _of_videos(pair):
        terminal.show(
            f"{_share(pair.query, 'the first')} and {_share(pair.bank, 'the second')} match; the "
            f"smallest distance is {pair.distance} bits."
        )
    else:
        terminal.show(
            f"{pair.distance} of {SignalType.PDQ.bits} bits differ. {_MEANING[_band(pair)]}"
        )
        if first[0].plain or second[0].plain:
            terminal.show("One of them is so plain that this says little.")
    return ExitCode.OK


def _hashes(
    terminal: Terminal, text: str, variants: VariantSet, *, sandboxed: bool
) -> Sequence[Hashed] | None:
    """Return a hash that was given, or those of a file, untrimmed; None if the file is refused."""
    if len(text) == _PDQ_DIGITS and set(text) <= set(string.hexdigits) and not Path(text).exists():
        return [Hashed(Signal.from_hex(SignalType.PDQ, text))]
    item = _hash(terminal, text, variants, sandboxed=sandboxed)
    if item is None:
        return None
    return [hashed for hashed in item.hashes if hashed.variant is Variant.ORIGINAL]


def _hash(
    terminal: Terminal, file: str | Path, variants: VariantSet, *, sandboxed: bool
) -> Item | None:
    """Return the PDQ hashes of a file; None if it is refused, which is reported."""
    ((_, outcome),) = hash_files(
        [Path(file)], signals=[SignalType.PDQ], variants=variants.value, sandboxed=sandboxed
    )
    if isinstance(outcome, FileRefused):
        terminal.refuse(file, outcome)
        return None
    return outcome


def check_copy(
    terminal: Terminal, file: Path, against: Path, *, sandboxed: bool = True
) -> ExitCode:
    """Check whether a platform would recognise a copy, and print the result.

    Args:
        terminal: where to print it.
        file: the copy.
        against: a file of saved hashes of the original.
        sandboxed: open the copy in the sandbox.

    Returns:
        `SOME_FAILED` if the copy was refused, else `OK`.

    Raises:
        InvalidRequest: the saved hashes cannot be read, or none of them would be submitted.
    """
    original = _submitted_hashes(against)
    item = _hash(terminal, file, VariantSet.MATCH, sandboxed=sandboxed)
    if item is None:
        return ExitCode.SOME_FAILED
    plain = too_plain(item)
    pair = compare(group_by_frame(item.hashes), group_by_frame(original))
    if terminal.as_json:
        line: dict[str, object] = {
            "found": _band(pair) is not None,
            "distance": pair.distance,
            "variant": pair.variant,
            "band": _band(pair),
            "too_plain": plain is not None,
        }
        terminal.line(line | _share_fields(pair))
    else:
        terminal.show(_verdict(pair, plain))
    return ExitCode.OK


def _verdict(pair: Comparison, plain: TooPlain | None) -> str:
    """Return in words whether a copy would be found.

    Args:
        pair: the copy and the original.
        plain: why the copy cannot be submitted.
    """
    if plain is not None:
        return (
            f"This copy cannot be submitted. {plain} Its distance from the original is "
            f"{pair.distance} bits; a match differs by at most {_THRESHOLD}."
        )
    if _band(pair) is None:
        return (
            f"It would not be found: the smallest distance is {pair.distance} bits, and a match "
            f"differs by at most {_THRESHOLD}. Submit this copy as well."
        )
    if _of_videos(pair):
        return (
            f"It would be found: {_share(pair.query, 'this copy')} and "
            f"{_share(pair.bank, 'the original')} match."
        )
    return (
        f"It would be found: {pair.distance} bits differ from the hash of variant {pair.variant}."
    )


def _band(pair: Comparison) -> Band | None:
    """Return the band of a match; None if it is no match."""
    return band(SignalType.PDQ, pair.distance) if pair.distance <= _THRESHOLD else None


def _of_videos(pair: Comparison) -> bool:
    return pair.query.frames > 1 or pair.bank.frames > 1


def _share_fields(pair: Comparison) -> dict[str, object]:
    return {"query": asdict(pair.query), "bank": asdict(pair.bank)} if _of_videos(pair) else {}


def _share(share: Share, of: str) -> str:
    return f"{share.found:,} of the {share.frames:,} frames of {of} ({share.fraction:.0%})"


def _submitted_hashes(path: Path) -> list[Hashed]:
    """Return those PDQ hashes in a file of saved hashes that would be submitted.

    Raises:
        InvalidRequest: the file cannot be read, or has no such hash.
    """
    hashes = [hashed for item in read_saved(path) for hashed in item.hashes]
    fit = [h for h in hashes if h.signal.type is SignalType.PDQ and not h.plain]
    if not fit:
        raise InvalidRequest("The file given with --against holds no hash fit to be submitted.")
    return fit
