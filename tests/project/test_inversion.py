"""The parts of the inversion benchmark, and a small run of all of it without a network."""

import json
import os
import sys

import numpy as np
import pytest

from benchmarks.inversion import inverses, pictures
from benchmarks.inversion import run as inversion
from nciihash.veil import positions
from support import videos


@pytest.fixture(scope="module")
def sides():
    """Cut training and test crops out of different synthetic scenes."""
    scenes = [videos.moving_frames(1, 200, 150, seed=seed)[0] for seed in range(48)]
    return pictures.cut(scenes[:36], pictures.CutOptions(9), 1), pictures.cut(
        scenes[36:], pictures.CutOptions(4), 2
    )


def reconstruct(sides, bits):
    train, test = sides
    view = inversion.one(bits)
    training = inverses.TrainingSet(view(train), train.thumbnails, train.photo % 8 == 0)
    guess = inverses.ridge(training)(view(test))
    return inverses.evaluate(guess, test.thumbnails, test.photo)


def test_fewer_bits_reveal_less_of_the_picture(sides):
    whole = reconstruct(sides, np.arange(256))
    veiled = reconstruct(sides, positions(128))
    assert whole["correlation"] > 0.3
    assert whole["correlation"] > veiled["correlation"] + 0.15
    assert whole["first"] > veiled["first"]


def test_the_selected_bits_reveal_less_than_the_others(sides):
    train, _ = sides
    training = inverses.TrainingSet(
        inversion.one(np.arange(256))(train), train.thumbnails, train.photo % 8 == 0
    )
    selected = inverses.select_bits(training, 128, cost=0.0)
    assert len(np.unique(selected)) == 128
    others = np.setdiff1d(np.arange(256), selected)
    few, more = (reconstruct(sides, bits)["correlation"] for bits in (selected, others))
    assert few + 0.15 < more


def test_the_patterns_of_the_bits_have_the_right_order_and_sign(sides):
    _, test = sides
    for packed, patterns in (
        (test.pdq, inverses.waves()),
        (test.phash, inverses.waves_of_phash()),
        (test.dhash, inverses.patterns_of_dhash()),
    ):
        score = inverses.evaluate(inverses.signs(packed) @ patterns, test.thumbnails, test.photo)
        assert score["correlation"] > 0.3
        assert score["first"] > 0.5


def test_a_perfect_reconstruction_scores_1_and_a_constant_one_0(sides):
    _, test = sides
    perfect = inverses.evaluate(3 * test.thumbnails + 5, test.thumbnails, test.photo)
    assert perfect["correlation"] == pytest.approx(1, abs=1e-5)
    assert (perfect["first"], perfect["photo"]) == (1, 1)
    constant = inverses.evaluate(np.ones_like(test.thumbnails), test.thumbnails, test.photo)
    assert constant == {"correlation": 0, "first": 0, "photo": 0}


def test_no_photo_is_used_for_training_and_for_testing():
    train, test, excluded = pictures.photos(None)
    assert excluded == 0
    assert len(train) + len(test) == 14
    seen = {photo.tobytes() for photo in train}
    assert not any(photo.tobytes() in seen for photo in test)


def test_the_same_seed_cuts_the_same_pieces():
    scenes = [videos.moving_frames(1, 200, 150, seed=seed)[0] for seed in (1, 2)]
    for options in (
        pictures.CutOptions(2, 1, mirrored=True),
        pictures.CutOptions(1, videos=True),
    ):
        first, second = (pictures.cut(scenes, options, 3) for _ in range(2))
        assert len(first) == 2 * options.pieces
        assert np.array_equal(first.many, second.many)
        assert np.array_equal(first.thumbnails, second.thumbnails)
        assert first.present.any(axis=1).sum() == 2


def test_the_benchmark_runs_without_jax_and_reports_the_missing_extra(
    monkeypatch, capsys, tmp_path
):
    monkeypatch.setitem(sys.modules, "jax", None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(inversion, "QUICK", inversion.Size(28, 7, 7, 14, 7, 5))
    monkeypatch.setattr(inversion.report.reporting, "pyplot", lambda: None)
    out = tmp_path / "inversion"
    monkeypatch.setattr(sys, "argv", ["inversion.py", "--quick", "--out", str(out)])
    inversion.main()
    printed = capsys.readouterr()
    assert "install the extra bench-inversion" in printed.err
    results = json.loads(out.with_suffix(".json").read_text())
    assert out.with_suffix(".md").read_text() == printed.out.rstrip() + "\n"
    assert {"veil 128", "veil 144", "veil 160", "feed"} < {
        line["scope"] for line in results["lines"]
    }
    assert all("ridge" in line and "network" not in line for line in results["lines"])
    assert results["lines"][0]["bits"] == 128
    (full,) = [
        x["bits"] for x in results["lines"] if x["scope"] == "feed" and x["held"][:3] == "all"
    ]
    assert full == 256 * len(pictures.COPIES)
