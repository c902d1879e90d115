"""Make the copies of a photo that the demo looks for: what people do to pictures they pass on.

The last seven are edits that one plain PDQ hash does not see through. The hashes of altered copies
find the first four of them; the others belong here so that the demo shows what is missed as well.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

_SEED: Final = 20260517  # any number: so that each run makes the same noise


@dataclass(frozen=True, slots=True)
class Edit:
    """One way to alter a photo, and the file format that the copy is saved in."""

    name: str
    alter: Callable[[Image.Image], Image.Image]
    format: str = "JPEG"
    quality: int = 85

    def apply(self, photo: Image.Image) -> bytes:
        """Give the altered copy of an RGB photo as a file's bytes."""
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
    """Write a line into a lower corner, its height a share of the photo's."""
    letters = max(8, round(photo.height * height))
    font = ImageFont.load_default(size=letters)
    layer = Image.new("RGBA", photo.size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(layer)
    left, top, end, bottom = pen.textbbox((0, 0), text, font=font)
    wide, tall = end - left, bottom - top
    x = photo.width - wide - letters if right else letters
    y = photo.height - tall - letters
    if box:
        edge = letters / 3
        pen.rectangle((x - edge, y - edge, x + wide + edge, y + tall + edge), fill=(0, 0, 0, 255))
    pen.text((x - left, y - top), text, font=font, fill=(255, 255, 255, 255 if box else 150))
    return Image.alpha_composite(photo.convert("RGBA"), layer).convert("RGB")


def _captioned(photo: Image.Image) -> Image.Image:
    return _write(photo, "look at this", height=0.04, right=False, box=True)


def _watermarked(photo: Image.Image) -> Image.Image:
    return _write(photo, "example.org", height=0.04, right=True, box=False)


def _cropped(photo: Image.Image) -> Image.Image:
    wide, tall = photo.size
    return photo.crop((wide // 20, tall // 20, wide - wide // 20, tall - tall // 20))


def _mirrored(photo: Image.Image) -> Image.Image:
    return ImageOps.mirror(photo)


def _turned(photo: Image.Image) -> Image.Image:
    return photo.rotate(3, Image.Resampling.BICUBIC, expand=False)


def _bordered(photo: Image.Image) -> Image.Image:
    return ImageOps.expand(photo, border=max(photo.size) // 12, fill="white")


def _cornered(photo: Image.Image) -> Image.Image:
    wide, tall = photo.size
    return photo.crop((0, 0, wide - wide // 7, tall - tall // 9))


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
    Edit("turned by 3 degrees", _turned),
    Edit("mirrored", _mirrored),
    Edit("white border", _bordered),
    Edit("corner cropped off", _cornered),
    Edit("left half alone", _halved),
    Edit("beside another picture", _collage),
)
