"""Make HEIC files for tests: rotated, cropped, tiled, bursts, and with a depth map.

The boxes are those of ISO/IEC 23008-12 and 14496-12.
"""

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import av
from PIL import Image

_ESSENTIAL = {b"hvcC", b"clap", b"irot", b"imir"}


@dataclass(frozen=True)
class Item:
    """One item of a file: its type, bytes and properties, and the items it refers to."""

    kind: bytes
    data: bytes
    properties: tuple[bytes, ...] = ()
    hidden: bool = False
    refers: tuple[bytes, tuple[int, ...]] | None = None  # the reference's type, and item numbers


def box(name: bytes, *parts: bytes) -> bytes:
    """Return a box of an ISO base media file."""
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), name) + body


def _full(name: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(name, struct.pack(">I", version << 24 | flags), *parts)


def _size(width: int, height: int) -> bytes:
    return _full(b"ispe", struct.pack(">II", width, height))


def coded(
    image: Image.Image,
    *,
    pix_fmt: str = "yuv420p",
    properties: Sequence[bytes] = (),
    hidden: bool = False,
    refers: tuple[bytes, tuple[int, ...]] | None = None,
) -> Item:
    """Encode a picture with even sides as one HEVC frame.

    Sides are 64 or more: for less, x265 uses smaller blocks, which it refuses while the process has
    other encoders open. For a single frame it returns an uninitialised decoding time, so it is set
    here.
    """
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as container:
        stream = container.add_stream("libx265", rate=1)
        stream.width, stream.height = image.size
        stream.pix_fmt = pix_fmt
        stream.options = {"crf": "4", "x265-params": "log-level=none"}
        for packet in (*stream.encode(av.VideoFrame.from_image(image)), *stream.encode(None)):
            packet.dts = packet.pts
            container.mux(packet)
    out.seek(0)
    with av.open(out) as container:
        config = box(b"hvcC", container.streams.video[0].codec_context.extradata)
        sample = bytes(next(container.demux(video=0)))
    all_properties = (config, _size(*image.size), *properties)
    return Item(b"hvc1", sample, all_properties, hidden, refers)


def heif(items: Sequence[Item], primary: int = 1) -> bytes:
    """Return a file of these items, which are numbered from 1."""
    properties = list(dict.fromkeys(p for item in items for p in item.properties))
    entries = [
        _full(b"infe", struct.pack(">HH4sx", n, 0, item.kind), version=2, flags=int(item.hidden))
        for n, item in enumerate(items, 1)
    ]
    references = [
        box(item.refers[0], struct.pack(f">HH{len(to)}H", n, len(to), *to))
        for n, item in enumerate(items, 1)
        if item.refers and (to := item.refers[1])
    ]
    links = b""
    for n, item in enumerate(items, 1):
        # indices from 1; the high bit marks a property as essential
        indices = [properties.index(p) + 1 | 0x80 * (p[4:8] in _ESSENTIAL) for p in item.properties]
        links += struct.pack(">HB", n, len(indices)) + bytes(indices)
    iref = _full(b"iref", *references) if references else b""

    def meta(offset: int) -> bytes:
        locations = b""
        for n, item in enumerate(items, 1):
            locations += struct.pack(">HHHII", n, 0, 1, offset, len(item.data))
            offset += len(item.data)
        return _full(
            b"meta",
            _full(b"hdlr", bytes(4), b"pict", bytes(13)),
            _full(b"pitm", struct.pack(">H", primary)),
            _full(b"iloc", struct.pack(">BBH", 0x44, 0, len(items)), locations),
            _full(b"iinf", struct.pack(">H", len(entries)), *entries),
            iref,
            box(
                b"iprp",
                box(b"ipco", *properties),
                _full(b"ipma", struct.pack(">I", len(items)), links),
            ),
        )

    head = box(b"ftyp", b"heic", bytes(4), b"mif1", b"heic")
    start = len(head) + len(meta(0)) + 8
    return head + meta(start) + box(b"mdat", *(item.data for item in items))


def heic(
    image: Image.Image, quarter_turns: int = 0, block: bytes = b"", pix_fmt: str = "yuv420p"
) -> bytes:
    """Save a picture as a phone's HEIC: one HEVC frame, a rotation, and EXIF.

    `image` is the picture as stored, with even sides; viewers rotate it by `quarter_turns`
    anticlockwise (`irot`). `block` is an EXIF block.
    """
    turn = (box(b"irot", bytes([quarter_turns])),) if quarter_turns else ()
    items = [coded(image, pix_fmt=pix_fmt, properties=turn)]
    if block:
        items.append(Item(b"Exif", b"\0\0\0\6" + block, refers=(b"cdsc", (1,))))
    return heif(items)


def aperture(width: int, height: int, right: float = 0, down: float = 0) -> bytes:
    """Return a clean aperture (`clap`): its size, and its middle's offset from the picture's."""
    return box(
        b"clap",
        struct.pack(">IIIIiIiI", width, 1, height, 1, int(2 * right), 2, int(2 * down), 2),
    )


def tiled(image: Image.Image, rows: int, columns: int, properties: tuple[bytes, ...] = ()) -> bytes:
    """Save a picture as a grid of tiles, as phones do; each tile has even sides."""
    wide, high = image.width // columns, image.height // rows
    tiles = [
        coded(
            image.crop((x * wide, y * high, (x + 1) * wide, (y + 1) * high)),
            hidden=True,
        )
        for y in range(rows)
        for x in range(columns)
    ]
    layout = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, *image.size)
    numbers = tuple(range(1, len(tiles) + 1))
    grid = Item(b"grid", layout, (_size(*image.size), *properties), refers=(b"dimg", numbers))
    return heif([*tiles, grid], primary=len(tiles) + 1)


def with_depth(image: Image.Image, depth: Image.Image) -> bytes:
    """Save a picture with a depth map, as in portrait mode."""
    name = b"urn:mpeg:hevc:2015:auxid:2\0"
    auxiliary = coded(depth, properties=(_full(b"auxC", name),), refers=(b"auxl", (1,)))
    return heif([coded(image), auxiliary])
