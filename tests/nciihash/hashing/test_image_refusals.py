import io
import os
import re
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile

from nciihash import errors
from nciihash.hashing import image
from nciihash.media.limits import Limits
from support.pictures import chunk, encode, jpeg_with_size, png, scene

RAWS = {
    "Nikon, Sony": encode(scene(), "TIFF", tiffinfo={254: 1}),
    "DNG": encode(scene(), "TIFF", tiffinfo={50706: b"\1\4\0\0"}),
    "Canon": b"II*\0\x10\0\0\0CR\x02\0" + bytes(100),
    "Canon, new": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(100),
    # a directory of one entry, the compression
    "Pentax": b"MM\0*\0\0\0\x08\0\1\1\3\0\3\0\0\0\1\xff\xff\0\0\0\0\0\0",
    "Sony, packed": b"II*\0\x08\0\0\0\1\0\3\1\3\0\1\0\0\0\xff\x7f\0\0\0\0\0\0",
    "Fuji": b"FUJIFILMCCD-RAW 0201" + bytes(100),
    "Olympus": b"IIRS\x08\0\0\0" + bytes(100),
    "Panasonic": b"IIU\0\x18\0\0\0" + bytes(100),
}


@pytest.mark.parametrize("kind", RAWS)
def test_a_cameras_raw_file_is_refused_with_advice(kind):
    # Pillow would decode the thumbnail of some
    with pytest.raises(errors.UnsupportedFormat, match=r"raw file.*export it as JPEG"):
        image.decode(RAWS[kind])


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
def test_a_video_is_refused_as_a_video(data):
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
    # libjpeg fills the rest with grey and only warns; Pillow ignores the warning
    data = FILES[name]
    with pytest.raises(errors.CorruptFile):
        image.decode(data[: int(len(data) * share)] + b"\xff\xd9")


def test_padding_before_and_after_the_end_marker_is_accepted():
    data = FILES["JPEG"]
    padded = data[:-2] + b"\0" + data[-2:]
    np.testing.assert_array_equal(image.decode(padded), image.decode(data))
    np.testing.assert_array_equal(image.decode(data + b"trailer"), image.decode(data))


def test_any_changed_byte_of_a_png_is_detected():
    data = FILES["PNG"]
    for position in range(8, len(data), 97):
        bad = bytearray(data)
        bad[position] ^= 0x10
        with pytest.raises(errors.FileRefused):
            image.decode(bytes(bad))


def test_a_png_without_pixels_end_or_palette_is_refused():
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


def test_compressed_text_in_a_png_is_not_decompressed():
    bomb = zlib.compress(bytes(20 << 20))
    extra = chunk(b"zTXt", b"Comment\0\0" + bomb) + chunk(b"iCCP", b"icc\0\0" + bomb)
    assert image.decode(png(2, 2, bytes(14), extra)).shape == (2, 2, 3)


FALSE_SIZES = [
    png(100_000, 100_000, bytes(3000)),
    png(2**31 - 1, 2**31 - 1, bytes(1000), kind=6),
    png(20_000, 10_000, bytes(3000)),
    jpeg_with_size(FILES["JPEG"], 65_500, 65_500),
    FILES["GIF"][:6] + struct.pack("<HH", 65_535, 65_535) + FILES["GIF"][10:],
    FILES["BMP"][:18] + struct.pack("<ii", 200_000, 200_000) + FILES["BMP"][26:],
    encode(Image.new("1", (16_000, 16_000)), "PNG"),
    encode(Image.new("1", (16_000, 16_000)), "TIFF", compression="group4"),
]


@pytest.mark.parametrize("data", FALSE_SIZES)
def test_the_size_is_checked_before_decoding(data):
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
    with pytest.raises(errors.TooLarge, match="KiB"):
        image.read_bytes(io.BytesIO(data), limits=Limits(max_bytes=len(data) - 1))
    assert image.read_bytes(io.BytesIO(data), limits=Limits(max_bytes=len(data))) == data


def test_pillows_own_pixel_limit_does_not_apply():
    before = Image.MAX_IMAGE_PIXELS
    data = encode(Image.new("L", (10_000, 9_500), 200), "PNG", compress_level=1)
    assert image.decode(data)[-1, -1].tolist() == [200, 200, 200]
    assert before == Image.MAX_IMAGE_PIXELS


def test_paths_that_are_not_regular_files_are_refused(tmp_path):
    with pytest.raises(errors.NotAFile, match="folder"):
        image.read_pixels(tmp_path)
    with pytest.raises(errors.NotAFile, match="does not exist"):
        image.read_pixels(tmp_path / "missing.jpg")
    with pytest.raises(errors.NotAFile):
        image.read_pixels("nul\0byte")
    with pytest.raises(errors.NotAFile, match="regular"):
        image.read_pixels("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(errors.NotAFile, match="regular"):
        image.read_pixels(tmp_path / "pipe")


def test_an_unreadable_file_is_refused_without_its_name(tmp_path, monkeypatch):
    path = tmp_path / "locked.png"
    path.write_bytes(FILES["PNG"])

    def refuse(*arguments, **keywords):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.open", refuse)  # file modes do not stop root
    with pytest.raises(errors.UnreadableFile) as refusal:
        image.read_pixels(path)
    assert "locked" not in str(refusal.value)


def test_an_empty_file_is_refused():
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
def test_arrays_of_other_shapes_or_dtypes_are_refused(bad):
    with pytest.raises(errors.InvalidPixels):
        image.read_pixels(bad)


@pytest.mark.parametrize("bad", [7, None, io.StringIO("text")])
def test_other_sources_raise_a_type_error(bad):
    with pytest.raises(TypeError):
        image.read_pixels(bad)


def test_pillows_load_truncated_images_is_refused(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(errors.UnreadableFile, match="LOAD_TRUNCATED_IMAGES"):
        image.decode(FILES["PNG"])


def test_a_memory_error_in_a_decoder_becomes_too_large(monkeypatch):
    def starve(*arguments, **keywords):
        raise MemoryError

    monkeypatch.setattr("simplejpeg.decode_jpeg", starve)
    with pytest.raises(errors.TooLarge, match="memory"):
        image.decode(FILES["JPEG"])


@pytest.mark.parametrize(
    "kind", [ValueError, RuntimeError, SyntaxError, NotImplementedError, EOFError, KeyError]
)
def test_any_error_of_a_decoder_becomes_corrupt_file(monkeypatch, kind):
    def fail(*arguments, **keywords):
        raise kind("\x1b[31m junk \xff")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(errors.CorruptFile) as refusal:
        image.decode(FILES["PNG"])
    assert "junk" not in str(refusal.value)


def _is_readable(message: str) -> bool:
    """Whether a message is a complete sentence, printable and not long."""
    return bool(re.fullmatch(r"[\x20-\x7e]{20,300}\.", message))


@given(st.sampled_from(sorted(FILES)), st.data())
def test_mutated_files_are_decoded_or_refused_with_a_message(name, data):
    mutated = bytearray(FILES[name])
    for _ in range(data.draw(st.integers(1, 12))):
        position = data.draw(st.integers(0, len(mutated) - 1))
        mutated[position] = data.draw(st.integers(0, 255))
    try:
        pixels = image.decode(bytes(mutated), limits=Limits(max_pixels=4_000_000))
    except errors.FileRefused as refusal:
        message = str(refusal)
    else:
        message = "The file is still a valid picture."
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3
    assert _is_readable(message)


@given(st.binary(max_size=400), st.sampled_from(sorted(FILES)))
def test_junk_after_a_valid_start_is_refused(junk, name):
    with pytest.raises(errors.FileRefused) as refusal:
        image.decode(FILES[name][:24] + junk)
    assert _is_readable(str(refusal.value))


def test_odd_files_are_decoded_or_refused_with_a_message(shared_data):
    files = sorted(p for p in (shared_data / "odd").rglob("*") if p.is_file())
    assert len(files) > 150
    refusals = {}
    for path in files:
        try:
            assert image.read_pixels(path).ndim == 3
        except errors.FileRefused as refusal:
            refusals[path] = str(refusal)
    assert 50 < len(refusals) < len(files)
    assert not [path for path, message in refusals.items() if not _is_readable(message)]
