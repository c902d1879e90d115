"""Choose which altered copies of a picture to hash, and hash them together from one decode.

One PDQ hash finds a copy that was saved anew, scaled or toned, but none that was cropped by a
twentieth, mirrored or framed. Hashes of deliberately altered copies do.

How the sets were chosen: from 280 views, for recall per hash, greedily, on 79 photos and 640 random
edits (crops of one side, two and all; mirrors; small turns; borders and bars, which count half
because whoever trims finds them anyway). The edits that `benchmarks/recall/run.py` holds aside had
no part in it. Quarter turns and the trimmed picture are in both sets besides.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from nciihash import pdq
from nciihash.hashing import reduced_jpeg
from nciihash.hashing.altered_views import View, base, grids
from nciihash.hashing.trimming import trim
from nciihash.signals import QUALITY_MIN, Hashed, Signal, SignalType, Variant

NEAR: Final = 10  # bits: a hash that is no farther from another finds hardly anything more

_FRAMED: Final = 0.5  # of the whole: what is left of a screenshot is less
_WHITE: Final = 255.0


def _all(share: float) -> View:
    return View(cut=(share, share, share, share))


def _one(side: int, share: float, *, mirror: bool = False, fill: float = 0.0) -> View:
    cut = [0.0, 0.0, 0.0, 0.0]
    cut[side] = share
    return View(cut=(cut[0], cut[1], cut[2], cut[3]), mirror=mirror, fill=fill)


def _mirrored(share: float) -> View:
    return View(cut=(share, share, share, share), mirror=True)


def _frame(share: float, fill: float = 0.0) -> View:
    return View(cut=(-share, -share, -share, -share), fill=fill)


_LEFT, _TOP, _RIGHT, _BOTTOM = range(4)

# What each name shows, but for the original, the quarter turns, the trimmed and the raw picture;
# in the order of what each adds to those before it.
VIEWS: Final[dict[Variant, View]] = {
    Variant.MIRROR: View(mirror=True),
    Variant.CCW3: View(turn=-3),
    Variant.CW3: View(turn=3),
    Variant.CROP10: _all(0.10),
    Variant.CROP02: _all(0.02),
    Variant.CROP05: _all(0.05),
    Variant.CUT9X16: View(shape=9 / 16),
    Variant.CUT3X4: View(shape=3 / 4),
    Variant.CROP13: _all(0.13),
    Variant.CROP07: _all(0.07),
    Variant.CCW3_CUT: View(turn=-3, filled=True),
    Variant.CW3_CUT: View(turn=3, filled=True),
    Variant.TOP04: _one(_TOP, 0.04),
    Variant.CUT4X3: View(shape=4 / 3),
    Variant.CUT1X1: View(shape=1.0),
    Variant.BOTTOM09: _one(_BOTTOM, 0.09),
    Variant.BORDER07_WHITE: _frame(0.07, _WHITE),
    Variant.MIRROR_CROP04: _mirrored(0.04),
    Variant.BORDER10_BLACK: _frame(0.10),
    Variant.CUT16X9: View(shape=16 / 9),
    Variant.PAD4X3_BLACK: View(shape=4 / 3, pad=True),
    Variant.CUT3X2: View(shape=3 / 2),
    Variant.BOTTOM04: _one(_BOTTOM, 0.04),
    Variant.CW5: View(turn=5),
    Variant.LEFT09: _one(_LEFT, 0.09),
    Variant.TOP12: _one(_TOP, 0.12),
    Variant.CCW5: View(turn=-5),
    Variant.RIGHT09: _one(_RIGHT, 0.09),
    Variant.MIRROR_CROP09: _mirrored(0.09),
    Variant.MIRROR_CROP14: _mirrored(0.14),
    Variant.CW4_CUT: View(turn=4, filled=True),
    Variant.BELOW14: _one(_BOTTOM, -0.14, fill=_WHITE),
    Variant.ENDS10: View(cut=(0.0, 0.10, 0.0, 0.10)),
    Variant.RIGHT04: _one(_RIGHT, 0.04),
    Variant.CCW5_CUT: View(turn=-5, filled=True),
    Variant.LEFT04: _one(_LEFT, 0.04),
    Variant.BORDER04_WHITE: _frame(0.04, _WHITE),
    Variant.BORDER05_BLACK: _frame(0.05),
    Variant.TOP16: _one(_TOP, 0.16),
    Variant.LEFT14: _one(_LEFT, 0.14),
    Variant.BOTTOM14: _one(_BOTTOM, 0.14),
    Variant.RIGHT14: _one(_RIGHT, 0.14),
    Variant.PAD16X9_BLACK: View(shape=16 / 9, pad=True),
    Variant.MIRROR_TOP09: _one(_TOP, 0.09, mirror=True),
    Variant.RIGHT18: _one(_RIGHT, 0.18),
    Variant.LEFT18: _one(_LEFT, 0.18),
    Variant.PAD9X16_BLACK: View(shape=9 / 16, pad=True),
    Variant.MIRROR_CROP07: _mirrored(0.07),
    Variant.PAD1X1_BLACK: View(shape=1.0, pad=True),
    Variant.BORDER10_WHITE: _frame(0.10, _WHITE),
    Variant.CCW2_CUT: View(turn=-2, filled=True),
    Variant.CW1_CUT: View(turn=1, filled=True),
    Variant.TOP18: _one(_TOP, 0.18),
    Variant.TOP09: _one(_TOP, 0.09),
    Variant.ABOVE18: _one(_TOP, -0.18, fill=_WHITE),
    Variant.BOTTOM20: _one(_BOTTOM, 0.20),
    Variant.MIRROR_BOTTOM14: _one(_BOTTOM, 0.14, mirror=True),
    Variant.CROP14: _all(0.14),
}
# Rows of `pdq.analyse_grids` for the whole picture turned clockwise and mirrored.
QUARTERS: Final = ((Variant.ROTATE90, 3), (Variant.ROTATE180, 2), (Variant.ROTATE270, 1))
_MIRROR: Final = 5

_NAMES: Final = tuple(VIEWS)
_CHOSEN: Final[dict[str, tuple[Variant, ...]]] = {
    "standard": _NAMES[: _NAMES.index(Variant.PAD4X3_BLACK) + 1],
    "full": _NAMES,
}


def hash_variants(
    rgb: NDArray[np.uint8],
    original: Hashed,
    which: str,
    raw: NDArray[np.uint8] | None = None,
    scale: int = 1,
) -> tuple[Hashed, ...]:
    """Give a picture's own hash and those of its altered copies, all of PDQ.

    A copy's hash is at least of quality 50, ties nowhere, and differs from the original's and each
    other's by more than `NEAR` bits; those that do not are left out.

    Args:
        rgb: uint8 (h, w, 3), upright, alpha flattened. Where it has a frame or is a screenshot, all
            copies are of the picture within, never of the frame.
        original: the picture's own hash. It comes first, but is left out of "standard" and "full"
            where the frame takes more than half: so do other pictures' frames, and screenshots of
            different photos come near each other.
        which: "match", the trimmed one alone; "standard" or "full".
        raw: its colours without regard to alpha, if it has alpha; not used for "match".
        scale: by how much its pixels are reduced, as in `ReducedPicture`.
    """
    kept = _Kept(original)
    subject = rgb
    framed = False
    if (region := trim(rgb)) is not None:
        trimmed = reduced_jpeg.analyse_part(region.of(rgb), scale)
        if not trimmed.tied and trimmed.quality >= QUALITY_MIN:
            subject = region.of(rgb)
            framed = subject.size < _FRAMED * rgb.size
            raw = None if raw is None else region.of(raw)
        kept.add(Variant.TRIM, trimmed.packed, trimmed.quality, tied=trimmed.tied)
    if which == "match":
        return tuple(kept.hashes)
    if raw is not None:
        analysis = pdq.analyse(raw)
        kept.add(Variant.RAW, analysis.packed, analysis.quality, tied=analysis.tied)
    if subject is rgb and original.plain:
        return tuple(kept.hashes)  # a border would be all that can be seen in its copies
    names = _CHOSEN[which]
    views = (View(), *(VIEWS[name] for name in names))
    packed, quality, tied = pdq.analyse_grids(grids(base(subject), views))
    for name, row in QUARTERS:
        kept.add(name, packed[row, 0], int(quality[0]), tied=bool(tied[0]))
    for place, name in enumerate(names, 1):
        row = _MIRROR if VIEWS[name].mirror else 0
        kept.add(name, packed[row, place], int(quality[place]), tied=bool(tied[place]))
    return tuple(kept.hashes[1:] if framed else kept.hashes)


class _Kept:
    """The hashes that are worth keeping so far."""

    def __init__(self, original: Hashed) -> None:
        self.hashes = [original]
        self._packed = [np.frombuffer(original.signal.value, np.uint8)]

    def add(self, name: Variant, packed: NDArray[np.uint8], quality: int, *, tied: bool) -> None:
        if tied or quality < QUALITY_MIN or self._nearest(packed) <= NEAR:
            return
        self._packed.append(packed)
        self.hashes.append(
            Hashed(Signal(SignalType.PDQ, packed.tobytes()), quality=quality, variant=name)
        )

    def _nearest(self, packed: NDArray[np.uint8]) -> int:
        return int(np.bitwise_count(np.stack(self._packed) ^ packed).sum(axis=1).min())
