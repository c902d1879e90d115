"""Pictures that break their standards, in the browser: hashed where Python hashes them."""

import re
from functools import cache

import numpy as np
import pytest
from PIL import Image
from skimage import data as photos

from support.browsers.chosen_files import encoded
from support.file_kinds.animations import Frame, apng, gif
from support.file_kinds.bmps import HEADERS, bmp
from support.file_kinds.jpegs import (
    EOI,
    junk,
    out_of_step,
    sampled,
    segments,
    sound_but_odd,
    with_pixels_missing,
    with_thumbnail,
)
from support.hashes import bits_apart, by_python, fingerprints
from support.pictures import scene

JPEGS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "optimised": {"optimize": True, "subsampling": 0},
    "restarts": {"restart_marker_rows": 1},
}


@cache
def cat(width=300, height=200):
    return Image.fromarray(photos.chelsea()).resize((width, height))


def first_of(got):
    """Return the hash of a picture, or of the first frame of an animation."""
    found = got["found"]
    return found["pdq"] if "pdq" in found else found["signals"][0]["value"]


def assert_hashed(page, files, pdq, path=None, most=0):
    found = fingerprints(page, [data for _, data in files], path)
    wrong = {
        name: got.get("code") or bits_apart(first_of(got), pdq)
        for (name, _), got in zip(files, found, strict=True)
        if "code" in got or bits_apart(first_of(got), pdq) > most
    }
    assert not wrong


def assert_refused(page, files, code, path=None):
    found = fingerprints(page, [data for _, data in files], path)
    other = {
        name: got.get("code", "hashed")
        for (name, _), got in zip(files, found, strict=True)
        if got.get("code") != code
    }
    assert not other


@pytest.mark.parametrize("kind", JPEGS)
def test_jpegs_that_viewers_show_whole_are_hashed(page, kind):
    data = encoded(cat(), "JPEG", quality=90, **JPEGS[kind])
    files = list(sound_but_odd(data))[:: 1 if kind == "baseline" else 3]
    assert_hashed(page, files, by_python(data)[0])
    assert_hashed(page, files[::7], by_python(data)[0], "bytes", most=4)


@pytest.mark.parametrize("kind", JPEGS)
def test_jpegs_with_missing_pixels_are_refused(page, kind):
    data = encoded(cat(), "JPEG", quality=90, **JPEGS[kind])
    assert_refused(page, list(with_pixels_missing(data)), "damaged")


@pytest.mark.parametrize("kind", JPEGS)
def test_jpegs_with_a_scan_that_ends_too_soon_are_refused(page, kind):
    data = encoded(cat(), "JPEG", quality=90, **JPEGS[kind])
    # scans of chroma alone are not read here: hashes are of luma
    files = [(name, odd) for name, odd in out_of_step(data) if not re.search(r"of \[[23]\]", name)]
    assert len(files) > 3
    assert_refused(page, files, "damaged")


def test_a_progressive_jpeg_without_its_end_needs_all_its_scans(page):
    data = encoded(cat(), "JPEG", quality=90, progressive=True)
    ends = [end for marker, _, end in segments(data) if marker == 0]
    assert_refused(page, [(end, data[:end]) for end in ends[:-1]], "damaged")
    assert_refused(page, [(end, data[: end - 9]) for end in ends], "damaged")


def test_a_jpegs_thumbnail_is_not_taken_for_the_picture(page):
    data = with_thumbnail(encoded(cat(), "JPEG"), encoded(cat(60, 40), "JPEG"))
    assert_refused(page, [("whole", data), ("no end", data[:-2])], "damaged")


def test_jpegs_of_rare_colours_are_checked_before_the_browser_shows_them(page):
    for options in ({}, {"progressive": True}):
        data = encoded(cat().convert("CMYK"), "JPEG", quality=90, **options)
        odd = [("whole", data), ("no end", data[:-2]), ("strays", data[:-2] + junk(7) + EOI)]
        assert_hashed(page, odd, by_python(data)[0], most=8)
        *_, (_, start, end) = segments(data)
        cut = data[: (start + 3 * end) // 4]
        assert_refused(page, [("cut", cut), ("closed", cut + EOI)], "damaged")


def test_jpegs_of_rare_sampling(page):
    planes = cat().convert("YCbCr").split()
    small = [plane.resize((100, 200)) for plane in planes[1:]]
    grey = [encoded(plane, "JPEG", quality=90) for plane in (planes[0], *small)]
    data = sampled([(grey[0], 0x31), (grey[1], 0x11), (grey[2], 0x11)], 300, 200)
    assert_hashed(page, [("whole", data), ("no end", data[:-2])], by_python(data)[0], most=2)
    *_, (_, start, end) = segments(data)
    cut = data[: (start + end) // 2]
    assert_refused(page, [("cut", cut), ("closed", cut + EOI)], "damaged")


@pytest.mark.parametrize("marker", [0xC3, 0xC9, 0xCA, 0xF7, 0xC1])
def test_rare_kinds_of_jpeg_are_not_called_damaged(page, marker):
    data = encoded(cat(), "JPEG", quality=90)
    start = data.index(b"\xff\xc0")
    bits = b"\x0c" if marker == 0xC1 else b"\x08"
    rare = data[: start + 1] + bytes((marker,)) + data[start + 2 : start + 4] + bits
    assert_refused(page, [("rare", rare + data[start + 5 :])], "unopened")


def small(seed, width=300, height=200):
    return scene(width, height, seed).quantize(60)


def test_gifs_need_no_trailer_and_may_hold_stray_nuls(page):
    frames = [Frame(small(1)), Frame(small(2))]
    alone = gif((300, 200), frames[:1], trailer=b"")
    files = [
        ("trailer", gif((300, 200), frames)),
        ("none", gif((300, 200), frames, trailer=b"")),
        ("NULs", gif((300, 200), frames, between=bytes(3))),
        ("the end of the last block", alone[:-1]),
        ("another byte", alone + b"U" + alone[19:]),
        ("bytes after it", alone + b"; and more"),
        ("interlaced", encoded(small(1), "GIF", interlace=1)),
    ]
    assert_hashed(page, files, by_python(files[0][1])[0])
    cut = [(n, alone[:-n]) for n in (3, 30, 3000)]
    cut += [(f"{n}, closed", data + b"\0;") for n, data in cut]
    assert_refused(page, [*cut, ("another byte", alone[:19] + b"U" + alone[19:])], "damaged")


def test_gifs_of_few_colours_are_checked_too(page):
    for colours in (2, 3, 200, 256):
        data = encoded(Image.fromarray(photos.chelsea()).quantize(colours), "GIF")
        assert_hashed(page, [(colours, data)], by_python(data)[0])
        assert_refused(page, [(colours, data[: len(data) * 9 // 10] + b"\0;")], "damaged")


@pytest.mark.parametrize("clear", [None, 4])
def test_a_gifs_background_colour_is_never_painted(page, clear):
    data = gif((300, 200), [Frame(small(1, 200, 150), 50, 20, clear=clear)])
    assert_hashed(page, [("black", data)], by_python(data)[0])
    red = gif((300, 200), [Frame(small(1, 200, 150), 50, 20, clear=clear)], background=b"\xff\0\0")
    assert_hashed(page, [("red", red)], by_python(data)[0])


def test_a_pngs_hidden_image_is_not_hashed(page):
    frames = [Frame(scene(300, 200, 1)), Frame(scene(300, 200, 2))]
    size, hidden = (300, 200), scene(300, 200, 9)
    first = by_python(encoded(frames[0].picture, "PNG"))[0]
    data = apng(size, frames, hidden=hidden)
    assert_hashed(page, [("shown", apng(size, frames)), ("hidden", data)], first)
    assert_hashed(page, [("hidden", data)], first, "bytes")
    part = apng(size, [Frame(scene(200, 150, 1), 50, 20)], hidden=hidden)
    for path in (None, "bytes"):
        assert_hashed(page, [("part", part)], by_python(part)[0], path)
    # an invalid animation is a still picture
    outside = apng(size, [Frame(scene(300, 200, 1), 1)], hidden=hidden)
    assert_hashed(page, [("outside", outside)], by_python(encoded(hidden, "PNG"))[0], "bytes")


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("masks", [False, True])
def test_a_bmp_is_opaque_where_alpha_is_all_zero_or_not_meant(page, header, masks):
    picture, none = scene(300, 200), np.zeros((200, 300), np.uint8)
    some = np.tile(np.linspace(0, 255, 300).astype(np.uint8), (200, 1))
    opaque = by_python(encoded(picture, "PNG"))[0]
    assert_hashed(page, [("none", bmp(picture, none, header, masks=masks))], opaque)
    data = bmp(picture, some, header, masks=masks)
    meant = masks and header >= 56
    assert (by_python(data)[0] == opaque) == (not meant)
    assert_hashed(page, [("some", data)], by_python(data)[0], most=2)


def test_files_that_people_reported(page, shared_data):
    for name, pdq in (
        ("jpeg_junk_7_bytes_before_dqt.jpg", "772412deb2cdc843d9266f33d722a205"),
        ("jpeg_junk_7_bytes_before_eoi.jpg", "772412deb2cdc843d9266f33d722a205"),
        ("gif_without_trailer.gif", "950b56a63e5cf56a11ea6c9b4b869b6c"),
        ("gif_frame_on_black_background.gif", "738e71c9c9c6cce380e1c773e733c3e1"),
        ("apng_default_image_hidden.png", "5228bcc6db24f383bde3f7c974cadbb2"),
        ("bmp_v5_alpha_all_zero.bmp", "955b56a63e5cd16a10ea749b4b86db6c"),
    ):
        (got,) = fingerprints(page, [(shared_data / "reported" / name).read_bytes()])
        assert first_of(got).startswith(pdq), name
    for name, code in (
        ("jpeg_12_bit.jpg", "unopened"),
        ("heic_clap_160x224.heic", "heic"),
        ("tiff_rgb16_planar.tif", "unopened"),
    ):
        (got,) = fingerprints(page, [(shared_data / "reported" / name).read_bytes()])
        assert got["code"] == code
