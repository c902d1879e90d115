import csv
import io
import os
import re
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile, ImageOps

from nciihash import errors
from nciihash.hashing import image
from nciihash.media import formats
from nciihash.media.limits import Limits
from support.heifs import box, coded, heic, heif, tiled, with_depth
from support.pictures import chunk, encode, exif, jpeg_with_size, png, scene, stored

LOSSLESS = {
    "PNG": {},
    "BMP": {},
    "TIFF": {},
    "TIFF-deflate": {"compression": "tiff_adobe_deflate"},
    "WEBP": {"lossless": True},
}
LOSSY = {"JPEG": {"quality": 95}, "WEBP": {"quality": 95}, "AVIF": {"quality": 95}}


def test_source_kinds_give_the_same_pixels(tmp_path):
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


def test_a_file_is_read_from_where_it_stands():
    data = encode(scene(), "PNG")
    file = io.BytesIO(b"junk" + data)
    file.seek(4)
    np.testing.assert_array_equal(image.read_pixels(file), np.asarray(scene()))


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats_give_the_very_pixels(name):
    data = encode(scene(), name.partition("-")[0], **LOSSLESS[name])
    pixels = image.decode(data)
    np.testing.assert_array_equal(pixels, np.asarray(scene()))
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_formats_give_pillows_pixels(name):
    data = encode(scene(), name, **LOSSY[name])
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(image.decode(data), expected)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_decoder_agrees_with_pillows_to_the_bit(subsampling, progressive):
    data = encode(
        scene(333, 217), "JPEG", quality=80, subsampling=subsampling, progressive=progressive
    )
    np.testing.assert_array_equal(image.decode(data), np.asarray(Image.open(io.BytesIO(data))))


def test_gif_palette_is_resolved():
    data = encode(scene().quantize(200), "GIF")
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(image.decode(data), expected)
    assert len(np.unique(expected.reshape(-1, 3), axis=0)) > 50


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("with_exif", [False, True])
def test_a_phones_heic_is_turned_once(turns, with_exif):
    # phones say it twice, as HEIF's own turn and in EXIF; only the first one counts
    upright = scene(160, 96)
    sideways = upright.rotate(-90 * turns, expand=True)
    block = exif({0: 1, 1: 8, 2: 3, 3: 6}[turns]) if with_exif else b""
    pixels = image.decode(heic(sideways, turns, block))
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
    # a long block, which Pillow 11 to 13 all take
    block = Image.Exif()
    block[0x0112] = orientation
    data = encode(stored(scene(), orientation), name, exif=block, **options)
    pixels = image.decode(data).astype(int)
    assert pixels.shape == (80, 120, 3)
    assert np.abs(pixels - np.asarray(scene())).mean() < 4


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
def test_orientation_is_parsed_in_both_byte_orders(order, kind):
    for value in range(1, 9):
        assert formats.orientation(exif(value, order, kind)) == value
        assert formats.orientation(exif(value, order, kind).removeprefix(b"Exif\0\0")) == value


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
def test_impossible_orientations_count_as_upright(value):
    assert formats.orientation(exif(value)) == 1


@given(st.binary(max_size=200))
def test_garbage_exif_is_ignored(block):
    assert 1 <= formats.orientation(block) <= 8
    assert 1 <= formats.orientation(b"Exif\0\0II*\0" + block) <= 8


def test_a_jpeg_with_garbage_exif_is_hashed_without_a_warning():
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
        got = image.decode(data).astype(int)
        assert np.abs(got - expected).max() <= 1
        assert (got[:, 0] == 255).all()  # where nothing is to be seen, white paper is
    assert np.abs(image.read_pixels(rgba).astype(int) - expected).max() <= 1


def test_grey_with_alpha_is_flattened_on_white():
    la = scene().convert("LA")
    la.putalpha(128)
    grey = np.asarray(scene().convert("L")).astype(float)
    expected = (grey * 128 + 255 * 127) / 255
    got = image.decode(encode(la, "PNG")).astype(float)
    assert np.abs(got - expected[..., None]).max() <= 0.51


def test_a_transparent_palette_colour_becomes_white():
    palette = scene().quantize(16)
    index = int(np.asarray(palette)[0, 0])
    clear = np.asarray(palette) == index
    for format in ("PNG", "GIF"):
        got = image.decode(encode(palette, format, transparency=index))
        assert (got[clear] == 255).all()
        assert (got[~clear] == np.asarray(palette.convert("RGB"))[~clear]).all()


def test_a_palette_with_an_alpha_a_colour_is_flattened():
    palette = scene().quantize(4)
    got = image.decode(encode(palette, "PNG", transparency=bytes([128, 255, 255, 255])))
    colours = np.asarray(palette.convert("RGB")).astype(float)
    half = (np.asarray(palette) == 0)[..., None]
    expected = np.where(half, (colours * 128 + 255 * 127) / 255, colours)
    assert np.abs(got - expected).max() <= 0.51


def test_cmyk_jpeg_is_the_right_way_round():
    inks = scene().convert("CMYK")
    data = encode(inks, "JPEG", quality=97)  # Pillow writes Adobe's marker and inverts
    assert b"Adobe" in data
    got = image.decode(data).astype(int)
    assert np.abs(got - np.asarray(scene())).mean() < 4
    np.testing.assert_array_equal(got, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    upright = image.decode(encode(inks, "TIFF"))
    assert np.abs(upright.astype(int) - np.asarray(scene())).max() <= 1


def test_deep_greys_keep_their_upper_eight_bits():
    grey = (np.arange(80 * 120).reshape(80, 120) * 6).astype(np.uint16)
    for format in ("PNG", "TIFF"):
        got = image.decode(encode(Image.fromarray(grey), format))
        np.testing.assert_array_equal(got, np.repeat((grey >> 8)[..., None], 3, 2))


def test_sixteen_bit_colour_keeps_its_upper_eight_bits():
    values = np.random.default_rng(2).integers(0, 65536, (10, 12, 3), np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    np.testing.assert_array_equal(image.decode(png(12, 10, rows, depth=16)), values >> 8)


def test_grey_and_bilevel_pictures_become_rgb():
    for mode in ("L", "1"):
        small = scene().convert(mode)
        got = image.decode(encode(small, "PNG"))
        np.testing.assert_array_equal(got, np.asarray(small.convert("RGB")))
        assert len(np.unique(got)) >= 2


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_an_animation_gives_its_first_frame(format):
    options = {"lossless": True} if format == "WEBP" else {}
    frames = [scene(seed=n) for n in (2, 3)]
    data = encode(scene(), format, save_all=True, append_images=frames, **options)
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


RAWS = {
    "Nikon, Sony": encode(scene(), "TIFF", tiffinfo={254: 1}),
    "DNG": encode(scene(), "TIFF", tiffinfo={50706: b"\1\4\0\0"}),
    "Canon": b"II*\0\x10\0\0\0CR\x02\0" + bytes(100),
    "Canon, new": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(100),
    # a directory of one entry, which says how the pixels are packed
    "Pentax": b"MM\0*\0\0\0\x08\0\1\1\3\0\3\0\0\0\1\xff\xff\0\0\0\0\0\0",
    "Sony, packed": b"II*\0\x08\0\0\0\1\0\3\1\3\0\1\0\0\0\xff\x7f\0\0\0\0\0\0",
    "Fuji": b"FUJIFILMCCD-RAW 0201" + bytes(100),
    "Olympus": b"IIRS\x08\0\0\0" + bytes(100),
    "Panasonic": b"IIU\0\x18\0\0\0" + bytes(100),
}


@pytest.mark.parametrize("kind", RAWS)
def test_a_cameras_raw_file_is_refused_and_told_what_to_do(kind):
    # what Pillow would show of some is a thumbnail
    with pytest.raises(errors.UnsupportedFormat, match=r"raw file.*export it as JPEG"):
        image.decode(RAWS[kind])


def test_a_tiff_is_no_raw_file():
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
def test_of_a_heic_the_picture_is_hashed_that_a_person_sees(heic_photos, kind, frames):
    data = heic_photos[kind]
    pixels = image.decode(data)
    assert pixels.shape == (96, 128, 3)
    assert np.abs(pixels.astype(int) - np.asarray(scene(128, 96))).mean() < 6
    assert image.count_frames(data) == frames


def test_a_wide_gamut_is_not_converted():
    # platforms' own hashes do not convert it either, and colours move few bits
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    odd = profile[:200] + bytes(100) + profile[300:]  # another profile, whatever it says
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        plain = encode(scene(), kind)
        for each in (profile, odd):
            np.testing.assert_array_equal(
                image.decode(encode(scene(), kind, icc_profile=each)), image.decode(plain)
            )


def test_a_moving_photo_is_told_from_a_still_one(heic_photos):
    film = b"\0\0\0\x1cftypmp42\0\0\0\0mp42isom" + bytes(400)
    still = encode(scene(), "JPEG")
    np.testing.assert_array_equal(image.decode(still + film), image.decode(still))
    assert formats.holds_video(still + film)
    assert formats.holds_video(still + b"MotionPhoto_Data" + film + b"SEFT")
    for more in (b"", b"ftypmp42", still, heic_photos["deep"]):
        assert not formats.holds_video(still + more)
    photo = heic_photos["deep"]
    assert formats.holds_video(photo + box(b"mpvd", film))
    for more in (b"", box(b"free", film), b"\0\0\0\0mpv", bytes(40), box(b"mdat", b"mpvd" * 9)):
        assert not formats.holds_video(photo + more)
    np.testing.assert_array_equal(image.decode(photo + box(b"mpvd", film)), image.decode(photo))


@given(st.binary(max_size=200))
def test_whatever_follows_a_photo_is_looked_at_in_peace(data):
    formats.holds_video(b"\xff\xd8" + data)
    formats.holds_video(b"\0\0\0\x10ftypheic" + data)


VIDEOS = [
    b"\0\0\0\x18ftypisom\0\0\0\0isommp42",
    b"\0\0\0\x14ftypqt  \0\0\0\0qt  ",
    b"\0\0\0\x18ftyp3gp5\0\0\0\0isom3gp5",
    b"\0\0\0\x08wide\0\0\0\0mdat",
    b"\x1aE\xdf\xa3" + bytes(40),
    b"RIFF\0\0\0\0AVI LIST",
    b"OggS" + bytes(40),
    b"FLV\x01\x05" + bytes(40),
    b"G" + bytes(187) + b"G" + bytes(187) + b"G" + bytes(187),
]


@pytest.mark.parametrize("data", VIDEOS)
def test_a_video_is_called_a_video(data):
    with pytest.raises(errors.UnsupportedFormat, match="video"):
        image.decode(data)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"this is not a picture\n" * 40, "not a picture"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"%PDF-1.7\n", "PDF"),
        (b"8BPS\0\1" + bytes(30), "Photoshop"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"PK\x03\x04" + bytes(30), "ZIP"),
        (bytes(65536), "not a picture"),
        (b"\xff", "not a picture"),
        (b"\x01\xda" + bytes(600), "not a picture"),  # SGI: Pillow reads it, we do not
        (b"DDS " + bytes(200), "not a picture"),
    ],
)
def test_other_files_are_refused_by_content(data, word):
    with pytest.raises(errors.UnsupportedFormat, match=word):
        image.decode(data)


def test_the_name_says_nothing(tmp_path):
    path = tmp_path / "holiday.mp4"
    path.write_bytes(encode(scene(), "PNG"))
    np.testing.assert_array_equal(image.read_pixels(path), np.asarray(scene()))


FILES = {
    "JPEG": encode(scene(), "JPEG", quality=90),
    "JPEG progressive": encode(scene(), "JPEG", quality=90, progressive=True),
    "JPEG CMYK": encode(scene().convert("CMYK"), "JPEG", quality=90),
    "PNG": encode(scene(), "PNG"),
    "WebP": encode(scene(), "WEBP", quality=80),
    "WebP lossless": encode(scene(), "WEBP", lossless=True),
    "GIF": encode(scene().quantize(200), "GIF"),
    "BMP": encode(scene(), "BMP"),
    "TIFF": encode(scene(), "TIFF"),
    "TIFF deflate": encode(scene(), "TIFF", compression="tiff_adobe_deflate"),
    "AVIF": encode(scene(), "AVIF", quality=80),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 0.97])
def test_truncated_files_are_refused(name, share):
    data = FILES[name]
    with pytest.raises(errors.CorruptFile):
        image.decode(data[: int(len(data) * share)])


@pytest.mark.parametrize("name", ["JPEG", "JPEG progressive", "JPEG CMYK"])
@pytest.mark.parametrize("share", [0.5, 0.7, 0.9, 0.99])
def test_a_jpeg_cut_short_and_closed_again_is_refused(name, share):
    # libjpeg fills the rest with grey and merely warns; Pillow gives the half picture out
    data = FILES[name]
    with pytest.raises(errors.CorruptFile):
        image.decode(data[: int(len(data) * share)] + b"\xff\xd9")


@pytest.mark.parametrize("name", ["JPEG", "JPEG progressive"])
def test_a_jpeg_without_its_end_is_refused(name):
    with pytest.raises(errors.CorruptFile):
        image.decode(FILES[name][:-2])


def test_a_padding_byte_that_some_cameras_add_is_no_damage():
    data = FILES["JPEG"]
    padded = data[:-2] + b"\0" + data[-2:]
    np.testing.assert_array_equal(image.decode(padded), image.decode(data))
    np.testing.assert_array_equal(image.decode(data + b"trailer"), image.decode(data))


def test_any_changed_byte_of_a_png_is_noticed():
    data = FILES["PNG"]
    for place in range(8, len(data), 97):
        bad = bytearray(data)
        bad[place] ^= 0x10
        with pytest.raises(errors.FileRefused):
            image.decode(bytes(bad))


def test_a_png_needs_pixels_an_end_and_its_palette():
    data = FILES["PNG"]
    for bad in (
        data[:-12],
        data[:33] + chunk(b"IEND", b""),
        data[:33] + data[8:],
        png(4, 4, bytes(20), kind=3),
        png(2, 2, bytes(14), chunk(b"ABCD", b"")),
    ):
        with pytest.raises(errors.CorruptFile):
            image.decode(bad)


def test_bombs_in_a_pngs_text_are_not_unpacked():
    bomb = zlib.compress(bytes(20 << 20))
    extra = chunk(b"zTXt", b"Comment\0\0" + bomb) + chunk(b"iCCP", b"icc\0\0" + bomb)
    assert image.decode(png(2, 2, bytes(14), extra)).shape == (2, 2, 3)


LIARS = [
    png(100_000, 100_000, bytes(3000)),
    png(2**31 - 1, 2**31 - 1, bytes(1000), kind=6),
    png(20_000, 10_000, bytes(3000)),
    jpeg_with_size(FILES["JPEG"], 65_500, 65_500),
    FILES["GIF"][:6] + struct.pack("<HH", 65_535, 65_535) + FILES["GIF"][10:],
    FILES["BMP"][:18] + struct.pack("<ii", 200_000, 200_000) + FILES["BMP"][26:],
    encode(Image.new("1", (16_000, 16_000)), "PNG"),
    encode(Image.new("1", (16_000, 16_000)), "TIFF", compression="group4"),
]


@pytest.mark.parametrize("data", LIARS)
def test_the_header_is_measured_before_anything_is_decoded(data):
    with pytest.raises(errors.TooLarge) as refusal:
        image.decode(data)
    assert "Save a smaller copy" in str(refusal.value)


def test_limits_are_arguments():
    data = encode(scene(100, 100), "PNG")
    assert image.decode(data, limits=Limits(max_pixels=10_000)).shape == (100, 100, 3)
    with pytest.raises(errors.TooLarge, match="100 x 100"):
        image.decode(data, limits=Limits(max_pixels=9_999))
    with pytest.raises(errors.TooLarge):
        image.read_pixels(scene(100, 100), limits=Limits(max_pixels=9_999))
    with pytest.raises(errors.TooLarge, match="MiB"):
        image.read_bytes(io.BytesIO(data), limits=Limits(max_bytes=len(data) - 1))
    assert image.read_bytes(io.BytesIO(data), limits=Limits(max_bytes=len(data))) == data


def test_a_picture_larger_than_pillows_own_limit_needs_no_global_change():
    before = Image.MAX_IMAGE_PIXELS
    data = encode(Image.new("L", (10_000, 9_500), 200), "PNG", compress_level=1)
    assert image.decode(data)[-1, -1].tolist() == [200, 200, 200]
    assert before == Image.MAX_IMAGE_PIXELS


def test_paths_that_are_no_files(tmp_path):
    with pytest.raises(errors.NotAFile, match="folder"):
        image.read_pixels(tmp_path)
    with pytest.raises(errors.NotAFile, match="Nothing"):
        image.read_pixels(tmp_path / "missing.jpg")
    with pytest.raises(errors.NotAFile):
        image.read_pixels("nul\0byte")
    with pytest.raises(errors.NotAFile, match="regular"):
        image.read_pixels("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(errors.NotAFile, match="regular"):
        image.read_pixels(tmp_path / "pipe")


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = tmp_path / "locked.png"
    path.write_bytes(FILES["PNG"])

    def refuse(*arguments, **keywords):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.open", refuse)  # root may read everything
    with pytest.raises(errors.UnreadableFile) as refusal:
        image.read_pixels(path)
    assert "locked" not in str(refusal.value)


def test_an_empty_file():
    with pytest.raises(errors.EmptyFile):
        image.read_pixels(b"")


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_arrays_of_another_kind(bad):
    with pytest.raises(errors.InvalidPixels):
        image.read_pixels(bad)


@pytest.mark.parametrize("bad", [7, None, io.StringIO("text")])
def test_sources_of_another_kind(bad):
    with pytest.raises(TypeError):
        image.read_pixels(bad)


def test_a_program_that_accepts_cut_files_is_told(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(errors.UnreadableFile, match="LOAD_TRUNCATED_IMAGES"):
        image.decode(FILES["PNG"])


def test_a_decoder_that_runs_out_of_memory_means_too_large(monkeypatch):
    def starve(*arguments, **keywords):
        raise MemoryError

    monkeypatch.setattr("simplejpeg.decode_jpeg", starve)
    with pytest.raises(errors.TooLarge, match="memory"):
        image.decode(FILES["JPEG"])


@pytest.mark.parametrize(
    "kind", [ValueError, RuntimeError, SyntaxError, NotImplementedError, EOFError, KeyError]
)
def test_whatever_a_decoder_raises_becomes_ours(monkeypatch, kind):
    def fail(*arguments, **keywords):
        raise kind("\x1b[31m junk \xff")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(errors.CorruptFile) as refusal:
        image.decode(FILES["PNG"])
    assert "junk" not in str(refusal.value)


def _plain(sentence: str) -> bool:
    """Tell whether a message is text for a person: complete, printable, not long."""
    return bool(re.fullmatch(r"[\x20-\x7e]{20,300}\.", sentence))


@given(st.sampled_from(sorted(FILES)), st.data())
def test_mutated_files_are_hashed_or_refused_in_plain_words(name, data):
    mutated = bytearray(FILES[name])
    for _ in range(data.draw(st.integers(1, 12))):
        place = data.draw(st.integers(0, len(mutated) - 1))
        mutated[place] = data.draw(st.integers(0, 255))
    try:
        pixels = image.decode(bytes(mutated), limits=Limits(max_pixels=4_000_000))
    except errors.FileRefused as refusal:
        sentence = str(refusal)
    else:
        sentence = "The file is a whole picture, still."
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3
    assert _plain(sentence)


@given(st.binary(max_size=400), st.sampled_from(sorted(FILES)))
def test_junk_behind_a_true_beginning_is_refused(junk, name):
    with pytest.raises(errors.FileRefused) as refusal:
        image.decode(FILES[name][:24] + junk)
    assert _plain(str(refusal.value))


def test_odd_files_are_hashed_or_refused_in_plain_words(shared_data):
    files = sorted(p for p in (shared_data / "odd").rglob("*") if p.is_file())
    assert len(files) > 150
    refusals = {}
    for path in files:
        try:
            assert image.read_pixels(path).ndim == 3
        except errors.FileRefused as refusal:
            refusals[path] = str(refusal)
    assert 50 < len(refusals) < len(files)
    assert not [path for path, sentence in refusals.items() if not _plain(sentence)]


def test_sample_photos_have_pillows_pixels(shared_data):
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
