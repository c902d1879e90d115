"""Compute the PDQ grids of altered views of an image from one small copy of it.

The views are crops, borders, mirrors and small rotations. PDQ is a linear filter, a grid of 64x64
samples and a DCT. A crop or a border only moves the samples along an axis, so each view's grid is
`A @ base @ B.T`, where the base is a copy of 256x256 cell means. A mirror or a quarter turn changes
only the signs and the order of the DCT coefficients. So dozens of views cost about as much as
decoding the image once.

The filter is PDQ's for a large image: two box filters of half a grid cell each, together a
triangle. The size at which an altered copy will be saved is not known.

The web page computes the same grids from the same pixels, up to the rounding of double precision,
so that its hashes are equal to the bit. So nothing here is in single precision, and no step is left
to a library whose rounding is not known.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from nciihash.pdq import GRID
from nciihash.windows import axis_operators

_CELLS: Final = 256  # of the base, along each axis
_BLOCK: Final = 16  # samples of the grid that are computed at once
_LUMA: Final = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as PDQ's

_Block: TypeAlias = tuple[int, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class View:
    """One alteration of an image.

    Attributes:
        cut: the fractions of width or height to crop at the left, top, right and bottom; a negative
            fraction adds a border.
        shape: the aspect ratio, width / height, to crop to after `cut`; 0 keeps the image's own.
        pad: pad to `shape` instead of cropping to it.
        turn: rotation in degrees, clockwise.
        filled: zoom in until no empty corners are left after the rotation.
        fill: luma of borders and corners, 0 to 255.
        mirror: flip left and right.
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
    """An image's cell means, float64 (rows, columns) luma, and its aspect ratio, width / height."""

    luma: NDArray[np.float64]
    shape: float


def base(rgb: NDArray[np.uint8]) -> Base:
    """Return the small copy of an image, uint8 (h, w, 3), from which all views are computed."""
    height, width = rgb.shape[:2]
    # First by a whole number, for which OpenCV is many times faster. Rounding to whole levels does
    # not matter, because four or more such cells are averaged again.
    if (step := min(height, width) // (2 * _CELLS)) > 1:
        rows, columns = height // step, width // step
        cut = np.ascontiguousarray(rgb[: rows * step, : columns * step])
        rgb = np.asarray(cv2.resize(cut, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
    luma = _means(rgb @ _LUMA)
    return Base(np.ascontiguousarray(_means(luma.T).T), width / height)


def _means(luma: NDArray[np.float64]) -> NDArray[np.float64]:
    """Reduce the rows of luma to the means of at most `_CELLS` cells of equal height."""
    rows = len(luma)
    if rows <= _CELLS:
        return luma
    starts = np.arange(_CELLS) * (rows / _CELLS)
    whole = starts.astype(np.intp)
    # a cell begins within a row, and the part of that row before it is the cell's before
    shared = luma[whole] * (starts - whole)[:, None]
    sums = np.add.reduceat(luma, whole, axis=0)
    sums -= shared
    sums[:-1] += shared[1:]
    sums *= _CELLS / rows
    return sums


def grids(base: Base, views: tuple[View, ...]) -> NDArray[np.float64]:
    """Return each view's grid of luma, float64 (n, 64, 64), before mirroring.

    Mirrors are applied to the coefficients instead. Double precision keeps the bits independent of
    the order in which a machine's libraries sum.
    """
    out = np.empty((len(views), GRID, GRID))
    halves: dict[tuple[float, float], NDArray[np.float64]] = {}
    for grid, view in zip(out, views, strict=True):
        luma = _rotated(base, view) if view.turn else base.luma
        (left, width), (top, height) = window(view, base.shape)
        half = None if view.turn else halves.get((top, height))
        if half is None:
            half = _sampled(luma, top, height)
            if not view.turn:
                halves[top, height] = half
        grid[:] = _sampled(half.T, left, width).T
        if min(left, top) < 0 or max(left + width, top + height) > 1:
            inside_y = operator(top, height, luma.shape[0])[1]
            inside_x = operator(left, width, luma.shape[1])[1]
            grid += view.fill * (1 - np.outer(inside_y, inside_x))
    return out


def _sampled(luma: NDArray[np.float64], start: float, length: float) -> NDArray[np.float64]:
    """Return `operator(start, length, len(luma)) @ luma`, without most of the zeros."""
    out = np.empty((GRID, luma.shape[1]))
    blocks = _blocks(start, length, len(luma))
    for first, (cell, matrix) in zip(range(0, GRID, _BLOCK), blocks, strict=True):
        np.matmul(matrix, luma[cell : cell + matrix.shape[1]], out=out[first : first + _BLOCK])
    return out


@lru_cache(maxsize=512)
def _blocks(start: float, length: float, cells: int) -> tuple[_Block, ...]:
    """Return an operator's rows, `_BLOCK` at a time, as (first cell, weights)."""
    matrix, _ = operator(start, length, cells)
    blocks = []
    for rows in matrix.reshape(-1, _BLOCK, cells):
        used = np.flatnonzero(rows.any(axis=0))
        first, end = (used[0], used[-1] + 1) if len(used) else (0, 0)
        blocks.append((int(first), np.ascontiguousarray(rows[:, first:end])))
    return tuple(blocks)


def window(view: View, shape: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the (start, length) of a view along x and along y, as fractions of the image."""
    left, top, right, bottom = view.cut
    width, height = 1 - left - right, 1 - top - bottom
    if view.shape:
        aspect = shape * width / height
        narrower = (aspect > view.shape) != view.pad
        if narrower:  # keep the height and change the width, else the reverse
            left += width * (1 - view.shape / aspect) / 2
            width *= view.shape / aspect
        else:
            top += height * (1 - aspect / view.shape) / 2
            height *= aspect / view.shape
    return (left, width), (top, height)


@lru_cache(maxsize=512)
def operator(
    start: float, length: float, cells: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return filter and decimation of an interval of an axis as a matrix on the axis's cell means.

    Args:
        start: start of the interval; the image is from 0 to 1, and the interval may exceed it.
        length: its length.
        cells: the number of the base's cells along this axis.

    Returns:
        Float64 (64, cells), and float64 (64,), the fraction of each sample that is in the image.
    """
    matrices, inside = axis_operators(np.array([start]), np.array([length]), cells)
    return matrices[0], inside[0]


def _rotated(base: Base, view: View) -> NDArray[np.float64]:
    """Rotate the base about its middle, in the image's own aspect ratio, by bilinear samples."""
    rows, columns = base.luma.shape
    angle = math.radians(view.turn)
    zoom = 1.0
    if view.filled:
        longer = max(base.shape, 1 / base.shape)
        zoom = math.cos(angle) + longer * math.sin(abs(angle))
    cosine, sine = math.cos(angle) / zoom, math.sin(angle) / zoom
    # maps a cell of the rotated image to a cell of the base
    xy, yx = sine / base.shape * columns / rows, -sine * base.shape * rows / columns
    x, y = np.arange(columns) - (columns - 1) / 2, (np.arange(rows) - (rows - 1) / 2)[:, None]
    left, right = _split((columns - 1) / 2 + cosine * x + xy * y, columns)
    top, below = _split((rows - 1) / 2 + yx * x + cosine * y, rows)
    wide = columns + 3
    padded = np.full((rows + 3, wide), view.fill)
    padded[1:-2, 1:-2] = base.luma
    flat = padded.ravel()
    start = top * wide + left
    upper = flat[start] * (1 - right) + flat[start + 1] * right
    start += wide
    lower = flat[start] * (1 - right) + flat[start + 1] * right
    return np.asarray(upper * (1 - below) + lower * below)


def _split(at: NDArray[np.float64], cells: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the index of the cell before each position, in a padded axis, and the rest.

    The axis has one more cell before the first and two after the last; positions outside are moved
    to these.
    """
    at = np.clip(at, -1, cells) + 1
    whole = at.astype(np.intp)
    return whole, at - whole
