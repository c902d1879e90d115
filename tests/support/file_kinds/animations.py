"""Make animated GIF and PNG files frame by frame, and compose what viewers show of them."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from support.pictures import chunk, encode

KEEP, CLEAR, RESTORE = range(3)


@dataclass(frozen=True)
class Frame:
    """One frame: its picture, position, duration in milliseconds and disposal.

    `clear` is the transparent palette index of a GIF; `replaces` (PNG only) is whether it is copied
    to the canvas instead of blended.
    """

    picture: Image.Image
    left: int = 0
    top: int = 0
    duration: int = 500
    disposal: int = KEEP
    clear: int | None = None
    replaces: bool = False


def gif(
    size: tuple[int, int],
    frames: Sequence[Frame],
    *,
    background: bytes = b"\0\0\0",
    between: bytes = b"",
    trailer: bytes = b";",
) -> bytes:
    """Return a GIF whose frames have local palettes.

    Args:
        size: width and height of its screen.
        frames: with pictures of mode P.
        background: the first colour of the global palette, which is the background colour.
        between: stray bytes before each frame's control block and before its image.
        trailer: the last bytes of the file.
    """
    out = [b"GIF89a", struct.pack("<HHBBB", *size, 0xF0, 0, 0), background, b"\xff\xff\xff"]
    for frame in frames:
        file = encode(frame.picture, "GIF")
        # a GIF of this picture: a header, the palette as the global one, then blocks
        palette = file[13 : 13 + (3 << (file[10] & 7) + 1)]
        offset = 13 + len(palette)
        while file[offset] == 0x21:
            offset += 2
            while file[offset]:
                offset += file[offset] + 1
            offset += 1
        flags = 0x80 | file[10] & 7 | file[offset + 9] & 0x40
        code = {KEEP: 1, CLEAR: 2, RESTORE: 3}[frame.disposal] << 2 | (frame.clear is not None)
        control = struct.pack("<BHBB", code, frame.duration // 10, frame.clear or 0, 0)
        area = struct.pack("<HHHHB", frame.left, frame.top, *frame.picture.size, flags)
        blocks = file[offset + 10 : -1]
        out += [between, b"\x21\xf9\4", control, between, b",", area, palette, blocks]
    return b"".join((*out, between, trailer))


def apng(
    size: tuple[int, int], frames: Sequence[Frame], *, hidden: Image.Image | None = None
) -> bytes:
    """Return an animated PNG; `hidden` is a default image that is not part of the animation.

    All pictures have the same mode, and `hidden`, or else the first frame, has the full size.
    """
    header, _ = _png(hidden or frames[0].picture)
    out = [
        *(b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", struct.pack(">II", *size) + header[8:])),
        chunk(b"acTL", struct.pack(">II", len(frames), 0)),
    ]
    if hidden is not None:
        out.append(chunk(b"IDAT", _png(hidden)[1]))
    sequence = 0
    for frame in frames:
        out.append(
            chunk(
                b"fcTL",
                struct.pack(
                    *(">IIIIIHHBB", sequence, *frame.picture.size, frame.left, frame.top),
                    *(frame.duration, 1000, frame.disposal, 0 if frame.replaces else 1),
                ),
            )
        )
        sequence += 1
        compressed = _png(frame.picture)[1]
        if hidden is None and frame is frames[0]:
            out.append(chunk(b"IDAT", compressed))
            continue
        for part in (compressed[: len(compressed) // 2], compressed[len(compressed) // 2 :]):
            out.append(chunk(b"fdAT", struct.pack(">I", sequence) + part))
            sequence += 1
    return b"".join((*out, chunk(b"IEND", b"")))


def _png(picture: Image.Image) -> tuple[bytes, bytes]:
    """Return the header and the compressed pixels of a picture's PNG."""
    data = encode(picture, "PNG")
    compressed, offset = b"", 8
    while offset < len(data):
        (length,) = struct.unpack_from(">I", data, offset)
        if data[offset + 4 : offset + 8] == b"IDAT":
            compressed += data[offset + 8 : offset + 8 + length]
        offset += 12 + length
    return data[16:29], compressed


def shown(size: tuple[int, int], frames: Sequence[Frame]) -> list[np.ndarray]:
    """Return what viewers show during each frame, on white, float (h, w, 3)."""
    canvas = np.zeros((size[1], size[0], 4))
    out = []
    for frame in frames:
        picture = frame.picture.convert("RGBA")
        pixels = np.array(picture, np.float64)
        if frame.clear is not None:
            pixels[..., 3] = np.where(np.asarray(frame.picture) == frame.clear, 0, 255)
        rows = slice(frame.top, frame.top + picture.height)
        columns = slice(frame.left, frame.left + picture.width)
        before = canvas.copy()
        below = canvas[rows, columns]
        alpha_above, alpha_below = pixels[..., 3:] / 255, below[..., 3:] / 255
        alpha_total = alpha_above + alpha_below * (1 - alpha_above)
        colour = pixels[..., :3] * alpha_above + below[..., :3] * alpha_below * (1 - alpha_above)
        painted = np.concatenate(
            (colour / np.maximum(alpha_total, 1e-9), alpha_total * 255), axis=2
        )
        canvas[rows, columns] = pixels if frame.replaces else painted
        alpha = canvas[..., 3:] / 255
        out.append(canvas[..., :3] * alpha + 255 * (1 - alpha))
        if frame.disposal == RESTORE:
            canvas = before
        elif frame.disposal == CLEAR:
            canvas[rows, columns] = 0
    return out
