"""Hash one image or video file to signals, decoding it in the calling process.

`nciihash.sandbox.hash_file` does the same in a confined child process; use that for untrusted
files.
"""

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nciihash import pdq
from nciihash.errors import UnsupportedFormat
from nciihash.hashing import frame_selection, jpeg, reduced_jpeg
from nciihash.hashing.frames import frames_max, item_of, select_frames, select_from_animation
from nciihash.hashing.image import (
    Source,
    animation,
    check_size,
    count_frames,
    decode,
    decode_raw,
    decoder_errors,
    read_bytes,
    read_pixels,
)
from nciihash.media.formats import JPEG_START, Format, holds_video, video_format
from nciihash.media.limits import LIMITS, Limits
from nciihash.media.reading import HEAD, check_video_size, open_file
from nciihash.media.structure import check_whole
from nciihash.signals import (
    FILE_SIGNAL_TYPES,
    Hashed,
    Item,
    Level,
    Media,
    Signal,
    SignalType,
    VariantSet,
)
from nciihash.windows import Part

if TYPE_CHECKING:
    from nciihash.hashing.trimming import Region

VARIANTS: Final = tuple(each.value for each in VariantSet)
LEVELS: Final = tuple(each.value for each in Level)
_IMAGEHASHS: Final = frozenset((SignalType.PHASH, SignalType.DHASH))


def hash_image(source: Source, *, fast: bool = False, limits: Limits = LIMITS) -> Hashed:
    """Hash an image with PDQ.

    Args:
        source: a path, a file's bytes, a binary file, a Pillow image, or an upright array, uint8
            (h, w, 3). A JPEG of more than `max_pixels` is always hashed as with `fast`.
        fast: decode large JPEG files at a reduced size, which is many times faster and differs from
            the exact hash by up to 4 bits. All other images get their exact hash.
        limits: bounds on the file.

    Returns:
        The hash with its quality; do not submit it if it is `plain`.

    Raises:
        FileRefused: one of its subclasses, with a message that says what to do.
        InvalidPixels: the array has another dtype or shape, or no pixels.
        TypeError: the source is of another type.
    """
    if not isinstance(source, Image.Image | np.ndarray | bytes):
        source = read_bytes(source, limits=limits)
    if isinstance(source, bytes):
        reduced = _hash_reduced(source, limits, min_pixels=0 if fast else limits.max_pixels + 1)
        if reduced is not None:
            return reduced.analysis.hashed()
    return pdq.analyse(read_pixels(source, limits=limits)).hashed()


def hash_file(
    path: str | os.PathLike[str],
    *,
    variants: str = "none",
    signals: Sequence[SignalType] = (SignalType.PDQ,),
    fast: bool = False,
    level: Level | None = None,
    limits: Limits = LIMITS,
) -> Item:
    """Hash an image, animation or video file; its format is detected from its content.

    Videos and animations are hashed frame by frame, four times a second, each hash with its time.
    Frames that are plain, or within 15 bits of the last one kept, are skipped. If there would be
    more frames than the caps in `nciihash.hashing.frame_selection`, the video is sampled less
    often; `every` in the result is the interval in seconds. With `variants="match"`, up to every
    frame is hashed during fast motion, and all hashes of one quarter second share its time, since
    the original was sampled once in each.

    Args:
        path: the file.
        variants: which altered copies to hash with PDQ too. "standard" (up to 26), "full" (up to
            65) and "thorough" (up to 43) are for submissions. "match" is for queries: the picture
            within its frame, if it has one. They follow the image's own hash, which all others
            omit for a screenshot: see `nciihash.hashing.variants.hash_variants`.
        signals: the types of hash to compute; the hashes are in this order. `md5` and `sha256` are
            of the file's bytes. `phash` and `dhash` are ImageHash's, of the upright image; videos
            have none.
        fast: as in `hash_image`, and for variants too. Ignored if `phash` or `dhash` is requested,
            since they need the full-size image.
        level: how thoroughly to search for the file. The result then has `parts`, the small copies
            that `nciihash.Matcher` needs; those of a video or an animation are from up to 16
            frames, evenly spread (`nciihash.hashing.frame_parts`). It is for queries only, with
            `variants="match"` and PDQ. Without a level there are no parts.
        limits: bounds on the file.

    Raises:
        FileRefused: one of its subclasses, with a message that says what to do. A file that is not
            a readable image or video is refused even if only digests are requested.
        ValueError: unknown variants, no signals, or a level without what it needs.
    """
    check_request(variants, signals, level)
    with open_file(path) as (file, size):
        if video_format(file.read(HEAD)):
            check_video_size(size, limits)
            file.seek(0)
            return hash_video(file, variants=variants, signals=signals, level=level, limits=limits)
    data = read_bytes(path, limits=limits)
    return hash_bytes(
        data, variants=variants, signals=signals, fast=fast, level=level, limits=limits
    )


def hash_bytes(
    data: bytes,
    *,
    variants: str = "none",
    signals: Sequence[SignalType] = (SignalType.PDQ,),
    fast: bool = False,
    level: Level | None = None,
    limits: Limits = LIMITS,
) -> Item:
    """Hash a file's bytes as `hash_file` does; no file is opened.

    Raises:
        FileRefused: one of its subclasses, with a message that says what to do.
        ValueError: unknown variants, no signals, or a level without what it needs.
    """
    check_request(variants, signals, level)
    if video_format(data):
        file = io.BytesIO(data)
        return hash_video(file, variants=variants, signals=signals, level=level, limits=limits)
    fast = fast and not _IMAGEHASHS & set(signals)
    reduced = _hash_reduced(data, limits, min_pixels=0 if fast else limits.max_pixels + 1)
    rgb = decode(data, limits=limits) if reduced is None else reduced.rgb
    frames = animation(data, limits=limits)
    first_two = list(islice(frames, 2))
    if len(first_two) == 2:
        shown = chain(first_two, frames)
        return _hash_animation(data, rgb, shown, variants, signals, level, limits)
    region: Region | None = None
    small: NDArray[np.uint8] | None = None
    if variants == "match" and SignalType.PDQ in signals:
        # imported here because OpenCV takes 0.2 s to load
        from nciihash.hashing.trimming import reduce, trim

        small = reduce(rgb)
        region = trim(rgb, small)
    hashes: list[Hashed] = []
    for type in signals:
        if type is SignalType.PDQ and reduced is not None:
            own = reduced.analysis.hashed()
        else:
            own = _hash(type, data, rgb)
        if type is not SignalType.PDQ or variants == "none":
            hashes.append(own)
        else:
            from nciihash.hashing.variants import hash_trimmed, hash_variants

            scale = 1 if reduced is None else reduced.scale
            if variants == "match":
                hashes += hash_trimmed(rgb, own, region, scale)
            else:
                raw = decode_raw(data, limits=limits)
                hashes += hash_variants(rgb, own, variants, raw, scale)
    parts: tuple[Part, ...] = ()
    if level is not None:
        from nciihash.hashing.parts import query_parts

        parts = query_parts(rgb, level, region, copy=small)
    return Item(
        Media.IMAGE,
        tuple(hashes),
        count_frames(data),
        reduced=reduced is not None,
        motion=holds_video(data),
        parts=parts,
    )


def hash_video(
    file: BinaryIO,
    *,
    variants: str = "none",
    signals: Sequence[SignalType] = (SignalType.PDQ,),
    level: Level | None = None,
    limits: Limits = LIMITS,
) -> Item:
    """Hash a video as `hash_file` does, reading it in chunks and never whole into memory.

    Args:
        file: binary and seekable, at its beginning.
        variants: as in `hash_file`.
        signals: as in `hash_file`.
        level: as in `hash_file`.
        limits: as in `hash_file`.

    Raises:
        FileRefused: one of its subclasses, with a message that says what to do.
        ValueError: unknown variants, no signals, or a level without what it needs.
    """
    from nciihash.hashing import video  # loads FFmpeg and OpenCV

    check_request(variants, signals, level)
    if _IMAGEHASHS & set(signals):
        raise UnsupportedFormat(
            "This is a video, and phash and dhash are for pictures only. Use pdq, md5 or sha256."
        )
    container_format = video_format(file.read(HEAD))
    if container_format is None:
        raise UnsupportedFormat(
            "This is not a video in a format that this program can read. "
            "Open it in a program that plays it, export it as MP4 (H.264) and try again."
        )
    with video.decoder_errors():
        check_whole(file, container_format)
    file.seek(0)
    with video.open_video(
        file, container_format, frame_selection.SAMPLE_INTERVAL, limits
    ) as source:
        close = variants == "match" and source.every == frame_selection.SAMPLE_INTERVAL
        loop = 0 < source.seconds <= frame_selection.SAMPLE_INTERVAL
        selector = frame_selection.FrameSelector(
            frames_max(variants), source.every, close=close, loop=loop
        )
        frames = ((f.analysis, f.rgb) for f in source.frames(selector.due))
        parts = select_frames(selector, frames, variants, level)
    return item_of(selector, signals, variants, parts, lambda wanted: _digest(wanted, file))


def _hash_animation(
    data: bytes,
    rgb: NDArray[np.uint8],
    frames: Iterator[tuple[float, NDArray[np.uint8]]],
    variants: str,
    signals: Sequence[SignalType],
    level: Level | None,
    limits: Limits,
) -> Item:
    """Hash an animated image like a video; ImageHash's hashes are of its first frame."""
    selector, parts = select_from_animation(frames, variants, level, loop=False)
    if selector.latest < frame_selection.SAMPLE_INTERVAL:
        frames = animation(data, limits=limits)
        selector, parts = select_from_animation(frames, variants, level, loop=True)
    return item_of(selector, signals, variants, parts, lambda wanted: _hash(wanted, data, rgb))


def _digest(type: SignalType, file: BinaryIO) -> Hashed:
    """Return the MD5 or SHA-256 of a whole file, read in chunks."""
    file.seek(0)
    digest = hashlib.md5(usedforsecurity=False) if type is SignalType.MD5 else hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return Hashed(Signal(type, digest.digest()))


def check_request(variants: str, signals: Sequence[SignalType], level: Level | None = None) -> None:
    """Check the arguments of `hash_file` before any file is opened.

    Raises:
        ValueError: unknown variants, no signals, or a level without what it needs.
    """
    if variants not in VARIANTS:
        raise ValueError(f"variants={variants!r} is unknown: use one of {', '.join(VARIANTS)}")
    if not set(signals) <= set(FILE_SIGNAL_TYPES):
        raise ValueError(f"a file can be hashed to {', '.join(FILE_SIGNAL_TYPES)} only")
    if not signals:
        raise ValueError("pass at least one type of signal, for example SignalType.PDQ")
    if level is None:
        return
    if level not in LEVELS:
        raise ValueError(f"level={level!r} is unknown: use one of {', '.join(LEVELS)}")
    if variants != VariantSet.MATCH or SignalType.PDQ not in signals:
        raise ValueError('a level is for queries: pass variants="match" too, and SignalType.PDQ')


def _hash(type: SignalType, data: bytes, rgb: NDArray[np.uint8]) -> Hashed:
    match type:
        case SignalType.PDQ:
            return pdq.analyse(rgb).hashed()
        case SignalType.PHASH | SignalType.DHASH:
            return Hashed(Signal(type, _imagehash(type, rgb)))
        case SignalType.MD5:
            # for lookups in platforms' MD5 lists, not for security
            return Hashed(Signal(type, hashlib.md5(data, usedforsecurity=False).digest()))
        case SignalType.SHA256:
            return Hashed(Signal(type, hashlib.sha256(data).digest()))
        case _:
            raise ValueError(f"a file cannot be hashed to {type}")


def _hash_reduced(
    data: bytes, limits: Limits, *, min_pixels: int
) -> reduced_jpeg.ReducedPicture | None:
    """Hash a JPEG at a reduced size; None for other formats and for fewer than `min_pixels`."""
    if not data.startswith(JPEG_START):
        return None
    with decoder_errors(Format.JPEG):
        width, height, colours = jpeg.header(data) or (0, 0, "")
        if width * height < min_pixels or colours not in {"YCbCr", "Gray"}:
            return None
        orientation = jpeg.read_orientation(data)
        check_size(width, height, replace(limits, max_pixels=limits.reduced_pixels))
        return reduced_jpeg.hash_jpeg(data, width, height, orientation)


def _imagehash(type: SignalType, rgb: NDArray[np.uint8]) -> bytes:
    """Hash with ImageHash's defaults, 8 x 8 bits, as the bytes of its hexadecimal digits."""
    import imagehash  # imported here because it loads SciPy, which takes 0.3 s

    compute = imagehash.phash if type is SignalType.PHASH else imagehash.dhash
    return bytes.fromhex(str(compute(Image.fromarray(rgb))))
