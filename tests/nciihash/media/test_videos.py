"""Containers of videos: detected and hashed, or refused by name."""

import io

import numpy as np
import pytest
from PIL import Image

from nciihash import errors, pdq
from nciihash.hashing import hasher
from nciihash.media.formats import detect, video_format
from support.pictures import encode, scene
from support.tracks import fragmented
from support.videos import make_video, moving_frames

FRAMES = 24


@pytest.fixture(scope="module")
def stream():
    return make_video(moving_frames(FRAMES), "libx264", "mpegts", options={"g": "6"})


def nearest(item, pixels):
    own = pdq.analyse(pixels).packed
    values = [np.frombuffer(h.signal.value, np.uint8) for h in item.hashes]
    return min(int(np.bitwise_count(value ^ own).sum()) for value in values)


def packets(stream, before=b"", after=b""):
    parts = [stream[at : at + 188] for at in range(0, len(stream), 188)]
    return b"".join(before + part + after for part in parts)


@pytest.mark.parametrize("cut", [0, 1, 94, 187, 300, 4000])
@pytest.mark.parametrize(
    ("before", "after"), [(b"", b""), (b"\x12\x34\x56\x78", b""), (b"", bytes(16))]
)
def test_a_transport_stream_is_hashed_from_any_offset(stream, before, after, cut):
    data = packets(stream, before, after)[cut:]
    assert video_format(data) == "mpegts"
    item = hasher.hash_bytes(data)
    for frame in moving_frames(FRAMES)[12:]:
        assert nearest(item, frame) <= 10


STREAMS = {
    "H.264": ("libx264", "h264", "h264", 12),
    "HEVC": ("libx265", "hevc", "hevc", 12),
    "MPEG-4": ("mpeg4", "m4v", "m4v", 12),
    "AV1": ("libsvtav1", "obu", "obu", 12),
    "VP8 in IVF": ("libvpx", "ivf", "ivf", 12),
    "MPEG-2": ("mpeg2video", "mpeg2video", "mpegvideo", 24),
    "MXF": ("mpeg2video", "mxf", "mxf", 25),
}


@pytest.mark.parametrize("kind", STREAMS)
def test_elementary_streams_and_camera_formats_are_hashed(kind):
    codec, container_format, name, rate = STREAMS[kind]
    frames = moving_frames(FRAMES, 320, 240)
    data = make_video(frames, codec, container_format, rate=rate)
    assert video_format(data[:4096]) == name
    item = hasher.hash_bytes(data)
    assert max(nearest(item, frame) for frame in frames) <= 31


def test_dv_is_hashed():
    frames = moving_frames(12, 720, 576)
    data = make_video(frames, "dvvideo", "dv", rate=25)
    assert video_format(data) == "dv"
    assert max(nearest(hasher.hash_bytes(data), frame) for frame in frames) <= 31


def test_a_program_stream_without_its_start_is_hashed():
    data = make_video(moving_frames(FRAMES), "mpeg1video", "mpeg", rate=24, options={"g": "6"})
    at = data.index(b"\0\0\1\xe0", 2048)
    assert video_format(data[at:]) == "mpeg"
    assert hasher.hash_bytes(data[at:]).frames >= 1


@pytest.mark.parametrize("name", ["styp", "uuid", "free", "udta", "emsg", "prft"])
def test_an_mp4_may_start_with_any_box(name):
    frames = moving_frames(FRAMES)
    whole = fragmented(frames)
    rest = whole[28:]  # without its ftyp
    box = b"\0\0\0\x18" + name.encode() + b"msdh\0\0\0\0msdhmsix"
    for data in (box + whole, box + rest):
        assert video_format(data) == "mov"
        assert max(nearest(hasher.hash_bytes(data), frame) for frame in frames) <= 10


def test_a_heic_picture_with_another_first_box_is_not_a_video(shared_data):
    heic = next(path for path in (shared_data / "reported").glob("*.heic")).read_bytes()
    assert video_format(heic) is None
    assert video_format(b"\0\0\0\x10free" + bytes(8) + heic) is None


@pytest.mark.parametrize(
    ("start", "format_name"),
    [
        (b".RMF\0\0\0\x12\0\1", "RealMedia"),
        (b"FWS\x09" + bytes(20), "Flash"),
        (b"\xb7\xd8\0 7I\xda\x11\xa6N\0\7\xe9^\xad\x8d", "WTV"),
        (b"#EXTM3U\n#EXTINF:10,\nclip.ts\n", "playlist"),
    ],
)
def test_unsupported_videos_are_named(start, format_name):
    with pytest.raises(errors.UnsupportedFormat, match=format_name):
        hasher.hash_bytes(start)


def test_unknown_files_are_refused():
    with pytest.raises(errors.UnsupportedFormat, match=r"not a picture or a video.*MP4"):
        hasher.hash_bytes(bytes(range(1, 200)))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF"])
def test_pictures_are_not_videos(image_format):
    assert video_format(encode(scene(300, 200), image_format)) is None
    flat = io.BytesIO()
    Image.new("RGB", (300, 200), (0x47, 0x47, 0x47)).save(flat, image_format)
    assert video_format(flat.getvalue()) is None


def test_a_picture_that_contains_a_transport_stream_is_a_picture(stream):
    for image_format in ("JPEG", "PNG", "GIF"):
        data = encode(scene(300, 200), image_format)
        assert video_format(data[:8] + stream) is None
        assert detect(data) is not None


def test_texts_are_not_videos():
    for text in (b"G" * 5000, b"let skip the text" * 300, b"some uuid text" * 300, bytes(5000)):
        assert video_format(text) in {None, "mov"}
        with pytest.raises(errors.FileRefused):
            hasher.hash_bytes(text)
    assert video_format(b"G" * 5000) is None
