import io
import os
import re
import struct
from dataclasses import replace
from operator import attrgetter

import av
import numpy as np
import pytest
from PIL import Image

from nciihash import errors, pdq, vpdq
from nciihash.hashing import frame_selection, hasher, video
from nciihash.hashing.video import open_video
from nciihash.media.limits import Limits
from nciihash.signals import Media, SignalType, Variant
from support.pictures import encode, scene
from support.tracks import cropped, with_two_tracks
from support.videos import RATE, make_video, moving_frames, oriented, stored

LIMITS = Limits(threads=1)
PDQ_MD5 = (SignalType.PDQ, SignalType.MD5, SignalType.SHA256)


def sampled(data, container_format="mov", every=0.25):
    selector = frame_selection.FrameSelector(10_000, every)
    with open_video(io.BytesIO(data), container_format, every, LIMITS) as source:
        return list(source.frames(selector.due))


def distance(a, b):
    return int(np.bitwise_count(a ^ b).sum())


def shares(a, b):
    return vpdq.compare(vpdq.group_by_frame(a.hashes), vpdq.group_by_frame(b.hashes))


@pytest.fixture(scope="module")
def frames():
    return moving_frames(30)


@pytest.fixture(scope="module")
def footage(frames):
    return make_video(frames)


@pytest.fixture(scope="module")
def original(footage):
    return hasher.hash_bytes(footage)


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="this system has no such call")
def test_encoding_does_not_change_the_scheduling_of_the_tests():
    before = os.sched_getscheduler(0)
    make_video(moving_frames(2), "libsvtav1", "webm")
    assert os.sched_getscheduler(0) == before


KINDS = {
    "H.264 in MP4": ("libx264", "mp4", "yuv420p"),
    "H.264 in MOV": ("libx264", "mov", "yuv420p"),
    "H.264, full range": ("libx264", "mp4", "yuvj420p"),
    "H.264, 4:4:4": ("libx264", "matroska", "yuv444p"),
    "HEVC": ("libx265", "mp4", "yuv420p"),
    "HEVC, 10 bits": ("libx265", "mp4", "yuv420p10le"),
    "AV1": ("libsvtav1", "mp4", "yuv420p"),
    "AV1, 10 bits": ("libsvtav1", "webm", "yuv420p10le"),
    "VP9": ("libvpx-vp9", "webm", "yuv420p"),
    "VP8": ("libvpx", "webm", "yuv420p"),
    "ProRes": ("prores_ks", "mov", "yuv422p10le"),
    "MPEG-4 in AVI": ("mpeg4", "avi", "yuv420p"),
    "MPEG-4 in 3GP": ("mpeg4", "3gp", "yuv420p"),
    "MPEG-2 in a transport stream": ("mpeg2video", "mpegts", "yuv420p"),
    "MPEG-1 in a program stream": ("mpeg1video", "mpeg", "yuv420p"),
    "WMV": ("wmv2", "asf", "yuv420p"),
    "Flash": ("flv", "flv", "yuv420p"),
    "Motion JPEG": ("mjpeg", "avi", "yuvj420p"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_codec_and_container_has_the_same_frames(kind, frames, original):
    codec, container_format, pix_fmt = KINDS[kind]
    rate = 24 if codec.startswith("mpeg") else RATE  # MPEG-1 and MPEG-2 support few rates
    repeated = [frame for frame in frames for _ in range(rate // RATE)]
    item = hasher.hash_bytes(make_video(repeated, codec, container_format, pix_fmt, rate=rate))
    assert item.media is Media.VIDEO
    assert item.every == frame_selection.SAMPLE_INTERVAL
    share = shares(item, original)
    assert share.query.fraction >= 0.8, share
    assert share.bank.fraction == 1.0, share
    assert share.distance <= 12


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p10le"])
@pytest.mark.parametrize("size", [(320, 240), (1280, 720), (1080, 1918), (70, 66)])
def test_a_frames_hash_is_close_to_that_of_its_rgb(size, pix_fmt):
    width, height = size
    data = make_video(
        moving_frames(3, width, height, still=1), pix_fmt=pix_fmt, options={"crf": "5"}
    )
    samples = sampled(data)
    assert samples
    for frame in samples:
        expected = pdq.analyse(frame.rgb())
        if expected.quality >= 50:
            assert distance(frame.analysis.packed, expected.packed) <= 4
            assert abs(frame.analysis.quality - expected.quality) <= 2


@pytest.mark.parametrize("turned", [90, 180, 270])
@pytest.mark.parametrize("size", [(320, 240), (1024, 640)])
def test_a_rotated_video_is_hashed_upright(turned, size):
    upright = moving_frames(4, *size, still=2)
    stored = [np.ascontiguousarray(np.rot90(frame, turned // 90)) for frame in upright]
    samples = sampled(make_video(stored, turned=turned, options={"crf": "5"}))
    plain = sampled(make_video(upright, options={"crf": "5"}))
    assert [frame.time for frame in samples] == [frame.time for frame in plain]
    for a, b in zip(samples, plain, strict=True):
        assert a.rgb().shape == upright[0].shape
        assert distance(a.analysis.packed, b.analysis.packed) <= 10
        assert distance(a.analysis.packed, pdq.analyse(a.rgb()).packed) <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(320, 240), (1024, 640)])
def test_a_display_matrix_is_applied(orientation, size):
    shown = moving_frames(4, *size, still=2)
    data = make_video([stored(frame, orientation) for frame in shown], options={"crf": "5"})
    samples = sampled(oriented(data, orientation))
    assert len(samples) == 2
    for frame in samples:
        assert frame.rgb().shape == shown[0].shape
        assert (
            min(distance(frame.analysis.packed, pdq.analyse(each).packed) for each in shown) <= 10
        )
        assert distance(frame.analysis.packed, pdq.analyse(frame.rgb()).packed) <= 4


# whether the first track is shown, and the tracks' flags
TRACKS = {
    "the first is disabled": (False, {"flags": (0, 3)}),
    "the second is disabled": (True, {"flags": (3, 2)}),
    "both are enabled": (True, {"flags": (3, 3)}),
    "none is enabled": (True, {"flags": (0, 0)}),
    "the second is the default": (
        False,
        {"default": (False, True), "container_format": "matroska"},
    ),
}


@pytest.mark.parametrize("name", TRACKS)
@pytest.mark.parametrize("sizes", [((96, 64), (320, 240)), ((320, 240), (96, 64))])
def test_the_track_that_players_show_is_hashed(name, sizes):
    first, flags = TRACKS[name]
    tracks = [moving_frames(12, *size, seed=number) for number, size in enumerate(sizes)]
    item = hasher.hash_bytes(with_two_tracks(tracks, **flags))
    assert max(distance_to(item, frame) for frame in tracks[not first]) <= 10


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize(("left", "top"), [(20, 0), (0, 10), (34, 14)])
@pytest.mark.parametrize("container_format", ["mp4", "matroska"])
def test_cropping_in_a_stream_header_is_applied(codec, left, top, container_format):
    frames = moving_frames(12, 320, 224)
    item = hasher.hash_bytes(cropped(frames, codec, left, top, container_format))
    assert max(distance_to(item, frame[top:, left:]) for frame in frames) <= 10


def test_an_empty_packet_does_not_end_the_video(footage):
    """Empty packets occur in Ogg Theora, for which FFmpeg has no encoder here."""
    original = sampled(footage)
    with open_video(io.BytesIO(footage), "mov", 0.25, LIMITS) as source:

        class Repeating:
            def demux(self, stream):
                for packet in container.demux(stream):
                    yield packet
                    if packet.size:
                        empty = av.Packet(b"")
                        empty.stream, empty.time_base = packet.stream, packet.time_base
                        empty.pts, empty.dts, empty.duration = packet.pts, packet.dts, 1
                        yield empty

        container = source._container
        selector = frame_selection.FrameSelector(100)
        samples = list(replace(source, _container=Repeating()).frames(selector.due))
    assert [frame.time for frame in samples] == [frame.time for frame in original]


def test_times_are_counted_from_the_first_frame_at_any_rate(frames, original):
    times = [5.0 + 0.04 * n + (2.0 if n > 10 else 0.0) for n in range(len(frames))]
    data = make_video(frames, "mpeg4", "matroska", times=times)
    sampled_times = [frame.time for frame in sampled(data, "matroska")]
    assert sampled_times[0] == 0.0
    assert sampled_times[-1] == pytest.approx(times[-1] - 5.0, abs=0.25)
    assert max(np.diff(sampled_times)) == pytest.approx(2.04, abs=0.25)
    varying = hasher.hash_bytes(make_video(frames, times=np.cumsum([0.02, 0.15] * 15).tolist()))
    assert shares(varying, original).query.fraction == 1.0


def test_frames_have_times_and_digests_have_none(footage):
    item = hasher.hash_bytes(footage, signals=PDQ_MD5)
    own = [h for h in item.hashes if h.signal.type is SignalType.PDQ]
    assert item.frames == len(own) == 5  # a new scene every half second
    assert [h.time for h in own] == pytest.approx([0, 0.5, 1.0, 1.5, 2.0], abs=0.09)
    assert [h.signal.type for h in item.hashes[len(own) :]] == [SignalType.MD5, SignalType.SHA256]
    assert {h.time for h in item.hashes[len(own) :]} == {None}


def test_a_still_video_is_one_frame(frames):
    item = hasher.hash_bytes(make_video(frames[:1] * 30))
    assert (item.frames, len(item.hashes)) == (1, 1)


def test_a_black_video_is_plain(frames):
    item = hasher.hash_bytes(make_video([np.zeros_like(frames[0])] * 12))
    assert [h.plain for h in item.hashes] == [True]


def test_variants_of_frames_match_mirrored_and_cropped_copies(frames, footage, original):
    standard = hasher.hash_bytes(footage, variants="standard")
    assert standard.frames == original.frames
    assert {Variant.MIRROR, Variant.CROP10} <= {h.variant for h in standard.hashes}
    assert {h.time for h in standard.hashes} == {h.time for h in original.hashes}
    mirrored = hasher.hash_bytes(make_video([np.ascontiguousarray(f[:, ::-1]) for f in frames]))
    cropped = hasher.hash_bytes(
        make_video([np.ascontiguousarray(f[24:-24, 32:-32]) for f in frames])
    )
    for copy in (mirrored, cropped):
        assert shares(copy, original).query.found == 0
        assert shares(copy, standard).query.fraction == 1.0
        assert shares(copy, standard).bank.fraction == 1.0


def test_a_cut_copy_with_fast_motion_is_found():
    whole = moving_frames(8, 900, 240, still=1, seed=3)[0]
    drifting = [np.ascontiguousarray(whole[:, 5 * n : 5 * n + 320]) for n in range(116)]
    bank = hasher.hash_bytes(make_video(drifting, rate=30))
    assert bank.frames >= 14
    part = make_video(drifting[19:103], rate=30, options={"crf": "30"})
    sparse, dense = hasher.hash_bytes(part), hasher.hash_bytes(part, variants="match")
    assert shares(sparse, bank).query.fraction < 0.6  # it was cut between two samples
    assert shares(dense, bank).query.fraction >= 0.9
    assert dense.frames <= 12
    assert len(dense.hashes) > 30


def test_bars_are_trimmed_for_queries(frames, original):
    barred = [np.pad(f, ((0, 0), (107, 107), (0, 0)))[:, : 320 + 214] for f in frames]
    data = make_video([np.ascontiguousarray(f) for f in barred])
    assert shares(hasher.hash_bytes(data), original).query.found == 0
    assert shares(hasher.hash_bytes(data, variants="match"), original).query.fraction >= 0.8


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "AVIF"])
def test_animated_pictures_are_hashed_as_videos(image_format, frames, original):
    pictures = [Image.fromarray(f) for f in frames[::3]]
    data = encode(
        pictures[0], image_format, save_all=True, append_images=pictures[1:], duration=3000 // RATE
    )
    item = hasher.hash_bytes(data, signals=(*PDQ_MD5, SignalType.PHASH))
    assert (item.media, item.frames) == (Media.VIDEO, 5)
    assert shares(item, original).query.fraction == 1.0
    assert item.hashes[0].time == 0.0
    first = hasher.hash_bytes(encode(pictures[0], image_format))
    assert first.media is Media.IMAGE
    assert shares(first, item).query.found == 1


def test_videos_have_no_phash_or_dhash(footage):
    with pytest.raises(errors.UnsupportedFormat, match="video"):
        hasher.hash_bytes(footage, signals=[SignalType.PDQ, SignalType.DHASH])


def test_a_long_video_is_sampled_less_often(monkeypatch):
    monkeypatch.setattr(frame_selection, "PLAIN_FRAMES", 8)
    data = make_video(moving_frames(120, 128, 96, still=3), "mpeg4")
    item = hasher.hash_bytes(data)
    assert 4 <= item.frames <= 8
    assert item.every >= 1.0
    assert list(item.hashes) == sorted(item.hashes, key=attrgetter("time"))
    assert item.hashes[-1].time > 7


def test_submissions_stay_within_the_limit_on_signals(monkeypatch):
    monkeypatch.setattr(frame_selection, "SIGNALS", 60)
    item = hasher.hash_bytes(make_video(moving_frames(60)), variants="standard")
    assert len(item.hashes) <= 60
    assert sum(h.variant is Variant.ORIGINAL for h in item.hashes) == item.frames == 10


def scenes_and_times(lengths, seed=2):
    """Draw a scene for each length in seconds; return them and when each appears."""
    scenes = moving_frames(len(lengths), still=1, seed=seed)
    return scenes, [0.0, *np.cumsum(lengths[:-1]).tolist()]


def distance_to(item, pixels):
    """Return the distance of an item's nearest hash to that of the pixels."""
    own = pdq.analyse(pixels).packed
    return min(distance(np.frombuffer(h.signal.value, np.uint8), own) for h in item.hashes)


LENGTHS = {
    "a short first frame": [0.1, 3.0],
    "swipes between still pictures": [2.0, *[0.05] * 6, 1.0, *[0.04] * 5, 3.0, *[0.03] * 4, 1.5],
    "just a quarter second": [0.26, 0.11, 0.25, 0.13, 0.25, 0.01, 0.25],
    "a short last frame": [1.0, 1.0, 0.1, 0.1],
}


@pytest.mark.parametrize("name", LENGTHS)
@pytest.mark.parametrize("variants", ["none", "match"])
def test_each_frame_shown_for_a_quarter_second_is_hashed(name, variants):
    lengths = LENGTHS[name]
    scenes, times = scenes_and_times(lengths)
    for codec, container_format in (("libx264", "mp4"), ("libvpx", "webm")):
        item = hasher.hash_bytes(
            make_video(scenes, codec, container_format, times=times), variants=variants
        )
        for number, (drawn, length) in enumerate(zip(scenes, lengths, strict=True)):
            if length >= 0.25 or number == len(scenes) - 1:
                assert distance_to(item, drawn) <= 31, (codec, number)


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "AVIF"])
@pytest.mark.parametrize("lengths", [[0.1, 3.0], [0.3, 0.06, 0.3], [0.06, 0.06, 0.06]])
def test_each_animation_frame_shown_for_a_quarter_second_is_hashed(image_format, lengths):
    scenes, _ = scenes_and_times(lengths)
    pictures = [Image.fromarray(scene) for scene in scenes]
    data = encode(
        pictures[0],
        image_format,
        save_all=True,
        append_images=pictures[1:],
        duration=[round(1000 * length) for length in lengths],
        loop=0,
    )
    for variants in ("none", "match"):
        item = hasher.hash_bytes(data, variants=variants)
        for drawn, length in zip(scenes, lengths, strict=True):
            if length >= 0.25 or sum(lengths) < 0.25:  # a short loop shows each frame again
                assert distance_to(item, drawn) <= 31


def test_each_frame_of_a_loop_shorter_than_the_interval_is_hashed():
    scenes, times = scenes_and_times([0.05] * 4)
    for variants in ("none", "match"):
        item = hasher.hash_bytes(make_video(scenes, times=times), variants=variants)
        assert max(distance_to(item, scene) for scene in scenes) <= 31


@pytest.mark.parametrize(
    "duration", ["0:0:inf", "0:0:nan", f"{'9' * 400}:0:0", "0:0:-5", "::", "1"]
)
def test_an_invalid_duration_is_ignored(duration):
    scenes, times = scenes_and_times([0.5] * 8)
    data = make_video(scenes, "libvpx", "webm", times=times, tags={"DURATIOX": duration})
    # FFmpeg writes the true one as well
    data = data.replace(b"DURATION", b"DURATIOY").replace(b"DURATIOX", b"DURATION")
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.video[0].metadata["DURATION"] == duration
    item = hasher.hash_bytes(data)
    assert item.every == frame_selection.SAMPLE_INTERVAL
    assert max(distance_to(item, scene) for scene in scenes) <= 31


def test_timestamps_that_jump_back_hide_no_frames():
    scenes, _ = scenes_and_times([0.5] * 8)
    selector = frame_selection.FrameSelector(100)
    with open_video(io.BytesIO(make_video(scenes, rate=2)), "mov", 0.25, LIMITS) as source:
        clock = iter([0.0, 0.5, 9000.0, 1.0, 1.5, 2.0, 2.5, 3.0])

        class ResetTimestamps:
            def demux(self, stream):
                for packet in container.demux(stream):
                    if packet.size:
                        packet.pts = packet.dts = round(next(clock) / float(packet.time_base))
                    yield packet

        container = source._container
        samples = list(replace(source, _container=ResetTimestamps()).frames(selector.due))
    assert len(samples) == 8


@pytest.mark.parametrize("variants", ["none", "match"])
@pytest.mark.parametrize("samples", [24, 60])
def test_still_pictures_in_a_long_screen_recording_are_hashed(monkeypatch, variants, samples):
    monkeypatch.setattr(video, "_SAMPLES_MAX", samples)
    scenes, times = scenes_and_times([3.0, 0.04, 0.04] * 10)
    data = make_video(scenes, times=times, options={"g": "8"})
    item = hasher.hash_bytes(data, variants=variants)
    assert item.every == pytest.approx(30.8 / samples, rel=0.01)
    assert max(distance_to(item, scene) for scene in scenes[::3]) <= 31


def test_only_key_frames_of_a_long_video_are_decoded(monkeypatch):
    monkeypatch.setattr(video, "_SAMPLES_MAX", 30)
    monkeypatch.setattr(video, "_KEY_FRAMES_APART", 5.0)
    hour = moving_frames(900, 64, 64, still=900)  # 36 seconds, with no cuts that cause key frames
    samples = sampled(make_video(hour, "mpeg4", rate=25, options={"g": "50"}))
    assert len(samples) == 18
    assert set(np.diff([frame.time for frame in samples])) == {2.0}
    sparse = make_video(hour, "mpeg4", rate=25, options={"g": "600"})
    assert len(sampled(sparse)) == 145  # too few key frames: all frames are decoded


def damaged(frames):
    data = make_video(frames, options={"movflags": "faststart", "crf": "5"})
    yield "cut off", data[: len(data) // 2], errors.CorruptFile
    matroska = make_video(frames, "libx264", "matroska", options={"crf": "5"})
    yield "cut Matroska", matroska[: len(matroska) // 2], errors.CorruptFile
    yield "no index", make_video(frames)[:-200], errors.CorruptFile
    yield "header alone", data[:40], errors.CorruptFile
    yield "noise", b"\x1aE\xdf\xa3" + bytes(range(256)) * 9, errors.CorruptFile
    sound = io.BytesIO()
    with av.open(sound, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    yield "sound alone", sound.getvalue(), errors.UnsupportedFormat


def test_damaged_videos_are_refused(frames):
    for name, data, kind in damaged(moving_frames(60)):
        with pytest.raises(kind):
            pytest.fail(f"{name}: {hasher.hash_bytes(data)}")


def test_a_video_without_sampled_frames_is_refused(footage):
    file = io.BytesIO(footage)
    with (
        open_video(file, "mov", 0.25, LIMITS) as source,
        pytest.raises(errors.CorruptFile, match="No frame"),
    ):
        list(source.frames(lambda *_: False))


def test_the_limit_on_pixels_applies_to_frames(footage):
    with pytest.raises(errors.TooLarge, match="pixels"):
        hasher.hash_bytes(footage, limits=Limits(max_pixels=320 * 240 - 1))
    assert hasher.hash_bytes(footage, limits=Limits(max_pixels=320 * 240))


def test_a_video_may_be_larger_than_a_picture(footage, tmp_path):
    path = tmp_path / "video"
    path.write_bytes(footage)
    assert hasher.hash_file(path, limits=Limits(max_bytes=100)).frames == 5
    with pytest.raises(errors.TooLarge, match="video"):
        hasher.hash_file(path, limits=Limits(video_bytes=100))


def test_a_file_that_a_video_refers_to_is_not_opened(frames, footage, tmp_path):
    """A QuickTime file may refer to another file for its frames."""
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(footage)
    data = make_video(frames, container_format="mov")
    alias = b"\0\0\0\x0calis\0\0\0\1"
    name = str(secret).encode() + b"\0"
    outside = struct.pack(">I", 12 + len(name)) + b"url \0\0\0\0" + name
    at = data.index(alias) if alias in data else data.index(b"\0\0\0\x0curl \0\0\0\1")
    with pytest.raises(errors.FileRefused):
        hasher.hash_bytes(data[:at] + outside + data[at + 12 :])


def test_sample_videos_are_hashed(shared_data):
    for path in sorted((shared_data / "videos").iterdir()):
        item = hasher.hash_file(path)
        assert item.media is Media.VIDEO
        assert item.frames >= 3, path
        assert all(not h.plain for h in item.hashes), path
    same = [hasher.hash_file(shared_data / "videos" / f"flower.{end}") for end in ("mp4", "webm")]
    assert shares(*same).query.fraction > 0.9
    pattern = hasher.hash_file(shared_data / "videos" / "pattern-sd-grey-bar.mp4")
    assert shares(pattern, same[0]).query.found == 0


def test_a_picture_is_not_a_video():
    assert hasher.hash_bytes(encode(scene(), "JPEG")).media is Media.IMAGE


REPORTED = {
    "vfr_gif_100ms_3s.gif": 10,
    "vfr_screen_recording_swipes.mp4": 31,
    "matrix_hflip.mp4": 10,
    "avchd_camcorder.m2ts": 10,
    "two_tracks_first_disabled.mp4": 10,
    "h264_crop_left_20.mp4": 10,
    "theora_still_scene.ogv": 10,
}


@pytest.mark.parametrize("name", REPORTED)
def test_reported_videos(shared_data, name):
    """The expected hashes are in the README next to the files."""
    (line,) = (
        line
        for line in (shared_data / "reported" / "README.md").read_text().splitlines()
        if line.startswith(f"- `{name}`")
    )
    expected = re.findall(r"\b[0-9a-f]{64}\b", line.partition("**Expected:**")[2])
    item = hasher.hash_file(shared_data / "reported" / name)
    own = [np.frombuffer(h.signal.value, np.uint8) for h in item.hashes]
    assert expected
    for value in expected:
        assert (
            min(distance(np.frombuffer(bytes.fromhex(value), np.uint8), h) for h in own)
            <= REPORTED[name]
        )


def test_a_reported_truncated_mp4_is_refused(shared_data):
    with pytest.raises(errors.CorruptFile, match="cut off"):
        hasher.hash_file(shared_data / "reported" / "fragmented_cut_off.mp4")
