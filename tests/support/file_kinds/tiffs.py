"""Write TIFF files of every kind byte by byte, and compute the pixels they should decode to.

After TIFF 6.0, BigTIFF, and libtiff's tags for other compressions.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from support.pictures import scene

GREY_INVERTED, GREY, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
COLOURS = {GREY_INVERTED: 1, GREY: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, LAB: 3}
NONE, LZW, JPEG, DEFLATE, PACKBITS = 1, 5, 7, 8, 32773
UNSIGNED, SIGNED, FLOAT = 1, 2, 3


@dataclass(frozen=True)
class Kind:
    """How a TIFF stores its image; the fields are named after the tags."""

    photometric: int = RGB
    bits: int = 8
    extras: tuple[int, ...] = ()  # 0 unspecified, 1 associated alpha, 2 unassociated alpha
    planar: int = 1
    compression: int = NONE
    predictor: int = 1
    tiled: bool = False
    order: str = "<"
    big: bool = False
    sample_format: int = UNSIGNED
    fill_order: int = 1
    rows: int = 0  # per strip; 0 for all

    def __str__(self) -> str:
        names = {0: "white-is-0 grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK"}
        packed = {1: "", 5: "LZW", 7: "JPEG", 8: "deflate", 32773: "PackBits"}
        words = (
            names.get(self.photometric, {6: "YCbCr", 8: "Lab"}.get(self.photometric)),
            f"{self.bits} bits" + {1: "", 2: " signed", 3: " float"}[self.sample_format],
            f"extras {self.extras}" if self.extras else "",
            "planes" if self.planar == 2 else "",
            packed[self.compression],
            f"predictor {self.predictor}" if self.predictor > 1 else "",
            "tiles" if self.tiled else f"strips of {self.rows}" if self.rows else "",
            "big-endian" if self.order == ">" else "",
            "BigTIFF" if self.big else "",
            "reversed bits" if self.fill_order == 2 else "",
        )
        return ", ".join(filter(None, words))


def samples(kind: Kind, width: int = 120, height: int = 80) -> np.ndarray:
    """Draw a picture as samples of this kind, (h, w, samples), with its full range of values."""
    image = scene(width, height)
    mode = {GREY_INVERTED: "L", GREY: "L", RGB: "RGB", PALETTE: "P", CMYK: "CMYK"}
    mode |= {YCBCR: "YCbCr", LAB: "RGB"}
    if kind.photometric == PALETTE:
        values = np.asarray(image.quantize(2 ** min(kind.bits, 8)))
    else:
        values = np.asarray(image.convert(mode[kind.photometric]))
        if kind.bits < 8:
            values = values >> (8 - kind.bits)
    values = values.reshape(height, width, -1).astype(np.int64)
    if kind.bits > 8 and kind.photometric != PALETTE:
        # random lower bits, which a decoder must not take for the upper ones
        noise = np.random.default_rng(1).integers(0, 2 ** (kind.bits - 8), values.shape)
        values = (values << (kind.bits - 8)) | noise
    top = 2**kind.bits - 1
    for n, extra in enumerate(kind.extras):
        ramp = np.linspace(0, top, width).astype(np.int64)
        layer = np.tile(ramp if n % 2 == 0 else ramp[::-1], (height, 1))
        if extra == 1:
            colours = values[..., : COLOURS[kind.photometric]]
            colours[:] = colours * (layer[..., None] / top)
        values = np.dstack((values, layer))
    return values


def wanted(kind: Kind, values: np.ndarray) -> np.ndarray:
    """Return the pixels that viewers show, on white, float (h, w, 3)."""
    colours = COLOURS[kind.photometric]
    top = 2**kind.bits - 1
    eight = values >> (kind.bits - 8) if kind.bits > 8 else values * 255 / top
    shown = eight[..., :colours]
    if kind.photometric == GREY_INVERTED:
        shown = 255 - shown
    if kind.photometric == PALETTE:
        shown = palette(kind)[values[..., 0]]
    if kind.photometric in {CMYK, YCBCR}:
        mode = "CMYK" if kind.photometric == CMYK else "YCbCr"
        shown = np.asarray(Image.fromarray(shown.astype(np.uint8), mode).convert("RGB"))
    if colours == 1 and kind.photometric != PALETTE:
        shown = np.repeat(shown, 3, 2)
    shown = shown.astype(float)
    for n, extra in enumerate(kind.extras):
        alpha = eight[..., colours + n, None] / 255
        if extra == 1:
            return shown + 255 * (1 - alpha)
        if extra == 2:
            return shown * alpha + 255 * (1 - alpha)
    return shown


def palette(kind: Kind) -> np.ndarray:
    """Return a palette's colours, uint8 (n, 3)."""
    count = 2 ** min(kind.bits, 8)
    flat = scene().quantize(count).getpalette() or []
    return np.array(flat[: 3 * count] + [0] * (3 * count - len(flat)), np.uint8).reshape(-1, 3)


def tiff(
    kind: Kind, values: np.ndarray, more: dict[int, tuple[int, bytes]] | None = None, **tags: int
) -> bytes:
    """Return a TIFF file of one page.

    Args:
        kind: how it is stored.
        values: its samples, (h, w, samples).
        more: other tags, each with its type (1 bytes, 2 text, 3 short, 4 long) and its bytes.
        tags: `palette_bits=8` writes a palette's colours up to 255 instead of 65535.
    """
    return join_pages([(kind, values, more or {})], **tags)


def join_pages(
    pages: list[tuple[Kind, np.ndarray, dict[int, tuple[int, bytes]]]], **tags: int
) -> bytes:
    """Return a file of several pages, all of the same byte order and offset size."""
    kind = pages[0][0]
    order, word = kind.order, "Q" if kind.big else "I"
    out = bytearray(b"II" if order == "<" else b"MM")
    out += struct.pack(
        order + ("HHHQ" if kind.big else "HI"), *((43, 8, 0) if kind.big else (42,)), 0
    )
    link = len(out) - (8 if kind.big else 4)
    for kind, values, more in pages:
        offsets, counts = [], []
        for block in _blocks(kind, values):
            out += bytes(len(out) % 2)
            offsets.append(len(out))
            counts.append(len(block))
            out += block
        entries = _entries(kind, values, offsets, counts, **tags) | more
        written = []
        for tag, (type, data) in sorted(entries.items()):
            count = len(data) // {1: 1, 2: 1, 3: 2, 4: 4, 16: 8}[type]
            inline_size = 8 if kind.big else 4
            if len(data) > inline_size:
                out += bytes(len(out) % 2)
                offset = struct.pack(order + word, len(out))
                out += data
                data = offset
            written.append(
                struct.pack(order + "HH" + word, tag, type, count) + data.ljust(inline_size, b"\0")
            )
        out += bytes(len(out) % 2)
        out[link : link + struct.calcsize(order + word)] = struct.pack(order + word, len(out))
        out += struct.pack(order + ("Q" if kind.big else "H"), len(written)) + b"".join(written)
        link = len(out)
        out += struct.pack(order + word, 0)
    return bytes(out)


def _entries(kind, values, offsets, counts, *, palette_bits=16):
    height, width, count = values.shape
    pack = lambda code, *numbers: struct.pack(f"{kind.order}{len(numbers)}{code}", *numbers)  # noqa: E731
    type, code = (16, "Q") if kind.big else (4, "I")
    entries = {
        256: (3, pack("H", width)),
        257: (3, pack("H", height)),
        258: (3, pack("H", *(kind.bits,) * count)),
        259: (3, pack("H", kind.compression)),
        262: (3, pack("H", kind.photometric)),
        277: (3, pack("H", count)),
        284: (3, pack("H", kind.planar)),
    }
    if kind.tiled:
        entries |= {322: (3, pack("H", 64)), 323: (3, pack("H", 32))}
        entries |= {324: (type, pack(code, *offsets)), 325: (4, pack("I", *counts))}
    else:
        entries |= {278: (3, pack("H", kind.rows or height))}
        entries |= {273: (type, pack(code, *offsets)), 279: (4, pack("I", *counts))}
    if kind.predictor > 1:
        entries[317] = 3, pack("H", kind.predictor)
    if kind.extras:
        entries[338] = 3, pack("H", *kind.extras)
    if kind.sample_format != UNSIGNED:
        entries[339] = 3, pack("H", *(kind.sample_format,) * count)
    if kind.fill_order != 1:
        entries[266] = 3, pack("H", kind.fill_order)
    if kind.photometric == PALETTE:
        colours = palette(kind).astype(int) * (257 if palette_bits == 16 else 1)
        colours = np.vstack((colours, np.zeros((2**kind.bits - len(colours), 3), int)))
        entries[320] = 3, pack("H", *colours.T.ravel())
    if kind.photometric == YCBCR:
        entries[530] = 3, pack("H", 1, 1)
    return entries


def _blocks(kind: Kind, values: np.ndarray) -> Iterator[bytes]:
    """Yield the packed strips or tiles, plane by plane if the kind is planar."""
    height, width, count = values.shape
    layers = [values] if kind.planar == 1 else [values[..., n : n + 1] for n in range(count)]
    for layer in layers:
        if not kind.tiled:
            rows = kind.rows or height
            for top in range(0, height, rows):
                yield _packed(kind, layer[top : top + rows])
            continue
        down, across = -(-height // 32) * 32 - height, -(-width // 64) * 64 - width
        whole = np.pad(layer, ((0, down), (0, across), (0, 0)), mode="edge")
        for top in range(0, height, 32):
            for left in range(0, width, 64):
                yield _packed(kind, whole[top : top + 32, left : left + 64])


def _packed(kind: Kind, block: np.ndarray) -> bytes:
    height, _, count = block.shape
    if kind.compression == JPEG:
        mode = {1: "L", 3: "RGB", 4: "CMYK"}[count]
        pixels = block.astype(np.uint8)
        if mode == "CMYK":
            pixels = 255 - pixels  # Pillow inverts CMYK
        image = Image.fromarray(pixels[..., 0] if count == 1 else pixels, mode)
        out = io.BytesIO()
        # no colour conversion: the TIFF's tags define the colours
        image.save(out, "JPEG", quality=95, subsampling=0, keep_rgb=mode == "RGB")
        return out.getvalue()
    if kind.sample_format == FLOAT:
        code = {16: "f2", 32: "f4", 64: "f8"}[kind.bits]
        data = (block / (2**kind.bits - 1)).astype(kind.order + code)
        raw = data.tobytes()
    elif kind.bits >= 8 and kind.bits % 8 == 0 and kind.bits != 24:
        if kind.predictor == 2:
            block = np.diff(block, axis=1, prepend=0) % 2**kind.bits
        data = block.astype(f"{kind.order}u{kind.bits // 8}")
        raw = data.tobytes()
    else:
        shifts = np.arange(kind.bits - 1, -1, -1)
        bits = (block[..., None] >> shifts & 1).reshape(height, -1).astype(np.uint8)
        raw = np.packbits(bits, axis=1).tobytes()
    if kind.fill_order == 2:
        raw = bytes(int(f"{n:08b}"[::-1], 2) for n in raw)
    return {NONE: bytes, LZW: lzw, DEFLATE: zlib.compress, PACKBITS: _packbits(block, raw)}[
        kind.compression
    ](raw)


def lzw(data: bytes) -> bytes:
    """Compress with TIFF's LZW, clearing the table before its codes exceed nine bits."""
    codes = []
    for n, byte in enumerate(data):
        if n % 200 == 0:
            codes.append(256)
        codes.append(byte)
    bits = "".join(f"{code:09b}" for code in (*codes, 257))
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8)


def _packbits(block, raw):
    row = len(raw) // len(block)

    def pack(data: bytes) -> bytes:
        out = bytearray()
        for top in range(0, len(data), row):
            line = data[top : top + row]
            for at in range(0, row, 128):
                piece = line[at : at + 128]
                out += bytes((len(piece) - 1,)) + piece
        return bytes(out)

    return pack


def kinds() -> Iterator[Kind]:
    """Yield the kinds that libtiff writes."""
    for photometric, depths, extras in (
        (GREY_INVERTED, (1, 2, 4, 8, 16), ((),)),
        (GREY, (1, 2, 4, 8, 12, 16, 32), ((), (0,), (1,), (2,))),
        (RGB, (4, 8, 16), ((), (0,), (1,), (2,), (2, 0))),
        (PALETTE, (1, 2, 4, 8, 16), ((), (2,))),
        (CMYK, (8, 16), ((), (0,), (2,))),
        (YCBCR, (8,), ((),)),
        (LAB, (8, 16), ((),)),
    ):
        for bits in depths:
            for more in extras:
                plain = Kind(photometric, bits, more)
                if more and bits < 8:
                    continue
                for planar in (1, 2) if COLOURS[photometric] + len(more) > 1 else (1,):
                    here = replace(plain, planar=planar)
                    yield from _variants(here)
    for bits in (16, 32, 64):
        for photometric in (GREY, RGB):
            yield Kind(photometric, bits, sample_format=FLOAT)
            yield Kind(photometric, bits, sample_format=FLOAT, planar=2)
    for bits in (8, 16, 32):
        yield Kind(GREY, bits, sample_format=SIGNED)
        yield Kind(RGB, bits, sample_format=SIGNED)
    for photometric in (GREY_INVERTED, GREY, PALETTE):
        for bits in (1, 2, 4, 8, 16):
            yield Kind(photometric, bits, fill_order=2)
    for photometric in (GREY, RGB, YCBCR, CMYK):
        for planar in (1, 2):
            for tiled in (False, True):
                if planar == 1 or photometric != GREY:
                    yield Kind(photometric, planar=planar, compression=JPEG, tiled=tiled)


def _variants(kind: Kind) -> Iterator[Kind]:
    for order in "<>":
        yield replace(kind, order=order)
        yield replace(kind, order=order, rows=7)
        yield replace(kind, order=order, tiled=True)
        yield replace(kind, order=order, compression=DEFLATE, rows=16)
    yield replace(kind, compression=LZW, rows=9)
    yield replace(kind, compression=PACKBITS, rows=9)
    yield replace(kind, compression=DEFLATE, tiled=True)
    yield replace(kind, big=True)
    if kind.bits in {8, 16} and kind.photometric != PALETTE:
        yield replace(kind, compression=DEFLATE, predictor=2)
        yield replace(kind, compression=LZW, predictor=2, tiled=True, order=">")
