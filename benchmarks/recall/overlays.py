"""What people draw over a picture: emoji, words, watermarks, scribbles, bars, blurred regions.

Each function returns an edit, which takes a picture and returns a new one. Sizes are shares of the
picture's width, height or shorter side, so that an edit is the same at any resolution.
"""

from collections.abc import Callable, Sequence
from typing import Final, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Picture = Image.Image
Edit = Callable[[Picture], Picture]
Emoji = Literal["laugh", "heart", "fire", "shades"]
_DRAWN: Final = 256  # side of a drawn emoji in pixels, before it is resized
_RESAMPLING: Final = Image.Resampling.LANCZOS


def font(size: float) -> ImageFont.FreeTypeFont:
    """Return Pillow's own font at a size in pixels."""
    loaded = ImageFont.load_default(size=max(8, round(size)))
    assert isinstance(loaded, ImageFont.FreeTypeFont)
    return loaded


def emoji(kind: Emoji) -> Picture:
    """Draw an emoji: RGBA, 256 x 256 pixels, transparent around it."""
    picture = Image.new("RGBA", (_DRAWN, _DRAWN), (0, 0, 0, 0))
    pen = ImageDraw.Draw(picture)
    if kind == "heart":
        red = "#e0245e"
        pen.ellipse((14, 24, 138, 148), fill=red)
        pen.ellipse((118, 24, 242, 148), fill=red)
        pen.polygon(((24, 118), (232, 118), (128, 244)), fill=red)
        return picture
    if kind == "fire":
        flame = ((128, 4), (196, 92), (228, 168), (192, 244), (64, 244), (28, 168), (72, 100))
        pen.polygon(flame, fill="#f4511e")
        pen.polygon(((128, 96), (176, 176), (160, 240), (96, 240), (80, 176)), fill="#ffca28")
        return picture
    pen.ellipse((6, 6, 250, 250), fill="#ffcc4d", outline="#d9a520", width=5)
    if kind == "shades":
        pen.rounded_rectangle((28, 78, 122, 138), 22, fill="#202020")
        pen.rounded_rectangle((134, 78, 228, 138), 22, fill="#202020")
        pen.line((110, 90, 146, 90), fill="#202020", width=12)
        pen.arc((80, 130, 190, 212), 20, 150, fill="#664500", width=10)
    else:
        pen.arc((52, 76, 108, 132), 190, 350, fill="#664500", width=12)
        pen.arc((148, 76, 204, 132), 190, 350, fill="#664500", width=12)
        pen.chord((60, 100, 196, 224), 0, 180, fill="#664500")
        pen.ellipse((14, 110, 66, 170), fill="#5dadec")
        pen.ellipse((190, 110, 242, 170), fill="#5dadec")
    return picture


def emojis(*drawn: tuple[Emoji, float, float, float, float]) -> Edit:
    """Paste emoji: kind, centre x and y, diameter as a share of the shorter side, degrees."""

    def alter(photo: Picture) -> Picture:
        page = photo.copy()
        for kind, x, y, size, degrees in drawn:
            side = max(8, round(min(page.size) * size))
            one = emoji(kind).rotate(degrees, Image.Resampling.BICUBIC).resize((side, side))
            page.paste(
                one, (round(page.width * x - side / 2), round(page.height * y - side / 2)), one
            )
        return page

    return alter


def meme(top: str, bottom: str, size: float) -> Edit:
    """Write outlined capitals over the picture, centred at its top and bottom."""

    def alter(photo: Picture) -> Picture:
        page = photo.copy()
        pen = ImageDraw.Draw(page)
        for words, down in ((top, 0.03), (bottom, 0.97 - size)):
            letters = page.height * size
            # as meme editors do: smaller letters where the line would be too long
            letters *= min(1.0, 0.94 * page.width / pen.textlength(words, font(letters)))
            at = ((page.width - pen.textlength(words, font(letters))) / 2, page.height * down)
            edge = max(1, round(letters / 11))
            pen.text(at, words, "white", font(letters), stroke_width=edge, stroke_fill="black")
        return page

    return alter


def watermark(words: str, size: float, strength: int) -> Edit:
    """Repeat words diagonally over the picture; `strength` is their opacity of 255."""

    def alter(photo: Picture) -> Picture:
        letters = font(min(photo.size) * size)
        side = round(1.5 * max(photo.size))
        layer = Image.new("RGBA", (side, side), (0, 0, 0, 0))
        pen = ImageDraw.Draw(layer)
        step = pen.textlength(words + "   ", letters)
        for row in range(int(side / (3 * letters.size)) + 1):
            for column in range(-1, int(side / step) + 1):
                at = (step * (column + 0.5 * (row % 2)), 3 * letters.size * row)
                pen.text(at, words, (255, 255, 255, strength), letters)
        layer = layer.rotate(30, Image.Resampling.BICUBIC)
        left, top = (side - photo.width) // 2, (side - photo.height) // 2
        layer = layer.crop((left, top, left + photo.width, top + photo.height))
        return Image.alpha_composite(photo.convert("RGBA"), layer).convert("RGB")

    return alter


def labels(*drawn: tuple[str, float, float, float, float, str, str]) -> Edit:
    """Paste words on rounded plates, as story editors do.

    Args:
        drawn: words, centre x and y, height of the letters as a share of the shorter side,
            degrees, colour of the plate, colour of the letters.
    """

    def alter(photo: Picture) -> Picture:
        page = photo.copy()
        for words, x, y, size, degrees, plate, ink in drawn:
            letters = font(min(page.size) * size)
            wide = round(letters.getlength(words) + 1.2 * letters.size)
            tall = round(1.7 * letters.size)
            one = Image.new("RGBA", (wide, tall), (0, 0, 0, 0))
            pen = ImageDraw.Draw(one)
            pen.rounded_rectangle((0, 0, wide - 1, tall - 1), round(tall * 0.3), fill=plate)
            pen.text((0.6 * letters.size, 0.25 * letters.size), words, ink, letters)
            one = one.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
            at = (round(page.width * x - one.width / 2), round(page.height * y - one.height / 2))
            page.paste(one, at, one)
        return page

    return alter


def circled(x: float, y: float, radius: float) -> Edit:
    """Draw a red ring around a point and an arrow to it."""

    def alter(photo: Picture) -> Picture:
        page = photo.copy()
        pen = ImageDraw.Draw(page)
        side = min(page.size)
        r, line = side * radius, max(2, round(side * 0.018))
        cx, cy = page.width * x, page.height * y
        pen.ellipse((cx - r, cy - r, cx + r, cy + r), outline="red", width=line)
        tip, tail = (cx + 0.8 * r, cy + 0.8 * r), (cx + 2.2 * r, cy + 2.2 * r)
        pen.line((tip, tail), fill="red", width=line)
        for dx, dy in ((0.55, 0.1), (0.1, 0.55)):
            pen.line((tip, (tip[0] + dx * r, tip[1] + dy * r)), fill="red", width=line)
        return page

    return alter


def scribble(box: tuple[float, float, float, float], strokes: int, colour: str) -> Edit:
    """Cross out a part with a thick marker: `box` is left, top, right, bottom."""

    def alter(photo: Picture) -> Picture:
        page = photo.copy()
        pen = ImageDraw.Draw(page)
        random = np.random.default_rng(11)
        left, top, right, bottom = np.array(box) * (*page.size, *page.size)
        points = []
        for stroke in range(strokes + 1):
            y = top + (bottom - top) * stroke / strokes + random.normal(0, 0.01 * page.height)
            points.append((right if stroke % 2 else left, y))
        pen.line(points, fill=colour, width=max(3, round(min(page.size) * 0.03)), joint="curve")
        return page

    return alter


def bar(box: tuple[float, float, float, float], colour: str = "black") -> Edit:
    """Cover a part by a bar: `box` is left, top, right, bottom."""

    def alter(photo: Picture) -> Picture:
        page = photo.copy()
        corners = (np.array(box) * (*page.size, *page.size)).tolist()
        ImageDraw.Draw(page).rectangle(corners, fill=colour)
        return page

    return alter


def _region(photo: Picture, box: Sequence[float]) -> tuple[int, int, int, int]:
    left, top, right, bottom = (round(v) for v in np.array(box) * (*photo.size, *photo.size))
    return left, top, right, bottom


def blurred(box: tuple[float, float, float, float], radius: float) -> Edit:
    """Blur an ellipse, as a face; `radius` is a share of the shorter side."""

    def alter(photo: Picture) -> Picture:
        page = photo.copy()
        corners = _region(photo, box)
        mask = Image.new("L", photo.size, 0)
        ImageDraw.Draw(mask).ellipse(corners, fill=255)
        page.paste(photo.filter(ImageFilter.GaussianBlur(radius * min(photo.size))), (0, 0), mask)
        return page

    return alter


def pixelated(box: tuple[float, float, float, float], across: int) -> Edit:
    """Pixelate a rectangle to `across` blocks in its width."""

    def alter(photo: Picture) -> Picture:
        page = photo.copy()
        left, top, right, bottom = _region(photo, box)
        part = photo.crop((left, top, right, bottom))
        tall = max(1, round(across * part.height / part.width))
        blocks = part.resize((across, tall), Image.Resampling.BOX)
        page.paste(blocks.resize(part.size, Image.Resampling.NEAREST), (left, top))
        return page

    return alter
