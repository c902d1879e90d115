"""Decode JPEG files that violate the standard but have all their pixels, as viewers show them.

Some cameras and programs write stray bytes between segments or before the end, segment lengths that
are off by a few bytes, or no end marker. libjpeg skips all of these with a warning, as it does for
lost pixels. Here the file is rewritten without those faults, by libjpeg's own rules (`next_marker`
in jdmarker.c), and decoded again: a warning that remains concerns pixels.
"""

import re
from collections.abc import Callable, Iterator
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nciihash.errors import CorruptFile

_EXTRA: Final = re.compile(r"(\d+) extraneous bytes before marker 0x([0-9a-f]{2})")
_HARMLESS: Final = re.compile(
    r"unknown JFIF revision|Unknown Adobe color transform|Inconsistent progression"
    r"|extraneous bytes before marker|Premature end of JPEG file|Invalid SOS parameters"
)
_SCANS: Final = 64  # the most scans with stray bytes at their end; each costs a decode
# The most stray bytes after a scan: cameras write a few. More are image data after a damaged
# position, unless all are the same byte: padding.
_STRAY: Final = 8
_END: Final = re.compile(rb"\xff[^\xff\x00\xd0-\xd7]")  # a marker other than a restart
_WITHOUT_LENGTH: Final = {0x01, *range(0xD0, 0xD9)}  # markers without a length


def concerns_pixels(warning: str) -> bool:
    """Whether a warning of libjpeg means that pixels are damaged or missing."""
    return _HARMLESS.search(warning) is None


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of a JPEG's segments; the last is the scan, to the file's end.

    Stray bytes between segments are skipped.

    Raises:
        CorruptFile: there is no scan.
    """
    position = 2
    while (start := _next_marker(data, position)) + 4 <= len(data):
        marker = data[start + 1]
        if marker == 0xD8:  # of a thumbnail: a segment's length is wrong
            break
        if marker == 0xDA:  # start of scan
            yield marker, start, len(data)
            return
        end = _segment_end(data, start)
        yield marker, start, end
        position = end
    raise CorruptFile("This JPEG picture is cut off or damaged. Copy or download the file again.")


def _next_marker(data: bytes, position: int) -> int:
    """Return the offset of the next marker's last 0xFF; the data's length if there is none."""
    while True:
        position = data.find(b"\xff", position)
        if position < 0 or position + 1 >= len(data):
            return len(data)
        if data[position + 1] not in {0x00, 0xFF}:
            return position
        position += 1


def _scan_end(data: bytes, start: int) -> int:
    """Return where a scan's data end: at the next marker, or at the fill bytes before it."""
    marker_match = _END.search(data, start)
    if marker_match is None:
        return len(data)
    end = marker_match.start()
    while end > start and data[end - 1] == 0xFF:
        end -= 1
    return end


def _segment_end(data: bytes, start: int) -> int:
    if data[start + 1] in _WITHOUT_LENGTH:
        return start + 2
    return start + 2 + max(2, int.from_bytes(data[start + 2 : start + 4]))


class Scans:
    """A JPEG split into its scans and the segments needed to decode them.

    `closed` is whether it has an end marker.
    """

    def __init__(self, data: bytes) -> None:
        self.parts: list[bytes] = [data[:2]]
        self.scans: list[int] = []  # indices of the parts that are scans' data
        self.closed = False
        # (component, coefficient): low bits that the scans so far have not refined
        self._missing_bits: dict[tuple[int, int], int] = {}
        self._components: list[int] = []
        position, adobe, sequential = 2, 0, False
        while not self.closed and (start := _next_marker(data, position)) < len(data):
            marker, end = data[start + 1], _segment_end(data, start)
            self.closed = marker == 0xD9
            if marker == 0xD8:  # another image begins within this one
                self.scans = []
                break
            if self.closed or end > len(data):
                break
            position = end
            if marker not in _WITHOUT_LENGTH:
                self.parts.append(_needed(marker, data[start:end]))
                if marker == 0xEE:
                    adobe = len(self.parts) - 1
            if marker in {0xC0, 0xC1, 0xC2}:
                sequential = marker != 0xC2
                count = data[start + 9 : start + 10] or b"\0"
                self._components = list(data[start + 10 : end : 3][: count[0]])
            if marker == 0xDA:
                if sequential:  # its scans have all coefficients, whatever their headers say
                    self.parts[-1] = self.parts[-1][:-3] + b"\0\x3f\0"
                self._record(self.parts[-1][4:])
                position = _scan_end(data, end)
                self.scans.append(len(self.parts))
                self.parts.append(data[end:position])
        if adobe and self.parts[adobe][15:16] not in {b"", b"\0"}:
            # what libjpeg assumes for an unknown Adobe transform: YCCK or YCbCr
            known = b"\2" if len(self._components) == 4 else b"\1"
            self.parts[adobe] = self.parts[adobe][:15] + known + self.parts[adobe][16:]
        if self.scans and not self.closed:
            # half of a marker, and the padding of an interrupted copy
            last = self.parts[self.scans[-1]].rstrip(b"\xff")
            self.parts[self.scans[-1]] = _strip_fill(last, b"\0")

    def _record(self, body: bytes) -> None:
        """Record which coefficients of which components a scan has, and to which bit."""
        count = body[0] if body else 0
        if len(body) < 4 + 2 * count:
            return
        first, last, shifts = body[1 + 2 * count : 4 + 2 * count]
        for component, index in product(body[1 : 1 + 2 * count : 2], range(first, last + 1)):
            self._missing_bits[component, index] = shifts & 15

    @property
    def complete(self) -> bool:
        """Whether it has scans and an end marker, or else every bit of every coefficient."""
        if not self.scans or not self._components:
            return False
        needed = product(self._components, range(64))
        return self.closed or not any(self._missing_bits.get(each, 1) for each in needed)

    def marker_after(self, scan: int) -> int:
        """Return the marker after a scan's data; the end marker after the last."""
        part = self.scans[scan] + 1
        return self.parts[part][1] if part < len(self.parts) else 0xD9

    def strip_stray(self, scan: int, count: int) -> None:
        """Remove `count` stray bytes from a scan's end, and more if all are the same byte."""
        part = self.scans[scan]
        data, tail = self.parts[part][:-count], self.parts[part][-count:]
        self.parts[part] = _strip_fill(data, tail[:1]) if len(set(tail)) == 1 else data

    def rewritten(self, padding: bytes = b"") -> bytes:
        """Return the rewritten file, with an end marker, and with `padding` after each scan."""
        parts = list(self.parts)
        for part in self.scans:
            parts[part] += padding
        return b"".join(parts) + b"\xff\xd9"


def _needed(marker: int, segment: bytes) -> bytes:
    """Return a segment if it is needed for decoding, JFIF's with a version that libjpeg knows."""
    if marker == 0xE0 and segment[4:9] == b"JFIF\0" and len(segment) >= 16:
        return segment[:9] + b"\1" + segment[10:]
    if marker == 0xEE and segment[4:9] == b"Adobe":
        return segment
    return b"" if 0xE0 <= marker <= 0xEF or marker == 0xFE else segment


def _strip_fill(data: bytes, fill: bytes) -> bytes:
    rest = data.rstrip(fill)
    stuffed = fill == b"\0" and rest[-1:] == b"\xff" and len(rest) < len(data)
    return rest + b"\0" if stuffed else rest


def decode(
    data: bytes, pixels_of: Callable[[bytes], NDArray[np.uint8]]
) -> NDArray[np.uint8] | None:
    """Decode a file for which libjpeg reports a warning that may not concern pixels.

    Args:
        data: the file.
        pixels_of: decodes strictly; raises ValueError with libjpeg's first warning.

    Returns:
        The pixels; None if some are damaged or missing.
    """
    file = Scans(data)
    if not file.complete:
        return None
    checked = 0  # the number of scans known to end without stray bytes
    pixels, warning = _try(file, pixels_of)
    for _ in range(_SCANS):
        extra = _EXTRA.search(warning)
        if pixels is not None or extra is None:
            break
        count, marker = int(extra[1]), int(extra[2], 16)
        # the warning names the marker after the scan; several scans may have that one
        for scan in range(checked, len(file.scans)):
            part = file.scans[scan]
            original = file.parts[part]
            if file.marker_after(scan) != marker or len(original) <= count:
                continue
            if count > _STRAY and len(set(original[-count:])) > 1:
                continue
            file.strip_stray(scan, count)
            pixels, warning = _try(file, pixels_of)
            if pixels is not None or not concerns_pixels(warning):
                checked = scan + 1
                break
            file.parts[part] = original
        else:
            return None
    return pixels


def _try(
    file: Scans, pixels_of: Callable[[bytes], NDArray[np.uint8]]
) -> tuple[NDArray[np.uint8] | None, str]:
    """Decode strictly; return the pixels, or libjpeg's warning."""
    try:
        return pixels_of(file.rewritten()), ""
    except ValueError as error:
        return None, str(error)
