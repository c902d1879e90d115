import io

import numpy as np
import pytest
from pi_heif import HeifImageFile

from nciihash import errors
from nciihash.hashing import hasher, image
from nciihash.media.heif_boxes import without_aperture
from support.hashes import bits_apart
from support.heifs import aperture, box, coded, heif, tiled
from support.pictures import scene

TURNS = [
    (),
    *((box(b"irot", bytes((n,))),) for n in (1, 2, 3)),
    *((box(b"imir", bytes((n,))),) for n in (0, 1)),
    *((box(b"irot", bytes((n,))), box(b"imir", bytes((m,)))) for n, m in ((1, 0), (3, 1))),
]


@pytest.fixture(scope="module")
def item():
    """Encode one picture; the encoder is slow."""
    return coded(scene(256, 160))


def with_properties(item, *properties):
    return heif([type(item)(item.kind, item.data, (*item.properties, *properties))])


def decode_with_libheif(data):
    return np.asarray(HeifImageFile(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize(
    "crop", [(250, 150), (253, 157), (200, 120, 20, -13), (210, 130, 7.5, 2.5)]
)
def test_small_crops_equal_libheifs(item, turns, crop):
    data = with_properties(item, aperture(*crop), *turns)
    actual, expected = image.decode(data).astype(int), decode_with_libheif(data).astype(int)
    # an odd number of pixels cropped at the left or top shifts chroma by half a pixel
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).mean() < (0.1 if crop in {(252, 156)} else 2.5)


@pytest.mark.parametrize("turns", TURNS)
def test_crops_too_large_for_libheif_are_made(item, turns):
    data = with_properties(item, aperture(100, 60, 30, -20), *turns)
    with pytest.raises(Exception, match="Security limit"):
        decode_with_libheif(data)
    whole = decode_with_libheif(with_properties(item))
    cropped = whole[30:90, 108:208]
    for turn in turns:
        cropped = (
            np.rot90(cropped, turn[8])
            if turn[4:8] == b"irot"
            else cropped[:: -1 if not turn[8] else 1]
        )
        if turn[4:8] == b"imir" and turn[8]:
            cropped = cropped[:, ::-1]
    np.testing.assert_array_equal(image.decode(data), cropped)


def test_a_crop_of_a_tiled_picture():
    whole = decode_with_libheif(tiled(scene(256, 128), 1, 2))
    # the grid is the last item, and its size the last property
    data = tiled(scene(256, 128), 1, 2, (aperture(120, 60),))
    np.testing.assert_array_equal(image.decode(data), whole[34:94, 68:188])


@pytest.mark.parametrize("crop", [(0, 60), (300, 60), (100, 60, 200, 0), (100, 60, 0, -120)])
def test_a_crop_outside_the_picture_is_refused(item, crop):
    with pytest.raises(errors.CorruptFile):
        image.decode(with_properties(item, aperture(*crop)))


def test_damaged_boxes_are_left_to_the_decoder(item):
    data = with_properties(item, aperture(100, 60))
    at = data.index(b"clap")
    assert without_aperture(with_properties(item)) is None
    for damaged in (
        data[: at + 20],
        data[:at] + b"clap" + bytes(32) + data[at + 36 :],
        b"",
        data[4:],
    ):
        assert without_aperture(damaged) is None


def test_reported_files(shared_data):
    hashed = hasher.hash_image(shared_data / "reported" / "heic_clap_160x224.heic")
    expected = "d12224ac2b2c2acd29d6b9d364e251a2588b6aa65a174eddf774d519d5ee952a"
    assert bits_apart(hashed.signal.hex, expected) <= 4  # the hash before HEIC encoding
