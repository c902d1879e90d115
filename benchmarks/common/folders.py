"""Pictures in folders, as the benchmarks read them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nciihash.errors import FileRefused
from nciihash.hashing.image import read_pixels

Pixels = NDArray[np.uint8]


def inside(*folders: Path) -> list[Path]:
    """Give the files in folders and in theirs, in the order of names."""
    return [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]


def pictures(*folders: Path, side: int | None = None) -> Iterator[tuple[Path, Pixels]]:
    """Read what can be read of them, upright and in colour, no larger than `side` where given."""
    for path in inside(*folders):
        try:
            pixels = read_pixels(path)
        except FileRefused:
            continue
        yield path, pixels if side is None else shrunk(pixels, side)


def shrunk(pixels: Pixels, side: int) -> Pixels:
    """Make a picture's longer side no longer than that."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side))
    return np.asarray(picture)
