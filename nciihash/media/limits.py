"""Limits on files, in a module of their own so that the sandbox's parent loads no decoder."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on one file.

    `max_bytes` limits the file's size; `max_pixels` limits the size in its header, checked before
    anything is decoded. A JPEG of more pixels, up to `reduced_pixels`, is decoded at a reduced
    size. `memory` (bytes of address space) and `seconds` (wall-clock time for one file) are
    enforced by `nciihash.sandbox` only, since a process cannot enforce them on itself.

    Videos are read in chunks, so they have their own limits, `video_bytes` and `video_seconds`.
    Each of their frames is limited to `max_pixels`. `threads` is the number of threads of a video's
    decoder.
    """

    max_bytes: int = 256 << 20
    max_pixels: int = 100_000_000
    reduced_pixels: int = 400_000_000
    memory: int = 2 << 30
    seconds: float = 20.0
    video_bytes: int = 64 << 30
    video_seconds: float = 1800.0
    threads: int = 4


LIMITS: Final = Limits()

# The most parts of one item (`nciihash.windows.Part`, 16 KiB each): 2.5 MiB, five times as many as
# a picture can have. A video's are from fewer frames if there would be more.
PARTS_MAX: Final = 160
