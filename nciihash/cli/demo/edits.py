"""Edited copies of a photo for the demo: what people do to pictures before they share them.

A PDQ hash of the original alone does not match the last seven edits. The hashes of altered copies
match the first four of these. The last three are found by their windows, in a bank of whole hashes.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

_SEED: Final = 20260517  # arbitrary, but fixed, so that each run adds the same noise


@dataclass(frozen=True, slots=True)
class Edit:
    """A way to alter a photo, and the file format of the copy."""

    name: str
    alter: Callable[[Image.Image], Image.Image]
    format: str = "JPEG"
    quality: int = 85

    def apply(self, photo: Image.Image) -> bytes:
        """Return the altered copy of an RGB photo as the bytes of a file."""
        out = io.BytesIO()
        self.alter(photo).save(out, self.format, quality=self.quality)
        return out.getvalue()


def _same(photo: Image.Image) -> Image.Image:
    return photo


def _scaled(factor: float) -> Callable[[Image.Image], Image.Image]:
    def alter(photo: Image.Image) -> Image.Image:
        size = tuple(max(64, round(side * factor)) for side in photo.size)
        return photo.resize((size[0], size[1]), Image.Resampling.LANCZOS)

    return alter


def _brighter(photo: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(photo).enhance(1.25)


def _contrast(photo: Image.Image) -> Image.Image:
    return ImageEnhance.Contrast(photo).enhance(1.4)


def _grey(photo: Image.Image) -> Image.Image:
    return ImageOps.grayscale(photo).convert("RGB")


def _blurred(photo: Image.Image) -> Image.Image:
    return photo.filter(ImageFilter.GaussianBlur(2))


def _noisy(photo: Image.Image) -> Image.Image:
    pixels = np.asarray(photo, dtype=np.float32)
    noise = np.random.default_rng(_SEED).normal(0, 12, pixels.shape)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def _write(photo: Image.Image, text: str, *, height: float, right: bool, box: bool) -> Image.Image:
    """Return a photo with a line of text in a lower corner.

    Args:
        photo: an RGB photo.
        text: the line.
        height: of the letters, as a share of the photo's.
        right: write into the right corner, else the left one.
        box: draw opaque text on a black box, else translucent text.
    """
    size = max(8, round(photo.height * height))
    font = ImageFont.load_default(size=size)
    layer = Image.new("RGBA", photo.size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)
    left, top, right_edge, bottom = draw.textbbox((0, 0), text, font=font)
    text_width, text_height = right_edge - left, bottom - top
    x = photo.width - text_width - size if right else size
    y = photo.height - text_height - size
    if box:
        margin = size / 3
        corners = (x - margin, y - margin, x + text_width + margin, y + text_height + margin)
        draw.rectangle(corners, fill=(0, 0, 0, 255))
    draw.text((x - left, y - top), text, font=font, fill=(255, 255, 255, 255 if box else 150))
    return Image.alpha_composite(photo.convert("RGBA"), layer).convert("RGB")


def _captioned(photo: Image.Image) -> Image.Image:
    return _write(photo, "look at this", height=0.04, right=False, box=True)


def _watermarked(photo: Image.Image) -> Image.Image:
    return _write(photo, "example.org", height=0.04, right=True, box=False)


def _cropped(photo: Image.Image) -> Image.Image:
    width, height = photo.size
    return photo.crop((width // 20, height // 20, width - width // 20, height - height // 20))


def _mirrored(photo: Image.Image) -> Image.Image:
    return ImageOps.mirror(photo)


def _rotated(photo: Image.Image) -> Image.Image:
    return photo.rotate(3, Image.Resampling.BICUBIC, expand=False)


def _bordered(photo: Image.Image) -> Image.Image:
    return ImageOps.expand(photo, border=max(photo.size) // 12, fill="white")


def _cornered(photo: Image.Image) -> Image.Image:
    width, height = photo.size
    return photo.crop((0, 0, width - width // 7, height - height // 9))


def _halved(photo: Image.Image) -> Image.Image:
    return photo.crop((0, 0, photo.width // 2, photo.height))


def _collage(photo: Image.Image) -> Image.Image:
    page = Image.new("RGB", (2 * photo.width, photo.height))
    page.paste(photo, (0, 0))
    page.paste(ImageOps.invert(photo.transpose(Image.Transpose.ROTATE_180)), (photo.width, 0))
    return page


EDITS: Final = (
    Edit("saved as JPEG, quality 60", _same, quality=60),
    Edit("saved as JPEG, quality 30", _same, quality=30),
    Edit("saved as WebP", _same, format="WEBP", quality=70),
    Edit("half the size", _scaled(0.5)),
    Edit("twice the size", _scaled(2.0)),
    Edit("brightened", _brighter),
    Edit("more contrast", _contrast),
    Edit("in grey", _grey),
    Edit("blurred", _blurred),
    Edit("noise added", _noisy),
    Edit("captioned corner", _captioned),
    Edit("small watermark", _watermarked),
    Edit("edges cropped by 5 %", _cropped),
    Edit("rotated by 3 degrees", _rotated),
    Edit("mirrored", _mirrored),
    Edit("white border", _bordered),
    Edit("corner cropped off", _cornered),
    Edit("left half only", _halved),
    Edit("next to another picture", _collage),
)
