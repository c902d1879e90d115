"""Decode the sampled frames of a video, upright, with their hashes.

The stored luma is hashed directly, expanded to full range: converting to RGB first would take more
time than everything else, for a difference of up to 4 bits. Only the decoders named here can be
reached, nothing but the passed file is read, and a file that is damaged or cut off raises an error;
it is never hashed in part.
"""

import math
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Final, NoReturn, cast

import av
import cv2
import numpy as np
from av.buffer import Buffer
from av.codec.context import Flags
from av.container import InputContainer
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from nciihash import pdq
from nciihash.errors import CorruptFile, FileRefused, ProgramFault, TooLarge, UnsupportedFormat
from nciihash.hashing import reduced_jpeg
from nciihash.hashing.image import check_size, turn
from nciihash.media.limits import Limits

_DECODERS: Final = frozenset(
    (
        *("h264", "hevc", "av1", "libdav1d", "vp8", "vp9", "libvpx", "libvpx-vp9", "mpeg4"),
        *("prores", "h263", "mpeg1video", "mpeg2video", "mjpeg", "theora", "flv", "dvvideo"),
        *("wmv1", "wmv2", "wmv3", "vc1", "msmpeg4", "msmpeg4v2", "msmpeg4v3", "dnxhd", "ffv1"),
        *("vp6", "vp6f", "cinepak", "svq3", "rawvideo", "apv", "vvc"),
    )
)
_SIDE_MIN: Final = 256  # pixels of the reduced frame, as for JPEG
# The most samples of a video whose length is known: ten minutes at four per second.
_SAMPLES_MAX: Final = 2400
# Only key frames are decoded if all of these hold:
_KEY_FRAMES_INTERVAL: Final = 1.0  # the sampling interval is at least this, in seconds
_KEY_FRAMES_APART: Final = 30.0  # key frames are at most this far apart on average, in seconds
_FRAME_RATE_MIN: Final = 12.0  # the average frame rate is at least this

# EXIF orientation for the signs of a display matrix's a, c, b, d: the effect of a step right and of
# a step down on x, then on y (ISO/IEC 14496-12, 8.3.2).
_ORIENTATIONS: Final = {
    (1, 0, 0, 1): 1,
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, -1, 1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, 1, -1, 0): 8,
}


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: seconds since the first frame, its hash, and a function to decode upright RGB."""

    time: float
    analysis: pdq.Analysis
    rgb: Callable[[], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class OpenVideo:
    """An open video.

    `seconds` is its length according to the file, 0 if unknown; `every` is the sampling interval in
    seconds, long enough to bound the number of samples.
    """

    seconds: float
    every: float
    _container: InputContainer
    _stream: VideoStream
    _limits: Limits

    def frames(self, due: Callable[[float, float], bool]) -> Iterator[Frame]:
        """Yield the frames that are due, in display order.

        Args:
            due: whether to sample a frame, called with its start and the next frame's, in seconds
                from the first frame; infinity for the last frame's end.

        Raises:
            FileRefused: the video is damaged or cut off, or its frames have too many pixels.
        """
        if self._key_frames_suffice():
            self._stream.codec_context.skip_frame = "NONKEY"
        reformatter = VideoReformatter()
        sampled = False
        with decoder_errors():
            for frame, start, end in self._timed_frames():
                if not due(start, end):
                    continue
                check_size(frame.width, frame.height, self._limits)
                sampled = True
                yield _analyse(frame, start, reformatter)
            if not sampled:
                raise CorruptFile(f"No frame of this video can be read. {_OTHER_COPY}")

    def _timed_frames(self) -> Iterator[tuple[av.VideoFrame, float, float]]:
        """Decode the video; yield each frame with its start and the next frame's, in seconds."""
        frame_duration = 1 / float(self._stream.average_rate or 25)
        shift = 0.0  # from the file's timestamps to seconds since the first frame
        previous: av.VideoFrame | None = None
        start = last_timestamp = end = 0.0
        for number, (frame, frame_end) in enumerate(self._decoded()):
            end = max(end, frame_end)
            if frame is None or frame.is_corrupt:
                continue
            # elementary streams have no timestamps
            timestamp = number * frame_duration if frame.time is None else frame.time
            if previous is None:
                shift = -timestamp
            elif timestamp < last_timestamp:  # as at the joint of two concatenated recordings
                shift = start + frame_duration - timestamp
            time = round(timestamp + shift, 6)
            if previous is not None:
                yield previous, start, time
            previous, start, last_timestamp = frame, time, timestamp
        if previous is not None:
            yield previous, start, math.inf
        self._check_end(end)

    def _decoded(self) -> Iterator[tuple[av.VideoFrame | None, float]]:
        """Decode the track; yield each frame, and the timestamp at which it ends.

        An empty packet repeats the previous frame, as in Theora, and yields None. It is not passed
        to FFmpeg's decoders, which would take it for the end of the stream.
        """
        packet = None
        for packet in self._container.demux(self._stream):
            if packet.size:
                yield from ((frame, _end(frame)) for frame in packet.decode())
            elif packet.dts is not None:
                yield None, _end(packet)
        if packet is not None and not packet.size:  # the last packet flushes the decoder
            yield from ((frame, _end(frame)) for frame in packet.decode())

    def _key_frames_suffice(self) -> bool:
        """Whether decoding key frames only is enough.

        It is not if the frame rate is low, as in screen recordings, where a frame between two key
        frames may be on the screen for long.
        """
        if self.every < _KEY_FRAMES_INTERVAL:
            return False
        entries = self._stream.index_entries
        count = sum(1 for entry in entries if entry.is_keyframe)
        low_frame_rate = count < len(entries) < _FRAME_RATE_MIN * self.seconds
        return count * _KEY_FRAMES_APART >= self.seconds and not low_frame_rate

    def _check_end(self, end: float) -> None:
        """Refuse a video whose end is missing.

        `end` counts from timestamp 0. Some containers count their length from there and some from
        the first frame, so less is detected if the first timestamp is above 0.
        """
        slack = max(1.0, 0.02 * self.seconds) + 2 * _KEY_FRAMES_APART * (
            self.every >= _KEY_FRAMES_INTERVAL
        )
        if self.seconds - end > slack + 1 / float(self._stream.average_rate or 1):
            raise CorruptFile(f"This video is cut off before its end. {_OTHER_COPY}")


_MATRIX: Final = struct.Struct("=9i")
_OTHER_COPY: Final = "Use another copy, or copy or download the file again."


@contextmanager
def open_video(
    file: BinaryIO, container_format: str, every: float, limits: Limits
) -> Iterator[OpenVideo]:
    """Open a video.

    Args:
        file: binary and seekable.
        container_format: as returned by `nciihash.media.formats.video_format`.
        every: the sampling interval in seconds; longer if there would be too many samples.
        limits: `max_pixels` applies to each frame; `threads` is the number of decoder threads.

    Raises:
        FileRefused: one of its subclasses, with a message that says what to do.
    """
    with decoder_errors():
        # `io_open` denies access to other files that this one refers to, as playlists do
        container = av.open(
            file,
            "r",
            format=container_format,
            metadata_errors="replace",
            buffer_size=1 << 16,
            io_open=_deny_open,
        )
    with container:
        stream = _shown_track(container)
        if stream is None:
            raise UnsupportedFormat(
                "This file has no video track, only sound or nothing at all. Use the file that has "
                "the picture."
            )
        context = stream.codec_context
        if context is None or context.name not in _DECODERS:
            raise UnsupportedFormat(
                "This video is encoded in a rare format that this program cannot read. Open it in "
                "a program that plays it, export it as MP4 (H.264) and try again."
            )
        check_size(context.width, context.height, limits)
        context.flags |= Flags.unaligned.value  # else cropping at the left is rounded
        context.thread_type = "AUTO"
        context.thread_count = limits.threads
        seconds = _seconds(stream)
        yield OpenVideo(seconds, max(every, seconds / _SAMPLES_MAX), container, stream, limits)


class _OtherFile(ValueError):
    """The video refers to another file."""


def _deny_open(*_: object) -> NoReturn:
    raise _OtherFile


def _shown_track(container: InputContainer) -> VideoStream | None:
    """Return the video track that players show: the first default (MP4: enabled) one, or first."""
    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    tracks = [track for track in container.streams.video if not track.disposition & covers]
    default = (track for track in tracks if track.disposition & Disposition.default)
    return next(default, next(iter(tracks), None))


def _seconds(stream: VideoStream) -> float:
    """Return the video track's length, 0 if unknown; the file's own length may be the sound's."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    try:  # Matroska: 00:01:02.345
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
        total = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except (ValueError, OverflowError):
        return 0.0
    return total if math.isfinite(total) and total > 0 else 0.0


@contextmanager
def decoder_errors() -> Iterator[None]:
    """Convert FFmpeg's errors to `FileRefused`, without their text."""
    try:
        yield
    except FileRefused:
        raise
    except MemoryError as error:
        raise TooLarge(
            "Reading this video takes more memory than is allowed. Export it at a smaller size "
            "and hash that; its fingerprints are nearly the same."
        ) from error
    except (ImportError, PermissionError) as error:  # a module or system call denied by the sandbox
        if not isinstance(error, av.error.FFmpegError):
            raise ProgramFault.of(type(error).__name__) from error
        raise CorruptFile(f"This video is damaged or of a rare kind. {_OTHER_COPY}") from error
    except (
        *(av.error.FFmpegError, OSError, ValueError, ArithmeticError, LookupError),
        struct.error,
    ) as error:
        raise CorruptFile(f"This video is damaged or of a rare kind. {_OTHER_COPY}") from error


def _analyse(frame: av.VideoFrame, time: float, reformatter: VideoReformatter) -> Frame:
    orientation = _orientation(frame)

    def rgb() -> NDArray[np.uint8]:
        pixels = cast("NDArray[np.uint8]", frame.to_ndarray(format="rgb24"))
        return np.ascontiguousarray(turn(pixels, orientation))

    height, width = frame.height, frame.width
    if min(height, width) < pdq.GRID:
        return Frame(time, pdq.analyse(rgb()), rgb)
    scale = next((s for s in (8, 4, 2) if min(width, height) // s >= _SIDE_MIN), 1)
    blocks = _blocks(frame, scale, reformatter)
    return Frame(time, reduced_jpeg.analyse_blocks(blocks, width, height, scale, orientation), rgb)


def _end(frame_or_packet: "av.VideoFrame | av.Packet[VideoStream]") -> float:
    if frame_or_packet.pts is None or frame_or_packet.time_base is None:
        return 0.0
    end = frame_or_packet.pts + (frame_or_packet.duration or 0)
    return float(end * frame_or_packet.time_base)


def _orientation(frame: av.VideoFrame) -> int:
    """Return how players rotate and mirror a frame, as an EXIF orientation, 1 to 8.

    It is read from the display matrix. Other angles are rounded to quarter turns, as browsers do.
    """
    try:
        matrix = cast("Buffer | None", frame.side_data.get("DISPLAYMATRIX"))
    except ValueError:  # other side data that this version of PyAV does not know
        return {90: 8, 180: 3, -180: 3, -90: 6}.get(round(frame.rotation / 90) * 90, 1)
    if matrix is None:
        return 1
    a, b, _, c, d, *_ = _MATRIX.unpack(bytes(matrix))
    if abs(a) + abs(d) >= abs(b) + abs(c):
        b = c = 0
    else:
        a = d = 0
    return _ORIENTATIONS.get(tuple((x > 0) - (x < 0) for x in (a, c, b, d)), 1)


def _blocks(frame: av.VideoFrame, scale: int, reformatter: VideoReformatter) -> NDArray[np.float32]:
    """Return the mean luma, 0 to 255, of a frame's blocks; the last ones are padded.

    FFmpeg converts each format's depth and range. Rounding the means to whole levels does not
    matter, because dozens of them are averaged again.
    """
    rows, columns = -(-frame.height // scale), -(-frame.width // scale)
    exact = (rows * scale, columns * scale) == (frame.height, frame.width)
    size = (columns, rows) if exact else (frame.width, frame.height)
    grey = reformatter.reformat(frame, *size, "gray", interpolation="AREA")
    plane = grey.planes[0]
    rows_with_padding = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]  # a plane is a buffer, which PyAV's types do not say
    luma = rows_with_padding[: grey.height, : grey.width]
    if not exact:
        padding = ((0, rows * scale - grey.height), (0, columns * scale - grey.width))
        luma = np.pad(luma, padding, mode="edge")
        luma = np.asarray(cv2.resize(luma, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(luma, np.float32)
