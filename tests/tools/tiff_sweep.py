"""Write TIFF files of every kind and compare what this library reads with tifffile.

    PYTHONPATH=tests python tests/tools/tiff_sweep.py [--verbose]

Each file is read by tifffile first, whose samples must be those that were written. Then it must be
read right here, or refused; what gives other pixels is printed, and ends the run with status 1.
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

LOSSY = 24  # levels by which pixels of a JPEG may differ


def as_written(kind: Kind, data: bytes, values: np.ndarray) -> bool:
    """Tell whether tifffile reads a file as it was meant."""
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
    """Read a file here: "right", "wrong", or the code of its refusal."""
    try:
        found = image.decode(data)
    except FileRefused as refusal:
        return refusal.code
    off = np.abs(found - wanted(kind, values)).max()
    return "right" if off <= (LOSSY if kind.compression == JPEG else 2) else f"wrong by {off:.0f}"


def main() -> int:
    """Compare all kinds; print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--verbose", action="store_true", help="print each kind")
    options = parser.parse_args()
    table, unread, wrong = Counter(), 0, 0
    for kind in kinds():
        values = samples(kind)
        data = tiff(kind, values)
        try:
            sure = as_written(kind, data, values)
        except (ValueError, tifffile.TiffFileError) as error:
            sure = None
            if options.verbose:
                print(f"tifffile does not read {kind}: {str(error)[:60]}")
        unread += sure is None
        came = outcome(kind, data, values)
        if sure is False:
            came = "written wrong"
        if came.startswith(("wrong", "written")):
            wrong += 1
            print(f"{came}: {kind}")
        elif options.verbose:
            print(f"{came}: {kind}")
        table[came] += 1
    for came, count in table.most_common():
        print(f"{count:5}  {came}")
    print(f"{sum(table.values()):5}  kinds, of which tifffile does not read {unread}")
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
