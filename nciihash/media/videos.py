"""Detect a video's container from its first bytes, or name an unsupported one.

The names of containers are FFmpeg's. Nothing here decodes or raises.
"""

import re
from collections.abc import Iterator
from typing import Final

# Signatures of video containers, and FFmpeg's name of the demuxer for each.
_SIGNATURES: Final = (
    (b"\x1aE\xdf\xa3", "matroska"),  # and WebM
    (b"OggS", "ogg"),
    (b"FLV\x01", "flv"),
    (b"\0\0\1\xba", "mpeg"),  # a program stream; the next ones if its start was cut off
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
    (b"\x12\0\n", "obu"),  # an AV1 elementary stream
)
_MXF: Final = bytes.fromhex("060e2b34020501010d0102")  # SMPTE ST 377-1, 6.1: within 64 KiB
# H.264 and HEVC elementary streams: a start code and a NAL unit that can be the first one (ITU-T
# H.264 and H.265, 7.3.1).
_H264: Final = re.compile(rb"\x00{2,8}\x01(?:[\x27\x47\x67]|[\x06\x09].)", re.DOTALL)
_HEVC: Final = re.compile(rb"\x00{2,8}\x01[\x40\x42\x46\x4e]\x01")

# First boxes of ISO base media files, such as MP4 (ISO/IEC 14496-12, QuickTime, DASH).
_BOXES: Final = {b"ftyp", b"moov", b"mdat", b"wide", b"pnot", b"skip", b"free"}
_RARER_BOXES: Final = {
    *(b"styp", b"uuid", b"moof", b"sidx", b"ssix", b"emsg", b"prft", b"pdin", b"meta", b"udta"),
    *(b"junk", b"PICT", b"thum"),
}
_TEXT: Final = 0x20202020  # the least box length that four characters of text would make

_STRIDES: Final = (188, 192, 204)  # bytes of a transport stream packet: plain, AVCHD, with parity
_PACKETS: Final = 5

_EXPORT: Final = "Open it in a program that plays it, export it as MP4 (H.264) and try again."
_UNSUPPORTED: Final = (
    (b".RMF", f"This is a RealMedia video, which is not supported. {_EXPORT}"),
    (b"FWS", f"This is a Flash program, which is not supported. {_EXPORT}"),
    (b"CWS", f"This is a Flash program, which is not supported. {_EXPORT}"),
    (b"\xb7\xd8\0 7I\xda\x11", f"This is a WTV recording, which is not supported. {_EXPORT}"),
    (b"#EXTM3U", "This is a playlist, not the video itself. Save the video and try again."),
)


def signed_format(data: bytes) -> str | None:
    """Return the container of a video with a signature; None for any other file."""
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
    """Return the container of a video recognised by its structure, or None.

    Call it only for files that match no other format.
    """
    if _is_transport_stream(data):
        return "mpegts"
    return "mxf" if _MXF in data[:4096] else None


def unsupported(data: bytes) -> str | None:
    """Return the message for an unsupported kind of video, or None."""
    return next((message for start, message in _UNSUPPORTED if data.startswith(start)), None)


def has_boxes(data: bytes) -> bool:
    """Whether a file starts like an ISO base media file, such as MP4 or HEIC."""
    if data[4:8] in _BOXES:
        return True
    size = int.from_bytes(data[:4])
    return data[4:8] in _RARER_BOXES and (size == 1 or 8 <= size < _TEXT)


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (name, content) of the boxes at the start of a file; the last may be incomplete."""
    offset = 0
    while offset + 8 <= len(data):
        size, name = int.from_bytes(data[offset : offset + 4]), data[offset + 4 : offset + 8]
        head = 8
        if size == 1:
            size, head = int.from_bytes(data[offset + 8 : offset + 16]), 16
        end = offset + size if size else len(data)
        yield name, data[offset + head : end]
        if size < head:
            return
        offset = end


def _is_transport_stream(data: bytes) -> bool:
    """Whether the data are consecutive packets of a transport stream, from any offset.

    Each packet starts with 0x47, has no error flag, and has a payload or an adaptation field
    (ISO/IEC 13818-1, 2.4.3.2).
    """
    return any(
        all(
            data[offset : offset + 1] == b"G"
            and not data[offset + 1] & 0x80
            and data[offset + 3] & 0x30
            for offset in range(start, start + _PACKETS * stride, stride)
        )
        for stride in _STRIDES
        for start in range(min(stride, len(data) - (_PACKETS - 1) * stride - 3))
    )
