"""Time a query and a bank's set of one large JPEG: all parts, in one process, processor time."""

import io
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Final

import numpy as np
from PIL import Image

from benchmarks.recall import large_bank
from benchmarks.recall.large_bank import ROWS
from benchmarks.recall.photos import Photos
from benchmarks.recall.transformations import crop
from nciihash import Index, pdq
from nciihash.hashing.hasher import hash_bytes, hash_image
from nciihash.hashing.parts import query_parts
from nciihash.hashing.rectangles import find_rectangles
from nciihash.hashing.trimming import trim
from nciihash.hashing.variants import hash_variants
from nciihash.sdk.alignment import align
from nciihash.sdk.matcher import CANDIDATE_BITS
from nciihash.signals import Hashed, Level
from nciihash.window_tables import ANGLES, QUERY_BOXES
from nciihash.windows import (
    Part,
    coefficients_of,
    hash_windows,
    pack,
    quarter_turns,
    rotated,
)

_ROUNDS: Final = 15
_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
Times = dict[str, float]  # ms


def jpeg_of(photo: Image.Image, width: int, height: int) -> bytes:
    """Enlarge a photo, add grain as a sensor's, and save it as JPEG, quality 90."""
    big = np.asarray(photo.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    grain = np.random.default_rng(0).normal(0, 6, big.shape).astype(np.float32)
    out = io.BytesIO()
    Image.fromarray(np.clip(big + grain, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
    return out.getvalue()


def timed(run: Callable[[], object]) -> float:
    """Return the median processor time of a call, in ms, after one that is not counted."""
    run()
    seconds = []
    for _ in range(_ROUNDS):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return median(seconds) * 1000


def pillow_scaled(data: bytes) -> np.ndarray:
    """Decode a JPEG as Pillow's `draft` does for 256 pixels, at up to an eighth of its size."""
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (256, 256))
    return np.asarray(image.convert("RGB"))


def query(data: bytes, index: Index, level: Level) -> Times:
    """Time the parts of a query: what follows the decoding of a JPEG, and the whole.

    Args:
        data: the JPEG.
        index: where its windows are looked up.
        level: of the query.
    """
    fast = partial(hash_bytes, data, fast=True)
    rgb = np.array(pillow_scaled(data))
    luma = np.asarray(rgb @ _LUMA, np.float32)
    region = trim(rgb)
    parts = query_parts(rgb, level, region)
    whole = parts[0]
    windows = hash_windows(parts, level)
    coefficients = coefficients_of(whole.luma.astype(np.float32), QUERY_BOXES[:100])
    coefficients = np.resize(coefficients, (len(windows), *coefficients.shape[1:]))
    target = windows.hashes[0]
    moved = (0.02, 0.01, 0.98, 0.97)

    def turns() -> tuple[Part, ...]:
        return (*(rotated(whole, angle) for angle in ANGLES), *quarter_turns(whole))

    thorough = level is Level.THOROUGH
    times = {
        "reduce, trim": timed(lambda: query_parts(rgb, Level.FAST, trim(rgb))),
        "rectangles": timed(lambda: find_rectangles(luma)),
        "rotations": timed(turns) if thorough else 0.0,
        f"windows, packed: {len(windows):,} hashes": timed(lambda: hash_windows(parts, level)),
        "of which packing": timed(lambda: pack(coefficients)),
        f"look-up in {len(index):,}": timed(
            lambda: index.query(windows.hashes, candidates=CANDIDATE_BITS, threads=1)
        ),
        "one alignment": timed(lambda: align(whole, moved, target)),
    }
    own = timed(partial(fast, variants="match"))
    times["hashing, as today"] = own
    times["hashing with parts"] = timed(partial(fast, variants="match", level=level))
    looked_up = sum(ms for name, ms in times.items() if name.startswith(("windows", "look-up")))
    times["query without decoding"] = times["hashing with parts"] - own + looked_up
    times["with three alignments"] = times["query without decoding"] + 3 * times["one alignment"]
    return times


def bank_set(data: bytes) -> Times:
    """Time the sets of variants of a JPEG that is decoded already, and its exact hash."""
    rgb = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    own = hash_image(rgb)
    times = {
        "exact hash of the pixels": timed(lambda: pdq.analyse(rgb)),
        "exact hash of the file": timed(lambda: hash_image(data)),
    }
    for which in ("standard", "full", "thorough"):
        count = len(hash_variants(rgb, own, which)) - 1
        times[f"{which}, {count} additional hashes"] = timed(
            partial(hash_variants, rgb, own, which)
        )
    return times


def reduced_sets(photo: Image.Image) -> Times:
    """Time the sets of variants from a reduced decode, and one fast hash."""
    data = jpeg_of(photo, 4000, 3000)
    rgb = pillow_scaled(data)
    own: Hashed = hash_image(rgb)
    times = {"one fast hash, 12 megapixels": timed(lambda: hash_image(data, fast=True))}
    for which in ("match", "standard", "full", "thorough"):
        count = len(hash_variants(rgb, own, which)) - 1
        name = f"{which}, {count} additional hashes"
        times[name] = timed(partial(hash_variants, rgb, own, which))
    return times


def measure(photos: Photos) -> dict[str, dict[str, Times]]:
    """Time queries of 1 and 12 megapixels at both levels, and the sets."""
    index = Index(256)
    index.add(np.arange(ROWS, dtype=np.uint64), large_bank.others(photos))
    index.settle()
    shown = crop(0.1, 0.2, 0.05, 0)(photos.others[0])  # a copy of what no bank holds
    results: dict[str, dict[str, Times]] = {}
    for name, width, height in (("1 megapixel", 1200, 900), ("12 megapixels", 4000, 3000)):
        data = jpeg_of(shown, width, height)
        results[name] = {
            "decode": {
                "Pillow, scaled": timed(lambda data=data: pillow_scaled(data)),
                "one fast hash": timed(lambda data=data: hash_image(data, fast=True)),
            },
            **{level.value: query(data, index, level) for level in (Level.WINDOWS, Level.THOROUGH)},
            "bank": bank_set(data),
        }
    return results
