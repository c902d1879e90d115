"""Videos for tests with a track that has no pictures: subtitles, data, an attachment."""

import io
from fractions import Fraction

import av

from support.films import FAST, moving

# container, codec of the side track, one packet of it, codec of the pictures
SIDE_TRACKS = {
    "mov_text in MP4": ("mp4", "mov_text", b"\0\5hello", "libx264"),
    "mov_text in MOV": ("mov", "mov_text", b"\0\5hello", "libx264"),
    "SubRip in Matroska": ("matroska", "srt", b"hello", "libx264"),
    "ASS in Matroska": ("matroska", "ass", b"0,0,Default,,0,0,0,,hello", "libx264"),
    "WebVTT in WebM": ("webm", "webvtt", b"hello", "libvpx"),
    "DVD subtitles in Matroska": ("matroska", "dvdsub", bytes(20), "libx264"),
    "DVB subtitles in a transport stream": ("mpegts", "dvbsub", b"\x20\0\x0f", "libx264"),
    "KLV in a transport stream": ("mpegts", "klv", b"data", "libx264"),
    "ID3 in a transport stream": ("mpegts", "timed_id3", b"data", "libx264"),
    "a font in Matroska": ("matroska", None, bytes(64), "libx264"),
}
_DATA = {"klv", "timed_id3"}


def with_side_track(kind, frames=None):
    """Encode eight frames with a track of `SIDE_TRACKS` beside them."""
    format, codec, payload, pictures = SIDE_TRACKS[kind]
    out = io.BytesIO()
    with av.open(out, "w", format=format) as container:
        video = container.add_stream(pictures, rate=12, options=FAST[pictures])
        video.height, video.width = 240, 320
        side = None
        if codec is None:
            container.add_attachment("a.ttf", "application/x-truetype-font", payload)
        elif codec in _DATA:
            side = container.add_data_stream(codec)
        else:
            side = container.add_mux_stream(codec)
        packets = []
        for pixels in frames or moving(8):
            packets += video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24"))
        packets += video.encode()
        if side is not None:
            line = av.Packet(payload)
            line.stream, line.time_base = side, Fraction(1, 1000)
            line.pts, line.dts, line.duration = 0, 0, 500
            container.mux(line)
        container.mux(packets)
    return out.getvalue()
