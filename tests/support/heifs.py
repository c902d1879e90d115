"""HEIC files for tests, put together here: turned, tiled, bursts, with depth, with a video behind.

The boxes are those of ISO/IEC 23008-12 and 14496-12.
"""

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import av
from PIL import Image

_NEEDED = {b"hvcC", b"clap", b"irot", b"imir"}


@dataclass(frozen=True)
class Item:
    """One item of a file: its kind, its bytes, its properties, and which items it refers to."""

    kind: bytes
    data: bytes
    properties: tuple[bytes, ...] = ()
    hidden: bool = False
    refers: tuple[bytes, tuple[int, ...]] | None = None  # how, and to which numbers from 1 on


def box(name: bytes, *parts: bytes) -> bytes:
    """Make a box of an ISO base media file."""
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

    Sides are 64 or more: for less, x265 takes smaller blocks, which it refuses while the process
    has other encoders open. It gives the only frame of a film a time of decoding that it never set,
    whatever its memory holds, so that it is set here.
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
    of_it = (config, _size(*image.size), *properties)
    return Item(b"hvc1", sample, of_it, hidden, refers)


def heif(items: Sequence[Item], primary: int = 1) -> bytes:
    """Put items together to a file; they are numbered from 1 on."""
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
        # what nobody may do without
        places = [properties.index(p) + 1 | 0x80 * (p[4:8] in _NEEDED) for p in item.properties]
        links += struct.pack(">HB", n, len(places)) + bytes(places)
    iref = _full(b"iref", *references) if references else b""

    def meta(offset: int) -> bytes:
        places = b""
        for n, item in enumerate(items, 1):
            places += struct.pack(">HHHII", n, 0, 1, offset, len(item.data))
            offset += len(item.data)
        return _full(
            b"meta",
            _full(b"hdlr", bytes(4), b"pict", bytes(13)),
            _full(b"pitm", struct.pack(">H", primary)),
            _full(b"iloc", struct.pack(">BBH", 0x44, 0, len(items)), places),
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
    """Save a picture as a phone's HEIC: one HEVC frame, a turn to show it by, and EXIF.

    `image` is the picture as stored, with even sides; a viewer turns it by so many quarter turns
    against the clock (`irot`).
    """
    turn = (box(b"irot", bytes([quarter_turns])),) if quarter_turns else ()
    items = [coded(image, pix_fmt=pix_fmt, properties=turn)]
    if block:
        items.append(Item(b"Exif", b"\0\0\0\6" + block, refers=(b"cdsc", (1,))))
    return heif(items)


def aperture(width: int, height: int, right: float = 0, down: float = 0) -> bytes:
    """Make a clean aperture (`clap`): its size, and how far its middle is from the picture's."""
    return box(
        b"clap",
        struct.pack(">IIIIiIiI", width, 1, height, 1, int(2 * right), 2, int(2 * down), 2),
    )


def tiled(image: Image.Image, rows: int, columns: int, properties: tuple[bytes, ...] = ()) -> bytes:
    """Save a picture as phones do, as a grid of pictures; sides are multiples of twice the grid."""
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
    """Save a picture with a map of how far away things are, as portraits have."""
    name = b"urn:mpeg:hevc:2015:auxid:2\0"
    behind = coded(depth, properties=(_full(b"auxC", name),), refers=(b"auxl", (1,)))
    return heif([coded(image), behind])
