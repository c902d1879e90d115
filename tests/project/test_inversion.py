"""The parts of the inversion benchmark, and a small run of it, without a neural network."""

import json
import os
import sys

import numpy as np
import pytest

from benchmarks.inversion import inverses, pictures
from benchmarks.inversion import run as inversion
from nciihash.veil import positions
from support.videos import moving_frames


@pytest.fixture(scope="module")
def sides():
    """Crops of generated scenes to learn from, and crops of other scenes to evaluate on."""
    scenes = [moving_frames(1, 200, 150, seed=seed)[0] for seed in range(48)]
    return pictures.cut(scenes[:36], pictures.Wish(9), 1), pictures.cut(
        scenes[36:], pictures.Wish(4), 2
    )


def regained(sides, chosen):
    learn, asked = sides
    see = inversion.one(chosen)
    guess = inverses.ridge(
        inverses.Lessons(see(learn), learn.thumbnails, learn.photo % 8 == 0),
    )(see(asked))
    return inverses.judge(guess, asked.thumbnails, asked.photo)


def test_fewer_bits_reveal_less_of_the_picture(sides):
    full = regained(sides, np.arange(256))
    veiled = regained(sides, positions(128))
    assert full["correlation"] > 0.3
    assert full["correlation"] > veiled["correlation"] + 0.15
    assert full["first"] > veiled["first"]


def test_the_bits_chosen_to_reveal_least_reveal_less_than_the_others(sides):
    learn, _ = sides
    lessons = inverses.Lessons(
        inversion.one(np.arange(256))(learn), learn.thumbnails, learn.photo % 8 == 0
    )
    spared = inverses.sparing(lessons, 128, cost=0.0)
    assert len(np.unique(spared)) == 128
    others = np.setdiff1d(np.arange(256), spared)
    few, more = (regained(sides, chosen)["correlation"] for chosen in (spared, others))
    assert few + 0.15 < more


def test_basis_functions_of_bits_have_the_right_orientation(sides):
    _, asked = sides
    for packed, drawn in (
        (asked.pdq, inverses.waves()),
        (asked.phash, inverses.waves_of_phash()),
        (asked.dhash, inverses.slopes_of_dhash()),
    ):
        result = inverses.judge(inverses.signs(packed) @ drawn, asked.thumbnails, asked.photo)
        assert result["correlation"] > 0.3
        assert result["first"] > 0.5


def test_scores_of_a_perfect_and_of_an_empty_guess(sides):
    _, asked = sides
    perfect = inverses.judge(3 * asked.thumbnails + 5, asked.thumbnails, asked.photo)
    assert perfect["correlation"] == pytest.approx(1, abs=1e-5)
    assert (perfect["first"], perfect["photo"]) == (1, 1)
    empty = inverses.judge(np.ones_like(asked.thumbnails), asked.thumbnails, asked.photo)
    assert empty == {"correlation": 0, "first": 0, "photo": 0}


def test_no_photo_is_in_both_sets():
    train, test, left_out = pictures.photos(None)
    assert left_out == 0
    assert len(train) + len(test) == 14
    seen = {photo.tobytes() for photo in train}
    assert not any(photo.tobytes() in seen for photo in test)


def test_the_same_seed_makes_the_same_crops():
    scenes = [moving_frames(1, 200, 150, seed=seed)[0] for seed in (1, 2)]
    for wish in (pictures.Wish(2, 1, mirrored=True), pictures.Wish(1, films=True)):
        first, second = (pictures.cut(scenes, wish, 3) for _ in range(2))
        assert len(first) == 2 * wish.pieces
        assert np.array_equal(first.many, second.many)
        assert np.array_equal(first.thumbnails, second.thumbnails)
        assert first.there.any(axis=1).sum() == 2


def test_the_benchmark_runs_without_jax_and_names_the_extra_to_install(
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
    stored = json.loads(out.with_suffix(".json").read_text())
    assert out.with_suffix(".md").read_text() == printed.out.rstrip() + "\n"
    assert {"veil 128", "veil 144", "veil 160", "feed"} < {
        line["scope"] for line in stored["lines"]
    }
    assert all("ridge" in line and "network" not in line for line in stored["lines"])
    assert stored["lines"][0]["bits"] == 128
    (full,) = [
        x["bits"] for x in stored["lines"] if x["scope"] == "feed" and x["held"][:3] == "all"
    ]
    assert full == 256 * len(pictures.COPIES)
