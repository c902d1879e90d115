from itertools import combinations, pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nciihash.hashing.rectangles import find_rectangles

# what a hash tolerates of a displaced side, as a fraction of the side
TOLERANCE = 0.02


def drawn(width, height, seed):
    """Draw a texture with soft edges and a little noise, as a photo has."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(20, 235, (height // 20 + 2, width // 20 + 2)).astype(np.float32)
    texture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(texture + rng.normal(0, 2, texture.shape), 0, 255).astype(np.float32)


def collage(rows, columns, width=512, height=384, gutter=0, paper=255, seed=0):
    """Return a luma of drawn pictures in a grid, and their boxes."""
    page = np.full((height, width), paper, np.float32)
    downs = [(height + gutter) * row // rows for row in range(rows + 1)]
    acrosses = [(width + gutter) * column // columns for column in range(columns + 1)]
    boxes = []
    for number, (top, bottom) in enumerate(pairwise(downs)):
        for left, right in pairwise(acrosses):
            sides = left, top, right - gutter, bottom - gutter
            paste(page, sides, seed + 97 * number + left)
            boxes.append(fractions(page, sides))
    return page, boxes


def paste(page, sides, seed):
    left, top, right, bottom = sides
    page[top:bottom, left:right] = drawn(right - left, bottom - top, seed)


def fractions(page, sides):
    return tuple(np.divide(sides, page.shape[::-1] * 2).tolist())


def error(box, truth):
    """Return how far the worst side is from the true one, as a fraction of the true side."""
    sides = np.tile(np.subtract(truth[2:], truth[:2]), 2)
    return float(np.max(np.abs(np.subtract(box, truth)) / sides))


def missed(luma, truths, tolerance=TOLERANCE):
    found = find_rectangles(luma)
    assert_valid(found)
    return [t for t in truths if min((error(box, t) for box in found), default=9) > tolerance]


def assert_valid(found):
    assert len(found) <= 10
    for left, top, right, bottom in found:
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        assert (left, top, right, bottom) != (0, 0, 1, 1)


def saved(luma, quality):
    _, data = cv2.imencode(".jpg", luma.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE).astype(np.float32)


def scaled(luma, scale):
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(luma, None, fx=scale, fy=scale, interpolation=method)


@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (2, 1), (2, 2), (3, 1), (1, 3)])
@pytest.mark.parametrize(("gutter", "paper"), [(0, 0), (2, 255), (5, 0), (12, 255)])
def test_the_pictures_of_a_collage_are_found(rows, columns, gutter, paper):
    luma, boxes = collage(rows, columns, gutter=gutter, paper=paper)
    assert missed(luma, boxes) == []


def test_most_pictures_of_a_large_collage_are_found():
    luma, boxes = collage(3, 3, width=720, height=720, gutter=6)
    assert len(missed(luma, boxes)) <= 2


def test_pictures_of_unequal_sizes_are_found():
    page = np.zeros((500, 600), np.float32)
    parts = [(0, 0, 370, 500), (370, 0, 600, 180), (370, 180, 600, 500)]
    for number, sides in enumerate(parts):
        paste(page, sides, number)
    assert missed(page, [fractions(page, sides) for sides in parts]) == []


@pytest.mark.parametrize("quality", [30, 60, 90])
@pytest.mark.parametrize("scale", [0.6, 1.0, 1.6])
def test_a_collage_is_found_after_scaling_and_compression(quality, scale):
    luma, boxes = collage(2, 2, gutter=4)
    assert missed(scaled(saved(luma, quality), scale), boxes) == []


@pytest.mark.parametrize("corner", ["top left", "top right", "bottom left", "bottom right"])
@pytest.mark.parametrize("border", [0, 4])
def test_a_picture_in_a_picture_is_found(corner, border):
    page = drawn(600, 450, 1)
    width, height, margin = 230, 170, 20
    top = margin if "top" in corner else 450 - margin - height
    left = margin if "left" in corner else 600 - margin - width
    page[top - border : top + height + border, left - border : left + width + border] = 255
    sides = left, top, left + width, top + height
    paste(page, sides, 2)
    assert missed(page, [fractions(page, sides)]) == []


@pytest.mark.parametrize("upright", [True, False])
def test_a_picture_between_blurred_bars_is_found(upright):
    photo = drawn(480, 360, 3)
    page = cv2.GaussianBlur(cv2.resize(photo, (480, 800)), (0, 0), 20)
    page[220:580] = photo
    sides = 0, 220, 480, 580
    if not upright:
        page = np.ascontiguousarray(page.T)
        sides = 220, 0, 580, 480
    assert missed(page, [fractions(page, sides)]) == []


def test_a_picture_on_a_screen_is_found():
    page = np.full((900, 450), 255, np.uint8)
    cv2.putText(page, "9:41", (15, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 20, 2)
    for number in range(4):
        cv2.circle(page, (56 + 112 * number, 860), 14, 20, 3)
    page = page.astype(np.float32)
    sides = 25, 150, 425, 480
    paste(page, sides, 4)
    assert missed(page, [fractions(page, sides)]) == []


def test_sides_are_exact_to_the_pixel():
    page = drawn(512, 384, 5)
    sides = 131, 77, 402, 291
    paste(page, sides, 6)
    (box,) = [b for b in find_rectangles(page) if error(b, fractions(page, sides)) < TOLERANCE]
    assert box == pytest.approx(fractions(page, sides), abs=1.01 / 384)


def test_a_mixed_pixel_along_a_seam_is_outside_both_pictures():
    left, right = drawn(255, 384, 7), drawn(256, 384, 8)
    between = (left[:, -1:] + right[:, :1]) / 2
    found = find_rectangles(np.concatenate((left, between, right), axis=1))
    edges = {b[2] for b in found if b[0] == 0} | {b[0] for b in found if b[2] == 1}
    assert edges == {255 / 512, 256 / 512}


def test_the_pictures_come_before_the_pairs_of_them():
    luma, boxes = collage(2, 2)
    first = find_rectangles(luma)[:4]
    assert all(min(error(box, truth) for box in first) < TOLERANCE for truth in boxes)


def test_no_two_are_nearly_the_same():
    for first, second in combinations(find_rectangles(collage(3, 3, gutter=8)[0]), 2):
        shared = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
        overlap = np.maximum(shared, 0).prod()
        areas = [np.subtract(box[2:], box[:2]).prod() for box in (first, second)]
        assert overlap / (sum(areas) - overlap) <= 0.95


def test_bytes_and_floats_give_the_same():
    luma = np.rint(collage(2, 2)[0])
    assert find_rectangles(luma) == find_rectangles(luma.astype(np.uint8))


def test_a_turned_or_mirrored_picture_has_the_same_rectangles():
    luma, boxes = collage(2, 2, gutter=4)
    assert missed(np.ascontiguousarray(luma.T), [(t, u, v, w) for u, t, w, v in boxes]) == []
    assert missed(np.ascontiguousarray(luma[:, ::-1]), boxes) == []


@pytest.mark.parametrize(
    "luma",
    [
        np.full((300, 400), 90, np.float32),
        np.zeros((1, 1), np.float32),
        np.zeros((4000, 3), np.float32),
        np.tile(np.linspace(0, 255, 512, dtype=np.float32), (384, 1)),
        np.add.outer(np.linspace(0, 120, 384), np.linspace(0, 120, 512)).astype(np.float32),
        collage(2, 2, width=60, height=47)[0],
    ],
    ids=["flat", "one pixel", "thin", "gradient", "diagonal gradient", "small"],
)
def test_there_are_none(luma):
    assert find_rectangles(luma) == ()


@pytest.mark.parametrize("seed", range(5))
def test_noise_and_textures_have_none(seed):
    noise = np.random.default_rng(seed).uniform(0, 255, (384, 512)).astype(np.float32)
    assert find_rectangles(noise) == ()
    assert find_rectangles(drawn(512, 384, seed)) == ()


def test_a_horizon_has_at_most_two():
    page = drawn(512, 384, 9)
    page[:150] = np.linspace(230, 180, 150, dtype=np.float32)[:, None]
    assert len(find_rectangles(page)) <= 2


def test_most_photos_have_few(shared_data):
    counts = []
    for path in sorted((shared_data / "photos").iterdir())[::4]:
        luma = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        step = max(1, max(luma.shape) // 512)
        size = luma.shape[1] // step, luma.shape[0] // step
        counts.append(len(find_rectangles(cv2.resize(luma, size, interpolation=cv2.INTER_AREA))))
    assert len(counts) > 20
    assert np.mean(counts) < 1.5
    assert np.median(counts) == 0


def test_photos_of_a_collage_are_found():
    data = pytest.importorskip("skimage.data")
    photos = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    greys = [cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY) for photo in photos]
    page = np.full((606, 806), 255, np.uint8)
    parts = [(0, 0, 400, 300), (406, 0, 806, 300), (0, 306, 400, 606), (406, 306, 806, 606)]
    for grey, (left, top, right, bottom) in zip(greys, parts, strict=True):
        page[top:bottom, left:right] = cv2.resize(grey, (400, 300), interpolation=cv2.INTER_AREA)
    luma = saved(page, 75)
    assert missed(luma, [fractions(luma, sides) for sides in parts]) == []


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 130), st.integers(1, 130))),
    st.integers(1, 9),
    st.integers(1, 9),
)
def test_any_shape_yields_valid_rectangles(pixels, down, across):
    assert_valid(find_rectangles(np.repeat(np.repeat(pixels, down, 0), across, 1)))


@given(st.integers(48, 1500), st.integers(48, 1500), st.integers(0, 9))
def test_any_size_of_collage_yields_valid_rectangles(width, height, gutter):
    luma, _ = collage(2, 3, width=width, height=height, gutter=gutter)
    assert_valid(find_rectangles(luma))
