"""What kind of video a file is, by its first bytes: those that are read, and those that are named.

The names of containers are FFmpeg's. Nothing here decodes anything or raises.
"""

import re
from collections.abc import Iterator
from typing import Final

# How the kinds of videos begin, and FFmpeg's name of what reads each.
_SIGNATURES: Final = (
    (b"\x1aE\xdf\xa3", "matroska"),  # and WebM
    (b"OggS", "ogg"),
    (b"FLV\x01", "flv"),
    (b"\0\0\1\xba", "mpeg"),  # a program stream, and its packets if it was cut
    (b"\0\0\1\xbb", "mpeg"),
    (b"\0\0\1\xbd", "mpeg"),
    (b"\0\0\1\xc0", "mpeg"),
    (b"\0\0\1\xe0", "mpeg"),
    (b"\0\0\1\xb3", "mpegvideo"),
    (b"\0\0\1\xb0", "m4v"),
    (b"0&\xb2u\x8ef\xcf\x11", "asf"),  # Windows Media
    (b"\x1f\7\0\x3f", "dv"),  # NTSC
    (b"\x1f\7\0\xbf", "dv"),  # PAL
    (b"DKIF", "ivf"),
    (b"\x12\0\n", "obu"),  # bare AV1
)
_MXF: Final = bytes.fromhex("060e2b34020501010d0102")  # SMPTE ST 377-1, 6.1: after up to 64 KiB
# Bare H.264 and HEVC: a start code, then a unit that comes first (ITU-T H.264 and H.265, 7.3.1).
_H264: Final = re.compile(rb"\x00{2,8}\x01(?:[\x27\x47\x67]|[\x06\x09].)", re.DOTALL)
_HEVC: Final = re.compile(rb"\x00{2,8}\x01[\x40\x42\x46\x4e]\x01")

# The boxes with which a file of the family of MP4 may begin (ISO/IEC 14496-12, QuickTime, DASH).
_BOXES: Final = {b"ftyp", b"moov", b"mdat", b"wide", b"pnot", b"skip", b"free"}
_RARER_BOXES: Final = {
    *(b"styp", b"uuid", b"moof", b"sidx", b"ssix", b"emsg", b"prft", b"pdin", b"meta", b"udta"),
    *(b"junk", b"PICT", b"thum"),
}
_TEXT: Final = 0x20202020  # what the length of a box would be in a text, at least

_STRIDES: Final = (188, 192, 204)  # bytes of a transport stream's packet: plain, AVCHD, with parity
_PACKETS: Final = 5

_EXPORT: Final = "Open it in the program that plays it, export it as MP4 (H.264) and try again."
_UNREAD: Final = (
    (b".RMF", f"This is a RealMedia video, which is not supported. {_EXPORT}"),
    (b"FWS", f"This is a Flash program, which is not supported. {_EXPORT}"),
    (b"CWS", f"This is a Flash program, which is not supported. {_EXPORT}"),
    (b"\xb7\xd8\0 7I\xda\x11", f"This is a WTV recording, which is not supported. {_EXPORT}"),
    (b"#EXTM3U", "This is a playlist, not the video itself. Save the video and try again."),
)


def signed_format(data: bytes) -> str | None:
    """Name the container of a video that a signature tells; None for anything else."""
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data.startswith(b"RIFF") and data[8:12] == b"AVI ":
        return "avi"
    if _H264.match(data):
        return "h264"
    if _HEVC.match(data):
        return "hevc"
    return None


def unsigned_format(data: bytes) -> str | None:
    """Name the container of a video that its structure tells, of what is nothing else."""
    if _packets(data):
        return "mpegts"
    return "mxf" if _MXF in data[:4096] else None


def unread(data: bytes) -> str | None:
    """Name, in a sentence, a kind of video that is not read here."""
    return next((message for start, message in _UNREAD if data.startswith(start)), None)


def has_boxes(data: bytes) -> bool:
    """Whether a file begins as those of the family of MP4 and HEIC do."""
    if data[4:8] in _BOXES:
        return True
    size = int.from_bytes(data[:4])
    return data[4:8] in _RARER_BOXES and (size == 1 or 8 <= size < _TEXT)


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Walk the boxes at the beginning of a file: the name of each, and what is there of it."""
    at = 0
    while at + 8 <= len(data):
        size, name = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        head = 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16]), 16
        end = at + size if size else len(data)
        yield name, data[at + head : end]
        if size < head:
            return
        at = end


def _packets(data: bytes) -> bool:
    """Whether packets of a transport stream follow each other, wherever it was cut.

    Each begins with 0x47, is free of errors, and holds something (ISO/IEC 13818-1, 2.4.3.2).
    """
    return any(
        all(
            data[at : at + 1] == b"G" and not data[at + 1] & 0x80 and data[at + 3] & 0x30
            for at in range(start, start + _PACKETS * stride, stride)
        )
        for stride in _STRIDES
        for start in range(min(stride, len(data) - (_PACKETS - 1) * stride - 3))
    )
