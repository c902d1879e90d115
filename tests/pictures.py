"""Pictures for tests, made here, and files made from them."""

import io
import struct
import zlib
from typing import Any

import av
import numpy as np
from PIL import Image


def scene(width: int = 120, height: int = 80, seed: int = 1) -> Image.Image:
    """Draw smooth hills with hard edges in them: structure that a hash can hold on to."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 9, 3), np.uint8))
    pixels = np.array(small.resize((width, height), Image.Resampling.BICUBIC))
    pixels[height // 3 : height // 2, width // 4 : width // 2] = (250, 20, 60)
    return Image.fromarray(pixels)


def encode(image: Image.Image, format: str, **options: Any) -> bytes:
    """Save a picture to bytes."""
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    """Make one chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, rows: bytes, extra: bytes = b"", depth: int = 8, kind: int = 2):
    """Make a PNG whose header says what the arguments say, whatever its pixels are."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def jpeg_with_size(data: bytes, width: int, height: int) -> bytes:
    """Make a JPEG's header lie about its size."""
    place = data.index(b"\xff\xc0")
    return data[: place + 5] + struct.pack(">HH", height, width) + data[place + 9 :]


def exif(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    """Make an EXIF block that holds an orientation alone."""
    mark = b"II" if order == "<" else b"MM"
    value = struct.pack(order + ("HH" if kind == 3 else "I"), *([orientation, 0][: 5 - kind]))
    entry = struct.pack(order + "HHI", 0x0112, kind, 1) + value
    return b"Exif\0\0" + mark + struct.pack(order + "HIH", 42, 8, 1) + entry + struct.pack("I", 0)


def stored(image: Image.Image, orientation: int) -> Image.Image:
    """Turn an upright picture as a camera held the other way stores it."""
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(orientation)
    return image if turn is None else image.transpose(turn)


def _box(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), name) + body


def _full(name: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    return _box(name, struct.pack(">I", version << 24 | flags), *parts)


def heic(image: Image.Image, quarter_turns: int = 0, block: bytes = b"") -> bytes:
    """Save a picture as a phone's HEIC: one HEVC frame, a turn to show it by, and EXIF.

    `image` is the picture as stored, with even sides; a viewer turns it by so many quarter turns
    against the clock (`irot`). See ISO/IEC 23008-12 for the boxes.
    """
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as container:
        stream = container.add_stream("libx265", rate=1)
        stream.width, stream.height = image.size
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "4", "x265-params": "log-level=none"}
        container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode(None))
    out.seek(0)
    with av.open(out) as container:
        config = _box(b"hvcC", container.streams.video[0].codec_context.extradata)
        sample = bytes(next(container.demux(video=0)))

    metadata = b"\0\0\0\6" + block if block else b""
    kinds = [b"hvc1", b"Exif"] if block else [b"hvc1"]
    properties = [config, _full(b"ispe", struct.pack(">II", *image.size))]
    if quarter_turns:
        properties.append(_box(b"irot", bytes([quarter_turns])))
    entries = [
        _full(b"infe", struct.pack(">HH4sx", n + 1, 0, kind), version=2)
        for n, kind in enumerate(kinds)
    ]
    links = bytes([0x81, *range(2, len(properties) + 1)])
    reference = _full(b"iref", _box(b"cdsc", struct.pack(">HHH", 2, 1, 1))) if block else b""

    def meta(offset: int) -> bytes:
        places = [(1, offset, len(sample)), (2, offset + len(sample), len(metadata))][: len(kinds)]
        return _full(
            b"meta",
            _full(b"hdlr", bytes(4), b"pict", bytes(13)),
            _full(b"pitm", struct.pack(">H", 1)),
            _full(
                b"iloc",
                struct.pack(">BBH", 0x44, 0, len(places)),
                *(struct.pack(">HHHII", item, 0, 1, at, size) for item, at, size in places),
            ),
            _full(b"iinf", struct.pack(">H", len(entries)), *entries),
            reference,
            _box(
                b"iprp",
                _box(b"ipco", *properties),
                _full(b"ipma", struct.pack(">IHB", 1, 1, len(properties)), links),
            ),
        )

    head = _box(b"ftyp", b"heic", bytes(4), b"mif1", b"heic")
    start = len(head) + len(meta(0)) + 8
    return head + meta(start) + _box(b"mdat", sample, metadata)
