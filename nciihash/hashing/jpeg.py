"""Decode JPEG files strictly: a file with damaged or missing pixels is refused.

libjpeg reports damage as a warning and fills missing pixels with grey, and Pillow ignores the
warning. `simplejpeg` (libjpeg-turbo) raises the first warning, decodes to identical pixels, and
takes about half the time. Warnings that do not concern pixels are handled in
`nciihash.hashing.jpeg_repair`.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from nciihash.errors import CorruptFile, UnsupportedFormat
from nciihash.hashing import jpeg_repair
from nciihash.hashing.jpeg_repair import segments
from nciihash.media import formats

_BAND: Final = 1 << 20  # pixels converted at a time
_STARTS: Final = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOF markers; F7 is JPEG-LS
_USUAL: Final = {0xC0, 0xC1, 0xC2}  # baseline, extended and progressive, Huffman-coded


def read_orientation(data: bytes) -> int:
    """Read a JPEG's EXIF orientation, 1 to 8.

    Raises:
        CorruptFile: no pixels follow the header.
        UnsupportedFormat: a rare kind of JPEG, such as 12-bit, lossless or arithmetic-coded.
    """
    orientation = 0
    for marker, start, end in segments(data):
        if marker == 0xE1 and not orientation and data[start + 4 : start + 10] == b"Exif\0\0":
            orientation = formats.orientation(data[start + 10 : end])
        if marker in _STARTS and (marker not in _USUAL or data[start + 4 : start + 5] != b"\x08"):
            raise UnsupportedFormat(
                "This JPEG picture is of a rare kind that this program cannot read. "
                "Open it in a program that shows it, export it as JPEG or PNG and try again."
            )
    return orientation or 1


def header(data: bytes) -> tuple[int, int, str] | None:
    """Read width, height and colour space; None if simplejpeg does not know the file's kind."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except (ValueError, KeyError):  # it has no name for this chroma subsampling
        return None
    return width, height, colours


def decode(data: bytes, colours: str) -> NDArray[np.uint8]:
    """Decode to RGB, uint8 (h, w, 3), before EXIF orientation is applied.

    Raises:
        CorruptFile: pixels are damaged or missing.
    """
    if colours in {"CMYK", "YCCK"}:
        return _rgb(_decode_strictly(data, "CMYK"))
    return _decode_strictly(data, "RGB")


def decode_reduced(data: bytes, width: int, height: int) -> NDArray[np.uint8]:
    """Decode a grey or YCbCr JPEG to RGB at a reduced size.

    Args:
        data: the file.
        width: the least width of the result; libjpeg-turbo reduces by eighths.
        height: likewise.

    Returns:
        uint8 (h, w, 3), the smallest available size that is at least as large.

    Raises:
        CorruptFile: pixels are damaged or missing.
    """
    return _decode_strictly(data, "RGB", min_width=width, min_height=height)


def decode_rare(data: bytes, pixels_of: Callable[[bytes], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Decode with a decoder that does not report missing pixels.

    Detect them by decoding twice, with different bytes after each scan: a decoder that runs out of
    data continues into those bytes, and its pixels differ.

    Args:
        data: the file.
        pixels_of: decodes a JPEG's bytes.

    Raises:
        CorruptFile: pixels are missing.
    """
    scans = jpeg_repair.Scans(data)
    if not scans.complete:
        raise _missing()
    pixels = pixels_of(scans.rewritten())
    if not np.array_equal(pixels, pixels_of(scans.rewritten(padding=bytes(range(16, 240))))):
        raise _missing()
    return pixels


def _decode_strictly(data: bytes, colours: str, **min_size: int) -> NDArray[np.uint8]:
    def pixels_of(file: bytes, *, strict: bool = True) -> NDArray[np.uint8]:
        return np.asarray(
            simplejpeg.decode_jpeg(file, colours, **min_size, strict=strict), np.uint8
        )

    try:
        return pixels_of(data)
    except ValueError as error:
        warning = str(error)
        if jpeg_repair.concerns_pixels(warning):
            raise _missing() from error
    if "progression" in warning:  # repairing bytes does not remove this warning
        return decode_rare(data, partial(pixels_of, strict=False))
    repaired = jpeg_repair.decode(data, pixels_of)
    if repaired is not None:
        return repaired
    raise _missing()


def _missing() -> CorruptFile:
    return CorruptFile(
        "This JPEG picture is damaged or cut off: part of it is missing. "
        "Copy or download the file again."
    )


def _rgb(cmyk: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert CMYK to RGB; in JPEG files, 255 means no ink (Adobe's convention)."""
    height, width = cmyk.shape[:2]
    rgb = np.empty((height, width, 3), np.uint8)
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        band = cmyk[top : top + rows].astype(np.uint16)
        rgb[top : top + rows] = (band[:, :, :3] * band[:, :, 3:] + 127) // 255
    return rgb
