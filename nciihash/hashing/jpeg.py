"""Decode JPEG pictures strictly: a file with damaged or missing pixels is refused.

libjpeg calls damage a warning and fills the missing part with grey, and Pillow hears nothing of it.
`simplejpeg` (libjpeg-turbo) reports such warnings, gives the same pixels to the bit, and takes
about half the time.
"""

import re
from collections.abc import Iterator
from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from nciihash.errors import CorruptFile
from nciihash.media.formats import orientation

# Warnings of libjpeg that concern no pixel; some cameras pad the data by a byte or two.
_HARMLESS: Final = re.compile(
    r"unknown JFIF revision|Unknown Adobe color transform|Inconsistent progression"
    r"|: [12] extraneous bytes before marker 0xd9"
)
_BAND: Final = 1 << 20  # pixels that are converted at once


def turned(data: bytes) -> int:
    """Read a JPEG's EXIF orientation, 1 to 8.

    Raises:
        CorruptFile: no pixels follow the header.
    """
    for marker, start, end in _segments(data):
        if marker == 0xE1 and data[start + 4 : start + 10] == b"Exif\0\0":
            return orientation(data[start + 10 : end])
    return 1


def strip(data: bytes) -> bytes:
    """Keep of a JPEG only what says how its picture looks.

    Pillow parses EXIF while it opens a file, and warns or fails where that is garbage; the further
    pictures of a phone's multi-picture file are of no use here. So all application segments go but
    JFIF's and Adobe's, which say how the colours are stored.

    Raises:
        CorruptFile: no pixels follow the header.
    """
    view = memoryview(data)
    kept = [view[:2]]
    for marker, start, end in _segments(data):
        if marker in {0xE0, 0xEE} or not 0xE0 <= marker <= 0xEF:
            kept.append(view[start:end])
    return b"".join(kept)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Walk a JPEG's segments: marker, start and end of each; the pixels are the last, to the end.

    Raises:
        CorruptFile: there are none.
    """
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == 0xDA:  # start of scan
            yield marker, position, len(data)
            return
        alone = marker in range(0xD0, 0xD9) or marker == 0x01
        end = position + 2 + (0 if alone else int.from_bytes(data[position + 2 : position + 4]))
        yield marker, position, end
        position = end
    raise CorruptFile("This JPEG picture is cut off or damaged. Copy or download the file again.")


def header(data: bytes) -> tuple[int, int, str] | None:
    """Read width, height and colour space; None for a rare kind that only Pillow may know."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return width, height, colours


def decode(data: bytes, colours: str) -> NDArray[np.uint8]:
    """Decode to RGB, uint8 (h, w, 3), as the rows are stored.

    Raises:
        CorruptFile: pixels are damaged or missing.
        ValueError: a kind of JPEG that libjpeg-turbo does not decode.
    """
    if colours in {"CMYK", "YCCK"}:
        return _rgb(_strictly(data, "CMYK"))
    return _strictly(data, "RGB")


def decode_reduced(data: bytes, width: int, height: int) -> NDArray[np.uint8]:
    """Decode a grey or YCbCr picture to RGB, reduced.

    Args:
        data: the file.
        width: the least width of the result; libjpeg-turbo goes down by eighths.
        height: likewise.

    Returns:
        uint8 (h, w, 3), the smallest form that has at least that size.

    Raises:
        CorruptFile: pixels are damaged or missing.
        ValueError: a kind of JPEG that libjpeg-turbo does not decode.
    """
    return _strictly(data, "RGB", min_width=width, min_height=height)


def _strictly(data: bytes, colours: str, **least: int) -> NDArray[np.uint8]:
    try:
        pixels = simplejpeg.decode_jpeg(data, colours, **least, strict=True)
    except ValueError as error:
        if not _HARMLESS.search(str(error)):
            raise CorruptFile(
                "This JPEG picture is damaged or cut off: part of it is missing. "
                "Copy or download the file again."
            ) from error
        pixels = simplejpeg.decode_jpeg(data, colours, **least, strict=False)
    return np.asarray(pixels, np.uint8)


def _rgb(inks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert CMYK to RGB; as in all such JPEGs, 255 means no ink (Adobe's convention)."""
    height, width = inks.shape[:2]
    rgb = np.empty((height, width, 3), np.uint8)
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        band = inks[top : top + rows].astype(np.uint16)
        rgb[top : top + rows] = (band[:, :, :3] * band[:, :, 3:] + 127) // 255
    return rgb
