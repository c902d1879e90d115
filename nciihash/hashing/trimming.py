"""Find the picture within flat borders, captions, bars and the user interface of a screenshot.

A platform's copy and the submitted file are trimmed by the same rule, so that both are reduced to
the same picture. Lines of pixels are examined from each side inwards. A line that is mostly one
colour belongs to the frame, and so do a few other lines (letters, buttons) if that colour follows
them. The frame ends where the colour stops abruptly, along a straight edge: a sky fades out, a
frame does not. Bars filled with a blurred copy have no single colour; they are recognised by their
edge and by having much less detail than the picture between them.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]

_SIDE: Final = 512  # pixels: least longer side of the reduced copy, unless the image is smaller
_LINES_MIN: Final = 32  # lines of that copy; a smaller one shows no frame reliably
_NEAR: Final = 10  # levels within which a pixel still has its band's colour
_BAND_MIN: Final = 0.55  # fraction of a line that must have the band's colour
_EDGE_MIN: Final = 0.3  # drop of that fraction where a frame ends
_GAP: Final = 0.12  # greatest height of letters and buttons, as a fraction of the side
_KEPT_MIN: Final = 0.1  # least fraction of each side to keep
_AREA_MIN: Final = 0.08  # least fraction of the area to keep; less is not the picture
_SIDE_MIN: Final = 64  # least side of the trimmed picture, in pixels
_ROUNDS: Final = 3  # a border within bars within a screenshot

# For bars filled with a blurred copy:
_STEP: Final = 12  # levels between two lines that make an edge
_STRAIGHT: Final = 0.4  # fraction of a line that must be on the edge
_BAR_MIN: Final = 0.02  # least height of a bar, as a fraction of the side
_OFF_CENTRE: Final = 0.03  # greatest difference of the bars' heights, as a fraction of the side
_BLURRED: Final = 0.4  # greatest detail of the bars, as a fraction of the middle's


@dataclass(frozen=True, slots=True)
class Region:
    """A part of an image, in pixels: from `top`, `left` to `bottom`, `right`, exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    def of(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a view of this part of (h, w, 3) pixels."""
        return rgb[self.top : self.bottom, self.left : self.right]


def reduce(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a copy whose longer side is from 512 to 1023 pixels, or an image that is smaller.

    Args:
        rgb: uint8 (h, w, 3).
    """
    height, width = rgb.shape[:2]
    step = _step(height, width)
    if step == 1:
        return rgb
    # whole numbers, for which OpenCV is many times faster; a side of fewer pixels becomes one
    down, across = min(step, height), min(step, width)
    rows, columns = height // down, width // across
    cut = rgb[: rows * down, : columns * across]
    return np.asarray(cv2.resize(cut, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)


def _step(height: int, width: int) -> int:
    return max(1, max(height, width) // _SIDE)


def trim(rgb: NDArray[np.uint8], copy: NDArray[np.uint8] | None = None) -> Region | None:
    """Find the picture within a frame; None if there is no frame.

    Args:
        rgb: uint8 (h, w, 3), upright.
        copy: what `reduce` returns, if the caller has it already.
    """
    height, width = rgb.shape[:2]
    copy = reduce(rgb) if copy is None else copy
    rows, columns = copy.shape[:2]
    if min(rows, columns) < _LINES_MIN:
        return None
    step = _step(height, width)
    top, left, bottom, right = _within(copy)
    region = Region(
        top * step,
        left * step,
        height if bottom == rows else bottom * step,
        width if right == columns else right * step,
    )
    kept_height, kept_width = region.bottom - region.top, region.right - region.left
    if (kept_height, kept_width) == (height, width):
        return None
    if kept_height * kept_width < _AREA_MIN * height * width:
        return None
    if min(kept_height, kept_width) < _SIDE_MIN:
        return None
    return region


def _within(copy: Pixels) -> tuple[int, int, int, int]:
    """Return top, left, bottom and right of the picture within all nested frames."""
    top, left, bottom, right = whole = (0, 0, *copy.shape[:2])
    for _ in range(_ROUNDS):
        before = top, left, bottom, right
        start, end = _frame(copy[top:bottom, left:right])
        top, bottom = top + start, top + end
        start, end = _frame(np.asarray(cv2.transpose(copy[top:bottom, left:right]), np.uint8))
        left, right = left + start, left + end
        if (top, left, bottom, right) == before:
            break
    if (top, left, bottom, right) == whole:
        grey = np.asarray(cv2.cvtColor(copy, cv2.COLOR_RGB2GRAY), np.uint8)
        if bars := _blurred_bars(grey):
            top, bottom = bars
        elif bars := _blurred_bars(np.ascontiguousarray(grey.T)):
            left, right = bars
    return top, left, bottom, right


def _frame(lines: Pixels) -> tuple[int, int]:
    """Return the first line after the frame on one side, and the end before it on the other."""
    count = len(lines)
    start, end = _edge(lines), count - _edge(lines[::-1])
    return (start, end) if end - start >= count * _KEPT_MIN else (0, count)


def _edge(lines: Pixels) -> int:
    """Return the number of lines of frame, from the first line inwards."""
    count = len(lines)
    gap = max(3, round(count * _GAP))
    cut = 0
    while cut < count * (1 - _KEPT_MIN):
        colour = np.median(lines[cut], axis=0)
        if _fraction_of_colour(lines[cut : cut + 1], colour)[0] < _BAND_MIN:
            return cut
        fraction = _fraction_of_colour(lines[cut:], colour)
        near = np.flatnonzero(fraction >= _BAND_MIN)
        gaps = np.flatnonzero(np.diff(near) > gap)
        last = int(near[gaps[0]] if gaps.size else near[-1])  # the band's last line
        beyond = fraction[last + 1 : last + 4]
        if (
            not beyond.size
            or fraction[max(last - 1, 0) : last + 1].max() - beyond.min() < _EDGE_MIN
        ):
            return cut  # the colour never ends, or fades out
        if (
            _fraction_changed(lines[max(cut + last - 1, 0)], lines[min(cut + last + 2, count - 1)])
            < _EDGE_MIN
        ):
            return cut  # the colour drifts
        cut += last + 1
    return 0


def _fraction_changed(before: Pixels, after: Pixels) -> float:
    """Return the fraction of pixels that differ between two lines."""
    return float((cv2.absdiff(before, after).max(axis=1) > _NEAR).mean())


def _fraction_of_colour(lines: Pixels, colour: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return for each line the fraction of its pixels that have a colour."""
    low, high = np.maximum(colour - _NEAR, 0), np.minimum(colour + _NEAR, 255)
    near = cv2.inRange(np.ascontiguousarray(lines), low, high)
    return np.asarray(np.count_nonzero(near, axis=1) / near.shape[1])


def _blurred_bars(grey: Pixels) -> tuple[int, int] | None:
    """Find bars without detail above and below a sharp picture in the middle."""
    count = len(grey)
    half = count // 2
    steps = np.count_nonzero(cv2.absdiff(grey[1:], grey[:-1]) > _STEP, axis=1) / grey.shape[1]
    start = int(np.argmax(steps[: half - 2])) + 1
    end = int(np.argmax(steps[half + 2 :])) + half + 3
    if min(steps[start - 1], steps[end - 1]) < _STRAIGHT or start < _BAR_MIN * count:
        return None
    if abs(start - (count - end)) > _OFF_CENTRE * count + 1:
        return None
    detail = cv2.absdiff(grey[:, 1:], grey[:, :-1]).mean(axis=1)
    bars = np.concatenate((detail[: start - 1], detail[end + 1 :]))
    if not bars.size or np.median(bars) >= _BLURRED * np.median(detail[start:end]):
        return None
    return start, end
