"""Pictures that break their standards, in the browser: hashed where Python hashes them."""

from functools import cache

import pytest
from PIL import Image
from skimage import data as photos

from support.browsers.chosen_files import encoded
from support.hashes import bits_apart, by_python, fingerprints
from support.jpegs import EOI, junk, sampled, segments, sound_but_odd, with_pixels_missing

JPEGS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "optimised": {"optimize": True, "subsampling": 0},
    "restarts": {"restart_marker_rows": 1},
}


@cache
def cat(width=300, height=200):
    return Image.fromarray(photos.chelsea()).resize((width, height))


def assert_hashed(page, files, pdq, path=None, most=0):
    found = fingerprints(page, [data for _, data in files], path)
    wrong = {
        name: got.get("code") or bits_apart(got["found"]["pdq"], pdq)
        for (name, _), got in zip(files, found, strict=True)
        if "code" in got or bits_apart(got["found"]["pdq"], pdq) > most
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
def test_jpegs_that_lack_pixels_are_refused(page, kind):
    data = encoded(cat(), "JPEG", quality=90, **JPEGS[kind])
    assert_refused(page, list(with_pixels_missing(data)), "damaged")


def test_a_progressive_jpeg_without_its_end_needs_all_its_scans(page):
    data = encoded(cat(), "JPEG", quality=90, progressive=True)
    ends = [end for marker, _, end in segments(data) if marker == 0]
    assert_refused(page, [(end, data[:end]) for end in ends[:-1]], "damaged")
    assert_refused(page, [(end, data[: end - 9]) for end in ends], "damaged")


def test_jpegs_of_rare_colours_are_checked_before_the_browser_shows_them(page):
    for options in ({}, {"progressive": True}):
        data = encoded(cat().convert("CMYK"), "JPEG", quality=90, **options)
        odd = [("whole", data), ("no end", data[:-2]), ("strays", data[:-2] + junk(9) + EOI)]
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
