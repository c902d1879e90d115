import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nciihash import pdq, windows
from nciihash.hashing import altered_views
from nciihash.hashing.parts import query_parts
from nciihash.signals import Level, PartKind, Variant
from nciihash.window_tables import BANK_BOXES, QUERY_BOXES, SMALL_QUERY_BOXES, WHOLE
from support.pictures import horizon, textured

CELLS = windows.CELLS
BASE = np.asarray(
    Image.fromarray(np.asarray(textured(1))).convert("L").resize((CELLS, CELLS)), np.uint8
)


def bits(a, b):
    return np.bitwise_count(a ^ b).sum(axis=-1)


@st.composite
def boxes(draw):
    left, top = draw(st.floats(0, 0.7)), draw(st.floats(0, 0.7))
    width, height = draw(st.floats(0.2, 1)), draw(st.floats(0.2, 1))
    return left, top, min(left + width, 1.0), min(top + height, 1.0)


@given(boxes())
def test_folded_operators_are_filter_decimation_and_transform_in_one(box):
    luma = BASE.astype(np.float32)
    left, top, right, bottom = box
    down, _ = altered_views.operator(top, bottom - top, CELLS)
    across, _ = altered_views.operator(left, right - left, CELLS)
    grid = down @ luma.astype(np.float64) @ across.T
    expected = pdq.cosines() @ grid @ pdq.cosines().T
    (coefficients,) = windows.coefficients_of(luma, (box,))
    assert np.allclose(coefficients, expected, rtol=1e-4, atol=0.05)


def test_windows_of_a_list_are_those_computed_one_by_one():
    whole = windows.Part(PartKind.WHOLE, BASE)
    found = windows.hash_windows((whole,), Level.THOROUGH)
    assert found.boxes == QUERY_BOXES
    luma = BASE.astype(np.float32)
    one_by_one = [windows.pack(windows.coefficients_of(luma, (box,)))[0] for box in QUERY_BOXES]
    # single precision sums in another order may change a bit at the median
    assert bits(found.hashes[: len(QUERY_BOXES)], np.array(one_by_one)).max() <= 2


def test_second_half_of_the_hashes_is_of_the_mirrored_picture():
    whole = windows.Part(PartKind.WHOLE, BASE)
    mirror = windows.Part(PartKind.WHOLE, np.ascontiguousarray(BASE[:, ::-1]))
    upright = windows.hash_windows((whole,), Level.WINDOWS)
    turned = windows.hash_windows((mirror,), Level.WINDOWS)
    count = len(upright.boxes)
    for row, box in enumerate(upright.boxes):
        left, top, right, bottom = box
        flipped = (1 - right, top, 1 - left, bottom)
        luma = mirror.luma.astype(np.float32)
        expected = windows.pack(windows.coefficients_of(luma, (flipped,)))[0]
        assert bits(upright.hashes[count + row], expected) <= 2
    assert upright.locate(count + 3) == (0, upright.boxes[3], True)
    assert turned.locate(3) == (0, upright.boxes[3], False)


def test_plain_hash_is_the_pictures_own():
    rgb = np.asarray(textured(3, 1024, 768))
    (whole, *_) = query_parts(rgb, Level.FAST)
    own = pdq.analyse(rgb)
    hashes = windows.pack(windows.coefficients_of(whole.luma.astype(np.float32), (WHOLE,)))
    assert bits(hashes[0], own.packed) <= 12  # 128 cells instead of all pixels


def test_quarter_turns_are_the_rotated_picture():
    whole = windows.Part(PartKind.WHOLE, BASE, shape=1.5)
    quarter, half, three = windows.quarter_turns(whole)
    assert (quarter.angle, half.angle, three.angle) == (-90, -180, -270)
    assert (quarter.shape, half.shape) == (pytest.approx(2 / 3), 1.5)
    assert (quarter.luma == np.rot90(BASE)).all()
    assert (three.luma == np.rot90(BASE, 3)).all()


@pytest.mark.parametrize("shape", [0.5, 1.0, 2.0])
def test_rotation_and_its_reverse_leave_the_middle(shape):
    part = windows.Part(PartKind.WHOLE, BASE, shape=shape)
    back = windows.rotated(windows.rotated(part, 5.0), -5.0)
    middle = np.s_[40:88, 40:88]
    difference = np.abs(back.luma[middle].astype(int) - BASE[middle])
    assert np.median(difference) <= 6
    assert back.angle == 0
    assert back.kind is PartKind.ROTATED


def test_rotation_is_clockwise():
    luma = np.zeros((CELLS, CELLS), np.uint8)
    luma[:40, 60:68] = 255  # a bar from the middle upwards
    turned = windows.rotated(windows.Part(PartKind.WHOLE, luma), 45.0).luma.astype(float)
    assert turned[20:60, 68:108].sum() > 10 * turned[20:60, 20:60].sum()


def test_window_of_the_whole_is_as_distinctive_as_the_picture():
    rgb = np.asarray(Image.fromarray(BASE).convert("RGB").resize((512, 512)))
    analysis = pdq.analyse(rgb)
    luma = np.asarray(
        Image.fromarray(rgb).convert("L").resize((CELLS, CELLS), Image.Resampling.BOX)
    )
    found = windows.analyse(luma)
    assert found.quality == pytest.approx(analysis.quality, abs=3)
    assert found.busy == pytest.approx(analysis.busy, abs=0.05)
    assert found.spread == pytest.approx(analysis.spread, rel=0.2)


def test_horizons_are_not_distinctive_and_textures_are():
    for seed in range(20):
        (plain,) = query_parts(np.asarray(horizon(seed)), Level.FAST)
        (busy,) = query_parts(np.asarray(textured(seed)), Level.FAST)
        assert not windows.analyse(plain.luma).distinctive
        assert windows.analyse(busy.luma).distinctive


def test_flat_picture_has_no_detail():
    flat = windows.analyse(np.full((CELLS, CELLS), 200, np.uint8))
    assert (flat.quality, flat.busy, flat.distinctive) == (0, 0.0, False)


def test_stripes_checks_and_plaid_are_busy_but_not_distinctive():
    x, y = np.meshgrid(np.arange(512), np.arange(512))
    light = 1 - 0.3 * y / 512
    for period in (20, 33, 51):
        across, down = (np.sin(2 * np.pi * axis / period) for axis in (x, y))
        for pattern in (across, np.sign(across * down), np.sign(across) + np.sign(down)):
            pixels = ((128 + 60 * pattern) * light).astype(np.uint8)
            analysis = pdq.analyse(np.repeat(pixels[..., None], 3, axis=2))
            assert analysis.busy > pdq.BUSY_MIN
            assert not analysis.distinctive
    assert pdq.analyse(np.asarray(textured(1))).spread > 60
    assert pdq.analyse(np.asarray(textured(1))).rank > 4


def test_tables():
    assert set(BANK_BOXES.values()) <= set(SMALL_QUERY_BOXES) <= set(QUERY_BOXES)
    assert BANK_BOXES[Variant.ORIGINAL] == WHOLE
    assert len(BANK_BOXES) == 31
    for left, top, right, bottom in QUERY_BOXES:
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        assert math.sqrt((right - left) * (bottom - top)) > 0.3  # less shows too little


def test_level_fast_hashes_no_windows():
    windows_found = windows.hash_windows((windows.Part(PartKind.WHOLE, BASE),), Level.FAST)
    assert len(windows_found) == 0
