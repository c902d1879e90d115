"""Read a picture: a file, bytes, a Pillow image or an array, to upright 8-bit RGB pixels.

One definition of what a picture looks like: EXIF orientation applied, no colour management, alpha
flattened on white, the first frame of an animation. A file that is cut off, damaged or too large is
refused aloud, never hashed by halves.

Pillow's format classes are called directly, chosen by `nciihash.media.formats.detect`: no other
decoder can be reached, nothing is registered, and the limits are ours rather than Pillow's global
ones.
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
from nciihash.media.formats import Format, detect, orientation, png_pixels
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
_COMPOSED: Final = {Format.GIF, Format.PNG}  # whose frames are put together here
_NEARLY: Final = "its hash is nearly the same"
_BAND: Final = 1 << 20  # pixels that are converted at once, so that a large picture needs no copies
_STRIP: Final = 64  # rows that are turned at once, so that they stay in the processor's cache


def read_pixels(source: Source, *, limits: Limits = LIMITS) -> NDArray[np.uint8]:
    """Read a picture as upright 8-bit RGB.

    Args:
        source: a path, a file's bytes, a binary file (read from where it stands), a Pillow image
            (its current frame) or an array, uint8 (h, w, 3), which is returned as it is.
        limits: what the file may cost.

    Returns:
        uint8 (h, w, 3), contiguous unless it came as an array.

    Raises:
        FileRefused: one of its subclasses, with a sentence that says what to do.
        InvalidPixels: an array of another dtype or shape, or without pixels.
        TypeError: the source is none of these.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or not source.size:
            raise InvalidPixels(
                "Give the pixels as a uint8 array of shape (height, width, 3), at least one pixel."
            )
        return source
    if isinstance(source, Image.Image):
        with decoder_errors("image"):
            return _pixels(source, orientation(source.info.get("exif") or b""), limits)
    data = source if isinstance(source, bytes) else read_bytes(source, limits=limits)
    return decode(data, limits=limits)


def read_bytes(source: str | os.PathLike[str] | BinaryIO, *, limits: Limits = LIMITS) -> bytes:
    """Read a whole file once, so that every hash of it is of the same bytes.

    Args:
        source: a path, or a binary file, which is read from where it stands.
        limits: `max_bytes` holds.

    Raises:
        NotAFile: nothing is there, or a directory or a device.
        UnreadableFile: the system refuses to open or read it.
        TooLarge: more bytes than the limits allow.
        TypeError: the source is none of these, or a file opened as text.
    """
    if not isinstance(source, str | os.PathLike):
        if not hasattr(source, "read"):
            raise TypeError(f"a picture cannot be read from a {type(source).__name__}")
        return _joined(read_file(source, limits=limits))
    return _joined(read_path(source, limits=limits))


def _joined(chunks: Iterable[bytes]) -> bytes:
    file = io.BytesIO()  # gives what it holds without another copy
    file.writelines(chunks)
    return file.getvalue()


def decode(data: bytes, *, limits: Limits = LIMITS) -> NDArray[np.uint8]:
    """Decode a file's bytes to upright 8-bit RGB, uint8 (h, w, 3), contiguous.

    Raises:
        FileRefused: one of its subclasses, with a sentence that says what to do.
    """
    format = detect(data)
    turned = 1
    with decoder_errors(format):
        if format is Format.JPEG:
            turned = jpeg.turned(data)
            if (known := jpeg.header(data)) is not None:
                width, height, colours = known
                check_size(width, height, limits)
                return turn(jpeg.decode(data, colours), turned)
            return turn(jpeg.decode_rare(data, lambda file: _alone(file, format, limits)), turned)
        if format is Format.GIF:
            return _first_of_gif(data, limits)
        if format is Format.TIFF:
            return _of_tiff(tiff.layout(data), limits)
        if format is Format.PNG and (hidden := _first_of_png(data)) is not None:
            size, first, turned = hidden
            return turn(_placed(first, size, Format.PNG, limits), turned)
        image, turned = _opened(data, format, turned, limits)
        del data
        return _pixels(image, turned, limits)


def _of_tiff(stored: tiff.Layout, limits: Limits, *, raw: bool = False) -> NDArray[np.uint8]:
    """Decode a TIFF. Its orientation is the tag's own: that of XMP, which nobody reads, is not."""

    def decoder(data: bytes) -> Image.Image:
        with _opening_warnings(Format.TIFF):
            image = TiffImageFile(io.BytesIO(data))
        # room for it; else Pillow would hold its own limit against what are bytes, not pixels
        image.im = Image.new(image.mode, image.size, None).im
        image.load()
        return image

    check_size(stored.width, stored.height, limits)
    turned = stored.page.value(274, 1)
    turned = turned if 1 <= turned <= 8 else 1
    upright = _empty(stored.height, stored.width, turned)
    view, top = _as_stored(upright, turned), 0
    for band in tiff.rgb(stored, decoder, raw=raw):
        _copy(band, view[top : top + len(band)])
        top += len(band)
    return upright


def _alone(data: bytes, format: Format, limits: Limits) -> NDArray[np.uint8]:
    return _pixels(_PLUGINS[format](io.BytesIO(data)), 1, limits)


def _first_of_gif(data: bytes, limits: Limits) -> NDArray[np.uint8]:
    size = animated.gif_size(data)
    check_size(*size, limits)
    return _placed(next(animated.gif_frames(data)), size, Format.GIF, limits)


def _first_of_png(data: bytes) -> tuple[tuple[int, int], animated.Frame, int] | None:
    """Find the first frame of a PNG whose first image is not shown: size, frame, orientation."""
    still, turned = png_pixels(data)
    first = animated.png_instead(data)
    if first is None:
        return None
    width, height = struct.unpack_from(">II", still, 16)
    return (width, height), first, turned


def _placed(
    frame: animated.Frame, size: tuple[int, int], format: Format, limits: Limits
) -> NDArray[np.uint8]:
    """Decode an animation's first frame, and put it on white paper where it does not fill it."""
    pixels = _alone(frame.file, format, limits)
    width, height = size
    if pixels.shape[:2] == (height, width):
        return pixels
    check_size(width, height, limits)
    paper = np.full((height, width, 3), 255, np.uint8)
    paper[frame.top : frame.top + frame.height, frame.left : frame.left + frame.width] = pixels
    return paper


def decode_raw(data: bytes, *, limits: Limits = LIMITS) -> NDArray[np.uint8] | None:
    """Decode a file's colours as if nothing were transparent; None where the file has no alpha.

    Programs that drop alpha see these pixels, which may show what no person sees.

    Raises:
        FileRefused: one of its subclasses, with a sentence that says what to do.
    """
    format = detect(data)
    if format in {Format.JPEG, Format.BMP}:
        return None
    with decoder_errors(format):
        if format is Format.PNG and (hidden := _first_of_png(data)) is not None:
            data = hidden[1].file
        if format is Format.TIFF:
            stored = tiff.layout(data)
            return _of_tiff(stored, limits, raw=True) if stored.alpha else None
        image, turned = _opened(data, format, 1, limits)
        if not image.has_transparency_data:
            return None
        return _pixels(image, turned, limits, raw=True)


def _opened(data: bytes, format: Format, turned: int, limits: Limits) -> tuple[Image.Image, int]:
    """Open a file with Pillow; give its EXIF orientation with it, which for JPEG is known."""
    if format is Format.PNG:
        data, turned = png_pixels(data)
    cropped = without_aperture(data) if format is Format.HEIC else None
    if cropped is not None:
        data, area, size = cropped
    with _opening_warnings(format):
        image: Image.Image = _PLUGINS[format](io.BytesIO(data))
    if format not in {Format.JPEG, Format.PNG}:
        # libheif turns pictures itself, and pi_heif then resets the orientation it leaves here
        turned = orientation(image.info.get("exif") or b"")
    if cropped is not None:
        check_size(*image.size, limits)
        image.load()
        if image.size != size:
            raise CorruptFile("This HEIC picture is damaged. Use another copy of the file.")
        image = image.crop(area)
    return image, turned


def animation(data: bytes, *, limits: Limits = LIMITS) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Decode an animated GIF, PNG, WebP or AVIF that `decode` has read; nothing of any other file.

    A frame that is damaged ends it without complaint, for the first one was good.

    Yields:
        The time of each frame in seconds from the first, and its pixels, uint8 (h, w, 3), upright.
    """
    format = detect(data)
    if format not in {Format.GIF, Format.WEBP, Format.AVIF, Format.PNG}:
        return
    time = 0.0
    # decoders raise nearly every type there is
    with suppress(Exception):
        frames = _frames(data, limits) if format in _COMPOSED else _pillows_frames(data, limits)
        for duration, pixels in frames:
            yield time, pixels
            # browsers show what claims to be shorter than 20 ms for 100 ms
            time += (duration if duration >= 20 else 100) / 1000


def _frames(data: bytes, limits: Limits) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Give the frames of a GIF or PNG, each with how long it is shown, in milliseconds."""
    if detect(data) is Format.GIF:
        format, size, turned, frames = (
            Format.GIF,
            animated.gif_size(data),
            1,
            animated.gif_frames(data),
        )
    else:
        still, turned = png_pixels(data)
        width, height = struct.unpack_from(">II", still, 16)
        format, size, frames = Format.PNG, (width, height), animated.png_frames(data)
    check_size(*size, limits)
    for duration, rgba in animated.composed(size, frames, lambda file: _rgba(file, format, limits)):
        yield duration, turn(np.ascontiguousarray(_flat(rgba)), turned)


def _rgba(data: bytes, format: Format, limits: Limits) -> NDArray[np.uint8]:
    """Decode a frame with its transparency, uint8 (h, w, 4)."""
    image = _PLUGINS[format](io.BytesIO(data))
    check_size(*image.size, limits)
    image.load()
    if not image.mode.startswith("I;16"):
        return np.asarray(image.convert("RGBA"))
    grey = np.asarray(image)
    alpha = np.where(grey == image.info.get("transparency", -1), 0, 255)
    return np.stack((*(grey >> 8,) * 3, alpha), axis=2).astype(np.uint8)


def _pillows_frames(data: bytes, limits: Limits) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Give the frames of an animated WebP or AVIF, as `_frames` does."""
    image, turned = _opened(data, detect(data), 1, limits)
    for number in range(int(getattr(image, "n_frames", 1))):
        image.seek(number)
        pixels = _pixels(image, turned, limits)
        yield float(image.info.get("duration") or 0.0), pixels


def count_frames(data: bytes) -> int:
    """Count the pictures in a file that `decode` has read: frames of an animation, or pages.

    Only the first is decoded. What comes after it may be damaged, which is no reason to refuse the
    first: then it counts as one.
    """
    format = detect(data)
    if format is Format.JPEG:
        return 1  # previews and depth maps may follow the picture, and are none of their own
    frames = 1
    if format is Format.TIFF:
        return max(1, sum(not page.small for page in pages(data)))
    if format in _COMPOSED:
        walk = animated.gif_frames if format is Format.GIF else animated.png_frames
        with suppress(FileRefused):
            return max(1, sum(1 for _ in walk(data)))
    # decoders raise nearly every type there is
    with suppress(Exception), _opening_warnings(format), _PLUGINS[format](io.BytesIO(data)) as file:
        frames = int(getattr(file, "n_frames", 1))
    return max(1, frames)


@contextmanager
def decoder_errors(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises into one of our errors, without its text.

    Raises:
        UnreadableFile: the program has told Pillow to accept files that are cut off.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise UnreadableFile(
            "This program has told Pillow to accept pictures that are cut off, which must not be "
            "hashed. Set PIL.ImageFile.LOAD_TRUNCATED_IMAGES to False, or use nciihash.sandbox."
        )
    try:
        yield
    except FileRefused:
        raise
    except (MemoryError, Image.DecompressionBombError) as error:
        raise TooLarge(
            f"Reading this {name} picture takes more memory than is allowed. "
            f"Save a smaller copy and hash that: {_NEARLY}."
        ) from error
    except (ImportError, PermissionError) as error:  # a module or a call that the sandbox lacks
        raise ProgramFault.of(type(error).__name__) from error
    except Exception as error:  # decoders raise nearly every type there is
        raise CorruptFile(
            f"This {name} picture is damaged, cut off or of a rare kind, so it was not hashed. "
            "Use another copy, or export it anew as JPEG or PNG."
        ) from error


_warnings_lock = threading.Lock()


@contextmanager
def _opening_warnings(format: Format) -> Iterator[None]:
    """Make an error of a warning with which Pillow opens a damaged TIFF file all the same.

    The list of warning filters is the whole process's, hence the lock, and hence only the formats
    that need it: AVIF's EXIF is parsed as TIFF, and may be garbage without harm.
    """
    if format not in {Format.TIFF, Format.AVIF}:
        yield
        return
    with _warnings_lock, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    if format is Format.TIFF and any("TiffImagePlugin" in w.filename for w in caught):
        raise CorruptFile(
            "This TIFF picture's directory is damaged. Use another copy, or export it as JPEG."
        )


def check_size(width: int, height: int, limits: Limits) -> None:
    """Refuse a picture that has more pixels than the limits allow.

    Raises:
        TooLarge: it has.
    """
    if width * height > limits.max_pixels:
        raise TooLarge(
            f"The picture has {width} x {height} pixels, {width * height / 1e6:.0f} megapixels; "
            f"up to {limits.max_pixels / 1e6:.0f} are read. "
            f"Save a smaller copy and hash that: {_NEARLY}."
        )


def _pixels(
    image: Image.Image, turned: int, limits: Limits, *, raw: bool = False
) -> NDArray[np.uint8]:
    """Decode, convert and turn a picture, band by band into the one array that is returned."""
    check_size(*image.size, limits)
    image.load()
    hidden = isinstance(image, BmpImageFile) and image.mode == "RGBA"
    if hidden and image.getchannel("A").getextrema() == (0, 0):
        image.putalpha(255)  # as many programs leave it; Windows shows it opaque
    check_size(*image.size, limits)  # libheif and libavif learn the true size while they decode
    width, height = image.size
    upright = _empty(height, width, turned)
    stored = _as_stored(upright, turned)
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        _copy(_rgb(image.crop((0, top, width, bottom)), raw=raw), stored[top:bottom])
    return upright


def turn(stored: NDArray[np.uint8], turned: int) -> NDArray[np.uint8]:
    """Copy a picture upright, unless it is; `turned` is its EXIF orientation, 1 to 8."""
    if turned == 1:
        return stored
    height, width = stored.shape[:2]
    upright = _empty(height, width, turned)
    view = _as_stored(upright, turned)
    for top in range(0, height, _STRIP):
        _copy(stored[top : top + _STRIP], view[top : top + _STRIP])
    return upright


def _empty(height: int, width: int, turned: int) -> NDArray[np.uint8]:
    """Make room for the upright form of a picture that is stored with this size."""
    return np.empty((width, height, 3) if turned >= 5 else (height, width, 3), np.uint8)


def _copy(source: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
    """Copy pixels between two orders; by colours, for NumPy is slow where the inner axis is 3."""
    if target.flags.c_contiguous:
        target[:] = source
    else:
        for colour in range(3):
            target[..., colour] = source[..., colour]


def _as_stored(upright: NDArray[np.uint8], turned: int) -> NDArray[np.uint8]:
    """View an upright picture as its file stores it.

    `turned` is the EXIF orientation: 2 mirrored, 3 half a turn, 4 upside down, 5 to 8 the same with
    rows and columns exchanged.
    """
    view = upright.transpose(1, 0, 2) if turned >= 5 else upright
    if turned in {2, 3, 7, 8}:
        view = view[:, ::-1]
    if turned in {3, 4, 6, 7}:
        view = view[::-1]
    return view


def _rgb(image: Image.Image, *, raw: bool = False) -> NDArray[np.uint8]:
    """Convert one band to RGB as a person sees it on a white page, or `raw`, without its alpha.

    Raises:
        UnsupportedFormat: pixels that are measurements rather than colours.
    """
    mode = image.mode
    if mode.startswith("I;16"):
        grey = np.asarray(image)
        if (clear := image.info.get("transparency")) is not None and not raw:
            grey = np.where(grey == clear, 0xFFFF, grey)
        return np.repeat((grey >> 8).astype(np.uint8)[:, :, np.newaxis], 3, axis=2)
    if mode in {"I", "F", "LAB"}:
        raise UnsupportedFormat(
            "The picture stores measured values rather than colours. Export it as JPEG or PNG."
        )
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        return rgba[:, :, :3] if raw else _flat(rgba)
    return np.asarray(image if mode == "RGB" else image.convert("RGB"))


def _flat(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put colours with alpha on white paper: uint8 (h, w, 4) to (h, w, 3)."""
    colour, alpha = rgba[:, :, :3], rgba[:, :, 3:].astype(np.uint16)
    if alpha.min() == 255:
        return colour
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
