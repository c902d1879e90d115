"""Choose which altered copies of an image to hash, and hash them from one decode.

One PDQ hash finds copies that were re-encoded, scaled or recoloured, but not copies that were
cropped by 5 %, mirrored or framed. Hashes of deliberately altered copies find those.

"standard" and "full" were chosen greedily from 280 views, for recall per hash, on 79 photos and 640
random edits: crops of one side, two and all, mirrors, small rotations, borders and bars. Borders
and bars counted half, because trimming also finds them. The held-out edits of
`benchmarks/recall/run.py` were not used. Quarter turns and the trimmed image are in all sets.

"thorough" is the bank's side of `nciihash.windows`: parts well inside the picture, which are still
whole in a cropped copy, for a platform that looks up many parts of each copy. It keeps those views
of "standard" that also help a platform that looks up one hash. Its parts must be busy: an image of
a horizon has parts that look like anybody's.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from nciihash import pdq
from nciihash.hashing import reduced_jpeg
from nciihash.hashing.altered_views import View, base, grids
from nciihash.hashing.trimming import Region, trim
from nciihash.signals import QUALITY_MIN, Hashed, Signal, SignalType, Variant
from nciihash.window_tables import BANK_BOXES, Box

DISTINCT_BITS: Final = 10  # bits: a hash within this distance of another finds hardly anything more

_FRAMED: Final = 0.5  # if trimming keeps less than this fraction, the image is a screenshot
_WHITE: Final = 255.0


def _crop_all(share: float) -> View:
    return View(cut=(share, share, share, share))


def _crop_one(side: int, share: float, *, mirror: bool = False, fill: float = 0.0) -> View:
    cut = [0.0, 0.0, 0.0, 0.0]
    cut[side] = share
    return View(cut=(cut[0], cut[1], cut[2], cut[3]), mirror=mirror, fill=fill)


def _mirror_crop(share: float) -> View:
    return View(cut=(share, share, share, share), mirror=True)


def _part(box: Box) -> View:
    left, top, right, bottom = box
    return View(cut=(left, top, 1 - right, 1 - bottom))


def _border(share: float, fill: float = 0.0) -> View:
    return View(cut=(-share, -share, -share, -share), fill=fill)


_LEFT, _TOP, _RIGHT, _BOTTOM = range(4)

# The views of "full", ordered by how much recall each adds to those before it.
_FULL: Final[dict[Variant, View]] = {
    Variant.MIRROR: View(mirror=True),
    Variant.CCW3: View(turn=-3),
    Variant.CW3: View(turn=3),
    Variant.CROP10: _crop_all(0.10),
    Variant.CROP02: _crop_all(0.02),
    Variant.CROP05: _crop_all(0.05),
    Variant.CUT9X16: View(shape=9 / 16),
    Variant.CUT3X4: View(shape=3 / 4),
    Variant.CROP13: _crop_all(0.13),
    Variant.CROP07: _crop_all(0.07),
    Variant.CCW3_CUT: View(turn=-3, filled=True),
    Variant.CW3_CUT: View(turn=3, filled=True),
    Variant.TOP04: _crop_one(_TOP, 0.04),
    Variant.CUT4X3: View(shape=4 / 3),
    Variant.CUT1X1: View(shape=1.0),
    Variant.BOTTOM09: _crop_one(_BOTTOM, 0.09),
    Variant.BORDER07_WHITE: _border(0.07, _WHITE),
    Variant.MIRROR_CROP04: _mirror_crop(0.04),
    Variant.BORDER10_BLACK: _border(0.10),
    Variant.CUT16X9: View(shape=16 / 9),
    Variant.PAD4X3_BLACK: View(shape=4 / 3, pad=True),
    Variant.CUT3X2: View(shape=3 / 2),
    Variant.BOTTOM04: _crop_one(_BOTTOM, 0.04),
    Variant.CW5: View(turn=5),
    Variant.LEFT09: _crop_one(_LEFT, 0.09),
    Variant.TOP12: _crop_one(_TOP, 0.12),
    Variant.CCW5: View(turn=-5),
    Variant.RIGHT09: _crop_one(_RIGHT, 0.09),
    Variant.MIRROR_CROP09: _mirror_crop(0.09),
    Variant.MIRROR_CROP14: _mirror_crop(0.14),
    Variant.CW4_CUT: View(turn=4, filled=True),
    Variant.BELOW14: _crop_one(_BOTTOM, -0.14, fill=_WHITE),
    Variant.ENDS10: View(cut=(0.0, 0.10, 0.0, 0.10)),
    Variant.RIGHT04: _crop_one(_RIGHT, 0.04),
    Variant.CCW5_CUT: View(turn=-5, filled=True),
    Variant.LEFT04: _crop_one(_LEFT, 0.04),
    Variant.BORDER04_WHITE: _border(0.04, _WHITE),
    Variant.BORDER05_BLACK: _border(0.05),
    Variant.TOP16: _crop_one(_TOP, 0.16),
    Variant.LEFT14: _crop_one(_LEFT, 0.14),
    Variant.BOTTOM14: _crop_one(_BOTTOM, 0.14),
    Variant.RIGHT14: _crop_one(_RIGHT, 0.14),
    Variant.PAD16X9_BLACK: View(shape=16 / 9, pad=True),
    Variant.MIRROR_TOP09: _crop_one(_TOP, 0.09, mirror=True),
    Variant.RIGHT18: _crop_one(_RIGHT, 0.18),
    Variant.LEFT18: _crop_one(_LEFT, 0.18),
    Variant.PAD9X16_BLACK: View(shape=9 / 16, pad=True),
    Variant.MIRROR_CROP07: _mirror_crop(0.07),
    Variant.PAD1X1_BLACK: View(shape=1.0, pad=True),
    Variant.BORDER10_WHITE: _border(0.10, _WHITE),
    Variant.CCW2_CUT: View(turn=-2, filled=True),
    Variant.CW1_CUT: View(turn=1, filled=True),
    Variant.TOP18: _crop_one(_TOP, 0.18),
    Variant.TOP09: _crop_one(_TOP, 0.09),
    Variant.ABOVE18: _crop_one(_TOP, -0.18, fill=_WHITE),
    Variant.BOTTOM20: _crop_one(_BOTTOM, 0.20),
    Variant.MIRROR_BOTTOM14: _crop_one(_BOTTOM, 0.14, mirror=True),
    Variant.CROP14: _crop_all(0.14),
}
# Quadrants, halves and parts from the middle.
_PARTS: Final = {name: _part(box) for name, box in BANK_BOXES.items() if name not in _FULL}
del _PARTS[Variant.ORIGINAL]

# Each variant's view, except the original, quarter turns, trimmed and raw.
VIEWS: Final[dict[Variant, View]] = _FULL | _PARTS

# Rows of `pdq.analyse_grids` for the whole image rotated clockwise, and mirrored.
QUARTERS: Final = ((Variant.ROTATE90, 3), (Variant.ROTATE180, 2), (Variant.ROTATE270, 1))
_MIRROR: Final = 5

_NAMES: Final = tuple(_FULL)
# The views of each set, in the order in which near-equal ones are dropped.
SETS: Final[dict[str, tuple[Variant, ...]]] = {
    "standard": _NAMES[: _NAMES.index(Variant.PAD4X3_BLACK) + 1],
    "full": _NAMES,
    "thorough": (
        *(Variant.MIRROR, Variant.CCW3, Variant.CW3, Variant.CUT1X1, Variant.CUT3X4),
        *(Variant.CUT4X3, Variant.CUT9X16, Variant.CUT16X9, Variant.CROP02, Variant.CROP05),
        *(Variant.CROP10, Variant.CROP07, Variant.CROP13, *_PARTS),
    ),
}


def hash_variants(
    rgb: NDArray[np.uint8],
    original: Hashed,
    which: str,
    raw: NDArray[np.uint8] | None = None,
    scale: int = 1,
) -> tuple[Hashed, ...]:
    """Return an image's own PDQ hash and those of its variants.

    A variant's hash is omitted if its quality is below 50, if it ties at the median, or if it is
    within `DISTINCT_BITS` bits of the original's or of another variant's. That of a quadrant, a
    half or a part from the middle is also omitted if less than `nciihash.pdq.BUSY_MIN` of it is
    busy.

    Args:
        rgb: uint8 (h, w, 3), upright, alpha flattened. If it has a frame or is a screenshot, all
            variants are of the picture within.
        original: the image's own hash. It comes first, but all sets except "match" omit it if the
            frame is more than half of the image: screenshots of different photos have similar
            hashes.
        which: "match" for the trimmed image only; or one of `SETS`.
        raw: its colours as if it were opaque, if it has alpha; not used for "match".
        scale: the reduction of its sides, as in `ReducedPicture`.
    """
    if which == "match":
        return hash_trimmed(rgb, original, trim(rgb), scale)
    distinct = _DistinctHashes(original)
    subject = rgb
    framed = False
    if (region := trim(rgb)) is not None:
        trimmed = reduced_jpeg.analyse_part(region.of(rgb), scale)
        if not trimmed.tied and trimmed.quality >= QUALITY_MIN:
            subject = region.of(rgb)
            framed = subject.size < _FRAMED * rgb.size
            raw = None if raw is None else region.of(raw)
        distinct.add_analysed(Variant.TRIM, trimmed)
    if raw is not None:
        distinct.add_analysed(Variant.RAW, pdq.analyse(raw))
    if subject is rgb and original.plain:
        return tuple(distinct.hashes)  # the variants would show nothing but their borders
    names = SETS[which]
    views = (View(), *(VIEWS[name] for name in names))
    packed, quality, tied, busy = pdq.analyse_grids(grids(base(subject), views))
    for name, row in QUARTERS:
        distinct.add(name, packed[row, 0], int(quality[0]), tied=bool(tied[0]))
    for index, name in enumerate(names, 1):
        if name in _PARTS and busy[index] < pdq.BUSY_MIN:
            continue
        row = _MIRROR if VIEWS[name].mirror else 0
        distinct.add(name, packed[row, index], int(quality[index]), tied=bool(tied[index]))
    return tuple(distinct.hashes[1:] if framed else distinct.hashes)


def hash_trimmed(
    rgb: NDArray[np.uint8], original: Hashed, region: Region | None, scale: int = 1
) -> tuple[Hashed, ...]:
    """Return an image's own PDQ hash and that of the picture within its frame, for a query.

    The second is omitted as in `hash_variants`.

    Args:
        rgb: uint8 (h, w, 3), upright, alpha flattened.
        original: the image's own hash.
        region: the picture within the frame, as `nciihash.hashing.trimming.trim` finds it.
        scale: the reduction of its sides, as in `ReducedPicture`.
    """
    distinct = _DistinctHashes(original)
    if region is not None:
        trimmed = reduced_jpeg.analyse_part(region.of(rgb), scale)
        distinct.add_analysed(Variant.TRIM, trimmed)
    return tuple(distinct.hashes)


class _DistinctHashes:
    """The hashes kept so far: fit to be submitted, and more than `DISTINCT_BITS` bits apart."""

    def __init__(self, original: Hashed) -> None:
        self.hashes = [original]
        self._packed = [np.frombuffer(original.signal.value, np.uint8)]

    def add_analysed(self, name: Variant, analysis: pdq.Analysis) -> None:
        self.add(
            name,
            analysis.packed,
            analysis.quality,
            tied=analysis.tied,
            distinctive=analysis.distinctive,
        )

    def add(
        self,
        name: Variant,
        packed: NDArray[np.uint8],
        quality: int,
        *,
        tied: bool,
        distinctive: bool | None = None,
    ) -> None:
        if tied or quality < QUALITY_MIN or self._nearest(packed) <= DISTINCT_BITS:
            return
        self._packed.append(packed)
        self.hashes.append(
            Hashed(
                Signal(SignalType.PDQ, packed.tobytes()),
                quality=quality,
                variant=name,
                distinctive=distinctive,
            )
        )

    def _nearest(self, packed: NDArray[np.uint8]) -> int:
        return int(np.bitwise_count(np.stack(self._packed) ^ packed).sum(axis=1).min())
