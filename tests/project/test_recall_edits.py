"""The edits of the recall benchmark, and its search in a large bank."""

import numpy as np
import pytest
from PIL import Image, ImageChops

from benchmarks.recall import large_bank
from benchmarks.recall.later_edits import LATER
from benchmarks.recall.measuring import CAUSES, bank_item, cause, query_item
from nciihash import Level
from nciihash.windows import hash_windows
from support.pictures import textured

PHOTO = textured(3)
OTHERS = [textured(seed) for seed in range(40, 45)]


@pytest.mark.parametrize("edit", LATER, ids=[f"{edit.group}: {edit.name}" for edit in LATER])
def test_later_edit(edit):
    before = PHOTO.tobytes()
    rgb = edit.apply(PHOTO, OTHERS)
    assert rgb.dtype == np.uint8
    assert rgb.ndim == 3
    assert min(rgb.shape[:2]) >= 64
    assert np.array_equal(rgb, edit.apply(PHOTO, OTHERS))
    assert PHOTO.tobytes() == before
    shown = Image.fromarray(rgb).resize(PHOTO.size)
    assert np.asarray(ImageChops.difference(shown, PHOTO)).mean() > 0.2


def test_names_are_unique():
    assert len({(edit.group, edit.name) for edit in LATER}) == len(LATER)


@pytest.fixture(scope="module")
def items():
    return {str(seed): bank_item(textured(seed)) for seed in (3, 4)}


def corner(picture):
    width, height = picture.size
    return np.asarray(picture.crop((0, 0, round(0.75 * width), round(0.8 * height))))


def test_window_is_found_among_many_hashes(items):
    rest = np.random.default_rng(0).integers(0, 256, (50_000, 32), np.uint8)
    large = large_bank.build(items, rest)
    windows = hash_windows(query_item(corner(PHOTO)).parts, Level.THOROUGH)
    assert large_bank.finds(large, windows, 0)
    assert not large_bank.finds(large, windows, 1)


def test_cause_of_a_miss(items):
    copy = query_item(corner(textured(9)))
    assert cause(copy, items["3"]) == CAUSES[1]
    assert cause(query_item(corner(PHOTO)), items["3"]) == CAUSES[4]  # in fact it is found
