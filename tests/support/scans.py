"""Fill a bank for tests of scans, and read their results."""

import hashlib

import numpy as np

from nciihash.feed import Added
from nciihash.scan import results as findings
from nciihash.scan.plan import plan
from nciihash.scan.sources import Folder
from nciihash.signals import Media, Signal, SignalType, Variant

BANKED, ASKED = 400, 600


def name(number):
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def added(number, signal, variant=Variant.ORIGINAL):
    return Added(name(number), name(number // 2 + 10**6), signal, 90, Media.IMAGE, variant)


def flipped(value, bits):
    row = np.unpackbits(np.frombuffer(value, np.uint8))
    row[bits] ^= 1
    return Signal(SignalType.PDQ, np.packbits(row).tobytes())


def results(out):
    """Read all results, in the order of blocks, without their row numbers."""
    import pyarrow as pa
    from pyarrow import parquet

    tables = [parquet.read_table(path) for path in sorted((out / "matches").iterdir())]
    columns = ("file", "id", "item", "type", "variant", "distance", "band")
    return [tuple(row[c] for c in columns) for row in pa.concat_tables(tables).to_pylist()]


def begin(arguments):
    """Start a scan's results folder, up to its first block."""
    source, _, bank, _, out, _, block = arguments
    with findings.ScanFolder(out) as folder:
        how = {"signals": [], "fast": False}
        folder.begin(str(source), plan(Folder(source), block), bank, how)
