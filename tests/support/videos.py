"""Draw and encode videos for tests: a moving scene, in any codec and container."""

import io
import os
import struct
from contextlib import contextmanager
from fractions import Fraction
from functools import lru_cache

import av
import numpy as np
from PIL import Image

RATE = 12

# The fastest settings of each encoder: tests need distinguishable frames, not small files.
FAST = {
    "libx264": {"preset": "ultrafast"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
    "libsvtav1": {"preset": "13", "svtav1-params": "lp=1:lookahead=0"},
    "libvpx": {"deadline": "realtime", "cpu-used": "16"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
}


def moving_frames(count=24, width=320, height=240, *, seed=1, still=6):
    """Draw frames, RGB uint8 (h, w, 3): a window that jumps within a scene every `still` frames."""
    return list(_moving(count, width, height, seed, still))


@lru_cache(maxsize=8)  # several tests use the same scene, and large ones take seconds to draw
def _moving(count, width, height, seed, still):
    steps = np.random.default_rng(seed)
    canvas = _texture(steps, 2 * width, 2 * height)
    frames = []
    for number in range(count):
        if number % still == 0:
            top, left = steps.integers(0, height), steps.integers(0, width)
        frames.append(np.ascontiguousarray(canvas[top : top + height, left : left + width]))
    return frames


def _texture(random, width, height):
    """Draw patches of all sizes, coarse ones with more contrast, as in photos."""
    total = np.zeros((height, width, 3), np.float32)
    for cells in (3, 6, 12, 24, 48):
        small = random.integers(0, 256, (cells, cells, 3), np.uint8)
        large = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(large, np.float32) * cells**-0.3
    low, high = np.percentile(total, (5, 95))
    return np.clip((total - low) * 255 / (high - low), 0, 255).astype(np.uint8)


@contextmanager
def same_priority():
    """Restore this thread's scheduling policy after the block.

    If it may, as root, SVT-AV1 sets the thread that opens its encoder to the highest real-time
    priority. The thread keeps it, and so do the processes that it starts: all others then wait.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, param = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, param)


def make_video(
    frames,
    codec="libx264",
    container_format="mp4",
    pix_fmt="yuv420p",
    *,
    rate=RATE,
    times=None,
    options=None,
    container_options=None,
    turned=0,
    tags=None,
    out=None,
):
    """Encode frames to a video and return its bytes.

    Args:
        frames: RGB arrays.
        times: each frame's time in seconds; by default `rate` frames per second.
        options: of the encoder, in addition to its fast ones.
        container_options: of the muxer.
        turned: degrees clockwise by which players are to rotate the MP4.
        tags: the track's metadata, by name.
        out: a binary file to write to instead of one in memory.
    """
    out = io.BytesIO() if out is None else out
    with (
        same_priority(),
        av.open(
            out, "w", format=container_format, container_options=container_options or {}
        ) as container,
    ):
        stream = container.add_stream(
            codec, rate=rate, options=FAST.get(codec, {}) | (options or {})
        )
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.metadata.update(tags or {})
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(times[number] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    data = out.getvalue()
    return _turned(data, turned) if turned else data


def _turned(data, degrees):
    return oriented(data, {90: 6, 180: 3, 270: 8}[degrees])


# The display matrix (a, b, c, d) of each EXIF orientation.
_MATRICES = {
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}


def oriented(data, orientation):
    """Write a display matrix to an MP4's track header, as phones do (ISO/IEC 14496-12, 8.3.2)."""
    a, b, c, d = (step << 16 for step in _MATRICES[orientation])
    at = data.index(b"tkhd") + 4 + 40
    return data[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[at + 36 :]


def stored(upright, orientation):
    """Return upright pixels as a file of this EXIF orientation stores them."""
    if orientation >= 5:
        upright = upright.transpose(1, 0, 2)
    if orientation in {2, 3, 7, 8}:
        upright = upright[:, ::-1]
    if orientation in {3, 4, 6, 7}:
        upright = upright[::-1]
    return np.ascontiguousarray(upright)
