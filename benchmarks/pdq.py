"""Time PDQ from pixels against the package `pdqhash`, in one process on one core.

    .venv/bin/python benchmarks/pdq.py

Absolute times belong to the machine; the ratio is what to trust. Every row is also checked: equal
bits and equal quality, or the script fails.
"""

import os

# before NumPy is loaded: one core for both
os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")

import time
from collections.abc import Callable

import numpy as np
import pdqhash
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from skimage import data

from nciihash import pdq

SIZES = ((128, 96), (512, 384), (1024, 768), (2048, 1536), (4000, 3000))
PHOTOS = ("astronaut", "coffee", "chelsea", "rocket")


def fastest(function: Callable[[], object], seconds: float = 0.6) -> float:
    """Give the shortest of the runs that fit into some seconds, in milliseconds; at least three."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times) * 1000


def check(rgb: NDArray[np.uint8]) -> None:
    """Stop if the two programs do not give the same bits and the same quality."""
    bits, quality = pdqhash.compute(rgb)
    packed, ours = pdq.hash_pixels(rgb)
    if packed.tolist() != np.packbits(bits.astype(np.uint8)).tolist() or ours != quality:
        raise SystemExit(f"not equal to pdqhash at {rgb.shape}")


def main() -> None:
    """Print the table."""
    table = Table("pixels", "photos", "pdqhash, ms", "nciihash, ms", "ratio", title="PDQ from RGB")
    for width, height in SIZES:
        theirs, ours = [], []
        for name in PHOTOS:
            photo = Image.fromarray(getattr(data, name)()).resize((width, height))
            rgb = np.ascontiguousarray(photo)
            check(rgb)
            theirs.append(fastest(lambda rgb=rgb: pdqhash.compute(rgb)))
            ours.append(fastest(lambda rgb=rgb: pdq.hash_pixels(rgb)))
        mean = float(np.mean(theirs)), float(np.mean(ours))
        table.add_row(
            f"{width}x{height}",
            str(len(PHOTOS)),
            f"{mean[0]:.2f}",
            f"{mean[1]:.2f}",
            f"{mean[0] / mean[1]:.1f}x",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
