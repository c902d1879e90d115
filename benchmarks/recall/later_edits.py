"""Further edits for the recall benchmark, defined before any run of the matcher on them.

The sixty edits of `transformations.py` were known when the windows of banks and queries, the seam
test and the thresholds of the matcher were chosen. These were written afterwards and are not
changed in the light of results: git shows them committed before the first run. They follow what
applications do (collages, story stickers, chats, video apps) and what people do to mislead a search
(crops of one to four sides, tilts, mirrored copies, strong filters). Every edit is deterministic.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from benchmarks.recall import compositions, overlays
from benchmarks.recall.compositions import OWN
from benchmarks.recall.transformations import (
    caption,
    chain,
    crop,
    gamma,
    noise,
    rotate,
    scale,
    straighten,
)

Picture = Image.Image


@dataclass(frozen=True, slots=True)
class LaterEdit:
    """An edit of a picture; some use other photos, which no bank holds."""

    group: str
    name: str
    alter: Callable[[Picture, Sequence[Picture]], Picture]
    quality: int = 85

    def apply(self, photo: Picture, others: Sequence[Picture]) -> np.ndarray:
        """Alter a photo, save it as JPEG, and decode that: uint8 (h, w, 3)."""
        out = io.BytesIO()
        self.alter(photo, others).save(out, "JPEG", quality=self.quality)
        return np.asarray(Image.open(out).convert("RGB"))


def portrait_cut(at: float) -> Callable[[Picture], Picture]:
    """Cut 9:16 out of a wide picture, 16:9 out of a tall one; `at` is 0 at the left or top."""

    def alter(photo: Picture) -> Picture:
        w, h = photo.size
        if w >= h:
            wide = round(h * 9 / 16)
            left = round(at * (w - wide))
            return photo.crop((left, 0, left + wide, h))
        tall = round(w * 9 / 16)
        top = round(at * (h - tall))
        return photo.crop((0, top, w, top + tall))

    return alter


def old_film(photo: Picture) -> Picture:
    """Fade, darken the corners, and add coarse grain, as filters of photo apps do."""
    w, h = photo.size
    down, across = np.mgrid[:h, :w]
    away = (across / w - 0.5) ** 2 + (down / h - 0.5) ** 2
    pixels = 30 + 0.8 * np.asarray(ImageEnhance.Color(photo).enhance(0.55), np.float32)
    grain = np.random.default_rng(3).normal(0, 14, (h // 2 + 1, w // 2 + 1))
    grain = np.repeat(np.repeat(grain, 2, axis=0), 2, axis=1)[:h, :w]
    pixels = pixels * (1.1 - 1.3 * away)[..., None] + grain[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def hard_grey(photo: Picture) -> Picture:
    """Remove the colours, and raise the contrast strongly."""
    return ImageEnhance.Contrast(ImageOps.grayscale(photo).convert("RGB")).enhance(2.0)


def two_tones(photo: Picture) -> Picture:
    """Map dark to dark blue and light to orange."""
    grey = ImageOps.autocontrast(ImageOps.grayscale(photo), cutoff=2)
    return ImageOps.colorize(grey, "#0b1d51", "#ffd9a0", mid="#d0506a")


def _to(side: int) -> Callable[[Picture], Picture]:
    """Reduce to a longer side in pixels."""
    return lambda photo: ImageOps.contain(photo, (side, side))


def _alone(*steps: Callable[[Picture], Picture]) -> Callable[[Picture, Sequence[Picture]], Picture]:
    """Chain edits that use no other photo."""
    together = chain(*steps)
    return lambda photo, _others: together(photo)


def _before_after(photo: Picture, others: Sequence[Picture]) -> Picture:
    page = compositions.collage(2.0, ((0, (0, 0, 0.5, 1)), (OWN, (0.5, 0, 1, 1))))(photo, others)
    return caption(0.12, below=False)(page)


def _all() -> tuple[LaterEdit, ...]:
    def edit(
        group: str, name: str, *steps: Callable[[Picture], Picture], quality: int = 85
    ) -> LaterEdit:
        return LaterEdit(group, name, _alone(*steps), quality)

    def composed(
        group: str, name: str, alter: Callable[[Picture, Sequence[Picture]], Picture]
    ) -> LaterEdit:
        return LaterEdit(group, name, alter)

    one, two, more = "crop of one side", "crop of two sides", "crop of three or four sides"
    drawn, mirror = "stickers and words", ImageOps.mirror
    several = (
        ("laugh", 0.22, 0.25, 0.26, 10),
        ("heart", 0.80, 0.20, 0.16, -12),
        ("fire", 0.66, 0.58, 0.20, 0),
        ("heart", 0.30, 0.78, 0.12, 20),
        ("shades", 0.88, 0.86, 0.18, -8),
    )
    quarters = ((0, 0, 0.5, 0.5), (0.5, 0, 1, 0.5), (0, 0.5, 0.5, 1), (0.5, 0.5, 1, 1))
    return (
        edit(one, "left 30 %", crop(0.3, 0, 0, 0)),
        edit(one, "top 17 %", crop(0, 0.17, 0, 0)),
        edit(one, "right 24 %", crop(0, 0, 0.24, 0)),
        edit(one, "bottom 28 %", crop(0, 0, 0, 0.28)),
        edit(two, "left 14, right 23 %", crop(0.14, 0, 0.23, 0)),
        edit(two, "left 21, top 27 %", crop(0.21, 0.27, 0, 0)),
        edit(two, "right 30, bottom 30 %", crop(0, 0, 0.3, 0.3)),
        edit(two, "top 8, bottom 19 %", crop(0, 0.08, 0, 0.19)),
        edit(more, "left 12, top 18, right 24 %", crop(0.12, 0.18, 0.24, 0)),
        edit(more, "left 9, right 28, bottom 15 %", crop(0.09, 0, 0.28, 0.15)),
        edit(more, "14, 22, 9 and 27 %", crop(0.14, 0.22, 0.09, 0.27)),
        edit(more, "26, 11, 17 and 6 %", crop(0.26, 0.11, 0.17, 0.06)),
        edit("zoom and cut", "off-centre zoom to half", crop(0.12, 0.38, 0.38, 0.12)),
        edit("zoom and cut", "centre zoom to 58 %", crop(0.21, 0.21, 0.21, 0.21)),
        edit("zoom and cut", "9:16 cut, off-centre", portrait_cut(0.25)),
        edit("zoom and cut", "9:16 cut, at the edge", portrait_cut(1.0)),
        edit("rotated", "5 degrees, corners cut off", straighten(-5)),
        edit("rotated", "8 degrees, corners cut off", straighten(8)),
        edit("rotated", "12 degrees, corners cut off", straighten(-12)),
        edit("rotated", "9 degrees, black corners", rotate(9)),
        edit(
            "rotated", "quarter turn, crop 12 %",
            lambda p: p.transpose(Image.Transpose.ROTATE_90), crop(0.12, 0, 0, 0),
        ),
        edit("mirrored", "mirrored, left 13, bottom 9 %", mirror, crop(0.13, 0, 0, 0.09)),
        edit("mirrored", "mirrored, emoji", mirror, overlays.emojis(("laugh", 0.6, 0.35, 0.3, 0))),
        edit("mirrored", "mirrored, 4 degrees", mirror, rotate(4)),
        edit(drawn, "meme over the picture", overlays.meme("WHEN SHE SAYS", "IT WAS A JOKE", 0.12)),
        edit(drawn, "emoji in the centre", overlays.emojis(("laugh", 0.5, 0.5, 0.3, 0))),
        edit(drawn, "five emoji", overlays.emojis(*several)),
        edit(
            drawn, "story labels",
            overlays.labels(
                ("guess who", 0.5, 0.14, 0.075, 6, "white", "black"),
                ("swipe up for more", 0.45, 0.82, 0.06, -4, "#e0245e", "white"),
            ),
            overlays.emojis(("fire", 0.85, 0.6, 0.18, 0)),
        ),
        edit(drawn, "watermark tiles", overlays.watermark("leaked.example", 0.07, 110)),
        edit(drawn, "ring and arrow", overlays.circled(0.42, 0.38, 0.16)),
        edit("hidden parts", "scribbled over", overlays.scribble((0.3, 0.2, 0.7, 0.5), 9, "black")),
        edit("hidden parts", "black bar", overlays.bar((0.22, 0.24, 0.78, 0.36))),
        edit("hidden parts", "blurred face", overlays.blurred((0.34, 0.12, 0.66, 0.5), 0.05)),
        edit("hidden parts", "pixelated part", overlays.pixelated((0.3, 0.4, 0.75, 0.8), 9)),
        composed(
            "collage", "2 x 2, white gaps",
            compositions.collage(
                4 / 3, tuple(zip((0, OWN, 1, 2), quarters, strict=True)), gap=0.006
            ),
        ),
        composed(
            "collage", "one above the other",
            compositions.collage(1.0, ((OWN, (0, 0, 1, 0.5)), (0, (0, 0.5, 1, 1)))),
        ),
        composed(
            "collage", "three columns",
            compositions.collage(
                1.5,
                ((0, (0, 0, 1 / 3, 1)), (OWN, (1 / 3, 0, 2 / 3, 1)), (1, (2 / 3, 0, 1, 1))),
                gap=0.004,
                paper="black",
            ),
        ),
        composed(
            "collage", "one large, two small",
            compositions.collage(
                1.5,
                ((0, (0, 0, 0.62, 1)), (OWN, (0.62, 0, 1, 0.5)), (1, (0.62, 0.5, 1, 1))),
                gap=0.005,
            ),
        ),
        composed("collage", "next to another, words above", _before_after),
        composed(
            "collage", "inset on another photo",
            compositions.inset(0.45, 0.7, 0.68, own_in_front=True),
        ),
        composed(
            "collage", "another photo inset",
            compositions.inset(0.33, 0.2, 0.22, own_in_front=False),
        ),
        edit(
            "screen", "photo of a screen, 8 degrees",
            compositions.photographed(yaw=8, pitch=3, roll=1.5, glare=0.8),
        ),
        edit(
            "screen", "photo of a screen, from below",
            compositions.photographed(yaw=-6, pitch=-8, roll=-2, fill=0.85),
        ),
        edit("screen", "video app", compositions.video_app),
        edit("screen", "chat", compositions.chat),
        edit("screen", "screen recording", compositions.video_player),
        edit("frames", "rounded corners", compositions.rounded(0.09, "white")),
        edit("frames", "round profile picture", compositions.profile_picture),
        composed("frames", "instant print on a table", compositions.polaroid),
        edit("filters", "old film", old_film),
        edit("filters", "grey, hard contrast", hard_grey),
        edit("filters", "two tones", two_tones),
        edit("filters", "washed out, noise", gamma(0.5), noise(20)),
        edit("small and poor", "200 px, JPEG 25", _to(200), quality=25),
        edit("small and poor", "thumbnail, 96 px", _to(96)),
        edit(
            "small and poor", "blurred, half the size, crop 6 %",
            lambda p: p.filter(ImageFilter.GaussianBlur(max(p.size) / 120)),
            scale(0.5), crop(0.06, 0.06, 0.06, 0.06), quality=40,
        ),
        edit("small and poor", "printed and scanned", compositions.printed_and_scanned),
        composed("small and poor", "gallery of thumbnails", compositions.gallery),
    )  # fmt: skip


LATER: Final = _all()
