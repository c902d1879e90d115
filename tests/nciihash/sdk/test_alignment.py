import numpy as np
import pytest

from nciihash import pdq
from nciihash.hashing.parts import query_parts
from nciihash.sdk.alignment import ALIGNED_MAX, align
from nciihash.signals import Level
from support.pictures import textured


def whole(picture):
    return query_parts(np.asarray(picture), Level.FAST)[0]


def hash_of(picture):
    return pdq.hash_pixels(np.asarray(picture))[0]


def crop(picture, left, top, right, bottom):
    width, height = picture.size
    box = (left * width, top * height, right * width, bottom * height)
    return picture.crop(tuple(round(side) for side in box))


@pytest.mark.parametrize("seed", range(6))
def test_window_moves_onto_the_picture(seed):
    picture = textured(seed, 900, 640)
    target = hash_of(crop(picture, 0.2, 0.15, 0.8, 0.75))
    start = (0.2 + 0.02, 0.15 - 0.015, 0.8 - 0.02, 0.75 + 0.01)
    found = align(whole(picture), start, target)
    assert found.distance <= ALIGNED_MAX
    assert np.abs(np.array(found.box) - (0.2, 0.15, 0.8, 0.75)).max() < 0.015


def test_mirrored_window():
    picture = textured(9, 900, 640)
    mirror = picture.transpose(0)  # left and right
    target = hash_of(crop(mirror, 0.1, 0.1, 0.7, 0.8))
    found = align(whole(picture), (0.31, 0.12, 0.9, 0.79), target, mirror=True)
    assert found.distance <= ALIGNED_MAX
    assert found.mirrored
    assert np.abs(np.array(found.box) - (0.3, 0.1, 0.9, 0.8)).max() < 0.015


def test_rotated_window():
    picture = textured(4, 900, 640)
    rotated = picture.rotate(-2.0, expand=False)  # clockwise
    target = hash_of(crop(picture, 0.2, 0.2, 0.8, 0.8))
    found = align(whole(rotated), (0.2, 0.2, 0.8, 0.8), target)
    assert found.distance <= ALIGNED_MAX
    assert found.part.angle == pytest.approx(-2.0, abs=1.0)


def test_other_pictures_do_not_align():
    target = hash_of(textured(100))
    distances = [
        align(whole(textured(s)), (0.1, 0.1, 0.9, 0.9), target).distance for s in range(30)
    ]
    assert min(distances) > 2 * ALIGNED_MAX


def test_window_stays_within_its_part():
    found = align(whole(textured(5)), (0.0, 0.0, 1.0, 1.0), hash_of(textured(6)))
    assert 0 <= found.box[0] < found.box[2] <= 1
    assert 0 <= found.box[1] < found.box[3] <= 1
