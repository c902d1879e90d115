"""Move a window of a query until its hash is as near to a bank's hash as it gets.

Two hashes within 60 bits may be of two windows of one picture, a few hundredths apart, or of two
pictures that resemble each other. Moving the window tells them apart: a copy falls to a few bits,
while a similar picture stops at 18 to 36.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nciihash.signals import PartKind
from nciihash.window_tables import Box
from nciihash.windows import CELLS, Part, analyse, coefficients_of, mirrored, pack, rotated

# A window within this many bits of the bank's hash, after it was moved, is of the same picture.
ALIGNED_MAX: Final = 16

# A window this near needs no further moves.
_SURE: Final = 6

# Moves of an edge, as fractions of the window's side, and how often each is repeated.
_MOVES: Final = ((0.03, 2), (0.015, 2), (0.007, 1))
_TURN: Final = 60.0  # degrees by which a window is rotated, times the move
_TURN_MIN: Final = 0.01  # moves smaller than this are not combined with rotations
_GRID: Final = 64  # cells of PDQ's grid
_FREQUENCIES: Final = np.arange(1, 17)
# The attenuation of each frequency by PDQ's filter, two boxes of half a grid cell each.
_ATTENUATION: Final = np.sinc(_FREQUENCIES / (2 * _GRID)) ** 2 / _FREQUENCIES
_MIRROR: Final = mirrored(np.ones((1, 16, 16), np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """A window after it was moved.

    Attributes:
        distance: of its hash from the bank's, in bits.
        part: the part, rotated if that brought the window nearer.
        box: the window within the part.
        mirrored: whether the window was mirrored.
    """

    distance: int
    part: Part
    box: Box
    mirrored: bool

    @property
    def same_picture(self) -> bool:
        """Whether the window is of the picture whose hash the bank has."""
        return self.distance <= ALIGNED_MAX and analyse(self.part.luma, self.box).distinctive


def align(part: Part, box: Box, target: NDArray[np.uint8], *, mirror: bool = False) -> Alignment:
    """Move a window towards a hash, by coordinate descent over its four edges and its rotation.

    Each step tries the 81 windows whose edges stay or move by a fraction of the side. They are
    compared by an approximation of PDQ that needs no sampled filter; the distance returned is of
    the exact coefficients of the last window.

    Args:
        part: the part of the query that contains the window.
        box: the window.
        target: uint8 (32,), the bank's hash.
        mirror: compare the mirrored window.
    """
    search = _Search(target, mirror=mirror)
    best, box = search.step(part, box, 0.0)
    for move, times in _MOVES:
        for _ in range(times):
            distance, moved = search.step(part, box, move)
            if distance >= best and moved == box:
                break
            best, box = min(best, distance), moved
        if best <= _SURE:
            break
        if part.kind is PartKind.RECTANGLE or move < _TURN_MIN:
            continue
        turned = (rotated(part, sign * move * _TURN) for sign in (-1, 1))
        tried = [(*search.step(each, box, move / 2), each) for each in turned]
        distance, moved, each = min(tried, key=lambda found: found[0])
        if distance < best - 1:
            best, box, part = distance, moved, each
    return Alignment(search.distance(part, box), part, box, mirror)


class _Search:
    """Compares windows of a part with one hash."""

    def __init__(self, target: NDArray[np.uint8], *, mirror: bool) -> None:
        self._target = target
        self._signs = _MIRROR if mirror else np.ones((1, 1, 1), np.float32)

    def distance(self, part: Part, box: Box) -> int:
        """Return the distance of a window by its exact coefficients."""
        coefficients = coefficients_of(part.luma.astype(np.float32), (box,)) * self._signs
        return int(np.bitwise_count(pack(coefficients)[0] ^ self._target).sum())

    def step(self, part: Part, box: Box, move: float) -> tuple[int, Box]:
        """Return the smallest distance among windows near one, and that window.

        Args:
            part: the part that contains them.
            box: the window in the middle; it wins ties.
            move: the fraction of the side by which edges move.
        """
        columns = _neighbours(box[0], box[2], move)
        rows = _neighbours(box[1], box[3], move)
        across = _smooth_operators(columns).reshape(-1, CELLS)
        down = _smooth_operators(rows).reshape(-1, CELLS)
        product = (down @ part.luma.astype(np.float32)) @ across.T
        shape = (len(rows), 16, len(columns), 16)
        coefficients = product.reshape(shape).transpose(0, 2, 1, 3).reshape(-1, 16, 16)
        distances = np.bitwise_count(pack(coefficients * self._signs) ^ self._target).sum(axis=1)
        nearest = int(distances.argmin())
        row, column = divmod(nearest, len(columns))
        (left, right), (top, bottom) = columns[column], rows[row]
        return int(distances[nearest]), (float(left), float(top), float(right), float(bottom))


def _neighbours(start: float, end: float, move: float) -> NDArray[np.float64]:
    """Return an interval and those whose ends are moved, within the part, float64 (n, 2)."""
    step = (end - start) * move
    if not step:
        return np.array([(start, end)])
    shifts = np.array([(a, b) for a in (0, -1, 1) for b in (0, -1, 1)])
    return np.clip(np.array((start, end)) + shifts * step, 0.0, 1.0)


def _smooth_operators(intervals: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return approximate folded operators, float32 (n, 16, CELLS): see `folded_operators`.

    The cosines are integrated over each cell, and PDQ's filter attenuates each frequency. This
    leaves out how decimation mixes frequencies above the grid's, and costs a tenth.
    """
    starts, lengths = intervals[:, :1], intervals[:, 1:] - intervals[:, :1]
    edges = np.clip((np.arange(CELLS + 1) / CELLS - starts) / lengths, 0, 1)
    sines = np.sin(np.pi * _FREQUENCIES[:, None] * edges[:, None, :])
    return np.asarray(np.diff(sines) * _ATTENUATION[:, None], np.float32)
