"""The tail model of the benchmark of false matches, on distances whose distribution is known."""

import math

import numpy as np
import pytest

from benchmarks.false_matches import tail

SOURCES = 1200


def drawn(dimensions, seed=0, spread=1.0):
    """Draw smallest distances of pairs from a binomial tail with `dimensions` independent bits.

    Each source is easier or harder to confuse with others by up to `spread`, as pictures are.
    """
    rng = np.random.default_rng(seed)
    factors = rng.uniform(1 / spread, spread, SOURCES)
    pairs = SOURCES * (SOURCES - 1)
    bits, shares = np.arange(61), []
    for distance in bits:
        share = distance * dimensions / 256
        # the binomial distribution, continued between whole numbers of bits
        shares.append(
            math.exp(
                math.lgamma(dimensions + 1)
                - math.lgamma(share + 1)
                - math.lgamma(dimensions - share + 1)
                - dimensions * math.log(2)
            )
        )
    # as many windows that the pairs at 60 bits number some thousands
    rates = np.array(shares) * (4000 / pairs) / sum(shares)
    count = rng.poisson(rates * pairs)
    weights = factors / factors.sum()
    queries, banks = (rng.choice(SOURCES, count.sum(), p=weights) for _ in range(2))
    found = np.repeat(bits, count)
    kept = queries != banks
    distances = tail.Distances(
        queries[kept], banks[kept], found[kept], np.ones(SOURCES, np.int64), 60
    )
    return distances, rates


@pytest.mark.parametrize("dimensions", [60, 120])
def test_the_parabola_extrapolates_a_binomial_tail_and_the_line_errs_towards_more(dimensions):
    distances, rates = drawn(dimensions)
    counts, pairs = distances.counts(), distances.pairs()
    line, parabola = (tail.fit(counts, pairs, 60, bends=bends) for bends in (False, True))
    true = rates[:32].sum()
    assert true / 10 < parabola.within(31) < true * 10  # five orders of magnitude away
    assert line.within(31) > true
    assert parabola.bend < 0
    assert line.bend == 0


def test_the_upper_bound_covers_the_true_rate():
    for seed in range(3):
        distances, rates = drawn(100, seed, spread=3.0)
        result = tail.rate(distances, 36)
        assert result.upper > rates[:37].sum()
        assert result.upper >= result.rule_of_three > 0


def test_predictions_for_the_other_half_agree_with_what_is_observed():
    distances, _ = drawn(100, 5)
    fitted = tail.halves([f"photo {number}" for number in range(SOURCES)])
    assert fitted.sum() == SOURCES / 2
    found = tail.predictions(distances, fitted, tail.CHECKED, 60)
    assert [each.bits for each in found] == [40, 48, 56, 60]
    for each in found:
        noise = 5 * math.sqrt(each.observed + 1)
        assert abs(each.parabola - each.observed) < noise + 0.1 * each.observed


def test_a_curve_that_would_bend_upwards_is_replaced_by_the_line():
    counts = np.zeros(61)
    counts[40], counts[50], counts[60] = 300, 20, 400
    assert tail.fit(counts, 1e6, 60, bends=True) == tail.fit(counts, 1e6, 60, bends=False)


def test_too_few_pairs_have_no_curve_but_a_bound():
    few = tail.Distances(
        np.array([0, 1]), np.array([2, 3]), np.array([50, 52]), np.ones(100, np.int64), 60
    )
    result = tail.rate(few, 16)
    assert (result.line, result.parabola) == (None, None)
    assert result.pairs == 100 * 99
    assert result.upper == pytest.approx(3.0 / (100 * 99), rel=0.01)


def test_pairs_of_one_source_are_not_counted():
    sizes = np.array([3, 2, 1])
    none = np.empty(0, np.intp)
    distances = tail.Distances(none, none, none, sizes, 60)
    assert distances.pairs() == 36 - 9 - 4 - 1
    assert distances.of(np.array([True, True, False])).pairs() == 25 - 9 - 4


@pytest.mark.parametrize(("observed", "bound"), [(0, 3.00), (1, 4.74), (10, 16.96), (100, 118.1)])
def test_the_upper_bound_of_a_poisson_mean_is_the_tabulated_one(observed, bound):
    assert tail.poisson_upper(observed) == pytest.approx(bound, abs=0.05)


def test_the_halves_do_not_depend_on_the_order_of_the_sources():
    names = [f"photo {number}" for number in range(40)]
    fitted = dict(zip(names, tail.halves(names), strict=True))
    assert dict(zip(names[::-1], tail.halves(names[::-1]), strict=True)) == fitted
