"""Inverses: what computes a thumbnail from the bits of hashes, from the plainest to a network.

A thumbnail is the brightness of a picture in 32 x 32 cells, as a row of 1,024 numbers of mean 0 and
length 1. What is known of a hash is a row of -1 and 1, and 0 where a bit is not known.
"""

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SIDE: Final = 32  # cells along a side of a thumbnail
CELLS: Final = SIDE * SIDE
Floats = NDArray[np.float32]
Places = NDArray[np.intp]
Inverse = Callable[[Floats], Floats]

_FREQUENCIES: Final = 16  # along a side of PDQ's transform
_PHASH: Final = 8
_WEIGHTS: Final = (0.3, 1.0, 3.0, 10.0)  # of the ridge, for each known bit
_BATCH: Final = 128
_LOOK: Final = 40  # steps of training between looks at what was held aside


@dataclass(frozen=True)
class Lessons:
    """What an inverse learns from.

    `known` is float32 (n, bits), `pictures` float32 (n, 1024); `aside`, bool (n,), marks crops of
    photos that choose between inverses and are not fitted to.
    """

    known: Floats
    pictures: Floats
    aside: NDArray[np.bool_]


def unit(rows: Floats) -> Floats:
    """Give rows of mean 0 and length 1."""
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def signs(packed: NDArray[np.uint8]) -> Floats:
    """See packed bits as -1 and 1: float32 (…, bits)."""
    return np.unpackbits(packed, axis=-1).astype(np.float32) * 2 - 1


def judge(guess: Floats, truth: Floats, photos: Places) -> dict[str, float]:
    """Compare guesses with the true thumbnails: each with its own, and with all.

    Args:
        guess: float32 (n, 1024).
        truth: float32 (n, 1024), rows of mean 0 and length 1.
        photos: intp (n,), of which photo each is.

    Returns:
        The median correlation with the own thumbnail; the share of guesses whose own thumbnail is
        nearer than all others, and of those whose nearest is one of the same photo.
    """
    alike = unit(guess) @ truth.T
    own = np.diag(alike)
    first = (alike >= own[:, None]).sum(axis=1) == 1
    photo = photos[alike.argmax(axis=1)] == photos
    # a guess that says nothing is as near to all
    photo &= np.ptp(alike, axis=1) > 1e-6
    return {
        "correlation": float(np.median(own)),
        "first": float(first.mean()),
        "photo": float(photo.mean()),
    }


def waves() -> Floats:
    """Draw what each bit of a PDQ hash tells of: float32 (256, 1024), in the order of the bits.

    Each wave has the strength that its frequency has in photos at large, which falls as 1 / f
    (Field, "Relations between the statistics of natural images and the response properties of
    cortical cells", 1987). Bit 255, which comes first, tells of the highest frequencies.
    """
    return _drawn(np.arange(1, _FREQUENCIES + 1))[::-1].astype(np.float32)


def waves_of_phash() -> Floats:
    """Draw what each bit of ImageHash's `phash` tells of: float32 (64, 1024).

    Its transform has the constant as well, which says nothing of a thumbnail of mean 0.
    """
    return _drawn(np.arange(_PHASH)).astype(np.float32)


def slopes_of_dhash() -> Floats:
    """Draw what each bit of ImageHash's `dhash` tells of: float32 (64, 1024).

    A bit says whether the brightness of 9 x 8 cells rises from one to the next on the right. The
    drawings are the pseudo-inverse of these differences.
    """
    across, down = _boxes(9), _boxes(8)
    steps = np.einsum("ry,cx->rcyx", down, np.diff(across, axis=0)).reshape(64, CELLS)
    return np.linalg.pinv(steps).T.astype(np.float32)


def _drawn(frequencies: NDArray[np.int_]) -> NDArray[np.float64]:
    cells = (np.arange(SIDE) + 0.5) / SIDE
    cosines = np.cos(np.pi * frequencies[:, None] * cells)
    drawn = np.einsum("iy,jx->ijyx", cosines, cosines).reshape(len(frequencies) ** 2, CELLS)
    height = np.hypot(*np.meshgrid(frequencies, frequencies, indexing="ij")).ravel()
    strength = np.divide(1.0, height, out=np.zeros(len(height)), where=height > 0)
    return drawn * strength[:, None]


def _boxes(count: int) -> NDArray[np.float64]:
    """Give the means of a thumbnail's cells over so many equal parts: (count, 32)."""
    edges = np.linspace(0, SIDE, count + 1)
    cells = np.arange(SIDE)
    parts = [
        np.clip(np.minimum(cells + 1, b) - np.maximum(cells, a), 0, 1) for a, b in pairwise(edges)
    ]
    return np.stack(parts) * count / SIDE


def ridge(lessons: Lessons) -> Inverse:
    """Fit a ridge regression from bits to thumbnails.

    Its weight is the one that serves best on the photos held aside; then it is fitted to all.
    """
    known, pictures, aside = lessons.known, lessons.pictures, lessons.aside
    count, bits = known.shape
    rest = ~aside
    # whichever matrix is the smaller: bits by bits, or crops by crops
    if bits <= count:
        gram, target = known.T @ known, known.T @ pictures
        seen = known[aside]
        part, part_target = gram - seen.T @ seen, target - seen.T @ pictures[aside]
    else:
        gram, target = known @ known.T, pictures
        seen = gram[aside][:, rest]
        part, part_target = gram[rest][:, rest], pictures[rest]
    best, chosen = -1.0, _WEIGHTS[0]
    for weight in _WEIGHTS:
        guess = seen @ _solved(part, part_target, weight * bits)
        score = float((unit(guess) * pictures[aside]).sum(axis=1).mean())
        if score > best:
            best, chosen = score, weight
    fitted = _solved(gram, target, chosen * bits)
    if bits > count:
        fitted = known.T @ fitted
    return lambda asked: asked @ fitted


def _solved(gram: Floats, target: Floats, heavy: float) -> Floats:
    return np.linalg.solve(gram + np.float32(heavy) * np.eye(len(gram), dtype=np.float32), target)


def sparing(lessons: Lessons, count: int, *, cost: float, weight: float = 1.0) -> Places:
    """Choose bits from which a linear inverse regains little, one by one.

    Dropped is each time the bit whose loss takes most from what the ridge explains of all
    thumbnails, which follows from the inverse of its matrix: |w|² / p, as in Hassibi and Stork's
    "Second order derivatives for network pruning: Optimal Brain Surgeon" (1993). Bits that go
    together with others are dropped sooner as `cost` grows: they make distances of strangers vary,
    and hence candidates.

    Args:
        lessons: of whole hashes, (n, 256).
        count: how many bits to leave.
        cost: what a bit's correlations with the others weigh against what it explains.
        weight: of the ridge, for each bit.

    Returns:
        intp (count,): places in the unpacked hash, ascending.
    """
    known = lessons.known.astype(np.float64)
    gram = known.T @ known
    together = (gram / len(known)) ** 2
    np.fill_diagonal(together, 0.0)
    heavy = weight * known.shape[1]
    inverted = np.linalg.inv(gram + heavy * np.eye(len(gram)))
    weights = inverted @ (known.T @ lessons.pictures)
    left = np.ones(len(gram), dtype=bool)
    for _ in range(len(gram) - count):
        explains = (weights**2).sum(axis=1) / np.maximum(np.diag(inverted), 1e-12)
        score = explains / len(known) + cost * together[:, left].sum(axis=1) / left.sum()
        score[~left] = -1.0
        bit = int(score.argmax())
        column = inverted[:, bit] / inverted[bit, bit]
        weights -= np.outer(column, weights[bit])
        inverted -= np.outer(column, inverted[bit])
        left[bit] = False
        inverted[bit] = inverted[:, bit] = 0.0
        weights[bit] = 0.0
    return np.flatnonzero(left)


def network_installed() -> bool:
    """Tell whether a network can be trained here: it needs the package `jax`."""
    return importlib.util.find_spec("jax") is not None


def network(lessons: Lessons, steps: int, seed: int) -> Inverse:
    """Train a small convolutional network from bits to thumbnails.

    Two full layers make 8 x 8 cells of 32 values, three layers of 3 x 3 convolutions make of each
    cell 4 x 4 pixels. It maximises the correlation by Adam (Kingma and Ba, 2015), with a tenth of
    the bits hidden at random; kept is the state that served best on the photos held aside.

    Args:
        lessons: what to learn from.
        steps: of 128 crops each.
        seed: of the first state, the order of crops and the hidden bits.

    Raises:
        ImportError: `jax` is not installed.
    """
    import jax
    import jax.numpy as jnp

    random = np.random.default_rng(seed)
    bits = lessons.known.shape[1]
    shapes = ((bits, 512), (512, 2048), (3, 3, 32, 48), (3, 3, 48, 48), (3, 3, 48, 16))
    state = [
        jnp.asarray(random.normal(0, math.sqrt(2 / math.prod(s[:-1])), s), jnp.float32)
        for s in shapes
    ]

    def guess(state: list[Any], known: Any) -> Any:  # noqa: ANN401 - arrays of jax
        one, two, *convolutions = state
        # scaled, so that some hashes of a set that are missing do not weaken the first layer
        seen = jnp.maximum((known != 0).mean(axis=1, keepdims=True), 0.05)
        values = jax.nn.relu((known / jnp.sqrt(seen)) @ one)
        values = jax.nn.relu(values @ two).reshape(-1, 8, 8, 32)
        for number, layer in enumerate(convolutions):
            values = jax.lax.conv_general_dilated(
                values, layer, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            if number < 2:
                values = jax.nn.relu(values)
        cells = values.reshape(-1, 8, 8, 4, 4).transpose(0, 1, 3, 2, 4).reshape(-1, CELLS)
        cells = cells - cells.mean(axis=1, keepdims=True)
        return cells / jnp.sqrt((cells**2).sum(axis=1, keepdims=True) + 1e-6)

    def loss(state: list[Any], known: Any, pictures: Any) -> Any:  # noqa: ANN401
        return 1 - (guess(state, known) * pictures).sum(axis=1).mean()

    @jax.jit
    def step(state: Any, mean: Any, square: Any, at: Any, known: Any, pictures: Any) -> Any:  # noqa: ANN401
        slope = jax.grad(loss)(state, known, pictures)
        mean = [0.9 * m + 0.1 * g for m, g in zip(mean, slope, strict=True)]
        square = [0.999 * s + 0.001 * g * g for s, g in zip(square, slope, strict=True)]
        rate = 1e-3 * 0.5 * (1 + jnp.cos(jnp.pi * at / steps))
        move = [
            rate * (m / (1 - 0.9**at)) / (jnp.sqrt(s / (1 - 0.999**at)) + 1e-8)
            for m, s in zip(mean, square, strict=True)
        ]
        return [p - d for p, d in zip(state, move, strict=True)], mean, square

    told = jax.jit(guess)
    mean = square = [jnp.zeros_like(one) for one in state]
    mine, other = np.flatnonzero(~lessons.aside), np.flatnonzero(lessons.aside)
    best, kept = -1.0, state
    for at in range(1, steps + 1):
        some = random.choice(mine, _BATCH)
        known = lessons.known[some] * (random.random((_BATCH, bits)) > 0.1)
        state, mean, square = step(
            state, mean, square, float(at), known.astype(np.float32), lessons.pictures[some]
        )
        if at % _LOOK == 0 or at == steps:
            found = np.asarray(told(state, lessons.known[other]))
            score = float((found * lessons.pictures[other]).sum(axis=1).mean())
            if score > best:
                best, kept = score, state
    return lambda asked: np.asarray(told(kept, asked))
