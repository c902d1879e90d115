"""Programs that compute a hash from a path: nciihash, its peers, and decoding alone as a limit."""

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
_SIDE_MIN: Final = 256  # pixels of the shorter side, as in nciihash.hashing.reduced_jpeg


@dataclass(frozen=True, slots=True)
class Program:
    """A way to hash a file, and the id of the process that does the work if it is another one."""

    name: str
    run: Callable[[Path], object]
    process: int | None = None

    def time(self, path: Path) -> float:
        """Hash a file once and return the processor time in seconds."""
        before = 0.0 if self.process is None else _processor_time(self.process)
        start = time.process_time()
        self.run(path)
        own = time.process_time() - start
        return own + (0.0 if self.process is None else _processor_time(self.process) - before)


def _processor_time(process: int) -> float:
    """Return the processor time in seconds that a process's main thread has used (Linux only)."""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e9


def installed_programs(sandbox: Sandbox) -> list[Program]:
    """Return the programs that are installed; print the names of those that are not."""
    found = [
        Program(REFERENCE, lambda path: pdqhash.compute(np.asarray(_open(path).convert("RGB")))),
        Program("pdqhash + cv2", _cv2),
    ]
    for name, make in (
        ("threatexchange", _threatexchange),
        (IMAGEHASH, _imagehash),
        ("perception, PHash", functools.partial(_perception, "PHash")),
        ("perception, PDQ", functools.partial(_perception, "PDQHash")),
    ):
        try:
            found.append(Program(name, make()))
        except ImportError as error:
            print(f"skipped: {name}: {error}")
    found += [
        Program("Pillow's decode alone", lambda path: _open(path).load()),
        Program(LIMIT, _scaled_decode),
        Program(EXACT, hasher.hash_image),
        Program(FAST, lambda path: hasher.hash_image(path, fast=True)),
    ]
    for name, variants in (
        ("nciihash, fast, and trimmed", "match"),
        (STANDARD, "standard"),
        (FULL, "full"),
    ):
        found.append(Program(name, functools.partial(_fast, variants)))
    if (process := _child_process(sandbox)) is not None:
        for name, fast in (("nciihash, exact, in the sandbox", False), (SANDBOX, True)):
            found.append(Program(name, functools.partial(sandbox.hash_file, fast=fast), process))
    return found


def _child_process(sandbox: Sandbox) -> int | None:
    """Return the id of the sandbox's process, or None where its processor time cannot be read."""
    child = sandbox._child
    if child is None or not os.path.exists(f"/proc/{child.pid}/schedstat"):  # noqa: PTH110
        print("skipped: the sandbox: its processor time cannot be read on this system")
        return None
    return child.pid


def _open(path: Path) -> Image.Image:
    return Image.open(path)


def _fast(variants: str, path: Path) -> object:
    return hasher.hash_file(path, variants=variants, fast=True)


def _cv2(path: Path) -> object:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if picture is None:
        raise ValueError(f"OpenCV cannot read {path.name}")
    return pdqhash.compute(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))


def _scaled_decode(path: Path) -> None:
    """Decode at the scale that the fast hash uses, and discard the pixels."""
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

    return lambda path: imagehash.phash(_open(path))


def _perception(name: str) -> Callable[[Path], object]:
    from perception import hashers

    peer = getattr(hashers, name)()
    return lambda path: peer.compute(str(path))
