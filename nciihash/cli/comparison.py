"""Compare two pictures or videos, and check a copy against saved hashes of the original."""

import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from nciihash.cli.saved_hashes import read_saved
from nciihash.cli.submission.preparation import too_plain
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.errors import FileRefused, InvalidRequest, TooPlain
from nciihash.sandbox.pool import hash_files
from nciihash.sdk.match_fields import edit_fields
from nciihash.signals import (
    Band,
    Hashed,
    Item,
    Level,
    Match,
    Media,
    Signal,
    SignalType,
    Variant,
    VariantSet,
    band,
)
from nciihash.vpdq import Comparison, Share, compare, group_by_frame

_PDQ_DIGITS: Final = SignalType.PDQ.bits // 4
_THRESHOLD: Final = SignalType.PDQ.threshold
_MEANING: Final = {
    Band.STRONG: "A strong match: almost certainly copies of one picture.",
    Band.LIKELY: "A likely match: probably copies of one picture, one of them edited.",
    None: "No match: different pictures, or an edit that PDQ does not recognise.",
}
_WHO_FINDS_PARTS: Final = (
    "Only platforms that match whole hashes with this program find it; others compare only the "
    "whole picture. A person looks at such a match before anything is blocked."
)
_MOSTLY_PLAIN: Final = (
    "It has so little detail that others resemble it, so a person looks at such a match before "
    "anything is blocked."
)


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
    part = None if _band(pair) else _part_match(terminal, a, b, sandboxed=sandboxed)
    if terminal.as_json:
        line: dict[str, object] = {
            "distance": pair.distance,
            "threshold": _THRESHOLD,
            "band": _band(pair),
            "qualities": None if _of_videos(pair) else [first[0].quality, second[0].quality],
        }
        terminal.line(line | _share_fields(pair) | ({} if part is None else edit_fields(part)))
    elif _of_videos(pair):
        terminal.show(
            f"{_share(pair.query, 'the first')} and {_share(pair.bank, 'the second')} match; the "
            f"smallest distance is {pair.distance} bits."
        )
    else:
        meaning = _MEANING[_band(pair)]
        if part is not None and part.edit is not None:
            meaning = f"But the second is an edited copy of the first: {part.edit}."
        terminal.show(f"{pair.distance} of {SignalType.PDQ.bits} bits differ. {meaning}")
        if first[0].plain or second[0].plain:
            terminal.show("One of them is so plain that this says little.")
    return ExitCode.OK


def _part_match(terminal: Terminal, a: str, b: str, *, sandboxed: bool) -> Match | None:
    """Return the match of the second picture with the first one, if it shows a part of it."""
    if not (Path(a).exists() and Path(b).exists()):
        return None
    original = _hash(terminal, a, VariantSet.THOROUGH, sandboxed=sandboxed)
    copy = _hash(terminal, b, VariantSet.MATCH, sandboxed=sandboxed, level=Level.THOROUGH)
    if original is None or copy is None or Media.VIDEO in {original.media, copy.media}:
        return None
    return _best_match({a: original}, copy)


def _best_match(originals: Mapping[str, Item], copy: Item) -> Match | None:
    """Return the best match of a copy; None if there is none."""
    from nciihash.sdk.matcher import Matcher  # loads the search kernel

    matches = Matcher.from_items(originals, level=Level.THOROUGH).find(copy)
    return matches[0] if matches else None


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
    terminal: Terminal,
    file: str | Path,
    variants: VariantSet,
    *,
    sandboxed: bool,
    level: Level | None = None,
) -> Item | None:
    """Return the PDQ hashes of a file; None if it is refused, which is reported."""
    ((_, outcome),) = hash_files(
        [Path(file)],
        signals=[SignalType.PDQ],
        variants=variants.value,
        level=level,
        sandboxed=sandboxed,
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
    originals = _submitted_items(against)
    item = _hash(terminal, file, VariantSet.MATCH, sandboxed=sandboxed, level=Level.THOROUGH)
    if item is None:
        return ExitCode.SOME_FAILED
    plain = too_plain(item)
    hashes = [hashed for original in originals.values() for hashed in original.hashes]
    pair = compare(group_by_frame(item.hashes), group_by_frame(hashes))
    whole = _band(pair)
    best = _best_match(originals, item)
    edit = None if best is None or whole is not None else best.edit
    if terminal.as_json:
        line: dict[str, object] = {
            "found": whole is not None or edit is not None,
            "distance": pair.distance,
            "variant": pair.variant,
            "band": whole if edit is None else Band.LIKELY,
            "too_plain": plain is not None,
            "review": best is not None and best.review,
        }
        terminal.line(line | _share_fields(pair) | (edit_fields(best) if best and edit else {}))
    elif edit is not None:
        terminal.show(f"It would be found: {edit}. {_WHO_FINDS_PARTS}")
    else:
        terminal.show(_verdict(pair, plain))
        if best is not None and best.review:
            terminal.show(_MOSTLY_PLAIN)
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


def _submitted_items(path: Path) -> dict[str, Item]:
    """Return the items in a file of saved hashes, with those PDQ hashes that would be submitted.

    Raises:
        InvalidRequest: the file cannot be read, or has no such hash.
    """
    items = {}
    for number, item in enumerate(read_saved(path)):
        fit = [h for h in item.hashes if h.signal.type is SignalType.PDQ and not h.plain]
        if fit:
            items[str(number)] = replace(item, hashes=tuple(fit))
    if not items:
        raise InvalidRequest("The file given with --against holds no hash fit to be submitted.")
    return items
