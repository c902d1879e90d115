"""Hash the frames of a video or an animation: those that are selected, with their variants."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from nciihash import pdq
from nciihash.hashing import frame_selection
from nciihash.signals import Hashed, Item, Level, Media, SignalType, Variant
from nciihash.windows import Part


def select_from_animation(
    frames: Iterator[tuple[float, NDArray[np.uint8]]],
    variants: str,
    level: Level | None,
    *,
    loop: bool,
) -> tuple[frame_selection.FrameSelector, tuple[Part, ...]]:
    """Select frames of an animation, and hash them as `select_frames` does.

    Args:
        frames: the start of each frame in seconds, and its pixels, uint8 (h, w, 3).
        variants: as in `nciihash.hashing.hasher.hash_file`.
        level: as there.
        loop: sample every frame, as in `FrameSelector`.

    Returns:
        The selector with the hashes of the frames; and the parts of some of them.
    """
    close = variants == "match"
    selector = frame_selection.FrameSelector(frames_max(variants), close=close, loop=loop)
    due = (pixels for pixels, start, end in _with_end_times(frames) if selector.due(start, end))
    analysed = ((pdq.analyse(rgb), partial(np.asarray, rgb)) for rgb in due)
    return selector, select_frames(selector, analysed, variants, level)


def _with_end_times(
    frames: Iterator[tuple[float, NDArray[np.uint8]]],
) -> Iterator[tuple[NDArray[np.uint8], float, float]]:
    """Yield each frame with its start and the next frame's, in seconds; infinity for the last."""
    start, frame = next(frames)
    for end, following in frames:
        yield frame, start, end
        start, frame = end, following
    yield frame, start, math.inf


def select_frames(
    selector: frame_selection.FrameSelector,
    frames: Iterable[tuple[pdq.Analysis, Callable[[], NDArray[np.uint8]]]],
    variants: str,
    level: Level | None,
) -> tuple[Part, ...]:
    """Pass sampled frames to a selector, hashing the variants of those that it keeps.

    Args:
        selector: keeps the hashes.
        frames: the analysis of each frame, and a function that returns its pixels.
        variants: as in `nciihash.hashing.hasher.hash_file`.
        level: as there.

    Returns:
        The parts of some of them; none without a level.
    """
    from nciihash.hashing.frame_parts import FrameParts
    from nciihash.hashing.trimming import reduce, trim
    from nciihash.hashing.variants import hash_trimmed, hash_variants

    parts = None if level is None else FrameParts(level)
    framed = False
    for analysis, rgb in frames:
        own = analysis.hashed()
        if not selector.take(own):
            if parts is not None and own.plain and parts.wants_plain(own):
                pixels = rgb()
                parts.add_plain(pixels, own, selector.time, trim(pixels))
            continue
        # a border around the picture lasts: trimming one frame per interval finds it
        if variants == "none" or not (framed or selector.starts_interval()):
            selector.keep((own,))
            continue
        pixels = rgb()
        if variants == "match":
            small = reduce(pixels)
            region = trim(pixels, small)
            altered = hash_trimmed(pixels, own, region)
            if parts is not None and parts.wants(selector.time):
                parts.add(pixels, selector.time, region, small)
        else:
            altered = hash_variants(pixels, own, variants)
        framed = any(hashed.variant is Variant.TRIM for hashed in altered)
        selector.keep(altered or (own,))
    return () if parts is None else parts.parts


def frames_max(variants: str) -> int:
    """Return how many frames of one video are kept at most."""
    caps = {"none": frame_selection.PLAIN_FRAMES, "match": frame_selection.QUERY_FRAMES}
    return caps.get(variants, frame_selection.FRAMES)


def item_of(
    selector: frame_selection.FrameSelector,
    signals: Sequence[SignalType],
    variants: str,
    parts: tuple[Part, ...],
    hash_other: Callable[[SignalType], Hashed],
) -> Item:
    """Return the item of a video or an animation.

    Args:
        selector: has the hashes of the frames.
        signals: the types of hash, in the order of the item's hashes.
        variants: as in `nciihash.hashing.hasher.hash_file`.
        parts: of some of the frames.
        hash_other: returns the hash of any other type than PDQ.
    """
    hashes: list[Hashed] = []
    for type in signals:
        if type is SignalType.PDQ:
            hashes += selector.hashes(0 if variants == "match" else frame_selection.SIGNALS)
        else:
            hashes.append(hash_other(type))
    frames = max(1, len(selector))
    return Item(Media.VIDEO, tuple(hashes), frames, selector.every, parts=parts)
