"""Make videos for tests: with several tracks, cropped by a header, fragmented, or live."""

import io
from fractions import Fraction

import av
from av.bitstream import BitStreamFilterContext
from av.stream import Disposition, Stream

from support.videos import FAST, make_video, moving_frames

# container, codec of the side track, one packet of it, codec of the video
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
    """Encode eight frames, or the passed ones, with another track of `SIDE_TRACKS`."""
    container_format, codec, payload, video_codec = SIDE_TRACKS[kind]
    out = io.BytesIO()
    with av.open(out, "w", format=container_format) as container:
        video = container.add_stream(video_codec, rate=12, options=FAST[video_codec])
        video.height, video.width = 240, 320
        side: Stream | None = None
        if codec is None:
            container.add_attachment("a.ttf", "application/x-truetype-font", payload)
        elif codec in _DATA:
            side = container.add_data_stream(codec)
        else:
            side = container.add_mux_stream(codec)
        packets = []
        for pixels in frames or moving_frames(8):
            packets += video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24"))
        packets += video.encode()
        if side is not None:
            packet = av.Packet(payload)
            packet.stream, packet.time_base = side, Fraction(1, 1000)
            packet.pts, packet.dts, packet.duration = 0, 0, 500
            container.mux(packet)
        container.mux(packets)
    return out.getvalue()


def with_two_tracks(
    frames,
    *,
    flags=None,
    default=None,
    container_format="mp4",
    codec="libx264",
):
    """Encode two video tracks.

    Args:
        frames: RGB arrays of the first and of the second track.
        flags: the flags of each MP4 track header: 1 enabled, 2 in the movie (ISO/IEC 14496-12,
            8.3.2).
        default: in Matroska, whether each track is the default.
    """
    out = io.BytesIO()
    with av.open(out, "w", format=container_format) as container:
        tracks = []
        for number, track_frames in enumerate(frames):
            track = container.add_stream(codec, rate=12, options=FAST[codec])
            track.height, track.width = track_frames[0].shape[:2]
            if default is not None:
                track.disposition = Disposition.default if default[number] else Disposition(0)
            tracks.append(track)
        for track, track_frames in zip(tracks, frames, strict=True):
            for pixels in track_frames:
                container.mux(track.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(track.encode())
    data = bytearray(out.getvalue())
    at = 0
    for value in flags or ():
        at = data.index(b"tkhd", at) + 4
        data[at + 1 : at + 4] = value.to_bytes(3)
    return bytes(data)


def cropped(frames, codec, left, top, container_format="mp4"):
    """Encode frames whose stream header crops pixels at the left and top."""
    raw = {"libx264": "h264", "libx265": "hevc"}[codec]
    out = io.BytesIO()
    whole = io.BytesIO(make_video(frames, codec, raw))
    with av.open(whole, format=raw) as source, av.open(out, "w", format=raw) as container:
        track = container.add_stream_from_template(source.streams.video[0])
        crop = BitStreamFilterContext(
            f"{raw}_metadata=crop_left={left}:crop_top={top}", source.streams.video[0], track
        )
        for packet in source.demux(video=0):
            for changed in crop.filter(packet if packet.size else None):
                changed.stream = track
                container.mux(changed)
    return repacked(out.getvalue(), raw, container_format)


def repacked(data, raw, container_format, rate=12):
    """Mux an H.264 or HEVC elementary stream into a container."""
    out = io.BytesIO()
    with (
        av.open(io.BytesIO(data), format=raw) as source,
        av.open(out, "w", format=container_format) as container,
    ):
        track = container.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.size:
                packet.pts = packet.dts = number
                packet.time_base, packet.duration = Fraction(1, rate), 1
                packet.stream = track
                container.mux(packet)
    return out.getvalue()


def fragmented(
    frames, codec="libx264", *, group=6, rate=12, times=None, flags="frag_keyframe+empty_moov"
):
    """Encode a fragmented MP4, one fragment per GOP, as recorders and live streams do."""
    return make_video(
        frames,
        codec,
        rate=rate,
        times=times,
        options={"g": str(group)},
        container_options={"movflags": f"{flags}+default_base_moof"},
    )


def boxes_of(data):
    """Return the outer boxes of an MP4: the name and all bytes of each."""
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4])
        found.append((data[at + 4 : at + 8], data[at : at + size]))
        at += size
    return found


def live(frames, codec, rate=12):
    """Encode Matroska without lengths, as browsers record it; return it and each block's end."""
    out = io.BytesIO()
    out.seekable = lambda: False
    ends = []
    options = {"live": "1", "cluster_time_limit": "500"}
    with av.open(out, "w", format="matroska", container_options=options) as container:
        track = container.add_stream(codec, rate=rate, options=FAST[codec])
        track.height, track.width = frames[0].shape[:2]
        for pixels in frames:
            container.mux(track.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(track.encode())
    data = bytearray(out.getvalue())
    at = data.index(_CLUSTER)
    while at < len(data):
        start, end = _element(data, at)
        if data[at : at + 4] == _CLUSTER:  # FFmpeg writes its length, but browsers do not
            length = start - at - 4
            data[at + 4 : start] = ((1 << 7 * length + 1) - 1).to_bytes(length)
            end = start
        at = end
        ends.append(at)
    return bytes(data), ends[1:]


_CLUSTER = b"\x1f\x43\xb6\x75"


def _element(data, at):
    width = 9 - data[at].bit_length()
    length = 9 - data[at + width].bit_length()
    start = at + width + length
    size = int.from_bytes(data[at + width : start]) & ((1 << 7 * length) - 1)
    return start, start + size
