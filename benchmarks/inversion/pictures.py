"""Photos cut to crops and wandered over as by a camera, with their thumbnails and hashes."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
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

# What a submission has at most with the standard copies, but for `raw`, which needs transparency.
_STANDARD: Final = tuple(VIEWS)[: tuple(VIEWS).index(Variant.PAD4X3_BLACK) + 1]
COPIES: Final = (
    *(Variant.ORIGINAL, Variant.TRIM),
    *(name for name, _ in QUARTERS),
    *_STANDARD,
)
FRAMES: Final = 5  # kept frames of a film
_LARGE: Final = 1600  # pixels of a photo's longer side
_SMALL: Final = 256  # and of a crop's
_ALIKE: Final = 80  # bits of 256; strangers are about 128 apart, seldom under 90

# Of scikit-image's pictures those that are always held out and may be shown, with what its list of
# data says: the first is NASA's and in the public domain, the others are CC0.
SHOWN: Final = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
_OTHERS: Final = (
    "hubble_deep_field.jpg", "ihc.png", "retina.jpg", "motorcycle_left.png", "moon.png",
    "camera.png", "coins.png", "brick.png", "grass.png", "gravel.png",
)  # fmt: skip


@dataclass(frozen=True)
class Pieces:
    """Crops or films of photos, a row each.

    `photo` is intp (n,); `thumbnails` float32 (n, 1024), of mean 0 and length 1, for a film that of
    the middle frame; `pdq` uint8 (n, 32), `phash` and `dhash` uint8 (n, 8); `many` uint8
    (n, places, 32) the hashes of altered copies in the order of `COPIES`, or of a film's frames in
    theirs; `there` bool (n, places) says which of them there are, none where they were not made.
    """

    photo: NDArray[np.intp]
    thumbnails: NDArray[np.float32]
    pdq: Pixels
    phash: Pixels
    dhash: Pixels
    many: Pixels
    there: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.photo)

    def only(self, rows: NDArray[np.bool_]) -> Self:
        """Give some of the rows."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class Wish:
    """What to make of each photo: how many pieces, of how many of them altered copies."""

    pieces: int
    sets: int = 0
    films: bool = False
    mirrored: bool = False


def photos(folder: Path | None) -> tuple[list[Pixels], list[Pixels], int]:
    """Read photos: to learn from, and to be judged on.

    Judged on are those in `SHOWN` and a third of the others. Of photos that are alike, as
    duplicates and series are, none is on both sides.

    Args:
        folder: of photos; there are scikit-image's besides.

    Returns:
        The photos to learn from; those to be judged on, `SHOWN` first; how many were left out.
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
    left_out = 0
    for place, number in enumerate(order):
        turned = pdq.dihedral(others[number])
        known = np.concatenate(hashes)
        near = int(np.bitwise_count(known ^ turned[0]).sum(axis=1).min()) <= _ALIKE
        if near:
            left_out += 1
        elif place < third:
            test.append(others[number])
            hashes.append(turned)
        else:
            train.append(others[number])
    return train, test, left_out


def spread(total: int, count: int) -> int:
    """Give how many pieces of each photo make about so many in all."""
    return max(1, -(-total // count))


def read(path: Path) -> Pixels:
    """Read a photo in colour, not larger than is needed."""
    return folders.shrunk(read_pixels(path), _LARGE)


def thumbnail(pixels: Pixels) -> NDArray[np.float32]:
    """Give the brightness of a picture in 32 x 32 cells, as one row of mean 0 and length 1."""
    small = Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return unit(np.asarray(small, dtype=np.float32).reshape(1, -1))[0]


def cut(photos: Sequence[Pixels], wish: Wish, seed: int, workers: int = 1) -> Pieces:
    """Cut pieces out of photos and hash them, the same for the same seed however many work on it.

    Args:
        photos: each gives as many pieces.
        wish: what to make.
        seed: of all that is left to chance.
        workers: processes.
    """
    work = [(number, photo, wish, seed) for number, photo in enumerate(photos)]
    if workers > 1:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            made = list(pool.map(_of_photo, work))
    else:
        made = [_of_photo(one) for one in work]
    names = [field.name for field in fields(Pieces)]
    return Pieces(*(np.concatenate([getattr(one, name) for one in made]) for name in names))


def whole(photos: Sequence[Pixels]) -> Pieces:
    """Hash photos as they are, with their altered copies."""
    found = [(number, photo, [photo]) for number, photo in enumerate(photos)]
    return _pieces(found, Wish(len(found), len(found)))


def _of_photo(work: tuple[int, Pixels, Wish, int]) -> Pieces:
    number, photo, wish, seed = work
    rng = np.random.default_rng((seed, number))
    found: list[tuple[int, Pixels, list[Pixels]]] = []
    for _ in range(8 * wish.pieces):  # a plain photo gives few crops that are fit for submission
        if len(found) == wish.pieces:
            break
        if wish.films:
            frames = _film(photo, rng)
            if len(frames) == FRAMES:
                found.append((number, frames[FRAMES // 2], frames))
            continue
        crop = _crop(photo, rng)
        if wish.mirrored and rng.random() < 0.5:
            crop = np.ascontiguousarray(crop[:, ::-1])
        if pdq.hash_pixels(crop)[1] >= QUALITY_MIN:
            found.append((number, crop, [crop]))
    return _pieces(found, wish)


def _pieces(found: list[tuple[int, Pixels, list[Pixels]]], wish: Wish) -> Pieces:
    """Hash what was cut: of films their frames, of the first crops their copies."""
    places = FRAMES if wish.films else len(COPIES)
    many = np.zeros((len(found), places, 32), np.uint8)
    there = np.zeros((len(found), places), bool)
    for row, (_, picture, frames) in enumerate(found):
        if wish.films:
            many[row] = [pdq.hash_pixels(frame)[0] for frame in frames]
            there[row] = True
        elif row < wish.sets:
            for hashed in hash_variants(picture, hash_image(picture), "standard"):
                place = COPIES.index(hashed.variant)
                many[row, place] = np.frombuffer(hashed.signal.value, np.uint8)
                there[row, place] = True
    pictures = [Image.fromarray(picture) for _, picture, _ in found]
    makes = (imagehash.phash, imagehash.dhash)
    return Pieces(
        np.array([number for number, _, _ in found], np.intp),
        np.array([thumbnail(p) for _, p, _ in found], np.float32).reshape(-1, CELLS),
        np.array([pdq.hash_pixels(p)[0] for _, p, _ in found], np.uint8).reshape(-1, 32),
        *(
            np.array([np.packbits(make(p).hash) for p in pictures], np.uint8).reshape(-1, 8)
            for make in makes
        ),
        many,
        there,
    )


def _crop(photo: Pixels, rng: np.random.Generator) -> Pixels:
    """Cut 40 to 100 % of each side out, small enough to be hashed quickly."""
    size = [min(s, max(64, int(s * rng.uniform(0.4, 1.0)))) for s in photo.shape[:2]]
    top, left = (rng.integers(0, s - o + 1) for o, s in zip(size, photo.shape, strict=False))
    return folders.shrunk(photo[top : top + size[0], left : left + size[1]], _SMALL)


def _film(photo: Pixels, rng: np.random.Generator) -> list[Pixels]:
    """Move a window over a photo, in one direction, and keep the frames that a submission would."""
    size = [max(5, int(s * rng.uniform(0.5, 0.7))) for s in photo.shape[:2]]
    room = [s - o for s, o in zip(photo.shape, size, strict=False)]
    start, end = (np.array([rng.uniform(0, r) for r in room]) for _ in range(2))
    reel, kept = FrameSelector(FRAMES), []
    for share in np.linspace(0, 1, 24):
        top, left = (start + (end - start) * share).astype(int)
        frame = folders.shrunk(photo[top : top + size[0], left : left + size[1]], _SMALL)
        if reel.take(hash_image(frame)):
            kept.append(frame)
        if len(kept) == FRAMES:
            break
    return kept
