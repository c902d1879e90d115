"""Decode TIFF files with any of the usual sample layouts, correctly or not at all.

Pillow and libtiff only decompress: each image, or each of its planes, is rewritten as a greyscale
TIFF of its bytes. Their meaning is decoded here, in one way for all compressions, strips and tiles:
bit depth, byte order, the horizontal predictor (tag 317), planes, palettes and alpha. JPEG and
CCITT data are decoded by libtiff, without the tags that would make Pillow rotate the image. Samples
are reduced to their upper eight bits.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nciihash.errors import CorruptFile, UnsupportedFormat
from nciihash.hashing import jpeg
from nciihash.media.tiff_pages import SIZES, Page, main_page

_COLOURS: Final = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}  # samples of each photometric kind (262)
# compressions of bytes (tag 259): none, LZW, Deflate, PackBits, old Deflate, LZMA, Zstandard
_BYTE_COMPRESSIONS: Final = {1, 5, 8, 32773, 32946, 34925, 50000}
# compressions of pixels: CCITT, old and new JPEG, CCITT word-aligned
_PIXEL_COMPRESSIONS: Final = {2, 3, 4, 6, 7, 32771}
# tags needed to decompress the bytes, not to display them
_PACKING_TAGS: Final = {
    *(256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 322, 323, 324, 325)
}
_PIXEL_TAGS: Final = _PACKING_TAGS | {338, 339, 347, *range(512, 522), 529, 530, 531, 532}
_SHORT_TAGS: Final = {258, 259, 262, 277, 284}
_OFFSET_TAGS: Final = (273, 279, 324, 325)  # offsets and sizes of strips and of tiles
_BAND: Final = 1 << 20  # samples decoded at a time

Decoder = Callable[[bytes], Image.Image]


@dataclass(frozen=True, slots=True)
class Layout:
    """How a page stores its image.

    `alpha` is 0 (none), 1 (associated: colours are premultiplied) or 2 (unassociated).
    """

    page: Page
    width: int
    height: int
    photometric: int
    bits: int
    samples: int
    alpha: int
    alpha_index: int
    planar: bool


def layout(data: bytes) -> Layout:
    """Read how a file's main page stores its image.

    Raises:
        CorruptFile: there is no page, or it lacks its size.
        UnsupportedFormat: the samples are measured values, or of a rare kind.
    """
    page = main_page(data)
    if page is None or not page.value(256) or not page.value(257):
        raise CorruptFile(
            "The directory of this TIFF picture is damaged. Use another copy of the file, or open "
            "it in a program that shows it and export it as JPEG."
        )
    photometric, samples = page.value(262, -1), page.value(277, 1)
    depths, formats = set(page.values(258)) or {1}, set(page.values(339)) or {1}
    compression = page.value(259, 1)
    if compression == 6:
        photometric, samples = 6, 3
    if compression in {6, 7} and 258 not in page.entries:
        depths = {8}
    bits = depths.pop()
    if formats - {1, 4} or bits > 16:
        raise UnsupportedFormat(
            "The picture stores measured values, not colours. Open it in a program that shows it "
            "and export it as JPEG or PNG."
        )
    colours = _COLOURS.get(photometric, 0)
    extras = page.values(338)
    if not extras and photometric == 2 and samples == 4:
        extras = (2,)  # as libtiff and Pillow assume
    alphas = [(n, kind) for n, kind in enumerate(extras) if kind in {1, 2, 999}]
    index, alpha = alphas[0] if alphas else (0, 0)
    planar = page.value(284, 1) == 2 and samples > 1
    if (
        depths
        or not colours
        or samples != colours + len(extras)
        or compression not in _BYTE_COMPRESSIONS | _PIXEL_COMPRESSIONS
        or (compression in _PIXEL_COMPRESSIONS and (planar or extras))
        or bits not in ({1, 2, 4, 8, 12, 16} if compression in _BYTE_COMPRESSIONS else {1, 8})
        or (photometric == 3 and bits > 8)
        or (photometric in {5, 6} and bits < 8)
        or (photometric == 5 and page.value(332, 1) != 1)  # other inks
        or (
            photometric == 6
            and compression in _BYTE_COMPRESSIONS
            and (bits != 8 or _subsampled(page))
        )
        or (page.value(322) * samples * bits % 8)
        or (page.value(317, 1) not in {1, 2})
        or (page.value(317, 1) == 2 and bits not in {8, 16})
    ):
        raise UnsupportedFormat(
            "This TIFF picture stores its colours in a rare way that this program cannot read. "
            "Open it in a program that shows it and export it as JPEG or PNG."
        )
    size = page.value(256), page.value(257)
    return Layout(page, *size, photometric, bits, samples, min(alpha, 2), colours + index, planar)


def _subsampled(page: Page) -> bool:
    return page.values(530) != (1, 1)


def rgb(stored: Layout, decoder: Decoder, *, raw: bool = False) -> Iterator[NDArray[np.uint8]]:
    """Yield an image's bands from its top, uint8 (rows, width, 3), flattened on white.

    Args:
        stored: how the file stores it.
        decoder: decodes the bytes of a TIFF file.
        raw: ignore alpha, as if the image were opaque.

    Raises:
        CorruptFile: a palette or pixels are missing.
    """
    page = stored.page
    if page.value(259, 1) in _PIXEL_COMPRESSIONS:
        if page.value(259) == 7:
            _check_jpegs(page)
        image = decoder(_rewrite(page, {}, _PIXEL_TAGS))
        yield np.asarray(image.convert("RGB"))
        return
    planes = [
        _decompress(stored, n, decoder) for n in range(stored.samples if stored.planar else 1)
    ]
    palette = _palette(page) if stored.photometric == 3 else None
    rows = max(1, _BAND // (stored.width * stored.samples))
    for top in range(0, stored.height, rows):
        below = min(top + rows, stored.height)
        # in bands, since decoding the whole array at once would take three times its memory
        rows_of_planes = [np.asarray(plane.crop((0, top, plane.width, below))) for plane in planes]
        bands = [_samples(stored, band) for band in rows_of_planes]
        yield _to_rgb(stored, np.concatenate(bands, axis=2), palette, raw=raw)


def _check_jpegs(page: Page) -> None:
    """Decode each strip or tile of JPEG data by itself, since libtiff does not report missing data.

    Raises:
        CorruptFile: pixels are damaged or missing.
    """
    type, count, offset = page.entries.get(347, (0, 0, 0))
    tables = page.data[offset : offset + count].removesuffix(b"\xff\xd9") if type in {1, 7} else b""
    offsets = page.values(324) or page.values(273)
    sizes = page.values(325) or page.values(279)
    for offset, size in zip(offsets, sizes, strict=True):
        part = page.data[offset : offset + size]
        file = tables + part[2:] if tables else part
        header = jpeg.header(file)
        if header is not None:  # else a rare subsampling, left to libtiff
            jpeg.decode(file, header[2])


def _decompress(stored: Layout, plane: int, decoder: Decoder) -> Image.Image:
    """Decompress one plane, or all samples if they are interleaved, to a greyscale image."""
    page = stored.page
    samples_per_plane = 1 if stored.planar else stored.samples
    width = -(-stored.width * samples_per_plane * stored.bits // 8)
    changed: dict[int, tuple[int, ...]] = {
        256: (width,),
        258: (8,),
        262: (1,),
        277: (1,),
        284: (1,),
    }
    if 322 in page.entries:
        changed[322] = (page.value(322) * samples_per_plane * stored.bits // 8,)
    if stored.planar:
        chunks = {tag: page.values(tag) for tag in _OFFSET_TAGS if tag in page.entries}
        for tag, values in chunks.items():
            count, remainder = divmod(len(values), stored.samples)
            if not count or remainder:
                raise _damaged()
            changed[tag] = values[plane * count : (plane + 1) * count]
    image = decoder(_rewrite(page, changed, _PACKING_TAGS))
    if image.mode != "L" or image.size != (width, stored.height):
        raise _damaged()
    return image


def _damaged() -> CorruptFile:
    return CorruptFile(
        "This TIFF picture is damaged. Use another copy of the file, or open it in a program that "
        "shows it and export it as JPEG."
    )


def _rewrite(page: Page, changed: Mapping[int, tuple[int, ...]], kept: set[int]) -> bytes:
    """Return a TIFF with the file's data and one directory: the kept tags and the changed ones.

    A BigTIFF becomes a classic TIFF, which Pillow reads in either byte order.
    """
    data, order = page.data, page.order
    out = bytearray(data)
    long = {
        tag: page.values(tag) for tag in kept & page.entries.keys() if page.entries[tag][0] > 13
    }
    values_of = long | dict(changed)
    entries = []
    for tag in sorted((kept & page.entries.keys()) | changed.keys()):
        if tag in values_of:
            values = values_of[tag]
            type, code = (3, "H") if tag in _SHORT_TAGS else (4, "I")
            count, body = len(values), struct.pack(f"{order}{len(values)}{code}", *values)
            if len(body) > 4:
                out += bytes(-len(out) % 8)
                offset = len(out)
                out += body
                body = struct.pack(order + "I", offset)
        else:
            type, count, offset = page.entries[tag]
            size = count * SIZES.get(type, 9)
            body = data[offset : offset + size] if size <= 4 else struct.pack(order + "I", offset)
        entries.append(struct.pack(order + "HHI", tag, type, count) + body.ljust(4, b"\0"))
    out += bytes(-len(out) % 8)
    out[:8] = data[:2] + struct.pack(order + "HI", 42, len(out))
    return bytes(out) + struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)


def _samples(stored: Layout, rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Decode a band's bytes to samples, uint8 (rows, width, samples), scaled to 0 to 255."""
    samples_per_plane = 1 if stored.planar else stored.samples
    count = stored.width * samples_per_plane
    bits, page = stored.bits, stored.page
    if bits == 8:
        values: NDArray[np.uint8] | NDArray[np.uint16] = rows
    elif bits == 16:
        values = np.ascontiguousarray(rows).view(page.order + "u2")
    else:
        unpacked = np.unpackbits(rows, axis=1)[:, : count * bits].reshape(-1, count, bits)
        values = (unpacked @ (1 << np.arange(bits)[::-1])).astype(np.uint16)
    values = values[:, :count].reshape(-1, stored.width, samples_per_plane)
    if page.value(317, 1) == 2:
        values = _undo_predictor(values, page.value(322) or stored.width)
    if stored.photometric == 3 and bits < 8:
        return values.astype(np.uint8)
    if bits < 8:
        return (values * (255 // ((1 << bits) - 1))).astype(np.uint8)
    return (values >> (bits - 8)).astype(np.uint8)


def _undo_predictor(
    values: NDArray[np.uint8] | NDArray[np.uint16], width: int
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Undo the horizontal predictor, which starts again in each tile of this width."""
    out = np.empty(values.shape, values.dtype.newbyteorder("="))
    for left in range(0, values.shape[1], width):
        part = np.s_[:, left : left + width]
        np.cumsum(values[part], axis=1, dtype=out.dtype, out=out[part])
    return out


def _palette(page: Page) -> NDArray[np.uint8]:
    """Read a palette, uint8 (256, 3); some programs write 8-bit colours instead of 16-bit ones."""
    colours = np.array(page.values(320), np.uint16)
    if not colours.size or colours.size % 3:
        raise CorruptFile("This TIFF picture has no palette. Use another copy of the file.")
    upper_bits = colours if colours.max() < 256 else colours >> 8
    out = np.zeros((256, 3), np.uint8)
    out[: colours.size // 3] = upper_bits.reshape(3, -1).T[:256]
    return out


def _to_rgb(
    stored: Layout, samples: NDArray[np.uint8], palette: NDArray[np.uint8] | None, *, raw: bool
) -> NDArray[np.uint8]:
    """Convert samples to RGB, flattened on white, or as if opaque if `raw`."""
    colour = samples[:, :, : _COLOURS[stored.photometric]]
    if palette is not None:
        colour = palette[colour[:, :, 0]]
    elif stored.photometric in {5, 6}:
        mode = "CMYK" if stored.photometric == 5 else "YCbCr"
        flat = Image.frombytes(mode, (colour.shape[1], colour.shape[0]), colour.tobytes())
        colour = np.asarray(flat.convert("RGB"))
    elif stored.photometric == 0:
        colour = 255 - colour
    if colour.shape[2] == 1:
        colour = np.repeat(colour, 3, axis=2)
    if not stored.alpha or (raw and stored.alpha == 2):
        return colour
    alpha = samples[:, :, stored.alpha_index, np.newaxis].astype(np.uint16)
    if stored.alpha == 2:
        shown = (colour * alpha + 255 * (255 - alpha) + 127) // 255
    elif raw:
        shown = np.minimum(colour * np.uint16(255) // np.maximum(alpha, 1), 255)
    else:
        shown = np.minimum(colour + (255 - alpha), 255)
    return np.asarray(shown, np.uint8)
