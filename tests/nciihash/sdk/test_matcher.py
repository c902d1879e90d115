import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from nciihash import Level, Matcher, pdq
from nciihash.hashing import altered_views
from nciihash.hashing.hasher import hash_image
from nciihash.hashing.parts import query_parts
from nciihash.hashing.trimming import trim
from nciihash.hashing.variants import hash_variants
from nciihash.signals import (
    Band,
    Hashed,
    Item,
    Media,
    Signal,
    SignalType,
    Variant,
)
from support.pictures import horizon, textured


def submitted(picture):
    """Return a picture's hashes as they are submitted."""
    rgb = np.asarray(picture)
    return Item(Media.IMAGE, hash_variants(rgb, hash_image(rgb), "thorough"))


def query(picture, level=Level.THOROUGH):
    rgb = np.asarray(picture)
    hashes = hash_variants(rgb, hash_image(rgb), "match")
    return Item(Media.IMAGE, hashes, parts=query_parts(rgb, level, trim(rgb)))


def crop(picture, left, top, right, bottom):
    width, height = picture.size
    box = (left * width, top * height, right * width, bottom * height)
    return picture.crop(tuple(round(side) for side in box))


PICTURES = {f"picture {seed}": textured(seed) for seed in range(12)}


@pytest.fixture(scope="module")
def items():
    return {name: submitted(picture) for name, picture in PICTURES.items()}


@pytest.fixture(scope="module")
def thorough(items):
    return Matcher.from_items(items, level=Level.THOROUGH)


def test_same_picture_matches_by_its_own_hash(thorough):
    (first, *_) = thorough.find(query(textured(3).resize((800, 600))))
    assert (first.item, first.band, first.review) == ("picture 3", Band.STRONG, False)
    assert first.edit is None
    assert first.aligned is None


@pytest.mark.parametrize("seed", range(4))
def test_corner_crop_is_found_and_described(thorough, seed):
    matches = thorough.find(query(crop(textured(seed), 0.0, 0.0, 0.75, 0.8)))
    (match,) = matches
    assert match.item == f"picture {seed}"
    assert match.band is Band.LIKELY
    assert match.review
    assert match.aligned <= 16 < match.distance
    assert np.abs(np.array(match.edit.crop) - (0.0, 0.0, 0.75, 0.8)).max() < 0.03
    assert "cropped" in str(match.edit)


def test_mirrored_crop(thorough):
    picture = ImageOps.mirror(crop(textured(5), 0.1, 0.2, 0.9, 1.0))
    (match,) = thorough.find(query(picture))
    assert match.item == "picture 5"
    assert match.edit.mirrored
    assert np.abs(np.array(match.edit.crop) - (0.1, 0.2, 0.9, 1.0)).max() < 0.03


def test_quarter_of_a_collage(thorough):
    page = Image.new("RGB", (896, 640))
    for number, seed in enumerate((101, 2, 102, 103)):
        page.paste(textured(seed), (448 * (number % 2), 320 * (number // 2)))
    matches = thorough.find(query(page))
    assert {match.item for match in matches} == {"picture 2"}
    assert np.abs(np.array(matches[0].edit.box) - (0.5, 0.0, 1.0, 0.5)).max() < 0.15


def test_sticker(thorough):
    picture = textured(7).copy()
    ImageDraw.Draw(picture).ellipse((20, 20, 150, 150), fill=(255, 220, 40))
    assert {match.item for match in thorough.find(query(picture))} == {"picture 7"}


def test_other_pictures_match_nothing(thorough):
    for seed in range(200, 215):
        assert thorough.find(query(textured(seed))) == []


def test_level_fast_asks_for_no_windows(items):
    matcher = Matcher.from_items(items, level=Level.FAST)
    assert matcher.find(query(crop(textured(0), 0.0, 0.0, 0.75, 0.8))) == []
    assert matcher.find(query(textured(0)))[0].item == "picture 0"


def test_items_without_parts_are_searched_by_their_own_hashes(thorough):
    rgb = np.asarray(textured(0))
    item = Item(Media.IMAGE, (hash_image(rgb),))
    assert {match.item for match in thorough.find(item)} == {"picture 0"}


def test_several_items_get_the_matches_they_get_alone(thorough):
    queries = [query(crop(textured(s), 0.0, 0.1, 0.8, 1.0)) for s in (1, 50, 2)]
    assert thorough.find_all(queries) == [thorough.find(each) for each in queries]
    assert thorough.find_all([]) == []


def test_window_of_a_stranger_that_aligns_with_nothing_is_no_match():
    """A bank's hash within 31 bits of a window is a candidate only."""
    rgb = np.asarray(crop(textured(1), 0.0, 0.0, 0.75, 0.8))
    whole = query_parts(rgb, Level.THOROUGH)[0]
    near = pdq.hash_pixels(np.asarray(crop(textured(1), 0.1, 0.1, 0.7, 0.7)))[0].copy()
    near[::2] ^= 1 << np.arange(16, dtype=np.uint8) % 8  # 16 bits that no window has
    near[1:12:2] ^= 1
    bank = Item(Media.IMAGE, (Hashed(Signal(SignalType.PDQ, near.tobytes()), 100),))
    matcher = Matcher.from_items({"a": bank}, level=Level.THOROUGH)
    item = Item(Media.IMAGE, (hash_image(rgb),), parts=(whole,))
    assert all(match.aligned is None for match in matcher.find(item))


def test_hashes_of_horizons_submitted_as_originals_stop_no_strangers_picture():
    values = []
    for seed in range(1000, 1200):
        rgb = np.asarray(horizon(seed))
        base = altered_views.base(rgb)
        cuts = [
            (0, 0, 0, 0),
            (0.1, 0.1, 0.1, 0.1),
            (0.3, 0, 0, 0),
            (0, 0.2, 0.3, 0),
            (0.2, 0.1, 0, 0.1),
        ]
        views = tuple(altered_views.View(cut=cut) for cut in cuts)
        values += list(pdq.analyse_grids(altered_views.grids(base, views))[0][0])
    assert len(values) == 1000
    bank = {
        f"submitted {number}": Item(
            Media.IMAGE, (Hashed(Signal(SignalType.PDQ, value.tobytes()), 100),)
        )
        for number, value in enumerate(values)
    }
    matcher = Matcher.from_items(bank, level=Level.THOROUGH)
    strangers = [horizon(seed) for seed in range(20)] + [textured(seed) for seed in range(10)]
    # a person before a plain ground with one edge
    for seed in range(10):
        picture = horizon(seed + 50)
        ImageDraw.Draw(picture).ellipse((150, 100, 250, 320), fill=(210, 160, 130))
        strangers.append(picture)
    found = [match for picture in strangers for match in matcher.find(query(picture))]
    assert any(match.review for match in found)  # the hashes do resemble those of strangers
    assert [match for match in found if not match.review] == []
    assert [match for match in found if match.aligned is not None] == []


def test_matches_of_mostly_plain_pictures_are_for_review():
    bank = Matcher.from_items({"a": Item(Media.IMAGE, (hash_image(np.asarray(horizon(1))),))})
    matches = bank.find(query(horizon(1).resize((900, 640)), Level.WINDOWS))
    assert [(match.item, match.review, match.band) for match in matches] == [
        ("a", True, Band.LIKELY)
    ]


def test_video_frames_have_the_time_of_the_match(thorough):
    rgb = np.asarray(crop(textured(4), 0.0, 0.0, 0.8, 0.8))
    frames = tuple(
        part
        for time, picture in ((0.0, np.asarray(textured(77))), (2.5, rgb))
        for part in query_parts(picture, Level.THOROUGH, time=time)
    )
    item = Item(Media.VIDEO, (hash_image(np.asarray(textured(77))),), 2, 0.25, parts=frames)
    (match,) = thorough.find(item)
    assert (match.item, match.edit.time) == ("picture 4", 2.5)


def test_unknown_variants_have_no_crop(items):
    hashes = items["picture 1"].hashes
    renamed = tuple(
        Hashed(each.signal, each.quality, Variant.ROTATE90) for each in hashes if not each.plain
    )
    matcher = Matcher.from_items({"a": Item(Media.IMAGE, renamed)}, level=Level.THOROUGH)
    (match,) = matcher.find(query(crop(textured(1), 0.0, 0.0, 0.75, 0.8)))
    assert match.edit.crop is None


def test_query_is_aligned_with_the_nearest_items_only(items):
    """A picture that many people submitted takes no longer than one with 32 copies."""
    copies = {f"case {number}": items["picture 2"] for number in range(40)}
    matcher = Matcher.from_items(items | copies, level=Level.WINDOWS)
    matches = matcher.find(query(crop(textured(2), 0.0, 0.0, 0.75, 0.8), Level.WINDOWS))
    found = {match.item for match in matches}
    assert len(found) == 32
    assert found <= {"picture 2", *copies}
