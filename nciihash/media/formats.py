"""Detect a file's format by its content, never by its name, and parse a little of its structure.

Nothing here decodes pixels, and no errors but `nciihash.errors.FileRefused` are raised.
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
    """A supported image format."""

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

# Unsupported files that people are likely to have, and what to do with them.
_VIDEO: Final = (
    "This file is a video, but a single picture is needed. "
    "Hash it with hash_file, or take a screenshot of the moment that matters."
)
_EXPORT: Final = "Open it in a program that shows it, export it as JPEG or PNG and try again."
RAW: Final = f"This is a camera's raw file, which is not supported. {_EXPORT}"
_CAMERA_COMPRESSIONS: Final = {32767, 32769, 32770, 34713, 34892, 65000, 65535}
_MOSAIC_PHOTOMETRICS: Final = {32803, 34892}
_UNSUPPORTED: Final = (
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
    (b"II\x1a\0\0\0HEAPCCDR", RAW),  # Canon CRW
    (b"\0MRM", RAW),  # Minolta
    (b"FOVb", RAW),  # Sigma
    (b"PK\x03\x04", "This is a ZIP archive. Unpack it and hash the files inside."),
)
_UNKNOWN: Final = (
    "This is not a picture or a video in a format that this program can read. Open it in a program "
    "that shows it, export it as JPEG, PNG or MP4 and try again."
)
_KNOWN: Final = tuple(start for start, _ in (*_SIGNATURES, *_UNSUPPORTED))


def video_format(data: bytes) -> str | None:
    """Return FFmpeg's name of a video's container, from its first 4096 bytes; None if no video.

    Animated images are not videos here.
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
    """Return an image's format, detected from its content.

    Raises:
        EmptyFile: no bytes.
        UnsupportedFormat: a video, a camera's raw file, a document, text, or something unknown; the
            message names the format if it is known.
    """
    if not data:
        raise EmptyFile(
            "The file is empty: the copy probably failed. Copy or download the file again."
        )
    if video_format(data):
        raise UnsupportedFormat(_VIDEO)
    for signature, message in _UNSUPPORTED:
        if data.startswith(signature):
            raise UnsupportedFormat(message)
    if unsupported := videos.unsupported(data):
        raise UnsupportedFormat(unsupported)
    if videos.has_boxes(data):
        if data[8:12] == b"crx ":
            raise UnsupportedFormat(RAW)
        return Format.AVIF if _brands(data) & _AVIF_BRANDS else Format.HEIC
    if data.startswith(b"RIFF"):
        if data[8:12] == b"WEBP":
            return Format.WEBP
        raise UnsupportedFormat(_UNKNOWN)
    for signature, image_format in _SIGNATURES:
        if data.startswith(signature):
            if image_format is Format.TIFF and _is_raw(data):
                raise UnsupportedFormat(RAW)
            return image_format
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in head:
        raise UnsupportedFormat(f"This is an SVG drawing, which is not supported. {_EXPORT}")
    if head.startswith((b"<!doctype html", b"<html")):
        raise UnsupportedFormat(
            "This is a web page, not a picture. Save the picture that it shows and try again."
        )
    raise UnsupportedFormat(_UNKNOWN)


def _is_raw(data: bytes) -> bool:
    """Whether a file that starts as a TIFF is a camera's raw file.

    A raw file is marked as one (Canon's CR2, DNG's tag 50706); or its first image is a thumbnail
    (tag 254) and the full image is in a sub-directory (tag 330) or absent; or its compression (tag
    259) or photometric interpretation (tag 262) is one that only cameras use (TIFF 6.0, DNG 1.4,
    ExifTool's lists). An ordinary TIFF may start with a thumbnail and have its image on a later
    page.
    """
    if data[8:10] == b"CR":
        return True
    first, page = next(pages(data), None), main_page(data)
    if first is None or page is None:
        return False
    if first.small and (page.small or 330 in first.entries):
        return True
    return any(
        50706 in each.entries
        or each.value(259) in _CAMERA_COMPRESSIONS
        or each.value(262) in _MOSAIC_PHOTOMETRICS
        for each in (first, page)
    )


def holds_video(data: bytes) -> bool:
    """Whether a photo file also contains a short video, as phones' motion photos do.

    In JPEG, an MP4 follows the image; in HEIC, it is in a box `mpvd`. (A "live photo" is two
    files, each detected by itself.)
    """
    if data.startswith(JPEG_START):
        offset = data.find(b"ftyp", 4)
        while offset >= 4:
            if video_format(data[offset - 4 : offset + 508]) == "mov" and not any(
                data[offset - 4 : offset - 1]
            ):
                return True
            offset = data.find(b"ftyp", offset + 4)
        return False
    if data[4:8] != b"ftyp":
        return False
    offset = 0
    while offset + 16 <= len(data):
        size, name = struct.unpack_from(">I4s", data, offset)
        if name == b"mpvd":
            return True
        if size == 1:  # a 64-bit size after the name
            (size,) = struct.unpack_from(">Q", data, offset + 8)
        if size < 8:  # 0 means up to the end of the file; others are invalid
            return False
        offset += size
    return False


def _brands(data: bytes) -> set[bytes]:
    """Return the brands of an ISO base media file, which distinguish images from videos."""
    for name, content in videos.boxes(data[:4096]):
        if name == b"ftyp":
            content = content[:512]
            return {content[i : i + 4] for i in (0, *range(8, len(content) - 3, 4))}
    return set()


def png_pixels(data: bytes) -> tuple[bytes, int]:
    """Check a PNG's structure, and remove all chunks that are not needed to decode its image.

    Pillow does not check the checksum of `IDAT` and stops reading after it, so it accepts some
    damaged files; and it decompresses every text and colour profile. An animated PNG is reduced to
    its default image.

    Returns:
        The reduced PNG, and its EXIF orientation, 1 to 8.

    Raises:
        CorruptFile: a chunk is cut off or fails its checksum, or `IDAT` or `IEND` is missing.
    """
    view = memoryview(data)
    kept = [view[:8]]
    names = []
    exif_orientation = 1
    for name, start, end in png_chunks(data):
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            raise CorruptFile(
                "This PNG picture is damaged: part of it fails its checksum. "
                "Use another copy of the file."
            )
        names.append(name)
        if name in {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}:
            kept.append(view[start:end])
        elif name == b"eXIf":
            exif_orientation = orientation(data[start + 8 : end - 4])
        elif not name[0] & 0x20:  # upper case: a critical chunk, needed to display the image
            raise CorruptFile(f"This PNG picture has a part of an unknown kind. {_EXPORT}")
    has_palette = data[25:26] == b"\3"  # the colour type
    if (
        names[:1] != [b"IHDR"]
        or names.count(b"IHDR") != 1
        or b"IDAT" not in names
        or (has_palette and b"PLTE" not in names)
    ):
        raise CorruptFile("This PNG picture is damaged. Use another copy of the file.")
    return b"".join(kept), exif_orientation


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, start, end) of a PNG's chunks, through `IEND`.

    Raises:
        CorruptFile: the file ends before `IEND`.
    """
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
    """Return the orientation, 1 to 8, of an EXIF block; 1 if it is absent or invalid.

    Parsed here so that a damaged block neither raises nor warns. Only tag 274 of the first
    directory counts (EXIF 2.32, section 4.6.4).
    """
    for tag, kind, count, value in _directory(exif.removeprefix(b"Exif\0\0")):
        if tag == 0x0112:  # a short; some programs write a long
            return value if kind in {3, 4} and count == 1 and 1 <= value <= 8 else 1
    return 1


def _directory(block: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield (tag, type, count, first value) of a TIFF's first directory, as far as it is intact."""
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return
    try:
        (start,) = struct.unpack_from(order + "I", block, 4)
        (entry_count,) = struct.unpack_from(order + "H", block, start)
        for i in range(min(entry_count, 512)):
            tag, kind, count = struct.unpack_from(order + "HHI", block, start + 2 + 12 * i)
            code = "H" if kind == 3 else "I"
            yield tag, kind, count, *struct.unpack_from(order + code, block, start + 10 + 12 * i)
    except struct.error:
        return
