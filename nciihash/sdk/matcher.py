"""Find the pictures of a bank in a query: the whole, its parts, and the windows of both.

A picture's own hash, and that of the picture within its frame, match within 31 bits as everywhere.
The hashes of windows are only candidates. There are up to a thousand of them, so chance and plain
backgrounds get a thousand attempts; and a bank's hashes may have been submitted by anybody, with
any variant name and any quality. So a window matches only if

- it has enough detail (`nciihash.pdq.Analysis.distinctive`), before and after it was moved, as
  computed on the matching side,
- a hash of the bank is within 60 bits of it, as `Index.query` finds candidates,
- and after it was moved to where it fits best, it is within 16 bits of that hash (`align`).

Such a match is in the band `likely`, and to be reviewed: see `Matcher`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from nciihash.bank.candidates import Candidates
from nciihash.bank.contents import BankContents
from nciihash.feed import Added
from nciihash.sdk.alignment import Alignment, align
from nciihash.sdk.lookup import (
    LookupResult,
    VariantCounts,
    match_hashes,
    mostly_plain,
    shared_frames,
)
from nciihash.signals import (
    Edit,
    Hashed,
    Item,
    Level,
    Match,
    PartKind,
    Signal,
    SignalType,
    Variant,
)
from nciihash.window_tables import BANK_BOXES, WHOLE, Box
from nciihash.windows import WindowHashes, analyse, hash_windows

CANDIDATE_BITS: Final = 60  # a window this far off can still be moved onto the picture

# How many of an item's hashes a query is aligned with, nearest first. A copy's nearest three
# include the right one.
_HASHES: Final = 3
# How many items a query is aligned with, nearest first. A query has no or few candidates unless the
# bank holds many copies of one picture.
_ITEMS: Final = 32


class SearchableBank(Protocol):
    """What a matcher needs of a bank: `Bank`, `FrozenBank`, `Follower` and `BankReader` have it.

    A veiled bank does not: to align a window takes whole hashes.
    """

    def query(self, signals: Sequence[Signal]) -> Sequence[Sequence[Match]]:
        """Find the matches of each signal within its type's threshold."""

    def candidates(self, type: SignalType, packed: NDArray[np.uint8], reach: int) -> Candidates:
        """Find candidates within `reach` bits of each hash."""


class Matcher:
    """Finds the pictures of a bank in pictures and videos, however they were edited.

        matcher = Matcher(Bank.read("bank"))
        for match in matcher.find("upload.jpg"):
            print(match.item, match.band, match.edit)

    A match with `review` should be reviewed by a person before anything is blocked. That is every
    match of a window, since their rate of false matches is not yet known to be low enough for
    millions of uploads (docs/evidence.md), and a match of the picture's own hash if the picture is
    mostly plain or striped: a horizon resembles other horizons.

    Args:
        bank: whole hashes, as a feed without a veil has them. It may change while the matcher is
            in use, as a follower's does.
        level: how thoroughly to search: see `nciihash.Level`.
    """

    def __init__(self, bank: SearchableBank, *, level: Level = Level.WINDOWS) -> None:
        self.level = level
        self._bank = bank
        self._names: Mapping[str, str] | None = None

    @classmethod
    def from_items(cls, items: Mapping[str, Item], *, level: Level = Level.WINDOWS) -> Self:
        """Return a matcher of the hashes of some items; `Match.item` is an item's key.

        Hashes that are too plain to be submitted are left out.
        """
        matcher = cls(bank_of(items.values()), level=level)
        matcher._names = {f"{number:032x}": key for number, key in enumerate(items)}
        return matcher

    def hash(self, source: str | PathLike[str] | bytes | bytearray) -> Item:
        """Hash a file in the sandbox as `find` does, to be found later or several times.

        This is `nciihash.hash_upload` at the matcher's level.

        Raises:
            FileRefused: the file cannot be hashed; the message says what to do.
        """
        from nciihash.sandbox import hash_upload

        return hash_upload(source, level=self.level)

    def find(self, source: str | PathLike[str] | bytes | bytearray | Item) -> list[Match]:
        """Return the bank's matches of a file or of an item.

        Those without `review` come first, then the nearest. There is one for each signal that the
        picture's own hashes match, and one for each further item with which a window aligns.

        Args:
            source: a path or a file's bytes, which are hashed in the sandbox, or what `hash`
                returned. An item without parts is searched at the level `fast`.

        Raises:
            FileRefused: the file cannot be hashed; the message says what to do.
        """
        (found,) = self.find_all([source if isinstance(source, Item) else self.hash(source)])
        return found

    def find_all(self, items: Sequence[Item]) -> list[list[Match]]:
        """Return the matches of several items, looked up together, which is faster."""
        return [self._best(item, own) for item, own in zip(items, self._own(items), strict=True)]

    def look_up(
        self, items: Sequence[Item], variant_counts: VariantCounts | None = None
    ) -> list[LookupResult]:
        """Return the matches of several items, and the frames that videos share with the bank.

        Frames are shared if their own hashes match.

        Args:
            items: what `hash` returned.
            variant_counts: counts the PDQ hashes of a bank's item by variant, as
                `Bank.count_variants` does; if None, `SharedFrames.bank` is None.
        """
        results = []
        for item, own in zip(items, self._own(items), strict=True):
            found = tuple((match.type, match) for match in self._best(item, own))
            results.append(LookupResult(found, shared_frames(item, own, variant_counts)))
        return results

    def _own(self, items: Sequence[Item]) -> list[list[tuple[Hashed, Sequence[Match]]]]:
        """Return the items' own hashes with their matches."""
        return [
            [
                (hashed, [replace(match, review=mostly_plain(hashed)) for match in matches])
                for hashed, matches in own
            ]
            for own in match_hashes(items, self._bank.query)
        ]

    def _best(self, item: Item, own: Sequence[tuple[Hashed, Sequence[Match]]]) -> list[Match]:
        """Return the matches of an item, given those of its own hashes."""
        found = [match for _, matches in own for match in matches]
        if self.level is not Level.FAST:
            known = {match.item for match in found if not match.review}
            found += self._window_matches(item, known)
        return self._named(_once(found))

    def _window_matches(self, item: Item, known: set[str]) -> Iterator[Match]:
        """Yield a match of each item, except the known, with which a window aligns."""
        windows = hash_windows(item.parts, self.level)
        if not len(windows):
            return
        candidates = self._bank.candidates(SignalType.PDQ, windows.hashes, CANDIDATE_BITS)
        attempts = _Attempts(windows)
        for rows in _nearest_by_item(candidates, attempts, known):
            for row in rows:
                alignment = attempts.align(int(candidates.queries[row]), candidates.values[row])
                if not alignment.same_picture:
                    continue
                entry = candidates.entry(row)
                yield Match(
                    entry.id,
                    entry.item,
                    SignalType.PDQ,
                    entry.variant,
                    int(candidates.distances[row]),
                    aligned=alignment.distance,
                    edit=_edit(alignment, entry.variant),
                    review=True,
                )
                break

    def _named(self, matches: list[Match]) -> list[Match]:
        if self._names is None:
            return matches
        return [replace(match, item=self._names[match.item]) for match in matches]


def bank_of(items: Iterable[Item]) -> BankContents:
    """Return a bank of some items, whose ids are their numbers in hexadecimal digits.

    Hashes that are too plain to be submitted are left out.
    """
    contents = BankContents()
    for number, item in enumerate(items):
        contents.add(
            [
                Added(
                    f"{number:016x}{row:016x}",
                    f"{number:032x}",
                    hashed.signal,
                    hashed.quality,
                    item.media,
                    hashed.variant,
                )
                for row, hashed in enumerate(item.hashes)
                if not hashed.plain
            ]
        )
    return contents


class _Attempts:
    """Alignments of one query, each computed once: many items may have the same hash."""

    def __init__(self, windows: WindowHashes) -> None:
        self._windows = windows
        self._aligned: dict[tuple[int, bytes], Alignment] = {}
        self._distinctive: dict[int, bool] = {}

    def distinctive(self, row: int) -> bool:
        """Whether the window of a hash has enough detail for a match to mean anything."""
        window = row % len(self._windows.boxes)
        if window not in self._distinctive:
            part, box, _ = self._windows.locate(row)
            luma = self._windows.parts[part].luma
            self._distinctive[window] = analyse(luma, box).distinctive
        return self._distinctive[window]

    def align(self, row: int, target: NDArray[np.uint8]) -> Alignment:
        """Align the window of a hash with a bank's hash, uint8 (32,)."""
        key = row, target.tobytes()
        if key not in self._aligned:
            part, box, mirror = self._windows.locate(row)
            self._aligned[key] = align(self._windows.parts[part], box, target, mirror=mirror)
        return self._aligned[key]


def _nearest_by_item(
    candidates: Candidates, attempts: _Attempts, known: set[str]
) -> Iterator[list[int]]:
    """Yield for each item not among the known the rows of its nearest signals, one row a signal.

    Without Python objects for all candidates: a picture that many people submitted has a million.
    """
    order = np.argsort(candidates.distances, kind="stable")
    keys = np.ascontiguousarray(candidates.items[order]).view(f"V{candidates.items.shape[1]}")
    _, first, numbers = np.unique(keys.ravel(), return_index=True, return_inverse=True)
    aligned = 0
    for number in np.argsort(first).tolist():
        rows = order[numbers == number]
        if candidates.items[rows[0]].tobytes().hex() in known:
            continue
        if aligned == _ITEMS:
            return
        aligned += 1
        signals: dict[int, int] = {}
        for row in rows.tolist():
            signal = int(candidates.rows[row])
            if signal in signals or not attempts.distinctive(int(candidates.queries[row])):
                continue
            signals[signal] = row
            if len(signals) == _HASHES:
                break
        yield list(signals.values())


def _once(matches: Iterable[Match]) -> list[Match]:
    """Return the best match of each signal: those without review first, own hashes, the nearest."""
    best: dict[str, Match] = {}
    for match in sorted(matches, key=lambda m: (m.review, m.edit is not None, m.distance, m.id)):
        best.setdefault(match.id, match)
    return list(best.values())


def _edit(alignment: Alignment, variant: Variant) -> Edit:
    """Return the edit that an aligned window shows."""
    part, box = alignment.part, alignment.box
    mirrored = alignment.mirrored != (variant is Variant.MIRROR)
    original = WHOLE if variant is Variant.MIRROR else BANK_BOXES.get(variant)
    return Edit(
        part=part.kind,
        box=_within(part.box, box) if part.kind is not PartKind.ROTATED else box,
        crop=None if original is None else _visible(box, original, mirrored=mirrored),
        mirrored=mirrored,
        angle=part.angle,
        time=part.time,
    )


def _within(outer: Box, inner: Box) -> Box:
    """Return a window of a part in fractions of the query."""
    width, height = outer[2] - outer[0], outer[3] - outer[1]
    return (
        outer[0] + inner[0] * width,
        outer[1] + inner[1] * height,
        outer[0] + inner[2] * width,
        outer[1] + inner[3] * height,
    )


def _visible(window: Box, original: Box, *, mirrored: bool) -> Box:
    """Return what a part shows of the original.

    Args:
        window: the window of the part.
        original: the window of the original that is the same.
        mirrored: whether they are mirror images.
    """
    if mirrored:
        window = (1 - window[2], window[1], 1 - window[0], window[3])
    left, right = _axis_visible(window[0], window[2], original[0], original[2])
    top, bottom = _axis_visible(window[1], window[3], original[1], original[3])
    return left, top, right, bottom


def _axis_visible(start: float, end: float, first: float, last: float) -> tuple[float, float]:
    """Return where 0 and 1 lie if start and end lie at first and last; from 0 to 1."""
    scale = (last - first) / (end - start)
    return max(first - start * scale, 0.0), min(first + (1 - start) * scale, 1.0)
