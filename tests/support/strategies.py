"""Hypothesis strategies for this project's values: pictures, signals, pages of the feed."""

from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from nciihash.feed import Added, FeedPage, Removed
from nciihash.signals import FILE_SIGNAL_TYPES, Hashed, Item, Media, Signal, SignalType, Variant

Pixels = NDArray[np.uint8]


def _colour() -> st.SearchStrategy[Pixels]:
    # with multiples of 51, differences are whole steps of the quality measure
    level = st.one_of(st.integers(0, 255), st.sampled_from([0, 51, 102, 153, 204, 255]))
    grey = level.map(lambda v: [v] * 3)
    return st.one_of(grey, st.lists(level, min_size=3, max_size=3)).map(
        lambda c: np.array(c, np.uint8)
    )


def _constant(height: int, width: int) -> st.SearchStrategy[Pixels]:
    return _colour().map(lambda c: np.broadcast_to(c, (height, width, 3)))


def _stripes(height: int, width: int) -> st.SearchStrategy[Pixels]:
    def build(period: int, down: bool, a: Pixels, b: Pixels) -> Pixels:
        position = np.arange(height)[:, None] if down else np.arange(width)[None, :]
        mask = np.broadcast_to((position // period) % 2 == 0, (height, width))
        return np.where(mask[..., None], a, b)

    return st.builds(build, st.integers(1, 40), st.booleans(), _colour(), _colour())


def _halves(height: int, width: int) -> st.SearchStrategy[Pixels]:
    def build(row: int, column: int, colours: list[Pixels]) -> Pixels:
        out = np.empty((height, width, 3), np.uint8)
        for colour, part in zip(
            colours,
            (
                np.s_[:row, :column],
                np.s_[:row, column:],
                np.s_[row:, :column],
                np.s_[row:, column:],
            ),
            strict=True,
        ):
            out[part] = colour
        return out

    colours = st.lists(_colour(), min_size=4, max_size=4)
    return st.builds(build, st.integers(0, height), st.integers(0, width), colours)


def _gradient(height: int, width: int) -> st.SearchStrategy[Pixels]:
    def build(a: Pixels, b: Pixels, tilt: float) -> Pixels:
        down, right = np.mgrid[:height, :width]
        share = (1 - tilt) * down / height + tilt * right / width
        return np.rint(a + (b.astype(float) - a) * share[..., None]).astype(np.uint8)

    return st.builds(build, _colour(), _colour(), st.floats(0, 1))


def _few_colours(height: int, width: int) -> st.SearchStrategy[Pixels]:
    def build(block: int, palette: list[Pixels], seed: int) -> Pixels:
        rows, columns = -(-height // block), -(-width // block)
        picks = np.random.default_rng(seed).integers(0, len(palette), (rows, columns))
        return np.stack(palette)[picks.repeat(block, 0).repeat(block, 1)[:height, :width]]

    palette = st.lists(_colour(), min_size=1, max_size=5)
    return st.builds(build, st.integers(1, 40), palette, st.integers(0, 2**32 - 1))


def _noise(height: int, width: int) -> st.SearchStrategy[Pixels]:
    def build(middle: int, spread: float, seed: int) -> Pixels:
        values = np.random.default_rng(seed).normal(middle, spread, (height, width, 3))
        return np.clip(np.rint(values), 0, 255).astype(np.uint8)

    return st.builds(build, st.integers(0, 255), st.floats(0.1, 120), st.integers(0, 2**32 - 1))


def _free(height: int, width: int) -> st.SearchStrategy[Pixels]:
    return hnp.arrays(np.uint8, (height, width, 3))


_KINDS: tuple[Callable[[int, int], st.SearchStrategy[Pixels]], ...] = (
    _constant,
    _stripes,
    _halves,
    _gradient,
    _few_colours,
    _noise,
)


def pictures(*, side_max: int = 400) -> st.SearchStrategy[Pixels]:
    """Draw pictures, uint8 (h, w, 3), of all sizes up to `side_max` and many structures."""
    # boundary cases of the filter's window sizes and of the grid are drawn more often
    edges = [n for n in (1, 4, 5, 63, 64, 65, 127, 128, 129, 256, 257) if n <= side_max]
    side = st.one_of(st.integers(1, side_max), st.sampled_from(edges))
    structured = st.tuples(side, side, st.sampled_from(_KINDS)).flatmap(lambda s: s[2](s[0], s[1]))
    tiny = st.integers(1, 12)
    return st.one_of(structured, st.tuples(tiny, tiny).flatmap(lambda s: _free(*s)))


def signals(type: SignalType | None = None) -> st.SearchStrategy[Signal]:
    """Draw signals of a type, or of all types."""
    types = st.sampled_from(FILE_SIGNAL_TYPES) if type is None else st.just(type)
    return types.flatmap(
        lambda t: st.binary(min_size=t.bits // 8, max_size=t.bits // 8).map(lambda v: Signal(t, v))
    )


def hashed() -> st.SearchStrategy[Hashed]:
    """Draw hashes, with a quality if their type has one."""
    variants = st.sampled_from([variant for variant in Variant if variant is not Variant.UNKNOWN])
    return st.tuples(signals(), st.integers(0, 100), variants).map(
        lambda d: Hashed(d[0], d[1] if d[0].type is SignalType.PDQ else None, d[2])
    )


def items() -> st.SearchStrategy[Item]:
    """Draw files with their hashes."""
    hashes = st.lists(hashed(), min_size=1, max_size=6).map(tuple)
    return st.builds(Item, st.sampled_from(Media), hashes)


def opaque_ids() -> st.SearchStrategy[str]:
    """Draw ids and cursors in their wire format."""
    return st.binary(min_size=16, max_size=16).map(bytes.hex)


def added(ids: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[Added]:
    """Draw additions, with ids from `ids` if given."""
    ids = opaque_ids() if ids is None else ids
    return st.tuples(ids, opaque_ids(), hashed(), st.sampled_from(Media)).map(
        lambda d: Added(d[0], d[1], d[2].signal, d[2].quality, d[3], d[2].variant)
    )


def pages(ids: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[FeedPage]:
    """Draw pages of additions and removals in any order."""
    ids = opaque_ids() if ids is None else ids
    entries = st.lists(st.one_of(added(ids), st.builds(Removed, ids)), max_size=30).map(tuple)
    return st.builds(FeedPage, entries, opaque_ids(), st.booleans())
