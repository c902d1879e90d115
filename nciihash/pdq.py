"""PDQ: an image's 256-bit hash, its quality and its eight dihedral variants, from RGB pixels.

The algorithm is described in Facebook's "The TMK+PDQF Video-Hashing Algorithm and the PDQ
Image-Hashing Algorithm" (2019): luma, two passes of a box filter along each axis, decimation to a
64x64 grid, a 16x16 discrete cosine transform, and one bit per coefficient. The reference that
platforms use is the PyPI package `pdqhash`, which filters the full-size image in single precision
with running sums.

Filtering and decimation are linear, so the grid is `A @ luma @ B.T` with banded matrices A and B,
which is faster and more accurate than running sums. Where a bit or a step of the quality is within
the reference's rounding noise, the grid is computed again in the reference's order of operations,
so that both programs return the same hash.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nciihash.errors import InvalidPixels
from nciihash.signals import QUALITY_MIN, Hashed, Signal, SignalType

GRID: Final = 64  # cells along each side of the grid
SIDE_MIN: Final = 5  # pixels; smaller images have an all-zero hash of quality 0, as in pdqhash

# An image with less detail, or detail of fewer kinds, resembles those of strangers: a horizon is
# not busy, plaid is not spread, and stripes and checks have no rank. Of the windows of photos of
# enough quality, the first rejects 4 %, the others 3.5 % (benchmarks/false_matches).
BUSY_MIN: Final = 0.3
SPREAD_MIN: Final = 30.0
RANK_MIN: Final = 2.5

TIE: Final = 1e-6  # coefficients at the median that differ by less count as tied

_SIDE: Final = 16  # coefficients along each side of the transform
_LUMA: Final = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_STRIP: Final = 512  # rows or columns filtered at once

# Bounds on the rounding noise of the reference's running sums. Measured against double precision on
# photos and synthetic images of up to 4000 pixels: at most 1.5e-3 in a step of the quality and
# 3.4e-3 in a coefficient near the median.
_STEP_NOISE: Final = 5e-3
_RANK_NOISE: Final = 4e-3

# In double precision, a step that is a whole percentage may be less by its rounding error, for
# example between black and white. With this margin it counts fully, in every program alike.
_STEP_MARGIN: Final = 1e-9

# Reflecting the image changes the sign of every other row or column of coefficients.
_SIGN: Final = np.where(np.arange(_SIDE) % 2 == 0, -1.0, 1.0)
_FLIP_Y: Final = np.broadcast_to(_SIGN, (_SIDE, _SIDE))
_FLIP_X: Final = _FLIP_Y.T
_ROTATE_180: Final = _FLIP_X * _FLIP_Y
_FREQUENCY: Final = np.hypot(*np.meshgrid(np.arange(1, _SIDE + 1), np.arange(1, _SIDE + 1)))


@dataclass(frozen=True, slots=True)
class Analysis:
    """An image's hash and its reliability.

    Attributes:
        packed: uint8 (32,), most significant bit first.
        quality: 0 to 100.
        tied: whether coefficients tie at the median in any of the eight dihedral variants, so that
            some bits are rounding noise and may differ between programs.
        busy: the fraction of the grid's 8,064 pairs of adjacent cells that differ by at least 1 %
            of the range. One strong edge has quality, but is not busy.
        spread: over how many of the 256 coefficients the image's detail is spread. Plaid has a few,
            photos mostly have more than 60.
        rank: about how many separable patterns, each a function of x times a function of y, the
            detail consists of. Stripes and checks in uneven light are one, photos mostly more than
            4.
    """

    packed: NDArray[np.uint8]
    quality: int
    tied: bool
    busy: float
    spread: float
    rank: float

    @property
    def distinctive(self) -> bool:
        """Whether a match means anything: the image is not plain, a horizon, stripes or checks."""
        return (
            not self.tied
            and self.quality >= QUALITY_MIN
            and self.busy >= BUSY_MIN
            and self.spread >= SPREAD_MIN
            and self.rank >= RANK_MIN
        )

    def hashed(self) -> Hashed:
        """Return the hash as a signal, with its quality."""
        return Hashed(
            Signal(SignalType.PDQ, self.packed.tobytes()),
            quality=self.quality,
            tied=self.tied,
            distinctive=self.distinctive,
        )


def hash_pixels(rgb: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    """Return an image's hash and quality.

    Args:
        rgb: uint8 (h, w, 3), upright. It need not be contiguous, and is not copied.

    Returns:
        The packed hash, uint8 (32,), and its quality from 0 to 100. An image with a side under
        `SIDE_MIN` pixels has an all-zero hash of quality 0.

    Raises:
        InvalidPixels: `rgb` has another dtype or shape, or no pixels.
    """
    analysis = analyse(rgb)
    return analysis.packed, analysis.quality


def analyse(rgb: NDArray[np.uint8]) -> Analysis:
    """Return an image's hash and quality, and whether coefficients tie at the median.

    Args:
        rgb: uint8 (h, w, 3), upright. An image with a side under `SIDE_MIN` pixels counts as tied.

    Raises:
        InvalidPixels: `rgb` has another dtype or shape, or no pixels.
    """
    _check(rgb)
    if min(rgb.shape[:2]) < SIDE_MIN:
        return Analysis(np.zeros(32, np.uint8), 0, tied=True, busy=0.0, spread=1.0, rank=1.0)
    grid = _grid(rgb, np.float32)
    coefficients = _transform(grid)
    steps = _steps(grid)
    quality = _certain_quality(steps)
    gap = _gap(coefficients)
    tied = gap < _RANK_NOISE and _gap(_transform(_grid(rgb, np.float64))) < TIE
    if quality is None or gap < _RANK_NOISE:
        # the reference does not filter an image that already has the grid's size
        grid_sized = rgb.shape[:2] == (GRID, GRID)
        grid = _luma(rgb) if grid_sized else _reference_grid(rgb)
        coefficients = _reference_transform(grid)
        steps = _steps(grid)
        quality = _quality(steps)
    spread, rank = _spread_and_rank(coefficients)
    return Analysis(_pack(coefficients), quality, tied, _busy(steps), spread, rank)


def analyse_grid(grid: NDArray[Any]) -> Analysis:
    """Hash an image from its filtered and decimated luma.

    Args:
        grid: floating point (64, 64), luma from 0 to 255.
    """
    coefficients = _transform(grid)
    tied = _gap(coefficients) < TIE
    steps = _steps(grid)
    spread, rank = _spread_and_rank(coefficients)
    return Analysis(_pack(coefficients), _quality(steps), tied, _busy(steps), spread, rank)


def analyse_grids(
    grids: NDArray[np.float64],
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]:
    """Hash the eight dihedral variants of many images from their filtered and decimated luma.

    Args:
        grids: float64 (n, 64, 64), luma from 0 to 255.

    Returns:
        Packed hashes, uint8 (8, n, 32), in the order of `dihedral`; qualities, int64 (n,); whether
        coefficients tie at the median, bool (n,); and how busy each image is, float64 (n,), as in
        `Analysis`.
    """
    dct = cosines().astype(grids.dtype)
    b = (dct @ grids @ dct.T).astype(np.float64)
    signed = np.stack((b, b * _FLIP_X, b * _FLIP_Y, b * _ROTATE_180))
    ranked = np.partition(signed.reshape(4, len(b), -1), (127, 128), axis=-1)
    tied = (ranked[..., 128] - ranked[..., 127]).min(axis=0) < TIE
    bits = signed > ranked[..., 127, None, None]
    # the other four variants are transposes, which have the same median
    original, flip_x, flip_y, half_turn = bits
    transposed = bits.transpose(0, 1, 3, 2)
    order = (
        *(original, transposed[2], half_turn, transposed[1]),
        *(flip_x, flip_y, transposed[0], transposed[3]),
    )
    flat = np.stack(order).reshape(8, len(b), -1)
    quality, busy = _details(grids)
    return np.packbits(flat[..., ::-1], axis=-1), quality, tied, busy


def dihedral(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Hash an image and its seven rotations and reflections.

    The variants are computed by sign changes and transposition of the image's own coefficients, as
    in `pdqhash.compute_dihedral`. Hashing the rotated pixels can change up to 8 further bits.

    Args:
        rgb: uint8 (h, w, 3), upright.

    Returns:
        uint8 (8, 32), packed hashes: original, rotated by 90, 180 and 270 degrees, flipped in x,
        flipped in y, transposed along the main diagonal and along the other diagonal.

    Raises:
        InvalidPixels: `rgb` has another dtype or shape, or no pixels.
    """
    _check(rgb)
    if min(rgb.shape[:2]) < SIDE_MIN:
        return np.zeros((8, 32), np.uint8)
    b = _transform(_grid(rgb, np.float32))
    if _gap(b) < _RANK_NOISE:
        b = _reference_transform(_reference_grid(rgb))
    flip_x, flip_y, half_turn = b * _FLIP_X, b * _FLIP_Y, b * _ROTATE_180
    variants = (b, flip_y.T, half_turn, flip_x.T, flip_x, flip_y, b.T, half_turn.T)
    return np.stack([_pack(v) for v in variants])


@lru_cache(maxsize=8)
def operator(length: int) -> NDArray[np.float64]:
    """Return the filter and decimation of one axis as a matrix.

    Two box passes, each output divided by the number of samples inside its window, then one sample
    per grid cell, at `int((i + 0.5) * length / 64)`.

    Args:
        length: pixels along the axis, at least 1.

    Returns:
        float64 (64, length), read-only; each row sums to 1. The grid of a luma array is
        `operator(h) @ luma @ operator(w).T`.
    """
    matrix = np.zeros((GRID, length))
    for row, (start, taps) in zip(matrix, _bands(length, np.dtype(np.float64)), strict=True):
        row[start : start + len(taps)] = taps
    matrix.setflags(write=False)
    return matrix


_Band = tuple[int, NDArray[Any]]


@lru_cache(maxsize=64)
def _bands(length: int, dtype: np.dtype[Any]) -> tuple[_Band, ...]:
    """Return the operator's rows as (first index, weights): at most length / 64 + 2 weights."""
    bands = []
    for cell in _cells(length):
        outer = _window(cell, length)
        inner = [_window(i, length) for i in outer]
        start = inner[0].start
        taps = np.zeros(inner[-1].stop - start)
        for window in inner:
            taps[window.start - start : window.stop - start] += 1 / (len(outer) * len(window))
        bands.append((start, taps.astype(dtype)))
    return tuple(bands)


def _cells(length: int) -> list[int]:
    """Return the index that decimation samples for each cell of the grid."""
    return [int((i + 0.5) * length / GRID) for i in range(GRID)]


def _box(length: int) -> tuple[int, int]:
    """Return how many pixels one box pass extends before and after its centre."""
    window = -(-length // (2 * GRID))
    return window - window // 2 - 1, window // 2


def _window(centre: int, length: int) -> range:
    before, after = _box(length)
    return range(max(centre - before, 0), min(centre + after + 1, length))


def _check(rgb: NDArray[np.uint8]) -> None:
    if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8:
        raise InvalidPixels("Pixels must be a NumPy uint8 array: convert the image to 8-bit RGB.")
    if rgb.ndim != 3 or rgb.shape[2] != 3:
        raise InvalidPixels(
            f"Pixels must have the shape (height, width, 3), not {rgb.shape}: convert them to RGB."
        )
    if rgb.size == 0:
        raise InvalidPixels("The array has no pixels: check how the image was cropped or read.")


def _grid(rgb: NDArray[np.uint8], dtype: type[np.floating]) -> NDArray[Any]:
    """Return the filtered and decimated luma, (64, 64): rows first, all channels together."""
    height, width = rgb.shape[:2]
    rows = np.empty((GRID, width * 3), dtype)
    for row, (start, taps) in zip(rows, _bands(height, np.dtype(dtype)), strict=True):
        pixels = rgb[start : start + len(taps)].astype(dtype, order="C")
        np.matmul(taps, pixels.reshape(len(taps), -1), out=row)
    luma = rows.reshape(GRID, width, 3) @ _LUMA.astype(dtype)
    grid = np.empty((GRID, GRID), dtype)
    for column, (start, taps) in enumerate(_bands(width, np.dtype(dtype))):
        np.matmul(luma[:, start : start + len(taps)], taps, out=grid[:, column])
    return grid


@lru_cache(maxsize=1)
def cosines() -> NDArray[np.float64]:
    """Return the DCT matrix D, float64 (16, 64), without its constant row; B = D @ grid @ D.T."""
    angle = math.pi / 2.0 / GRID
    rows = [[math.cos(angle * (i + 1) * (2 * j + 1)) for j in range(GRID)] for i in range(_SIDE)]
    # the reference stores this factor in single precision
    return np.array(rows) * float(np.float32(math.sqrt(2 / GRID)))


def _transform(grid: NDArray[Any]) -> NDArray[np.float64]:
    dct = cosines()
    return dct @ grid.astype(np.float64) @ dct.T


def _pack(coefficients: NDArray[Any]) -> NDArray[np.uint8]:
    """Set bit 16i + j if coefficient (i, j) exceeds the lower median; bit 255 comes first."""
    flat = coefficients.ravel()
    median = np.partition(flat, 127)[127]
    return np.packbits((flat > median)[::-1])


def _gap(coefficients: NDArray[np.float64]) -> float:
    """Return the smallest gap between the 128th and 129th coefficient in any dihedral variant."""
    gaps = []
    for signs in (1.0, _FLIP_X, _FLIP_Y, _ROTATE_180):
        ranked = np.partition((coefficients * signs).ravel(), (127, 128))
        gaps.append(float(ranked[128] - ranked[127]))
    return min(gaps)


def _steps(grid: NDArray[Any]) -> NDArray[Any]:
    """Return the absolute differences of adjacent cells, in percent of the range."""
    vertical = (grid[:-1] - grid[1:]).ravel()
    horizontal = (grid[:, :-1] - grid[:, 1:]).ravel()
    return np.abs(np.concatenate((vertical, horizontal)) * 100 / 255)


def _quality(steps: NDArray[Any]) -> int:
    return min(int(np.floor(steps).sum()) // 90, 100)


def _busy(steps: NDArray[Any]) -> float:
    return float((steps >= 1).mean())


def _spread_and_rank(coefficients: NDArray[Any]) -> tuple[float, float]:
    """Return over how many coefficients, and over how many separable patterns, energy is spread.

    The first is the perplexity of the energy of the coefficients. The second is the participation
    ratio of the squared singular values of their matrix. In photos, energy falls with the square of
    the frequency; each coefficient is multiplied by its frequency, which cancels that.
    """
    weighted = coefficients * _FREQUENCY
    energy = weighted**2
    total = float(energy.sum())
    if not total:
        return 1.0, 1.0
    shares = energy[energy > 0] / total
    spread = float(np.exp(-(shares * np.log(shares)).sum()))
    products = weighted @ weighted.T
    return spread, total**2 / float((products**2).sum())


def _details(grids: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the quality of many grids, int64 (n,), and how busy they are, float64 (n,)."""
    total = np.zeros(len(grids), np.int64)
    large = np.zeros(len(grids), np.int64)
    for axis in (1, 2):
        steps = np.diff(grids, axis=axis).reshape(len(grids), -1)
        np.abs(steps, out=steps)
        steps *= 100
        steps /= 255
        steps += _STEP_MARGIN
        # truncation is floor, since no step is negative
        whole = steps.astype(np.int16)
        total += whole.sum(axis=1, dtype=np.int64)
        large += np.count_nonzero(whole, axis=1)
    return np.minimum(total // 90, 100), large / (2 * GRID * (GRID - 1))


def _certain_quality(steps: NDArray[Any]) -> int | None:
    """Return the quality, or None if the reference's rounding noise could change it."""
    lowest, highest = (
        min(int(np.floor(np.maximum(steps + e, 0)).sum()) // 90, 100)
        for e in (-_STEP_NOISE, _STEP_NOISE)
    )
    return lowest if lowest == highest else None


# --- the reference's order of operations -----------------------------------------------------


def _luma(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the luma, float32 (h, w), rounded once from the exact value.

    The sum in thousandths is exact in single precision, so only the division rounds. The reference
    adds doubles and rounds the sum to single precision, with the same result.
    """
    luma = np.empty(rgb.shape[:2], np.float32)
    for start in range(0, len(rgb), _STRIP):
        strip = rgb[start : start + _STRIP]
        out = np.multiply(strip[..., 0], np.float32(299), out=luma[start : start + _STRIP])
        out += strip[..., 1] * np.float32(587)
        out += strip[..., 2] * np.float32(114)
        out /= np.float32(1000)
    return luma


def _reference_grid(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    luma = _luma(rgb)
    height, width = luma.shape
    _box_pass(luma.T)
    _box_pass(luma)
    _box_pass(luma.T)
    grid = luma[:, _cells(width)]
    _box_pass(grid)
    return grid[_cells(height)]


def _box_pass(luma: NDArray[np.float32]) -> None:
    """Replace each column by its box means, in strips of columns to save memory."""
    for start in range(0, luma.shape[1], _STRIP):
        strip = luma[:, start : start + _STRIP]
        strip[:] = _box_means(np.ascontiguousarray(strip))


def _box_means(source: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return each column's box means, from a running sum in single precision."""
    length = len(source)
    before, after = _box(length)
    window = before + 1 + after
    sums = np.empty_like(source)
    total = np.zeros_like(source[0])
    for new in source[:after]:
        total += new
    for out, new in zip(sums[: before + 1], source[after:window], strict=True):
        total = np.add(total, new, out=out)
    for out, new, old in zip(sums[before + 1 :], source[window:], source, strict=False):
        total = np.subtract(np.add(total, new, out=out), old, out=out)
    for out, old in zip(sums[length - after :], source[length - window :], strict=False):
        total = np.subtract(total, old, out=out)
    counts = np.array([len(_window(i, length)) for i in range(length)], np.float32)
    sums /= counts[:, None]
    return sums


def _reference_transform(grid: NDArray[np.float32]) -> NDArray[np.float64]:
    """Transform in single precision, adding the products in the reference's order."""
    dct = cosines().astype(np.float32)
    half = np.zeros((_SIDE, GRID), np.float32)
    for k in range(GRID):
        half += dct[:, k, None] * grid[k]
    whole = np.zeros((_SIDE, _SIDE), np.float32)
    for k in range(GRID):
        whole += half[:, k, None] * dct[:, k]
    return whole.astype(np.float64)
