import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from nciihash.hashing.trimming import Region, trim
from support.strategies import pictures


def textured(width, height, seed=3):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def assert_near(region, top, left, bottom, right, tolerance=2):
    assert region is not None
    sides = (region.top, region.left, region.bottom, region.right)
    assert np.abs(np.subtract(sides, (top, left, bottom, right))).max() <= tolerance, sides


@given(
    st.integers(100, 500),
    st.integers(100, 500),
    st.tuples(*[st.integers(0, 60)] * 4).filter(any),
    st.sampled_from(["white", "black", "#3b5998", "#808080"]),
)
def test_a_flat_border_of_any_width_is_found(width, height, sides, colour):
    left, top, *_ = sides
    page = ImageOps.expand(textured(width, height), border=sides, fill=colour)
    assert_near(trim(np.asarray(page)), top, left, top + height, left + width, tolerance=1)


@pytest.mark.parametrize("paper", ["white", "black"])
@pytest.mark.parametrize(("width", "height"), [(600, 400), (400, 600), (1500, 1100)])
def test_a_screenshot_with_bars_text_and_buttons_is_trimmed(paper, width, height):
    ink = "black" if paper == "white" else "white"
    tall = round(width * 2.1) if width > height else round(height * 1.6)
    page = Image.new("RGB", (width, tall), paper)
    top = (tall - height) // 2
    page.paste(textured(width, height), (0, top))
    pen = ImageDraw.Draw(page)
    unit = tall // 60
    pen.text((unit, unit // 2), "9:41", ink, font=ImageFont.load_default(size=unit))
    pen.text((unit * 4, unit * 3), "Yesterday", ink, font=ImageFont.load_default(size=unit))
    for step in range(4):
        x = width * (2 * step + 1) // 8
        pen.ellipse((x - unit, tall - 4 * unit, x + unit, tall - 2 * unit), outline=ink, width=3)
    assert_near(trim(np.asarray(page)), top, 0, top + height, width, tolerance=2 + tall // 512)


@pytest.mark.parametrize("below", [True, False])
def test_a_caption_is_trimmed(below):
    page = Image.new("RGB", (600, 500), "white")
    page.paste(textured(600, 400), (0, 0 if below else 100))
    pen = ImageDraw.Draw(page)
    font = ImageFont.load_default(size=30)
    for line in range(2):
        pen.text((20, 10 + 42 * line + 400 * below), "when you see it", "black", font=font)
    top = 0 if below else 100
    assert_near(trim(np.asarray(page)), top, 0, top + 400, 600)


def test_bars_filled_with_a_blurred_copy_are_trimmed():
    photo = textured(400, 300)
    page = ImageOps.fit(photo, (400, 711)).filter(ImageFilter.GaussianBlur(25))
    page.paste(photo, (0, 205))
    assert_near(trim(np.asarray(page)), 205, 0, 505, 400)


def test_a_border_within_bars_is_trimmed():
    photo = ImageOps.expand(textured(400, 300), 20, "white")
    page = ImageOps.expand(photo, (0, 200), "black")
    assert_near(trim(np.asarray(page)), 220, 20, 520, 420)


def test_a_sky_is_not_trimmed():
    sky = np.linspace(230, 120, 200)[:, None, None] + np.zeros((200, 400, 3))
    ground = np.asarray(textured(400, 200))
    assert trim(np.concatenate((sky.astype(np.uint8), ground))) is None


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "camera"])
def test_photos_without_a_frame_are_not_trimmed(name):
    data = pytest.importorskip("skimage.data")
    photo = np.asarray(Image.fromarray(getattr(data, name)()).convert("RGB"))
    assert trim(photo) is None


def test_flat_and_tiny_pictures_are_not_trimmed():
    assert trim(np.full((300, 300, 3), 90, np.uint8)) is None
    assert trim(np.zeros((1, 1, 3), np.uint8)) is None
    assert trim(np.zeros((3000, 2, 3), np.uint8)) is None
    # a stamp on a page is not the picture
    page = ImageOps.expand(textured(60, 60), 300, "white")
    assert trim(np.asarray(page)) is None


@given(pictures())
def test_a_region_is_within_the_picture_and_smaller(rgb):
    region = trim(rgb)
    if region is not None:
        height, width = rgb.shape[:2]
        assert 0 <= region.top < region.bottom <= height
        assert 0 <= region.left < region.right <= width
        assert region != Region(0, 0, height, width)
        assert region.of(rgb).shape[:2] == (
            region.bottom - region.top,
            region.right - region.left,
        )
        assert trim(rgb) == region
