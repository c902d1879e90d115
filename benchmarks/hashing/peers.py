"""The ways from a picture's path to its hash: ours, other programs', and the bare decode."""

import functools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import pdqhash
from PIL import Image

from nciihash.hashing import hasher
from nciihash.sandbox import Sandbox

REFERENCE: Final = "pdqhash + Pillow"
IMAGEHASH: Final = "imagehash.phash"
LIMIT: Final = "Pillow's scaled decode alone"
EXACT: Final = "nciihash, exact"
FAST: Final = "nciihash, fast"
STANDARD: Final = "nciihash, fast, standard set"
FULL: Final = "nciihash, fast, full set"
SANDBOX: Final = "nciihash, fast, in the sandbox"
_SIDE_MIN: Final = 256  # pixels of the reduced picture, as in nciihash.hashing.reduced_jpeg


@dataclass(frozen=True, slots=True)
class Way:
    """One way to hash a file, and the process that does it if it is not this one."""

    name: str
    run: Callable[[Path], object]
    process: int | None = None

    def time(self, path: Path) -> float:
        """Run it once; give the processor time in seconds."""
        other = 0.0 if self.process is None else _used_by(self.process)
        start = time.process_time()
        self.run(path)
        mine = time.process_time() - start
        return mine + (0.0 if self.process is None else _used_by(self.process) - other)


def _used_by(process: int) -> float:
    """Give the processor time, in seconds, that another process's first thread has used (Linux)."""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e9


def ways(box: Sandbox) -> list[Way]:
    """Give all ways of which the programs are installed; say which are not."""
    found = [
        Way(REFERENCE, lambda path: pdqhash.compute(np.asarray(_opened(path).convert("RGB")))),
        Way("pdqhash + cv2", _cv2),
    ]
    for name, make in (
        ("threatexchange", _threatexchange),
        (IMAGEHASH, _imagehash),
        ("perception, PHash", functools.partial(_perception, "PHash")),
        ("perception, PDQ", functools.partial(_perception, "PDQHash")),
    ):
        try:
            found.append(Way(name, make()))
        except ImportError as error:
            print(f"left out: {name}: {error}")
    found += [
        Way("Pillow's decode alone", lambda path: _opened(path).load()),
        Way(LIMIT, _scaled),
        Way(EXACT, hasher.hash_image),
        Way(FAST, lambda path: hasher.hash_image(path, fast=True)),
    ]
    for name, variants in (
        ("nciihash, fast, and trimmed", "match"),
        (STANDARD, "standard"),
        (FULL, "full"),
    ):
        found.append(Way(name, functools.partial(_fast, variants)))
    if (process := _child(box)) is not None:
        for name, fast in (("nciihash, exact, in the sandbox", False), (SANDBOX, True)):
            found.append(Way(name, functools.partial(box.hash_file, fast=fast), process))
    return found


def _child(box: Sandbox) -> int | None:
    """Give the number of the sandbox's process where its processor time can be read."""
    child = box._child
    if child is None or not os.path.exists(f"/proc/{child.pid}/schedstat"):  # noqa: PTH110 - no path of a file
        print("left out: the sandbox: its processor time cannot be read on this system")
        return None
    return child.pid


def _opened(path: Path) -> Image.Image:
    return Image.open(path)


def _fast(variants: str, path: Path) -> object:
    return hasher.hash_file(path, variants=variants, fast=True)


def _cv2(path: Path) -> object:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return pdqhash.compute(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))


def _scaled(path: Path) -> None:
    """Decode at the scale at which the fast hash does, and do nothing with it."""
    with Image.open(path) as picture:
        width, height = picture.size
        scale = next((s for s in (8, 4, 2, 1) if min(width, height) // s >= _SIDE_MIN), 1)
        picture.draft("RGB", (width // scale, height // scale))
        picture.load()


def _threatexchange() -> Callable[[Path], object]:
    from threatexchange.signal_type.pdq.pdq_hasher import pdq_from_file

    return pdq_from_file


def _imagehash() -> Callable[[Path], object]:
    import imagehash

    return lambda path: imagehash.phash(_opened(path))


def _perception(name: str) -> Callable[[Path], object]:
    from perception import hashers

    hash = getattr(hashers, name)()
    return lambda path: hash.compute(str(path))
