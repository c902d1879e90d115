"""Animated GIF and PNG files for tests, and what viewers show of them."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from support.pictures import chunk, encode

KEEP, CLEAR, RESTORE = range(3)


@dataclass(frozen=True)
class Frame:
    """A frame of an animation.

    Attributes:
        picture: its pixels.
        left: the offset on the canvas, in pixels.
        top: likewise.
        duration: in milliseconds.
        disposal: what happens to its area before the next frame: `KEEP`, `CLEAR` or `RESTORE`.
        clear: the transparent index of the palette; GIF only.
        replaces: whether it replaces pixels instead of blending with them; PNG only.
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
        size: width and height of the logical screen.
        frames: with pictures of mode P.
        background: the first colour of the global palette, which is that of the background.
        between: stray bytes before the control block and the image of each frame.
        trailer: the end of the file.
    """
    out = [b"GIF89a", struct.pack("<HHBBB", *size, 0xF0, 0, 0), background, b"\xff\xff\xff"]
    for frame in frames:
        alone = encode(frame.picture, "GIF")
        # a file of this picture: a header, a global palette, then blocks
        colours = alone[13 : 13 + (3 << (alone[10] & 7) + 1)]
        at = 13 + len(colours)
        while alone[at] == 0x21:
            at += 2
            while alone[at]:
                at += alone[at] + 1
            at += 1
        flags = 0x80 | alone[10] & 7 | alone[at + 9] & 0x40
        code = {KEEP: 1, CLEAR: 2, RESTORE: 3}[frame.disposal] << 2 | (frame.clear is not None)
        control = struct.pack("<BHBB", code, frame.duration // 10, frame.clear or 0, 0)
        area = struct.pack("<HHHHB", frame.left, frame.top, *frame.picture.size, flags)
        out += [between, b"\x21\xf9\4", control, between, b",", area, colours, alone[at + 10 : -1]]
    return b"".join((*out, between, trailer))


def apng(
    size: tuple[int, int], frames: Sequence[Frame], *, hidden: Image.Image | None = None
) -> bytes:
    """Return an animated PNG.

    Args:
        size: width and height of the canvas.
        frames: with pictures of the same mode; the first fills the canvas, unless `hidden` does.
        hidden: a default image that is not part of the animation.
    """
    header, _ = _png(hidden or frames[0].picture)
    out = [
        *(b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", struct.pack(">II", *size) + header[8:])),
        chunk(b"acTL", struct.pack(">II", len(frames), 0)),
    ]
    if hidden is not None:
        out.append(chunk(b"IDAT", _png(hidden)[1]))
    number = 0
    for frame in frames:
        out.append(
            chunk(
                b"fcTL",
                struct.pack(
                    *(">IIIIIHHBB", number, *frame.picture.size, frame.left, frame.top),
                    *(frame.duration, 1000, frame.disposal, 0 if frame.replaces else 1),
                ),
            )
        )
        number += 1
        packed = _png(frame.picture)[1]
        if hidden is None and frame is frames[0]:
            out.append(chunk(b"IDAT", packed))
            continue
        for part in (packed[: len(packed) // 2], packed[len(packed) // 2 :]):
            out.append(chunk(b"fdAT", struct.pack(">I", number) + part))
            number += 1
    return b"".join((*out, chunk(b"IEND", b"")))


def _png(picture: Image.Image) -> tuple[bytes, bytes]:
    """Return the header fields and the compressed pixels of a picture."""
    data = encode(picture, "PNG")
    packed, at = b"", 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if data[at + 4 : at + 8] == b"IDAT":
            packed += data[at + 8 : at + 8 + length]
        at += 12 + length
    return data[16:29], packed


def shown(size: tuple[int, int], frames: Sequence[Frame]) -> list[np.ndarray]:
    """Return the pixels shown during each frame, on white, float (h, w, 3)."""
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
        under = canvas[rows, columns]
        over, below = pixels[..., 3:] / 255, under[..., 3:] / 255
        alpha = over + below * (1 - over)
        mixed = pixels[..., :3] * over + under[..., :3] * below * (1 - over)
        painted = np.concatenate((mixed / np.maximum(alpha, 1e-9), alpha * 255), axis=2)
        canvas[rows, columns] = pixels if frame.replaces else painted
        alpha = canvas[..., 3:] / 255
        out.append(canvas[..., :3] * alpha + 255 * (1 - alpha))
        if frame.disposal == RESTORE:
            canvas = before
        elif frame.disposal == CLEAR:
            canvas[rows, columns] = 0
    return out
