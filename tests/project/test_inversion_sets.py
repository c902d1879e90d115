"""The attacks that compare what sets of variants reveal, and a small run of the comparison."""

import json
import os
import sys

import numpy as np
import pytest

from benchmarks.inversion import attacks, compare_sets, sets
from benchmarks.inversion.views import BITS
from nciihash.signals import Variant
from support import videos


def scenes(seeds):
    return [videos.moving_frames(1, 200, 150, seed=seed)[0] for seed in seeds]


@pytest.fixture(scope="module")
def crops():
    return sets.cut(scenes(range(24)), 4, 1), sets.cut(scenes(range(24, 32)), 1, 2)


@pytest.mark.parametrize("which", sets.COMPARED)
def test_the_views_predict_the_hashes(crops, which):
    _, test = crops
    target = attacks.target(test, which)
    for column, view in enumerate(target.views):
        bits = target.bits[:, column]
        predicted = view.in_hash_order(view.coefficients(test.pictures))
        above = predicted > np.median(predicted, axis=1, keepdims=True)
        wrong = (above != (bits > 0)).sum(axis=1)[bits[:, 0] != 0]
        assert (wrong <= 40).all(), sets.NAMES[which][column]
        assert np.median(wrong) < 31 if len(wrong) else True


@pytest.mark.parametrize("name", [Variant.CW3, Variant.CROP10, Variant.BORDER07_WHITE])
def test_the_transpose_of_a_view(crops, name):
    _, test = crops
    view = attacks.PictureView(name, test.shapes)
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=test.pictures.shape).astype(np.float32)
    weights = rng.normal(size=(len(test), BITS, BITS)).astype(np.float32)
    there = ((view.coefficients(pictures) - view.border) * weights).sum()
    back = (pictures * view.transposed(weights)).sum()
    assert there == pytest.approx(back, rel=1e-3, abs=1e-2)


def test_a_part_is_pasted_where_it_was(crops):
    _, test = crops
    view = attacks.PictureView(Variant.INNER03, test.shapes)
    pasted, covers = view.paste(view.part(test.pictures))
    covers = np.broadcast_to(covers, pasted.shape)
    assert 0.3 < covers.mean() < 0.5
    assert np.corrcoef(pasted[covers], test.pictures[covers])[0, 1] > 0.9


def test_many_hashes_reveal_more_than_one_and_their_order_protects_little(crops):
    train, test = crops
    which = "thorough"
    attack = attacks.Consistent(train, which, attacks.Options(0.2, 40))
    target = attacks.target(test, which)
    one, known = (
        compare_sets.scores(attack.reconstruct(each), test.pictures)[:, 1].mean()
        for each in (target.first_alone(), target)
    )
    assert known > one + 0.1
    guess, right = attacks.reconstruct_unordered(
        attack, target, attacks.spread(train, which), seed=1
    )
    assert right > 0.5
    assert compare_sets.scores(guess, test.pictures)[:, 1].mean() > one + 0.1


def test_the_interval_of_equal_values_is_empty_and_that_of_others_contains_the_mean():
    photo = np.repeat(np.arange(10), 3)
    assert compare_sets.interval(np.full(30, 0.25), photo) == [0.25, 0.25, 0.25]
    mean, low, high = compare_sets.interval(np.arange(30) / 30, photo)
    assert low < mean < high


def test_the_comparison_runs(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(compare_sets, "QUICK", compare_sets.Size(3, 1, 8))
    monkeypatch.setattr(compare_sets.sets_report.reporting, "pyplot", lambda: None)
    out = tmp_path / "sets"
    monkeypatch.setattr(sys, "argv", ["compare_sets.py", "--quick", "--out", str(out)])
    compare_sets.main()
    results = json.loads(out.with_suffix(".json").read_text())
    assert out.with_suffix(".md").read_text() == capsys.readouterr().out.rstrip() + "\n"
    highest = [high for _, _, high in results["differences"]["unknown, best"]]
    assert results["no_worse"] == all(high < compare_sets.MARGIN for high in highest)
    for which in sets.COMPARED:
        assert results["hashes"][which] > 10
        assert results["scores"][f"{which}, known, windows"][0][0] > 0
