"""Reduce some frames of a video or an animation to parts.

A query of a long video would otherwise take minutes and gigabytes: `nciihash.hashing.parts` takes
some 10 ms for a frame, and its parts up to 336 KiB. Two frames of one scene rarely show different
pictures, so 16 frames, evenly spread, are enough to recognise that it shows a picture of the bank.
Every frame's own hash is looked up in any case.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from nciihash.hashing.frame_selection import SAMPLE_INTERVAL
from nciihash.hashing.parts import query_parts
from nciihash.hashing.trimming import Region
from nciihash.media.limits import PARTS_MAX
from nciihash.signals import Hashed, Level
from nciihash.windows import Part

FRAMES_MAX: Final = 16


class FrameParts:
    """The parts of the frames selected so far, at most `FRAMES_MAX` frames and `PARTS_MAX` parts.

    The first kept frame of each interval is selected. If there are too many frames or parts, the
    interval is doubled and the frames that the longer one would not have selected are dropped. So
    only some 100 frames of a video of hours are reduced.

    If all frames are plain, the parts are those of the best one: a small picture in the middle of
    a plain video is a part of it.

    Args:
        level: as in `query_parts`.
    """

    def __init__(self, level: Level) -> None:
        self._level = level
        self._interval = SAMPLE_INTERVAL
        self._frames: dict[float, tuple[float, tuple[Part, ...]]] = {}  # by number of the interval
        self._plain: tuple[Part, ...] = ()
        self._quality = -1

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts of the selected frames, in frame order."""
        if not self._frames:
            return self._plain
        return tuple(part for _, parts in self._frames.values() for part in parts)

    def wants(self, time: float) -> bool:
        """Whether to add a kept frame of this time, in seconds."""
        return time // self._interval not in self._frames

    def add(
        self,
        rgb: NDArray[np.uint8],
        time: float,
        region: Region | None,
        copy: NDArray[np.uint8] | None = None,
    ) -> None:
        """Add a kept frame.

        Args:
            rgb: uint8 (h, w, 3), upright.
            time: in seconds from the first frame, no earlier than the last one added.
            region: the picture within its frame, as `nciihash.hashing.trimming.trim` finds it.
            copy: as in `query_parts`.
        """
        parts = query_parts(rgb, self._level, region, time, copy)
        self._frames[time // self._interval] = (time, parts)
        while (
            len(self._frames) > FRAMES_MAX
            or sum(len(parts) for _, parts in self._frames.values()) > PARTS_MAX
        ):
            self._interval *= 2
            thinned: dict[float, tuple[float, tuple[Part, ...]]] = {}
            for frame in self._frames.values():
                thinned.setdefault(frame[0] // self._interval, frame)
            self._frames = thinned

    def wants_plain(self, frame: Hashed) -> bool:
        """Whether to add a plain frame: whether it is the best one, and none has been kept."""
        return not self._frames and (frame.quality or 0) > self._quality

    def add_plain(
        self, rgb: NDArray[np.uint8], frame: Hashed, time: float, region: Region | None
    ) -> None:
        """Replace the best plain frame; the arguments are as in `add`."""
        self._quality = frame.quality or 0
        self._plain = query_parts(rgb, self._level, region, time)
