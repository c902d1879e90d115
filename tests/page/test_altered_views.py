"""The altered copies of the page, equal to Python's to the bit, in Chromium and Firefox."""

from functools import cache

import numpy as np
import pytest
from PIL import Image, ImageOps
from skimage import data as photos

from golden.pictures import KINDS
from nciihash.errors import FileRefused
from nciihash.hashing import hasher
from nciihash.hashing.altered_views import View
from nciihash.hashing.image import decode
from nciihash.hashing.variants import SETS, VIEWS, hash_variants
from nciihash.signals import SUBMITTED, Variant
from support.browsers import firefox
from support.browsers.altered_views import offered
from support.browsers.chosen_files import png
from support.pictures import horizon, textured

TABLES = """() => import('/page/worker/altered_views.js').then((views) => ({
  standard: views.STANDARD,
  thorough: views.THOROUGH,
  submitted: views.SUBMITTED,
}))"""


@pytest.fixture(params=["chromium", "firefox"])
def hashed(request, tmp_path):
    """Return a function that hashes files with a set of altered views, in a browser."""
    if request.param == "chromium":
        page = request.getfixturevalue("browser").new_page()
        show = page.goto
    elif firefox.FIREFOX is None:
        pytest.skip("no Firefox is installed (apt-get install firefox-esr)")
    else:
        pytest.importorskip("marionette_driver", reason="no marionette_driver")
        started = firefox.started(tmp_path)
        show = started.__enter__().navigate

    def run(files, which):
        with offered(files, which) as (address, pictures):
            show(address)
            return pictures.wait()

    yield run
    if request.param == "chromium":
        page.close()
    else:
        started.__exit__(None, None, None)


@cache
def by_python(data, which):
    """Return (variant, hash, quality) of all that is submitted of an opaque picture."""
    rgb = decode(data)
    made = hash_variants(rgb, hasher.hash_image(rgb), which)
    return [(h.variant.value, h.signal.hex, h.quality) for h in made if not h.plain]


def assert_equal(found, files, which):
    compared = 0
    for (name, data), signals in zip(files.items(), found, strict=True):
        assert isinstance(signals, list), (name, signals)
        got = [(each["variant"], each["value"], each["quality"]) for each in signals]
        assert got == by_python(data, which), name
        compared += len(got)
    return compared


def test_the_tables_of_the_browser_are_those_of_python(page):
    tables = page.evaluate(TABLES)
    assert tables["submitted"] == tables[SUBMITTED.value]
    for which in ("standard", "thorough"):
        views = tables[which]
        assert list(views) == [name.value for name in SETS[which]]
        for name, view in views.items():
            cut = tuple(view.get("cut", (0, 0, 0, 0)))
            assert View(**view | {"cut": cut}) == VIEWS[Variant(name)], name


def test_all_sample_photos_have_the_hashes_of_python(hashed, shared_data):
    files = {}
    for path in sorted((shared_data / "photos").glob("*.*")):
        data = path.read_bytes()
        try:
            decode(data)
        except FileRefused:
            continue
        files[path.name] = data
    assert assert_equal(hashed(list(files.values()), "thorough"), files, "thorough") > 5000


def waves(height, width):
    return KINDS["waves"](height, width)


def flat(height, width, *levels):
    """Return equal bands of plain colours."""
    levels = np.array(levels, np.uint8)
    bands = levels[np.arange(width) * len(levels) // width]
    return np.broadcast_to(bands[None, :, None], (height, width, 3)).copy()


def framed(rgb, colour, *border):
    return np.asarray(ImageOps.expand(Image.fromarray(rgb), border, colour))


def hard():
    """Return pictures that are tiny, flat, framed or large, by name."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    cat, astronaut = photos.chelsea(), photos.astronaut()
    dot = flat(200, 300, 90)
    dot[100, 150] = 255
    return {
        **{
            f"tiny {h} x {w}": noise[:h, :w]
            for h, w in ((1, 1), (4, 9), (5, 5), (7, 300), (64, 64))
        },
        **{f"small {h} x {w}": cat[:h, :w] for h, w in ((255, 256), (257, 300), (40, 450))},
        **{f"waves {h} x {w}": waves(h, w) for h, w in ((1024, 1100), (2049, 2060))},
        **{f"long {h} x {w}": waves(h, w) for h, w in ((90, 3000), (2700, 260))},
        "noise": noise,
        "flat": flat(300, 400, 128),
        "a dot": dot,
        "bands": flat(300, 400, 0, 51, 255, 102, 204),
        "black and white": flat(512, 512, *(0, 255) * 16),
        "steps of exactly one level": flat(640, 640, *range(0, 255, 4)),
        "white border": framed(cat, "white", 30, 30),
        "small in black": framed(cat, "black", 10, 400),
        "nested borders": framed(framed(astronaut, "black", 40, 0), "white", 60, 60),
        "horizon": np.asarray(horizon(3)),
        "texture": np.asarray(textured(3, 1300, 1040)),
    }


@pytest.mark.parametrize("which", ["standard", "thorough"])
def test_hard_pictures_have_the_hashes_of_python(hashed, which):
    files = {name: png(rgb) for name, rgb in hard().items()}
    files |= {name: png(getattr(photos, name)()) for name in ("coffee", "rocket")}
    assert_equal(hashed(list(files.values()), which), files, which)
