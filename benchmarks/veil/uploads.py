"""The time that a platform needs per upload, with a whole list, a veiled one, and none."""

import io
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from PIL import Image

from benchmarks.common.folders import Pixels
from nciihash import Index, Item, Signal, SignalType
from nciihash.cli.demo.local_service import LocalService
from nciihash.client import Client, PlatformClient
from nciihash.hashing.hasher import hash_bytes
from nciihash.veil import VEILS, veil_pdq
from nciihash.wire import Reason

Results = dict[str, Any]

LARGE: Final = (4000, 3000)


def measure(photos: Sequence[Pixels], banks: dict[str, Index], shares: dict[str, float]) -> Results:
    """Time the steps of an upload, and add them up.

    The service that confirms candidates runs on this machine with a nearly empty bank: a request
    takes a loopback round trip and the service's own time, without network latency or queueing.

    Args:
        photos: the uploads, in their own size; twelve of them also enlarged.
        banks: the list by number of bits; "256" has the whole hashes.
        shares: candidates per upload, by number of bits of a veiled list.
    """
    jpegs = {
        "up to 1600 pixels": [save(photo) for photo in photos],
        "12 megapixels": [save(photo, LARGE) for photo in photos[:12]],
    }
    hashing = {
        name: median(timed(partial(hash_bytes, data, fast=True)) for data in files)
        for name, files in jpegs.items()
    }
    items = [hash_bytes(data, fast=True) for data in jpegs["up to 1600 pixels"]]
    queries = np.stack([np.frombuffer(item.hashes[0].signal.value, np.uint8) for item in items])
    searching = {"256": single_queries(banks["256"], queries)}
    for veil in VEILS:
        bits = str(veil.bits)
        searching[bits] = single_queries(banks[bits], veil_pdq(queries, veil))
    with tempfile.TemporaryDirectory() as name, LocalService(Path(name)) as service:
        asking = match_seconds(service, items[0], queries)
    lookup = {"whole": searching["256"]}
    for bits, share in shares.items():
        lookup[f"veiled, {bits} bits"] = searching[bits] + share * asking["1"]
    lookup["none"] = asking["1"]
    ways = [
        {
            "uploads": kind, "list": bank, "seconds": hash_seconds + lookup_seconds,
            "of_whole": (hash_seconds + lookup_seconds) / (hash_seconds + lookup["whole"]),
        }
        for kind, hash_seconds in hashing.items()
        for bank, lookup_seconds in lookup.items()
    ]  # fmt: skip
    return {
        "rows": len(banks["256"]), "hashing": hashing, "searching": searching, "asking": asking,
        "shares": shares, "ways": ways,
    }  # fmt: skip


def save(photo: Pixels, size: tuple[int, int] | None = None) -> bytes:
    """Encode a photo as JPEG, resized to `size` if given."""
    picture = Image.fromarray(photo)
    file = io.BytesIO()
    (picture if size is None else picture.resize(size)).save(file, "JPEG", quality=88)
    return file.getvalue()


def timed(work: Callable[[], object]) -> float:
    """Return the seconds of a call's second run."""
    for _ in range(2):
        start = time.perf_counter()
        work()
        took = time.perf_counter() - start
    return took


def single_queries(index: Index, queries: Pixels) -> float:
    """Return the median seconds of a query with one hash."""
    return median(timed(partial(index.query, one, 31, threads=1)) for one in queries[:64, None])


def match_seconds(service: LocalService, listed: Item, queries: Pixels) -> dict[str, float]:
    """Return the median seconds of a match request with one hash and with 100, by that number."""
    with Client(service.address) as survivor:
        survivor.open_case([listed], reason=Reason.PRECAUTION, adult=True, depicted=True)
    key = service.add_platform("Veiled", "veil,match")
    signals = [Signal(SignalType.PDQ, row.tobytes()) for row in queries]
    with PlatformClient(service.address, key) as platform:
        return {
            str(count): median(
                timed(partial(platform.match, (signals * count)[:count])) for _ in range(30)
            )
            for count in (1, 100)
        }
