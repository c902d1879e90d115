"""Videos hashed in the browser, compared with Python."""

import io
import re

import numpy as np
import pytest

from nciihash.hashing import frame_selection
from nciihash.hashing.hasher import hash_bytes
from nciihash.signals import Hashed, Signal, SignalType
from support.browsers.chosen_files import file, pictures
from support.browsers.visitor import LANGUAGES, catalogue
from support.hashes import bits_apart, fingerprints, frames_of
from support.videos import make_video, moving_frames


@pytest.mark.parametrize(
    ("codec", "container_format", "turned"),
    [
        ("libx264", "mp4", 0),
        ("libx264", "mp4", 90),
        ("libvpx-vp9", "webm", 0),
        ("libvpx", "webm", 0),
    ],
)
def test_the_moments_of_a_video_hash_as_in_python(page, codec, container_format, turned):
    data = make_video(moving_frames(30, 480, 270), codec, container_format, turned=turned)
    (got,) = fingerprints(page, [data])
    item = hash_bytes(data, variants="standard")
    found = got["found"]
    assert (found["media"], found["every"]) == ("video", item.every)
    wanted = [h.signal.hex for h in item.hashes if h.variant.value == "original"]
    assert len(wanted) == found["moments"] == item.frames == 5
    values = frames_of(found["signals"])
    # another frame of the same scene is a few bits away, one of another scene a hundred
    assert max(bits_apart(a, b) for a, b in zip(values, wanted, strict=True)) <= 8
    near = [
        min(bits_apart(s["value"], h.signal.hex) for h in item.hashes) for s in found["signals"]
    ]
    assert sum(bits <= 8 for bits in near) >= 0.95 * len(near), near
    assert abs(len(near) - len(item.hashes)) <= 0.15 * len(near)


def test_near_equal_moments_are_dropped_and_a_video_without_its_length_is_read_to_its_end(page):
    frames = moving_frames(30, still=30)
    live = io.BytesIO()
    live.seekable = lambda: False  # as a browser records it: without a length in the header
    data = make_video([*frames, *moving_frames(30, seed=2)], "libvpx-vp9", "webm", out=live)
    one, whole = fingerprints(page, [make_video(frames, "libvpx-vp9", "webm"), data])
    assert one["found"]["moments"] == 1
    assert whole["found"]["moments"] == 6


LATE = """(times) => {
  const Real = globalThis.VideoFrame;
  globalThis.VideoFrame = class extends Real {
    constructor(...args) {
      if (times-- > 0) throw new DOMException("no frame yet", "InvalidStateError");
      super(...args);
      globalThis.VideoFrame = Real;
    }
  };
}"""


def test_a_late_frame_is_waited_for(page):
    page.evaluate(LATE, 3)
    (got,) = fingerprints(page, [make_video(moving_frames(18), "libvpx-vp9", "webm")])
    assert got["found"]["moments"] == 3


def test_a_video_that_cannot_be_used_is_refused_with_a_reason(page):
    frames = moving_frames(18)
    mp4, webm = make_video(frames), make_video(frames, "libvpx-vp9", "webm")
    cases = (
        (mp4[: len(mp4) * 2 // 3], "damaged"),
        (webm[: len(webm) * 2 // 3], "damaged"),
        (make_video([np.full((240, 320, 3), 90, np.uint8)] * 8), "too_plain"),
        # not played by Chromium; Firefox plays some of these
        (make_video(frames, "libx265"), "unplayable"),
        (make_video(frames, "mpeg4", "avi"), "unplayable"),
        (make_video(frames, "mpeg2video", "mpegts"), "unplayable"),
    )
    got = fingerprints(page, [data for data, _ in cases])
    assert [found["code"] for found in got] == [code for _, code in cases]
    for _, code in cases:
        for language in LANGUAGES:
            assert catalogue(language)[f"refused.{code}"]


SELECT = """async ([seconds, frames]) => {
  const { FrameSelector } = await import("/page/worker/frame_selection.js");
  const selector = new FrameSelector(seconds);
  for (let n = 0; n < frames.length; n = Math.round(selector.due * 4)) {
    const signals = frames[n].map((value) => ({ value, quality: 90, variant: "x" }));
    const kept = selector.take({ pdq: frames[n][0], quality: 90, tied: false });
    if (kept) selector.keep(n / 4, signals);
    selector.next(n / 4);
  }
  return [selector.every, selector.signals().map(({ value }) => value)];
}"""


@pytest.mark.parametrize(
    ("count", "seconds"), [(3, 0), (400, 100), (600, 150), (1300, 325), (1300, 3600)]
)
def test_a_long_or_lively_video_is_thinned_as_in_python(page, count, seconds):
    random = np.random.default_rng(count)
    base = random.integers(0, 256, (count, 1, 32), np.uint8)
    others = base ^ (random.random((count, 6, 32)) < 0.4).astype(np.uint8)  # some are near equal
    frames = np.concatenate((base, others), axis=1)
    frames[5::7] = frames[4 : frames.shape[0] - 1 : 7][: len(frames[5::7])]  # and some repeat
    selector = frame_selection.FrameSelector(
        frame_selection.FRAMES, max(frame_selection.SAMPLE_INTERVAL, seconds / 2400)
    )
    for number, values in enumerate(frames):
        if selector.due(number / 4, (number + 1) / 4):
            hashes = [Hashed(Signal(SignalType.PDQ, v.tobytes()), 90) for v in values]
            if selector.take(hashes[0]):
                selector.keep(hashes)
    texts = [[v.tobytes().hex() for v in values] for values in frames]
    every, found = page.evaluate(SELECT, [seconds, texts])
    assert every == selector.every
    assert found == [h.signal.hex for h in selector.hashes(frame_selection.SIGNALS)]


def test_a_long_video_shows_its_progress_and_can_be_removed_meanwhile(visit):
    visitor = visit()
    visitor.answer_questions()
    long = make_video(moving_frames(400, 96, 64, still=4), "libvpx-vp9", "webm", rate=1)
    visitor.page.set_input_files("#files", [file("long.webm", long), *pictures()[:1]])
    visitor.page.get_by_text(re.compile("Looking at the video: .*[1-9]")).wait_for()
    visitor.press("file.remove", number=1)
    visitor.sees("file.ready")
    visitor.page.locator("button.main:enabled").wait_for()
    assert visitor.page.locator(".files li").count() == 1
    assert visitor.errors == []
