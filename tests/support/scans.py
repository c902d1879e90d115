"""Entries for the banks of tests, and functions to start scans and read their results."""

import hashlib

import numpy as np

from nciihash.feed import Added
from nciihash.scan.plan import plan
from nciihash.scan.results import ScanFolder
from nciihash.scan.sources import Folder
from nciihash.signals import Media, Signal, SignalType, Variant

BANKED, QUERIED = 400, 600  # numbers of hashes


def name(number):
    """Return the id of a signal or item."""
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def added(number, signal, variant=Variant.ORIGINAL):
    """Return a feed entry; each item has two signals."""
    return Added(name(number), name(number // 2 + 10**6), signal, 90, Media.IMAGE, variant)


def flipped(value, indices):
    """Return a PDQ signal with some bits flipped."""
    bits = np.unpackbits(np.frombuffer(value, np.uint8))
    bits[indices] ^= 1
    return Signal(SignalType.PDQ, np.packbits(bits).tobytes())


def results(out):
    """Return all results in the order of blocks, without `source` and `row`."""
    import pyarrow as pa
    from pyarrow import parquet

    tables = [parquet.read_table(path) for path in sorted((out / "matches").iterdir())]
    columns = ("file", "id", "item", "type", "variant", "distance", "band")
    return [tuple(row[c] for c in columns) for row in pa.concat_tables(tables).to_pylist()]


def begin(arguments):
    """Start a scan with the arguments of its command, and stop before the first block."""
    source, _, bank, _, out, _, block = arguments
    with ScanFolder(out) as folder:
        how = {"signals": [], "level": "fast", "fast": False}
        folder.begin(str(source), plan(Folder(source), block), bank, how)
