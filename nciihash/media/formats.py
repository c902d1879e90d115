"""What a file is, by its content, never by its name; and the few bytes of structure we read.

Nothing here decodes pixels, and nothing raises anything but `nciihash.errors.FileRefused`.
"""

import struct
import zlib
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from nciihash.errors import CorruptFile, EmptyFile, UnsupportedFormat
from nciihash.media import videos
from nciihash.media.tiff_pages import main_page, pages


class Format(StrEnum):
    """A kind of picture that can be read here."""

    JPEG = "JPEG"
    PNG = "PNG"
    WEBP = "WebP"
    GIF = "GIF"
    TIFF = "TIFF"
    BMP = "BMP"
    AVIF = "AVIF"
    HEIC = "HEIC"


JPEG_START: Final = b"\xff\xd8"

_SIGNATURES: Final = (
    (JPEG_START, Format.JPEG),
    (b"\x89PNG\r\n\x1a\n", Format.PNG),
    (b"GIF87a", Format.GIF),
    (b"GIF89a", Format.GIF),
    (b"II*\0", Format.TIFF),
    (b"MM\0*", Format.TIFF),
    (b"II+\0", Format.TIFF),
    (b"MM\0+", Format.TIFF),
    (b"BM", Format.BMP),
)

# Brands of ISO base media files (ISO/IEC 23008-12, and the AV1 image file format).
_AVIF_BRANDS: Final = {b"avif", b"avis"}
_HEIC_BRANDS: Final = {
    *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"),
}

# What people are likely to hold that is no picture for us, and what to do with it.
_VIDEO: Final = (
    "This file is a video, where a single picture is wanted. "
    "Hash it with hash_file, or take a screenshot of the moment that matters."
)
_EXPORT: Final = "Open it in the program that shows it, export it as JPEG or PNG and try again."
RAW: Final = f"This is a camera's raw file, which is not supported. {_EXPORT}"
_OF_CAMERAS: Final = {32767, 32769, 32770, 34713, 34892, 65000, 65535}
_MOSAICS: Final = {32803, 34892}
_FOREIGN: Final = (
    (b"%PDF", f"This is a PDF document, not a picture. {_EXPORT}"),
    (b"8BPS", f"This is a Photoshop document, which is not supported. {_EXPORT}"),
    (b"\0\0\0\x0cjP  ", f"This is a JPEG 2000 picture, which is not supported. {_EXPORT}"),
    (b"\xffO\xffQ", f"This is a JPEG 2000 picture, which is not supported. {_EXPORT}"),
    (b"\xff\x0a", f"This is a JPEG XL picture, which is not supported. {_EXPORT}"),
    (b"\0\0\0\x0cJXL ", f"This is a JPEG XL picture, which is not supported. {_EXPORT}"),
    (b"FUJIFILMCCD-RAW", RAW),
    (b"IIU\0", RAW),  # Panasonic
    (b"IIRO", RAW),  # Olympus, and the next two
    (b"IIRS", RAW),
    (b"MMOR", RAW),
    (b"II\x1a\0\0\0HEAPCCDR", RAW),  # Canon, of old
    (b"\0MRM", RAW),  # Minolta
    (b"FOVb", RAW),  # Sigma
    (b"PK\x03\x04", "This is a ZIP archive. Unpack it and hash the pictures inside."),
)
_OTHER: Final = (
    "This is not a picture or a video in a format that can be opened here. Open it in the program "
    "that shows it, export it as JPEG, PNG or MP4 and try again."
)
_KNOWN: Final = tuple(start for start, _ in (*_SIGNATURES, *_FOREIGN))


def video_format(data: bytes) -> str | None:
    """Tell a video by its first 4096 bytes: FFmpeg's name of its container, or None.

    Animated pictures are pictures here.
    """
    if name := videos.signed_format(data):
        return name
    if videos.has_boxes(data):
        brands = _brands(data)
        raw = data[8:12] == b"crx " and data[4:8] == b"ftyp"
        return None if raw or brands & (_AVIF_BRANDS | _HEIC_BRANDS) else "mov"
    if data.startswith((*_KNOWN, b"RIFF")):
        return None
    return videos.unsigned_format(data[:4096])


def detect(data: bytes) -> Format:
    """Tell a picture's format from its first bytes.

    Raises:
        EmptyFile: no bytes.
        UnsupportedFormat: a video, a camera's raw file, a document, text, or something unknown; the
            message names it where it can.
    """
    if not data:
        raise EmptyFile(
            "The file is empty: the copy probably failed. Fetch it again from where it came."
        )
    if video_format(data):
        raise UnsupportedFormat(_VIDEO)
    for signature, message in _FOREIGN:
        if data.startswith(signature):
            raise UnsupportedFormat(message)
    if unread := videos.unread(data):
        raise UnsupportedFormat(unread)
    if videos.has_boxes(data):
        if data[8:12] == b"crx ":
            raise UnsupportedFormat(RAW)
        return Format.AVIF if _brands(data) & _AVIF_BRANDS else Format.HEIC
    if data.startswith(b"RIFF"):
        if data[8:12] == b"WEBP":
            return Format.WEBP
        raise UnsupportedFormat(_OTHER)
    for signature, format in _SIGNATURES:
        if data.startswith(signature):
            if format is Format.TIFF and _is_raw(data):
                raise UnsupportedFormat(RAW)
            return format
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in head:
        raise UnsupportedFormat(f"This is an SVG drawing, which is not supported. {_EXPORT}")
    if head.startswith((b"<!doctype html", b"<html")):
        raise UnsupportedFormat(
            "This is a web page, not a picture. Save the picture itself and try again."
        )
    raise UnsupportedFormat(_OTHER)


def _is_raw(data: bytes) -> bool:
    """Tell a camera's raw file from the TIFF as which it begins.

    It is marked (Canon's CR2, DNG's tag 50706); or its first picture is but a small copy (tag 254),
    and the true one lies where only cameras put it (tag 330) or nowhere; or its picture is
    compressed, or its colours are laid out, as only cameras do (tags 259, 262; TIFF 6.0, DNG 1.4,
    ExifTool's lists). An ordinary TIFF may hold its thumbnail first, and its picture as a page.
    """
    if data[8:10] == b"CR":
        return True
    first, page = next(pages(data), None), main_page(data)
    if first is None or page is None:
        return False
    if first.small and (page.small or 330 in first.entries):
        return True
    return any(
        50706 in each.entries or each.value(259) in _OF_CAMERAS or each.value(262) in _MOSAICS
        for each in (first, page)
    )


def holds_video(data: bytes) -> bool:
    """Tell whether a short video lies behind a photo, as phones put it there when it can move.

    In JPEG an MP4 follows the picture; in HEIC it has a box of its own, `mpvd`. (Of a "live photo"
    that is a pair of files, each is a file for itself.)
    """
    if data.startswith(JPEG_START):
        at = data.find(b"ftyp", 4)
        while at >= 4:
            if video_format(data[at - 4 : at + 508]) == "mov" and not any(data[at - 4 : at - 1]):
                return True
            at = data.find(b"ftyp", at + 4)
        return False
    if data[4:8] != b"ftyp":
        return False
    place = 0
    while place + 16 <= len(data):
        size, name = struct.unpack_from(">I4s", data, place)
        if name == b"mpvd":
            return True
        if size == 1:  # the size comes after the name
            (size,) = struct.unpack_from(">Q", data, place + 8)
        if size < 8:  # to the end of the file, or nonsense
            return False
        place += size
    return False


def _brands(data: bytes) -> set[bytes]:
    """Read the brands of an ISO base media file, by which pictures differ from videos."""
    for name, content in videos.boxes(data[:4096]):
        if name == b"ftyp":
            content = content[:512]
            return {content[i : i + 4] for i in (0, *range(8, len(content) - 3, 4))}
    return set()


def png_pixels(data: bytes) -> tuple[bytes, int]:
    """Check a PNG's structure, keep only what says how its picture looks, read its orientation.

    Pillow skips the checksum of the pixels and stops reading at their end, so that a damaged file
    can pass; and it unpacks every text and colour profile. An animated PNG becomes its still
    picture.

    Returns:
        The smaller PNG, and its orientation from 1 to 8.

    Raises:
        CorruptFile: a chunk that is cut off or fails its checksum, or no pixels, or no end.
    """
    view = memoryview(data)
    kept = [view[:8]]
    names = []
    turned = 1
    for name, start, end in png_chunks(data):
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            raise CorruptFile(
                "This PNG picture is damaged: a part of it fails its checksum. "
                "Use another copy of the file."
            )
        names.append(name)
        if name in {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}:
            kept.append(view[start:end])
        elif name == b"eXIf":
            turned = orientation(data[start + 8 : end - 4])
        elif not name[0] & 0x20:  # upper case: the file says that nobody can show it without
            raise CorruptFile(f"This PNG picture has a part of an unknown kind. {_EXPORT}")
    palette = data[25:26] == b"\3"  # the colour type that needs one
    if (
        names[:1] != [b"IHDR"]
        or names.count(b"IHDR") != 1
        or b"IDAT" not in names
        or (palette and b"PLTE" not in names)
    ):
        raise CorruptFile("This PNG picture is damaged. Use another copy of the file.")
    return b"".join(kept), turned


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Walk a PNG's chunks: name, start and end of each, through `IEND`."""
    position = 8
    while position + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            break
        yield name, position, end
        if name == b"IEND":
            return
        position = end
    raise CorruptFile(
        "This PNG picture is cut off before its end. Copy or download the file again."
    )


def orientation(exif: bytes) -> int:
    """Read the orientation, 1 to 8, from an EXIF block; 1 when it is absent or garbage.

    Written by hand so that a broken block neither raises nor warns: only the first directory's tag
    274 matters (EXIF 2.32, section 4.6.4).
    """
    for tag, kind, number, value in _directory(exif.removeprefix(b"Exif\0\0")):
        if tag == 0x0112:  # a short; some programs write a long
            return value if kind in {3, 4} and number == 1 and 1 <= value <= 8 else 1
    return 1


def _directory(block: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Walk the first directory of a TIFF as far as it goes: tag, kind, how many, first value."""
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return
    try:
        (start,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, start)
        for i in range(min(count, 512)):
            tag, kind, number = struct.unpack_from(order + "HHI", block, start + 2 + 12 * i)
            code = "H" if kind == 3 else "I"
            yield tag, kind, number, *struct.unpack_from(order + code, block, start + 10 + 12 * i)
    except struct.error:
        return
