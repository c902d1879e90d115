"""Hash one picture: from a file or pixels to signals. This decodes in the process that calls it.

`nciihash.sandbox.hash_file` does the same in a child process that can do no harm; use that for
files from strangers.
"""

import hashlib
import os
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nciihash import jpeg, pdq, reduced
from nciihash.formats import Format, detect
from nciihash.image import (
    Source,
    check_size,
    count_frames,
    decode,
    decode_raw,
    decoder_errors,
    read_bytes,
    read_pixels,
)
from nciihash.limits import LIMITS, Limits
from nciihash.signals import Hashed, Item, Media, Signal, SignalType, VariantSet

VARIANTS: Final = tuple(each.value for each in VariantSet)


def hash_image(source: Source, *, fast: bool = False, limits: Limits = LIMITS) -> Hashed:
    """Hash a picture with PDQ.

    Args:
        source: a path, a file's bytes, a binary file, a Pillow image, or an array, uint8 (h, w, 3),
            upright.
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
    if fast and not isinstance(source, Image.Image | np.ndarray):
        source = source if isinstance(source, bytes) else read_bytes(source, limits=limits)
        if (analysis := _reduced(source, limits)) is not None:
            return _hashed(analysis)
    return _hashed(pdq.analyse(read_pixels(source, limits=limits)))


def hash_file(
    path: str | os.PathLike[str],
    *,
    variants: str = "none",
    signals: Sequence[SignalType] = (SignalType.PDQ,),
    limits: Limits = LIMITS,
) -> Item:
    """Hash a file; every hash is of the same bytes, which are read once.

    Args:
        path: the file.
        variants: which altered copies to hash with PDQ as well. "standard", up to 26, and "full",
            up to 65, are what a case is opened with. "match" is for looking copies up: the picture
            within its frame, where it has one. They follow the picture's own hash, which the first
            two leave out of a screenshot's: see `nciihash.variants.hash_variants`.
        signals: which types of hash to make; the result has them in this order. `md5` and `sha256`
            identify this very file. `phash` and `dhash` are ImageHash's, of the upright picture.
        limits: what the file may cost.

    Raises:
        FileRefused: one of its subclasses, with a sentence that says what to do. A file that is no
            readable picture is refused even if only digests are asked for.
        ValueError: unknown variants, or no signals.
    """
    check_request(variants, signals)
    data = read_bytes(path, limits=limits)
    return hash_bytes(data, variants=variants, signals=signals, limits=limits)


def hash_bytes(
    data: bytes,
    *,
    variants: str = "none",
    signals: Sequence[SignalType] = (SignalType.PDQ,),
    limits: Limits = LIMITS,
) -> Item:
    """Hash a file's bytes as `hash_file` does; no file is opened.

    Raises:
        FileRefused: one of its subclasses, with a sentence that says what to do.
        ValueError: unknown variants, or no signals.
    """
    check_request(variants, signals)
    rgb = decode(data, limits=limits)
    hashes: list[Hashed] = []
    for type in signals:
        own = _hash(type, data, rgb)
        if type is not SignalType.PDQ or variants == "none":
            hashes.append(own)
        else:
            # loads OpenCV, which takes a fifth of a second
            from nciihash.variants import hash_variants

            raw = None if variants == "match" else decode_raw(data, limits=limits)
            hashes += hash_variants(rgb, own, variants, raw)
    return Item(Media.IMAGE, tuple(hashes), count_frames(data))


def check_request(variants: str, signals: Sequence[SignalType]) -> None:
    """Refuse what `hash_file` cannot give, before any file is opened.

    Raises:
        ValueError: unknown variants, or no signals.
    """
    if variants not in VARIANTS:
        raise ValueError(f"variants={variants!r} is unknown: it is one of {', '.join(VARIANTS)}")
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


def _reduced(data: bytes, limits: Limits) -> pdq.Analysis | None:
    """Hash a JPEG from a reduced decode, or give None where that is not possible."""
    if detect(data) is not Format.JPEG:
        return None
    with decoder_errors(Format.JPEG):
        data, turned = jpeg.strip(data)
        width, height, colours = jpeg.header(data) or (0, 0, "")
        check_size(width, height, limits)
        if colours not in {"YCbCr", "Gray"}:
            return None
        return reduced.analyse(data, width, height, turned)


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
