"""Edits that people make to pictures before they share them, in groups, for the recall benchmark.

`HELD_OUT` are hard edits that were not used to select the variants in `nciihash.hashing.variants`;
they were defined before that selection. (The rules of `nciihash.hashing.trimming`, however, were
developed with frames and screens of both kinds.) Every edit is deterministic.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

Picture = Image.Image
_BICUBIC: Final = Image.Resampling.BICUBIC


@dataclass(frozen=True, slots=True)
class Transformation:
    """An edit of a picture; `held_out` ones were not used to select the variants."""

    group: str
    name: str
    alter: Callable[[Picture], Picture]
    held_out: bool = False
    quality: int = 85

    def apply(self, photo: Picture) -> np.ndarray:
        """Alter a photo, save it as JPEG, and decode that: uint8 (h, w, 3)."""
        out = io.BytesIO()
        self.alter(photo).save(out, "JPEG", quality=self.quality)
        return np.asarray(Image.open(out).convert("RGB"))


def crop(left: float, top: float, right: float, bottom: float) -> Callable[[Picture], Picture]:
    """Crop shares of the width and height."""

    def alter(photo: Picture) -> Picture:
        w, h = photo.size
        return photo.crop(
            (round(left * w), round(top * h), w - round(right * w), h - round(bottom * h))
        )

    return alter


def crop_to(ratio: float) -> Callable[[Picture], Picture]:
    """Crop to an aspect ratio around the centre, as upload forms do."""

    def alter(photo: Picture) -> Picture:
        w, h = photo.size
        size = (round(h * ratio), h) if w / h > ratio else (w, round(w / ratio))
        return ImageOps.fit(photo, size)

    return alter


def chain(*steps: Callable[[Picture], Picture]) -> Callable[[Picture], Picture]:
    """Apply edits one after another."""

    def alter(photo: Picture) -> Picture:
        for step in steps:
            photo = step(photo)
        return photo

    return alter


def rotate(degrees: float, fill: str = "black") -> Callable[[Picture], Picture]:
    """Rotate within the same frame, and fill the corners."""
    return lambda photo: photo.rotate(-degrees, _BICUBIC, fillcolor=fill)


def straighten(degrees: float) -> Callable[[Picture], Picture]:
    """Rotate, and crop to the largest part of the same aspect ratio without empty corners."""

    def alter(photo: Picture) -> Picture:
        w, h = photo.size
        a = abs(np.radians(degrees))
        zoom = np.cos(a) + max(w / h, h / w) * np.sin(a)
        cut = (1 - 1 / zoom) / 2
        return crop(cut, cut, cut, cut)(photo.rotate(-degrees, _BICUBIC))

    return alter


def scale(factor: float, tall: float = 1.0) -> Callable[[Picture], Picture]:
    """Resize, and multiply the height by `tall`."""
    return lambda p: p.resize(
        (max(64, round(p.width * factor)), max(64, round(p.height * factor * tall))),
        Image.Resampling.LANCZOS,
    )


def pad(ratio: float, fill: str = "black") -> Callable[[Picture], Picture]:
    """Add bars up to an aspect ratio."""

    def alter(photo: Picture) -> Picture:
        w, h = photo.size
        size = (w, round(w / ratio)) if w / h > ratio else (round(h * ratio), h)
        page = Image.new("RGB", size, fill)
        page.paste(photo, ((size[0] - w) // 2, (size[1] - h) // 2))
        return page

    return alter


def border(share: float, fill: str) -> Callable[[Picture], Picture]:
    """Add a frame, its width a share of the longer side."""
    return lambda p: ImageOps.expand(p, border=round(max(p.size) * share), fill=fill)


def blur_bars(ratio: float) -> Callable[[Picture], Picture]:
    """Pad to an aspect ratio over an enlarged, blurred copy, as story editors do."""

    def alter(photo: Picture) -> Picture:
        w, h = photo.size
        size = (w, round(w / ratio)) if w / h > ratio else (round(h * ratio), h)
        page = ImageOps.fit(photo, size).filter(ImageFilter.GaussianBlur(max(size) / 40))
        page = ImageEnhance.Brightness(page).enhance(0.8)
        page.paste(photo, ((size[0] - w) // 2, (size[1] - h) // 2))
        return page

    return alter


def _text(
    pen: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    size: float,
    *,
    fill: str,
    edge: int = 0,
) -> None:
    """Draw text with its top left corner `at`; `edge` is the width of a black outline."""
    font = ImageFont.load_default(size=max(8, round(size)))
    pen.text(at, text, font=font, fill=fill, stroke_width=edge, stroke_fill="black")


def caption(share: float, *, below: bool, dark: bool = False) -> Callable[[Picture], Picture]:
    """Add a band with two lines of text above or below."""

    def alter(photo: Picture) -> Picture:
        w, h = photo.size
        band = round(h * share)
        paper, ink = ("black", "white") if dark else ("white", "black")
        page = Image.new("RGB", (w, h + band), paper)
        page.paste(photo, (0, 0 if below else band))
        pen = ImageDraw.Draw(page)
        top = h if below else 0
        for line, words in enumerate(("nobody expected this to happen", "when you see it again")):
            _text(pen, (w * 0.05, top + band * (0.12 + 0.42 * line)), words, band * 0.3, fill=ink)
        return page

    return alter


def overlay_text(*, at: float, size: float) -> Callable[[Picture], Picture]:
    """Write large white letters with a black outline across the picture."""

    def alter(photo: Picture) -> Picture:
        page = photo.copy()
        pen = ImageDraw.Draw(page)
        letters = page.height * size
        corner = (page.width * 0.08, page.height * at)
        edge = max(1, round(letters / 12))
        _text(
            pen,
            corner,
            "LOOK WHO IT IS",
            letters,
            fill="white",
            edge=edge,
        )
        return page

    return alter


def sticker(x: float, y: float, size: float, colour: str) -> Callable[[Picture], Picture]:
    """Draw a round face; `size` is its diameter as a share of the shorter side."""

    def alter(photo: Picture) -> Picture:
        page = photo.copy()
        pen = ImageDraw.Draw(page)
        r = min(page.size) * size / 2
        cx, cy = page.width * x, page.height * y
        pen.ellipse((cx - r, cy - r, cx + r, cy + r), fill=colour, outline="black", width=3)
        for side in (-0.4, 0.4):
            ex, ey, er = cx + side * r, cy - 0.25 * r, 0.12 * r
            pen.ellipse((ex - er, ey - er, ex + er, ey + er), fill="black")
        pen.arc((cx - 0.5 * r, cy - 0.4 * r, cx + 0.5 * r, cy + 0.6 * r), 20, 160, "black", 4)
        return page

    return alter


def screenshot(
    *, dark: bool, ratio: float = 0.462, full: bool = False, chrome: float = 0.06
) -> Callable[[Picture], Picture]:
    """Return a screenshot that shows the picture with a status bar, a title and buttons.

    Args:
        dark: white on black instead of black on white.
        ratio: the screen's width divided by its height.
        full: align the picture with the top instead of the centre.
        chrome: height of each bar, as a share of the screen's.
    """

    def alter(photo: Picture) -> Picture:
        wide = 720
        tall = round(wide / ratio)
        paper, ink = ("black", "white") if dark else ("white", "black")
        page = Image.new("RGB", (wide, tall), paper)
        bar = round(tall * chrome)
        shown = ImageOps.contain(photo, (wide, tall - 4 * bar), _BICUBIC)
        top = 2 * bar if full else (tall - shown.height) // 2
        page.paste(shown, ((wide - shown.width) // 2, top))
        pen = ImageDraw.Draw(page)
        _text(pen, (wide * 0.06, bar * 0.2), "9:41", bar * 0.35, fill=ink)
        for step in range(3):  # signal, network, battery
            x = wide * (0.82 + 0.05 * step)
            pen.rectangle((x, bar * 0.25, x + wide * 0.035, bar * 0.5), fill=ink)
        _text(pen, (wide * 0.14, bar * 1.1), "Yesterday, 21:07", bar * 0.4, fill=ink)
        pen.line((wide * 0.04, bar * 1.4, wide * 0.08, bar * 1.15), fill=ink, width=4)
        pen.line((wide * 0.04, bar * 1.4, wide * 0.08, bar * 1.65), fill=ink, width=4)
        for step in range(4):  # buttons
            x, y, r = wide * (0.14 + 0.24 * step), tall - bar * 1.3, bar * 0.25
            pen.ellipse((x - r, y - r, x + r, y + r), outline=ink, width=4)
        pen.rounded_rectangle(
            (wide * 0.35, tall - bar * 0.25, wide * 0.65, tall - bar * 0.15), 4, fill=ink
        )
        return page

    return alter


def feed_post(photo: Picture) -> Picture:
    """Show the picture as a post in a feed: name above, counts and a comment below."""
    wide = 720
    page = Image.new("RGB", (wide, 1280), "white")
    shown = photo.resize((wide, round(wide * photo.height / photo.width)), _BICUBIC)
    shown = shown.crop((0, 0, wide, min(shown.height, 900)))
    page.paste(shown, (0, 180))
    pen = ImageDraw.Draw(page)
    pen.ellipse((20, 90, 90, 160), fill="tomato")
    _text(pen, (110, 105), "someone_you_know", 30, fill="black")
    below = 180 + shown.height
    for step in range(3):
        pen.ellipse(
            (24 + 70 * step, below + 20, 68 + 70 * step, below + 64), outline="black", width=4
        )
    _text(pen, (24, below + 90), "1,204 likes", 28, fill="black")
    _text(pen, (24, below + 140), "someone_you_know look at this everybody", 26, fill="black")
    return page


def photo_of_screen(shift: float) -> Callable[[Picture], Picture]:
    """Simulate a photo of a screen from an angle: perspective, margins, moiré, vignette."""

    def alter(photo: Picture) -> Picture:
        w, h = photo.size
        a, b = shift * w, shift * h
        # the coordinates in the source of the result's corners
        source = [(-a, -0.6 * b), (-0.5 * a, h + b), (w + a, h + 0.4 * b), (w + 0.4 * a, -b)]
        target = [(0, 0), (0, h), (w, h), (w, 0)]
        rows = []
        for (x, y), (u, v) in zip(target, source, strict=True):
            rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values = np.array([c for pair in source for c in pair])
        page = photo.transform(
            (w, h),
            Image.Transform.PERSPECTIVE,
            np.linalg.solve(np.array(rows, float), values).tolist(),
            _BICUBIC,
            fillcolor=(24, 24, 26),
        )
        down, across = np.mgrid[:h, :w]
        moire = 6 * np.sin(across * 0.9 + down * 0.05) * np.sin(down * 0.8)
        away = (across / w - 0.4) ** 2 + (down / h - 0.5) ** 2
        light = (1.05 - 0.5 * away)[..., None]
        pixels = np.asarray(page, float) * light + moire[..., None]
        return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))

    return alter


def collage(photo: Picture) -> Picture:
    """Put the picture next to a synthetic one of the same size."""
    w, h = photo.size
    page = Image.new("RGB", (2 * w, h))
    page.paste(photo, (0, 0))
    ramp = Image.linear_gradient("L").resize((w, h))
    page.paste(Image.merge("RGB", (ramp, ImageOps.flip(ramp), ImageOps.invert(ramp))), (w, 0))
    return sticker(0.7, 0.5, 0.5, "gold")(page)


def noise(spread: float) -> Callable[[Picture], Picture]:
    """Add noise."""

    def alter(photo: Picture) -> Picture:
        pixels = np.asarray(photo, np.float32)
        grain = np.random.default_rng(7).normal(0, spread, pixels.shape)
        return Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))

    return alter


def gamma(power: float) -> Callable[[Picture], Picture]:
    """Apply a gamma curve: below 1 lightens, above 1 darkens."""
    table = [round(255 * (v / 255) ** power) for v in range(256)]
    return lambda photo: photo.point(table * 3)


def _tint(photo: Picture) -> Picture:
    r, g, b = photo.split()
    return Image.merge(
        "RGB", (r.point(lambda v: min(255, v * 1.15)), g, b.point(lambda v: v * 0.8))
    )


def _same(photo: Picture) -> Picture:
    return photo


def _grey(photo: Picture) -> Picture:
    return ImageOps.grayscale(photo).convert("RGB")


def _all() -> tuple[Transformation, ...]:
    def t(
        group: str, name: str, *steps: Callable[[Picture], Picture], quality: int = 85
    ) -> Transformation:
        return Transformation(group, name, chain(*steps), quality=quality)

    def held_out(group: str, name: str, *steps: Callable[[Picture], Picture]) -> Transformation:
        return Transformation(group, name, chain(*steps), held_out=True)

    mirror = ImageOps.mirror
    return (
        t("saved again", "JPEG 60", _same, quality=60),
        t("saved again", "JPEG 20", _same, quality=20),
        t("saved again", "half the size", scale(0.5)),
        t("saved again", "a quarter of the size", scale(0.25)),
        t("saved again", "twice the size", scale(2.0)),
        t("tone", "brighter", lambda p: ImageEnhance.Brightness(p).enhance(1.3)),
        t("tone", "darker", gamma(1.6)),
        t("tone", "lighter shadows", gamma(0.6)),
        t("tone", "more contrast", lambda p: ImageEnhance.Contrast(p).enhance(1.5)),
        t("tone", "grey", _grey),
        t("tone", "warm filter", _tint),
        t("detail", "blurred", lambda p: p.filter(ImageFilter.GaussianBlur(max(p.size) / 300))),
        t("detail", "sharpened", lambda p: p.filter(ImageFilter.UnsharpMask(3, 150))),
        t("detail", "noise", noise(15)),
        t("crop", "all sides 2 %", crop(0.02, 0.02, 0.02, 0.02)),
        t("crop", "all sides 5 %", crop(0.05, 0.05, 0.05, 0.05)),
        t("crop", "all sides 10 %", crop(0.1, 0.1, 0.1, 0.1)),
        t("crop", "right 10 %", crop(0, 0, 0.1, 0)),
        t("crop", "bottom 5 %", crop(0, 0, 0, 0.05)),
        t("crop", "bottom 20 %", crop(0, 0, 0, 0.2)),
        t("crop", "square", crop_to(1.0)),
        held_out("crop", "left 7 %", crop(0.07, 0, 0, 0)),
        held_out("crop", "top 13 %", crop(0, 0.13, 0, 0)),
        held_out("crop", "right 9, bottom 6 %", crop(0, 0, 0.09, 0.06)),
        held_out("crop", "to 4:5", crop_to(0.8)),
        t("mirror and turn", "mirror", mirror),
        t("mirror and turn", "quarter turn", lambda p: p.transpose(Image.Transpose.ROTATE_90)),
        t("mirror and turn", "half turn", lambda p: p.transpose(Image.Transpose.ROTATE_180)),
        t("mirror and turn", "turn 1 degree", rotate(1)),
        t("mirror and turn", "turn 2 degrees", rotate(-2)),
        t("mirror and turn", "turn 5 degrees", rotate(5)),
        t("mirror and turn", "straighten 2 degrees", straighten(2)),
        held_out("mirror and turn", "mirror, small, JPEG", mirror, scale(0.4)),
        held_out("mirror and turn", "mirror, crop 6 %", mirror, crop(0.06, 0.06, 0.06, 0.06)),
        held_out("mirror and turn", "turn 3 degrees", rotate(3)),
        held_out("mirror and turn", "turn 7 degrees", rotate(-7)),
        held_out("mirror and turn", "straighten 3 degrees", straighten(-3)),
        t("frame", "white border 5 %", border(0.05, "white")),
        t("frame", "black border 10 %", border(0.1, "black")),
        t("frame", "square, white", pad(1.0, "white")),
        t("frame", "9:16, black", pad(9 / 16)),
        t("frame", "square, blurred bars", blur_bars(1.0)),
        held_out(
            "frame",
            "letterbox 2.35:1 or 4:3",
            lambda p: pad(2.35 if p.width < 1.7 * p.height else 4 / 3)(p),
        ),
        held_out("frame", "9:16, blurred bars", blur_bars(9 / 16)),
        held_out("frame", "grey border 7 %, mirror", mirror, border(0.07, "#808890")),
        t("screen", "gallery, black", screenshot(dark=True)),
        t("screen", "browser, white, wide", screenshot(dark=False, ratio=1.6, chrome=0.045)),
        t("screen", "post in a feed", feed_post),
        held_out("screen", "gallery, white", screenshot(dark=False, ratio=0.45)),
        held_out("screen", "phone, photo on top", screenshot(dark=True, ratio=0.5, full=True)),
        held_out("screen", "photo of a screen", photo_of_screen(0.06)),
        t("text and stickers", "words below, black", caption(0.15, below=True, dark=True)),
        t("text and stickers", "big letters", overlay_text(at=0.75, size=0.12)),
        t("text and stickers", "small sticker", sticker(0.85, 0.15, 0.2, "tomato")),
        held_out("text and stickers", "meme, words above", caption(0.22, below=False)),
        held_out("text and stickers", "meme, words below", caption(0.18, below=True)),
        held_out(
            "text and stickers",
            "story sticker and words",
            sticker(0.3, 0.65, 0.4, "gold"),
            overlay_text(at=0.1, size=0.09),
        ),
        t("proportions", "10 % wider", scale(1.0, 0.9)),
        held_out(
            "proportions", "25 % taller, crop 4 %", scale(0.8, 1.25), crop(0.04, 0.04, 0.04, 0.04)
        ),
        held_out("collage", "next to another picture", collage),
    )


ALL: Final = _all()
HELD_OUT: Final = tuple(t for t in ALL if t.held_out)
