"""The lower tail of the distances between different pictures, fitted and extrapolated.

The data are, for ordered pairs of a query and a picture of the bank that show different things, the
smallest distance of any of their hashes. Their number falls with the distance so fast that the
distances that count as matches are never reached; so a curve is fitted to the smallest distances
that were observed, and extended to those that were not.

Two curves are fitted to the logarithm of the expected number of pairs at each distance: a straight
line, and a parabola that may bend downwards only. The lower tail of every binomial distribution
bends downwards, so the line errs towards too many matches. The upper bound is taken from the larger
of the two.

Pairs that share a picture are not independent. So intervals are computed by resampling pictures
(sources, of which several pictures may have been cut), not pairs.

Everything in this file was fixed before the distances that it judges were measured.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

BITS: Final = 256
CHECKED: Final = (40, 48, 56, 60)  # distances at which predictions are compared with observations
CHECKED_ALIGNED: Final = (20, 24, 28, 32, 36, 40)  # the same, for distances after aligning
UPLOADS: Final = 10**6
BANK: Final = 10**6  # photos
LEVEL: Final = 0.95  # of the one-sided upper bound
RESAMPLES: Final = 1000

_EVENTS_MIN: Final = 10  # pairs; with fewer, no curve is fitted
_EVENTS_MAX: Final = 2000  # pairs; the curve is fitted to the smallest distances only
_SHARE: Final = 0.25  # of all distances that were measured, for the same reason
_STEPS: Final = 60  # of Newton's method
_RULE_OF_THREE: Final = -math.log(1 - LEVEL)


@dataclass(frozen=True, slots=True, eq=False)
class Distances:
    """The smallest distance of each pair of different pictures, where it is small.

    Attributes:
        queries: int (n,), the source of each pair's query.
        banks: int (n,), the source of its picture in the bank.
        bits: int (n,), the distance.
        sizes: int (sources,), how many pictures each source has. Pairs of pictures from the same
            source are in neither `bits` nor the number of pairs.
        highest: all pairs up to this distance are in `bits`.
    """

    queries: NDArray[np.intp]
    banks: NDArray[np.intp]
    bits: NDArray[np.intp]
    sizes: NDArray[np.int64]
    highest: int

    def pairs(self, weights: NDArray[np.float64] | None = None) -> float:
        """Return the number of ordered pairs of pictures from different sources."""
        sizes = self.sizes if weights is None else self.sizes * weights
        return float(sizes.sum() ** 2 - (sizes.astype(np.float64) ** 2).sum())

    def counts(self, weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Return the number of pairs at each distance from 0 to `highest`, float64."""
        each = None if weights is None else weights[self.queries] * weights[self.banks]
        counts = np.bincount(self.bits, weights=each, minlength=self.highest + 1)
        return counts[: self.highest + 1].astype(np.float64)

    def of(self, sources: NDArray[np.bool_]) -> "Distances":
        """Return the pairs both of whose pictures are from some of the sources."""
        kept = sources[self.queries] & sources[self.banks]
        sizes = np.where(sources, self.sizes, 0)
        return Distances(self.queries[kept], self.banks[kept], self.bits[kept], sizes, self.highest)


@dataclass(frozen=True, slots=True)
class Tail:
    """A fitted curve: the expected number of pairs at distance d, per pair.

    Its logarithm is `level + slope * (d - top) + bend * (d - top)**2`.

    Attributes:
        top: the largest distance that it was fitted to.
        level, slope, bend: its coefficients; `bend` is at most 0.
    """

    top: int
    level: float
    slope: float
    bend: float

    def at(self, bits: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the expected number of pairs at distances, per pair, float64."""
        x = np.asarray(bits, np.float64) - self.top
        return np.exp(np.clip(self.level + self.slope * x + self.bend * x * x, -700, 0))

    def within(self, bits: int) -> float:
        """Return the expected number of pairs at most this far apart, per pair."""
        return float(self.at(np.arange(bits + 1)).sum())


@dataclass(frozen=True, slots=True)
class Rate:
    """How many pairs of different pictures match, of all pairs.

    Attributes:
        threshold: bits; pairs within it match.
        pairs: ordered pairs that were measured.
        observed: how many of them matched.
        line, parabola: the rates by the two curves; None if too few small distances were observed.
        upper: upper bound at `LEVEL` by resampling sources, from the larger curve; never below the
            bound from the observed matches alone.
        rule_of_three: bound from the observed matches alone, as if pairs were independent.
    """

    threshold: int
    pairs: float
    observed: int
    line: float | None
    parabola: float | None
    upper: float
    rule_of_three: float


def halves(sources: Sequence[str]) -> NDArray[np.bool_]:
    """Return which sources are in the half that curves are fitted on; the others check them.

    The halves depend on the names only, so that nothing measured can influence them.
    """
    digests = [hashlib.sha256(source.encode()).digest() for source in sources]
    order = sorted(range(len(sources)), key=digests.__getitem__)
    fitted = np.zeros(len(sources), np.bool_)
    fitted[order[::2]] = True
    return fitted


def top_of(counts: NDArray[np.float64]) -> int:
    """Return the largest distance to fit: the smallest with enough pairs up to it."""
    wanted = min(_EVENTS_MAX, max(_EVENTS_MIN, _SHARE * counts.sum()))
    return min(int(np.searchsorted(counts.cumsum(), wanted)), len(counts) - 1)


def fit(counts: NDArray[np.float64], pairs: float, top: int, *, bends: bool) -> Tail | None:
    """Fit a curve to the number of pairs at each distance up to `top`, by maximum likelihood.

    The numbers are taken as Poisson distributed; distances without a pair count as well.

    Args:
        counts: float64 (highest + 1,), the number of pairs at each distance.
        pairs: how many pairs were measured.
        top: the largest distance to fit.
        bends: fit a parabola instead of a line. If it would bend upwards, the line is returned.

    Returns:
        None if there are fewer than ten pairs, or all are at `top`, so that nothing is known of the
        slope.
    """
    observed = counts[: top + 1]
    if observed.sum() < _EVENTS_MIN or observed[:-1].sum() == 0:
        return None
    x = np.arange(top + 1, dtype=np.float64) - top
    scale = 10.0  # keeps the columns of comparable size
    columns = np.stack([np.ones_like(x), x / scale, (x / scale) ** 2][: 3 if bends else 2], axis=1)
    solution = _poisson_regression(columns, observed)
    if bends and solution[2] > 0:
        return fit(counts, pairs, top, bends=False)
    level, slope = float(solution[0]) - math.log(pairs), float(solution[1]) / scale
    bend = float(solution[2]) / scale**2 if bends else 0.0
    return Tail(top, level, slope, bend)


def _poisson_regression(
    columns: NDArray[np.float64], observed: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the coefficients of the logarithm of a Poisson mean, by Newton's method.

    A step is halved until the likelihood grows, and a weak prior keeps the coefficients finite.
    """
    prior = np.full(columns.shape[1], 1e-6)

    def likelihood(solution: NDArray[np.float64]) -> float:
        eta = np.clip(columns @ solution, -60, 60)
        return float((observed * eta - np.exp(eta)).sum() - (prior * solution**2).sum() / 2)

    solution = np.zeros(columns.shape[1])
    solution[0] = math.log(max(float(observed[-1]), 0.5))
    solution[1] = 5.0  # half a natural logarithm a bit
    for _ in range(_STEPS):
        mean = np.exp(np.clip(columns @ solution, -60, 60))
        gradient = columns.T @ (observed - mean) - prior * solution
        curvature = (columns.T * mean) @ columns + np.diag(prior)
        step = np.linalg.solve(curvature, gradient)
        before = likelihood(solution)
        while likelihood(solution + step) < before - 1e-9 and np.abs(step).max() > 1e-9:
            step = step / 2
        solution = solution + step
        if np.abs(step).max() < 1e-8:
            break
    return solution


def rate(distances: Distances, threshold: int, *, seed: int = 0) -> Rate:
    """Return how many pairs match, with its upper bound.

    Args:
        distances: of all pairs.
        threshold: bits; pairs within it match.
        seed: of the resampling.
    """
    counts, pairs = distances.counts(), distances.pairs()
    observed = int(counts[: threshold + 1].sum())
    alone = poisson_upper(observed) / pairs
    top = top_of(counts)
    line, parabola = (fit(counts, pairs, top, bends=bends) for bends in (False, True))
    if line is None or parabola is None:
        return Rate(threshold, pairs, observed, None, None, alone, alone)
    upper = max(alone, _resampled_upper(distances, threshold, seed))
    rates = line.within(threshold), parabola.within(threshold)
    return Rate(threshold, pairs, observed, *rates, max(upper, *rates), alone)


def _resampled_upper(distances: Distances, threshold: int, seed: int) -> float:
    """Return the upper bound of the larger curve, by resampling the sources with replacement."""
    rng = np.random.default_rng(seed)
    present = np.flatnonzero(distances.sizes)
    found = []
    for _ in range(RESAMPLES):
        drawn = rng.choice(present, len(present))
        weights = np.bincount(drawn, minlength=len(distances.sizes)).astype(np.float64)
        counts, pairs = distances.counts(weights), distances.pairs(weights)
        top = top_of(counts)
        curves = [fit(counts, pairs, top, bends=bends) for bends in (False, True)]
        found.append(max((curve.within(threshold) for curve in curves if curve), default=0.0))
    return float(np.quantile(found, LEVEL))


def poisson_upper(observed: int) -> float:
    """Return the upper bound of a Poisson mean; 3.0 if nothing was observed."""
    if observed == 0:
        return _RULE_OF_THREE
    low, high = float(observed), observed + 10 * math.sqrt(observed) + 20.0
    for _ in range(100):
        mean = (low + high) / 2
        terms = np.arange(observed + 1)
        logs = terms * math.log(mean) - mean - np.array([math.lgamma(k + 1) for k in terms])
        low, high = (mean, high) if np.exp(logs).sum() > 1 - LEVEL else (low, mean)
    return high


@dataclass(frozen=True, slots=True)
class Prediction:
    """The number of pairs within a distance: predicted from one half, observed in the other.

    Attributes:
        bits: the distance.
        fitted: observed in the half that the curves were fitted on.
        line, parabola: predicted for the other half; None if too few pairs were observed.
        observed: observed in the other half.
    """

    bits: int
    fitted: int
    line: float | None
    parabola: float | None
    observed: int


def predictions(
    distances: Distances, fitted: NDArray[np.bool_], checked: Sequence[int], top: int | None = None
) -> tuple[Prediction, ...]:
    """Fit the curves on half of the sources and compare their predictions with the other half.

    Args:
        distances: of all pairs.
        fitted: the sources of the half to fit on.
        checked: distances to compare at.
        top: the largest distance to fit; by default, as `rate` chooses it. Distances above it are
            predicted by an extension of the curve upwards.
    """
    one, other = distances.of(fitted), distances.of(~fitted)
    counts, observed = one.counts(), other.counts()
    curves = [
        fit(counts, one.pairs(), top_of(counts) if top is None else top, bends=bends)
        for bends in (False, True)
    ]
    found = []
    for bits in checked:
        line, parabola = (curve and curve.within(bits) * other.pairs() for curve in curves)
        here, there = (int(each[: bits + 1].sum()) for each in (counts, observed))
        found.append(Prediction(bits, here, line, parabola, there))
    return tuple(found)
