"""`Sandbox.hash_bytes` hashes bytes in memory as `hash_file` hashes the same file."""

import os
import random
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import pytest
from PIL import Image, ImageOps

from nciihash import Matcher, errors, hash_upload
from nciihash.hashing import hasher
from nciihash.media.limits import Limits
from nciihash.sandbox import Sandbox
from nciihash.sandbox import parent as sandbox
from nciihash.signals import FILE_SIGNAL_TYPES, Band, Level, Media, SignalType
from support.file_kinds.animations import Frame, gif
from support.file_kinds.bmps import bmp
from support.file_kinds.jpegs import out_of_step, sound_but_odd, with_pixels_missing
from support.file_kinds.tiffs import Kind, samples, tiff
from support.pictures import encode, png, scene, textured
from support.sandboxes import DEATHS, pid_of, while_sending
from support.videos import make_video, moving_frames

JPEG = encode(scene(400, 300), "JPEG")
OPTIONS = (
    {},
    {"signals": FILE_SIGNAL_TYPES},
    {"variants": "match", "fast": True, "level": Level.WINDOWS},
    {"variants": "standard"},
)


def _result(hash_source, source, **options):
    try:
        return hash_source(source, **options)
    except errors.FileRefused as refusal:
        return type(refusal), str(refusal)


def _assert_same(box, path, data, **options):
    path.write_bytes(data)
    assert _result(box.hash_bytes, data, **options) == _result(box.hash_file, path, **options)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file"


@lru_cache
def _pictures():
    frames = [Frame(scene(80, 60, seed=seed).quantize(64)) for seed in range(3)]
    return {
        "JPEG": JPEG,
        "large JPEG": encode(scene(2400, 1800), "JPEG"),
        "PNG": encode(scene(), "PNG"),
        "WebP": encode(scene(), "WEBP"),
        "AVIF": encode(scene(), "AVIF"),
        "GIF": gif((80, 60), frames),
        "TIFF": tiff(Kind(), samples(Kind())),
        "BMP": bmp(scene(), np.full((80, 120), 255)),
    }


@pytest.mark.parametrize("name", _pictures())
def test_pictures(box, path, name):
    for options in OPTIONS:
        _assert_same(box, path, _pictures()[name], **options)


@pytest.mark.parametrize("options", [{}, {"variants": "match", "level": Level.FAST}])
@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
def test_videos_are_read_by_ranges(box, path, container, options):
    data = make_video(moving_frames(30), container_format=container)
    assert box.hash_bytes(data, **options).media is Media.VIDEO
    _assert_same(box, path, data, **options)
    _assert_same(box, path, data[: len(data) // 2], **options)


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"text", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"\0\0\0\x18ftypmp42", b"%PDF-1.7"],
)
def test_other_files(box, path, data):
    _assert_same(box, path, data)


@pytest.mark.parametrize("damage", [sound_but_odd, with_pixels_missing, out_of_step])
def test_odd_and_damaged_jpegs(box, path, damage):
    for _, data in damage(JPEG):
        _assert_same(box, path, data)


def test_random_damage(box, path):
    rng = random.Random(5)
    for _ in range(40):
        data = bytearray(JPEG)
        for _ in range(3):
            data[rng.randrange(len(data))] = rng.randrange(256)
        _assert_same(box, path, bytes(data))


def test_limits_apply(path):
    limits = Limits(max_bytes=3000, max_pixels=200 * 150, reduced_pixels=200 * 150, video_bytes=500)
    with Sandbox(limits) as box:
        for data in (JPEG, png(9999, 9999, b""), make_video(moving_frames(8))):
            _assert_same(box, path, data)
            with pytest.raises(errors.TooLarge):
                box.hash_bytes(data)


def test_too_many_bytes_are_refused_before_the_child_starts():
    box = Sandbox(Limits(max_bytes=1000, video_bytes=1000))
    for data in (JPEG, make_video(moving_frames(8))):
        with pytest.raises(errors.TooLarge, match=r"larger than 1000 bytes"):
            box.hash_bytes(data)
    assert box._child is None


def test_any_buffer_of_bytes_is_hashed(box):
    expected = hasher.hash_bytes(JPEG)
    padded = memoryview(b"--" + JPEG + b"--")[2:-2]
    for data in (bytearray(JPEG), memoryview(JPEG), padded, np.frombuffer(JPEG, np.uint8).data):
        assert box.hash_bytes(data) == expected


def test_a_bytearray_can_be_changed_afterwards(box):
    data = bytearray(JPEG)
    box.hash_bytes(data)
    data.clear()  # raises BufferError while something still refers to the bytes
    data += b"text"
    with pytest.raises(errors.UnsupportedFormat):
        box.hash_bytes(data)
    data.clear()


def test_large_uploads_are_not_copied(box):
    pixels = np.random.default_rng(1).integers(0, 256, (2500, 4000, 3), np.uint8)
    picture = bytearray(encode(Image.fromarray(pixels), "BMP"))
    video = bytearray(make_video(moving_frames(30)) + bytes(100 << 20))
    tracemalloc.start()
    try:
        assert box.hash_bytes(picture, signals=(SignalType.MD5, SignalType.PDQ)).hashes
        assert box.hash_bytes(video).frames == 5
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_no_file_is_opened_in_this_process(box, monkeypatch):
    def fail(*arguments, **keywords):
        raise AssertionError(arguments)

    videos = make_video(moving_frames(8))
    expected = hasher.hash_bytes(JPEG), hasher.hash_bytes(videos)
    with monkeypatch.context() as patched:
        for module, name in ((os, "open"), (os, "pread"), (sandbox, "open_file")):
            patched.setattr(module, name, fail)
        found = box.hash_bytes(JPEG), box.hash_bytes(videos)
    assert found == expected


@pytest.mark.parametrize("number", DEATHS)
def test_bytes_that_kill_the_child_are_refused(box, number, monkeypatch):
    child = pid_of(box)
    while_sending(monkeypatch, lambda: os.kill(child, number))
    with pytest.raises(DEATHS[number]):
        box.hash_bytes(JPEG)
    assert box.hash_bytes(JPEG) == hasher.hash_bytes(JPEG)
    assert pid_of(box) != child


def test_threads_take_turns_with_files_and_bytes(box, path):
    path.write_bytes(JPEG)
    video = make_video(moving_frames(8))
    expected = [hasher.hash_bytes(JPEG), hasher.hash_bytes(video), hasher.hash_bytes(JPEG)]

    def hash_all(_):
        return [box.hash_bytes(JPEG), box.hash_bytes(video), box.hash_file(path)]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(hash_all, range(8))) == [expected] * 8


def test_invalid_requests_raise_value_errors(box):
    with pytest.raises(ValueError, match="one of none, match, standard, full"):
        box.hash_bytes(JPEG, variants="all")
    with pytest.raises(ValueError, match="at least one"):
        box.hash_bytes(JPEG, signals=())
    with pytest.raises(TypeError):
        box.hash_bytes("text")


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("level", Level)
def test_an_upload_is_hashed_as_a_query(box, path, level, fast):
    for data in (_pictures()["large JPEG"], make_video(moving_frames(30))):
        path.write_bytes(data)
        expected = box.hash_file(path, variants="match", level=level, fast=fast)
        assert expected.parts
        for source in (path, str(path), data, bytearray(data), memoryview(data)):
            assert hash_upload(source, level=level, fast=fast) == expected


def test_an_upload_is_hashed_for_windows_by_default(path):
    path.write_bytes(JPEG)
    assert hash_upload(JPEG) == hash_upload(path) == hash_upload(JPEG, level=Level.WINDOWS)


def test_a_matcher_finds_bytes_as_it_finds_a_path(path):
    picture = textured(4)
    items = {"picture": hasher.hash_bytes(encode(picture, "PNG"))}
    data = encode(ImageOps.expand(picture, 70, "white"), "JPEG")
    path.write_bytes(data)
    matcher = Matcher.from_items(items)
    (match, *_) = found = matcher.find(data)
    assert (match.item, match.band, match.review) == ("picture", Band.STRONG, False)
    assert found == matcher.find(path) == matcher.find(bytearray(data))
    assert matcher.find(matcher.hash(data)) == found
