import csv
import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from nciihash import errors
from nciihash.hashing import image
from nciihash.media import formats
from support.file_kinds.bmps import HEADERS, bmp
from support.heifs import box, coded, heic, heif, tiled, with_depth
from support.pictures import encode, exif, png, scene, stored

LOSSLESS = {
    "PNG": {},
    "BMP": {},
    "TIFF": {},
    "TIFF-deflate": {"compression": "tiff_adobe_deflate"},
    "WEBP": {"lossless": True},
}

LOSSY = {"JPEG": {"quality": 95}, "WEBP": {"quality": 95}, "AVIF": {"quality": 95}}


def test_all_kinds_of_sources_decode_to_the_same_pixels(tmp_path):
    data = encode(scene(), "JPEG")
    path = tmp_path / "picture"
    path.write_bytes(data)
    expected = np.asarray(Image.open(io.BytesIO(data)))
    array = np.asarray(scene())
    with path.open("rb") as file:
        sources = [path, str(path), data, file, io.BytesIO(data), Image.open(io.BytesIO(data))]
        for source in sources:
            np.testing.assert_array_equal(image.read_pixels(source), expected)
    assert image.read_pixels(array) is array


def test_a_file_is_read_from_its_current_position():
    data = encode(scene(), "PNG")
    file = io.BytesIO(b"junk" + data)
    file.seek(4)
    np.testing.assert_array_equal(image.read_pixels(file), np.asarray(scene()))


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats_decode_to_the_original_pixels(name):
    data = encode(scene(), name.partition("-")[0], **LOSSLESS[name])
    pixels = image.decode(data)
    np.testing.assert_array_equal(pixels, np.asarray(scene()))
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_formats_decode_as_in_pillow(name):
    data = encode(scene(), name, **LOSSY[name])
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(image.decode(data), expected)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_the_jpeg_decoder_equals_pillows(subsampling, progressive):
    data = encode(
        scene(333, 217), "JPEG", quality=80, subsampling=subsampling, progressive=progressive
    )
    np.testing.assert_array_equal(image.decode(data), np.asarray(Image.open(io.BytesIO(data))))


def test_gif_palette_is_resolved():
    data = encode(scene().quantize(200), "GIF")
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(image.decode(data), expected)
    assert len(np.unique(expected.reshape(-1, 3), axis=0)) > 50


@pytest.mark.parametrize("quarter_turns", range(4))
@pytest.mark.parametrize("with_exif", [False, True])
def test_a_phones_heic_is_rotated_once(quarter_turns, with_exif):
    # phones write it twice, as HEIF's `irot` and in EXIF; only the first counts
    upright = scene(160, 96)
    sideways = upright.rotate(-90 * quarter_turns, expand=True)
    block = exif({0: 1, 1: 8, 2: 3, 3: 6}[quarter_turns]) if with_exif else b""
    pixels = image.decode(heic(sideways, quarter_turns, block))
    assert pixels.shape == (96, 160, 3)
    assert np.abs(pixels.astype(int) - np.asarray(upright)).mean() < 6


def test_heic_is_read_without_registering_it():
    image.decode(heic(scene()))
    assert "HEIF" not in Image.OPEN


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8, 0.9, 0.98])
def test_a_truncated_heic_is_refused(share):
    data = heic(scene())
    with pytest.raises(errors.CorruptFile):
        image.decode(data[: int(len(data) * share)])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_orientation_is_applied_in_every_format(orientation, name):
    flat = {"JPEG": {"quality": 97, "subsampling": 0}, "AVIF": {"quality": 97}}
    options = flat.get(name, {"lossless": True} if name == "WEBP" else {})
    # `Image.Exif`, which Pillow 11 to 13 all accept
    block = Image.Exif()
    block[0x0112] = orientation
    data = encode(stored(scene(), orientation), name, exif=block, **options)
    pixels = image.decode(data).astype(int)
    assert pixels.shape == (80, 120, 3)
    assert np.abs(pixels - np.asarray(scene())).mean() < 4


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
def test_exif_orientation_is_parsed_in_both_byte_orders(order, kind):
    for value in range(1, 9):
        assert formats.orientation(exif(value, order, kind)) == value
        assert formats.orientation(exif(value, order, kind).removeprefix(b"Exif\0\0")) == value


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
def test_invalid_orientations_count_as_upright(value):
    assert formats.orientation(exif(value)) == 1


@given(st.binary(max_size=200))
def test_garbage_exif_is_ignored(block):
    assert 1 <= formats.orientation(block) <= 8
    assert 1 <= formats.orientation(b"Exif\0\0II*\0" + block) <= 8


def test_a_jpeg_with_garbage_exif_is_decoded_without_a_warning():
    data = encode(scene(), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", 102) + b"Exif\0\0MM\0*" + bytes(range(90))
    bad = data[:2] + segment + data[2:]
    np.testing.assert_array_equal(image.decode(bad), image.decode(data))


def test_alpha_is_flattened_on_white():
    rgba = scene().convert("RGBA")
    alpha = np.linspace(0, 255, 120).astype(np.uint8)
    rgba.putalpha(Image.fromarray(np.tile(alpha, (80, 1))))
    page = Image.new("RGBA", rgba.size, "white")
    page.alpha_composite(rgba)
    expected = np.asarray(page.convert("RGB")).astype(int)
    for data in (encode(rgba, "PNG"), encode(rgba, "WEBP", lossless=True, exact=True)):
        actual = image.decode(data).astype(int)
        assert np.abs(actual - expected).max() <= 1
        assert (actual[:, 0] == 255).all()  # fully transparent pixels become white
    assert np.abs(image.read_pixels(rgba).astype(int) - expected).max() <= 1


def test_grey_with_alpha_is_flattened_on_white():
    la = scene().convert("LA")
    la.putalpha(128)
    grey = np.asarray(scene().convert("L")).astype(float)
    expected = (grey * 128 + 255 * 127) / 255
    actual = image.decode(encode(la, "PNG")).astype(float)
    assert np.abs(actual - expected[..., None]).max() <= 0.51


def test_a_transparent_palette_colour_becomes_white():
    palette = scene().quantize(16)
    index = int(np.asarray(palette)[0, 0])
    is_transparent = np.asarray(palette) == index
    for image_format in ("PNG", "GIF"):
        actual = image.decode(encode(palette, image_format, transparency=index))
        assert (actual[is_transparent] == 255).all()
        assert (
            actual[~is_transparent] == np.asarray(palette.convert("RGB"))[~is_transparent]
        ).all()


def test_a_palette_with_alpha_per_colour_is_flattened():
    palette = scene().quantize(4)
    actual = image.decode(encode(palette, "PNG", transparency=bytes([128, 255, 255, 255])))
    colours = np.asarray(palette.convert("RGB")).astype(float)
    half = (np.asarray(palette) == 0)[..., None]
    expected = np.where(half, (colours * 128 + 255 * 127) / 255, colours)
    assert np.abs(actual - expected).max() <= 0.51


def test_cmyk_jpegs_are_not_inverted():
    cmyk = scene().convert("CMYK")
    data = encode(cmyk, "JPEG", quality=97)  # Pillow writes Adobe's marker and inverts
    assert b"Adobe" in data
    actual = image.decode(data).astype(int)
    assert np.abs(actual - np.asarray(scene())).mean() < 4
    np.testing.assert_array_equal(actual, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    upright = image.decode(encode(cmyk, "TIFF"))
    assert np.abs(upright.astype(int) - np.asarray(scene())).max() <= 1


def test_16_bit_greys_are_reduced_to_their_upper_eight_bits():
    grey = (np.arange(80 * 120).reshape(80, 120) * 6).astype(np.uint16)
    for image_format in ("PNG", "TIFF"):
        actual = image.decode(encode(Image.fromarray(grey), image_format))
        np.testing.assert_array_equal(actual, np.repeat((grey >> 8)[..., None], 3, 2))


def test_16_bit_colours_are_reduced_to_their_upper_eight_bits():
    values = np.random.default_rng(2).integers(0, 65536, (10, 12, 3), np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    np.testing.assert_array_equal(image.decode(png(12, 10, rows, depth=16)), values >> 8)


def test_grey_and_bilevel_pictures_become_rgb():
    for mode in ("L", "1"):
        small = scene().convert(mode)
        actual = image.decode(encode(small, "PNG"))
        np.testing.assert_array_equal(actual, np.asarray(small.convert("RGB")))
        assert len(np.unique(actual)) >= 2


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_an_animation_decodes_to_its_first_frame(image_format):
    options = {"lossless": True} if image_format == "WEBP" else {}
    frames = [scene(seed=n) for n in (2, 3)]
    data = encode(scene(), image_format, save_all=True, append_images=frames, **options)
    first = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(image.decode(data), first)
    assert np.abs(first.astype(int) - np.asarray(scene())).mean() < 15


def test_measured_values_are_refused():
    for mode in ("I", "F"):
        with pytest.raises(errors.UnsupportedFormat):
            image.read_pixels(Image.new(mode, (8, 8)))
    floats = encode(Image.new("F", (20, 20)), "TIFF")
    with pytest.raises(errors.UnsupportedFormat):
        image.decode(floats)


def test_an_ordinary_tiff_is_not_taken_for_a_raw_file():
    for options in ({}, {"compression": "tiff_lzw"}, {"compression": "packbits"}):
        image.decode(encode(scene(), "TIFF", tiffinfo={254: 0}, **options))


@pytest.fixture(scope="module")
def heic_photos():
    """Encode a few pictures once; the encoder is slow."""
    upright, other = scene(128, 96), scene(128, 96, seed=4)
    return {
        "deep": heic(upright, pix_fmt="yuv420p10le"),
        "tiled": tiled(upright, 1, 2),
        "depth": with_depth(upright, scene(64, 64, seed=9).convert("L").convert("RGB")),
        "burst": heif([coded(other), coded(upright)], primary=2),
    }


@pytest.mark.parametrize(
    ("kind", "frames"), [("deep", 1), ("tiled", 1), ("depth", 1), ("burst", 2)]
)
def test_the_primary_picture_of_a_heic_is_decoded(heic_photos, kind, frames):
    data = heic_photos[kind]
    pixels = image.decode(data)
    assert pixels.shape == (96, 128, 3)
    assert np.abs(pixels.astype(int) - np.asarray(scene(128, 96))).mean() < 6
    assert image.count_frames(data) == frames


@pytest.mark.parametrize("header", HEADERS)
def test_a_bmp_whose_alpha_is_all_zero_is_opaque(header):
    opaque, transparent = np.asarray(scene()), np.zeros((80, 120), np.uint8)
    gradient = np.tile(np.arange(120, dtype=np.uint8), (80, 1))
    for masks in (True, False):
        np.testing.assert_array_equal(
            image.decode(bmp(scene(), transparent, header, masks=masks)), opaque
        )
    np.testing.assert_array_equal(image.decode(bmp(scene(), gradient, header, masks=False)), opaque)
    actual = image.decode(bmp(scene(), gradient, header))
    alpha = gradient[..., None] / 255 if header >= 56 else 1
    assert np.abs(actual - (opaque * alpha + 255 * (1 - alpha))).max() <= 1


def test_a_wide_gamut_is_not_converted():
    # platforms' own hashes do not convert it either, and colours change few bits
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    other_profile = profile[:200] + bytes(100) + profile[300:]  # a different profile
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        plain = encode(scene(), kind)
        for each in (profile, other_profile):
            np.testing.assert_array_equal(
                image.decode(encode(scene(), kind, icc_profile=each)), image.decode(plain)
            )


def test_motion_photos_are_detected(heic_photos):
    video = b"\0\0\0\x1cftypmp42\0\0\0\0mp42isom" + bytes(400)
    still = encode(scene(), "JPEG")
    np.testing.assert_array_equal(image.decode(still + video), image.decode(still))
    assert formats.holds_video(still + video)
    assert formats.holds_video(still + b"MotionPhoto_Data" + video + b"SEFT")
    for more in (b"", b"ftypmp42", still, heic_photos["deep"]):
        assert not formats.holds_video(still + more)
    photo = heic_photos["deep"]
    assert formats.holds_video(photo + box(b"mpvd", video))
    for more in (b"", box(b"free", video), b"\0\0\0\0mpv", bytes(40), box(b"mdat", b"mpvd" * 9)):
        assert not formats.holds_video(photo + more)
    np.testing.assert_array_equal(image.decode(photo + box(b"mpvd", video)), image.decode(photo))


@given(st.binary(max_size=200))
def test_detecting_a_motion_photo_never_raises(data):
    formats.holds_video(b"\xff\xd8" + data)
    formats.holds_video(b"\0\0\0\x10ftypheic" + data)


def test_the_files_name_is_ignored(tmp_path):
    path = tmp_path / "holiday.mp4"
    path.write_bytes(encode(scene(), "PNG"))
    np.testing.assert_array_equal(image.read_pixels(path), np.asarray(scene()))


def test_sample_photos_decode_as_in_pillow(shared_data):
    with (shared_data / "manifest.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["kind"] in {"hard_negative", "photo"}]
    assert len(rows) > 200
    for row in rows[::4]:
        path = shared_data / row["path"]
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened)
            if upright.has_transparency_data:
                page = Image.new("RGBA", upright.size, "white")
                page.alpha_composite(upright.convert("RGBA"))
                upright = page
            np.testing.assert_array_equal(
                image.read_pixels(path), np.asarray(upright.convert("RGB")), str(path)
            )
