"""Videos of which a part is missing, and such as only look so."""

import io
import struct

import av
import numpy as np
import pytest

from nciihash import errors
from nciihash.hashing import hasher
from nciihash.media.formats import video_format
from nciihash.media.structure import check_whole
from support.films import film, moving
from support.tracks import boxes_of, fragmented, live


def check(data):
    check_whole(io.BytesIO(data), video_format(data))


@pytest.fixture(scope="module")
def pieces():
    """Boxes of a fragmented MP4: its header, then pairs of `moof` and `mdat`, then `mfra`."""
    return boxes_of(fragmented(moving(36)))


def joined(boxes):
    return b"".join(data for _, data in boxes)


def test_a_fragmented_mp4_is_whole(pieces):
    check(joined(pieces))
    assert hasher.hash_bytes(joined(pieces)).frames == 6
    check(joined(box for box in pieces if box[0] != b"mfra"))
    check(joined(pieces[:6]))  # a recording that ends between two fragments is all there is
    check(joined(pieces) + bytes(10))
    for length in range(1, 8):
        check(joined(pieces) + b"\r\nend.\r\n"[:length])
    with pytest.raises(errors.CorruptFile, match="cut off"):
        check(joined(pieces[:5]) + b"\r\n")
    check(b"\0\0\0\x18stypmsdh\0\0\0\0msdhmsix" + joined(pieces))


@pytest.mark.parametrize("lost", [1, 300, 15_000])
@pytest.mark.parametrize("kept", [6, 14])
def test_a_fragmented_mp4_that_is_cut_off_is_refused(pieces, lost, kept):
    data = joined(pieces[:kept])
    with pytest.raises(errors.CorruptFile, match="cut off"):
        hasher.hash_bytes(data[:-lost])


def test_a_fragment_without_its_pictures_is_refused(pieces):
    with pytest.raises(errors.CorruptFile, match="cut off"):
        check(joined(pieces[:5]))


@pytest.mark.parametrize("first", [4, 6, 10])
def test_a_fragment_that_is_missing_is_noticed(pieces, first):
    with pytest.raises(errors.CorruptFile, match="middle"):
        hasher.hash_bytes(joined([*pieces[:first], *pieces[first + 2 :]]))


@pytest.mark.parametrize("lost", [1, 1000])
def test_bytes_that_are_missing_within_a_fragment_are_noticed(pieces, lost):
    data = joined(pieces)
    at = len(joined(pieces[:5])) + 500
    with pytest.raises(errors.CorruptFile):
        hasher.hash_bytes(data[:at] + data[at + lost :])


def test_a_piece_of_a_stream_is_called_one(pieces):
    segment = joined(pieces[2:4])
    for start in (b"\0\0\0\x18stypmsdh\0\0\0\0msdhmsix", b""):
        with pytest.raises(errors.CorruptFile, match="the part that comes first"):
            hasher.hash_bytes(start + segment)


def test_a_picture_that_stays_between_fragments_is_no_gap():
    frames = moving(8, still=1)
    check(fragmented(frames, times=[0, 0.1, 0.2, 3, 3.1, 9, 9.1, 12], group=2))
    check(fragmented(frames, times=[0, 0.1, 0.2, 3, 3.1, 9, 9.1, 12], group=1))


def test_a_plain_mp4_is_whole_or_refused():
    data = film(moving(12))
    check(data)
    check(data + b"made by a camera")
    check(b"\0\0\0\x10free" + bytes(8) + data)
    for lost in (1, 100):
        with pytest.raises(errors.CorruptFile, match="cut off"):
            check(data[:-lost])


@pytest.mark.parametrize("codec", ["libvpx", "libx264"])
def test_a_live_recording_is_whole_wherever_it_ends_between_blocks(codec):
    data, ends = live(moving(36), codec)
    assert hasher.hash_bytes(data).frames == 6
    for end in ends[len(ends) // 2 :]:
        check(data[:end])


def test_a_live_recording_may_end_in_strays():
    data, ends = live(moving(36), "libvpx")
    assert data[-1] != 0
    for strays in (bytes(1), bytes(12), bytes(5000), b"\n", b"\r\n", b"the end"):
        check(data + strays)
    block = bytes(data[ends[-2] : ends[-1]])
    for strays in (b"made by a program", bytes(5000) + b"\1", bytes(16) + block):
        with pytest.raises(errors.CorruptFile, match="middle"):
            check(data + strays)
    for lost in (1, 30, 300):  # a copy that broke off and was filled up
        with pytest.raises(errors.CorruptFile):
            check(data[:-lost] + bytes(lost + 5000))


def test_live_recordings_that_are_joined_are_called_so():
    data, _ = live(moving(36), "libvpx")
    with pytest.raises(errors.CorruptFile, match="several videos"):
        hasher.hash_bytes(data + data)


@pytest.mark.parametrize("codec", ["libvpx", "libx264"])
def test_a_live_recording_that_is_cut_within_a_block_is_refused(codec):
    data, ends = live(moving(36), codec)
    for end in ends[len(ends) // 2 :]:
        for lost in (1, 2, 30):
            with pytest.raises(errors.CorruptFile):
                check(data[: end - lost])
    with pytest.raises(errors.CorruptFile, match="cut off"):
        hasher.hash_bytes(data[:-30])


def test_bytes_that_are_missing_within_a_live_recording_are_noticed():
    data, ends = live(moving(36), "libvpx")
    random = np.random.default_rng(3)
    for end in random.choice(ends[4:-4], 8, replace=False):
        at = int(end) - 60
        with pytest.raises(errors.CorruptFile):
            check(data[:at] + data[at + 1000 :])


def test_matroska_of_known_length_ends_where_it_says():
    data = film(moving(12), "libvpx", "webm")
    check(data)
    check(data + b"made by a camera")
    with pytest.raises(errors.CorruptFile, match="cut off"):
        check(data[:-1])


def test_nonsense_ends():
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
            piece = box(b"moof", box(b"mfhd", full[b"mfhd"]) + box(b"traf", track)) + box(b"mdat")
            check(box(b"ftyp", b"isom" + bytes(4)) + box(b"moov") + 2 * piece)


@pytest.mark.parametrize("error", [IndexError, OverflowError, struct.error, ZeroDivisionError])
def test_what_the_structure_is_read_with_raises_no_other_errors(monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(hasher, "check_whole", fail)
    with pytest.raises(errors.CorruptFile):
        hasher.hash_bytes(film(moving(2)))


def test_files_that_people_have_are_whole(shared_data):
    for path in sorted((shared_data / "videos").iterdir()):
        data = path.read_bytes()
        check(data)
        with av.open(io.BytesIO(data)) as container:
            assert container.streams.video
