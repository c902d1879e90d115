"""Reduce a query to the small copies from which its windows are hashed.

These are the whole picture, the picture within its frame, rectangles that straight edges enclose
(the pictures of a collage, a picture in a picture), and at the level `thorough` the picture rotated
by a few degrees. Each becomes a `nciihash.windows.Part` of 16 KiB. The sandbox's child makes them,
so that nothing else of the picture reaches the process that matches.
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from nciihash.hashing.rectangles import find_rectangles
from nciihash.hashing.trimming import Region
from nciihash.signals import Level, PartKind
from nciihash.window_tables import ANGLES, Box
from nciihash.windows import CELLS, Part, quarter_turns, rotated

_SIDE: Final = 512  # pixels: least longer side of the reduced copy, unless the image is smaller
_PART_MIN: Final = 40  # pixels of that copy: a smaller rectangle shows too little


def query_parts(
    rgb: NDArray[np.uint8],
    level: Level,
    trimmed: Region | None = None,
    time: float | None = None,
) -> tuple[Part, ...]:
    """Return the parts of a query, the whole first.

    Args:
        rgb: uint8 (h, w, 3), upright.
        level: `fast` has the whole and the trimmed part only.
        trimmed: the picture within the frame, as `nciihash.hashing.trimming.trim` finds it.
        time: of a video's frame, in seconds.
    """
    luma = _reduced(rgb)
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
        parts += [rotated(whole, angle) for angle in ANGLES]
        parts += quarter_turns(whole)
    return tuple(parts)


def _reduced(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the luma of a copy whose longer side is from `_SIDE` to twice that, or smaller."""
    height, width = rgb.shape[:2]
    step = max(1, max(height, width) // _SIDE)
    # whole numbers, for which OpenCV is many times faster; a side of fewer pixels becomes one
    down, across = min(step, height), min(step, width)
    rows, columns = height // down, width // across
    # to grey first, which leaves a third of the values to be reduced
    grey = cv2.cvtColor(rgb[: rows * down, : columns * across], cv2.COLOR_RGB2GRAY)
    if step > 1:
        grey = cv2.resize(grey, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(grey, np.float32)


def _cells(luma: NDArray[np.float32]) -> NDArray[np.uint8]:
    shrinks = min(luma.shape) >= CELLS
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    small = cv2.resize(np.ascontiguousarray(luma), (CELLS, CELLS), interpolation=method)
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)


def _part(kind: PartKind, luma: NDArray[np.float32], box: Box, time: float | None) -> Part | None:
    """Return a rectangle of the reduced copy as a part; None if it is too small.

    One pixel is left off at each edge that is not the picture's own, since reducing mixes it with
    the other side of the edge.
    """
    height, width = luma.shape
    left, top = (round(box[0] * width), round(box[1] * height))
    right, bottom = (round(box[2] * width), round(box[3] * height))
    left, top = left + (left > 0), top + (top > 0)
    right, bottom = right - (right < width), bottom - (bottom < height)
    if min(right - left, bottom - top) < _PART_MIN:
        return None
    inner = (left / width, top / height, right / width, bottom / height)
    shape = (right - left) / (bottom - top)
    return Part(kind, _cells(luma[top:bottom, left:right]), inner, shape=shape, time=time)
