"""The clean aperture (`clap`) of a HEIC image: the part of the coded image that is displayed.

libheif 1.23 refuses images of which it crops much (libheif #1895), so the property is removed from
the file and the crop is made by the caller. Boxes are those of ISO/IEC 14496-12 and 23008-12.
Invalid boxes raise nothing and are left to the decoder.
"""

import struct
from collections.abc import Iterator
from fractions import Fraction

from nciihash.errors import CorruptFile

Area = tuple[int, int, int, int]  # left, top, right and bottom in pixels


def without_aperture(data: bytes) -> tuple[bytes, Area, tuple[int, int]] | None:
    """Remove the clean aperture of a file's primary image.

    Returns:
        The file without it, the area to crop from its decoded image, and the width and height of
        that image before cropping; None if there is no aperture, or the boxes cannot be parsed.

    Raises:
        CorruptFile: the aperture is not within the image.
    """
    try:
        properties = _properties(data)
        if properties is None or not any(name == b"clap" for name, _, _ in properties):
            return None
        (size,) = (offset for name, offset, _ in properties if name == b"ispe")
        width, height = struct.unpack_from(">II", data, size + 12)
        out, area = bytearray(data), None
        for name, offset, link in properties:
            if name == b"clap":
                area = _aperture_area(
                    (0, 0, width, height) if area is None else area, data, offset + 8
                )
                out[offset + 4 : offset + 8] = b"free"
                out[link] &= 0x7F  # clear the bit that marks it as essential
            elif name in {b"irot", b"imir"}:
                rotated = _rotate(
                    area or (0, 0, width, height), (width, height), name, data[offset + 8]
                )
                area = None if area is None else rotated
                if name == b"irot" and data[offset + 8] & 1:
                    width, height = height, width
    except (struct.error, IndexError, ValueError, ZeroDivisionError):
        return None
    if area is None or not (0 <= area[0] < area[2] <= width and 0 <= area[1] < area[3] <= height):
        raise CorruptFile(
            "This HEIC picture is damaged: it is cropped to an area outside of the picture. Use "
            "another copy, or open it in a program that shows it and export it as JPEG or PNG."
        )
    return bytes(out), area, (width, height)


def _aperture_area(area: Area, data: bytes, offset: int) -> Area:
    """Return the aperture within an area; libheif rounds x down, and y to the nearest row."""
    numbers = struct.unpack_from(">IIIIiIiI", data, offset)
    width, height, right, down = (Fraction(*numbers[n : n + 2]) for n in (0, 2, 4, 6))
    left, top = area[0], area[1]
    x = left + (right + Fraction(area[2] - left - 1, 2) - (width - 1) / 2).__floor__()
    middle = down + Fraction(area[3] - top - 1, 2) - (height - 1) / 2
    y = top + (middle + Fraction(1, 2)).__floor__()
    return x, y, x + round(width), y + round(height)


def _rotate(area: Area, size: tuple[int, int], name: bytes, value: int) -> Area:
    """Rotate an area with its image, by quarter turns anticlockwise, or mirror it."""
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


def _boxes(data: bytes, offset: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, start, end) of boxes."""
    while offset + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, offset)
        stop = offset + size if size else end
        if stop < offset + 8 or stop > end:
            return
        yield name, offset, stop
        offset = stop


def _properties(data: bytes) -> list[tuple[bytes, int, int]] | None:
    """Return the primary image's properties in order: name, offset, and offset of their link."""
    meta = next((box for box in _boxes(data, 0, len(data)) if box[0] == b"meta"), None)
    if meta is None:
        return None
    primary, properties, links = None, [], []
    for name, offset, end in _boxes(data, meta[1] + 12, meta[2]):
        if name == b"pitm":
            (primary,) = struct.unpack_from(">I" if data[offset + 8] else ">H", data, offset + 12)
        if name == b"iprp":
            for inner, start, stop in _boxes(data, offset + 8, end):
                if inner == b"ipco":
                    properties = [(kind, box) for kind, box, _ in _boxes(data, start + 8, stop)]
                if inner == b"ipma":
                    links += [link for item, link in _links(data, start) if item == primary]
    return [(*properties[index - 1], link) for index, link in links if 0 < index <= len(properties)]


def _links(data: bytes, offset: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield each item's (property index, offset of that index) from an `ipma` box."""
    version, wide = data[offset + 8], data[offset + 11] & 1
    (count,) = struct.unpack_from(">I", data, offset + 12)
    offset += 16
    for _ in range(count):
        (item,) = struct.unpack_from(">I" if version else ">H", data, offset)
        offset += 4 if version else 2
        association_count = data[offset]
        offset += 1
        for _ in range(association_count):
            index = (data[offset] & 0x7F) << 8 | data[offset + 1] if wide else data[offset] & 0x7F
            yield item, (index, offset)
            offset += 2 if wide else 1
