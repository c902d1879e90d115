"""Folders of pictures, as the benchmarks read them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nciihash.errors import FileRefused
from nciihash.hashing.image import read_pixels

Pixels = NDArray[np.uint8]


def files_in(*folders: Path) -> list[Path]:
    """Return the files in folders and their subfolders, sorted by path within each folder."""
    return [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]


def pictures(*folders: Path, side: int | None = None) -> Iterator[tuple[Path, Pixels]]:
    """Yield every picture in the folders that can be read: path and uint8 RGB pixels, upright.

    Args:
        folders: searched with their subfolders.
        side: maximum length of the longer side in pixels; larger pictures are reduced to it.
    """
    for path in files_in(*folders):
        try:
            pixels = read_pixels(path)
        except FileRefused:
            continue
        yield path, pixels if side is None else shrink(pixels, side)


def shrink(pixels: Pixels, side: int) -> Pixels:
    """Reduce a picture so that its longer side is at most `side` pixels."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side))
    return np.asarray(picture)
