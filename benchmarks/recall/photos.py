"""The photos of the recall benchmark: those of the bank, and others for collages.

The windows and the sets of variants were chosen on every second photo of the first folder, in the
order of names, starting with the first. Those are the other pictures of collages; the rest, further
folders and scikit-image's photos are the bank. A picture that today's rule finds in one that came
before it is left out (the packages have one picture in several sizes). The benchmark's own matcher
has no part in that, so that it cannot hide its false matches.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.common import folders
from nciihash.errors import FileRefused
from nciihash.hashing.hasher import hash_image
from nciihash.hashing.image import read_pixels
from nciihash.hashing.variants import hash_variants
from nciihash.signals import Hashed

Picture = Image.Image
Hashes = NDArray[np.uint64]  # (n, 4)
RADIUS: Final = 31
_SIDE_MIN: Final = 200  # pixels: smaller pictures in packages are icons and previews
# Of scikit-image's wheel, which needs no download: photos for the bank, and others for collages.
_BUNDLED: Final = ("astronaut", "camera", "cat", "coffee", "rocket", "hubble_deep_field")
_OTHERS: Final = ("immunohistochemistry", "coins", "brick", "grass", "gravel", "page")


@dataclass(frozen=True)
class Photos:
    """Named photos for the bank, and the others."""

    bank: list[tuple[str, Picture]]
    others: list[Picture]

    def companions(self, number: int, count: int = 5) -> list[Picture]:
        """Return other photos for the collages of a photo, not always the same ones."""
        return [
            self.others[(count * number + step) % len(self.others)]
            for step in range(min(count, len(self.others)))
        ]


def packed(hashes: Sequence[Hashed]) -> Hashes:
    """Pack the hashes that have enough detail."""
    fit = [hashed.signal.value for hashed in hashes if not hashed.plain]
    return np.frombuffer(b"".join(fit), np.uint64).reshape(-1, 4)


def nearest(queries: Hashes, bank: Hashes) -> int:
    """Return the smallest distance, or 256 if either side is empty."""
    if not len(queries) or not len(bank):
        return 256
    distances = np.bitwise_count(queries[:, None] ^ bank[None]).sum(axis=2)
    return int(distances.min())


def hash_set(rgb: NDArray[np.uint8], which: str) -> Hashes:
    """Hash pixels as `hash_file` hashes a file; `which` is a set of variants."""
    own = hash_image(rgb)
    return packed((own,) if which == "plain" else hash_variants(rgb, own, which))


class _Seen:
    """The hashes of the pictures so far."""

    def __init__(self) -> None:
        self._hashes = np.empty((0, 4), np.uint64)

    def add(self, picture: Picture) -> bool:
        """Add a picture; return whether it resembles none before it, in either direction."""
        rgb = np.asarray(picture)
        full, match = hash_set(rgb, "full"), hash_set(rgb, "match")
        new = nearest(match, self._hashes) > RADIUS and nearest(full, self._hashes) > RADIUS
        self._hashes = np.concatenate((self._hashes, full))
        return new


def load(given: Sequence[Path], side: int, most: int, *, every: bool) -> Photos:
    """Read the photos, without the too plain ones and without repetitions.

    Args:
        given: folders; of the first, only every second photo is for the bank.
        side: maximum length of the longer side in pixels; larger pictures are reduced to it.
        most: maximum number of photos of the bank; they are taken from all folders evenly.
        every: use all photos of the first folder for the bank, too.
    """
    first = [path for path in given[:1] for path in folders.files_in(path)]
    chosen = [] if every else first[::2]
    rest = [path for path in folders.files_in(*given) if path not in set(chosen)]
    seen = _Seen()
    others = [photo for _, photo in _read(chosen, side) if seen.add(photo)]
    others = others or [photo for _, photo in _bundled(_OTHERS, side)]
    every_one = [*_read(rest, side), *_bundled(_BUNDLED, side)]
    bank: dict[str, Picture] = {}
    for name, photo in every_one:
        if seen.add(photo):
            bank[name if name not in bank else f"{name} ({len(bank)})"] = photo
    named = list(bank.items())
    return Photos(named[:: -(-len(named) // most)], others)


def _read(paths: Iterable[Path], side: int) -> Iterator[tuple[str, Picture]]:
    for path in paths:
        try:
            pixels = read_pixels(path)
        except FileRefused:
            continue
        yield from _fit(path.name, Image.fromarray(pixels), side)


def _bundled(names: Iterable[str], side: int) -> Iterator[tuple[str, Picture]]:
    from skimage import data

    for name in names:
        photo = Image.fromarray(np.asarray(getattr(data, name)())).convert("RGB")
        yield from _fit(name, photo, side)


def _fit(name: str, photo: Picture, side: int) -> Iterator[tuple[str, Picture]]:
    """Reduce a photo; yield nothing if it is too plain, or too small to be a photo."""
    if min(photo.size) < _SIDE_MIN:
        return
    photo.thumbnail((side, side), Image.Resampling.LANCZOS)
    if not hash_image(np.asarray(photo)).plain:
        yield name, photo
