"""Attacks that reconstruct a picture from the hashes of a set of variants.

Each is fitted to the same training crops for every set, and reconstructs 64 x 64 cells of luma:

- `AllBits`: one ridge regression from all bits of the set to the picture.
- `Windows`: one ridge regression per view, from its 256 bits to the thumbnail of what it shows;
  the thumbnails are pasted where they belong, averaged with the precision they had on validation
  photos.
- `Consistent`: the most probable picture whose coefficients have the signs of the bits,
  under a normal prior fitted to the training crops (probit likelihood, accelerated gradient
  ascent). This is the usual way to reconstruct from one-bit measurements.

An attacker who does not know which hash is of which view assigns them: he reconstructs from the
original's hash, predicts the hash of every view, assigns the hashes so that the predictions agree
best, reconstructs from all, and repeats.
"""

import math
from dataclasses import dataclass
from typing import Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft, optimize, special

from benchmarks.inversion import inverses
from benchmarks.inversion.inverses import Inverse, TrainingSet
from benchmarks.inversion.sets import NAMES, SIDE, Floats, HashedCrops
from benchmarks.inversion.views import BITS, PART, PictureView

SEPARATE: Final = 8  # one photo in this many is for validation
_CELLS: Final = SIDE * SIDE
_SAMPLE: Final = 300  # crops from which the spread of coefficients is computed
_PASSES: Final = 3  # of pasting
_ASSIGNMENTS: Final = 3  # at most
_POWER: Final = 5  # steps that bound the curvature
_STAGES: Final = 4  # of decreasing noise
_NOISE: Final = 1.0  # of the first stage
_ROOT: Final = math.sqrt(2 * math.pi)


@dataclass(frozen=True, eq=False)
class Target:
    """The pictures to reconstruct, as the attacker knows them.

    Attributes:
        views: what each variant shows of each picture.
        bits: float32 (n, views, 256): -1 and 1, and 0 where there is no hash.
    """

    views: list[PictureView]
    bits: Floats

    def first_alone(self) -> "Target":
        """Return the same with no hash but the original's."""
        alone = np.zeros_like(self.bits)
        alone[:, 0] = self.bits[:, 0]
        return Target(self.views, alone)


class Attack(Protocol):
    """A fitted attack."""

    def reconstruct(self, target: Target) -> Floats:
        """Return the reconstructed pictures, float32 (n, 64, 64), luma from 0 to 1."""


def target(crops: HashedCrops, which: str) -> Target:
    """Return the hashes of a set, of crops whose views are known."""
    return Target([PictureView(name, crops.shapes) for name in NAMES[which]], crops.bits[which])


def validation(crops: HashedCrops) -> NDArray[np.bool_]:
    """Return which crops select between parameters."""
    return crops.photo % SEPARATE == 0


def spread(crops: HashedCrops, which: str) -> Floats:
    """Return the standard deviation of each coefficient of each view: (views, 16, 16)."""
    sample = crops.only(np.arange(0, len(crops), max(1, len(crops) // _SAMPLE)))
    views = [PictureView(name, sample.shapes) for name in NAMES[which]]
    return np.array([view.coefficients(sample.pictures).std(axis=0) for view in views])


class AllBits:
    """One ridge regression from all bits of a set."""

    def __init__(self, crops: HashedCrops, which: str) -> None:
        # in 32 x 32 cells, which cost a quarter; it recovers nothing finer
        coarse = crops.pictures.reshape(-1, PART, SIDE // PART, PART, SIDE // PART)
        pictures = inverses.unit(coarse.mean(axis=(2, 4)).reshape(len(crops), -1))
        known = crops.bits[which].reshape(len(crops), -1)
        self._inverse = inverses.ridge(TrainingSet(known, pictures, validation(crops)))
        self._luma = float(crops.pictures.mean())
        self._contrast = float(crops.pictures.std(axis=(1, 2)).mean())

    def reconstruct(self, target: Target) -> Floats:
        """Return the reconstructed pictures, with the contrast that is usual."""
        coarse = self._inverse(target.bits.reshape(len(target.bits), -1)).reshape(-1, PART, PART)
        guess = np.array([cv2.resize(one, (SIDE, SIDE)) for one in coarse])
        flat = _standard(guess.reshape(len(guess), -1))
        return (flat * self._contrast + self._luma).reshape(-1, SIDE, SIDE)


class Windows:
    """One ridge regression per view; the thumbnails are pasted and averaged."""

    def __init__(self, crops: HashedCrops, which: str) -> None:
        held = validation(crops)
        self._inverses, self._precision = list[Inverse](), list[float]()
        self._luma = float(crops.pictures.mean())
        self._contrast = float(crops.pictures.std(axis=(1, 2)).mean())
        for column, name in enumerate(NAMES[which]):
            bits = crops.bits[which][:, column]
            present = bits[:, 0] != 0
            view = PictureView(name, crops.shapes[present])
            known = view.upright(bits[present]).reshape(-1, BITS * BITS)
            parts = inverses.unit(view.part(crops.pictures[present]).reshape(len(known), -1))
            training = TrainingSet(known, parts, held[present])
            self._inverses.append(inverses.ridge(training))
            rest = TrainingSet(known[~held[present]], parts[~held[present]], held[present][:0])
            self._precision.append(self._tested(view, rest, known, crops.only(present)))

    def _tested(
        self, view: PictureView, rest: TrainingSet, known: Floats, crops: HashedCrops
    ) -> float:
        """Return 1 / the variance of the error on validation photos, where the view pastes."""
        held = validation(crops)
        # few bits a part: any penalty near the chosen one has the same error
        inverse = inverses.ridge(
            TrainingSet(rest.known, rest.pictures, np.arange(len(rest.known)) % SEPARATE == 0)
        )
        parts = inverse(known).reshape(-1, PART, PART)
        pasted, covers = view.paste(parts)
        truth = _standard(crops.pictures.reshape(len(crops), -1)).reshape(-1, SIDE, SIDE)
        pasted = _fitted(pasted, truth, covers)
        error = ((pasted - truth)[held] ** 2)[np.broadcast_to(covers, truth.shape)[held]]
        return 1 / float(error.mean())

    def reconstruct(self, target: Target) -> Floats:
        """Return the reconstructed pictures, with the contrast that is usual."""
        pasted = list[tuple[Floats, NDArray[np.bool_], Floats]]()
        for column, (view, inverse) in enumerate(zip(target.views, self._inverses, strict=True)):
            bits = target.bits[:, column]
            known = view.upright(bits).reshape(-1, BITS * BITS)
            part, covers = view.paste(inverse(known).reshape(-1, PART, PART))
            weight = self._precision[column] * (bits[:, 0] != 0)[:, None, None] * covers
            pasted.append((part, covers, np.asarray(weight, np.float32)))
        found = pasted[0][0]
        for _ in range(_PASSES):
            found = _standard(found.reshape(len(found), -1)).reshape(-1, SIDE, SIDE)
            total = sum(weight for _, _, weight in pasted)
            mean = sum(_fitted(p, found, c) * w for p, c, w in pasted) / np.maximum(total, 1e-6)
            found = np.asarray(mean, np.float32)
        flat = _standard(found.reshape(len(found), -1))
        return (flat * self._contrast + self._luma).reshape(-1, SIDE, SIDE)


def _standard(rows: Floats) -> Floats:
    """Return rows of mean 0 and standard deviation 1."""
    return inverses.unit(rows) * np.float32(np.sqrt(rows.shape[1]))


def _fitted(parts: Floats, whole: Floats, covers: NDArray[np.bool_]) -> Floats:
    """Return pasted parts with the mean and the contrast that the whole has there."""
    count = covers.sum(axis=(1, 2), keepdims=True)

    def moments(values: Floats) -> tuple[Floats, Floats]:
        mean = (values * covers).sum(axis=(1, 2), keepdims=True) / count
        return mean, np.sqrt(
            ((values - mean) ** 2 * covers).sum(axis=(1, 2), keepdims=True) / count
        )

    (mean, deviation), (part_mean, part_deviation) = moments(whole), moments(parts)
    scale = deviation / np.maximum(part_deviation, 1e-6)
    return np.asarray((parts - part_mean) * scale + mean, np.float32)


@dataclass(frozen=True)
class Options:
    """Parameters of `Consistent`.

    Attributes:
        noise: standard deviation of a coefficient's error, relative to that between pictures.
        steps: of gradient ascent, in `_STAGES` of equal length.
    """

    noise: float
    steps: int = 60


class Consistent:
    """The most probable picture whose coefficients have the signs of the bits."""

    def __init__(self, crops: HashedCrops, which: str, options: Options) -> None:
        self._mean = crops.pictures.mean(axis=0)
        waves = fft.dctn(crops.pictures - self._mean, axes=(1, 2), norm="ortho")
        self._deviation = np.sqrt((waves**2).mean(axis=0)).astype(np.float32)
        self._options = options
        self._spread = spread(crops, which)

    def _picture(self, state: Floats) -> Floats:
        waves = state * self._deviation
        return np.asarray(fft.idctn(waves, axes=(1, 2), norm="ortho"), np.float32)

    def _state(self, slope: Floats) -> Floats:
        waves = fft.dctn(slope, axes=(1, 2), norm="ortho")
        return np.asarray(waves * self._deviation, np.float32)

    def reconstruct(self, target: Target) -> Floats:
        """Return the reconstructed pictures."""
        signs = [view.upright(target.bits[:, i]) for i, view in enumerate(target.views)]
        curvature = self._curvature(target, signs)
        state = np.zeros((len(target.bits), SIDE, SIDE), np.float32)
        # from much noise to little, which needs far fewer steps than little from the beginning
        for noise in np.geomspace(max(_NOISE, self._options.noise), self._options.noise, _STAGES):
            step = np.asarray(1 / (curvature / noise**2 + 1), np.float32)
            scale = [np.float32(1 / noise) / spread for spread in self._spread]
            state = self._ascended(target, signs, scale, state, step)
        return self._picture(state) + self._mean

    def _ascended(
        self,
        target: Target,
        signs: list[Floats],
        scale: list[Floats],
        state: Floats,
        step: Floats,
    ) -> Floats:
        """Return the state after some steps of Nesterov's accelerated gradient ascent."""
        ahead, momentum = state, 1.0
        for _ in range(self._options.steps // _STAGES):
            pictures = self._picture(ahead) + self._mean
            slope = np.zeros_like(pictures)
            for view, sign, by in zip(target.views, signs, scale, strict=True):
                if sign.any():
                    margin = np.clip(sign * view.coefficients(pictures) * by, -6, 6)
                    pull = np.exp(-(margin**2) / 2) / (special.ndtr(margin) * _ROOT)
                    slope += view.transposed(np.asarray(pull * sign * by, np.float32))
            following = ahead + step * (self._state(slope) - ahead)
            after = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
            ahead = following + np.float32((momentum - 1) / after) * (following - state)
            state, momentum = following, after
        return state

    def _curvature(self, target: Target, signs: list[Floats]) -> Floats:
        """Return a bound on the curvature of each log likelihood with noise 1: (n, 1, 1)."""
        noise = np.random.default_rng(0).normal(size=(len(target.bits), SIDE, SIDE))
        state = noise.astype(np.float32)
        norm = np.ones((len(state), 1, 1), np.float32)
        for _ in range(_POWER):
            pictures = self._picture(state / np.maximum(norm, 1e-9))
            slope = np.zeros_like(pictures)
            for view, sign, spread in zip(target.views, signs, self._spread, strict=True):
                seen = view.coefficients(pictures) - view.border
                slope += view.transposed(seen / spread**2 * np.abs(sign))
            state = self._state(slope)
            norm = np.linalg.norm(state, axis=(1, 2), keepdims=True)
        return 1.3 * norm


def assigned(target: Target, shuffled: Floats, guess: Floats, spread: Floats) -> Floats:
    """Assign hashes to views so that they agree best with the views of a reconstruction.

    Args:
        target: the views.
        shuffled: float32 (n, views, 256), the hashes in any order, the original's first.
        guess: float32 (n, 64, 64), the reconstruction.
        spread: float32 (views, 16, 16), the usual deviation of each coefficient; bits whose
            predicted coefficient is far from the median weigh more.

    Returns:
        The hashes in the order of the views, as `Target.bits`.
    """
    predicted = []
    for view, deviation in zip(target.views, spread, strict=True):
        coefficients = view.in_hash_order(view.coefficients(guess))
        usual = view.in_hash_order(np.abs(deviation)[None] * np.ones_like(guess[:, :BITS, :BITS]))
        middle = np.median(coefficients, axis=1, keepdims=True)
        predicted.append(2 * special.ndtr((coefficients - middle) / np.abs(usual)) - 1)
    agreement = shuffled @ np.stack(predicted, axis=1).transpose(0, 2, 1)
    found = np.zeros_like(shuffled)
    found[:, 0] = shuffled[:, 0]
    for bits, ordered, scores in zip(shuffled, found, agreement, strict=True):
        rows = np.flatnonzero(bits[1:, 0]) + 1
        chosen, columns = optimize.linear_sum_assignment(scores[rows, 1:], maximize=True)
        ordered[columns + 1] = bits[rows[chosen]]
    return found


def reconstruct_unordered(
    attack: Attack, target: Target, spread: Floats, seed: int
) -> tuple[Floats, float]:
    """Reconstruct pictures from hashes in unknown order, but for the original's, which is first.

    Args:
        attack: fitted to the set.
        target: the hashes in the order of the views; they are shuffled here.
        spread: as in `assigned`.
        seed: of the shuffling.

    Returns:
        The pictures, and the share of hashes that were assigned to their own view.
    """
    rng = np.random.default_rng(seed)
    shuffled = target.bits.copy()
    for bits in shuffled:
        bits[1:] = rng.permutation(bits[1:])
    guess = attack.reconstruct(target.first_alone())
    ordered = shuffled
    for _ in range(_ASSIGNMENTS):
        before, ordered = ordered, assigned(target, shuffled, guess, spread)
        if np.array_equal(before, ordered):
            break
        guess = attack.reconstruct(Target(target.views, ordered))
    present = target.bits[:, 1:, 0] != 0
    right = (ordered[:, 1:] == target.bits[:, 1:]).all(axis=2)[present]
    return guess, float(right.mean())
