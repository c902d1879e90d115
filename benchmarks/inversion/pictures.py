"""Crops and simulated videos of photos, with their thumbnails and hashes."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Final, Self

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.common import folders
from benchmarks.inversion.inverses import CELLS, SIDE, unit
from nciihash import pdq
from nciihash.hashing.frame_selection import FrameSelector
from nciihash.hashing.hasher import hash_image
from nciihash.hashing.image import read_pixels
from nciihash.hashing.variants import QUARTERS, VIEWS, hash_variants
from nciihash.signals import QUALITY_MIN, Variant

Pixels = NDArray[np.uint8]

# The most that a submission has with the standard set; without `raw`, which needs transparency.
_STANDARD: Final = tuple(VIEWS)[: tuple(VIEWS).index(Variant.PAD4X3_BLACK) + 1]
COPIES: Final = (
    *(Variant.ORIGINAL, Variant.TRIM),
    *(name for name, _ in QUARTERS),
    *_STANDARD,
)
FRAMES: Final = 5  # selected frames of a video
_LARGE: Final = 1600  # pixels, the longer side of a photo
_SMALL: Final = 256  # pixels, the longer side of a crop
# Bits of 256 within which photos are near-duplicates; unrelated ones are about 128 apart, seldom
# under 90.
_NEAR_DUPLICATE: Final = 80

# scikit-image's pictures that are always held out and may be shown. According to its list of data,
# the first is by NASA and in the public domain, and the others are CC0.
SHOWN: Final = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
_OTHERS: Final = (
    "hubble_deep_field.jpg", "ihc.png", "retina.jpg", "motorcycle_left.png", "moon.png",
    "camera.png", "coins.png", "brick.png", "grass.png", "gravel.png",
)  # fmt: skip


@dataclass(frozen=True)
class Pieces:
    """Crops or videos of photos, one per row.

    Attributes:
        photo: intp (n,), the number of the photo.
        thumbnails: float32 (n, 1024), of mean 0 and length 1; of a video, of its middle frame.
        pdq: uint8 (n, 32).
        phash: uint8 (n, 8).
        dhash: uint8 (n, 8).
        many: uint8 (n, columns, 32), the hashes of altered copies in the order of `COPIES`, or of a
            video's frames in theirs.
        present: bool (n, columns), which of `many` exist; none where they were not computed.
    """

    photo: NDArray[np.intp]
    thumbnails: NDArray[np.float32]
    pdq: Pixels
    phash: Pixels
    dhash: Pixels
    many: Pixels
    present: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.photo)

    def only(self, rows: NDArray[np.bool_]) -> Self:
        """Return the rows that a mask, bool (n,), selects."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _names()})


@dataclass(frozen=True)
class CutOptions:
    """What to cut out of each photo.

    Attributes:
        pieces: number of crops, or of videos.
        sets: number of crops whose altered copies are hashed.
        videos: cut videos instead of crops.
        mirrored: mirror half of the crops.
    """

    pieces: int
    sets: int = 0
    videos: bool = False
    mirrored: bool = False


def photos(folder: Path | None) -> tuple[list[Pixels], list[Pixels], int]:
    """Read the photos and split them into training and test photos.

    Test photos are those in `SHOWN` and a third of the others. No photo of one side is a
    near-duplicate of one on the other.

    Args:
        folder: of photos, which are used in addition to scikit-image's.

    Returns:
        The training photos; the test photos, `SHOWN` first; the number of excluded near-duplicates.
    """
    from skimage import data

    own = Path(data.__file__).parent
    shown = [read(own / name) for name in SHOWN]
    others = [read(own / name) for name in _OTHERS]
    if folder is not None:
        others += [pixels for _, pixels in folders.pictures(folder, side=_LARGE)]
    order = np.random.default_rng(0).permutation(len(others))
    third = len(others) // 3
    train, test, hashes = [], list(shown), [pdq.dihedral(one) for one in shown]
    excluded = 0
    for position, number in enumerate(order):
        turned = pdq.dihedral(others[number])
        known = np.concatenate(hashes)
        nearest = int(np.bitwise_count(known ^ turned[0]).sum(axis=1).min())
        if nearest <= _NEAR_DUPLICATE:
            excluded += 1
        elif position < third:
            test.append(others[number])
            hashes.append(turned)
        else:
            train.append(others[number])
    return train, test, excluded


def per_photo(total: int, count: int) -> int:
    """Return how many pieces to cut from each of `count` photos for at least `total` in all."""
    return max(1, -(-total // count))


def read(path: Path) -> Pixels:
    """Read a photo in colour, at most `_LARGE` pixels on its longer side."""
    return folders.shrink(read_pixels(path), _LARGE)


def thumbnail(pixels: Pixels) -> NDArray[np.float32]:
    """Return the brightness in 32 x 32 cells as float32 (1024,), of mean 0 and length 1."""
    small = Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return unit(np.asarray(small, dtype=np.float32).reshape(1, -1))[0]


def cut(photos: Sequence[Pixels], options: CutOptions, seed: int, workers: int = 1) -> Pieces:
    """Cut pieces out of photos and hash them; the result does not depend on `workers`.

    Args:
        photos: each uint8 (h, w, 3).
        options: what to cut out of each.
        seed: of the random crops and movements.
        workers: number of processes.
    """
    work = [(number, photo, options, seed) for number, photo in enumerate(photos)]
    if workers > 1:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            made = list(pool.map(_of_photo, work))
    else:
        made = [_of_photo(one) for one in work]
    return Pieces(**{n: np.concatenate([getattr(one, n) for one in made]) for n in _names()})


def _names() -> list[str]:
    return [field.name for field in fields(Pieces)]


def whole(photos: Sequence[Pixels]) -> Pieces:
    """Hash whole photos, with their altered copies."""
    found = [(number, photo, [photo]) for number, photo in enumerate(photos)]
    return _pieces(found, CutOptions(len(found), len(found)))


def _of_photo(work: tuple[int, Pixels, CutOptions, int]) -> Pieces:
    number, photo, options, seed = work
    rng = np.random.default_rng((seed, number))
    found: list[tuple[int, Pixels, list[Pixels]]] = []
    for _ in range(8 * options.pieces):  # few crops of a plain photo are fit for submission
        if len(found) == options.pieces:
            break
        if options.videos:
            frames = _video(photo, rng)
            if len(frames) == FRAMES:
                found.append((number, frames[FRAMES // 2], frames))
            continue
        crop = random_crop(photo, rng)
        if options.mirrored and rng.random() < 0.5:
            crop = np.ascontiguousarray(crop[:, ::-1])
        if pdq.hash_pixels(crop)[1] >= QUALITY_MIN:
            found.append((number, crop, [crop]))
    return _pieces(found, options)


def _pieces(found: list[tuple[int, Pixels, list[Pixels]]], options: CutOptions) -> Pieces:
    """Hash what was cut: the frames of videos, the altered copies of the first crops."""
    columns = FRAMES if options.videos else len(COPIES)
    many = np.zeros((len(found), columns, 32), np.uint8)
    present = np.zeros((len(found), columns), bool)
    for row, (_, picture, frames) in enumerate(found):
        if options.videos:
            many[row] = [pdq.hash_pixels(frame)[0] for frame in frames]
            present[row] = True
        elif row < options.sets:
            for hashed in hash_variants(picture, hash_image(picture), "standard"):
                column = COPIES.index(hashed.variant)
                many[row, column] = np.frombuffer(hashed.signal.value, np.uint8)
                present[row, column] = True
    pictures = [Image.fromarray(picture) for _, picture, _ in found]
    phash, dhash = (
        np.array([np.packbits(compute(p).hash) for p in pictures], np.uint8).reshape(-1, 8)
        for compute in (imagehash.phash, imagehash.dhash)
    )
    return Pieces(
        np.array([number for number, _, _ in found], np.intp),
        np.array([thumbnail(p) for _, p, _ in found], np.float32).reshape(-1, CELLS),
        np.array([pdq.hash_pixels(p)[0] for _, p, _ in found], np.uint8).reshape(-1, 32),
        phash,
        dhash,
        many,
        present,
    )


def random_crop(photo: Pixels, rng: np.random.Generator) -> Pixels:
    """Return a random crop of 40 to 100 % of each side, small enough to be hashed quickly."""
    size = [min(s, max(64, int(s * rng.uniform(0.4, 1.0)))) for s in photo.shape[:2]]
    top, left = (rng.integers(0, s - o + 1) for o, s in zip(size, photo.shape, strict=False))
    return folders.shrink(photo[top : top + size[0], left : left + size[1]], _SMALL)


def _video(photo: Pixels, rng: np.random.Generator) -> list[Pixels]:
    """Pan a window over a photo; return the frames that would be selected for a submission."""
    size = [max(5, int(s * rng.uniform(0.5, 0.7))) for s in photo.shape[:2]]
    margins = [s - o for s, o in zip(photo.shape, size, strict=False)]
    start, end = (np.array([rng.uniform(0, r) for r in margins]) for _ in range(2))
    selector, kept = FrameSelector(FRAMES), []
    for share in np.linspace(0, 1, 24):
        top, left = (start + (end - start) * share).astype(int)
        frame = folders.shrink(photo[top : top + size[0], left : left + size[1]], _SMALL)
        if selector.take(hash_image(frame)):
            kept.append(frame)
        if len(kept) == FRAMES:
            break
    return kept
