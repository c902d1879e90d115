"""Make BMP files of 32 bits per pixel, with every version of the header."""

import struct

import numpy as np
from PIL import Image

HEADERS = (40, 52, 56, 108, 124)  # bytes: BITMAPINFOHEADER, V2, V3, V4, V5


def bmp(picture: Image.Image, alpha: np.ndarray, header: int = 124, *, masks: bool = True) -> bytes:
    """Return a BMP, stored bottom-up as usual.

    Args:
        picture: in RGB.
        alpha: the fourth byte of each pixel, uint8 (h, w).
        header: the header's size in bytes.
        masks: whether it has colour masks (BI_BITFIELDS), from 56 bytes on with one for alpha; else
            it is BI_RGB.
    """
    rgb = np.asarray(picture)
    pixels = np.dstack((rgb[..., ::-1], alpha))[::-1].astype(np.uint8).tobytes()
    colours = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    info = struct.pack(
        "<IiiHHIIiiII", header, *picture.size, 1, 32, 3 if masks else 0, len(pixels), 0, 0, 0, 0
    )
    if header > 40:
        info += colours[: header - 40]
        # the colour space is sRGB, with no end points or gammas
        info += b"BGRs".ljust(header - len(info), b"\0") if header > 56 else b""
    elif masks:
        info += colours[:12]
    offset = 14 + len(info)
    return struct.pack("<2sIHHI", b"BM", offset + len(pixels), 0, 0, offset) + info + pixels
