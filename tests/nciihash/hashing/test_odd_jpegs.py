"""JPEG files that violate the standard: complete, with pixels missing, or of a rare kind."""

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
def test_complete_files_that_violate_the_standard_are_decoded(kind):
    data = encode(scene(), "JPEG", quality=90, **KINDS[kind])
    pixels = image.decode(data)
    for name, changed in sound_but_odd(data):
        np.testing.assert_array_equal(image.decode(changed), pixels, name)


@pytest.mark.parametrize("kind", KINDS)
def test_files_with_missing_pixels_are_refused(kind):
    data = encode(scene(), "JPEG", quality=90, **KINDS[kind])
    for name, cut in with_pixels_missing(data):
        try:
            image.decode(cut)
        except errors.CorruptFile:
            continue
        pytest.fail(name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scan_that_ends_too_soon_is_refused(kind):
    # libjpeg's warning is the same as for stray bytes
    data = encode(scene(), "JPEG", quality=90, **KINDS[kind])
    for name, changed in out_of_step(data):
        try:
            image.decode(changed)
        except errors.CorruptFile:
            continue
        pytest.fail(name)


def test_damaged_scans_are_not_repaired():
    """Of the files with a flipped bit or missing bytes that libjpeg warns of, few are hashed."""
    data = encode(scene(), "JPEG", quality=90)
    *_, (_, start, end) = segments(data)
    random = np.random.default_rng(5)
    warned, hashed = 0, 0
    for n, at in enumerate(random.integers(start + 9, end - 99, 120).tolist()):
        lost = 1 + n if n % 2 else 0
        changed = (
            data[:at] + (b"" if lost else bytes((data[at] ^ 1 << n % 8,))) + data[at + 1 + lost :]
        )
        try:
            simplejpeg.decode_jpeg(changed, strict=True)
        except ValueError:
            warned += 1
            try:
                image.decode(changed)
                hashed += 1
            except errors.CorruptFile:
                continue
    assert warned > 40
    assert hashed <= warned // 10


def test_runs_of_fill_bytes_are_skipped():
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


def test_repairing_decodes_at_most_once_per_scan():
    data = encode(scene(), "JPEG", quality=90, progressive=True)
    ends = [end for marker, _, end in segments(data) if marker == 0]
    for end in reversed(ends):
        data = inserted(data, end, junk(7))
    attempts = []

    def pixels_of(file):
        attempts.append(file)
        return simplejpeg.decode_jpeg(file, "RGB", strict=True)

    assert decode(data, pixels_of) is not None
    assert len(attempts) <= 1 + len(ends)


def test_a_file_without_its_last_row_of_blocks_is_refused():
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


def test_exif_orientation_is_found_after_stray_bytes():
    data = encode(scene(), "JPEG", quality=90, exif=exif(6))
    start = data.index(b"\xff\xe1")
    for changed in (data[:start] + junk(7) + data[start:], data[:-2]):
        np.testing.assert_array_equal(image.decode(changed), image.decode(data))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_thumbnail_is_not_taken_for_the_picture(progressive):
    # libjpeg stops where a second image starts
    small = encode(scene(40, 30, seed=4), "JPEG")
    data = with_thumbnail(encode(scene(), "JPEG", progressive=progressive), small)
    for changed in (data, data[:-2], data[:-2] + junk(9) + EOI):
        with pytest.raises(errors.CorruptFile):
            image.decode(changed)


def test_fast_decodes_files_that_violate_the_standard_too():
    data = encode(scene(2400, 1600), "JPEG", quality=90)
    hashed = hasher.hash_image(data, fast=True)
    *_, (_, start, end) = segments(data)
    for changed in (data[:-2], data[:-2] + junk(7) + EOI):
        assert hasher.hash_image(changed, fast=True) == hashed
    with pytest.raises(errors.CorruptFile):
        hasher.hash_image(data[: start + (end - start) * 9 // 10] + EOI, fast=True)


def test_a_cut_is_detected_despite_a_persistent_warning():
    data = encode(scene(), "JPEG", quality=90, progressive=True)
    parts = list(segments(data))
    # the refinement of luma from 2 bits to 1; its next one then follows the wrong scan
    number = next(
        n for n, (_, start, end) in enumerate(parts) if data[end - 3 : end] == b"\1\x3f\x21"
    )
    changed = data[: parts[number][1]] + data[parts[number + 1][2] :]
    with pytest.raises(ValueError, match="Inconsistent progression"):
        simplejpeg.decode_jpeg(changed, strict=True)
    shown = np.asarray(Image.open(io.BytesIO(changed)).convert("RGB"))
    np.testing.assert_array_equal(image.decode(changed), shown)
    *_, (_, start, end) = segments(changed)
    for cut in (changed[: (start + end) // 2], changed[: (start + end) // 2] + EOI):
        with pytest.raises(errors.CorruptFile):
            image.decode(cut)


@pytest.mark.parametrize(("across", "factors"), [(3, 0x31), (4, 0x42)])
def test_a_cut_is_detected_with_rare_subsampling(across, factors):
    # simplejpeg has no name for these, and Pillow fills in missing pixels
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
def test_a_rare_kind_is_refused_as_unsupported_not_as_damaged(kind, fast):
    marker, bits = RARE[kind]
    data = encode(scene(600, 600), "JPEG", quality=90)
    start = data.index(b"\xff\xc0")
    rare = data[: start + 1] + bytes((marker,)) + data[start + 2 : start + 4]
    rare += bytes((bits,)) + data[start + 5 :]
    with pytest.raises(errors.UnsupportedFormat, match="rare kind"):
        hasher.hash_image(rare, fast=fast)


def test_reported_files(shared_data):
    expected = "772412deb2cdc843d9266f33d722a205bddb9666102bc2eb6b483b99e6c63496"
    for name in ("jpeg_junk_7_bytes_before_dqt.jpg", "jpeg_junk_7_bytes_before_eoi.jpg"):
        path = shared_data / "reported" / name
        assert hasher.hash_image(path).signal.hex == expected
    with pytest.raises(errors.UnsupportedFormat, match="rare kind"):
        hasher.hash_image(shared_data / "reported" / "jpeg_12_bit.jpg")
