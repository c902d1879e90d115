"""How long a platform takes over an upload: with the whole list, a veiled one, and none."""

import io
import tempfile
import time
from collections.abc import Callable, Sequence
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
    """Time the steps of an upload one after another, and what they come to.

    The service that confirms runs on this machine and holds little, so that a question takes a
    round trip over the loopback and the service's work, no distance and no queue.

    Args:
        photos: the uploads; as they are, and a dozen of them enlarged as well.
        banks: of the list, by their bits, "256" the whole hashes.
        shares: candidates an upload, by the bits of a veiled list.
    """
    jpegs = {
        "up to 1600 pixels": [saved(photo) for photo in photos],
        "12 megapixels": [saved(photo, LARGE) for photo in photos[:12]],
    }
    hashing = {
        name: median(timed(lambda data=data: hash_bytes(data, fast=True)) for data in some)
        for name, some in jpegs.items()
    }
    items = [hash_bytes(data, fast=True) for data in jpegs["up to 1600 pixels"]]
    asked = np.stack([np.frombuffer(item.hashes[0].signal.value, np.uint8) for item in items])
    searching = {"256": alone(banks["256"], asked)}
    for type in VEILS:
        searching[str(type.bits)] = alone(banks[str(type.bits)], veil_pdq(asked, type))
    with tempfile.TemporaryDirectory() as name, LocalService(Path(name)) as service:
        asking = confirming(service, items[0], asked)
    looking = {"whole": searching["256"]}
    for bits, share in shares.items():
        looking[f"veiled, {bits} bits"] = searching[bits] + share * asking["1"]
    looking["none"] = asking["1"]
    ways = [
        {
            "uploads": kind, "list": held, "seconds": hashed + looked,
            "of_whole": (hashed + looked) / (hashed + looking["whole"]),
        }
        for kind, hashed in hashing.items()
        for held, looked in looking.items()
    ]  # fmt: skip
    return {
        "rows": len(banks["256"]), "hashing": hashing, "searching": searching, "asking": asking,
        "shares": shares, "ways": ways,
    }  # fmt: skip


def saved(photo: Pixels, size: tuple[int, int] | None = None) -> bytes:
    """Save a photo as JPEG, as people upload them."""
    picture = Image.fromarray(photo)
    file = io.BytesIO()
    (picture if size is None else picture.resize(size)).save(file, "JPEG", quality=88)
    return file.getvalue()


def timed(work: Callable[[], object]) -> float:
    """Give the seconds that something takes, the second time."""
    for _ in range(2):
        start = time.perf_counter()
        work()
        took = time.perf_counter() - start
    return took


def alone(index: Index, asked: Pixels) -> float:
    """Give the seconds that looking up one hash takes, each by itself."""
    return median(
        timed(lambda one=one: index.query(one, 31, threads=1)) for one in asked[:64, None]
    )


def confirming(service: LocalService, listed: Item, asked: Pixels) -> dict[str, float]:
    """Give the seconds that one question takes, of one candidate and of a hundred."""
    with Client(service.address) as survivor:
        survivor.open_case([listed], reason=Reason.PRECAUTION, adult=True, depicted=True)
    key = service.add_platform("Veiled", "veil,match")
    signals = [Signal(SignalType.PDQ, row.tobytes()) for row in asked]
    with PlatformClient(service.address, key) as platform:
        return {
            str(count): median(
                timed(lambda count=count: platform.match((signals * count)[:count]))
                for _ in range(30)
            )
            for count in (1, 100)
        }
