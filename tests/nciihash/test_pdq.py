import json
import tracemalloc

import numpy as np
import pdqhash
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from golden.pictures import KINDS
from nciihash import pdq
from nciihash.errors import InvalidPixels, NciihashError
from support.paths import GOLDEN
from support.strategies import pictures

HASHES = json.loads((GOLDEN / "pdq.json").read_text())

_I, _J = np.mgrid[:16, :64]
COSINES = np.sqrt(2 / 64) * np.cos(np.pi / 128 * (_I + 1) * (2 * _J + 1))


def reference(rgb):
    bits, quality = pdqhash.compute(np.ascontiguousarray(rgb))
    return np.packbits(bits.astype(np.uint8)), int(quality)


def reference_dihedral(rgb):
    variants, _ = pdqhash.compute_dihedral(np.ascontiguousarray(rgb))
    return np.packbits(np.stack(variants).astype(np.uint8), axis=1)


def assert_equals_reference(rgb):
    packed, quality = pdq.hash_pixels(rgb)
    expected, expected_quality = reference(rgb)
    assert packed.tobytes().hex() == expected.tobytes().hex()
    assert quality == expected_quality
    assert pdq.dihedral(rgb).tolist() == reference_dihedral(rgb).tolist()


def bits_apart(a, b):
    return int(np.bitwise_count(a ^ b).sum())


def gap_at_the_median(rgb):
    """Return the smallest gap by definition, with dense matrices in double precision."""
    luma = rgb.astype(float) @ [0.299, 0.587, 0.114]
    grid = dense(rgb.shape[0]) @ luma @ dense(rgb.shape[1]).T
    b = COSINES @ grid @ COSINES.T
    sign = np.where(np.arange(16) % 2, 1, -1)
    gaps = []
    for signs in (1, sign[:, None], sign, sign[:, None] * sign):
        ranked = np.sort((b * signs).ravel())
        gaps.append(ranked[128] - ranked[127])
    return min(gaps)


def dense(length):
    """Build the operator from two literal box passes, cell by cell."""
    window = (length + 127) // 128
    box = np.zeros((length, length))
    for centre in range(length):
        right = centre + window // 2
        left = right - window + 1
        box[centre, max(left, 0) : right + 1] = 1
    box /= box.sum(axis=1, keepdims=True)
    return (box @ box)[[int((i + 0.5) * length / 64) for i in range(64)]]


# --- fixed values ----------------------------------------------------------------------------


@pytest.mark.parametrize("golden", HASHES, ids=lambda g: f"{g['kind']}-{g['height']}x{g['width']}")
def test_golden_hashes_never_change(golden):
    rgb = KINDS[golden["kind"]](golden["height"], golden["width"])
    packed, quality = pdq.hash_pixels(rgb)
    assert packed.tobytes().hex() == golden["pdq"]
    assert quality == golden["quality"]
    assert [v.tobytes().hex() for v in pdq.dihedral(rgb)] == golden["dihedral"]
    # some have gaps of a few 1e-4 at the median: small, but no tie
    assert pdq.analyse(rgb).tied is golden["tied"]


def test_golden_hashes_cover_the_range_of_qualities():
    qualities = {g["quality"] for g in HASHES}
    assert {0, 100} <= qualities
    assert len(qualities - {0, 100}) >= 3


@pytest.mark.parametrize(
    "name", ["astronaut", "coffee", "chelsea", "rocket", "retina", "immunohistochemistry"]
)
def test_photos_equal_the_reference(name):
    assert_equals_reference(getattr(data, name)())


@pytest.mark.parametrize("name", ["camera", "coins", "moon", "page", "text", "clock", "brick"])
def test_grey_photos_equal_the_reference(name):
    assert_equals_reference(np.repeat(getattr(data, name)()[..., None], 3, axis=2))


# --- against the reference, for any image ----------------------------------------------------


@given(pictures())
@example(np.zeros((1, 1, 3), np.uint8))
@example(np.full((64, 64, 3), 51, np.uint8))
@example(np.full((4, 400, 3), 7, np.uint8))
def test_any_image_equals_the_reference(rgb):
    # including ties at the median, where the reference's order of operations is used
    assert_equals_reference(rgb)


@given(
    st.integers(5, 1500),
    st.integers(5, 1500),
    st.sampled_from(["astronaut", "coffee", "chelsea", "rocket"]),
)
def test_a_photo_of_any_size_equals_the_reference(height, width, name):
    photo = Image.fromarray(getattr(data, name)())
    assert_equals_reference(np.asarray(photo.resize((width, height))))


@pytest.mark.parametrize(("level", "quality"), [(51, 38), (102, 96)])
def test_quality_equals_the_reference_when_steps_are_integers(level, quality):
    # differences of 51 are steps of exactly 20, so rounding decides between 19 and 20: exact
    # arithmetic would return 36 and 94
    down, right = np.mgrid[:500, :640]
    grey = (down // 5 * 7 + right // 5 * 3) % 2 * level
    rgb = np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)
    assert pdq.hash_pixels(rgb)[1] == quality
    assert_equals_reference(rgb)


@pytest.mark.parametrize("size", [63, 64, 65])
def test_an_image_of_the_grids_size_is_not_filtered_as_in_the_reference(size):
    # stripes tie, so that every rounding matters; the dihedral variants are filtered all the same
    rows = np.random.default_rng(0).integers(0, 256, (size, 1, 3), dtype=np.uint8)
    assert_equals_reference(rows.repeat(size, axis=1))


def test_published_vectors(shared_data):
    vectors = json.loads((shared_data / "pdq_vectors" / "vectors.json").read_text())["vectors"]
    for vector in vectors:
        with Image.open(shared_data / vector["file"]) as image:
            rgb = np.asarray(image.convert("RGB"))
        packed, quality = pdq.hash_pixels(rgb)
        dihedral = [v.tobytes().hex() for v in pdq.dihedral(rgb)]
        got = (packed.tobytes().hex(), quality, dihedral)
        assert got == (vector["pdq"], vector["quality"], vector["dihedral"]), vector["file"]


@pytest.mark.filterwarnings("ignore")  # Pillow warns of odd metadata in odd files
def test_sample_images_equal_the_reference(shared_data):
    compared = 0
    for path in sorted((*(shared_data / "photos").iterdir(), *shared_data.glob("odd/**/*"))):
        try:
            with Image.open(path) as image:
                if image.width * image.height > 4e6:
                    continue
                rgb = np.asarray(image.convert("RGB"))
        except Exception:  # noqa: BLE001 - decoders raise anything; not tested here
            continue
        assert_equals_reference(rgb)
        compared += 1
    assert compared > 150


# --- the definition --------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 5, 63, 64, 65, 127, 128, 129, 255, 256, 257, 384, 1000])
def test_operator_is_two_box_passes_and_decimation(length):
    operator = pdq.operator(length)
    np.testing.assert_allclose(operator, dense(length), rtol=0, atol=1e-15)
    np.testing.assert_allclose(operator.sum(axis=1), 1, rtol=1e-12)
    assert not operator.flags.writeable


@given(pictures(side_max=200))
def test_a_tie_is_a_gap_below_a_millionth_in_any_variant(rgb):
    if min(rgb.shape[:2]) < pdq.SIDE_MIN:
        assert pdq.analyse(rgb).tied
        return
    gap = gap_at_the_median(rgb)
    # within rounding error of the limit, either answer is correct
    if abs(gap - 1e-6) > 1e-9:
        assert pdq.analyse(rgb).tied == (gap < 1e-6)


@pytest.mark.parametrize(
    "lines", [np.s_[::2], np.s_[:, ::2], np.s_[:100], np.s_[:, :100], np.s_[:0]]
)
def test_stripes_halves_and_blank_images_tie(lines):
    rgb = np.zeros((200, 200, 3), np.uint8)
    rgb[lines] = 255
    assert pdq.analyse(rgb).tied


def test_photos_do_not_tie():
    for name in ("astronaut", "coffee", "chelsea", "rocket"):
        analysis = pdq.analyse(getattr(data, name)())
        assert not analysis.tied
        assert analysis.quality == 100


@pytest.mark.parametrize("rows", [1, -1])
@pytest.mark.parametrize("columns", [1, -1])
@pytest.mark.parametrize("tied", [True, False])
def test_a_tie_in_a_single_sign_pattern_is_a_tie(rows, columns, tied):
    values = np.arange(256) - 100.3  # no two values are negatives of each other
    if tied:
        values[128] = values[127]
    pattern = np.array([[rows, rows * columns], [1, columns]])  # even and odd rows and columns
    mixed = np.random.default_rng(0).permutation(values).reshape(16, 16)
    coefficients = mixed * np.tile(pattern, (8, 8))
    grid = COSINES.T @ coefficients @ COSINES
    assert pdq.analyse_grid(grid).tied is tied


@given(pictures(side_max=120))
def test_analysis_and_hash_and_first_variant_agree(rgb):
    analysis = pdq.analyse(rgb)
    packed, quality = pdq.hash_pixels(rgb)
    assert packed.tolist() == analysis.packed.tolist()
    assert quality == analysis.quality
    assert packed.dtype == np.uint8
    assert packed.shape == (32,)
    assert 0 <= quality <= 100
    variants = pdq.dihedral(rgb)
    assert variants.dtype == np.uint8
    assert variants.shape == (8, 32)
    if not analysis.tied:
        assert variants[0].tolist() == packed.tolist()


def test_variants_are_close_to_the_hashes_of_rotated_pixels():
    photo = data.astronaut()
    rotated = [
        photo,
        np.rot90(photo, 1),
        np.rot90(photo, 2),
        np.rot90(photo, 3),
        photo[::-1],
        photo[:, ::-1],
        photo.transpose(1, 0, 2),
        photo[::-1, ::-1].transpose(1, 0, 2),
    ]
    for variant, pixels in zip(pdq.dihedral(photo), rotated, strict=True):
        assert bits_apart(variant, pdq.hash_pixels(pixels)[0]) <= 16


def test_a_grid_has_the_hash_of_its_image():
    rgb = data.coffee()
    luma = rgb @ [0.299, 0.587, 0.114]
    grid = pdq.operator(rgb.shape[0]) @ luma @ pdq.operator(rgb.shape[1]).T
    assert pdq.analyse_grid(grid).packed.tolist() == pdq.hash_pixels(rgb)[0].tolist()
    assert not pdq.analyse_grid(grid).tied
    assert pdq.analyse_grid(np.full((64, 64), 3.0)).tied


# --- input -----------------------------------------------------------------------------------


@given(pictures(side_max=60))
def test_the_memory_layout_does_not_matter(rgb):
    expected = pdq.hash_pixels(np.ascontiguousarray(rgb))[0].tolist()
    padded = np.zeros((*rgb.shape[:2], 4), np.uint8)
    padded[..., :3] = rgb
    assert pdq.hash_pixels(padded[..., :3])[0].tolist() == expected
    assert pdq.hash_pixels(np.asfortranarray(rgb))[0].tolist() == expected
    assert pdq.hash_pixels(rgb[::-1].copy()[::-1])[0].tolist() == expected


def test_the_image_is_not_modified():
    for rgb in (data.astronaut(), np.zeros((100, 100, 3), np.uint8)):
        before = rgb.copy()
        rgb.setflags(write=False)
        pdq.analyse(rgb)
        pdq.dihedral(rgb)
        assert (rgb == before).all()


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((9, 9, 3)), "uint8"),
        (np.zeros((9, 9, 3), np.uint16), "uint8"),
        (np.zeros((9, 9, 3), np.int8), "uint8"),
        ([[[0, 0, 0]]], "uint8"),
        (np.zeros((9, 9), np.uint8), r"\(9, 9\)"),
        (np.zeros((9, 9, 4), np.uint8), r"\(9, 9, 4\)"),
        (np.zeros((2, 9, 9, 3), np.uint8), "height, width, 3"),
        (np.zeros((0, 9, 3), np.uint8), "no pixels"),
        (np.zeros((9, 0, 3), np.uint8), "no pixels"),
    ],
)
@pytest.mark.parametrize("function", [pdq.hash_pixels, pdq.analyse, pdq.dihedral])
def test_anything_but_rgb_pixels_is_refused(function, pixels, message):
    with pytest.raises(InvalidPixels, match=message) as caught:
        function(pixels)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, NciihashError)
    assert caught.value.code == "invalid_pixels"


@pytest.mark.parametrize(("kind", "lumas"), [("rings", 0.5), ("flat", 2)])
def test_peak_memory_is_a_few_luma_arrays_at_most(kind, lumas):
    height, width = 1500, 2000
    flat = np.zeros((height, width, 3), np.uint8)
    rgb = flat if kind == "flat" else KINDS[kind](height, width)
    assert pdq.analyse(rgb).tied == (kind == "flat")  # also fills the caches
    tracemalloc.start()
    pdq.analyse(rgb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < lumas * height * width * 4


def test_hashing_many_grids_equals_hashing_each_alone():
    photos = [getattr(data, name)() for name in ("astronaut", "coffee", "chelsea", "rocket")]
    grids = np.stack([grid_of(rgb) for rgb in photos] + [np.zeros((64, 64))])
    packed, quality, tied, busy = pdq.analyse_grids(grids)
    assert packed.shape == (8, 5, 32)
    for index, grid in enumerate(grids):
        alone = pdq.analyse_grid(grid)
        assert quality[index] == alone.quality
        assert busy[index] == pytest.approx(alone.busy, abs=1e-12)
        assert tied[index] == alone.tied
        assert packed[0, index].tolist() == alone.packed.tolist()
    for index, rgb in enumerate(photos):
        for ours, expected in zip(packed[:, index], pdq.dihedral(rgb), strict=True):
            assert bits_apart(ours, expected) <= 2


def test_steps_of_a_whole_percentage_count_fully():
    """Rounding must not decide, or another program would decide otherwise."""
    grids = np.zeros((2, 64, 64))
    grids[0, :, 1::2] = 2.55  # 1 % of the range
    grids[1] = grids[0] * (1 - 1e-6)
    _, quality, _, busy = pdq.analyse_grids(grids)
    steps = 64 * 63
    assert quality.tolist() == [steps // 90, 0]
    assert busy.tolist() == [0.5, 0.0]
    # between black and white
    _, quality, _, _ = pdq.analyse_grids(np.where(grids[:1] > 0, 255 * (1 - 1e-15), 0.0))
    assert quality.tolist() == [100]


def grid_of(rgb):
    luma = rgb @ np.array([0.299, 0.587, 0.114])
    return pdq.operator(rgb.shape[0]) @ luma @ pdq.operator(rgb.shape[1]).T
