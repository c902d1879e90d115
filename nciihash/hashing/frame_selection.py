"""Which frames of a video are hashed and kept.

A look at a moment is at the frame that is shown then: the last one that began by then, however long
ago. So every frame that stays for `EVERY` seconds is looked at, at any frame rate. The last frame,
which players leave on the screen, is looked at as well.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from nciihash.signals import Hashed

EVERY: Final = (
    0.25  # seconds between looks at a video: with one a second half the copies are missed
)
SAME: Final = 15  # bits: a frame that is no farther from the last one kept adds nothing
CALM: Final = 8  # bits: the same of a query, and how little moves where looks may become rarer
CLOSE: Final = 1 / 32  # seconds between looks for a query where much moves: each frame, mostly
NEAR: Final = 10  # bits: an altered copy's hash that is no farther from another adds nothing
# Frames of one video, at most: in one query, and in one submission without or with altered copies;
# and PDQ hashes in one submission. 512 frames are two minutes in which everything moves.
QUERY_FRAMES: Final = 4096
PLAIN_FRAMES: Final = 2000
FRAMES: Final = 512
SIGNALS: Final = 2000


class FrameSelector:
    """The frames of one video that are worth keeping, so far.

    When they become too many, the looks become half as frequent, and of the frames so far those
    stay that would have been seen then. So a film of any length is covered evenly, moments in which
    much happens are thinned before those in which little does, and only hashes take memory.

    A copy that was cut or re-timed shows other moments than those at which the original was looked
    at, and where a scene moves fast a PDQ hash is lost within a tenth of a second. So a query is
    looked at `close`: up to every frame where much moves, and rarely where little does. The frames
    of one moment, `every` seconds, are told as one, which is found if any of them is.

    Args:
        most: frames to keep at most.
        every: seconds between looks.
        close: look for a query.
        loop: look at each frame, for one of a loop that is shorter than the time between looks is
            shown again and again.
    """

    def __init__(
        self, most: int, every: float = EVERY, *, close: bool = False, loop: bool = False
    ) -> None:
        self.every = every
        self._most = most
        self._close = close
        self._loop = loop
        self._same = CALM if close else SAME
        self._step = 0.0 if loop else CLOSE if close else every
        self._due = 0.0
        self._now = 0.0
        self.latest = 0.0  # when the last frame that was asked about appears
        self._seen: Hashed | None = None
        self._frames: list[tuple[float, list[Hashed]]] = []
        self._last: Hashed | None = None
        self._best: Hashed | None = None

    def due(self, start: float, end: float) -> bool:
        """Tell whether to look at a frame: whether it is shown at a moment of a look.

        Args:
            start: when it appears, in seconds from the first frame; no earlier than the one before.
            end: when the next one does; infinite for the last frame, which is always looked at.
        """
        self.latest = start
        moment = max(self._due, self._next(start))
        if end < math.inf and not start <= moment < end:
            return False
        self._now = moment if moment < end < math.inf else start
        self._due = self._after(self._now)
        return True

    def _next(self, time: float) -> float:
        """Give the first moment of a look from this time on."""
        if self._step <= CLOSE:
            return time  # whichever frame comes next
        return math.ceil(time / self._step) * self._step

    def _after(self, time: float) -> float:
        if self._step <= CLOSE:
            return time
        return (time // self._step + 1) * self._step

    def _pace(self, frame: Hashed) -> None:
        """Look sooner again where more moves, and later where little does."""
        moved = 0 if self._seen is None else _bits(frame, self._seen)
        if moved > 2 * CALM or self._seen is None:
            self._step = CLOSE
        else:
            self._step = max(CLOSE, self._step * (2 if moved <= CALM else 0.5))
        self._step = min(self._step, self.every)
        self._seen = frame
        self._due = self._after(self._now)

    def opens(self) -> bool:
        """Tell whether nothing is kept yet of the moment that is looked at."""
        return not self._frames or self._frames[-1][0] != self._moment()

    def _moment(self) -> float:
        return self._now // self.every * self.every if self._close else self._now

    def take(self, frame: Hashed) -> bool:
        """Tell whether to keep the frame that was due: not a plain one, nor one like the last."""
        if self._close and not self._loop:
            self._pace(frame)
        if self._best is None or _worth(frame) > _worth(self._best):
            self._best = frame
        if frame.plain or (self._last is not None and _bits(frame, self._last) <= self._same):
            return False
        self._last = frame
        return True

    def keep(self, hashes: Iterable[Hashed]) -> None:
        """Keep the hashes of the frame that was due: its own, and those of its altered copies."""
        time = self._moment()
        self._frames.append((time, [replace(hashed, time=time) for hashed in hashes]))
        while len(self._frames) > self._most:
            if self._close:
                self._close = False  # one frame a moment has to do
            else:
                self.every *= 2
            self._step = self.every
            self._due = self._after(self._now)
            seen: dict[float, tuple[float, list[Hashed]]] = {}
            for frame in self._frames:
                seen.setdefault(frame[0] // self.every, frame)
            self._frames = list(seen.values())

    def __len__(self) -> int:
        """Count the frames, or a query's moments."""
        return len({time for time, _ in self._frames})

    def hashes(self, most: int = 0) -> tuple[Hashed, ...]:
        """Give all hashes in the order of their frames; of plain frames alone, the least plain one.

        Args:
            most: how many at most; 0 for no bound. Then only every second, third … frame has those
                of altered copies, and such as say what another one says are left out.
        """
        if not self._frames:
            return () if self._best is None else (self._best,)
        if not most:
            return tuple(hashed for _, frame in self._frames for hashed in frame)
        own = len(self._frames)
        step = 1
        while len(kept := self._spread(step)) > most and step < own:
            excess = (len(kept) - own) // max(1, most - own)
            step = max(step + 1, step * excess)
        return tuple(kept)

    def _spread(self, step: int) -> list[Hashed]:
        """Give each frame's first hash, and of every `step`-th those others that say more."""
        import numpy as np

        from nciihash.hamming import distances

        frames = [frame for _, frame in self._frames]
        rows = [np.array([np.frombuffer(frame[0].signal.value, np.uint8) for frame in frames])]
        kept = []
        for number, frame in enumerate(frames):
            kept.append(frame[0])
            if number % step or len(frame) == 1:
                continue
            others = frame[1:]
            values = np.array([np.frombuffer(h.signal.value, np.uint8) for h in others])
            far = distances(values, np.concatenate(rows)).min(axis=1) > NEAR
            kept += [hashed for hashed, fit in zip(others, far, strict=True) if fit]
            rows.append(values[far])
        return kept


def _bits(a: Hashed, b: Hashed) -> int:
    return (int.from_bytes(a.signal.value) ^ int.from_bytes(b.signal.value)).bit_count()


def _worth(frame: Hashed) -> tuple[bool, int]:
    return not frame.tied, frame.quality or 0
