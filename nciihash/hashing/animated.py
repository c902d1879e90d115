"""Compose the frames of an animated GIF or PNG as browsers do.

The canvas is transparent at first: no browser paints a GIF's background colour. A PNG's default
image that is not part of its animation is never shown (PNG, third edition, section 4.9). Each frame
is passed to the decoder as a file of its own.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nciihash.errors import CorruptFile
from nciihash.media.formats import png_chunks


class Disposal(Enum):
    """What happens to a frame's area before the next frame is drawn."""

    KEEP = 0
    CLEAR = 1
    RESTORE = 2


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as stored.

    `left`, `top`, `width` and `height` are its area in pixels; `duration` is in milliseconds;
    `replaces` is whether it overwrites its area, alpha included, instead of being blended over it;
    `file` is a GIF or PNG file of this frame only.
    """

    left: int
    top: int
    width: int
    height: int
    duration: float
    disposal: Disposal
    replaces: bool
    file: bytes


_GIF_DISPOSALS: Final = {2: Disposal.CLEAR, 3: Disposal.RESTORE}


def gif_size(data: bytes) -> tuple[int, int]:
    """Read a GIF's width and height: its screen's, extended to contain the first frame."""
    width, height = struct.unpack_from("<HH", data, 6) if len(data) >= 10 else (0, 0)
    first = next(gif_frames(data), None)
    if first is None:
        raise CorruptFile("This GIF picture is cut off or damaged. Use another copy of the file.")
    return max(width, first.left + first.width), max(height, first.top + first.height)


def gif_frames(data: bytes) -> Iterator[Frame]:
    """Yield a GIF's frames.

    Zero bytes between blocks are skipped. Any other stray byte ends the file, and so does the end
    of the data: the trailer is optional. The last frame's data may be incomplete, which its decoder
    reports.
    """
    if len(data) < 13:
        return
    position = 13 + _table_size(data[10])
    colours = data[13:position]
    control = b"\x21\xf9\4\0\0\0\0\0"
    while position < len(data):
        kind = data[position]
        if kind == 0x21:
            end = _blocks_end(data, position + 2)
            if data[position + 1 : position + 3] == b"\xf9\4" and end >= position + 8:
                control = data[position : position + 7] + b"\0"
            position = end
        elif kind == 0x2C and position + 10 <= len(data):
            left, top, width, height, flags = struct.unpack_from("<HHHHB", data, position + 1)
            start = position + 10
            position = _blocks_end(data, start + _table_size(flags) + 1)
            screen = struct.pack("<HHBBB", width, height, data[10], 0, 0)
            area = struct.pack("<BHHHHB", 0x2C, 0, 0, width, height, flags)
            file = b"".join(
                (data[:6], screen, colours, control, area, data[start:position], b"\0;")
            )
            disposal = _GIF_DISPOSALS.get(control[3] >> 2 & 7, Disposal.KEEP)
            duration = 10.0 * int.from_bytes(control[4:6], "little")
            yield Frame(left, top, width, height, duration, disposal, replaces=False, file=file)
            control = b"\x21\xf9\4\0\0\0\0\0"
        elif kind == 0:
            position += 1
        else:
            return


def _table_size(flags: int) -> int:
    """Return the size of a GIF's colour table in bytes."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _blocks_end(data: bytes, position: int) -> int:
    """Return the offset after a GIF's data sub-blocks and their terminator."""
    while position < len(data) and data[position]:
        position += data[position] + 1
    return min(position + 1, len(data))


def png_frames(data: bytes) -> Iterator[Frame]:
    """Yield an animated PNG's frames; none if it is not animated, or not validly.

    The default image is one of them only if a frame control chunk precedes it.
    """
    head: list[bytes] = []
    control: tuple[int, ...] | None = None
    packed: list[bytes] = []
    sequence, animated = 0, False
    size = (0, 0)
    for name, start, end in png_chunks(data):
        body = data[start + 8 : end - 4]
        if name == b"IHDR" and len(body) == 13:
            size = struct.unpack_from(">II", body)
        if name in {b"IHDR", b"PLTE", b"tRNS"} and not packed:
            head.append(data[start:end])
        elif name == b"acTL":
            animated = len(body) == 8 and int.from_bytes(body[:4]) > 0
        elif name == b"IDAT" and not animated:
            return
        elif name == b"IDAT" and control is not None:
            packed.append(data[start:end])
        elif name in {b"fcTL", b"fdAT"}:
            if int.from_bytes(body[:4]) != sequence or (name == b"fdAT" and control is None):
                return
            sequence += 1
            if name == b"fdAT":
                packed.append(_chunk(b"IDAT", body[4:]))
        if name in {b"fcTL", b"IEND"}:
            if control is not None and packed:
                yield _png_frame(head, control, packed)
            elif control is not None:
                return
            packed = []
        if name == b"fcTL":
            if len(body) != 26:
                return
            control = struct.unpack(">IIIIIHHBB", body)
            _, width, height, left, top, *_ = control
            if not (0 < width <= size[0] - left and 0 < height <= size[1] - top):
                return


def replacement_frame(data: bytes) -> Frame | None:
    """Return the first frame if a PNG's default image is not part of its animation, else None."""
    for name, _, _ in png_chunks(data):
        if name == b"fcTL":
            return None
        if name == b"IDAT":
            break
    return next(png_frames(data), None)


def _png_frame(head: list[bytes], control: tuple[int, ...], packed: list[bytes]) -> Frame:
    _, width, height, left, top, numerator, denominator, disposal, blend = control
    header = _chunk(b"IHDR", struct.pack(">II", width, height) + head[0][16:21])
    file = (b"\x89PNG\r\n\x1a\n", header, *head[1:], *packed, _chunk(b"IEND", b""))
    duration = 1000 * numerator / (denominator or 100)
    valid_disposal = Disposal(disposal) if disposal <= 2 else Disposal.KEEP
    return Frame(left, top, width, height, duration, valid_disposal, blend == 0, b"".join(file))


def _chunk(name: bytes, body: bytes) -> bytes:
    """Return one chunk of a PNG."""
    check = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", check)


def compose(
    size: tuple[int, int],
    frames: Iterator[Frame],
    rgba: Callable[[bytes], NDArray[np.uint8]],
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Compose frames on a canvas.

    Args:
        size: width and height of the animation in pixels.
        frames: its frames, in order.
        rgba: decodes a frame's file to uint8 (h, w, 4).

    Yields:
        The duration of each frame in milliseconds, and the canvas, uint8 (h, w, 4), which is
        overwritten by the next frame.
    """
    canvas = np.zeros((size[1], size[0], 4), np.uint8)
    for frame in frames:
        area = canvas[frame.top : frame.top + frame.height, frame.left : frame.left + frame.width]
        saved = area.copy() if frame.disposal is Disposal.RESTORE else None
        pixels = rgba(frame.file)[: area.shape[0], : area.shape[1]]
        if frame.replaces:
            area[:] = pixels
        else:
            _blend(area, pixels)
        yield frame.duration, canvas
        if saved is not None:
            area[:] = saved
        elif frame.disposal is Disposal.CLEAR:
            area[:] = 0


def _blend(area: NDArray[np.uint8], pixels: NDArray[np.uint8]) -> None:
    """Blend pixels over others; alpha is straight, not premultiplied."""
    clear = pixels[:, :, 3] < 255
    if not clear.any():
        area[:] = pixels
        return
    np.copyto(area, pixels, where=~clear[:, :, None])
    partly = clear & (pixels[:, :, 3] > 0)
    if not partly.any():
        return
    over, under = pixels[partly].astype(np.float32), area[partly].astype(np.float32)
    alpha, left = over[:, 3:] / 255, under[:, 3:] / 255 * (1 - over[:, 3:] / 255)
    whole = alpha + left
    mixed = (over[:, :3] * alpha + under[:, :3] * left) / whole
    area[partly] = np.rint(np.concatenate((mixed, whole * 255), axis=1)).astype(np.uint8)
