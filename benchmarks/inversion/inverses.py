"""Inverses: functions that reconstruct a thumbnail from the bits of hashes.

A thumbnail is the brightness of a picture in 32 x 32 cells, as a row of 1,024 numbers of mean 0 and
length 1. The known bits of a hash are a row of -1 and 1, and 0 where a bit is unknown.
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
Positions = NDArray[np.intp]
Inverse = Callable[[Floats], Floats]

_FREQUENCIES: Final = 16  # along a side of PDQ's DCT block
_PHASH: Final = 8
_WEIGHTS: Final = (0.3, 1.0, 3.0, 10.0)  # ridge penalties to try, per known bit
_BATCH: Final = 128
_EVALUATE_EVERY: Final = 40  # training steps between evaluations on the validation photos


@dataclass(frozen=True)
class TrainingSet:
    """The data that an inverse is fitted to.

    `known` is float32 (n, bits), `pictures` float32 (n, 1024); `validation`, bool (n,), marks crops
    of photos that select between inverses and are not fitted to.
    """

    known: Floats
    pictures: Floats
    validation: NDArray[np.bool_]


def unit(rows: Floats) -> Floats:
    """Normalise rows to mean 0 and length 1."""
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def signs(packed: NDArray[np.uint8]) -> Floats:
    """Unpack bits to -1 and 1: float32 (…, bits)."""
    return np.unpackbits(packed, axis=-1).astype(np.float32) * 2 - 1


def evaluate(guess: Floats, truth: Floats, photos: Positions) -> dict[str, float]:
    """Compare each reconstruction with its true thumbnail, and with all others.

    Args:
        guess: reconstructions, float32 (n, 1024).
        truth: float32 (n, 1024), rows of mean 0 and length 1.
        photos: intp (n,), the photo that each row is from.

    Returns:
        `correlation`, the median with the true thumbnail; `first`, the share of reconstructions
        that are nearer to their true thumbnail than to all others; and `photo`, the share whose
        nearest thumbnail is of the same photo.
    """
    similarity = unit(guess) @ truth.T
    own = np.diag(similarity)
    first = (similarity >= own[:, None]).sum(axis=1) == 1
    photo = photos[similarity.argmax(axis=1)] == photos
    # a constant reconstruction is equally near to all
    photo &= np.ptp(similarity, axis=1) > 1e-6
    return {
        "correlation": float(np.median(own)),
        "first": float(first.mean()),
        "photo": float(photo.mean()),
    }


def waves() -> Floats:
    """Return the cosine wave of each bit of a PDQ hash: float32 (256, 1024), in the order of bits.

    Each wave has the typical amplitude of its frequency in natural images, which falls as 1 / f
    (Field, "Relations between the statistics of natural images and the response properties of
    cortical cells", 1987). Bit 255, which comes first, is of the highest frequencies.
    """
    return _cosine_waves(np.arange(1, _FREQUENCIES + 1))[::-1].astype(np.float32)


def waves_of_phash() -> Floats:
    """Return the cosine wave of each bit of ImageHash's `phash`: float32 (64, 1024).

    Its DCT block includes the constant term, which is 0 in a thumbnail of mean 0.
    """
    return _cosine_waves(np.arange(_PHASH)).astype(np.float32)


def patterns_of_dhash() -> Floats:
    """Return the pattern of each bit of ImageHash's `dhash`: float32 (64, 1024).

    A bit is 1 where the brightness of 9 x 8 cells rises from a cell to its right neighbour. The
    patterns are the pseudo-inverse of these differences.
    """
    across, down = _boxes(9), _boxes(8)
    steps = np.einsum("ry,cx->rcyx", down, np.diff(across, axis=0)).reshape(64, CELLS)
    return np.linalg.pinv(steps).T.astype(np.float32)


def _cosine_waves(frequencies: NDArray[np.int_]) -> NDArray[np.float64]:
    cells = (np.arange(SIDE) + 0.5) / SIDE
    cosines = np.cos(np.pi * frequencies[:, None] * cells)
    waves = np.einsum("iy,jx->ijyx", cosines, cosines).reshape(len(frequencies) ** 2, CELLS)
    frequency = np.hypot(*np.meshgrid(frequencies, frequencies, indexing="ij")).ravel()
    amplitude = np.divide(1.0, frequency, out=np.zeros(len(frequency)), where=frequency > 0)
    return waves * amplitude[:, None]


def _boxes(count: int) -> NDArray[np.float64]:
    """Return the matrix that averages a thumbnail's cells over `count` equal parts: (count, 32)."""
    edges = np.linspace(0, SIDE, count + 1)
    cells = np.arange(SIDE)
    parts = [
        np.clip(np.minimum(cells + 1, b) - np.maximum(cells, a), 0, 1) for a, b in pairwise(edges)
    ]
    return np.stack(parts) * count / SIDE


def ridge(training: TrainingSet) -> Inverse:
    """Fit a ridge regression from bits to thumbnails.

    The penalty is the one that scores best on the validation photos; then it is fitted to all.
    """
    known, pictures, validation = training.known, training.pictures, training.validation
    count, bits = known.shape
    rest = ~validation
    # solve with the smaller matrix: bits by bits, or crops by crops
    if bits <= count:
        gram, target = known.T @ known, known.T @ pictures
        seen = known[validation]
        part, part_target = gram - seen.T @ seen, target - seen.T @ pictures[validation]
    else:
        gram, target = known @ known.T, pictures
        seen = gram[validation][:, rest]
        part, part_target = gram[rest][:, rest], pictures[rest]
    best, chosen = -1.0, _WEIGHTS[0]
    for weight in _WEIGHTS:
        guess = seen @ _solve(part, part_target, weight * bits)
        score = float((unit(guess) * pictures[validation]).sum(axis=1).mean())
        if score > best:
            best, chosen = score, weight
    fitted = _solve(gram, target, chosen * bits)
    if bits > count:
        fitted = known.T @ fitted
    return lambda queries: queries @ fitted


def _solve(gram: Floats, target: Floats, penalty: float) -> Floats:
    return np.linalg.solve(gram + np.float32(penalty) * np.eye(len(gram), dtype=np.float32), target)


def select_bits(
    training: TrainingSet, count: int, *, cost: float, weight: float = 1.0
) -> Positions:
    """Select bits from which a linear inverse recovers little, by greedy elimination.

    Each step drops the bit that contributes most to what the ridge regression explains of all
    thumbnails, which follows from the inverse of its matrix: |w|² / p, as in Hassibi and Stork's
    "Second order derivatives for network pruning: Optimal Brain Surgeon" (1993). With a larger
    `cost`, bits that correlate with others are dropped sooner: they increase the variance of the
    distances between unrelated hashes, and so the number of candidates.

    Args:
        training: whole hashes, (n, 256).
        count: number of bits to keep.
        cost: weight of a bit's correlations with the others, relative to what it explains.
        weight: ridge penalty per bit.

    Returns:
        intp (count,): positions in the unpacked hash, ascending.
    """
    known = training.known.astype(np.float64)
    gram = known.T @ known
    correlated = (gram / len(known)) ** 2
    np.fill_diagonal(correlated, 0.0)
    penalty = weight * known.shape[1]
    inverted = np.linalg.inv(gram + penalty * np.eye(len(gram)))
    weights = inverted @ (known.T @ training.pictures)
    kept = np.ones(len(gram), dtype=bool)
    for _ in range(len(gram) - count):
        explains = (weights**2).sum(axis=1) / np.maximum(np.diag(inverted), 1e-12)
        score = explains / len(known) + cost * correlated[:, kept].sum(axis=1) / kept.sum()
        score[~kept] = -1.0
        bit = int(score.argmax())
        column = inverted[:, bit] / inverted[bit, bit]
        weights -= np.outer(column, weights[bit])
        inverted -= np.outer(column, inverted[bit])
        kept[bit] = False
        inverted[bit] = inverted[:, bit] = 0.0
        weights[bit] = 0.0
    return np.flatnonzero(kept)


def network_installed() -> bool:
    """Whether the package `jax` is installed, which training a network needs."""
    return importlib.util.find_spec("jax") is not None


def network(training: TrainingSet, steps: int, seed: int) -> Inverse:
    """Train a small convolutional network from bits to thumbnails.

    Two fully connected layers produce 8 x 8 cells of 32 values, three layers of 3 x 3 convolutions
    turn each cell into 4 x 4 pixels. The correlation is maximised with Adam (Kingma and Ba, 2015)
    and dropout of a tenth of the input bits; the state that scores best on the validation photos
    is kept.

    Args:
        training: the data to fit.
        steps: training steps, of 128 crops each.
        seed: of the initial state, the order of crops and the dropout.

    Raises:
        ImportError: `jax` is not installed.
    """
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(seed)
    bits = training.known.shape[1]
    shapes = ((bits, 512), (512, 2048), (3, 3, 32, 48), (3, 3, 48, 48), (3, 3, 48, 16))
    state = [
        jnp.asarray(rng.normal(0, math.sqrt(2 / math.prod(s[:-1])), s), jnp.float32) for s in shapes
    ]

    def guess(state: list[Any], known: Any) -> Any:  # noqa: ANN401 - arrays of jax
        one, two, *convolutions = state
        # scaled, so that missing hashes of a set do not weaken the first layer
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
    def step(state: Any, mean: Any, square: Any, number: Any, known: Any, pictures: Any) -> Any:  # noqa: ANN401
        slope = jax.grad(loss)(state, known, pictures)
        mean = [0.9 * m + 0.1 * g for m, g in zip(mean, slope, strict=True)]
        square = [0.999 * s + 0.001 * g * g for s, g in zip(square, slope, strict=True)]
        rate = 1e-3 * 0.5 * (1 + jnp.cos(jnp.pi * number / steps))
        move = [
            rate * (m / (1 - 0.9**number)) / (jnp.sqrt(s / (1 - 0.999**number)) + 1e-8)
            for m, s in zip(mean, square, strict=True)
        ]
        return [p - d for p, d in zip(state, move, strict=True)], mean, square

    predict = jax.jit(guess)
    mean = square = [jnp.zeros_like(one) for one in state]
    fitted, validation = np.flatnonzero(~training.validation), np.flatnonzero(training.validation)
    best, best_state = -1.0, state
    for number in range(1, steps + 1):
        batch = rng.choice(fitted, _BATCH)
        known = training.known[batch] * (rng.random((_BATCH, bits)) > 0.1)
        state, mean, square = step(
            state, mean, square, float(number), known.astype(np.float32), training.pictures[batch]
        )
        if number % _EVALUATE_EVERY == 0 or number == steps:
            found = np.asarray(predict(state, training.known[validation]))
            score = float((found * training.pictures[validation]).sum(axis=1).mean())
            if score > best:
                best, best_state = score, state
    return lambda queries: np.asarray(predict(best_state, queries))
