"""PDQ hashes of many parts of a query, from small copies of it.

PDQ is linear up to its last step: filter, decimation to 64x64 cells and cosine transform are one
matrix along each axis. For a window, a part of the picture, that matrix is `folded_operator`, 16
rows by `CELLS` columns, and its coefficients are `rows @ luma @ columns.T`. So a window costs two
small matrix products, and windows with the same rows share the first. The hash of the mirrored
window has the same coefficients with other signs.

`nciihash.hashing.parts` makes the small copies, which are the only pixels needed here.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nciihash import pdq
from nciihash.signals import Level, PartKind
from nciihash.window_tables import (
    CENTRAL_BOXES,
    QUERY_BOXES,
    RECTANGLE_BOXES,
    SMALL_QUERY_BOXES,
    WHOLE,
    Box,
)

CELLS: Final = 128  # of a part, along each axis

_SIDE: Final = 16  # coefficients along each side of the transform
_MIRROR: Final = np.where(np.arange(_SIDE) % 2 == 0, -1.0, 1.0).astype(np.float32)
_LIKELY_RECTANGLES: Final = 4  # that get more windows at the level `thorough`
_RECTANGLE_WINDOWS: Final = {Level.FAST: (0, 0), Level.WINDOWS: (3, 3), Level.THOROUGH: (24, 10)}


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A query, or a part of it that may be a picture of its own, reduced to `CELLS` cells a side.

    Attributes:
        kind: what the part is of the query.
        luma: uint8 (CELLS, CELLS), cell means.
        box: the part of the query.
        angle: of `rotated`, in degrees, clockwise.
        shape: the part's aspect ratio, width / height.
        time: of a video's frame, in seconds from the first frame.
    """

    kind: PartKind
    luma: NDArray[np.uint8]
    box: Box = WHOLE
    angle: float = 0.0
    shape: float = 1.0
    time: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class WindowHashes:
    """The hashes of the windows of several parts.

    Attributes:
        parts: the parts.
        hashes: uint8 (2n, 32), packed: those of n windows, then those of the same windows mirrored.
        boxes: the n windows, each within its part.
        owners: int (n,), the index in `parts` of each window.
    """

    parts: tuple[Part, ...]
    hashes: NDArray[np.uint8]
    boxes: tuple[Box, ...]
    owners: NDArray[np.intp]

    def __len__(self) -> int:
        """Return the number of hashes, twice the number of windows."""
        return len(self.hashes)

    def locate(self, row: int) -> tuple[int, Box, bool]:
        """Return a hash's part, as an index in `parts`, its window, and whether it is mirrored."""
        window = row % len(self.boxes)
        return int(self.owners[window]), self.boxes[window], row >= len(self.boxes)


def boxes_of(kind: PartKind, level: Level, number: int = 0) -> tuple[Box, ...]:
    """Return the windows to hash of a part.

    Args:
        kind: what the part is.
        level: how many windows to hash; `Level.FAST` has none.
        number: of a rectangle, its position in the order in which they were found.
    """
    if level is Level.FAST:
        return ()
    match kind:
        case PartKind.WHOLE:
            return QUERY_BOXES if level is Level.THOROUGH else SMALL_QUERY_BOXES
        case PartKind.RECTANGLE | PartKind.TRIMMED:
            likely, other = _RECTANGLE_WINDOWS[level]
            return RECTANGLE_BOXES[: likely if number < _LIKELY_RECTANGLES else other]
        case PartKind.ROTATED:
            return CENTRAL_BOXES if level is Level.THOROUGH else ()


def hash_windows(parts: tuple[Part, ...], level: Level) -> WindowHashes:
    """Hash the windows of a query's parts, and the quarter turns of the whole."""
    coefficients, boxes, owners = [], list[Box](), list[int]()
    rectangles = 0
    for index, part in enumerate(parts):
        chosen = boxes_of(part.kind, level, rectangles)
        rectangles += part.kind is PartKind.RECTANGLE
        if not chosen:
            continue
        coefficients.append(_stack(chosen)(part.luma.astype(np.float32)))
        boxes += chosen
        owners += [index] * len(chosen)
    if not coefficients:
        return WindowHashes(parts, np.empty((0, 32), np.uint8), (), np.empty(0, np.intp))
    upright = np.concatenate(coefficients)
    hashes = pack(np.concatenate((upright, upright * _MIRROR)))
    return WindowHashes(parts, hashes, tuple(boxes), np.array(owners, np.intp))


def quarter_turns(whole: Part) -> tuple[Part, ...]:
    """Return a part rotated by 90, 180 and 270 degrees counterclockwise, as parts of their own."""
    return tuple(
        Part(
            PartKind.ROTATED,
            np.ascontiguousarray(np.rot90(whole.luma, turns)),
            angle=-90.0 * turns,
            shape=whole.shape if turns == 2 else 1 / whole.shape,
            time=whole.time,
        )
        for turns in (1, 2, 3)
    )


def rotated(part: Part, angle: float) -> Part:
    """Return a part rotated about its middle, its corners filled with its mean.

    Args:
        part: unrotated, or rotated already; the angles add up.
        angle: degrees, clockwise.
    """
    radians = math.radians(angle)
    cosine, sine = math.cos(radians), math.sin(radians)
    axis = ((np.arange(CELLS) + 0.5) / CELLS - 0.5).astype(np.float32)
    x, y = axis[None, :], axis[:, None]
    # where each cell comes from, in the part's own aspect ratio
    columns = (cosine * x + sine / part.shape * y) * CELLS + (CELLS - 1) / 2
    rows = (-sine * part.shape * x + cosine * y) * CELLS + (CELLS - 1) / 2
    inside = (columns >= 0) & (columns <= CELLS - 1) & (rows >= 0) & (rows <= CELLS - 1)
    left = np.clip(columns.astype(np.int32), 0, CELLS - 2)
    top = np.clip(rows.astype(np.int32), 0, CELLS - 2)
    dx, dy = columns - left, rows - top
    luma = part.luma.astype(np.float32).ravel()
    first = top * CELLS + left
    above = luma[first] * (1 - dx) + luma[first + 1] * dx
    below = luma[first + CELLS] * (1 - dx) + luma[first + CELLS + 1] * dx
    cells = np.where(inside, above * (1 - dy) + below * dy, luma.mean())
    rounded = np.clip(np.rint(cells), 0, 255).astype(np.uint8)
    kind = PartKind.ROTATED
    return replace(part, kind=kind, luma=rounded, angle=part.angle + angle)


def folded_operators(intervals: NDArray[np.float64], cells: int = CELLS) -> NDArray[np.float32]:
    """Return PDQ's filter, decimation and transform of intervals of an axis as matrices.

    Args:
        intervals: float64 (n, 2), start and end of each, from 0 to 1.
        cells: the number of cells along the axis.

    Returns:
        Float32 (n, 16, cells), to be multiplied with cell means.
    """
    cosines = pdq.cosines()
    matrices, _ = axis_operators(intervals[:, 0], intervals[:, 1] - intervals[:, 0], cells)
    return np.ascontiguousarray((cosines @ matrices).astype(np.float32))


def axis_operators(
    starts: NDArray[np.float64], lengths: NDArray[np.float64], cells: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return filter and decimation of intervals of an axis as matrices on the axis's cell means.

    The filter is PDQ's for a large image: two box filters of half a grid cell each, together a
    triangle. Each cell is treated as linear, with its own mean and the slope between its
    neighbours.

    Args:
        starts: float64 (n,), where each interval starts; the image is from 0 to 1, and an interval
            may exceed it.
        lengths: float64 (n,).
        cells: the number of cells along the axis.

    Returns:
        Float64 (n, 64, cells), and float64 (n, 64), the fraction of each sample in the image.
    """
    centre = starts[:, None] + (np.arange(pdq.GRID) + 0.5) / pdq.GRID * lengths[:, None]
    half = (lengths / (2 * pdq.GRID))[:, None, None]
    at = np.clip((np.arange(cells + 1) / cells - centre[..., None]) / half, -1, 1)
    weight = np.diff(at - at * np.abs(at) / 2)  # integral of the triangle over each cell
    moment = np.diff(at**2 / 2 - np.abs(at) ** 3 / 3)
    middle = (np.arange(cells) + 0.5) / cells
    lever = (half * moment + (centre[..., None] - middle) * weight) * cells / 2
    matrices = weight.copy()
    matrices[..., 1:] += lever[..., :-1]
    matrices[..., -1] += lever[..., -1]
    matrices[..., :-1] -= lever[..., 1:]
    matrices[..., 0] -= lever[..., 0]
    return matrices, weight.sum(axis=-1)


def coefficients_of(luma: NDArray[np.float32], boxes: tuple[Box, ...]) -> NDArray[np.float32]:
    """Return the PDQ coefficients of windows, float32 (n, 16, 16).

    Args:
        luma: float32 (rows, columns), cell means of the whole part.
        boxes: the windows.
    """
    sides = np.array(boxes).reshape(-1, 4)
    rows = folded_operators(sides[:, (1, 3)], luma.shape[0])
    columns = folded_operators(sides[:, (0, 2)], luma.shape[1])
    return np.asarray(rows @ luma @ columns.transpose(0, 2, 1), np.float32)


def pack(coefficients: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the hashes of coefficients: (n, 16, 16) to uint8 (n, 32), as `pdq.hash_pixels`."""
    flat = coefficients.reshape(len(coefficients), -1)
    median = np.partition(flat, 127, axis=1)[:, 127]
    return np.packbits((flat > median[:, None])[:, ::-1], axis=1)


def mirrored(coefficients: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the coefficients of the same windows of the mirrored picture."""
    return coefficients * _MIRROR


def analyse(luma: NDArray[np.uint8], box: Box = WHOLE) -> pdq.Analysis:
    """Return a window's hash and how distinctive it is.

    Args:
        luma: uint8 (rows, columns), cell means of the whole part.
        box: the window.
    """
    left, top, right, bottom = box
    down, _ = axis_operators(np.array([top]), np.array([bottom - top]), luma.shape[0])
    across, _ = axis_operators(np.array([left]), np.array([right - left]), luma.shape[1])
    return pdq.analyse_grid(down[0] @ luma @ across[0].T)


class _Stack:
    """The folded operators of a fixed list of windows.

    The products of rows and picture are computed once for all windows with the same rows.
    """

    def __init__(self, boxes: tuple[Box, ...]) -> None:
        sides = np.array(boxes)
        rows, row = np.unique(sides[:, (1, 3)], axis=0, return_inverse=True)
        self._rows = folded_operators(rows).reshape(-1, CELLS)
        columns, column = np.unique(sides[:, (0, 2)], axis=0, return_inverse=True)
        folded = folded_operators(columns)
        self._groups = [
            (index, members, folded[column[members]].reshape(-1, CELLS).T.copy())
            for index in range(len(rows))
            for members in (np.flatnonzero(row == index),)
        ]
        self._count = len(boxes)

    def __call__(self, luma: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the coefficients of the windows of a part, float32 (n, 16, 16)."""
        halves = (self._rows @ luma).reshape(-1, _SIDE, CELLS)
        out = np.empty((self._count, _SIDE, _SIDE), np.float32)
        for index, members, columns in self._groups:
            product = halves[index] @ columns
            out[members] = product.reshape(_SIDE, len(members), _SIDE).transpose(1, 0, 2)
        return out


@lru_cache(maxsize=32)
def _stack(boxes: tuple[Box, ...]) -> _Stack:
    return _Stack(boxes)
