"""Look at a video a few times a second: its frames, upright, and their hashes.

The luma that the file stores is hashed as it is, at the range that it is shown with: turning it to
RGB first would cost more than all else and moves up to 4 bits. Only the containers and decoders
named here can be reached, nothing but the file that was handed over is read, and a file that is
damaged or cut off is refused aloud, never hashed by halves.
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
_SIDE_MIN: Final = 256  # pixels of the reduced picture, as for JPEG
_LOOKS: Final = 2400  # at most, as far as the length is known: ten minutes at four a second
_KEY_FRAMES: Final = 1.0  # seconds between looks from which those frames do that stand alone
_APART: Final = 30.0  # seconds between them on average up to which they do
_LIVELY: Final = 12.0  # frames a second on average, below which they do not

# EXIF's number for the signs of a display matrix: what goes to the right from a step to the right
# and from one downwards, and what goes down from each (ISO/IEC 14496-12, 8.3.2).
_TURNED: Final = {
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
    """One frame: its time in seconds from the first, its hash, and on request its upright RGB."""

    time: float
    analysis: pdq.Analysis
    rgb: Callable[[], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class OpenVideo:
    """An open video.

    `seconds` is its length as far as the file tells it, else 0; `every` how many seconds to leave
    between looks so that these do not become too many.
    """

    seconds: float
    every: float
    _container: InputContainer
    _stream: VideoStream
    _limits: Limits

    def frames(self, due: Callable[[float, float], bool]) -> Iterator[Frame]:
        """Go through the frames that are due, in the order in which they are shown.

        Args:
            due: is asked about each frame by when it appears and when the next one does, in seconds
                from the first; there is an end of infinity after the last.

        Raises:
            FileRefused: damaged, cut off, or frames of too many pixels.
        """
        if self._key_frames():
            self._stream.codec_context.skip_frame = "NONKEY"
        reformatter = VideoReformatter()
        looked = False
        with decoder_errors():
            for frame, start, end in self._shown():
                if not due(start, end):
                    continue
                check_size(frame.width, frame.height, self._limits)
                looked = True
                yield _looked_at(frame, start, reformatter)
            if not looked:
                raise CorruptFile(f"No frame of this video can be read. {_OTHER_COPY}")

    def _shown(self) -> Iterator[tuple[av.VideoFrame, float, float]]:
        """Decode all frames; give each with when it appears and when the next one does."""
        usual = 1 / float(self._stream.average_rate or 25)
        shift = 0.0  # from the file's clock to the seconds since the first frame
        held: av.VideoFrame | None = None
        start = last = end = 0.0
        for number, (frame, ends) in enumerate(self._decoded()):
            end = max(end, ends)
            if frame is None or frame.is_corrupt:
                continue
            # a bare stream has no clock
            now = number * usual if frame.time is None else frame.time
            if held is None:
                shift = -now
            elif now < last:  # the clock was set back, as where two recordings are joined
                shift = start + usual - now
            appears = round(now + shift, 6)
            if held is not None:
                yield held, start, appears
            held, start, last = frame, appears, now
        if held is not None:
            yield held, start, math.inf
        self._check_end(end)

    def _decoded(self) -> Iterator[tuple[av.VideoFrame | None, float]]:
        """Decode the track; give each frame, and the time on the file's clock at which it ends.

        A packet of no bytes repeats the frame before it, as Theora's do, and gives None. FFmpeg's
        decoders would take it for the end.
        """
        packet = None
        for packet in self._container.demux(self._stream):
            if packet.size:
                yield from ((frame, _end(frame)) for frame in packet.decode())
            elif packet.dts is not None:
                yield None, _end(packet)
        if packet is not None and not packet.size:  # the last one makes the decoder give the rest
            yield from ((frame, _end(frame)) for frame in packet.decode())

    def _key_frames(self) -> bool:
        """Whether the frames that stand alone are enough: then others are not decoded.

        Not where the frames are few, as in a recording of a screen: each may stay for long.
        """
        if self.every < _KEY_FRAMES:
            return False
        entries = self._stream.index_entries
        count = sum(1 for entry in entries if entry.is_keyframe)
        few = count < len(entries) < _LIVELY * self.seconds
        return count * _APART >= self.seconds and not few

    def _check_end(self, end: float) -> None:
        """Refuse a video of which more than a moment is missing at the end.

        Some kinds count their length from the first frame and some from zero, where `end` counts
        from: so a video that does not start at zero is given the benefit of the doubt.
        """
        slack = max(1.0, 0.02 * self.seconds) + 2 * _APART * (self.every >= _KEY_FRAMES)
        if self.seconds - end > slack + 1 / float(self._stream.average_rate or 1):
            raise CorruptFile(f"This video is cut off before its end. {_OTHER_COPY}")


_MATRIX: Final = struct.Struct("=9i")
_OTHER_COPY: Final = "Use another copy, or copy or download the file again."


@contextmanager
def opened(file: BinaryIO, format: str, every: float, limits: Limits) -> Iterator[OpenVideo]:
    """Open a video.

    Args:
        file: binary and seekable.
        format: what `nciihash.media.formats.video_format` says.
        every: seconds between looks, unless the film is so long that there would be too many.
        limits: `max_pixels` holds for each frame; `threads` is how many the decoder may use.

    Raises:
        FileRefused: one of its subclasses, with a sentence that says what to do.
    """
    with decoder_errors():
        # a file that names others, as a playlist does, gets none of them
        container = av.open(
            file, "r", format=format, metadata_errors="replace", buffer_size=1 << 16, io_open=_none
        )
    with container:
        stream = _shown_track(container)
        if stream is None:
            raise UnsupportedFormat("There is no video in this file, only sound or nothing at all.")
        context = stream.codec_context
        if context is None or context.name not in _DECODERS:
            raise UnsupportedFormat(
                "This video is stored in a rare way that is not supported. Export it as MP4 "
                "(H.264) in the program that plays it, and try again."
            )
        check_size(context.width, context.height, limits)
        context.flags |= Flags.unaligned.value  # or a cropping from the left is rounded
        context.thread_type = "AUTO"
        context.thread_count = limits.threads
        seconds = _seconds(stream)
        yield OpenVideo(seconds, max(every, seconds / _LOOKS), container, stream, limits)


class _OtherFile(ValueError):
    """The video names another file."""


def _none(*_: object) -> NoReturn:
    raise _OtherFile


def _shown_track(container: InputContainer) -> VideoStream | None:
    """Choose the track of pictures that players show: the first that is enabled or the default."""
    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    tracks = [track for track in container.streams.video if not track.disposition & covers]
    default = (track for track in tracks if track.disposition & Disposition.default)
    return next(default, next(iter(tracks), None))


def _seconds(stream: VideoStream) -> float:
    """Read how long the pictures last; sound may last longer, so the file's own length won't do."""
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
    """Turn whatever FFmpeg raises into one of our errors, without its text."""
    try:
        yield
    except FileRefused:
        raise
    except MemoryError as error:
        raise TooLarge(
            "Reading this video takes more memory than is allowed. "
            "Export it at a smaller size and hash that: its hashes are nearly the same."
        ) from error
    except (ImportError, PermissionError) as error:  # a module or a call that the sandbox lacks
        if not isinstance(error, av.error.FFmpegError):
            raise ProgramFault.of(type(error).__name__) from error
        raise CorruptFile(f"This video is damaged or of a rare kind. {_OTHER_COPY}") from error
    except (
        *(av.error.FFmpegError, OSError, ValueError, ArithmeticError, LookupError),
        struct.error,
    ) as error:
        raise CorruptFile(f"This video is damaged or of a rare kind. {_OTHER_COPY}") from error


def _looked_at(frame: av.VideoFrame, time: float, reformatter: VideoReformatter) -> Frame:
    turned = _orientation(frame)

    def rgb() -> NDArray[np.uint8]:
        pixels = cast("NDArray[np.uint8]", frame.to_ndarray(format="rgb24"))
        return np.ascontiguousarray(turn(pixels, turned))

    height, width = frame.height, frame.width
    if min(height, width) < pdq.GRID:
        return Frame(time, pdq.analyse(rgb()), rgb)
    scale = next((s for s in (8, 4, 2) if min(width, height) // s >= _SIDE_MIN), 1)
    blocks = _blocks(frame, scale, reformatter)
    return Frame(time, reduced_jpeg.analyse_blocks(blocks, width, height, scale, turned), rgb)


def _end(shown: "av.VideoFrame | av.Packet[VideoStream]") -> float:
    if shown.pts is None or shown.time_base is None:
        return 0.0
    return float((shown.pts + (shown.duration or 0)) * shown.time_base)


def _orientation(frame: av.VideoFrame) -> int:
    """Read how players turn and mirror a frame, as EXIF's number from 1 to 8, off its matrix.

    An angle between is rounded, as browsers do.
    """
    try:
        found = cast("Buffer | None", frame.side_data.get("DISPLAYMATRIX"))
    except ValueError:  # of a kind that this version of PyAV does not know, next to the matrix
        return {90: 8, 180: 3, -180: 3, -90: 6}.get(round(frame.rotation / 90) * 90, 1)
    if found is None:
        return 1
    a, b, _, c, d, *_ = _MATRIX.unpack(bytes(found))
    if abs(a) + abs(d) >= abs(b) + abs(c):
        b = c = 0
    else:
        a = d = 0
    return _TURNED.get(tuple((x > 0) - (x < 0) for x in (a, c, b, d)), 1)


def _blocks(frame: av.VideoFrame, scale: int, reformatter: VideoReformatter) -> NDArray[np.float32]:
    """Average a frame's luma, from 0 to 255, over blocks; the last ones are filled up.

    FFmpeg knows each format's depth and range. Rounding means to whole levels is no matter where
    dozens of them are averaged again.
    """
    rows, columns = -(-frame.height // scale), -(-frame.width // scale)
    exact = (rows * scale, columns * scale) == (frame.height, frame.width)
    size = (columns, rows) if exact else (frame.width, frame.height)
    grey = reformatter.reformat(frame, *size, "gray", interpolation="AREA")
    plane = grey.planes[0]
    lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]  # a plane is a buffer, which PyAV's types do not say
    luma = lines[: grey.height, : grey.width]
    if not exact:
        lacking = ((0, rows * scale - grey.height), (0, columns * scale - grey.width))
        luma = np.pad(luma, lacking, mode="edge")
        luma = np.asarray(cv2.resize(luma, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(luma, np.float32)
