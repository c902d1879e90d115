"""Read TIFF pictures: any of the usual samples, right or not at all.

A decoder is asked for nothing but the unpacked bytes: each picture, or each of its planes, is
written anew as a grey picture of those bytes. What they mean is worked out here, in one way for all
kinds of packing, strips and tiles: bits, byte order, differences (tag 317), planes, palettes and
alpha. JPEG and CCITT data are left to libtiff, without the tags that would have Pillow turn
the picture. Samples are shown by their upper eight bits.
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
# how bytes are packed (259): raw, LZW, Deflate, PackBits, Deflate of old, LZMA, Zstandard
_BYTES: Final = {1, 5, 8, 32773, 32946, 34925, 50000}
# what packs pixels rather than bytes: CCITT, JPEG of old and new, CCITT in words
_WHOLE: Final = {2, 3, 4, 6, 7, 32771}
# what says how the bytes of a picture are packed, and nothing of how it is shown
_PACKING: Final = {
    *(256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 322, 323, 324, 325)
}
_OF_PIXELS: Final = _PACKING | {338, 339, 347, *range(512, 522), 529, 530, 531, 532}
_SHORTS: Final = {258, 259, 262, 277, 284}
_PLACES: Final = (273, 279, 324, 325)  # of strips and tiles, and their sizes
_BAND: Final = 1 << 20  # samples that are worked out at once

Decoder = Callable[[bytes], Image.Image]


@dataclass(frozen=True, slots=True)
class Layout:
    """How a page stores its picture; `alpha` is 0, 1 (colours are multiplied by it) or 2."""

    page: Page
    width: int
    height: int
    photometric: int
    bits: int
    samples: int
    alpha: int
    alpha_at: int
    planar: bool


def layout(data: bytes) -> Layout:
    """Read how a file's main page stores its picture.

    Raises:
        CorruptFile: there is none, or it lacks its size.
        UnsupportedFormat: samples that are measurements, or of a rare kind.
    """
    page = main_page(data)
    if page is None or not page.value(256) or not page.value(257):
        raise CorruptFile(
            "This TIFF picture's directory is damaged. Use another copy, or export it as JPEG."
        )
    photometric, samples = page.value(262, -1), page.value(277, 1)
    depths, formats = set(page.values(258)) or {1}, set(page.values(339)) or {1}
    packing = page.value(259, 1)
    if packing == 6:
        photometric, samples = 6, 3
    if packing in {6, 7} and 258 not in page.entries:
        depths = {8}
    bits = depths.pop()
    if formats - {1, 4} or bits > 16:
        raise UnsupportedFormat(
            "The picture stores measured values rather than colours. Export it as JPEG or PNG."
        )
    colours = _COLOURS.get(photometric, 0)
    extras = page.values(338)
    if not extras and photometric == 2 and samples == 4:
        extras = (2,)  # as libtiff's and Pillow's readers take it
    meant = [(n, kind) for n, kind in enumerate(extras) if kind in {1, 2, 999}]
    at, alpha = meant[0] if meant else (0, 0)
    planar = page.value(284, 1) == 2 and samples > 1
    if (
        depths
        or not colours
        or samples != colours + len(extras)
        or packing not in _BYTES | _WHOLE
        or (packing in _WHOLE and (planar or extras))
        or bits not in ({1, 2, 4, 8, 12, 16} if packing in _BYTES else {1, 8})
        or (photometric == 3 and bits > 8)
        or (photometric in {5, 6} and bits < 8)
        or (photometric == 5 and page.value(332, 1) != 1)  # other inks
        or (photometric == 6 and packing in _BYTES and (bits != 8 or _subsampled(page)))
        or (page.value(322) * samples * bits % 8)
        or (page.value(317, 1) not in {1, 2})
        or (page.value(317, 1) == 2 and bits not in {8, 16})
    ):
        raise UnsupportedFormat(
            "This TIFF picture stores its colours in a rare way. Export it as JPEG or PNG."
        )
    size = page.value(256), page.value(257)
    return Layout(page, *size, photometric, bits, samples, min(alpha, 2), colours + at, planar)


def _subsampled(page: Page) -> bool:
    return page.values(530) != (1, 1)


def rgb(stored: Layout, decoder: Decoder, *, raw: bool = False) -> Iterator[NDArray[np.uint8]]:
    """Decode a picture band by band, from its top: uint8 (rows, width, 3), on white paper.

    Args:
        stored: how the file stores it.
        decoder: opens and decodes the bytes of a TIFF.
        raw: leave out alpha, and show what is transparent too.

    Raises:
        CorruptFile: a palette or pixels are missing.
    """
    page = stored.page
    if page.value(259, 1) in _WHOLE:
        if page.value(259) == 7:
            _check_jpegs(page)
        image = decoder(_written(page, {}, _OF_PIXELS))
        yield np.asarray(image.convert("RGB"))
        return
    planes = [_unpacked(stored, n, decoder) for n in range(stored.samples if stored.planar else 1)]
    shown = _palette(page) if stored.photometric == 3 else None
    rows = max(1, _BAND // (stored.width * stored.samples))
    for top in range(0, stored.height, rows):
        below = min(top + rows, stored.height)
        # as an array, the whole would take three times its memory
        cut = [np.asarray(plane.crop((0, top, plane.width, below))) for plane in planes]
        bands = [_samples(stored, band) for band in cut]
        yield _coloured(stored, np.concatenate(bands, axis=2), shown, raw=raw)


def _check_jpegs(page: Page) -> None:
    """Decode each strip or tile of JPEG data alone, for libtiff does not report what is missing.

    Raises:
        CorruptFile: pixels are damaged or missing.
    """
    type, count, place = page.entries.get(347, (0, 0, 0))
    tables = page.data[place : place + count].removesuffix(b"\xff\xd9") if type in {1, 7} else b""
    starts = page.values(324) or page.values(273)
    sizes = page.values(325) or page.values(279)
    for start, size in zip(starts, sizes, strict=True):
        part = page.data[start : start + size]
        alone = tables + part[2:] if tables else part
        known = jpeg.header(alone)
        if known is not None:  # a sampling without a name is left to libtiff
            jpeg.decode(alone, known[2])


def _unpacked(stored: Layout, plane: int, decoder: Decoder) -> Image.Image:
    """Unpack a plane's bytes, or those of all samples, to the grey pixels of a picture."""
    page = stored.page
    together = 1 if stored.planar else stored.samples
    width = -(-stored.width * together * stored.bits // 8)
    changed: dict[int, tuple[int, ...]] = {
        256: (width,),
        258: (8,),
        262: (1,),
        277: (1,),
        284: (1,),
    }
    if 322 in page.entries:
        changed[322] = (page.value(322) * together * stored.bits // 8,)
    if stored.planar:
        places = {tag: page.values(tag) for tag in _PLACES if tag in page.entries}
        for tag, values in places.items():
            each, more = divmod(len(values), stored.samples)
            if not each or more:
                raise _damaged()
            changed[tag] = values[plane * each : (plane + 1) * each]
    image = decoder(_written(page, changed, _PACKING))
    if image.mode != "L" or image.size != (width, stored.height):
        raise _damaged()
    return image


def _damaged() -> CorruptFile:
    return CorruptFile("This TIFF picture is damaged. Use another copy, or export it as JPEG.")


def _written(page: Page, changed: Mapping[int, tuple[int, ...]], kept: set[int]) -> bytes:
    """Write a file anew, with one directory of some tags, some with other values.

    A BigTIFF becomes a plain one, which Pillow reads in either byte order.
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
            type, code = (3, "H") if tag in _SHORTS else (4, "I")
            count, body = len(values), struct.pack(f"{order}{len(values)}{code}", *values)
            if len(body) > 4:
                out += bytes(-len(out) % 8)
                place = len(out)
                out += body
                body = struct.pack(order + "I", place)
        else:
            type, count, place = page.entries[tag]
            size = count * SIZES.get(type, 9)
            body = data[place : place + size] if size <= 4 else struct.pack(order + "I", place)
        entries.append(struct.pack(order + "HHI", tag, type, count) + body.ljust(4, b"\0"))
    out += bytes(-len(out) % 8)
    out[:8] = data[:2] + struct.pack(order + "HI", 42, len(out))
    return bytes(out) + struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)


def _samples(stored: Layout, rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Work out samples of a band's bytes: uint8 (rows, width, samples), 255 the most."""
    together = 1 if stored.planar else stored.samples
    count = stored.width * together
    bits, page = stored.bits, stored.page
    if bits == 8:
        values: NDArray[np.uint8] | NDArray[np.uint16] = rows
    elif bits == 16:
        values = np.ascontiguousarray(rows).view(page.order + "u2")
    else:
        single = np.unpackbits(rows, axis=1)[:, : count * bits].reshape(-1, count, bits)
        values = (single @ (1 << np.arange(bits)[::-1])).astype(np.uint16)
    values = values[:, :count].reshape(-1, stored.width, together)
    if page.value(317, 1) == 2:
        values = _summed(values, page.value(322) or stored.width)
    if stored.photometric == 3 and bits < 8:
        return values.astype(np.uint8)
    if bits < 8:
        return (values * (255 // ((1 << bits) - 1))).astype(np.uint8)
    return (values >> (bits - 8)).astype(np.uint8)


def _summed(
    values: NDArray[np.uint8] | NDArray[np.uint16], width: int
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Undo differences along rows, which begin anew in each tile of this width."""
    out = np.empty(values.shape, values.dtype.newbyteorder("="))
    for left in range(0, values.shape[1], width):
        part = np.s_[:, left : left + width]
        np.cumsum(values[part], axis=1, dtype=out.dtype, out=out[part])
    return out


def _palette(page: Page) -> NDArray[np.uint8]:
    """Read a palette, uint8 (256, 3); some programs write its colours up to 255 alone."""
    colours = np.array(page.values(320), np.uint16)
    if not colours.size or colours.size % 3:
        raise CorruptFile("This TIFF picture lacks its palette. Use another copy of the file.")
    eight = colours if colours.max() < 256 else colours >> 8
    out = np.zeros((256, 3), np.uint8)
    out[: colours.size // 3] = eight.reshape(3, -1).T[:256]
    return out


def _coloured(
    stored: Layout, samples: NDArray[np.uint8], palette: NDArray[np.uint8] | None, *, raw: bool
) -> NDArray[np.uint8]:
    """Turn samples into RGB."""
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
    alpha = samples[:, :, stored.alpha_at, np.newaxis].astype(np.uint16)
    if stored.alpha == 2:
        shown = (colour * alpha + 255 * (255 - alpha) + 127) // 255
    elif raw:
        shown = np.minimum(colour * np.uint16(255) // np.maximum(alpha, 1), 255)
    else:
        shown = np.minimum(colour + (255 - alpha), 255)
    return np.asarray(shown, np.uint8)
