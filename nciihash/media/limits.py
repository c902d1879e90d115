"""What a file may cost. Apart from the decoders, so that a process without them can say it too."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may cost.

    `max_bytes` is the size of the file; `max_pixels` counts a picture's pixels as its header states
    them, before anything is decoded; a JPEG of up to `reduced_pixels` is read at an eighth of its
    size or so where it has more. `memory`, in bytes of address space, and `seconds`, of
    wall-clock time a file, are kept by `nciihash.sandbox` alone: a process cannot take decoded
    memory or time back from itself.

    Videos are read piece by piece, so `video_bytes` may be far more, and have `video_seconds`.
    Their frames are held to `max_pixels`. `threads` is how many a video's decoder may use.
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
