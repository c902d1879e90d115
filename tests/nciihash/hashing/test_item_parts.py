"""The parts of an item, which `level` requests: small copies for `nciihash.Matcher`."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from nciihash import errors
from nciihash.hashing import frame_parts, hasher, trimming, variants
from nciihash.media.limits import PARTS_MAX, Limits
from nciihash.signals import Level, PartKind, SignalType, Variant
from nciihash.window_tables import ANGLES, WHOLE
from nciihash.windows import CELLS, coefficients_of, pack, rotated
from support.file_kinds.animations import Frame, gif
from support.pictures import encode, exif, scene, stored
from support.videos import RATE, make_video, moving_frames

WEIGHTS = (0.299, 0.587, 0.114)


def parts_of(data, level=Level.WINDOWS, **options):
    return hasher.hash_bytes(data, variants="match", level=level, **options).parts


def kinds(parts):
    return {part.kind for part in parts}


def difference(part, other):
    """Return the mean difference of two parts' cells, in levels; some 60 for different pictures."""
    return float(np.abs(part.luma.astype(int) - other.luma.astype(int)).mean())


def bits_apart(part, other):
    """Return the distance of two parts' hashes; some 128 for different pictures."""
    coefficients = [
        coefficients_of(each.luma.astype(np.float32), (WHOLE,)) for each in (part, other)
    ]
    one, another = pack(np.concatenate(coefficients))
    return int(np.bitwise_count(one ^ another).sum())


def textured(width, height, seed=3):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def bordered(picture, sides=(150, 200, 150, 200)):
    return ImageOps.expand(picture, border=sides, fill="white")


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("level", Level)
def test_a_level_adds_parts_and_changes_nothing_else(level, fast):
    for data in (encode(bordered(textured(900, 700)), "JPEG"), make_video(moving_frames(8))):
        plain = hasher.hash_bytes(data, variants="match", fast=fast)
        asked = hasher.hash_bytes(data, variants="match", fast=fast, level=level)
        assert not plain.parts
        assert asked.parts
        assert asked == plain  # parts do not count


def test_parts_are_made_only_if_a_level_is_requested(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError

    monkeypatch.setattr("nciihash.hashing.parts.query_parts", refuse)
    monkeypatch.setattr(frame_parts, "query_parts", refuse)
    animation = gif((120, 80), [Frame(scene(120, 80, seed).quantize(60)) for seed in (1, 2)])
    for data in (encode(scene(), "PNG"), animation, make_video(moving_frames(8))):
        for which in hasher.VARIANTS:
            assert not hasher.hash_bytes(data, variants=which).parts
        with pytest.raises(AssertionError):
            parts_of(data)


def test_the_whole_has_the_means_of_the_pictures_cells():
    rgb = np.asarray(textured(3 * CELLS, 4 * CELLS))
    means = (rgb @ WEIGHTS).reshape(CELLS, 4, CELLS, 3).mean(axis=(1, 3))
    whole = parts_of(encode(Image.fromarray(rgb), "PNG"))[0]
    assert (whole.kind, whole.box, whole.angle, whole.time) == (PartKind.WHOLE, WHOLE, 0, None)
    assert whole.shape == 3 / 4
    assert np.abs(whole.luma - means).max() <= 1
    # a large one is reduced before it is divided
    large = np.asarray(textured(16 * CELLS, 8 * CELLS, seed=5))
    means = (large @ WEIGHTS).reshape(CELLS, 8, CELLS, 16).mean(axis=(1, 3))
    assert np.abs(parts_of(encode(Image.fromarray(large), "PNG"))[0].luma - means).max() <= 1.5


def test_a_picture_within_a_frame_is_a_part_and_is_searched_for_once(monkeypatch):
    inner = textured(900, 700)
    searched = []

    def trim(rgb, *small, find=trimming.trim):
        searched.append(rgb.shape)
        return find(rgb, *small)

    monkeypatch.setattr(trimming, "trim", trim)
    monkeypatch.setattr(variants, "trim", trim)
    item = hasher.hash_bytes(
        encode(bordered(inner), "PNG"),
        variants="match",
        level=Level.FAST,
        signals=[SignalType.MD5, SignalType.PDQ],
    )
    assert searched == [(1100, 1200, 3)]
    assert [part.kind for part in item.parts] == [PartKind.WHOLE, PartKind.TRIMMED]
    assert item.hashes[-1].variant is Variant.TRIM
    trimmed = item.parts[1]
    assert trimmed.box == pytest.approx((150 / 1200, 200 / 1100, 1050 / 1200, 900 / 1100), abs=5e-3)
    assert trimmed.shape == pytest.approx(900 / 700, rel=0.01)
    assert difference(trimmed, parts_of(encode(inner, "PNG"))[0]) < 8
    assert bits_apart(trimmed, parts_of(encode(inner, "PNG"))[0]) <= 10
    searched.clear()
    for signals in ([SignalType.MD5], [SignalType.PHASH]):
        hasher.hash_bytes(encode(inner, "PNG"), variants="match", signals=signals)
    assert not searched


def test_the_levels_differ_in_what_they_add():
    data = encode(bordered(textured(900, 700)), "PNG")
    fast, windows, thorough = (parts_of(data, level) for level in Level)
    assert [part.kind for part in fast] == [PartKind.WHOLE, PartKind.TRIMMED]
    assert kinds(windows) <= {*kinds(fast), PartKind.RECTANGLE}
    assert PartKind.ROTATED in kinds(thorough)
    for parts in (windows, thorough):
        assert difference(parts[0], fast[0]) == difference(parts[1], fast[1]) == 0
        assert len(parts) <= 21


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_parts_are_upright(orientation, fast):
    page = bordered(textured(900, 700), (100, 300, 40, 60))
    block = exif(orientation)
    data = encode(stored(page, orientation), "JPEG", quality=97, subsampling=0, exif=block)
    turned = parts_of(data, Level.FAST, fast=fast)
    upright = parts_of(encode(page, "PNG"), Level.FAST)
    assert [part.kind for part in turned] == [part.kind for part in upright]
    for one, other in zip(turned, upright, strict=True):
        assert difference(one, other) < 8
        assert bits_apart(one, other) <= 10
        assert one.shape == pytest.approx(other.shape, rel=0.02)
        assert one.box == pytest.approx(other.box, abs=0.01)


def test_a_reduced_jpeg_has_nearly_the_same_parts():
    data = encode(bordered(textured(1900, 1500), (300, 400, 300, 400)), "JPEG", quality=90)
    exact = parts_of(data, Level.THOROUGH)
    options = {"variants": "match", "level": Level.THOROUGH}
    fast = hasher.hash_bytes(data, fast=True, **options)
    large = hasher.hash_bytes(data, limits=Limits(max_pixels=1_000_000), **options)
    for item in (fast, large):
        assert item.reduced
        same_parts = {(part.kind, part.angle): part for part in item.parts}
        for part in exact:
            if part.kind is not PartKind.RECTANGLE:
                same = same_parts[part.kind, part.angle]
                assert difference(part, same) < 6
                assert bits_apart(part, same) <= 8


def test_a_plain_picture_has_parts_too():
    slope = np.linspace(60, 200, 480).astype(np.uint8)
    faint = Image.fromarray(np.broadcast_to(slope[:, None, None], (480, 480, 3)).copy())
    page = bordered(faint)
    item = hasher.hash_bytes(encode(page, "PNG"), variants="match", level=Level.FAST)
    assert item.hashes[0].plain
    assert [part.kind for part in item.parts] == [PartKind.WHOLE, PartKind.TRIMMED]
    blank = hasher.hash_bytes(
        encode(Image.new("RGB", (600, 400), "navy"), "PNG"), variants="match", level=Level.THOROUGH
    )
    assert blank.hashes[0].plain
    assert blank.parts[0].kind is PartKind.WHOLE


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 400), (70_000, 5), (513, 1100)])
def test_pictures_of_any_shape_have_parts(size):
    parts = parts_of(encode(Image.new("RGB", size, "teal"), "PNG"), Level.THOROUGH)
    assert parts[0].shape == size[0] / size[1]
    assert all(part.luma.shape == (CELLS, CELLS) for part in parts)
    assert all(part.luma.dtype == np.uint8 for part in parts)


@pytest.mark.parametrize("size", [(600, 600), (1200, 800), (500, 900)])
def test_rotated_parts_are_rotated_as_when_they_are_aligned(size):
    whole, *parts = parts_of(encode(textured(*size), "PNG"), Level.THOROUGH)
    by_angle = {part.angle: part for part in parts if part.kind is PartKind.ROTATED}
    assert {*ANGLES, -90, -180, -270} == set(by_angle)
    for angle in ANGLES:
        expected = rotated(whole, angle)
        assert difference(by_angle[angle], expected) < 1
        inner = (slice(CELLS // 4, -CELLS // 4),) * 2  # the corners are filled differently
        assert np.abs(by_angle[angle].luma[inner] - expected.luma[inner].astype(int)).max() <= 2
        assert by_angle[angle].shape == whole.shape
        assert by_angle[angle].box == WHOLE


def test_a_videos_parts_are_from_frames_spread_over_it():
    frames = moving_frames(200)
    item = hasher.hash_bytes(make_video(frames), variants="match", level=Level.FAST)
    times = [part.time for part in item.parts if part.time is not None]
    assert len(times) == len(item.parts)
    assert times == sorted(set(times))
    assert set(times) <= {hashed.time for hashed in item.hashes}
    assert frame_parts.FRAMES_MAX // 2 < len(times) <= frame_parts.FRAMES_MAX
    length = len(frames) / RATE
    assert times[0] == 0
    assert max(np.diff([*times, length])) <= 2 * length / (frame_parts.FRAMES_MAX // 2)
    for part in item.parts:
        # one of the frames that are shown within the quarter second
        shown = frames[int(part.time * RATE) : int((part.time + 0.25) * RATE) + 2]
        rgb = (parts_of(encode(Image.fromarray(frame), "PNG"), Level.FAST)[0] for frame in shown)
        assert min(difference(part, other) for other in rgb) < 6


def test_a_short_video_has_parts_of_every_kept_frame():
    frames = moving_frames(36, still=12)
    item = hasher.hash_bytes(make_video(frames), variants="match", level=Level.FAST)
    assert len(item.parts) == 3 == len({hashed.time for hashed in item.hashes})


def test_a_framed_video_has_its_trimmed_picture():
    frames = [np.asarray(bordered(Image.fromarray(f), (0, 120, 0, 120))) for f in moving_frames(30)]
    item = hasher.hash_bytes(make_video(frames), variants="match", level=Level.FAST)
    assert kinds(item.parts) == {PartKind.WHOLE, PartKind.TRIMMED}
    trimmed = next(part for part in item.parts if part.kind is PartKind.TRIMMED)
    assert trimmed.box == pytest.approx((0, 0.25, 1, 0.75), abs=0.02)


def test_a_plain_video_has_the_parts_of_its_best_frame():
    page = np.full((480, 640, 3), 255, np.uint8)
    best = page.copy()
    best[200:280, 280:370] = np.asarray(textured(90, 80))
    frames = [page] * 6 + [best] * 6 + [page] * 6
    item = hasher.hash_bytes(make_video(frames), variants="match", level=Level.FAST)
    assert all(hashed.plain for hashed in item.hashes)
    assert {part.time for part in item.parts} == {0.5}
    assert int(item.parts[0].luma.min()) < 200


def test_an_animations_parts_have_times():
    pictures = [scene(120, 80, seed).quantize(60) for seed in range(1, 5)]
    item = hasher.hash_bytes(
        gif((120, 80), [Frame(picture) for picture in pictures]),
        variants="match",
        level=Level.WINDOWS,
    )
    wholes = [part for part in item.parts if part.kind is PartKind.WHOLE]
    assert [part.time for part in wholes] == [0, 0.5, 1, 1.5]
    for part, picture in zip(wholes, pictures, strict=True):
        assert difference(part, parts_of(encode(picture.convert("RGB"), "PNG"))[0]) < 2
    short = gif((120, 80), [Frame(picture, duration=30) for picture in pictures])
    assert {part.time for part in parts_of(short)} == {0}


@pytest.mark.parametrize("level", Level)
def test_frames_and_parts_of_a_video_are_bounded(level):
    page = np.asarray(bordered(textured(300, 200), (60, 60, 60, 60)))
    region = trimming.trim(page)
    assert region is not None
    video = frame_parts.FrameParts(level)
    reduced = 0
    for number in range(2000):
        time = number * 3.25
        if video.wants(time):
            video.add(page, time, region)
            reduced += 1
        times = sorted({part.time for part in video.parts if part.time is not None})
        assert len(times) <= frame_parts.FRAMES_MAX
        assert len(video.parts) <= PARTS_MAX
    assert reduced < 150
    assert len(times) >= PARTS_MAX // 21
    gaps = np.diff([*times, time])
    assert gaps.max() <= 2.1 * gaps.min() or gaps[:-1].max() <= 1.1 * gaps[:-1].min()


def test_a_level_without_what_it_needs_is_refused_before_anything_is_opened(tmp_path):
    missing = tmp_path / "missing.jpg"
    for which in ("none", "standard", "full"):
        with pytest.raises(ValueError, match='variants="match"'):
            hasher.hash_file(missing, variants=which, level=Level.WINDOWS)
    with pytest.raises(ValueError, match=r"SignalType\.PDQ"):
        hasher.hash_file(missing, variants="match", level=Level.FAST, signals=(SignalType.SHA256,))
    with pytest.raises(ValueError, match="use one of fast, windows, thorough"):
        hasher.hash_file(missing, variants="match", level="all")
    with pytest.raises(errors.NotAFile):
        hasher.hash_file(missing, variants="match", level=Level.FAST)
