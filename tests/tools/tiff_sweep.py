"""Compare how this library and tifffile read TIFF files of every kind.

    PYTHONPATH=tests python tests/tools/tiff_sweep.py [--verbose]

tifffile must read the samples that were written. Then this library must return the right pixels or
refuse the file. Kinds with wrong pixels are printed, and the exit status is 1.
"""

import argparse
import io
import sys
from collections import Counter

import numpy as np
import tifffile

from nciihash.errors import FileRefused
from nciihash.hashing import image
from support.file_kinds.tiffs import JPEG, Kind, kinds, samples, tiff, wanted

LOSSY = 24  # tolerance for pixels of a JPEG, of 255


def as_written(kind: Kind, data: bytes, values: np.ndarray) -> bool:
    """Whether tifffile reads the samples that were written."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        read = np.asarray(file.pages[0].asarray())
    if kind.planar == 2 and read.ndim == 3:
        read = np.moveaxis(read, 0, 2)
    read = read.reshape(values.shape)
    if kind.sample_format == 3:
        return bool(np.allclose(read, values / (2**kind.bits - 1), atol=0.01))
    if kind.compression == JPEG:
        return bool(np.abs(read.astype(int) - values).max() <= LOSSY)
    return np.array_equal(read.astype(np.int64) % 2**kind.bits, values)


def outcome(kind: Kind, data: bytes, values: np.ndarray) -> str:
    """Decode a file; return "right", "wrong by" the difference, or the code of its refusal."""
    try:
        found = image.decode(data)
    except FileRefused as refusal:
        return refusal.code
    difference = np.abs(found - wanted(kind, values)).max()
    tolerance = LOSSY if kind.compression == JPEG else 2
    return "right" if difference <= tolerance else f"wrong by {difference:.0f}"


def main() -> int:
    """Compare all kinds and print a table; return whether any was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--verbose", action="store_true", help="print each kind")
    options = parser.parse_args()
    table, unread, wrong = Counter(), 0, 0
    for kind in kinds():
        values = samples(kind)
        data = tiff(kind, values)
        try:
            correct = as_written(kind, data, values)
        except (ValueError, tifffile.TiffFileError) as error:
            correct = None
            if options.verbose:
                print(f"tifffile cannot read {kind}: {str(error)[:60]}")
        unread += correct is None
        result = outcome(kind, data, values)
        if correct is False:
            result = "written wrong"
        if result.startswith(("wrong", "written")):
            wrong += 1
            print(f"{result}: {kind}")
        elif options.verbose:
            print(f"{result}: {kind}")
        table[result] += 1
    for result, count in table.most_common():
        print(f"{count:5}  {result}")
    print(f"{sum(table.values()):5}  kinds, of which tifffile cannot read {unread}")
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
