"""Check that a video file is complete, by its structure.

Only containers that FFmpeg reads without an error when truncated are checked: MP4, in particular
fragmented, and Matroska of unknown length, as recorded by browsers. Nothing here decodes pixels;
only lengths and numbers are read.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO, Final

from nciihash.errors import CorruptFile

_BOXES: Final = {
    *(b"ftyp", b"moov", b"mdat", b"wide", b"skip", b"free", b"styp", b"uuid", b"moof", b"sidx"),
    *(b"ssix", b"emsg", b"prft", b"meta", b"udta", b"mfra"),
}
_GAP: Final = 0.25  # seconds that may be missing between two fragments
_STRAY: Final = 12  # bytes, fewer than any block with a frame
_HEADER_MAX: Final = 1 << 24  # the most bytes read of a box

_CUT: Final = "This video is cut off before its end."
_HOLE: Final = "A part is missing in the middle of this video."
_HEADLESS: Final = (
    "This is a segment of a streamed video: the part that comes first, which is needed to read it, "
    "is missing. Use a file with the whole video."
)
_JOINED: Final = (
    "This file is several videos, one after the other. Save each video as its own file and hash "
    "those."
)
_OTHER_COPY: Final = "Use another copy, or copy or download the file again."


def check_whole(file: BinaryIO, container_format: str) -> None:
    """Check that a video is not cut off and has no part missing in the middle.

    Args:
        file: binary and seekable.
        container_format: as returned by `nciihash.media.formats.video_format`; only "mov" and
            "matroska" are checked.

    Raises:
        CorruptFile: a part is missing.
    """
    size = file.seek(0, 2)
    if container_format == "mov":
        _check_boxes(file, size)
    elif container_format == "matroska":
        _check_segment(file, size)


def _missing(what: str) -> CorruptFile:
    return CorruptFile(f"{what} {_OTHER_COPY}")


def _check_boxes(file: BinaryIO, size: int) -> None:
    """Check the outer boxes of an MP4 (ISO/IEC 14496-12, 4.2) and its fragments (8.8)."""
    fragments: _Fragments | None = None
    fragment_count, pending = 0, False
    offset = 0
    while offset < size:
        head = _read(file, offset, 16)
        name, start, end = _box(head, offset, size)
        if start > size or (end > size and name not in _BOXES):
            if fragment_count and len(head) >= 8 and any(head):
                raise _missing(_HOLE)
            break  # some cameras append data that is not a box
        if end > size:
            raise _missing(_CUT)
        if name == b"moov":
            fragments = _Fragments(_read(file, start, min(end - start, _HEADER_MAX)))
        elif name == b"moof":
            if fragments is None:
                raise CorruptFile(_HEADLESS)
            fragments.add(_read(file, start, min(end - start, _HEADER_MAX)))
            fragment_count += 1
            pending = True
        elif name == b"mdat":
            pending = False
        offset = end
    if fragments is None or pending:  # no `moov`, often the last box; or a `moof` without its data
        raise _missing(_CUT)


class _Fragments:
    """The sequence number and the next expected time of each track of a fragmented MP4.

    Fragments are missing if both have a gap: a gap only in time may be a still picture, and a gap
    only in the numbers a reordering.
    """

    def __init__(self, movie: bytes) -> None:
        self._number: int | None = None
        self._scales: dict[int, int] = {}
        self._default_durations: dict[int, int] = {}  # the default duration of a sample
        self._expected: dict[int, int] = {}
        for track in _children(movie, b"trak"):
            (track_id,) = _number_in(track, b"tkhd", 12, 20)
            for media in _children(track, b"mdia"):
                (scale,) = _number_in(media, b"mdhd", 12, 20)
                self._scales[track_id] = scale
        for extends in _children(movie, b"mvex"):
            for entry in _children(extends, b"trex"):
                if len(entry) >= 16:
                    track_id, _, duration = struct.unpack_from(">III", entry, 4)
                    self._default_durations[track_id] = duration

    def add(self, fragment: bytes) -> None:
        """Check one fragment against the previous ones.

        Raises:
            CorruptFile: fragments before it are missing.
        """
        (number,) = _number_in(fragment, b"mfhd", 4, 4)
        numbers_missing = self._number is not None and number > self._number + 1
        self._number = number
        for track in _children(fragment, b"traf"):
            track_id, start, duration = self._span(track)
            if start is None or not (scale := self._scales.get(track_id)):
                continue
            expected = self._expected.get(track_id, start)
            if numbers_missing and start - expected > _GAP * scale:
                raise _missing(_HOLE)
            self._expected[track_id] = start + duration

    def _span(self, track: bytes) -> tuple[int, int | None, int]:
        """Read a track's id, start and duration from its part of a fragment."""
        track_id, default_duration = 0, 0
        for header in _children(track, b"tfhd"):
            if len(header) < 8:
                continue
            flags, track_id = struct.unpack_from(">II", header)
            default_duration = self._default_durations.get(track_id, 0)
            offset = 8 + 8 * bool(flags & 1) + 4 * bool(flags & 2)
            if flags & 8 and len(header) >= offset + 4:
                (default_duration,) = struct.unpack_from(">I", header, offset)
        start = None
        for header in _children(track, b"tfdt"):
            if len(header) >= 8 and len(header) >= (12 if header[0] else 8):
                (start,) = struct.unpack_from(">Q" if header[0] else ">I", header, 4)
        runs = _children(track, b"trun")
        return track_id, start, sum(_run_duration(run, default_duration) for run in runs)


def _run_duration(run: bytes, default_duration: int) -> int:
    """Return the total duration of a run of samples (8.8.8)."""
    if len(run) < 8:
        return 0
    flags, count = struct.unpack_from(">II", run)
    if not flags & 0x100:
        return int(count * default_duration)
    first = 8 + 4 * bool(flags & 1) + 4 * bool(flags & 4)
    step = 4 * (flags >> 8 & 0xF).bit_count()
    return sum(
        int.from_bytes(run[offset : offset + 4]) for offset in range(first, len(run) - 3, step)
    )


def _box(head: bytes, offset: int, size: int) -> tuple[bytes, int, int]:
    """Parse the header of a box: its name, and the start and end of its content."""
    if len(head) < 8:
        return b"\0\0\0\0", size + 1, size
    length, name = struct.unpack_from(">I4s", head)
    start = 8
    if length == 1:
        if len(head) < 16:
            return name, offset + 16, size + 1
        (length,), start = struct.unpack_from(">Q", head, 8), 16
    if length == 0:
        return name, offset + start, size
    # a length shorter than the header is invalid: not a box
    return name, offset + start if length >= start else size + 1, offset + length


def _children(data: bytes, wanted: bytes) -> Iterator[bytes]:
    """Yield the content of a box's child boxes of one name."""
    offset = 0
    while offset + 8 <= len(data):
        name, start, end = _box(data[offset : offset + 16], offset, len(data))
        if start > end or end > len(data):
            return
        if name == wanted:
            yield data[start:end]
        offset = end


def _number_in(data: bytes, name: bytes, short: int, long: int) -> tuple[int]:
    """Read a 32-bit number from a child box, at an offset that depends on the box's version."""
    for content in _children(data, name):
        offset = long if content[:1] == b"\1" else short
        if len(content) >= offset + 4:
            return (struct.unpack_from(">I", content, offset)[0],)
    return (0,)


# Identifiers of Matroska's elements (RFC 9559, 5.1), within a segment and within a cluster.
_HEAD: Final = 0x1A45DFA3  # starts a file
_SEGMENT: Final = 0x18538067
_CLUSTER: Final = 0x1F43B675
_IN_SEGMENT: Final = {
    *(0x114D9B74, 0x1549A966, 0x1654AE6B, _CLUSTER, 0x1C53BB6B, 0x1043A770, 0x1254C367),
    *(0x1941A469, 0xEC, 0xBF),
}
_IN_CLUSTER: Final = {0xE7, 0xA3, 0xA0, 0xAB, 0xA7, 0x5854, 0xAF, 0xEC, 0xBF}
_FIRST: Final = {int(f"{each:x}"[:2], 16) for each in _IN_SEGMENT | _IN_CLUSTER}  # first bytes


def _check_segment(file: BinaryIO, size: int) -> None:
    """Check a Matroska file: by its segment's length, or element by element if it is unknown."""
    offset = 0
    while offset < size:
        element, start, end = _element(file, offset)
        if element == _SEGMENT:
            if end is None:
                _check_live(file, start, size)
            elif end > size:
                raise _missing(_CUT)
            return
        if end is None or not offset < end <= size:
            raise _missing(_CUT)
        offset = end


def _check_live(file: BinaryIO, offset: int, size: int) -> None:
    """Check the elements of a segment of unknown length, and of its clusters of unknown length."""
    while offset < size:
        element, start, end = _element(file, offset)
        if element == _HEAD:
            raise CorruptFile(_JOINED)
        if element not in _IN_SEGMENT and element not in _IN_CLUSTER:
            if _only_strays(file, offset, size):
                return
            # an element cut off within its header is not recognised either
            raise _missing(_HOLE if size - offset > _STRAY else _CUT)
        if end is None:
            if element != _CLUSTER:
                raise _missing(_HOLE)
            offset = start
        elif end > size:
            raise _missing(_CUT)
        else:
            offset = end


def _only_strays(file: BinaryIO, offset: int, size: int) -> bool:
    """Whether only NULs follow a complete element, or too few bytes for another element."""
    before, *rest = _read(file, offset - 1, min(size - offset + 1, _HEADER_MAX))
    if len(rest) < _STRAY and rest[0] not in _FIRST:
        return True
    # if a NUL precedes them, the last element may be cut off and padded
    return before != 0 and not any(rest) and len(rest) == size - offset


def _element(file: BinaryIO, offset: int) -> tuple[int, int, int | None]:
    """Parse an element's header (RFC 8794, 4): identifier, start, and end, None if unknown."""
    head = _read(file, offset, 12)
    first = head[0] if head else 0
    width = 9 - first.bit_length()
    if width > 4 or len(head) <= width:
        return 0, offset, offset
    length_bytes = 9 - head[width].bit_length()
    start = width + length_bytes
    if length_bytes > 8 or len(head) < start:
        return 0, offset, offset
    mask = (1 << 7 * length_bytes) - 1
    length = int.from_bytes(head[width:start]) & mask
    end = None if length == mask else offset + start + length
    return int.from_bytes(head[:width]), offset + start, end


def _read(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)
