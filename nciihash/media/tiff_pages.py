"""The directories of a TIFF or BigTIFF file, as far as their bytes go; nothing is decoded.

After TIFF 6.0 and libtiff's description of BigTIFF. Nothing here raises for garbage: what cannot be
read is left out.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

PAGES_MAX: Final = 4096
_ENTRIES_MAX: Final = 512
SIZES: Final = {  # bytes of a value of each type
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_CODES: Final = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}


@dataclass(frozen=True, slots=True)
class Page:
    """One directory of a file.

    `entries` gives each tag's type, its count, and where its values are in the file. `order` is
    `struct`'s sign of the byte order; `big` tells a BigTIFF.
    """

    data: bytes
    order: str
    big: bool
    entries: dict[int, tuple[int, int, int]]

    def values(self, tag: int, most: int = 1 << 20) -> tuple[int, ...]:
        """Read a tag's numbers; none where it is absent, of another type, or outside the file."""
        type, count, place = self.entries.get(tag, (0, 0, 0))
        code = _CODES.get(type)
        if code is None or not 0 < count <= most or place + count * SIZES[type] > len(self.data):
            return ()
        return struct.unpack_from(f"{self.order}{count}{code}", self.data, place)

    def value(self, tag: int, default: int = 0) -> int:
        """Read a tag's first number."""
        return next(iter(self.values(tag)), default)

    @property
    def small(self) -> bool:
        """Whether this is a smaller copy of another page (tag 254)."""
        return bool(self.value(254) & 1)


def pages(data: bytes) -> Iterator[Page]:
    """Walk a file's pages; each directory once, though they may be chained in a circle."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return
    big = data[2:4] in {b"+\0", b"\0+"}
    offset, count_of, entry = ("Q", "Q", "HHQ") if big else ("I", "H", "HHI")
    place = 8 if big else 4
    seen: set[int] = set()
    try:
        while len(seen) < PAGES_MAX:
            (start,) = struct.unpack_from(order + offset, data, place)
            if start == 0 or start in seen:
                return
            seen.add(start)
            (count,) = struct.unpack_from(order + count_of, data, start)
            first, size = start + struct.calcsize(order + count_of), 20 if big else 12
            entries: dict[int, tuple[int, int, int]] = {}
            for at in range(first, first + size * min(count, _ENTRIES_MAX), size):
                tag, type, number = struct.unpack_from(order + entry, data, at)
                room = at + struct.calcsize(order + entry)
                if SIZES.get(type, 9) * number > size - (room - at):
                    (room,) = struct.unpack_from(order + offset, data, room)
                entries.setdefault(tag, (type, number, room))
            yield Page(data, order, big, entries)
            place = first + size * count
    except (struct.error, OverflowError):  # an offset beyond any file
        return


def main_page(data: bytes) -> Page | None:
    """Choose the page that shows the picture: the first that is no smaller copy, if any."""
    first = None
    for page in pages(data):
        if not page.small:
            return page
        first = first or page
    return first
