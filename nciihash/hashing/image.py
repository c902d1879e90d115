"""Decode an image from a file, bytes, a Pillow image or an array to upright 8-bit RGB pixels.

What is hashed: EXIF orientation applied, no colour management, alpha flattened on white, the first
frame of an animation. A file that is cut off, damaged or too large raises an error; it is never
hashed in part.

Pillow's format classes are called directly, chosen by `nciihash.media.formats.detect`. So no other
decoder can be reached, nothing is registered with Pillow, and `Limits` applies instead of Pillow's
global limits.
"""

import io
import os
import struct
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pi_heif import HeifImageFile
from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from nciihash.errors import (
    CorruptFile,
    FileRefused,
    InvalidPixels,
    ProgramFault,
    TooLarge,
    UnreadableFile,
    UnsupportedFormat,
)
from nciihash.hashing import animated, jpeg, tiff
from nciihash.media import formats
from nciihash.media.formats import Format, detect, png_pixels
from nciihash.media.heif_boxes import without_aperture
from nciihash.media.limits import LIMITS, Limits
from nciihash.media.reading import read_file, read_path
from nciihash.media.tiff_pages import pages

Source: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | NDArray[np.uint8]


_PLUGINS: Final[dict[Format, type[ImageFile.ImageFile]]] = {
    Format.JPEG: JpegImageFile,
    Format.PNG: PngImageFile,
    Format.WEBP: WebPImageFile,
    Format.GIF: GifImageFile,
    Format.TIFF: TiffImageFile,
    Format.BMP: BmpImageFile,
    Format.AVIF: AvifImageFile,
    Format.HEIC: HeifImageFile,
}
_COMPOSED: Final = {Format.GIF, Format.PNG}  # their frames are composed here, not by Pillow
_SMALLER_COPY: Final = "Save a smaller copy and hash that; its fingerprint is nearly the same."
_BAND: Final = 1 << 20  # pixels converted at a time, so that a large image is not copied as a whole
_STRIP: Final = 64  # rows rotated at a time, so that they stay in the processor's cache


def read_pixels(source: Source, *, limits: Limits = LIMITS) -> NDArray[np.uint8]:
    """Decode an image to upright 8-bit RGB.

    Args:
        source: a path, a file's bytes, a binary file (read from its current position), a Pillow
            image (its current frame), or an array, uint8 (h, w, 3), which is returned as it is.
        limits: bounds on the file.

    Returns:
        uint8 (h, w, 3), contiguous unless `source` is an array.

    Raises:
        FileRefused: one of its subclasses, with a message that says what to do.
        InvalidPixels: the array has another dtype or shape, or no pixels.
        TypeError: the source is of another type.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or not source.size:
            raise InvalidPixels(
                "Pass the pixels as a uint8 array of shape (height, width, 3), at least one pixel."
            )
        return source
    if isinstance(source, Image.Image):
        with decoder_errors("Pillow"):
            exif = source.info.get("exif") or b""
            return _pixels(source, formats.orientation(exif), limits)
    data = source if isinstance(source, bytes) else read_bytes(source, limits=limits)
    return decode(data, limits=limits)


def read_bytes(source: str | os.PathLike[str] | BinaryIO, *, limits: Limits = LIMITS) -> bytes:
    """Read a whole file once, so that all of its hashes are of the same bytes.

    Args:
        source: a path, or a binary file, which is read from its current position.
        limits: `max_bytes` applies.

    Raises:
        NotAFile: the path does not exist, or is a directory or a device.
        UnreadableFile: the system cannot open or read it.
        TooLarge: more bytes than the limits allow.
        TypeError: the source is of another type, or a file opened in text mode.
    """
    if not isinstance(source, str | os.PathLike):
        if not hasattr(source, "read"):
            raise TypeError(f"an image cannot be read from a {type(source).__name__}")
        return _join(read_file(source, limits=limits))
    return _join(read_path(source, limits=limits))


def _join(chunks: Iterable[bytes]) -> bytes:
    file = io.BytesIO()  # `getvalue` makes no copy
    file.writelines(chunks)
    return file.getvalue()


def decode(data: bytes, *, limits: Limits = LIMITS) -> NDArray[np.uint8]:
    """Decode a file's bytes to upright 8-bit RGB, uint8 (h, w, 3), contiguous.

    Raises:
        FileRefused: one of its subclasses, with a message that says what to do.
    """
    image_format = detect(data)
    with decoder_errors(image_format):
        if image_format is Format.JPEG:
            return _decode_jpeg(data, limits)
        if image_format is Format.GIF:
            return _first_of_gif(data, limits)
        if image_format is Format.TIFF:
            return _decode_tiff(tiff.layout(data), limits)
        if image_format is Format.PNG and (first := _first_of_png(data)) is not None:
            size, frame, orientation = first
            return turn(_on_white(frame, size, Format.PNG, limits), orientation)
        image, orientation = _open(data, image_format, limits)
        del data
        return _pixels(image, orientation, limits)


def _decode_jpeg(data: bytes, limits: Limits) -> NDArray[np.uint8]:
    orientation = jpeg.read_orientation(data)
    if (header := jpeg.header(data)) is not None:
        width, height, colours = header
        check_size(width, height, limits)
        return turn(jpeg.decode(data, colours), orientation)
    pixels = jpeg.decode_rare(data, lambda file: _decode_frame(file, Format.JPEG, limits))
    return turn(pixels, orientation)


def _decode_tiff(stored: tiff.Layout, limits: Limits, *, raw: bool = False) -> NDArray[np.uint8]:
    """Decode a TIFF. Only its own orientation tag counts; viewers ignore the one in XMP."""

    def decoder(data: bytes) -> Image.Image:
        with _opening_warnings(Format.TIFF):
            image = TiffImageFile(io.BytesIO(data))
        # allocated here, since Pillow would apply its own pixel limit to what are bytes
        image.im = Image.new(image.mode, image.size, None).im
        image.load()
        return image

    check_size(stored.width, stored.height, limits)
    orientation = stored.page.value(274, 1)
    orientation = orientation if 1 <= orientation <= 8 else 1
    upright = _empty(stored.height, stored.width, orientation)
    view, top = _as_stored(upright, orientation), 0
    for band in tiff.rgb(stored, decoder, raw=raw):
        _copy(band, view[top : top + len(band)])
        top += len(band)
    return upright


def _decode_frame(data: bytes, image_format: Format, limits: Limits) -> NDArray[np.uint8]:
    return _pixels(_PLUGINS[image_format](io.BytesIO(data)), 1, limits)


def _first_of_gif(data: bytes, limits: Limits) -> NDArray[np.uint8]:
    size = animated.gif_size(data)
    check_size(*size, limits)
    return _on_white(next(animated.gif_frames(data)), size, Format.GIF, limits)


def _first_of_png(data: bytes) -> tuple[tuple[int, int], animated.Frame, int] | None:
    """Return size, first frame and orientation of a PNG whose default image is never shown."""
    still, orientation = png_pixels(data)
    first = animated.replacement_frame(data)
    if first is None:
        return None
    width, height = struct.unpack_from(">II", still, 16)
    return (width, height), first, orientation


def _on_white(
    frame: animated.Frame, size: tuple[int, int], image_format: Format, limits: Limits
) -> NDArray[np.uint8]:
    """Decode an animation's first frame, on a white canvas of the animation's size."""
    pixels = _decode_frame(frame.file, image_format, limits)
    width, height = size
    if pixels.shape[:2] == (height, width):
        return pixels
    check_size(width, height, limits)
    canvas = np.full((height, width, 3), 255, np.uint8)
    canvas[frame.top : frame.top + frame.height, frame.left : frame.left + frame.width] = pixels
    return canvas


def decode_raw(data: bytes, *, limits: Limits = LIMITS) -> NDArray[np.uint8] | None:
    """Decode a file's colours as if it were opaque; None if it has no alpha.

    Programs that drop alpha show these pixels, which may differ from what viewers show.

    Raises:
        FileRefused: one of its subclasses, with a message that says what to do.
    """
    image_format = detect(data)
    if image_format in {Format.JPEG, Format.BMP}:
        return None
    with decoder_errors(image_format):
        if image_format is Format.PNG and (first := _first_of_png(data)) is not None:
            data = first[1].file
        if image_format is Format.TIFF:
            stored = tiff.layout(data)
            return _decode_tiff(stored, limits, raw=True) if stored.alpha else None
        image, orientation = _open(data, image_format, limits)
        if not image.has_transparency_data:
            return None
        return _pixels(image, orientation, limits, raw=True)


def _open(data: bytes, image_format: Format, limits: Limits) -> tuple[Image.Image, int]:
    """Open a file that is not JPEG with Pillow; return the image and its EXIF orientation."""
    if image_format is Format.PNG:
        data, orientation = png_pixels(data)
    cropped = without_aperture(data) if image_format is Format.HEIC else None
    if cropped is not None:
        data, area, size = cropped
    with _opening_warnings(image_format):
        image: Image.Image = _PLUGINS[image_format](io.BytesIO(data))
    if image_format is not Format.PNG:
        # libheif rotates images itself, and pi_heif then resets the EXIF orientation
        orientation = formats.orientation(image.info.get("exif") or b"")
    if cropped is not None:
        check_size(*image.size, limits)
        image.load()
        if image.size != size:
            raise CorruptFile("This HEIC picture is damaged. Use another copy of the file.")
        image = image.crop(area)
    return image, orientation


def animation(data: bytes, *, limits: Limits = LIMITS) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Decode the frames of a GIF, PNG, WebP or AVIF that `decode` accepted; none of other formats.

    A damaged frame ends the iteration without an error, since the first frame was good.

    Yields:
        The time of each frame in seconds from the first, and its pixels, uint8 (h, w, 3), upright.
    """
    image_format = detect(data)
    if image_format not in {Format.GIF, Format.WEBP, Format.AVIF, Format.PNG}:
        return
    time = 0.0
    # decoders raise errors of nearly any type
    with suppress(Exception):
        frames = (
            _frames(data, limits) if image_format in _COMPOSED else _pillow_frames(data, limits)
        )
        for duration, pixels in frames:
            yield time, pixels
            # browsers show frames of less than 20 ms for 100 ms
            time += (duration if duration >= 20 else 100) / 1000


def _frames(data: bytes, limits: Limits) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield the frames of a GIF or PNG, each with its duration in milliseconds."""
    if detect(data) is Format.GIF:
        image_format, size, orientation, frames = (
            Format.GIF,
            animated.gif_size(data),
            1,
            animated.gif_frames(data),
        )
    else:
        still, orientation = png_pixels(data)
        width, height = struct.unpack_from(">II", still, 16)
        image_format, size, frames = Format.PNG, (width, height), animated.png_frames(data)
    check_size(*size, limits)
    for duration, rgba in animated.compose(
        size, frames, lambda file: _rgba(file, image_format, limits)
    ):
        yield duration, turn(np.ascontiguousarray(_flatten(rgba)), orientation)


def _rgba(data: bytes, image_format: Format, limits: Limits) -> NDArray[np.uint8]:
    """Decode a frame with its alpha, uint8 (h, w, 4)."""
    image = _PLUGINS[image_format](io.BytesIO(data))
    check_size(*image.size, limits)
    image.load()
    if not image.mode.startswith("I;16"):
        return np.asarray(image.convert("RGBA"))
    grey = np.asarray(image)
    alpha = np.where(grey == image.info.get("transparency", -1), 0, 255)
    return np.stack((*(grey >> 8,) * 3, alpha), axis=2).astype(np.uint8)


def _pillow_frames(data: bytes, limits: Limits) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield the frames of an animated WebP or AVIF, as `_frames` does."""
    image, orientation = _open(data, detect(data), limits)
    for number in range(int(getattr(image, "n_frames", 1))):
        image.seek(number)
        pixels = _pixels(image, orientation, limits)
        yield float(image.info.get("duration") or 0.0), pixels


def count_frames(data: bytes) -> int:
    """Return the number of images in a file that `decode` accepted: animation frames or pages.

    Nothing is decoded. If the rest of the file is damaged, return 1: the first image is still good.
    """
    image_format = detect(data)
    if image_format is Format.JPEG:
        return 1  # previews and depth maps after the image do not count
    frames = 1
    if image_format is Format.TIFF:
        return max(1, sum(not page.small for page in pages(data)))
    if image_format in _COMPOSED:
        walk = animated.gif_frames if image_format is Format.GIF else animated.png_frames
        with suppress(FileRefused):
            return max(1, sum(1 for _ in walk(data)))
    # decoders raise errors of nearly any type
    with (
        suppress(Exception),
        _opening_warnings(image_format),
        _PLUGINS[image_format](io.BytesIO(data)) as file,
    ):
        frames = int(getattr(file, "n_frames", 1))
    return max(1, frames)


@contextmanager
def decoder_errors(name: str) -> Iterator[None]:
    """Convert a decoder's errors to `FileRefused`, without their text.

    Raises:
        UnreadableFile: the program has set Pillow to accept truncated files.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise UnreadableFile(
            "This program sets PIL.ImageFile.LOAD_TRUNCATED_IMAGES, so Pillow would decode images "
            "that are cut off, and their hashes would be wrong. Set it to False, or use "
            "nciihash.sandbox."
        )
    try:
        yield
    except FileRefused:
        raise
    except (MemoryError, Image.DecompressionBombError) as error:
        raise TooLarge(
            f"Reading this {name} picture takes more memory than is allowed. {_SMALLER_COPY}"
        ) from error
    except (ImportError, PermissionError) as error:  # a module or system call denied by the sandbox
        raise ProgramFault.of(type(error).__name__) from error
    except Exception as error:  # decoders raise errors of nearly any type
        raise CorruptFile(
            f"This {name} picture is damaged, cut off or of a rare kind, so it was not hashed. "
            "Use another copy, or open it in a program that shows it and export it as JPEG or PNG."
        ) from error


_warnings_lock = threading.Lock()


@contextmanager
def _opening_warnings(image_format: Format) -> Iterator[None]:
    """Raise an error for the warnings with which Pillow opens a damaged TIFF file.

    Warning filters are global to the process, hence the lock, and hence only for formats that need
    it. AVIF is one because Pillow parses its EXIF as TIFF; garbage there is ignored.
    """
    if image_format not in {Format.TIFF, Format.AVIF}:
        yield
        return
    with _warnings_lock, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    if image_format is Format.TIFF and any("TiffImagePlugin" in w.filename for w in caught):
        raise CorruptFile(
            "The directory of this TIFF picture is damaged. Use another copy of the file, or open "
            "it in a program that shows it and export it as JPEG."
        )


def check_size(width: int, height: int, limits: Limits) -> None:
    """Check an image's size against the limits.

    Raises:
        TooLarge: it has more than `max_pixels`.
    """
    if width * height > limits.max_pixels:
        raise TooLarge(
            f"The picture has {width} x {height} pixels, {width * height / 1e6:.0f} megapixels; "
            f"the limit is {limits.max_pixels / 1e6:.0f}. {_SMALLER_COPY}"
        )


def _pixels(
    image: Image.Image, orientation: int, limits: Limits, *, raw: bool = False
) -> NDArray[np.uint8]:
    """Decode an image and copy it, band by band, as upright RGB into one array."""
    check_size(*image.size, limits)
    image.load()
    has_alpha = isinstance(image, BmpImageFile) and image.mode == "RGBA"
    if has_alpha and image.getchannel("A").getextrema() == (0, 0):
        image.putalpha(255)  # many programs leave alpha zero; Windows shows such files opaque
    check_size(*image.size, limits)  # again: libheif and libavif know the true size after decoding
    width, height = image.size
    upright = _empty(height, width, orientation)
    stored = _as_stored(upright, orientation)
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        _copy(_rgb(image.crop((0, top, width, bottom)), raw=raw), stored[top:bottom])
    return upright


def turn(stored: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Return an image upright, as a copy unless it is; `orientation` is EXIF's, 1 to 8."""
    if orientation == 1:
        return stored
    height, width = stored.shape[:2]
    upright = _empty(height, width, orientation)
    view = _as_stored(upright, orientation)
    for top in range(0, height, _STRIP):
        _copy(stored[top : top + _STRIP], view[top : top + _STRIP])
    return upright


def _empty(height: int, width: int, orientation: int) -> NDArray[np.uint8]:
    """Allocate the upright form of an image of this stored size."""
    return np.empty((width, height, 3) if orientation >= 5 else (height, width, 3), np.uint8)


def _copy(source: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
    """Copy pixels between memory layouts, per channel: NumPy is slow with an inner axis of 3."""
    if target.flags.c_contiguous:
        target[:] = source
    else:
        for colour in range(3):
            target[..., colour] = source[..., colour]


def _as_stored(upright: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Return a view of an upright image in the orientation in which its file stores it.

    `orientation` is EXIF's: 2 mirrored, 3 rotated by 180 degrees, 4 flipped vertically, 5 to 8 the
    same with rows and columns exchanged.
    """
    view = upright.transpose(1, 0, 2) if orientation >= 5 else upright
    if orientation in {2, 3, 7, 8}:
        view = view[:, ::-1]
    if orientation in {3, 4, 6, 7}:
        view = view[::-1]
    return view


def _rgb(image: Image.Image, *, raw: bool = False) -> NDArray[np.uint8]:
    """Convert a band to RGB, flattened on white, or as if opaque if `raw`.

    Raises:
        UnsupportedFormat: the pixels are measured values, not colours.
    """
    mode = image.mode
    if mode.startswith("I;16"):
        grey = np.asarray(image)
        if (clear := image.info.get("transparency")) is not None and not raw:
            grey = np.where(grey == clear, 0xFFFF, grey)
        return np.repeat((grey >> 8).astype(np.uint8)[:, :, np.newaxis], 3, axis=2)
    if mode in {"I", "F", "LAB"}:
        raise UnsupportedFormat(
            "The picture stores measured values, not colours. Open it in a program that shows it "
            "and export it as JPEG or PNG."
        )
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        return rgba[:, :, :3] if raw else _flatten(rgba)
    return np.asarray(image if mode == "RGB" else image.convert("RGB"))


def _flatten(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Flatten RGBA on white: uint8 (h, w, 4) to (h, w, 3)."""
    colour, alpha = rgba[:, :, :3], rgba[:, :, 3:].astype(np.uint16)
    if alpha.min() == 255:
        return colour
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
