"""Draw pictures for tests, and make files of them."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def scene(width: int = 120, height: int = 80, seed: int = 1) -> Image.Image:
    """Draw smooth gradients and a rectangle with hard edges: enough structure for a hash."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 9, 3), np.uint8))
    pixels = np.array(small.resize((width, height), Image.Resampling.BICUBIC))
    pixels[height // 3 : height // 2, width // 4 : width // 2] = (250, 20, 60)
    return Image.fromarray(pixels)


def encode(image: Image.Image, image_format: str, **options: Any) -> bytes:
    """Save a picture to bytes."""
    out = io.BytesIO()
    image.save(out, image_format, **options)
    return out.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    """Return one chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, rows: bytes, extra: bytes = b"", depth: int = 8, kind: int = 2):
    """Return a PNG with the header's fields as passed, whatever its pixels are."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def jpeg_with_size(data: bytes, width: int, height: int) -> bytes:
    """Replace the size in a JPEG's header."""
    start = data.index(b"\xff\xc0")
    return data[: start + 5] + struct.pack(">HH", height, width) + data[start + 9 :]


def exif(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    """Return an EXIF block with only an orientation."""
    byte_order = b"II" if order == "<" else b"MM"
    value = struct.pack(order + ("HH" if kind == 3 else "I"), *([orientation, 0][: 5 - kind]))
    entry = struct.pack(order + "HHI", 0x0112, kind, 1) + value
    return (
        b"Exif\0\0"
        + byte_order
        + struct.pack(order + "HIH", 42, 8, 1)
        + entry
        + struct.pack("I", 0)
    )


def stored(image: Image.Image, orientation: int) -> Image.Image:
    """Rotate an upright picture to how a file of this EXIF orientation stores it."""
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(orientation)
    return image if turn is None else image.transpose(turn)


def textured(seed: int, width: int = 448, height: int = 320) -> Image.Image:
    """Draw noise of all sizes, a different picture for each seed, as full of detail as a photo."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((height, width, 3))
    for cells, weight in ((4, 1.0), (9, 0.8), (20, 0.6), (45, 0.4), (100, 0.25)):
        noise = rng.integers(0, 256, (cells, cells * width // height, 3), np.uint8)
        layer = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        pixels += weight * np.asarray(layer)
    low, high = pixels.min(), pixels.max()
    return Image.fromarray(((pixels - low) / (high - low) * 255).astype(np.uint8))


def horizon(seed: int, width: int = 448, height: int = 320) -> Image.Image:
    """Draw a sky above a ground, each a smooth gradient: hardly anything but one edge."""
    rng = np.random.default_rng(seed)
    edge = rng.uniform(0.25, 0.75) * height + rng.uniform(-0.1, 0.1) * np.arange(width)
    y = np.arange(height)[:, None]
    sky, ground = rng.uniform(215, 255, 3), rng.uniform(0, 40, 3)
    above = (y < edge)[..., None]
    slope = rng.uniform(-10, 10) * (y / height)[..., None]
    pixels = np.where(above, sky, ground) + slope
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
