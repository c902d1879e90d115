"""The clean aperture of a HEIC picture: which part of what is coded is shown.

libheif 1.23 refuses pictures of which it cuts off much (libheif #1895), so that the crop is taken
out of the file and made here. Boxes are those of ISO/IEC 14496-12 and 23008-12. Nothing here raises
for garbage: what cannot be read is left to the decoder.
"""

import struct
from collections.abc import Iterator
from fractions import Fraction

from nciihash.errors import CorruptFile

Area = tuple[int, int, int, int]  # left, top, right and bottom in pixels


def without_aperture(data: bytes) -> tuple[bytes, Area, tuple[int, int]] | None:
    """Take the clean aperture of a file's primary picture out of it.

    Returns:
        The file without it, the area that is shown of what such a file decodes to, and width and
        height of that; None where the picture has none, or its boxes are not understood.

    Raises:
        CorruptFile: an aperture that lies outside the picture.
    """
    try:
        found = _properties(data)
        if found is None or not any(name == b"clap" for name, _, _ in found):
            return None
        (size,) = (at for name, at, _ in found if name == b"ispe")
        width, height = struct.unpack_from(">II", data, size + 12)
        out, area = bytearray(data), None
        for name, at, link in found:
            if name == b"clap":
                area = _inner((0, 0, width, height) if area is None else area, data, at + 8)
                out[at + 4 : at + 8] = b"free"
                out[link] &= 0x7F  # it may be done without
            elif name in {b"irot", b"imir"}:
                turned = _turned(area or (0, 0, width, height), (width, height), name, data[at + 8])
                area = None if area is None else turned
                if name == b"irot" and data[at + 8] & 1:
                    width, height = height, width
    except (struct.error, IndexError, ValueError, ZeroDivisionError):
        return None
    if area is None or not (0 <= area[0] < area[2] <= width and 0 <= area[1] < area[3] <= height):
        raise CorruptFile(
            "This HEIC picture shows a part of itself that is not there. Use another copy, or "
            "export it anew as JPEG or PNG."
        )
    return bytes(out), area, (width, height)


def _inner(area: Area, data: bytes, at: int) -> Area:
    """Cut an aperture out of an area; libheif rounds to the left, and to the nearest row."""
    numbers = struct.unpack_from(">IIIIiIiI", data, at)
    width, height, right, down = (Fraction(*numbers[n : n + 2]) for n in (0, 2, 4, 6))
    left, top = area[0], area[1]
    x = left + (right + Fraction(area[2] - left - 1, 2) - (width - 1) / 2).__floor__()
    middle = down + Fraction(area[3] - top - 1, 2) - (height - 1) / 2
    y = top + (middle + Fraction(1, 2)).__floor__()
    return x, y, x + round(width), y + round(height)


def _turned(area: Area, size: tuple[int, int], name: bytes, value: int) -> Area:
    """Turn an area with its picture: by quarters against the clock, or mirrored."""
    left, top, right, bottom = area
    width, height = size
    if name == b"imir":
        if value & 1:
            return width - right, top, width - left, bottom
        return left, height - bottom, right, height - top
    for _ in range(value & 3):
        left, top, right, bottom = top, width - right, bottom, width - left
        width, height = height, width
    return left, top, right, bottom


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Walk boxes: name, start and end of each."""
    while at + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, at)
        stop = at + size if size else end
        if stop < at + 8 or stop > end:
            return
        yield name, at, stop
        at = stop


def _properties(data: bytes) -> list[tuple[bytes, int, int]] | None:
    """Find the primary picture's properties in order: name, start, and where they are linked."""
    meta = next((box for box in _boxes(data, 0, len(data)) if box[0] == b"meta"), None)
    if meta is None:
        return None
    primary, properties, links = None, [], []
    for name, at, end in _boxes(data, meta[1] + 12, meta[2]):
        if name == b"pitm":
            (primary,) = struct.unpack_from(">I" if data[at + 8] else ">H", data, at + 12)
        if name == b"iprp":
            for inner, start, stop in _boxes(data, at + 8, end):
                if inner == b"ipco":
                    properties = [(kind, place) for kind, place, _ in _boxes(data, start + 8, stop)]
                if inner == b"ipma":
                    links += [link for item, link in _links(data, start) if item == primary]
    return [(*properties[index - 1], link) for index, link in links if 0 < index <= len(properties)]


def _links(data: bytes, at: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Walk an `ipma` box: for each item, the numbers of its properties, and where they stand."""
    version, wide = data[at + 8], data[at + 11] & 1
    (count,) = struct.unpack_from(">I", data, at + 12)
    at += 16
    for _ in range(count):
        (item,) = struct.unpack_from(">I" if version else ">H", data, at)
        at += 4 if version else 2
        number = data[at]
        at += 1
        for _ in range(number):
            index = (data[at] & 0x7F) << 8 | data[at + 1] if wide else data[at] & 0x7F
            yield item, (index, at)
            at += 2 if wide else 1
