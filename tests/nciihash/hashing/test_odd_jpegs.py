"""JPEG files that break the standard: shown whole by all viewers, or not whole, or rare."""

import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from nciihash import errors
from nciihash.hashing import hasher, image
from nciihash.hashing.jpeg_repair import Scans, decode
from support.file_kinds.jpegs import (
    EOI,
    inserted,
    junk,
    out_of_step,
    sampled,
    segments,
    sound_but_odd,
    with_pixels_missing,
    with_thumbnail,
)
from support.pictures import encode, exif, scene

KINDS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "optimised": {"optimize": True, "subsampling": 0},
    "restarts": {"restart_marker_rows": 1},
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_viewers_show_whole_is_hashed(kind):
    data = encode(scene(), "JPEG", quality=90, **KINDS[kind])
    pixels = image.decode(data)
    for name, odd in sound_but_odd(data):
        np.testing.assert_array_equal(image.decode(odd), pixels, name)


@pytest.mark.parametrize("kind", KINDS)
def test_what_lacks_pixels_is_refused(kind):
    data = encode(scene(), "JPEG", quality=90, **KINDS[kind])
    for name, cut in with_pixels_missing(data):
        try:
            image.decode(cut)
        except errors.CorruptFile:
            continue
        pytest.fail(name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scan_that_ends_too_soon_is_refused(kind):
    # libjpeg's warning is that of stray bytes, which a changed bit gives too
    data = encode(scene(), "JPEG", quality=90, **KINDS[kind])
    for name, odd in out_of_step(data):
        try:
            image.decode(odd)
        except errors.CorruptFile:
            continue
        pytest.fail(name)


def test_bits_that_change_are_not_repaired():
    """Wherever libjpeg warns of a changed bit or of missing bytes, few files are hashed."""
    data = encode(scene(), "JPEG", quality=90)
    *_, (_, start, end) = segments(data)
    random = np.random.default_rng(5)
    warned, hashed = 0, 0
    for n, at in enumerate(random.integers(start + 9, end - 99, 120).tolist()):
        lost = 1 + n if n % 2 else 0
        odd = data[:at] + (b"" if lost else bytes((data[at] ^ 1 << n % 8,))) + data[at + 1 + lost :]
        try:
            simplejpeg.decode_jpeg(odd, strict=True)
        except ValueError:
            warned += 1
            try:
                image.decode(odd)
                hashed += 1
            except errors.CorruptFile:
                continue
    assert warned > 40
    assert hashed <= warned // 10


def test_a_run_of_fill_bytes_is_walked_once():
    data = encode(scene(), "JPEG", quality=90)
    *_, (_, start, end) = segments(data)
    for run in (b"\xff" * 7, b"\xff" * 4_000_000):
        filled = Scans(inserted(data, end, run))
        assert filled.closed
        assert filled.parts == Scans(data).parts
        stuffed = Scans(data[:end] + run + b"\0" + EOI)
        assert stuffed.closed
        assert stuffed.parts[-1] == data[start:end] + run + b"\0"
        restart = Scans(data[:end] + run + b"\xd3" + EOI)
        assert restart.parts[-1] == data[start:end] + run + b"\xd3"


def test_each_scan_costs_a_decode():
    data = encode(scene(), "JPEG", quality=90, progressive=True)
    ends = [end for marker, _, end in segments(data) if marker == 0]
    for end in reversed(ends):
        data = inserted(data, end, junk(7))
    tried = []

    def pixels_of(file):
        tried.append(file)
        return simplejpeg.decode_jpeg(file, "RGB", strict=True)

    assert decode(data, pixels_of) is not None
    assert len(tried) <= 1 + len(ends)


def test_one_row_of_blocks_less_is_refused():
    data = encode(scene(), "JPEG", quality=90, restart_marker_rows=1)
    last = max(data.rfind(bytes((0xFF, marker))) for marker in range(0xD0, 0xD8))
    for cut in (data[:last], data[:last] + EOI, data[:last] + junk(400) + EOI):
        with pytest.raises(errors.CorruptFile):
            image.decode(cut)


def test_a_progressive_file_without_its_end_needs_all_its_scans():
    data = encode(scene(), "JPEG", quality=90, progressive=True)
    ends = [end for marker, _, end in segments(data) if marker == 0]
    np.testing.assert_array_equal(image.decode(data[: ends[-1]]), image.decode(data))
    for end in ends[:-1]:
        with pytest.raises(errors.CorruptFile):
            image.decode(data[:end])


def test_stray_bytes_neither_hide_nor_invent_an_orientation():
    data = encode(scene(), "JPEG", quality=90, exif=exif(6))
    start = data.index(b"\xff\xe1")
    for odd in (data[:start] + junk(7) + data[start:], data[:-2]):
        np.testing.assert_array_equal(image.decode(odd), image.decode(data))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_thumbnail_is_not_taken_for_the_picture(progressive):
    # libjpeg gives up where a second picture begins
    small = encode(scene(40, 30, seed=4), "JPEG")
    data = with_thumbnail(encode(scene(), "JPEG", progressive=progressive), small)
    for odd in (data, data[:-2], data[:-2] + junk(9) + EOI):
        with pytest.raises(errors.CorruptFile):
            image.decode(odd)


def test_large_files_are_read_at_a_reduced_size_as_well():
    data = encode(scene(2400, 1600), "JPEG", quality=90)
    hashed = hasher.hash_image(data, fast=True)
    *_, (_, start, end) = segments(data)
    for odd in (data[:-2], data[:-2] + junk(7) + EOI):
        assert hasher.hash_image(odd, fast=True) == hashed
    with pytest.raises(errors.CorruptFile):
        hasher.hash_image(data[: start + (end - start) * 9 // 10] + EOI, fast=True)


def test_a_warning_that_no_change_takes_away_does_not_hide_a_cut():
    data = encode(scene(), "JPEG", quality=90, progressive=True)
    parts = list(segments(data))
    # the refinement of luma from 2 bits to 1; its next one then follows the wrong scan
    number = next(
        n for n, (_, start, end) in enumerate(parts) if data[end - 3 : end] == b"\1\x3f\x21"
    )
    odd = data[: parts[number][1]] + data[parts[number + 1][2] :]
    with pytest.raises(ValueError, match="Inconsistent progression"):
        simplejpeg.decode_jpeg(odd, strict=True)
    shown = np.asarray(Image.open(io.BytesIO(odd)).convert("RGB"))
    np.testing.assert_array_equal(image.decode(odd), shown)
    *_, (_, start, end) = segments(odd)
    for cut in (odd[: (start + end) // 2], odd[: (start + end) // 2] + EOI):
        with pytest.raises(errors.CorruptFile):
            image.decode(cut)


@pytest.mark.parametrize(("across", "factors"), [(3, 0x31), (4, 0x42)])
def test_a_cut_is_noticed_whatever_the_sampling(across, factors):
    # simplejpeg has no name for these, and Pillow fills up what is missing
    planes = scene(120, 80).convert("YCbCr").split()
    down = factors & 15
    small = [plane.resize((120 // across, 80 // down)) for plane in planes[1:]]
    grey = [encode(plane, "JPEG", quality=90) for plane in (planes[0], *small)]
    data = sampled([(grey[0], factors), (grey[1], 0x11), (grey[2], 0x11)], 120, 80)
    with pytest.raises((ValueError, KeyError)):
        simplejpeg.decode_jpeg_header(data)
    pixels = image.decode(data)
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(io.BytesIO(data))))
    assert np.abs(pixels.astype(int) - np.asarray(scene(120, 80))).mean() < 20
    np.testing.assert_array_equal(image.decode(data[:-2] + junk(7) + EOI), pixels)
    *_, (_, start, end) = segments(data)
    for at in ((start + end) // 2, start, end - 20):
        for closing in (b"", EOI):
            with pytest.raises(errors.CorruptFile):
                image.decode(data[:at] + closing)


RARE = {
    "12 bits": (0xC1, 12),
    "lossless": (0xC3, 8),
    "arithmetic": (0xC9, 8),
    "arithmetic, progressive": (0xCA, 8),
    "JPEG-LS": (0xF7, 8),
    "16 bits": (0xC3, 16),
}


@pytest.mark.parametrize("kind", RARE)
@pytest.mark.parametrize("fast", [False, True])
def test_a_rare_kind_is_not_called_damaged(kind, fast):
    marker, bits = RARE[kind]
    data = encode(scene(600, 600), "JPEG", quality=90)
    start = data.index(b"\xff\xc0")
    rare = data[: start + 1] + bytes((marker,)) + data[start + 2 : start + 4]
    rare += bytes((bits,)) + data[start + 5 :]
    with pytest.raises(errors.UnsupportedFormat, match="rare kind"):
        hasher.hash_image(rare, fast=fast)


def test_files_that_people_reported(shared_data):
    wanted = "772412deb2cdc843d9266f33d722a205bddb9666102bc2eb6b483b99e6c63496"
    for name in ("jpeg_junk_7_bytes_before_dqt.jpg", "jpeg_junk_7_bytes_before_eoi.jpg"):
        path = shared_data / "reported" / name
        assert hasher.hash_image(path).signal.hex == wanted
    with pytest.raises(errors.UnsupportedFormat, match="rare kind"):
        hasher.hash_image(shared_data / "reported" / "jpeg_12_bit.jpg")
