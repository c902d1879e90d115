"""Find the picture within flat borders, caption bands, bars and the furniture of screens.

A platform's copy and the submitted file are trimmed by the same rule, so that both come to the same
picture. Lines of pixels are looked at from each side inwards. A line that is mostly of one colour
belongs to the frame, and so do a few others (letters, buttons) after which that colour returns. The
frame ends where the colour is left all at once, along a straight edge: a sky fades out, a frame
does not. Bars filled with a blurred copy have no colour; they are known by their edge and by how
much less detail they show than what lies between.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]

_SIDE: Final = 512  # pixels of the longer side of the copy that is looked at, at least
_LINES_MIN: Final = 32  # of that copy; frames cannot be told in a smaller one
_NEAR: Final = 10  # levels within which a pixel still has its band's colour
_MOST: Final = 0.55  # share of a line that must have the colour
_LEAP: Final = 0.3  # by how much that share falls where a frame ends
_GAP: Final = 0.12  # of the side: how thick letters and buttons are at most
_KEPT_MIN: Final = 0.1  # of the side
_AREA_MIN: Final = 0.08  # of the whole; what is left is no picture below that
_SIDE_MIN: Final = 64  # pixels of what is left
_ROUNDS: Final = 3  # borders within bars within a screen

_STEP: Final = 12  # levels from one line to the next
_STRAIGHT: Final = 0.4  # share of a line that must step
_BAR_MIN: Final = 0.02  # of the side
_OFF_CENTRE: Final = 0.03  # of the side
_BLURRED: Final = 0.4  # of the detail in the middle


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a picture, in pixels: from `top`, `left` up to but without `bottom`, `right`."""

    top: int
    left: int
    bottom: int
    right: int

    def of(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Give a view of this part of (h, w, 3) pixels."""
        return rgb[self.top : self.bottom, self.left : self.right]


def trim(rgb: NDArray[np.uint8]) -> Region | None:
    """Find the picture within a frame, or give None where there is no frame.

    Args:
        rgb: uint8 (h, w, 3), upright.
    """
    height, width = rgb.shape[:2]
    step = max(1, max(height, width) // _SIDE)
    rows, columns = height // step, width // step
    if min(rows, columns) < _LINES_MIN:
        return None
    copy = np.ascontiguousarray(rgb[: rows * step, : columns * step])
    if step > 1:  # by a whole number, for which OpenCV is many times faster
        copy = np.asarray(cv2.resize(copy, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
    top, left, bottom, right = _within(copy)
    region = Region(
        top * step,
        left * step,
        height if bottom == rows else bottom * step,
        width if right == columns else right * step,
    )
    high, wide = region.bottom - region.top, region.right - region.left
    if (high, wide) == (height, width):
        return None
    if high * wide < _AREA_MIN * height * width or min(high, wide) < _SIDE_MIN:
        return None
    return region


def _within(copy: Pixels) -> tuple[int, int, int, int]:
    """Find top, left, bottom and right of what lies within all frames."""
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
    """Find where, across these lines of pixels, the frame ends on one side and on the other."""
    count = len(lines)
    start, end = _edge(lines), count - _edge(lines[::-1])
    return (start, end) if end - start >= count * _KEPT_MIN else (0, count)


def _edge(lines: Pixels) -> int:
    """Count the lines of frame from the first line inwards."""
    count = len(lines)
    gap = max(3, round(count * _GAP))
    cut = 0
    while cut < count * (1 - _KEPT_MIN):
        colour = np.median(lines[cut], axis=0)
        if _share(lines[cut : cut + 1], colour)[0] < _MOST:
            return cut
        share = _share(lines[cut:], colour)
        near = np.flatnonzero(share >= _MOST)
        away = np.flatnonzero(np.diff(near) > gap)
        last = int(near[away[0]] if away.size else near[-1])  # the band's last line
        beyond = share[last + 1 : last + 4]
        if not beyond.size or share[max(last - 1, 0) : last + 1].max() - beyond.min() < _LEAP:
            return cut  # nothing else comes, or it comes by and by
        if _leap(lines[max(cut + last - 1, 0)], lines[min(cut + last + 2, count - 1)]) < _LEAP:
            return cut  # a colour that drifts
        cut += last + 1
    return 0


def _leap(before: Pixels, after: Pixels) -> float:
    """Give the share of pixels that differ from one line to another."""
    return float((cv2.absdiff(before, after).max(axis=1) > _NEAR).mean())


def _share(lines: Pixels, colour: NDArray[np.floating]) -> NDArray[np.floating]:
    """Give for each line the share of its pixels that have a colour."""
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
