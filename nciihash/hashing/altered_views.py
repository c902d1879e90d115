"""Hash altered views of one picture from one small copy: crops, borders, mirrors, small turns.

PDQ is a linear filter, a grid of 64x64 samples and a small transform. A crop or a border only
moves the samples of an axis, so each view's grid is `A @ base @ B.T`, the base being a copy of
256x256 cell means, and a mirror or a quarter turn changes only signs and order of the transform's
coefficients. So dozens of views cost about as much as one decode of the picture itself.

The filter is PDQ's for a large picture, two box passes of half a grid cell each, which make a
triangle; at which size an altered copy will be saved is not known anyway.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from nciihash.pdq import GRID

_CELLS: Final = 256  # of the base, along each axis
_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as PDQ's


@dataclass(frozen=True, slots=True)
class View:
    """One way to look at a picture.

    Shares are of the picture's own width and height.

    Attributes:
        cut: what is cut away left, top, right and bottom; below 0 a border is added.
        shape: width by height to which the picture is then cut; 0 for its own.
        pad: add what lacks of `shape` instead of cutting what exceeds it.
        turn: degrees, clockwise.
        filled: enlarge as much as it takes to have no empty corners after turning.
        fill: luma of borders and corners.
        mirror: exchange left and right.
    """

    cut: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    shape: float = 0.0
    pad: bool = False
    turn: float = 0.0
    filled: bool = False
    fill: float = 0.0
    mirror: bool = False


@dataclass(frozen=True, slots=True)
class Base:
    """A picture's cell means, float32 (rows, columns) luma, and its width by its height."""

    luma: NDArray[np.float32]
    shape: float


def base(rgb: NDArray[np.uint8]) -> Base:
    """Make the small copy of a picture, uint8 (h, w, 3), from which all views are hashed."""
    height, width = rgb.shape[:2]
    # By a whole number first, for which OpenCV is many times faster; rounding to eighths of a
    # level is no matter where four or more such cells are averaged again.
    if (step := min(height, width) // (2 * _CELLS)) > 1:
        rows, columns = height // step, width // step
        cut = np.ascontiguousarray(rgb[: rows * step, : columns * step])
        rgb = np.asarray(cv2.resize(cut, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
    luma = rgb @ _LUMA
    size = min(_CELLS, luma.shape[1]), min(_CELLS, luma.shape[0])
    small = cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
    return Base(np.asarray(small, np.float32), width / height)


def grids(base: Base, views: tuple[View, ...]) -> NDArray[np.float64]:
    """Give each view's grid of luma, (n, 64, 64); mirrors are left to the coefficients.

    In double precision, so that no bit depends on how a machine's libraries order their sums.
    """
    out = np.empty((len(views), GRID, GRID))
    rows: dict[tuple[float, float], NDArray[np.float64]] = {}
    upright = base.luma.astype(np.float64)
    for grid, view in zip(out, views, strict=True):
        luma = _turned(base, view).astype(np.float64) if view.turn else upright
        (left, width), (top, height) = window(view, base.shape)
        across, inside_x = operator(left, width, luma.shape[1])
        down, inside_y = operator(top, height, luma.shape[0])
        if view.turn:
            half = down @ luma
        elif (top, height) in rows:
            half = rows[top, height]
        else:
            half = rows[top, height] = down @ luma
        np.matmul(half, across.T, out=grid)
        if min(left, top) < 0 or max(left + width, top + height) > 1:
            grid += view.fill * (1 - np.outer(inside_y, inside_x))
    return out


def window(view: View, shape: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Give start and length, across and down, of what a view shows, in shares of the picture."""
    left, top, right, bottom = view.cut
    width, height = 1 - left - right, 1 - top - bottom
    if view.shape:
        now = shape * width / height
        narrower = (now > view.shape) != view.pad
        if narrower:  # the width follows the height, else the height the width
            left += width * (1 - view.shape / now) / 2
            width *= view.shape / now
        else:
            top += height * (1 - now / view.shape) / 2
            height *= now / view.shape
    return (left, width), (top, height)


@lru_cache(maxsize=512)
def operator(
    start: float, length: float, cells: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give filter and decimation of a part of an axis as a matrix on the axis's cell means.

    Each cell counts as a line with its own mean and its neighbours' slope.

    Args:
        start: where the part begins, 0 to 1 being the picture; it may reach beyond.
        length: how long it is.
        cells: of the base, along this axis.

    Returns:
        Float64 (64, cells), and (64,), the share of each sample that lies in the picture.
    """
    centre = start + (np.arange(GRID) + 0.5) / GRID * length
    half = length / (2 * GRID)
    at = np.clip((np.arange(cells + 1) / cells - centre[:, None]) / half, -1, 1)
    weight = np.diff(at - at * np.abs(at) / 2)  # of the triangle
    moment = np.diff(at**2 / 2 - np.abs(at) ** 3 / 3)
    middle = (np.arange(cells) + 0.5) / cells
    lever = (half * moment + (centre[:, None] - middle) * weight) * cells / 2
    matrix = weight.copy()
    matrix[:, 1:] += lever[:, :-1]
    matrix[:, -1] += lever[:, -1]
    matrix[:, :-1] -= lever[:, 1:]
    matrix[:, 0] -= lever[:, 0]
    return matrix, weight.sum(axis=1)


def _turned(base: Base, view: View) -> NDArray[np.float32]:
    """Turn the base about its middle, in the picture's own proportions."""
    rows, columns = base.luma.shape
    angle = math.radians(view.turn)
    zoom = 1.0
    if view.filled:
        longer = max(base.shape, 1 / base.shape)
        zoom = math.cos(angle) + longer * math.sin(abs(angle))
    cosine, sine = math.cos(angle) / zoom, math.sin(angle) / zoom
    # from a cell of the turned picture to a cell of the base
    xx, xy = cosine, sine / base.shape * columns / rows
    yx, yy = -sine * base.shape * rows / columns, cosine
    x, y = (columns - 1) / 2, (rows - 1) / 2
    matrix = np.array([[xx, xy, x - xx * x - xy * y], [yx, yy, y - yx * x - yy * y]])
    turned = cv2.warpAffine(
        base.luma,
        matrix,
        (columns, rows),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=view.fill,
    )
    return np.asarray(turned, np.float32)
