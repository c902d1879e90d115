"""A picture within something larger: collages with other photos, screens, pages, cut-outs.

An edit of a collage takes the picture and other photos, which must be in no bank of the benchmark,
so that finding one of them is a false match.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from benchmarks.recall.overlays import font
from benchmarks.recall.transformations import gamma, noise

Picture = Image.Image
Edit = Callable[[Picture], Picture]
Box = tuple[float, float, float, float]
OWN: Final = -1  # the cell of a collage that shows the picture itself


def collage(
    ratio: float, cells: Sequence[tuple[int, Box]], *, gap: float = 0.0, paper: str = "white"
) -> Callable[[Picture, Sequence[Picture]], Picture]:
    """Return a collage, its pictures cropped to the aspect ratio of their cells.

    Args:
        ratio: the collage's width divided by its height.
        cells: for each, `OWN` or the number of another photo, and its left, top, right, bottom.
        gap: space at each side of a cell, as a share of the collage's width.
        paper: colour of the gaps.
    """

    def alter(photo: Picture, others: Sequence[Picture]) -> Picture:
        wide = round(2 * max(photo.size))
        page = Image.new("RGB", (wide, round(wide / ratio)), paper)
        space = round(gap * wide)
        for number, (left, top, right, bottom) in cells:
            shown = photo if number == OWN else others[number % len(others)]
            x, y = round(left * page.width) + space, round(top * page.height) + space
            size = (
                round(right * page.width) - space - x,
                round(bottom * page.height) - space - y,
            )
            page.paste(ImageOps.fit(shown, size), (x, y))
        # chat applications reduce pictures to what a screen shows
        page.thumbnail((1600, 1600))
        return page

    return alter


def inset(
    share: float, x: float, y: float, *, own_in_front: bool
) -> Callable[[Picture, Sequence[Picture]], Picture]:
    """Put a picture with a white border on another one: picture in picture.

    Args:
        share: width of the front picture, as a share of the other's width.
        x: horizontal centre of the front picture.
        y: vertical centre of the front picture.
        own_in_front: whether the front picture is the picture itself, or the one under it.
    """

    def alter(photo: Picture, others: Sequence[Picture]) -> Picture:
        front, back = (photo, others[0]) if own_in_front else (others[0], photo)
        page = ImageOps.fit(back, photo.size) if own_in_front else back.copy()
        wide = round(share * page.width)
        tall = min(round(wide * front.height / front.width), round(0.8 * page.height))
        shown = ImageOps.expand(ImageOps.fit(front, (wide, tall)), max(2, wide // 60), "white")
        left = min(max(0, round(page.width * x - shown.width / 2)), page.width - shown.width)
        top = min(max(0, round(page.height * y - shown.height / 2)), page.height - shown.height)
        page.paste(shown, (left, top))
        return page

    return alter


def photographed(
    *, yaw: float, pitch: float, roll: float, fill: float = 0.92, glare: float = 0.0
) -> Edit:
    """Simulate a photo of a screen: perspective, bezel, pixel grid and moiré, glare, blur, noise.

    Args:
        yaw: degrees that the camera is to the side.
        pitch: degrees that the camera is above.
        roll: degrees that the camera is turned.
        fill: width of the screen as a share of the photo's.
        glare: strength of a lamp's reflection, 0 to 1.
    """

    def alter(photo: Picture) -> Picture:
        w, h = photo.size
        bezel = ImageOps.expand(photo, max(4, round(0.03 * max(w, h))), "#101012")
        width, height = (round(1.08 * side) for side in bezel.size)
        turns = np.radians((yaw, pitch, roll))
        c, s = np.cos(turns), np.sin(turns)
        about_y = np.array(((c[0], 0, s[0]), (0, 1, 0), (-s[0], 0, c[0])))
        about_x = np.array(((1, 0, 0), (0, c[1], -s[1]), (0, s[1], c[1])))
        about_z = np.array(((c[2], -s[2], 0), (s[2], c[2], 0), (0, 0, 1)))
        far = 2.2 * max(bezel.size)  # a hand's distance from a screen
        corners = np.array(((0, 0), (0, 1), (1, 1), (1, 0)), float)
        flat = np.c_[(corners - 0.5) * bezel.size, np.zeros(4)]
        seen = flat @ (about_z @ about_x @ about_y).T
        seen = fill * seen[:, :2] * far / (far + seen[:, 2:]) + (width / 2, height / 2)
        rows = []
        for (u, v), (x, y) in zip(corners * bezel.size, seen, strict=True):
            rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        found = np.linalg.solve(np.array(rows), (corners * bezel.size).ravel())
        page = bezel.transform(
            (width, height),
            Image.Transform.PERSPECTIVE,
            found.tolist(),
            Image.Resampling.BICUBIC,
            fillcolor=(58, 50, 44),
        )
        down, across = np.mgrid[:height, :width].astype(np.float32)
        moire = 7 * np.sin(0.37 * across + 0.06 * down) * np.sin(0.05 * across - 0.41 * down)
        lamp = np.exp(
            -(((across / width - 0.72) / 0.16) ** 2) - (((down / height - 0.24) / 0.12) ** 2)
        )
        pixels = np.asarray(page, np.float32) * 0.92 + moire[..., None]
        pixels += (glare * 130 * lamp)[..., None]
        page = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        page = page.filter(ImageFilter.GaussianBlur(max(page.size) / 450))
        return noise(4)(page)

    return alter


def video_app(photo: Picture) -> Picture:
    """Return a screenshot of a short-video app: the picture fills the screen, under its buttons."""
    wide, tall = 720, 1440
    page = ImageOps.fit(photo, (wide, tall))
    pen = ImageDraw.Draw(page)
    pen.text((40, 20), "21:07", "white", font(30))
    pen.rectangle((640, 26, 690, 48), outline="white", width=3)
    pen.text((210, 70), "Following  |  For you", "white", font(32))
    for step, count in enumerate(("48.1K", "912", "Share", "1,204")):
        y = 640 + 150 * step
        pen.ellipse((622, y, 694, y + 72), fill="white")
        pen.text((620, y + 80), count, "white", font(24))
    pen.text((30, 1200), "@someone_you_know", "white", font(34))
    pen.text((30, 1250), "part 2 is in my story #fyp", "white", font(28))
    pen.rectangle((0, 1340, wide, tall), fill="black")
    for step in range(5):
        pen.rounded_rectangle((42 + 140 * step, 1366, 98 + 140 * step, 1410), 8, fill="#c0c0c0")
    return page


def chat(photo: Picture) -> Picture:
    """Return a screenshot of a chat: the picture in a bubble between messages."""
    wide, tall = 720, 1480
    page = Image.new("RGB", (wide, tall), "#e5ddd5")
    pen = ImageDraw.Draw(page)
    pen.rectangle((0, 0, wide, 140), fill="#075e54")
    pen.ellipse((70, 50, 140, 120), fill="#c0a080")
    pen.text((160, 65), "Football group", "white", font(34))
    pen.rounded_rectangle((30, 170, 430, 250), 18, fill="white")
    pen.text((50, 190), "guess who this is", "#202020", font(32))
    shown = ImageOps.contain(photo, (450, 760))
    left, top = wide - shown.width - 42, 280
    pen.rounded_rectangle(
        (left - 10, top - 10, left + shown.width + 10, top + shown.height + 48), 18, fill="#dcf8c6"
    )
    mask = Image.new("L", shown.size, 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, *shown.size), 14, fill=255)
    page.paste(shown, (left, top), mask)
    pen.text((left + shown.width - 90, top + shown.height + 8), "21:09", "#607060", font(24))
    below = top + shown.height + 80
    pen.rounded_rectangle((30, below, 330, below + 80), 18, fill="white")
    pen.text((50, below + 20), "no way, where", "#202020", font(32))
    pen.rounded_rectangle((20, tall - 100, 600, tall - 24), 36, fill="white")
    pen.ellipse((616, tall - 104, 700, tall - 20), fill="#128c7e")
    return page


def video_player(photo: Picture) -> Picture:
    """Return a frame of a screen recording: a video player's window on a desktop."""
    wide, tall = 1366, 768
    ramp = Image.linear_gradient("L").resize((wide, tall))
    page = Image.merge("RGB", (ramp.point(lambda v: v // 6), ramp.point(lambda v: v // 4), ramp))
    pen = ImageDraw.Draw(page)
    shown = ImageOps.contain(photo, (1040, 600))
    left, top = (wide - shown.width) // 2 - 60, 70
    pen.rectangle((left, top - 36, left + shown.width, top), fill="#303030")
    pen.text((left + 10, top - 30), "clip_final(2).mp4", "white", font(20))
    for step in range(3):
        x = left + shown.width - 30 - 34 * step
        pen.ellipse((x, top - 26, x + 16, top - 10), fill=("#ff5f57", "#febc2e", "#28c840")[step])
    page.paste(shown, (left, top))
    base = top + shown.height
    pen.line((left + 20, base - 40, left + shown.width - 20, base - 40), fill="#808080", width=6)
    pen.line((left + 20, base - 40, left + shown.width // 3, base - 40), fill="red", width=6)
    pen.polygon(
        ((left + 22, base - 28), (left + 22, base - 6), (left + 40, base - 17)), fill="white"
    )
    pen.text((left + 60, base - 30), "0:41 / 2:05", "white", font(20))
    pen.rectangle((0, tall - 44, wide, tall), fill="#202428")
    for step in range(8):
        pen.rounded_rectangle(
            (20 + 52 * step, tall - 38, 52 + 52 * step, tall - 6), 6, fill="#6080a0"
        )
    return page


def gallery(photo: Picture, others: Sequence[Picture]) -> Picture:
    """Return a screenshot of a phone's gallery: three columns of square thumbnails."""
    page = Image.new("RGB", (720, 1280), "white")
    ImageDraw.Draw(page).text((24, 40), "Photos", "black", font(44))
    for cell in range(12):
        shown = photo if cell == 4 else others[cell % len(others)]
        at = (3 + 240 * (cell % 3), 130 + 240 * (cell // 3))
        page.paste(ImageOps.fit(shown, (234, 234)), at)
    return page


def polaroid(photo: Picture, others: Sequence[Picture]) -> Picture:
    """Show the picture as an instant print, turned by 4 degrees, on another, blurred photo."""
    w, h = photo.size
    edge = round(0.05 * max(w, h))
    print_ = Image.new("RGBA", (w + 2 * edge, h + 5 * edge), "#f8f6f0")
    print_.paste(photo, (edge, edge))
    print_ = print_.rotate(-4, Image.Resampling.BICUBIC, expand=True)
    size = (round(1.1 * print_.width), round(1.1 * print_.height))
    page = ImageOps.fit(others[0], size).filter(ImageFilter.GaussianBlur(max(size) / 60))
    page.paste(print_, ((size[0] - print_.width) // 2, (size[1] - print_.height) // 2), print_)
    return page


def rounded(radius: float, paper: str) -> Edit:
    """Round the corners; `radius` is a share of the shorter side."""

    def alter(photo: Picture) -> Picture:
        mask = Image.new("L", photo.size, 0)
        box = (0, 0, photo.width - 1, photo.height - 1)
        ImageDraw.Draw(mask).rounded_rectangle(box, radius * min(photo.size), fill=255)
        return Image.composite(photo, Image.new("RGB", photo.size, paper), mask)

    return alter


def profile_picture(photo: Picture) -> Picture:
    """Cut the centred square to a disc on white, as profile pictures are shown."""
    side = min(photo.size)
    return rounded(0.5, "white")(ImageOps.fit(photo, (side, side)))


def printed_and_scanned(photo: Picture) -> Picture:
    """Simulate a scanned print: white margins, 2 degrees, gamma, blur, noise, grey paper."""
    page = ImageOps.expand(photo, round(0.08 * max(photo.size)), "white")
    page = page.rotate(2, Image.Resampling.BICUBIC, fillcolor="white")
    page = gamma(1.25)(page.filter(ImageFilter.GaussianBlur(max(page.size) / 400)))
    pixels = 18 + np.asarray(page, np.float32) * (0.86, 0.85, 0.82)
    return noise(6)(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)))
