"""Find the pictures within a picture: collages, picture in picture, blurred bars, screenshots.

Where two pictures meet, luma changes within one or two pixels, in many rows of the same column. An
edge in a photo is softer, or is one of many in its neighbourhood. So a pixel counts as a step if
luma changes there far more than a few pixels to the left and right. The share of steps along a
part of a column is its support. Columns and rows with much support are seams, and a rectangle is
bounded by two seams of each axis, or by the edges of the picture.

A rectangle is worth its weakest side. It is worth less if another seam crosses it, because then it
is two pictures, or a picture and a gutter.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from nciihash.window_tables import Box

# Chosen by the share of rectangles found in drawn collages, pictures in pictures, blurred bars,
# frames and screenshots of one half of the sample photos, less a cost for each rectangle returned.
# The other half confirmed it. Distances are in pixels of a picture of `_SIDE_MAX` at most.
_SIDE_MIN: Final = 48  # shorter side; a smaller picture has no parts worth a hash
_SIDE_MAX: Final = 720  # longer side; at 512, two in a hundred fewer are found
_RECTANGLES: Final = 10  # returned
_SEAMS: Final = 10  # along each axis: 3x3 pictures with gutters and a margin have 6
_NEAR: Final = 3  # a change is measured over two pixels, so three away it is another one
_FAR: Final = 6
_CONTRAST: Final = 2.0  # times the change in the neighbourhood
_CONTRAST_BASE: Final = 2.0  # plus this luma: the noise of JPEG
_CHANGE_MIN: Final = np.uint8(6)  # luma; 9 loses a tenth of the blurred bars; 4 finds no more
_BLOCK: Final = 8  # rows counted together
_PEAK_MIN: Final = 0.15  # a seam's support above 0.7 of the mean around it
_PEAK_SHARE: Final = 0.7
_PEAK_WIDTH: Final = 13
_WHOLE_BONUS: Final = 1.15  # a seam across the whole picture is rarer by chance than a part of it
_SHORTEST: Final = 0.18  # of a rectangle's sides, as a fraction of the picture's
_LONGER_SHARE: Final = 0.65  # weight of a longer part of the same seam; 0 loses a tenth of 3x3
_CHANCE_SHARE: Final = 0.5  # of the support in the columns around, which is subtracted
_CHANCE_WIDTH: Final = 25
_LENGTH_BONUS: Final = 0.1  # times a side's length as a fraction: chance is rarer on a long side
_SUPPORT_MIN: Final = (
    0.48  # of each side; 0.43 finds 0.5 % more and returns half as many again of photos
)
_SCORE_MIN: Final = 0.1
_OVERLAP_MAX: Final = 0.95  # intersection over union; a hash tolerates 2-3 % of a side
_REACH: Final = 4  # on both sides of a seam, to see how many pixels it is wide
# Of a seam's largest change: a pixel with this much is part of the seam. From 0.5 to 0.9 the hashes
# of rectangles are as near to those of the pictures, on average 6 bits; an inset of one pixel more
# makes it 12, of two pixels 19, and one pixel less 10.
_SMEAR: Final = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class _Seams:
    """The seams along one axis, and the two edges of the picture as the first and the last.

    Attributes:
        at: positions of n seams, as fractions of the picture, ascending: 0, ..., 1.
        ends: where the picture before the seam ends, as fractions (n,).
        starts: where the picture after the seam begins, as fractions (n,). Between the two are the
            pixels that scaling or compression mixed, or a narrow gutter.
        steps: float32 (blocks + 1, n), blocks of steps from the first to each, for each seam.
        chance: the same, mean of the columns around the seam.
    """

    at: NDArray[np.float64]
    ends: NDArray[np.float64]
    starts: NDArray[np.float64]
    steps: NDArray[np.float32]
    chance: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class _Sides:
    """Pairs of seams of one axis, which may bound a rectangle: indices int (pairs,)."""

    first: NDArray[np.intp]
    last: NDArray[np.intp]


def find_rectangles(luma: NDArray[np.float32] | NDArray[np.uint8]) -> tuple[Box, ...]:
    """Return the rectangles that may be pictures of their own, the likeliest first.

    At most ten; from a photo mostly none. Flat and tiny pictures have none. The pixels that
    scaling mixed along a seam are outside the rectangle: an inset would only cut off more of it.

    Args:
        luma: float32 or uint8 (h, w), 0 to 255.
    """
    if min(luma.shape) < _SIDE_MIN:
        return ()
    grey = luma if luma.dtype == np.uint8 else np.clip(luma, 0, 255).astype(np.uint8)
    grey = _reduced(np.ascontiguousarray(grey))
    upright = _find_seams(grey)
    level = _find_seams(np.ascontiguousarray(grey.T))
    if len(upright.at) + len(level.at) == 4:  # only the edges of the picture
        return ()
    across, down = _pairs(upright), _pairs(level)
    scores = _scores(upright, level, across, down)
    column, row = np.nonzero(scores > _SCORE_MIN)
    order = np.argsort(-scores[column, row], kind="stable")
    column, row = column[order], row[order]
    boxes = np.stack(
        (
            upright.starts[across.first[column]],
            level.starts[down.first[row]],
            upright.ends[across.last[column]],
            level.ends[down.last[row]],
        ),
        axis=1,
    )
    return tuple(_distinct(boxes))


def _reduced(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = grey.shape
    scale = _SIDE_MAX / max(height, width)
    if scale >= 1:
        return grey
    size = max(_SIDE_MIN, round(width * scale)), max(_SIDE_MIN, round(height * scale))
    # between half and all of the size, linear interpolation is as good and three times faster
    method = cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(grey, size, interpolation=method), np.uint8)


def _find_seams(grey: NDArray[np.uint8]) -> _Seams:
    """Return the upright seams of a picture, uint8 (h, w)."""
    height, width = grey.shape
    blocks = height // _BLOCK
    counts = _steps(grey)[: blocks * _BLOCK].reshape(blocks, _BLOCK, width)
    steps = np.zeros((blocks + 1, width), np.float32)
    np.cumsum(counts.sum(1, dtype=np.uint8), axis=0, dtype=np.float32, out=steps[1:])
    steps /= _BLOCK
    columns, firsts, lasts = _peaks(steps)
    bounds = [
        _bounds(grey[first * _BLOCK : last * _BLOCK], column)
        for column, first, last in zip(columns, firsts, lasts, strict=True)
    ]
    ends, starts = np.array([(0, 0), *bounds, (width, width)]).T / width
    # the edges of the picture have steps in each row, and are no chance
    inside = np.concatenate(([0], columns, [width - 1]))
    chosen = steps[:, inside]
    chance = np.asarray(cv2.blur(steps, (_CHANCE_WIDTH, 1)), np.float32)[:, inside]
    chosen[:, [0, -1]] = np.arange(blocks + 1, dtype=np.float32)[:, None]
    chance[:, [0, -1]] = 0
    at = np.concatenate(([0.0], (columns + 0.5) / width, [1.0]))
    return _Seams(at, ends, starts, chosen, chance)


def _steps(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return where luma changes far more than nearby in the same row: 1 or 0, uint8 (h, w).

    Of four pixels nearby, at `_NEAR` and `_FAR` on both sides, the one with the largest change does
    not count, since it may be the other side of a gutter.
    """
    width = grey.shape[1]
    change = cv2.absdiff(grey[:, 2:], grey[:, :-2])
    change = cv2.copyMakeBorder(change, 0, 0, _FAR + 1, _FAR + 1, cv2.BORDER_REFLECT)
    left, right, far_left, far_right = (
        change[:, _FAR + offset : _FAR + offset + width] for offset in (-_NEAR, _NEAR, -_FAR, _FAR)
    )
    second = cv2.max(
        cv2.min(cv2.max(left, right), cv2.max(far_left, far_right)),
        cv2.max(cv2.min(left, right), cv2.min(far_left, far_right)),
    )
    least = cv2.convertScaleAbs(second, alpha=_CONTRAST, beta=_CONTRAST_BASE)
    enough = np.maximum(np.asarray(least, np.uint8), _CHANGE_MIN)
    return np.greater(change[:, _FAR:-_FAR], enough).view(np.uint8)


def _peaks(
    steps: NDArray[np.float32],
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return the columns that are seams, ascending, and the blocks from and to which they are best.

    A seam may be a part of a column: the whole, halves, thirds and quarters are tried, overlapping.
    """
    blocks, width = len(steps) - 1, steps.shape[1]
    best = steps[-1] / blocks * _WHOLE_BONUS
    first, last = np.zeros(width, np.intp), np.full(width, blocks, np.intp)
    for parts in (2, 3, 4):
        length = blocks // parts
        for start in range(0, blocks - length + 1, max(1, length // 2)):
            share = (steps[start + length] - steps[start]) / length
            better = share > best
            best[better] = share[better]
            first[better], last[better] = start, start + length
    around = cv2.blur(best[None], (_PEAK_WIDTH, 1))[0]
    rise = best - _PEAK_SHARE * around
    rise[:_NEAR] = rise[-_NEAR:] = 0
    columns = list[int]()
    while len(columns) < _SEAMS and rise[column := int(rise.argmax())] >= _PEAK_MIN:
        columns.append(column)
        rise[max(0, column - _NEAR + 1) : column + _NEAR] = 0
    chosen = np.sort(np.array(columns, np.intp))
    return chosen, first[chosen], last[chosen]


def _bounds(rows: NDArray[np.uint8], column: int) -> tuple[int, int]:
    """Return where the picture before a seam ends and where the picture after it begins, in pixels.

    Both are boundaries: x is between the pixels x - 1 and x.
    """
    left = max(0, column - _REACH)
    strip = rows[:, left : column + _REACH + 1]
    change = np.minimum(cv2.absdiff(strip[:, 1:], strip[:, :-1]), 40).mean(0)
    change -= change.min()
    inside = np.flatnonzero(change >= _SMEAR * change.max())
    return left + 1 + int(inside[0]), left + 1 + int(inside[-1])


def _pairs(seams: _Seams) -> _Sides:
    first, last = np.triu_indices(len(seams.at), 1)
    wide = seams.at[last] - seams.at[first] >= _SHORTEST
    return _Sides(first[wide], last[wide])


def _scores(upright: _Seams, level: _Seams, across: _Sides, down: _Sides) -> NDArray[np.float32]:
    """Return the score of each rectangle, float32 (across, down), -1 where it is none."""
    sides_across, crossing_across = _support(upright, level.at, across, down)
    sides_down, crossing_down = _support(level, upright.at, down, across)
    weakest = np.minimum(sides_across, sides_down.T)
    crossing = np.maximum(crossing_across, crossing_down.T)
    whole = np.ix_(
        (across.first == 0) & (across.last == len(upright.at) - 1),
        (down.first == 0) & (down.last == len(level.at) - 1),
    )
    split = np.minimum(crossing / np.maximum(weakest, _SUPPORT_MIN), 1)
    scores = np.where(weakest > _SUPPORT_MIN, weakest * (1 - split**4), -1)
    scores[whole] = -1
    return np.asarray(scores, np.float32)


def _support(
    seams: _Seams, other: NDArray[np.float64], pairs: _Sides, spans: _Sides
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the support of the weaker side, and of the strongest seam between the two sides.

    Both float32 (pairs, spans): for each pair of seams, along each span between seams of the other
    axis, whose positions are `other`.
    """
    blocks = len(seams.steps) - 1
    block = np.rint(other * blocks).astype(np.intp)
    first, last = block[spans.first], block[spans.last]
    length = np.maximum(last - first, 1)[:, None].astype(np.float32)
    share = ((seams.steps[last] - seams.steps[first]) / length).T  # (seams, spans)
    chance = ((seams.chance[last] - seams.chance[first]) / length).T * _CHANCE_SHARE
    # Where two pictures are alike along a side, the rest of a seam across more of them is evidence.
    contained = (spans.first[:, None] >= spans.first) & (spans.last[:, None] <= spans.last)
    longer = np.where(contained, share[:, None, :], 0).max(2)
    support = share + _LONGER_SHARE * (longer - share)
    support = np.maximum((support - chance) / (1 - chance), 0)
    support += _LENGTH_BONUS * (other[spans.last] - other[spans.first]).astype(np.float32)
    weaker = np.minimum(support[pairs.first], support[pairs.last])
    number = np.arange(len(seams.at))
    between = (number > pairs.first[:, None]) & (number < pairs.last[:, None])
    strongest = np.where(between[:, :, None], support, 0).max(1)
    return weaker, strongest


def _distinct(boxes: NDArray[np.float64]) -> Iterator[Box]:
    """Yield the first boxes, (n, 4), that are not nearly the same as an earlier one."""
    for _ in range(_RECTANGLES):
        if not len(boxes):
            return
        box = boxes[0]
        yield tuple(box.tolist())
        shared = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
        overlap = np.maximum(shared, 0).prod(1)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        boxes = boxes[overlap <= _OVERLAP_MAX * (areas + areas[0] - overlap)]
