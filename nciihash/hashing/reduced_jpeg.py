"""PDQ of a JPEG from a decode at an eighth of its size: up to 4 bits from exact, many times faster.

libjpeg can give each block's mean without computing its pixels. PDQ's filter and decimation are one
linear operator an axis, so the full-size operator is folded onto the blocks: as if each block were
a plane with its own mean and its neighbours' slope, and the picture hashed at its full size.
(Hashing the small picture itself would be another filter, and 6 bits off on average.)
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nciihash import pdq
from nciihash.hashing import jpeg
from nciihash.hashing.image import turn

_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as PDQ's
_SIDE_MIN: Final = 256  # pixels of the reduced picture; below, detail that PDQ sees would be lost


@dataclass(frozen=True, slots=True)
class ReducedPicture:
    """A picture's hash, and its reduced pixels, uint8 (h, w, 3), upright.

    `scale` is how many pixels of the file lie along each side of one of these.
    """

    analysis: pdq.Analysis
    rgb: NDArray[np.uint8]
    scale: int


def look(data: bytes, width: int, height: int, turned: int) -> ReducedPicture | None:
    """Hash a grey or YCbCr JPEG, or give None where it is too small to be reduced.

    Args:
        data: the file.
        width: its pixels as stored.
        height: likewise.
        turned: its EXIF orientation from 1 to 8.

    Raises:
        CorruptFile: pixels are damaged or missing.
        ValueError: a kind of JPEG that libjpeg-turbo does not decode.
    """
    scale = next((s for s in (8, 4, 2) if min(width, height) // s >= _SIDE_MIN), None)
    if scale is None:
        return None
    rows, columns = -(-height // scale), -(-width // scale)
    pixels = jpeg.decode_reduced(data, columns, rows)
    if pixels.shape != (rows, columns, 3):
        return None
    # from RGB, not from the file's own luma: clipped colours count as they are shown
    analysis = analyse_blocks(pixels @ _LUMA, width, height, scale, turned)
    return ReducedPicture(analysis, turn(pixels, turned), scale)


def analyse_part(part: NDArray[np.uint8], scale: int) -> pdq.Analysis:
    """Hash a part of a picture, cut from its reduced pixels, as if cut from the picture itself.

    Args:
        part: uint8 (h, w, 3), upright.
        scale: as in `ReducedPicture`; 1 for a picture that is not reduced.

    Raises:
        InvalidPixels: another dtype or shape, or no pixels.
    """
    if scale == 1:
        return pdq.analyse(part)
    height, width = part.shape[:2]
    return analyse_blocks(part @ _LUMA, width * scale, height * scale, scale, 1)


def analyse_blocks(
    luma: NDArray[np.float32], width: int, height: int, scale: int, turned: int
) -> pdq.Analysis:
    """Hash a picture of which the mean of each block is known.

    Args:
        luma: float32 (rows, columns), one for each block of `scale` pixels, the last one whole.
        width: the picture's pixels as stored.
        height: likewise.
        scale: pixels along each side of a block; 1 gives the exact grid.
        turned: its EXIF orientation from 1 to 8.
    """
    # the operator is not symmetric, so a mirrored axis needs the mirrored one
    down = _folded(height, scale, mirrored=turned in {3, 4, 6, 7})
    across = _folded(width, scale, mirrored=turned in {2, 3, 7, 8})
    grid = down @ luma @ across.T
    return pdq.analyse_grid(grid.T if turned >= 5 else grid)


@lru_cache(maxsize=64)
def _folded(length: int, scale: int, *, mirrored: bool) -> NDArray[np.float32]:
    """Fold the operator of an axis of `length` pixels onto its blocks: (64, blocks)."""
    operator = pdq.operator(length)
    if mirrored:
        operator = operator[:, ::-1]
    blocks = -(-length // scale)
    pixel = np.arange(length)
    block = pixel // scale
    # from the block's middle, in blocks; the last one is whole, for encoders fill it up
    place = (pixel % scale + 0.5) / scale - 0.5
    folded = np.zeros((blocks, pdq.GRID))
    np.add.at(folded, block, operator.T)
    np.add.at(folded, np.minimum(block + 1, blocks - 1), (operator * place / 2).T)
    np.add.at(folded, np.maximum(block - 1, 0), (operator * -place / 2).T)
    return folded.T.astype(np.float32)
