"""Whether a video is all there, as far as its structure tells: a player shows what it finds.

Only those kinds are looked at whose decoder would read a part without complaint: MP4, above all in
fragments, and Matroska of unknown length, as a browser records it. Nothing here decodes pixels, and
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
_GAP: Final = 0.25  # seconds that may lack between two fragments
_STRAY: Final = 12  # bytes in which no block of pictures fits
_HEADER_MAX: Final = 1 << 24  # bytes of a box that is read as a whole

_CUT: Final = "This video is cut off before its end."
_HOLE: Final = "A part is missing in the middle of this video."
_HEADLESS: Final = (
    "This is a piece of a video that was sent in pieces: the part that comes first, and says how "
    "to read it, is missing. Use the whole video."
)
_JOINED: Final = (
    "These are several videos, one after the other, in one file. Use each as a file of its own."
)
_OTHER_COPY: Final = "Use another copy, or copy or download the file again."


def check_whole(file: BinaryIO, format: str) -> None:
    """Refuse a video that is cut off, or of which a part is missing in the middle.

    Args:
        file: binary and seekable.
        format: what `nciihash.media.formats.video_format` says.

    Raises:
        CorruptFile: it is.
    """
    size = file.seek(0, 2)
    if format == "mov":
        _check_boxes(file, size)
    elif format == "matroska":
        _check_segment(file, size)


def _missing(what: str) -> CorruptFile:
    return CorruptFile(f"{what} {_OTHER_COPY}")


def _check_boxes(file: BinaryIO, size: int) -> None:
    """Walk the outer boxes of an MP4 (ISO/IEC 14496-12, 4.2), fragments too (8.8)."""
    fragments: _Fragments | None = None
    pieces, pending = 0, False
    at = 0
    while at < size:
        head = _read(file, at, 16)
        name, start, end = _box(head, at, size)
        if start > size or (end > size and name not in _BOXES):
            if pieces and len(head) >= 8 and any(head):
                raise _missing(_HOLE)
            break  # some cameras write words of their own at the end
        if end > size:
            raise _missing(_CUT)
        if name == b"moov":
            fragments = _Fragments(_read(file, start, min(end - start, _HEADER_MAX)))
        elif name == b"moof":
            if fragments is None:
                raise CorruptFile(_HEADLESS)
            fragments.add(_read(file, start, min(end - start, _HEADER_MAX)))
            pieces += 1
            pending = True
        elif name == b"mdat":
            pending = False
        at = end
    if fragments is None or pending:  # the one is last in many files; the other lacks its pictures
        raise _missing(_CUT)


class _Fragments:
    """The fragments of an MP4 so far: how each track goes on, and their numbers.

    A gap in time alone may be a picture that stays; a gap in the numbers alone, another order.
    """

    def __init__(self, movie: bytes) -> None:
        self._number: int | None = None
        self._scales: dict[int, int] = {}
        self._usual: dict[int, int] = {}  # the duration of a sample, where nothing else says it
        self._next: dict[int, int] = {}
        for track in _children(movie, b"trak"):
            (identity,) = _number_in(track, b"tkhd", 12, 20)
            for media in _children(track, b"mdia"):
                (scale,) = _number_in(media, b"mdhd", 12, 20)
                self._scales[identity] = scale
        for extends in _children(movie, b"mvex"):
            for entry in _children(extends, b"trex"):
                if len(entry) >= 16:
                    identity, _, duration = struct.unpack_from(">III", entry, 4)
                    self._usual[identity] = duration

    def add(self, fragment: bytes) -> None:
        """Follow one fragment.

        Raises:
            CorruptFile: those before it are missing.
        """
        (number,) = _number_in(fragment, b"mfhd", 4, 4)
        skipped = self._number is not None and number > self._number + 1
        self._number = number
        for track in _children(fragment, b"traf"):
            identity, begins, lasts = self._span(track)
            if begins is None or not (scale := self._scales.get(identity)):
                continue
            due = self._next.get(identity, begins)
            if skipped and begins - due > _GAP * scale:
                raise _missing(_HOLE)
            self._next[identity] = begins + lasts

    def _span(self, track: bytes) -> tuple[int, int | None, int]:
        """Read a fragment of one track: its number, when it begins and how long it lasts."""
        identity, usual = 0, 0
        for header in _children(track, b"tfhd"):
            if len(header) < 8:
                continue
            flags, identity = struct.unpack_from(">II", header)
            usual = self._usual.get(identity, 0)
            at = 8 + 8 * bool(flags & 1) + 4 * bool(flags & 2)
            if flags & 8 and len(header) >= at + 4:
                (usual,) = struct.unpack_from(">I", header, at)
        begins = None
        for header in _children(track, b"tfdt"):
            if len(header) >= 8 and len(header) >= (12 if header[0] else 8):
                (begins,) = struct.unpack_from(">Q" if header[0] else ">I", header, 4)
        return identity, begins, sum(_lasts(run, usual) for run in _children(track, b"trun"))


def _lasts(run: bytes, usual: int) -> int:
    """Add up the durations of a run of samples (8.8.8)."""
    if len(run) < 8:
        return 0
    flags, count = struct.unpack_from(">II", run)
    if not flags & 0x100:
        return int(count * usual)
    first = 8 + 4 * bool(flags & 1) + 4 * bool(flags & 4)
    step = 4 * (flags >> 8 & 0xF).bit_count()
    return sum(int.from_bytes(run[at : at + 4]) for at in range(first, len(run) - 3, step))


def _box(head: bytes, at: int, size: int) -> tuple[bytes, int, int]:
    """Read the head of a box: its name, where its content starts and where it ends."""
    if len(head) < 8:
        return b"\0\0\0\0", size + 1, size
    length, name = struct.unpack_from(">I4s", head)
    start = 8
    if length == 1:
        if len(head) < 16:
            return name, at + 16, size + 1
        (length,), start = struct.unpack_from(">Q", head, 8), 16
    if length == 0:
        return name, at + start, size
    # a length that cannot be is nonsense, not a box
    return name, at + start if length >= start else size + 1, at + length


def _children(data: bytes, wanted: bytes) -> Iterator[bytes]:
    """Give the content of the boxes of one name within another box."""
    at = 0
    while at + 8 <= len(data):
        name, start, end = _box(data[at : at + 16], at, len(data))
        if start > end or end > len(data):
            return
        if name == wanted:
            yield data[start:end]
        at = end


def _number_in(data: bytes, name: bytes, short: int, long: int) -> tuple[int]:
    """Read a number of 32 bits out of a box, at one offset or another by the box's version."""
    for content in _children(data, name):
        at = long if content[:1] == b"\1" else short
        if len(content) >= at + 4:
            return (struct.unpack_from(">I", content, at)[0],)
    return (0,)


# Identifiers of Matroska's elements (RFC 9559, 5.1): those within a segment, and within a cluster.
_HEAD: Final = 0x1A45DFA3  # of a file
_SEGMENT: Final = 0x18538067
_CLUSTER: Final = 0x1F43B675
_IN_SEGMENT: Final = {
    *(0x114D9B74, 0x1549A966, 0x1654AE6B, _CLUSTER, 0x1C53BB6B, 0x1043A770, 0x1254C367),
    *(0x1941A469, 0xEC, 0xBF),
}
_IN_CLUSTER: Final = {0xE7, 0xA3, 0xA0, 0xAB, 0xA7, 0x5854, 0xAF, 0xEC, 0xBF}
_FIRST: Final = {int(f"{each:x}"[:2], 16) for each in _IN_SEGMENT | _IN_CLUSTER}  # bytes of these


def _check_segment(file: BinaryIO, size: int) -> None:
    """Walk a Matroska file: the lengths say where it ends, or else its elements, one by one."""
    at = 0
    while at < size:
        element, start, end = _element(file, at)
        if element == _SEGMENT:
            if end is None:
                _check_live(file, start, size)
            elif end > size:
                raise _missing(_CUT)
            return
        if end is None or not at < end <= size:
            raise _missing(_CUT)
        at = end


def _check_live(file: BinaryIO, at: int, size: int) -> None:
    """Walk the elements of a segment of unknown length, and those of clusters of unknown length."""
    while at < size:
        element, start, end = _element(file, at)
        if element == _HEAD:
            raise CorruptFile(_JOINED)
        if element not in _IN_SEGMENT and element not in _IN_CLUSTER:
            if _only_strays(file, at, size):
                return
            # what is cut off in the middle of a head is no element either
            raise _missing(_HOLE if size - at > _STRAY else _CUT)
        if end is None:
            if element != _CLUSTER:
                raise _missing(_HOLE)
            at = start
        elif end > size:
            raise _missing(_CUT)
        else:
            at = end


def _only_strays(file: BinaryIO, at: int, size: int) -> bool:
    """Tell whether nothing but NULs follows a whole element, or too little for another."""
    before, *rest = _read(file, at - 1, min(size - at + 1, _HEADER_MAX))
    if len(rest) < _STRAY and rest[0] not in _FIRST:
        return True
    # a NUL before them may be of an element that is cut off and filled up
    return before != 0 and not any(rest) and len(rest) == size - at


def _element(file: BinaryIO, at: int) -> tuple[int, int, int | None]:
    """Read the head of an element (RFC 8794, 4): identifier, start, and end unless unknown."""
    head = _read(file, at, 12)
    first = head[0] if head else 0
    width = 9 - first.bit_length()
    if width > 4 or len(head) <= width:
        return 0, at, at
    bytes = 9 - head[width].bit_length()
    start = width + bytes
    if bytes > 8 or len(head) < start:
        return 0, at, at
    mask = (1 << 7 * bytes) - 1
    length = int.from_bytes(head[width:start]) & mask
    return int.from_bytes(head[:width]), at + start, None if length == mask else at + start + length


def _read(file: BinaryIO, at: int, length: int) -> bytes:
    file.seek(at)
    return file.read(length)
