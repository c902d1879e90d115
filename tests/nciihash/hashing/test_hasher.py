import hashlib
import json

import imagehash
import numpy as np
import pdqhash
import pytest
from PIL import Image

import nciihash
from nciihash import errors
from nciihash.hashing import hasher
from nciihash.media.limits import Limits
from nciihash.signals import Media, SignalType, Variant
from support.pictures import encode, exif, scene, stored


def _distance(a, b):
    return (int(a.signal.hex, 16) ^ int(b.signal.hex, 16)).bit_count()


def _reference(pixels):
    bits, quality = pdqhash.compute(np.ascontiguousarray(pixels))
    return np.packbits(bits.astype(np.uint8)).tobytes().hex(), quality


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(encode(scene(400, 300), "PNG"))
    return path


def test_hash_image_equals_the_reference(picture):
    expected, quality = _reference(np.asarray(scene(400, 300)))
    for source in (picture, picture.read_bytes(), scene(400, 300), np.asarray(scene(400, 300))):
        hashed = nciihash.hash_image(source)
        assert hashed.signal.type is SignalType.PDQ
        assert (hashed.signal.hex, hashed.quality) == (expected, quality)
        assert hashed.variant is Variant.ORIGINAL
        assert not hashed.tied
    assert quality > 50


def test_hashes_of_bundled_photos_equal_the_reference():
    data = pytest.importorskip("skimage.data")
    for name in ("astronaut", "coffee", "chelsea"):
        pixels = getattr(data, name)()
        hashed = hasher.hash_image(pixels)
        assert (hashed.signal.hex, hashed.quality) == _reference(pixels)


def test_hash_file_returns_the_requested_signals_in_order(picture):
    options = (
        *(SignalType.SHA256, SignalType.PDQ, SignalType.DHASH, SignalType.MD5, SignalType.PHASH),
    )
    item = nciihash.hash_file(picture, signals=options)
    assert item.media is Media.IMAGE
    assert tuple(hashed.signal.type for hashed in item.hashes) == options
    by_type = {hashed.signal.type: hashed for hashed in item.hashes}
    data = picture.read_bytes()
    assert by_type[SignalType.SHA256].signal.hex == hashlib.sha256(data).hexdigest()
    assert by_type[SignalType.MD5].signal.hex == hashlib.md5(data).hexdigest()
    assert by_type[SignalType.PHASH].signal.hex == str(imagehash.phash(scene(400, 300)))
    assert by_type[SignalType.DHASH].signal.hex == str(imagehash.dhash(scene(400, 300)))
    assert by_type[SignalType.PDQ] == hasher.hash_image(picture)
    assert by_type[SignalType.PHASH].quality is None


def test_hash_file_returns_only_pdq_by_default(picture):
    item = hasher.hash_file(picture)
    assert item.hashes == (hasher.hash_image(picture),)


def test_exif_orientation_is_applied_before_hashing(tmp_path):
    path = tmp_path / "turned.jpg"
    exif_block = exif(6)
    path.write_bytes(encode(stored(scene(), 6), "JPEG", quality=97, subsampling=0, exif=exif_block))
    options = (SignalType.PHASH, SignalType.DHASH, SignalType.PDQ)
    turned = hasher.hash_file(path, signals=options)
    path.write_bytes(encode(scene(), "JPEG", quality=97, subsampling=0))
    upright = hasher.hash_file(path, signals=options)
    for a, b in zip(turned.hashes, upright.hashes, strict=True):
        assert _distance(a, b) <= a.signal.type.threshold // 2


@pytest.mark.parametrize("variants", ["all", "", "None"])
def test_unknown_variants_raise_an_error_that_lists_the_known_ones(picture, variants):
    with pytest.raises(ValueError, match="use one of none, match, standard, full"):
        hasher.hash_file(picture, variants=variants)


def test_no_signals_raise_an_error(picture):
    with pytest.raises(ValueError, match="at least one"):
        hasher.hash_file(picture, signals=())


def test_a_flat_picture_is_hashed_and_plain():
    hashed = hasher.hash_image(np.full((200, 300, 3), 130, np.uint8))
    assert hashed.quality == 0
    assert hashed.plain


def test_a_tiny_picture_is_hashed_and_plain():
    hashed = hasher.hash_image(np.zeros((3, 400, 3), np.uint8))
    assert (hashed.quality, hashed.plain) == (0, True)


def test_stripes_tie_at_the_median():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::32] = 255
    assert hasher.hash_image(stripes).tied


def test_limits_apply_to_bytes_and_pixels(picture):
    small = Limits(max_pixels=1000)
    with pytest.raises(errors.TooLarge):
        hasher.hash_image(picture, limits=small)
    with pytest.raises(errors.TooLarge):
        hasher.hash_file(picture, limits=small)
    with pytest.raises(errors.TooLarge):
        hasher.hash_file(picture, limits=Limits(max_bytes=100))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(2300, 2101), (1290, 1061), (640, 600), (200, 300)])
def test_fast_stays_within_four_bits_of_exact(orientation, size):
    photo = stored(scene(*size, seed=7), orientation)
    data = encode(photo, "JPEG", quality=90, exif=exif(orientation))
    exact, fast = hasher.hash_image(data), hasher.hash_image(data, fast=True)
    assert exact.quality >= 50
    assert _distance(exact, fast) <= 4
    assert abs(exact.quality - fast.quality) <= 2


def test_fast_hashes_variants_and_digests_too():
    inner = scene(2300, 1700, seed=7)
    page = Image.new("RGB", (2700, 3900), "white")
    page.paste(inner, (200, 1000))
    data = encode(page, "JPEG", quality=90)
    options = {"signals": (SignalType.PDQ, SignalType.MD5)}
    for variants, fewest in (("match", 3), ("standard", 15)):
        exact = hasher.hash_bytes(data, variants=variants, **options)
        fast = hasher.hash_bytes(data, variants=variants, fast=True, **options)
        assert (exact.reduced, fast.reduced) == (False, True)
        assert exact.hashes[-1] == fast.hashes[-1]
        by_variant = {hashed.variant: hashed for hashed in fast.hashes[:-1]}
        both = [h for h in exact.hashes[:-1] if h.variant in by_variant]
        assert len(both) + 1 >= fewest
        for hashed in both:
            within = 6 if hashed.variant in {Variant.ORIGINAL, Variant.TRIM} else 24
            assert _distance(hashed, by_variant[hashed.variant]) <= within, hashed.variant
    options = {"signals": (SignalType.PDQ, SignalType.PHASH)}  # ImageHash's need the full size
    assert hasher.hash_bytes(data, fast=True, **options) == hasher.hash_bytes(data, **options)


def test_fast_is_exact_for_files_that_cannot_be_reduced(picture):
    for source in (picture, scene(900, 900), np.asarray(scene(900, 900))):
        assert hasher.hash_image(source, fast=True) == hasher.hash_image(source)
    cmyk = encode(scene(900, 900).convert("CMYK"), "JPEG")
    assert hasher.hash_image(cmyk, fast=True) == hasher.hash_image(cmyk)


def test_fast_refuses_the_same_files():
    data = encode(scene(900, 900), "JPEG")
    for bad in (data[: len(data) // 2] + b"\xff\xd9", data[:300], b"text"):
        with pytest.raises(errors.FileRefused):
            hasher.hash_image(bad, fast=True)
    with pytest.raises(errors.TooLarge):
        hasher.hash_image(data, fast=True, limits=Limits(max_pixels=9, reduced_pixels=1000))


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_jpeg_of_too_many_pixels_is_reduced_and_marked_so(orientation, tmp_path):
    photo = stored(scene(2300, 2101, seed=7), orientation)
    data = encode(photo, "JPEG", quality=90, exif=exif(orientation))
    limits = Limits(max_pixels=1_000_000)
    whole, large = hasher.hash_bytes(data), hasher.hash_bytes(data, limits=limits)
    assert (whole.reduced, large.reduced) == (False, True)
    assert large.hashes == hasher.hash_bytes(data, fast=True).hashes
    assert hasher.hash_image(data, limits=limits) == large.hashes[0]
    (tmp_path / "large.jpg").write_bytes(data)
    assert hasher.hash_image(tmp_path / "large.jpg", limits=limits) == large.hashes[0]
    assert _distance(whole.hashes[0], large.hashes[0]) <= 4
    options = {"variants": "standard", "signals": (SignalType.PDQ, SignalType.PHASH)}
    exact, reduced = (
        hasher.hash_bytes(data, limits=each, **options) for each in (Limits(), limits)
    )
    by_variant = {h.variant: h for h in reduced.hashes if h.signal.type is SignalType.PDQ}
    for hashed in exact.hashes:
        if hashed.variant in by_variant and hashed.signal.type is SignalType.PDQ:
            # variants are made from the small copy, so they differ by more than the 4 bits
            assert _distance(hashed, by_variant[hashed.variant]) <= 16
    with pytest.raises(errors.TooLarge):
        hasher.hash_bytes(data, limits=Limits(max_pixels=9, reduced_pixels=4_000_000))
    with pytest.raises(errors.TooLarge):
        hasher.hash_bytes(encode(scene(60, 60), "PNG"), limits=Limits(max_pixels=9))


def test_fast_stays_within_four_bits_on_photos(shared_data):
    distances = []
    for folder in ("photos", "photos_large", "exif_orientation"):
        for path in sorted((shared_data / folder).glob("*.jpg"))[::2]:
            exact = hasher.hash_image(path)
            if exact.quality >= 50:
                distances.append(_distance(exact, hasher.hash_image(path, fast=True)))
    assert len(distances) > 40
    assert max(distances) <= 4
    assert sum(distances) / len(distances) <= 0.5


def test_hashes_equal_the_golden_vectors(shared_data):
    vectors = json.loads((shared_data / "pdq_vectors" / "vectors.json").read_text())["vectors"]
    assert len(vectors) > 30
    compared = 0
    for vector in vectors:
        path = shared_data / vector["file"]
        with Image.open(path) as opened:
            # the vectors ignore alpha and orientation; this package does not
            pixels = np.asarray(opened.convert("RGB"))
            plain = not opened.has_transparency_data and opened.getexif().get(0x0112, 1) == 1
        hashed = hasher.hash_image(pixels)
        assert (hashed.signal.hex, hashed.quality) == (vector["pdq"], vector["quality"]), path
        if plain:
            compared += 1
            assert hasher.hash_image(path) == hashed, path
    assert compared > 25


@pytest.mark.parametrize("kind", ["Portrait", "Landscape"])
def test_all_orientations_have_nearly_the_same_hash(shared_data, kind):
    folder = shared_data / "exif_orientation"
    upright = hasher.hash_image(folder / f"{kind}_1.jpg")
    assert upright.quality >= 50
    for n in range(1, 9):
        turned = hasher.hash_image(folder / f"{kind}_{n}.jpg")
        # each file was compressed again after it was rotated
        assert _distance(upright, turned) <= 10, n
