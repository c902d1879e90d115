"""Crops of photos with the hashes of two sets of variants, for comparing what the sets reveal.

The crops are those of `pictures.random_crop`; a crop that `trim` reduces is left out, because its
views would be of the part within.
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.inversion.pictures import Pixels, random_crop
from nciihash.hashing.hasher import hash_image
from nciihash.hashing.trimming import trim
from nciihash.hashing.variants import QUARTERS, SETS, hash_variants
from nciihash.signals import QUALITY_MIN, Variant

SIDE: Final = 64  # cells along a side of a picture
COMPARED: Final = ("standard", "thorough")
# The views of each set, the original's first.
NAMES: Final = {
    which: (Variant.ORIGINAL, *(name for name, _ in QUARTERS), *SETS[which]) for which in COMPARED
}
_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class HashedCrops:
    """Crops of photos, one per row, with the hashes of each set.

    Attributes:
        photo: intp (n,), the number of the photo.
        pictures: float32 (n, 64, 64), luma from 0 to 1 in cells.
        shapes: float64 (n,), aspect ratios, width / height.
        bits: by set, float32 (n, views, 256): -1 and 1 in the order of a hash, and 0 where the view
            has no hash in the set; the views are in the order of `NAMES`.
    """

    photo: NDArray[np.intp]
    pictures: Floats
    shapes: NDArray[np.float64]
    bits: dict[str, Floats]

    def __len__(self) -> int:
        return len(self.photo)

    def only(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> "HashedCrops":
        """Return the rows that a mask or positions select."""
        bits = {which: values[rows] for which, values in self.bits.items()}
        return HashedCrops(self.photo[rows], self.pictures[rows], self.shapes[rows], bits)


def cut(photos: Sequence[Pixels], each: int, seed: int, workers: int = 1) -> HashedCrops:
    """Cut crops out of photos and hash them; the result does not depend on `workers`.

    Args:
        photos: each uint8 (h, w, 3).
        each: number of crops per photo; a plain photo may have fewer.
        seed: of the random crops.
        workers: number of processes.
    """
    work = [(number, photo, each, seed) for number, photo in enumerate(photos)]
    if workers > 1:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            made = list(pool.map(_of_photo, work, chunksize=4))
    else:
        made = [_of_photo(one) for one in work]
    return HashedCrops(
        np.concatenate([one.photo for one in made]),
        np.concatenate([one.pictures for one in made]),
        np.concatenate([one.shapes for one in made]),
        {which: np.concatenate([one.bits[which] for one in made]) for which in COMPARED},
    )


def _of_photo(work: tuple[int, Pixels, int, int]) -> HashedCrops:
    number, photo, each, seed = work
    rng = np.random.default_rng((seed, number))
    pictures, shapes = list[Floats](), list[float]()
    bits: dict[str, list[Floats]] = {which: [] for which in COMPARED}
    for _ in range(8 * each):  # few crops of a plain photo are fit for submission
        if len(pictures) == each:
            break
        crop = random_crop(photo, rng)
        if rng.random() < 0.5:
            crop = np.ascontiguousarray(crop[:, ::-1])
        own = hash_image(crop)
        if own.quality < QUALITY_MIN or trim(crop) is not None:
            continue
        for which in COMPARED:
            known = np.zeros((len(NAMES[which]), 256), np.float32)
            for hashed in hash_variants(crop, own, which):
                value = np.frombuffer(hashed.signal.value, np.uint8)
                known[NAMES[which].index(hashed.variant)] = np.unpackbits(value) * 2.0 - 1
            bits[which].append(known)
        luma = np.asarray(crop @ _LUMA, np.float32) / 255
        small = cv2.resize(luma, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        pictures.append(np.asarray(small, np.float32))
        shapes.append(crop.shape[1] / crop.shape[0])
    return HashedCrops(
        np.full(len(pictures), number, np.intp),
        np.array(pictures, np.float32).reshape(-1, SIDE, SIDE),
        np.array(shapes),
        {
            which: np.array(bits[which], np.float32).reshape(-1, len(NAMES[which]), 256)
            for which in COMPARED
        },
    )
