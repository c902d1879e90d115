"""Views of pictures as linear maps on 64 x 64 cells: to PDQ coefficients, to thumbnails and back.

The maps are what an attacker knows: which part of the picture each variant shows. Some depend on
the aspect ratio of the picture, which is taken as known.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.inversion.sets import SIDE, Floats
from nciihash import pdq
from nciihash.hashing.altered_views import View, operator, window
from nciihash.hashing.variants import QUARTERS, VIEWS
from nciihash.signals import Variant

PART: Final = 32  # cells along a side of the thumbnail of a view
BITS: Final = 16  # PDQ coefficients along a side

# How the coefficients of a quarter turn and of the mirrored picture follow from the upright ones:
# signs, then whether they are transposed.
_SIGN: Final = np.where(np.arange(BITS) % 2 == 0, -1.0, 1.0).astype(np.float32)
_ACROSS: Final = np.broadcast_to(_SIGN, (BITS, BITS))
_DIHEDRAL: Final = {
    0: (np.ones((BITS, BITS), np.float32), False),
    1: (_ACROSS, True),
    2: (_ACROSS * _ACROSS.T, False),
    3: (_ACROSS.T, True),
    5: (_ACROSS, False),
}
_MIRROR: Final = 5
_QUARTER: Final = dict(QUARTERS)


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of a view, for n pictures, or for any of them if the first length is 1.

    Attributes:
        coefficients: float32 (n or 1, 16, 64), from cells to coefficients.
        part: float32 (n or 1, 32, 64), from cells to those of the view's thumbnail.
        paste: float32 (n or 1, 64, 32), from a thumbnail's cells back to the picture's.
        inside: float32 (n or 1, 64), the fraction of each grid cell that shows the picture.
    """

    coefficients: Floats
    part: Floats
    paste: Floats
    inside: Floats


class PictureView:
    """One variant's view of n pictures.

    Args:
        name: the variant.
        shapes: float64 (n,), aspect ratios.
    """

    def __init__(self, name: Variant, shapes: NDArray[np.float64]) -> None:
        view = VIEWS.get(name, View())
        self.row = _QUARTER.get(name, _MIRROR if view.mirror else 0)
        intervals = [window(view, shape) for shape in (shapes if view.shape else shapes[:1])]
        self.across, self.down = (_axis([each[side] for each in intervals]) for side in (0, 1))
        self._rotations = self._inverted = list[sparse.csr_array]()
        if view.turn:
            self._rotations = [_rotation(view, shape) for shape in shapes]
            self._inverted = [_rotation(view, shape, inverted=True) for shape in shapes]
        cosines = pdq.cosines().astype(np.float32)
        outside = 1 - self.down.inside[:, :, None] * self.across.inside[:, None, :]
        self.border = (cosines @ outside @ cosines.T) * np.float32(view.fill / 255)

    def coefficients(self, pictures: Floats) -> Floats:
        """Return the PDQ coefficients of the view, not yet turned or mirrored: (n, 16, 16)."""
        seen = _apply(self._rotations, pictures)
        columns = self.across.coefficients.transpose(0, 2, 1)
        return np.asarray(self.down.coefficients @ seen @ columns + self.border, np.float32)

    def transposed(self, coefficients: Floats) -> Floats:
        """Return the transpose of the linear part of `coefficients`: (n, 16, 16) to (n, 64, 64)."""
        rows = self.down.coefficients.transpose(0, 2, 1)
        seen = rows @ coefficients @ self.across.coefficients
        return _apply([one.T for one in self._rotations], seen)

    def part(self, pictures: Floats) -> Floats:
        """Return the thumbnail of what the view shows, (n, 32, 32), its border as the darkest."""
        seen = _apply(self._rotations, pictures)
        return np.asarray(self.down.part @ seen @ self.across.part.transpose(0, 2, 1), np.float32)

    def paste(self, parts: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Return thumbnails at their position in the picture, and which cells they cover."""
        columns = self.across.paste.transpose(0, 2, 1)
        covers = _apply(self._inverted, self.down.paste @ np.ones_like(parts) @ columns)
        return _apply(self._inverted, self.down.paste @ parts @ columns), covers > 0.99

    def upright(self, bits: Floats) -> Floats:
        """Return the bits of hashes, (n, 256), as signs of the upright coefficients, 16 x 16."""
        signs, transpose = _DIHEDRAL[self.row]
        square = bits[:, ::-1].reshape(-1, BITS, BITS)
        return (square.transpose(0, 2, 1) if transpose else square) * signs

    def in_hash_order(self, coefficients: Floats) -> Floats:
        """Return upright coefficients turned or mirrored, in the order of bits: (n, 256)."""
        signs, transpose = _DIHEDRAL[self.row]
        square = coefficients * signs
        square = square.transpose(0, 2, 1) if transpose else square
        return square.reshape(-1, BITS * BITS)[:, ::-1]


def _axis(intervals: Sequence[tuple[float, float]]) -> Axis:
    cosines = pdq.cosines()
    found = [operator(start, length, SIDE) for start, length in intervals]
    matrices = np.array([matrix for matrix, _ in found])
    return Axis(
        (cosines @ matrices).astype(np.float32),
        matrices.reshape(len(found), PART, -1, SIDE).mean(axis=2).astype(np.float32),
        np.array([_paste(start, length) for start, length in intervals], np.float32),
        np.array([inside for _, inside in found], np.float32),
    )


def _paste(start: float, length: float) -> Floats:
    """Return linear interpolation from a thumbnail's cells to the picture's, 0 outside of it."""
    at = ((np.arange(SIDE) + 0.5) / SIDE - start) / length
    cell = np.clip(at * PART - 0.5, 0, PART - 1)
    first = np.minimum(cell.astype(np.intp), PART - 2)
    matrix = np.zeros((SIDE, PART), np.float32)
    rows = np.arange(SIDE)
    matrix[rows, first] = 1 - (cell - first)
    matrix[rows, first + 1] = cell - first
    matrix[(at <= 0) | (at >= 1)] = 0
    return matrix


def _rotation(view: View, shape: float, *, inverted: bool = False) -> sparse.csr_array:
    """Return the rotation of `altered_views` as a matrix on 4,096 cells, or its inverse."""
    angle = math.radians(view.turn)
    zoom = 1.0
    if view.filled:
        zoom = math.cos(angle) + max(shape, 1 / shape) * math.sin(abs(angle))
    cosine, sine = math.cos(angle) / zoom, math.sin(angle) / zoom
    matrix = np.array([[cosine, sine / shape], [-sine * shape, cosine]])
    if inverted:
        matrix = np.linalg.inv(matrix)
    cells = np.arange(SIDE) - (SIDE - 1) / 2
    positions = np.stack([np.tile(cells, SIDE), np.repeat(cells, SIDE)])
    x, y = matrix @ positions + (SIDE - 1) / 2
    left, top = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    rows, columns, weights = [], [], []
    for across in (0, 1):
        for down in (0, 1):
            column, row = left + across, top + down
            weight = (1 - np.abs(x - column)) * (1 - np.abs(y - row))
            inside = (column >= 0) & (column < SIDE) & (row >= 0) & (row < SIDE)
            rows.append(np.flatnonzero(inside))
            columns.append((row * SIDE + column)[inside])
            weights.append(weight[inside])
    entries = (np.concatenate(rows), np.concatenate(columns))
    values = np.concatenate(weights).astype(np.float32)
    return sparse.csr_array((values, entries), shape=(SIDE * SIDE, SIDE * SIDE))


def _apply(matrices: Sequence[sparse.csr_array], pictures: Floats) -> Floats:
    """Apply one sparse matrix to each picture; none leaves them as they are."""
    if not matrices:
        return pictures
    flat = pictures.reshape(len(pictures), -1)
    moved = [matrix @ one for matrix, one in zip(matrices, flat, strict=True)]
    return np.array(moved, np.float32).reshape(-1, SIDE, SIDE)
