"""Reduce a query to the small copies from which its windows are hashed.

These are the whole picture, the picture within its frame, rectangles that straight edges enclose
(the pictures of a collage, a picture in a picture), and at the level `thorough` the picture rotated
by a few degrees. Each becomes a `nciihash.windows.Part` of 16 KiB. The sandbox's child makes them,
so that nothing else of the picture reaches the process that matches.
"""

import math
from dataclasses import replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from nciihash.hashing.rectangles import find_rectangles
from nciihash.hashing.trimming import Region, reduce
from nciihash.signals import Level, PartKind
from nciihash.window_tables import ANGLES, Box
from nciihash.windows import CELLS, Part, quarter_turns

_PART_MIN: Final = 40  # pixels of that copy: a smaller rectangle shows too little


def query_parts(
    rgb: NDArray[np.uint8],
    level: Level,
    trimmed: Region | None = None,
    time: float | None = None,
    copy: NDArray[np.uint8] | None = None,
) -> tuple[Part, ...]:
    """Return the parts of a query, the whole first.

    Args:
        rgb: uint8 (h, w, 3), upright.
        level: `fast` has the whole and the trimmed part only.
        trimmed: the picture within the frame, as `nciihash.hashing.trimming.trim` finds it.
        time: of a video's frame, in seconds.
        copy: what `nciihash.hashing.trimming.reduce` returns, if the caller has it already.
    """
    copy = reduce(rgb) if copy is None else copy
    luma = np.asarray(cv2.cvtColor(copy, cv2.COLOR_RGB2GRAY), np.float32)
    height, width = rgb.shape[:2]
    whole = Part(PartKind.WHOLE, _cells(luma), shape=width / height, time=time)
    parts = [whole]
    if trimmed is not None:
        box = (
            trimmed.left / width,
            trimmed.top / height,
            trimmed.right / width,
            trimmed.bottom / height,
        )
        if (part := _part(PartKind.TRIMMED, luma, box, time)) is not None:
            parts.append(part)
    if level is Level.FAST:
        return tuple(parts)
    found = (_part(PartKind.RECTANGLE, luma, box, time) for box in find_rectangles(luma))
    parts += [part for part in found if part is not None]
    if level is Level.THOROUGH:
        parts += [_rotated(whole, angle) for angle in ANGLES]
        parts += quarter_turns(whole)
    return tuple(parts)


def _cells(luma: NDArray[np.float32]) -> NDArray[np.uint8]:
    shrinks = min(luma.shape) >= CELLS
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    small = cv2.resize(np.ascontiguousarray(luma), (CELLS, CELLS), interpolation=method)
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)


def _part(kind: PartKind, luma: NDArray[np.float32], box: Box, time: float | None) -> Part | None:
    """Return a rectangle of the reduced copy as a part; None if it is too small.

    Of a trimmed part one pixel is left off at each edge that is not the picture's own, since
    reducing mixes it with the other side of the edge. The search for rectangles has left it off.
    """
    height, width = luma.shape
    left, top = (round(box[0] * width), round(box[1] * height))
    right, bottom = (round(box[2] * width), round(box[3] * height))
    if kind is PartKind.TRIMMED:
        left, top = left + (left > 0), top + (top > 0)
        right, bottom = right - (right < width), bottom - (bottom < height)
    if min(right - left, bottom - top) < _PART_MIN:
        return None
    inner = (left / width, top / height, right / width, bottom / height)
    shape = (right - left) / (bottom - top)
    return Part(kind, _cells(luma[top:bottom, left:right]), inner, shape=shape, time=time)


def _rotated(whole: Part, angle: float) -> Part:
    """Rotate the whole as `nciihash.windows.rotated` does, ten times as fast."""
    radians = math.radians(angle)
    cosine, sine = math.cos(radians), math.sin(radians)
    # from a cell to where it comes from, about the middle, in the whole's own aspect ratio
    linear = np.array([[cosine, sine / whole.shape], [-sine * whole.shape, cosine]])
    middle = (CELLS - 1) / 2
    shift = middle - linear.sum(axis=1) * middle
    cells = cv2.warpAffine(
        whole.luma,
        np.column_stack((linear, shift)),
        (CELLS, CELLS),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=float(whole.luma.mean()),
    )
    luma = np.asarray(cells, np.uint8)
    return replace(whole, kind=PartKind.ROTATED, luma=luma, angle=angle)
