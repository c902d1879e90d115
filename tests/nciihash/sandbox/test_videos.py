import os
import signal
import struct
import tracemalloc

import pytest

from nciihash import errors
from nciihash.hashing import hasher
from nciihash.media.limits import Limits
from nciihash.sandbox import Sandbox
from nciihash.sandbox import parent as sandbox
from nciihash.signals import SignalType
from support.sandboxes import DEATHS, gone, pid_of, sibling, while_sending
from support.videos import make_video, moving_frames


@pytest.mark.parametrize("variants", hasher.VARIANTS)
def test_a_video_is_hashed_in_the_child_as_in_the_library(box, footage, variants):
    options = {"variants": variants, "signals": (SignalType.PDQ, SignalType.SHA256)}
    item = box.hash_file(footage, **options)
    assert item == hasher.hash_file(footage, **options)
    assert item.frames == 5
    assert item.hashes[1].time is not None


def test_only_the_needed_ranges_of_a_large_video_are_read(picture):
    """An empty GiB precedes the frames, more than the child's memory limit."""
    data = make_video(moving_frames(30))
    path = picture.with_name("large.mov")
    gap = 1 << 30
    with path.open("wb") as file:
        header_size = int.from_bytes(data[:4])
        file.write(data[:header_size] + (1).to_bytes(4) + b"mdat" + gap.to_bytes(8))
        file.seek(header_size + gap)
        file.write(_with_moved_chunks(data[header_size:], gap))
    tracemalloc.start()
    try:
        with Sandbox(Limits(memory=900 << 20, max_bytes=1000)) as box:
            assert box.hash_file(path).hashes == hasher.hash_bytes(data).hashes
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def _with_moved_chunks(boxes, by):
    """Add to the chunk offsets of an MP4 (ISO/IEC 14496-12, 8.7.5)."""
    at = boxes.index(b"stco")
    count = int.from_bytes(boxes[at + 8 : at + 12])
    start, end = at + 12, at + 12 + 4 * count
    offsets = struct.unpack(f">{count}I", boxes[start:end])
    return boxes[:start] + struct.pack(f">{count}I", *(o + by for o in offsets)) + boxes[end:]


@pytest.mark.parametrize("number", DEATHS)
def test_a_video_that_kills_the_child_is_refused(box, footage, number, monkeypatch):
    child = pid_of(box)
    while_sending(monkeypatch, lambda: os.kill(child, number))
    with pytest.raises(DEATHS[number]):
        box.hash_file(footage)
    assert box.hash_file(footage).frames == 5
    assert pid_of(box) != child


def test_a_video_that_takes_too_long_is_refused(hasty, footage, monkeypatch):
    child = pid_of(hasty)
    while_sending(monkeypatch, lambda: os.kill(child, signal.SIGSTOP))
    with pytest.raises(errors.TimedOut, match="2 seconds"):
        hasty.hash_file(footage)
    assert gone(child)


def test_a_read_error_within_a_video_refuses_it(box, footage, monkeypatch):
    def failing(*_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(sandbox.os, "pread", failing)
        with pytest.raises(errors.UnreadableFile):
            box.hash_file(footage)
    assert box.hash_file(footage).frames == 5


def test_a_damaged_video_does_not_end_the_child(box, footage):
    child = pid_of(box)
    for cut in (40, 2000):
        with pytest.raises(errors.CorruptFile, match="video"):
            box.hash_file(sibling(footage, footage.read_bytes()[:cut]))
    assert pid_of(box) == child
