import io
import struct
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from nciihash import errors
from nciihash.hashing import hasher, image
from nciihash.media.tiff_pages import pages
from support.file_kinds import tiffs
from support.file_kinds.tiffs import (
    CMYK,
    DEFLATE,
    GREY,
    JPEG,
    PALETTE,
    RGB,
    Kind,
    samples,
    tiff,
    wanted,
)
from support.pictures import encode, exif, scene, stored

ALL = list(tiffs.kinds())


def test_every_kind_is_decoded_correctly_or_refused():
    """Decode every seventh kind; `make tiff-sweep` decodes all and compares with tifffile."""
    assert len(ALL) > 1000
    right = 0
    for kind in ALL[::7]:
        values = samples(kind, 72, 48)
        try:
            actual = image.decode(tiff(kind, values))
        except errors.UnsupportedFormat:
            continue
        assert np.abs(actual - wanted(kind, values)).max() <= (
            24 if kind.compression == JPEG else 2
        )
        right += 1
    assert right > 0.8 * len(ALL[::7])


CONFUSING = [
    Kind(RGB, 16, planar=2),
    Kind(RGB, 16, (2,), planar=2, tiled=True, order=">"),
    Kind(GREY, 8, (2,), planar=2, compression=DEFLATE),
    Kind(GREY, 16, (1,), compression=DEFLATE, predictor=2),
    Kind(tiffs.GREY_INVERTED, 16),
    Kind(GREY, 12),
    Kind(CMYK, 16, planar=2),
    Kind(CMYK, 8, (2,)),
    Kind(PALETTE, 4, tiled=True),
    Kind(PALETTE, 8, (2,), planar=2, compression=tiffs.LZW),
    Kind(RGB, 8, compression=tiffs.LZW, predictor=2, tiled=True, big=True),
]


@pytest.mark.parametrize("kind", CONFUSING, ids=str)
def test_kinds_that_decoders_get_wrong_are_decoded_correctly(kind):
    values = samples(kind)
    assert np.abs(image.decode(tiff(kind, values)) - wanted(kind, values)).max() <= 2


@pytest.mark.parametrize("kind", CONFUSING, ids=str)
@pytest.mark.parametrize("share", [0.2, 0.9])
def test_truncated_files_are_refused(kind, share):
    # the directory comes last, so also test an offset past the end
    data = tiff(kind, samples(kind))
    with pytest.raises(errors.CorruptFile):
        image.decode(data[: int(len(data) * share)])
    page = next(pages(data))
    _, _, offset = page.entries.get(324) or page.entries[273]
    moved = bytearray(data)
    # the low bytes of the first offset
    at = offset if kind.order == "<" else offset + (4 if kind.big else 0)
    moved[at : at + 4] = struct.pack(kind.order + "I", len(data) - 4)
    with pytest.raises(errors.CorruptFile):
        image.decode(bytes(moved))


def test_pillows_pixel_limit_does_not_apply_to_bytes(monkeypatch):
    # four samples of 16 bits are eight bytes per pixel
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 120 * 80)
    for kind in (Kind(RGB, 16, (2,)), Kind(RGB, 16, compression=DEFLATE)):
        values = samples(kind)
        assert np.abs(image.decode(tiff(kind, values)) - wanted(kind, values)).max() <= 2


@pytest.mark.parametrize("photometric", [GREY, RGB, CMYK])
@pytest.mark.parametrize("tiled", [False, True])
def test_truncated_jpeg_data_are_refused(photometric, tiled):
    kind = Kind(photometric, compression=JPEG, rows=16, tiled=tiled)
    data = tiff(kind, samples(kind))
    assert image.decode(data).shape == (80, 120, 3)
    page = next(pages(data))
    starts, sizes = page.values(324) or page.values(273), page.values(325) or page.values(279)
    start, size = starts[1], sizes[1]
    cut = data[: start + size // 2] + bytes(size - size // 2) + data[start + size :]
    with pytest.raises(errors.CorruptFile):
        image.decode(cut)


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (Kind(GREY, 32), "measured"),
        (Kind(GREY, 16, sample_format=tiffs.SIGNED), "measured"),
        (Kind(RGB, 32, sample_format=tiffs.FLOAT), "measured"),
        (Kind(tiffs.LAB, 8), "rare"),
        (Kind(RGB, 8, planar=2, compression=JPEG), "rare"),
        (Kind(PALETTE, 16), "rare"),
    ],
)
def test_unsupported_kinds_are_not_refused_as_damaged(kind, word):
    with pytest.raises(errors.UnsupportedFormat, match=word):
        image.decode(tiff(kind, samples(kind)))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("order", "<>")
def test_a_palette_of_8_bit_colours_is_recognised(bits, order):
    kind = Kind(PALETTE, bits, order=order)
    values = samples(kind)
    actual = image.decode(tiff(kind, values, palette_bits=8))
    np.testing.assert_array_equal(actual, wanted(kind, values))


def thumbnail(kind, width=24, height=16):
    return kind, samples(kind, width, height), {254: (4, struct.pack(kind.order + "I", 1))}


@pytest.mark.parametrize("kind", [Kind(), Kind(order=">", big=True)], ids=str)
def test_a_thumbnail_on_the_first_page_is_skipped(kind):
    values = samples(kind)
    page = (kind, values, {})
    data = tiffs.join_pages([thumbnail(kind), thumbnail(kind), page])
    np.testing.assert_array_equal(image.decode(data), wanted(kind, values))
    assert image.count_frames(data) == 1
    two = tiffs.join_pages([page, thumbnail(kind), (kind, values[::-1], {})])
    np.testing.assert_array_equal(image.decode(two), wanted(kind, values))
    assert image.count_frames(two) == 2


def test_a_thumbnail_and_camera_data_are_a_raw_file():
    kind = Kind()
    sub = {330: (4, struct.pack("<I", 8))}
    mosaic = replace(kind, photometric=32803)
    for data in (
        tiffs.join_pages([thumbnail(kind)]),
        tiffs.join_pages(
            [(*thumbnail(kind)[:2], thumbnail(kind)[2] | sub), (kind, samples(kind), {})]
        ),
        tiffs.join_pages(
            [thumbnail(kind), (replace(kind), samples(kind), {50706: (1, b"\1\4\0\0")})]
        ),
        _with_photometric(
            tiffs.join_pages([thumbnail(kind), (kind, samples(kind), {})]), mosaic.photometric
        ),
    ):
        with pytest.raises(errors.UnsupportedFormat, match="raw file"):
            image.decode(data)


def _with_photometric(data, value):
    """Replace the photometric kind of the last page."""
    at = data.rindex(struct.pack("<HHI", 262, 3, 1)) + 8
    return data[:at] + struct.pack("<H", value) + data[at + 2 :]


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("type", [1, 2])
def test_xmp_orientation_in_a_tiff_is_ignored(type):
    kind = Kind()
    values = samples(kind)
    data = tiff(kind, values, {700: (type, XMP + b"\0")})
    np.testing.assert_array_equal(image.decode(data), wanted(kind, values))
    turned = tiff(kind, values, {700: (type, XMP), 274: (3, struct.pack("<H", 3))})
    np.testing.assert_array_equal(image.decode(turned), wanted(kind, values)[::-1, ::-1])


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_xmp_orientation_is_ignored_in_every_format(name):
    options: dict[str, object] = {"lossless": True} if name == "WEBP" else {}
    plain = image.decode(encode(scene(), name, **options))
    if name == "TIFF":
        options["tiffinfo"] = {700: XMP}
    elif name == "PNG":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP.decode())
        options["pnginfo"] = info
    else:
        options["xmp"] = XMP
    data = encode(scene(), name, **options)
    assert b"Orientation" in data
    assert plain.shape == (80, 120, 3)
    np.testing.assert_array_equal(image.decode(data), plain)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", ["raw", "jpeg", "tiff_lzw", "group4"])
def test_a_tiffs_orientation_tag_is_applied(orientation, compression):
    picture = scene().convert("1") if compression == "group4" else scene()
    turned = stored(picture, orientation)
    data = encode(turned, "TIFF", compression=compression, tiffinfo={274: orientation})
    difference = np.abs(image.decode(data).astype(int) - np.asarray(picture.convert("RGB")))
    assert difference.mean() < 3


def test_decode_raw_ignores_alpha():
    for kind in (Kind(extras=(2,)), Kind(extras=(1,)), Kind(bits=16, extras=(2,), planar=2)):
        values = samples(kind)
        plain = samples(replace(kind, extras=()))
        raw = image.decode_raw(tiff(kind, values))
        seen = plain >> (kind.bits - 8)
        opaque = values[..., 3] > 2 ** (kind.bits - 1)
        assert np.abs(raw[opaque].astype(int) - seen[opaque]).max() <= 3
    assert image.decode_raw(tiff(Kind(), samples(Kind()))) is None
    assert image.decode_raw(tiff(Kind(extras=(0,)), samples(Kind(extras=(0,))))) is None


def test_pages_linked_in_a_cycle_are_read_once():
    data = bytearray(tiff(Kind(), samples(Kind())))
    (first,) = struct.unpack_from("<I", data, 4)
    data[-4:] = struct.pack("<I", first)
    assert len(list(pages(bytes(data)))) == 1
    assert image.count_frames(bytes(data)) == 1


def test_huge_offsets_in_a_bigtiff_are_refused():
    far = b"\xff" * 8
    entry = struct.pack("<HHQ", 256, 16, 2)
    for data in (
        b"II+\0\x08\0\0\0" + far + bytes(64),
        b"MM\0+\0\x08\0\0" + far + bytes(64),
        b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 1) + entry + far + bytes(64),
        b"II+\0\x08\0\0\0" + struct.pack("<Q", 16) + far + entry + bytes(64),
    ):
        for page in pages(data):
            assert page.values(256) == ()
        with pytest.raises(errors.FileRefused):
            hasher.hash_bytes(data)


def test_reported_files(shared_data):
    wanted = "955b56a63e5cd16a10ea749b4b86db6cf60b02f3e4b56f940b685a1d62d11a5a"
    for name in ("rgb16_planar", "thumbnail_first", "xmp_orientation_only"):
        hashed = hasher.hash_image(shared_data / "reported" / f"tiff_{name}.tif")
        assert hashed.signal.hex == wanted, name
    hashed = hasher.hash_image(shared_data / "reported" / "tiff_palette_0_255.tif")
    assert hashed.signal.hex == "950b56a63e5cf56a11ea649b4b869b6cf60b02f3e4b56f940b685a1d62d15a5a"
    hashed = hasher.hash_image(shared_data / "reported" / "bmp_v5_alpha_all_zero.bmp")
    assert hashed.signal.hex == wanted


def test_common_kinds_decode_as_in_pillow():
    for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "LA"):
        for compression in ("raw", "tiff_lzw", "tiff_deflate", "packbits"):
            picture = scene().convert(mode)
            data = encode(picture, "TIFF", compression=compression)
            with Image.open(io.BytesIO(data)) as opened:
                rgba = Image.new("RGBA", opened.size, "white")
                rgba.alpha_composite(opened.convert("RGBA"))
            difference = np.abs(image.decode(data).astype(int) - np.asarray(rgba.convert("RGB")))
            assert difference.max() <= 1, (mode, compression)


def test_orientation_in_a_tiffs_exif_is_ignored():
    # only the first directory's own tag counts
    kind = Kind()
    data = tiff(kind, samples(kind), {34665: (4, struct.pack("<I", 8)), 36864: (1, exif(6))})
    np.testing.assert_array_equal(image.decode(data), wanted(kind, samples(kind)))
