"""The boxes of the windows: which parts of a picture are hashed for a bank, and which of a query.

A box is (left, top, right, bottom), in fractions of the picture. The tables below give hundredths.

They were chosen together, greedily, on random crops and overlays, not on pictures. A PDQ hash still
matches if the box is wrong by a few hundredths of its side (31 bits: 0.020, 60 bits: 0.045; root of
the sum of squares over four sides, half of the pairs). So a crop is found if some window of the
bank, seen through the crop, is that close to some window of the query. The tables cover 93 % of the
random crops at 0.045.
"""

from typing import Final, TypeAlias

from nciihash.signals import Variant

Box: TypeAlias = tuple[float, float, float, float]

WHOLE: Final[Box] = (0.0, 0.0, 1.0, 1.0)


def _boxes(hundredths: str) -> tuple[Box, ...]:
    """Parse a table: boxes separated by commas, four numbers each."""
    rows = (row.split() for row in hundredths.split(",") if row.strip())
    return tuple(
        (int(left) / 100, int(top) / 100, int(right) / 100, int(bottom) / 100)
        for left, top, right, bottom in rows
    )


_INNER: Final = _boxes("""
    15 15 85 85, 20 20 80 80, 30 15 90 85, 15 10 85 70, 10 15 70 85, 15 30 85 90, 15 25 85 75,
    25 25 75 75, 10 30 70 90, 10 10 70 70, 30 10 90 70, 30 30 90 90, 25 15 75 85, 15 30 85 70,
    15 20 85 70, 25 10 75 70, 25 30 75 90,
""")

# The windows of the bank whose box does not depend on the picture's aspect ratio.
BANK_BOXES: Final[dict[Variant, Box]] = {
    Variant.ORIGINAL: WHOLE,
    Variant.CROP02: (0.02, 0.02, 0.98, 0.98),
    Variant.CROP05: (0.05, 0.05, 0.95, 0.95),
    Variant.CROP07: (0.07, 0.07, 0.93, 0.93),
    Variant.CROP10: (0.10, 0.10, 0.90, 0.90),
    Variant.CROP13: (0.13, 0.13, 0.87, 0.87),
    Variant.TOP_LEFT: (0.0, 0.0, 0.5, 0.5),
    Variant.TOP_RIGHT: (0.5, 0.0, 1.0, 0.5),
    Variant.BOTTOM_LEFT: (0.0, 0.5, 0.5, 1.0),
    Variant.BOTTOM_RIGHT: (0.5, 0.5, 1.0, 1.0),
    Variant.LEFT_HALF: (0.0, 0.0, 0.5, 1.0),
    Variant.RIGHT_HALF: (0.5, 0.0, 1.0, 1.0),
    Variant.TOP_HALF: (0.0, 0.0, 1.0, 0.5),
    Variant.BOTTOM_HALF: (0.0, 0.5, 1.0, 1.0),
    **{Variant(f"inner{number:02}"): box for number, box in enumerate(_INNER, 1)},
}

# The cells of usual collages (halves, quarters and thirds). A collage with gutters shows less of
# each picture than its cell, so cells are also tried smaller.
_CELLS: Final[tuple[Box, ...]] = (
    *((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 0.5), (0.0, 0.5, 1.0, 1.0)),
    *((0.0, 0.0, 0.5, 0.5), (0.5, 0.0, 1.0, 0.5), (0.0, 0.5, 0.5, 1.0), (0.5, 0.5, 1.0, 1.0)),
    *((0.0, 0.0, 1 / 3, 1.0), (1 / 3, 0.0, 2 / 3, 1.0), (2 / 3, 0.0, 1.0, 1.0)),
    *((0.0, 0.0, 1.0, 1 / 3), (0.0, 1 / 3, 1.0, 2 / 3), (0.0, 2 / 3, 1.0, 1.0)),
)
_CELL_CUTS: Final = ((0.0, 0.0), (0.08, 0.0), (0.0, 0.08), (0.16, 0.0), (0.0, 0.16))

_COVER: Final = _boxes("""
    0 0 100 100, 6 0 94 100, 48 51 100 100, 15 3 85 85, 15 12 85 85, 0 15 85 85, 15 15 85 97,
    12 15 88 85, 15 15 97 85, 0 0 49 52, 0 0 91 100, 6 15 85 85, 15 6 85 97, 9 0 100 100,
    6 15 91 85, 15 12 88 88, 15 15 85 91, 0 9 91 100, 9 9 85 85, 15 3 91 85, 15 15 94 88,
    12 15 85 88, 15 9 85 85, 9 3 85 85, 3 15 97 85, 12 12 91 88, 15 0 88 82, 15 15 94 94,
    3 9 85 85, 15 9 91 85, 12 15 88 97, 6 12 85 88, 3 18 85 88, 15 15 91 85, 15 12 100 88,
    12 15 82 94, 0 15 85 94, 9 18 85 100, 15 6 97 85, 3 12 94 88, 9 15 85 91, 12 6 85 85,
    15 15 97 97, 15 9 85 91, 0 15 88 100, 15 18 91 97, 18 0 97 100, 12 12 88 94, 3 3 85 88,
    15 0 85 91, 3 0 85 100, 9 15 97 85, 12 6 91 85, 15 0 97 85, 0 0 49 91, 9 12 85 97, 9 15 70 100,
    12 15 100 94, 15 12 97 85, 15 15 88 91, 15 0 85 100, 3 0 73 100, 3 15 85 91, 18 12 91 97,
    0 9 88 88, 6 15 85 97, 6 6 97 88, 15 0 85 85, 48 0 100 49, 0 6 97 94, 0 51 52 100, 9 3 91 100,
    6 9 91 85, 9 12 97 91, 9 0 88 85, 6 6 85 85, 12 3 88 91, 15 3 100 100, 0 3 88 97, 0 12 82 88,
    9 12 94 100, 12 15 82 100, 15 3 100 88, 18 6 88 85, 12 0 94 85, 18 3 94 85, 12 6 88 82,
    15 0 85 79, 6 9 88 91, 15 9 94 88, 15 12 88 82, 18 15 97 91, 0 0 82 88, 3 12 85 85, 6 6 88 97,
    9 12 94 82, 0 15 100 85, 3 18 88 97, 6 15 94 94, 12 6 88 97, 15 6 94 94, 0 12 94 97, 9 6 97 94,
    0 18 91 91, 9 3 85 91, 9 12 85 85, 15 6 100 88, 24 0 97 100, 3 12 88 97, 3 9 82 97, 9 15 97 91,
    12 15 91 94, 15 12 94 82, 0 0 97 91, 3 15 100 91, 6 12 88 79, 6 0 85 85, 12 18 100 100,
    12 3 94 91, 12 0 85 85, 15 3 88 94, 0 0 79 100, 0 0 49 100, 0 0 49 85, 6 0 91 88, 6 0 70 97,
    9 3 97 85, 15 15 100 91, 18 6 97 97, 0 15 94 85, 0 6 85 91, 0 6 85 85, 12 12 82 88,
    15 3 91 100, 15 0 85 73, 3 3 97 85, 6 6 88 82, 12 9 97 85, 12 15 85 100, 15 12 94 91,
    18 0 91 85, 0 12 82 97, 3 15 91 88, 6 9 94 91, 9 15 88 91, 12 9 91 94, 15 0 100 91,
    15 18 100 88, 15 6 94 82, 21 9 100 85, 0 0 85 91, 3 12 85 100, 6 0 91 79, 6 0 82 100,
    12 3 97 73, 12 9 88 88, 15 9 85 100, 18 15 94 100, 24 3 100 91, 0 6 82 97, 3 3 82 91,
    3 6 82 85, 6 15 100 97, 6 0 88 94, 9 0 94 97, 12 18 91 100, 18 9 100 100, 18 12 94 88,
    30 3 94 100, 30 12 94 94, 0 12 100 85, 0 24 91 100, 0 0 82 82, 0 0 67 100, 0 0 52 73,
    6 0 100 88, 9 6 91 70, 9 12 82 100, 12 6 97 100, 15 3 85 91, 21 0 100 91, 0 9 100 97,
    0 12 94 91, 0 15 88 94, 0 9 85 91, 0 15 85 88, 0 6 76 100, 6 3 100 94, 6 0 97 82, 6 3 91 85,
    6 6 85 88, 6 6 85 73, 12 0 88 88, 15 3 97 88, 24 0 100 100, 30 3 94 85, 33 9 97 97, 0 3 88 88,
    0 12 82 82, 0 3 79 85, 3 0 88 82, 3 9 88 94, 3 0 76 100, 6 12 100 88, 6 0 73 97, 9 9 94 97,
    9 9 91 91, 9 9 88 79, 9 12 88 100, 9 12 82 94, 12 0 100 97, 15 9 100 85, 15 3 85 73,
    24 15 100 79, 33 0 100 100, 33 0 100 91, 0 6 94 85, 0 9 94 79, 0 12 91 82, 0 12 88 88,
    0 15 82 94, 0 15 79 100, 0 3 73 88, 0 9 73 85, 0 15 70 97, 0 9 67 100, 3 0 67 85, 3 6 67 91,
    3 12 67 88, 6 3 94 94, 6 3 85 73, 6 0 82 88, 6 12 73 97, 9 0 94 88, 9 6 79 85, 9 12 70 79,
    12 0 100 82, 12 9 100 97, 18 0 100 85, 18 6 100 91, 18 15 100 97, 18 0 94 76, 24 12 100 97,
    33 15 97 94, 0 0 100 97, 0 0 100 85, 0 6 100 88, 0 12 100 88, 0 33 100 97, 0 18 94 97,
    0 15 91 100, 0 3 88 76, 0 0 85 82, 0 0 82 70, 0 21 79 91, 0 0 73 100, 0 12 67 91, 0 15 67 100,
    3 0 100 76, 3 9 100 97, 3 9 100 91, 3 0 85 79, 3 9 70 85, 6 24 100 100, 6 6 94 82, 6 0 91 85,
    6 0 88 70, 6 30 70 97, 9 18 100 85, 9 18 91 100, 9 3 88 73, 9 3 85 79, 12 27 100 97,
    12 0 94 100, 12 9 94 100, 12 3 88 94, 12 12 85 73, 15 21 91 88, 15 0 85 94, 18 0 100 100,
    18 0 100 67, 24 6 100 79, 24 0 97 73, 24 0 94 100, 24 9 91 100, 27 6 91 100, 30 0 97 94,
    30 6 91 91, 33 0 100 85,
""")

# Windows of a rectangle that was found in the query. The first ones are for the rectangles found
# first, which are the most likely ones.
RECTANGLE_BOXES: Final = _boxes("""
    0 0 100 100, 6 0 94 100, 12 15 88 85, 15 12 85 85, 15 3 85 85, 0 15 85 85, 6 15 85 85,
    15 15 97 85, 15 15 85 91, 15 15 85 97, 0 6 97 94, 6 15 91 85, 15 15 91 85, 15 6 85 97,
    15 9 85 85, 15 0 85 85, 15 0 85 100, 6 3 94 94, 3 0 73 100, 0 0 52 73, 3 15 97 85, 0 0 100 97,
    18 0 100 100, 15 9 85 91,
""")

# Central windows of a query that was rotated back: the larger the angle, the less of the picture
# remains in them.
CENTRAL_BOXES: Final[tuple[Box, ...]] = tuple(
    ((1 - side) / 2, (1 - side) / 2, (1 + side) / 2, (1 + side) / 2)
    for side in (1.0, 0.92, 0.84, 0.77, 0.70, 0.63)
)
# Degrees by which a query is rotated back, at the level `thorough`.
ANGLES: Final = (-10.5, -7.0, -3.5, 3.5, 7.0, 10.5)


def _cut(cell: Box, across: float, down: float) -> Box:
    left, top, right, bottom = cell
    dx, dy = across * (right - left), down * (bottom - top)
    return left + dx, top + dy, right - dx, bottom - dy


# Windows of a whole query. Those of the bank come first: they still match if a sticker covers the
# rest of the picture. The cover is in the order of what each window adds, so that the smaller set
# has its first windows: of random crops of one to four sides it finds 87 % where all find 92 %.
_SMALL_COVER: Final = 100
SMALL_QUERY_BOXES: Final[tuple[Box, ...]] = tuple(
    dict.fromkeys((*BANK_BOXES.values(), *_CELLS, *_COVER[:_SMALL_COVER]))
)
QUERY_BOXES: Final[tuple[Box, ...]] = tuple(
    dict.fromkeys(
        (
            *(*BANK_BOXES.values(), *_COVER),
            *(_cut(cell, across, down) for cell in _CELLS for across, down in _CELL_CUTS),
        )
    )
)
