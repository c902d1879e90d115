"""Parse the directories of a TIFF or BigTIFF file; nothing is decoded.

After TIFF 6.0 and libtiff's description of BigTIFF. Invalid data raise nothing: what cannot be
parsed is skipped.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

PAGES_MAX: Final = 4096
_ENTRIES_MAX: Final = 512
SIZES: Final = {  # bytes per value of each type
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

    `entries` maps each tag to its type, its count and the file offset of its values. `order` is
    `struct`'s character for the byte order; `big` is whether it is a BigTIFF.
    """

    data: bytes
    order: str
    big: bool
    entries: dict[int, tuple[int, int, int]]

    def values(self, tag: int, most: int = 1 << 20) -> tuple[int, ...]:
        """Return a tag's numbers; `()` if it is absent, not numeric or outside the file.

        Also `()` for more than `most` numbers.
        """
        type, count, offset = self.entries.get(tag, (0, 0, 0))
        code = _CODES.get(type)
        if code is None or not 0 < count <= most or offset + count * SIZES[type] > len(self.data):
            return ()
        return struct.unpack_from(f"{self.order}{count}{code}", self.data, offset)

    def value(self, tag: int, default: int = 0) -> int:
        """Return a tag's first number, or `default` as for `values`."""
        return next(iter(self.values(tag)), default)

    @property
    def small(self) -> bool:
        """Whether this is a reduced-resolution copy of another page (tag 254)."""
        return bool(self.value(254) & 1)


def pages(data: bytes) -> Iterator[Page]:
    """Yield a file's pages; each directory once, even if they are linked in a cycle."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return
    big = data[2:4] in {b"+\0", b"\0+"}
    offset_code, count_code, entry_code = ("Q", "Q", "HHQ") if big else ("I", "H", "HHI")
    link = 8 if big else 4  # where the offset of the next directory is
    seen: set[int] = set()
    try:
        while len(seen) < PAGES_MAX:
            (start,) = struct.unpack_from(order + offset_code, data, link)
            if start == 0 or start in seen:
                return
            seen.add(start)
            (entry_count,) = struct.unpack_from(order + count_code, data, start)
            first, size = start + struct.calcsize(order + count_code), 20 if big else 12
            entries: dict[int, tuple[int, int, int]] = {}
            for entry in range(first, first + size * min(entry_count, _ENTRIES_MAX), size):
                tag, type, count = struct.unpack_from(order + entry_code, data, entry)
                values = entry + struct.calcsize(order + entry_code)
                if SIZES.get(type, 9) * count > size - (values - entry):
                    (values,) = struct.unpack_from(order + offset_code, data, values)
                entries.setdefault(tag, (type, count, values))
            yield Page(data, order, big, entries)
            link = first + size * entry_count
    except (struct.error, OverflowError):  # an offset past the end, or past any possible file
        return


def main_page(data: bytes) -> Page | None:
    """Return the page with the image: the first that is not a reduced copy, else the first."""
    first = None
    for page in pages(data):
        if not page.small:
            return page
        first = first or page
    return first
