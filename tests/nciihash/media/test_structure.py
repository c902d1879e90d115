"""Videos with missing parts, and complete ones that look as if they had some."""

import io
import struct

import av
import numpy as np
import pytest

from nciihash import errors
from nciihash.hashing import hasher
from nciihash.media.formats import video_format
from nciihash.media.structure import check_whole
from support.tracks import boxes_of, fragmented, live
from support.videos import make_video, moving_frames


def check(data):
    check_whole(io.BytesIO(data), video_format(data))


@pytest.fixture(scope="module")
def fragments():
    """Return the boxes of a fragmented MP4: its header, pairs of `moof` and `mdat`, then `mfra`."""
    return boxes_of(fragmented(moving_frames(36)))


def join(boxes):
    return b"".join(data for _, data in boxes)


def test_a_fragmented_mp4_is_complete_after_any_fragment(fragments):
    check(join(fragments))
    assert hasher.hash_bytes(join(fragments)).frames == 6
    check(join(box for box in fragments if box[0] != b"mfra"))
    check(join(fragments[:6]))  # a recording may end after any fragment
    check(join(fragments) + bytes(10))
    for length in range(1, 8):
        check(join(fragments) + b"\r\nend.\r\n"[:length])
    with pytest.raises(errors.CorruptFile, match="cut off"):
        check(join(fragments[:5]) + b"\r\n")
    check(b"\0\0\0\x18stypmsdh\0\0\0\0msdhmsix" + join(fragments))


@pytest.mark.parametrize("missing", [1, 300, 15_000])
@pytest.mark.parametrize("kept", [6, 14])
def test_a_fragmented_mp4_that_is_cut_off_is_refused(fragments, missing, kept):
    data = join(fragments[:kept])
    with pytest.raises(errors.CorruptFile, match="cut off"):
        hasher.hash_bytes(data[:-missing])


def test_a_fragment_without_its_data_is_refused(fragments):
    with pytest.raises(errors.CorruptFile, match="cut off"):
        check(join(fragments[:5]))


@pytest.mark.parametrize("first", [4, 6, 10])
def test_a_missing_fragment_is_detected(fragments, first):
    with pytest.raises(errors.CorruptFile, match="middle"):
        hasher.hash_bytes(join([*fragments[:first], *fragments[first + 2 :]]))


@pytest.mark.parametrize("missing", [1, 1000])
def test_missing_bytes_within_a_fragment_are_detected(fragments, missing):
    data = join(fragments)
    at = len(join(fragments[:5])) + 500
    with pytest.raises(errors.CorruptFile):
        hasher.hash_bytes(data[:at] + data[at + missing :])


def test_a_segment_of_a_stream_is_refused_as_one(fragments):
    segment = join(fragments[2:4])
    for start in (b"\0\0\0\x18stypmsdh\0\0\0\0msdhmsix", b""):
        with pytest.raises(errors.CorruptFile, match="the part that comes first"):
            hasher.hash_bytes(start + segment)


def test_a_still_picture_between_fragments_is_not_a_gap():
    frames = moving_frames(8, still=1)
    check(fragmented(frames, times=[0, 0.1, 0.2, 3, 3.1, 9, 9.1, 12], group=2))
    check(fragmented(frames, times=[0, 0.1, 0.2, 3, 3.1, 9, 9.1, 12], group=1))


def test_a_truncated_mp4_is_refused():
    data = make_video(moving_frames(12))
    check(data)
    check(data + b"made by a camera")
    check(b"\0\0\0\x10free" + bytes(8) + data)
    for missing in (1, 100):
        with pytest.raises(errors.CorruptFile, match="cut off"):
            check(data[:-missing])


@pytest.mark.parametrize("codec", ["libvpx", "libx264"])
def test_a_live_recording_is_complete_after_any_block(codec):
    data, ends = live(moving_frames(36), codec)
    assert hasher.hash_bytes(data).frames == 6
    for end in ends[len(ends) // 2 :]:
        check(data[:end])


def test_a_live_recording_may_have_trailing_bytes():
    data, ends = live(moving_frames(36), "libvpx")
    assert data[-1] != 0
    for trailing in (bytes(1), bytes(12), bytes(5000), b"\n", b"\r\n", b"the end"):
        check(data + trailing)
    block = bytes(data[ends[-2] : ends[-1]])
    for trailing in (b"made by a program", bytes(5000) + b"\1", bytes(16) + block):
        with pytest.raises(errors.CorruptFile, match="middle"):
            check(data + trailing)
    for missing in (1, 30, 300):  # an interrupted copy, padded with NULs
        with pytest.raises(errors.CorruptFile):
            check(data[:-missing] + bytes(missing + 5000))


def test_concatenated_live_recordings_are_refused():
    data, _ = live(moving_frames(36), "libvpx")
    with pytest.raises(errors.CorruptFile, match="several videos"):
        hasher.hash_bytes(data + data)


@pytest.mark.parametrize("codec", ["libvpx", "libx264"])
def test_a_live_recording_cut_within_a_block_is_refused(codec):
    data, ends = live(moving_frames(36), codec)
    for end in ends[len(ends) // 2 :]:
        for missing in (1, 2, 30):
            with pytest.raises(errors.CorruptFile):
                check(data[: end - missing])
    with pytest.raises(errors.CorruptFile, match="cut off"):
        hasher.hash_bytes(data[:-30])


def test_missing_bytes_within_a_live_recording_are_detected():
    data, ends = live(moving_frames(36), "libvpx")
    random = np.random.default_rng(3)
    for end in random.choice(ends[4:-4], 8, replace=False):
        at = int(end) - 60
        with pytest.raises(errors.CorruptFile):
            check(data[:at] + data[at + 1000 :])


def test_matroska_of_known_length_is_checked_against_it():
    data = make_video(moving_frames(12), "libvpx", "webm")
    check(data)
    check(data + b"made by a camera")
    with pytest.raises(errors.CorruptFile, match="cut off"):
        check(data[:-1])


def test_invalid_data_end_the_check():
    for start in (b"\x1aE\xdf\xa3", b"\0\0\0\x18ftypisom", b"\0\0\0\x08moov\0\0\0\x08moof"):
        for tail in (b"", bytes(64), b"\xff" * 64, bytes(range(256))):
            data = start + tail
            try:
                check_whole(io.BytesIO(data), "matroska" if start[0] == 0x1A else "mov")
            except errors.CorruptFile:
                continue


def box(name, content=b""):
    return (len(content) + 8).to_bytes(4) + name + content


@pytest.mark.parametrize("name", [b"mfhd", b"tfhd", b"tfdt", b"trun"])
def test_boxes_of_fragments_may_be_of_any_length(name):
    for size in range(24):
        for first in (b"", b"\1"):
            content = (first + bytes(24))[:size]
            full = {b"mfhd": bytes(8), b"tfhd": bytes(8), b"tfdt": bytes(8), b"trun": bytes(8)}
            full[name] = content
            track = b"".join(box(n, c) for n, c in full.items() if n != b"mfhd")
            fragment = box(b"moof", box(b"mfhd", full[b"mfhd"]) + box(b"traf", track)) + box(
                b"mdat"
            )
            check(box(b"ftyp", b"isom" + bytes(4)) + box(b"moov") + 2 * fragment)


@pytest.mark.parametrize("error", [IndexError, OverflowError, struct.error, ZeroDivisionError])
def test_other_errors_become_corrupt_file(monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(hasher, "check_whole", fail)
    with pytest.raises(errors.CorruptFile):
        hasher.hash_bytes(make_video(moving_frames(2)))


def test_sample_videos_are_complete(shared_data):
    for path in sorted((shared_data / "videos").iterdir()):
        data = path.read_bytes()
        check(data)
        with av.open(io.BytesIO(data)) as container:
            assert container.streams.video
