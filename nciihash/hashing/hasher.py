"""Hash one picture or video: to signals. This decodes in the process that calls it.

`nciihash.sandbox.hash_file` does the same in a child process that can do no harm; use that for
files from strangers.
"""

import hashlib
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nciihash import pdq
from nciihash.errors import UnsupportedFormat
from nciihash.hashing import frame_selection, jpeg, reduced_jpeg
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
from nciihash.media.reading import HEAD, check_video_size, opened
from nciihash.media.structure import check_whole
from nciihash.signals import (
    MADE,
    Hashed,
    Item,
    Media,
    Signal,
    SignalType,
    Variant,
    VariantSet,
)

VARIANTS: Final = tuple(each.value for each in VariantSet)
_IMAGEHASHS: Final = frozenset((SignalType.PHASH, SignalType.DHASH))


def hash_image(source: Source, *, fast: bool = False, limits: Limits = LIMITS) -> Hashed:
    """Hash a picture with PDQ.

    Args:
        source: a path, a file's bytes, a binary file, a Pillow image, or an array, uint8 (h, w, 3),
            upright. A JPEG of more than `max_pixels` is hashed as `fast` does either way.
        fast: allow up to 4 bits of difference for speed, which large JPEG files give; for anything
            else the exact hash is computed either way.
        limits: what the file may cost.

    Returns:
        The hash with its quality; `plain` tells whether it is fit to be submitted.

    Raises:
        FileRefused: one of its subclasses, with a sentence that says what to do.
        InvalidPixels: an array of another dtype or shape, or without pixels.
        TypeError: the source is none of these.
    """
    if not isinstance(source, Image.Image | np.ndarray | bytes):
        source = read_bytes(source, limits=limits)
    if isinstance(source, bytes):
        looked = _look(source, limits, least=0 if fast else limits.max_pixels + 1)
        if looked is not None:
            return _hashed(looked.analysis)
    return _hashed(pdq.analyse(read_pixels(source, limits=limits)))


def hash_file(
    path: str | os.PathLike[str],
    *,
    variants: str = "none",
    signals: Sequence[SignalType] = (SignalType.PDQ,),
    fast: bool = False,
    limits: Limits = LIMITS,
) -> Item:
    """Hash a file: a picture, an animation or a video, as its content says.

    Of a video and an animation, frames are hashed, four a second, each with its time; such as are
    plain or within 15 bits of the last are left out. Of a film that is so long or so lively that
    there would be more than the caps in `nciihash.hashing.frame_selection`, frames are taken less
    often, and `every` in the result says how often. With `variants="match"` up to every frame is
    hashed where much moves, and all frames of a quarter second have its time: the original was
    looked at during one.

    Args:
        path: the file.
        variants: which altered copies to hash with PDQ as well. "standard", up to 26, and "full",
            up to 65, are what a case is opened with. "match" is for looking copies up: the picture
            within its frame, where it has one. They follow the picture's own hash, which the first
            two leave out of a screenshot's: see `nciihash.hashing.variants.hash_variants`.
        signals: which types of hash to make; the result has them in this order. `md5` and `sha256`
            identify this very file. `phash` and `dhash` are ImageHash's, of the upright picture,
            and of no video.
        fast: as in `hash_image`, altered copies too; it does nothing where ImageHash's hashes are
            asked for, which are always of the whole picture.
        limits: what the file may cost.

    Raises:
        FileRefused: one of its subclasses, with a sentence that says what to do. A file that is no
            readable picture or video is refused even if only digests are asked for.
        ValueError: unknown variants, or no signals.
    """
    check_request(variants, signals)
    with opened(path) as (file, size):
        if video_format(file.read(HEAD)):
            check_video_size(size, limits)
            file.seek(0)
            return hash_video(file, variants=variants, signals=signals, limits=limits)
    data = read_bytes(path, limits=limits)
    return hash_bytes(data, variants=variants, signals=signals, fast=fast, limits=limits)


def hash_bytes(
    data: bytes,
    *,
    variants: str = "none",
    signals: Sequence[SignalType] = (SignalType.PDQ,),
    fast: bool = False,
    limits: Limits = LIMITS,
) -> Item:
    """Hash a file's bytes as `hash_file` does; no file is opened.

    Raises:
        FileRefused: one of its subclasses, with a sentence that says what to do.
        ValueError: unknown variants, or no signals.
    """
    check_request(variants, signals)
    if video_format(data):
        return hash_video(io.BytesIO(data), variants=variants, signals=signals, limits=limits)
    fast = fast and not _IMAGEHASHS & set(signals)
    looked = _look(data, limits, least=0 if fast else limits.max_pixels + 1)
    rgb = decode(data, limits=limits) if looked is None else looked.rgb
    frames = animation(data, limits=limits)
    first = list(islice(frames, 2))
    if len(first) == 2:
        return _hash_animation(data, rgb, chain(first, frames), variants, signals, limits)
    hashes: list[Hashed] = []
    for type in signals:
        if type is SignalType.PDQ and looked is not None:
            own = _hashed(looked.analysis)
        else:
            own = _hash(type, data, rgb)
        if type is not SignalType.PDQ or variants == "none":
            hashes.append(own)
        else:
            # loads OpenCV, which takes a fifth of a second
            from nciihash.hashing.variants import hash_variants

            raw = None if variants == "match" else decode_raw(data, limits=limits)
            scale = 1 if looked is None else looked.scale
            hashes += hash_variants(rgb, own, variants, raw, scale)
    return Item(
        Media.IMAGE,
        tuple(hashes),
        count_frames(data),
        reduced=looked is not None,
        motion=holds_video(data),
    )


def hash_video(
    file: BinaryIO,
    *,
    variants: str = "none",
    signals: Sequence[SignalType] = (SignalType.PDQ,),
    limits: Limits = LIMITS,
) -> Item:
    """Hash a video as `hash_file` does; it is read piece by piece, and never held as a whole.

    Args:
        file: binary and seekable, at its beginning.
        variants: as in `hash_file`.
        signals: as in `hash_file`.
        limits: as in `hash_file`.

    Raises:
        FileRefused: one of its subclasses, with a sentence that says what to do.
        ValueError: unknown variants, or no signals.
    """
    from nciihash.hashing import video  # loads FFmpeg and OpenCV

    check_request(variants, signals)
    if _IMAGEHASHS & set(signals):
        raise UnsupportedFormat("This is a video: phash and dhash are made of pictures alone.")
    format = video_format(file.read(HEAD))
    if format is None:
        raise UnsupportedFormat("This is not a video in a format that can be opened here.")
    with video.decoder_errors():
        check_whole(file, format)
    file.seek(0)
    with video.opened(file, format, frame_selection.EVERY, limits) as film:
        close = variants == "match" and film.every == frame_selection.EVERY
        loop = 0 < film.seconds <= frame_selection.EVERY
        reel = frame_selection.FrameSelector(_most(variants), film.every, close=close, loop=loop)
        _fill(reel, ((f.analysis, f.rgb) for f in film.frames(reel.due)), variants)
    return _of_reel(reel, signals, variants, lambda asked: _digest(asked, file))


def _hash_animation(
    data: bytes,
    rgb: NDArray[np.uint8],
    frames: Iterator[tuple[float, NDArray[np.uint8]]],
    variants: str,
    signals: Sequence[SignalType],
    limits: Limits,
) -> Item:
    """Hash an animated picture like a video; ImageHash's hashes are of its first frame."""
    reel = _animation_reel(frames, variants, loop=False)
    if reel.latest < frame_selection.EVERY:
        reel = _animation_reel(animation(data, limits=limits), variants, loop=True)
    return _of_reel(reel, signals, variants, lambda asked: _hash(asked, data, rgb))


def _animation_reel(
    frames: Iterator[tuple[float, NDArray[np.uint8]]], variants: str, *, loop: bool
) -> frame_selection.FrameSelector:
    close = variants == "match"
    reel = frame_selection.FrameSelector(_most(variants), close=close, loop=loop)
    due = (pixels for pixels, start, end in _shown(frames) if reel.due(start, end))
    _fill(reel, ((pdq.analyse(rgb), partial(np.asarray, rgb)) for rgb in due), variants)
    return reel


def _shown(
    frames: Iterator[tuple[float, NDArray[np.uint8]]],
) -> Iterator[tuple[NDArray[np.uint8], float, float]]:
    """Give each frame of an animation with when it appears and when the next one does."""
    start, held = next(frames)
    for end, pixels in frames:
        yield held, start, end
        start, held = end, pixels
    yield held, start, math.inf


def _fill(
    reel: frame_selection.FrameSelector,
    frames: Iterable[tuple[pdq.Analysis, Callable[[], NDArray[np.uint8]]]],
    variants: str,
) -> None:
    """Let a reel keep the frames that it wants: their hashes and those of their altered copies."""
    from nciihash.hashing.variants import hash_variants

    framed = False
    for analysis, rgb in frames:
        own = _hashed(analysis)
        if not reel.take(own):
            continue
        # a frame around the picture stays for a while: one look a moment finds it
        if variants == "none" or not (framed or reel.opens()):
            reel.keep((own,))
            continue
        altered = hash_variants(rgb(), own, variants)
        framed = any(hashed.variant is Variant.TRIM for hashed in altered)
        reel.keep(altered or (own,))


def _most(variants: str) -> int:
    caps = {"none": frame_selection.PLAIN_FRAMES, "match": frame_selection.QUERY_FRAMES}
    return caps.get(variants, frame_selection.FRAMES)


def _of_reel(
    reel: frame_selection.FrameSelector,
    signals: Sequence[SignalType],
    variants: str,
    other: Callable[[SignalType], Hashed],
) -> Item:
    hashes: list[Hashed] = []
    for type in signals:
        if type is SignalType.PDQ:
            hashes += reel.hashes(0 if variants == "match" else frame_selection.SIGNALS)
        else:
            hashes.append(other(type))
    return Item(Media.VIDEO, tuple(hashes), max(1, len(reel)), reel.every)


def _digest(type: SignalType, file: BinaryIO) -> Hashed:
    """Digest a whole file by pieces, from its beginning."""
    file.seek(0)
    made = hashlib.md5(usedforsecurity=False) if type is SignalType.MD5 else hashlib.sha256()
    while piece := file.read(1 << 20):
        made.update(piece)
    return Hashed(Signal(type, made.digest()))


def check_request(variants: str, signals: Sequence[SignalType]) -> None:
    """Refuse what `hash_file` cannot give, before any file is opened.

    Raises:
        ValueError: unknown variants, or no signals.
    """
    if variants not in VARIANTS:
        raise ValueError(f"variants={variants!r} is unknown: it is one of {', '.join(VARIANTS)}")
    if not set(signals) <= set(MADE):
        raise ValueError(f"of a file only {', '.join(MADE)} can be made")
    if not signals:
        raise ValueError("ask for at least one type of signal, for example SignalType.PDQ")


def _hash(type: SignalType, data: bytes, rgb: NDArray[np.uint8]) -> Hashed:
    match type:
        case SignalType.PDQ:
            return _hashed(pdq.analyse(rgb))
        case SignalType.PHASH | SignalType.DHASH:
            return Hashed(Signal(type, _imagehash(type, rgb)))
        case SignalType.MD5:
            # what platforms exchange, and no claim of security
            return Hashed(Signal(type, hashlib.md5(data, usedforsecurity=False).digest()))
        case SignalType.SHA256:
            return Hashed(Signal(type, hashlib.sha256(data).digest()))
        case _:
            raise ValueError(f"{type} is not made of a file")


def _look(data: bytes, limits: Limits, *, least: int) -> reduced_jpeg.ReducedPicture | None:
    """Hash a JPEG of at least so many pixels at a reduced size; None for all else."""
    if not data.startswith(JPEG_START):
        return None
    with decoder_errors(Format.JPEG):
        width, height, colours = jpeg.header(data) or (0, 0, "")
        if width * height < least or colours not in {"YCbCr", "Gray"}:
            return None
        turned = jpeg.turned(data)
        check_size(width, height, replace(limits, max_pixels=limits.reduced_pixels))
        return reduced_jpeg.look(data, width, height, turned)


def _hashed(analysis: pdq.Analysis) -> Hashed:
    return Hashed(
        Signal(SignalType.PDQ, analysis.packed.tobytes()),
        quality=analysis.quality,
        tied=analysis.tied,
    )


def _imagehash(type: SignalType, rgb: NDArray[np.uint8]) -> bytes:
    """Hash with ImageHash's defaults, 8 x 8 bits, in the order of its hexadecimal digits."""
    import imagehash  # it loads SciPy, which few callers need and takes a third of a second

    make = imagehash.phash if type is SignalType.PHASH else imagehash.dhash
    return bytes.fromhex(str(make(Image.fromarray(rgb))))
