"""Select the frames of a video whose hashes are kept.

A video is sampled at regular times. The sample at a time is the frame that is on the screen then:
the last one that began by then, however long ago. So every frame that is shown for at least the
sampling interval is sampled, at any frame rate. The last frame, which players leave on the screen,
is always sampled.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from nciihash.signals import Hashed

# Seconds between samples; at one sample a second, half of the copies are missed.
SAMPLE_INTERVAL: Final = 0.25
# Seconds between samples of a query during fast motion: about every frame.
QUERY_INTERVAL: Final = 1 / 32
# A frame within this distance of the last one kept is a duplicate: in bits, in a submission and in
# a query. A query is sampled less often while frames stay within it.
DUPLICATE_BITS: Final = 15
QUERY_DUPLICATE_BITS: Final = 8
# A variant's hash within this distance of another hash, in bits, adds nothing.
VARIANT_BITS: Final = 10
# The most frames of one video: in a query, in a submission without variants, and in one with them;
# and the most PDQ hashes in one submission. 512 frames are two minutes of constant motion.
QUERY_FRAMES: Final = 4096
PLAIN_FRAMES: Final = 2000
FRAMES: Final = 512
SIGNALS: Final = 2000


class FrameSelector:
    """The frames of one video that have been selected so far.

    When there are more than `max_frames`, the sampling interval is doubled, and only the frames
    that the longer interval would have sampled are kept. So a video of any length is covered
    evenly, scenes with much motion are thinned before still ones, and only hashes take memory.

    A copy that was cut or re-timed is sampled at other moments than the original, and during fast
    motion a PDQ hash stops matching within a tenth of a second. So a query is sampled densely
    (`close`): up to every frame during fast motion, and rarely when little moves. All frames of one
    interval then have the same time and count as one frame, which is found if any of them is.

    Args:
        max_frames: the most frames to keep.
        every: the sampling interval in seconds.
        close: sample densely, for a query.
        loop: sample every frame. A loop that is shorter than the interval shows each of its frames
            again and again.
    """

    def __init__(
        self,
        max_frames: int,
        every: float = SAMPLE_INTERVAL,
        *,
        close: bool = False,
        loop: bool = False,
    ) -> None:
        self.every = every
        self._max_frames = max_frames
        self._close = close
        self._loop = loop
        self._duplicate_bits = QUERY_DUPLICATE_BITS if close else DUPLICATE_BITS
        self._interval = 0.0 if loop else QUERY_INTERVAL if close else every
        self._due = 0.0
        self._now = 0.0
        self.latest = 0.0  # start of the last frame passed to `due`
        self._previous: Hashed | None = None
        self._frames: list[tuple[float, list[Hashed]]] = []
        self._last: Hashed | None = None
        self._best: Hashed | None = None

    def due(self, start: float, end: float) -> bool:
        """Whether to sample a frame: whether it is on the screen at a sampling time.

        Args:
            start: when it appears, in seconds from the first frame; no earlier than the previous
                frame.
            end: when the next frame appears; infinity for the last one, which is always sampled.
        """
        self.latest = start
        moment = max(self._due, self._next_at(start))
        if end < math.inf and not start <= moment < end:
            return False
        self._now = moment if moment < end < math.inf else start
        self._due = self._next_after(self._now)
        return True

    def _next_at(self, time: float) -> float:
        """Return the first sampling time at or after `time`."""
        if self._interval <= QUERY_INTERVAL:
            return time  # every frame
        return math.ceil(time / self._interval) * self._interval

    def _next_after(self, time: float) -> float:
        if self._interval <= QUERY_INTERVAL:
            return time
        return (time // self._interval + 1) * self._interval

    def _adjust_interval(self, frame: Hashed) -> None:
        """Shorten the sampling interval during motion, and lengthen it when little moves."""
        moved = 0 if self._previous is None else _distance(frame, self._previous)
        if moved > 2 * QUERY_DUPLICATE_BITS or self._previous is None:
            self._interval = QUERY_INTERVAL
        else:
            self._interval = max(
                QUERY_INTERVAL, self._interval * (2 if moved <= QUERY_DUPLICATE_BITS else 0.5)
            )
        self._interval = min(self._interval, self.every)
        self._previous = frame
        self._due = self._next_after(self._now)

    def starts_interval(self) -> bool:
        """Whether no frame has been kept yet for the current sampling interval."""
        return not self._frames or self._frames[-1][0] != self.time

    @property
    def time(self) -> float:
        """The time of the sampled frame: of a query, the start of its sampling interval."""
        return self._now // self.every * self.every if self._close else self._now

    def take(self, frame: Hashed) -> bool:
        """Return whether to keep the sampled frame: neither plain nor like the last one."""
        if self._close and not self._loop:
            self._adjust_interval(frame)
        if self._best is None or _rank(frame) > _rank(self._best):
            self._best = frame
        if frame.plain or (
            self._last is not None and _distance(frame, self._last) <= self._duplicate_bits
        ):
            return False
        self._last = frame
        return True

    def keep(self, hashes: Iterable[Hashed]) -> None:
        """Keep the hashes of the sampled frame: its own first, then those of its variants."""
        time = self.time
        self._frames.append((time, [replace(hashed, time=time) for hashed in hashes]))
        while len(self._frames) > self._max_frames:
            if self._close:
                self._close = False  # from here on, one frame per interval
            else:
                self.every *= 2
            self._interval = self.every
            self._due = self._next_after(self._now)
            thinned: dict[float, tuple[float, list[Hashed]]] = {}
            for frame in self._frames:
                thinned.setdefault(frame[0] // self.every, frame)
            self._frames = list(thinned.values())

    def __len__(self) -> int:
        """Return the number of frames kept; for a query, the number of distinct times."""
        return len({time for time, _ in self._frames})

    def hashes(self, max_hashes: int = 0) -> tuple[Hashed, ...]:
        """Return the hashes in frame order; if all frames are plain, the best one's hash.

        Args:
            max_hashes: the most hashes to return; 0 for no bound. To stay below it, variants'
                hashes are kept only for every second, third … frame, and dropped if within
                `VARIANT_BITS` of another hash. The frames' own hashes are always returned.
        """
        if not self._frames:
            return () if self._best is None else (self._best,)
        if not max_hashes:
            return tuple(hashed for _, frame in self._frames for hashed in frame)
        own = len(self._frames)
        step = 1
        while len(kept := self._spread(step)) > max_hashes and step < own:
            excess = (len(kept) - own) // max(1, max_hashes - own)
            step = max(step + 1, step * excess)
        return tuple(kept)

    def _spread(self, step: int) -> list[Hashed]:
        """Return each frame's own hash, and those variants of every `step`-th that add something.

        A variant's hash is dropped if it is within `VARIANT_BITS` of any frame's own hash or of
        another hash that is returned.
        """
        import numpy as np

        from nciihash.hamming import distances

        frames = [frame for _, frame in self._frames]
        rows = [np.array([np.frombuffer(frame[0].signal.value, np.uint8) for frame in frames])]
        kept = []
        for number, frame in enumerate(frames):
            kept.append(frame[0])
            if number % step or len(frame) == 1:
                continue
            variants = frame[1:]
            values = np.array([np.frombuffer(h.signal.value, np.uint8) for h in variants])
            distinct = distances(values, np.concatenate(rows)).min(axis=1) > VARIANT_BITS
            kept += [hashed for hashed, keep in zip(variants, distinct, strict=True) if keep]
            rows.append(values[distinct])
        return kept


def _distance(a: Hashed, b: Hashed) -> int:
    return (int.from_bytes(a.signal.value) ^ int.from_bytes(b.signal.value)).bit_count()


def _rank(frame: Hashed) -> tuple[bool, int]:
    return not frame.tied, frame.quality or 0
