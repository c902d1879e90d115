"""The pictures of the benchmark of false matches, how they are related, and a small run."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.false_matches import bodies, pictures, report, run
from benchmarks.false_matches.measure import Measurement
from benchmarks.false_matches.pictures import Picture
from support.pictures import textured


def test_a_person_is_determined_by_the_seed():
    assert np.array_equal(bodies.draw(bodies.person(3)), bodies.draw(bodies.person(3)))
    assert bodies.person(3) != bodies.person(4)


@pytest.mark.parametrize("ground", bodies.GROUNDS)
def test_a_person_covers_a_part_of_every_ground(ground):
    scene = bodies.person(5, ground)
    shown = bodies.draw(scene).astype(int)
    away = bodies.draw(replace(scene, middle=(50.0, 50.0))).astype(int)
    covered = (np.abs(shown - away).max(axis=2) > 24).mean()
    assert 0.03 < covered < 0.97


def test_a_series_shows_one_person_who_moves():
    scenes = bodies.series(8, 4)
    assert {(scene.skin, scene.build, scene.ground) for scene in scenes} == {
        (scenes[0].skin, scenes[0].build, scenes[0].ground)
    }
    assert len({scene.pose for scene in scenes}) == 4


@pytest.mark.parametrize("kind", bodies.SMOOTH)
def test_smooth_pictures_are_smooth_and_differ(kind):
    one, other = (bodies.smooth(seed, kind).astype(float) for seed in (0, 1))
    steps = np.abs(np.diff(one.mean(axis=2), axis=1))
    assert np.median(steps) < 8
    assert one.shape != other.shape or np.abs(one - other).mean() > 2


def test_crops_do_not_overlap_and_cover_the_photo():
    numbered = np.arange(600 * 900).reshape(600, 900) % 251
    photo = np.stack([numbered] * 3, axis=2).astype(np.uint8)
    crops = dict(pictures.tiles(photo))
    assert sorted(crops) == [(row, column) for row in range(2) for column in range(3)]
    assert sum(crop.size for crop in crops.values()) == photo.size
    assert not dict(pictures.tiles(photo[:300, :300]))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Elephants.jpg", "Elephants_5640x3172.jpg", True),
        ("p__Shell_contents_images_5120x2880.jpg", "Shell.png", True),
        ("lomiri-wallpapers-16.04__Wine_by_Jakkub_Mede.jpg", "Wine_by_Jakkub_Mede.jpg", True),
        ("Ubuntu-Mate-Cold-no-logo.png", "Ubuntu-Mate-Warm-no-logo.png", True),
        ("x__motorcycle_left.jpg", "x__motorcycle_right.jpg", True),
        ("x__fish12.webp", "x__fish7.webp", False),
        ("Garden.jpg", "GreenMeadow.jpg", False),
    ],
)
def test_names_of_one_scene(one, other, same):
    scenes = pictures.scene_of(Path(one)), pictures.scene_of(Path(other))
    assert (scenes[0] == scenes[1]) is same


def test_a_photo_is_related_to_its_crops_which_are_parts_of_one_photo():
    pixels = np.zeros((8, 8, 3), np.uint8)

    def picture(scene, part=None):
        return Picture("", "photo", "", scene, scene, part, pixels)

    whole, first, second = picture("a"), picture("a", (0, 0)), picture("a", (0, 1))
    assert run.relation(whole, first) == "same scene"
    assert run.relation(first, second) == "same photo, other part"
    assert run.relation(first, picture("b", (0, 0))) == "strangers"


def test_photos_are_read_once_with_the_crops_of_one_size(tmp_path):
    large = textured(1).resize((800, 600))
    large.save(tmp_path / "Elephants_3840x2160.png")
    large.resize((400, 300)).save(tmp_path / "Elephants.png")
    Image.new("RGB", (32, 32)).save(tmp_path / "close-32x32.png")
    (tmp_path / "copy").mkdir()
    large.save(tmp_path / "copy" / "x__Elephants.png")
    found = list(pictures.photos(tmp_path))
    assert [each.kind for each in found].count("photo") == 2
    assert len({each.part for each in found if each.kind == "crop"}) == [
        each.kind for each in found
    ].count("crop")
    assert len({each.scene for each in found}) == 1


def copies():
    """Return textured pictures of strangers, and one that is a crop of the first."""
    found = []
    for seed in range(10):
        pixels = np.asarray(textured(seed).convert("RGB"))
        found.append(Picture(f"{seed}", "photo", "photo", f"{seed}", f"{seed}", None, pixels))
    height, width = found[0].pixels.shape[:2]
    crop = found[0].pixels[: height * 4 // 5, width // 10 :]
    found.append(replace(found[0], name="crop of 0", pixels=np.ascontiguousarray(crop)))
    return found


def test_a_crop_aligns_with_its_photo_and_counts_as_the_same_scene():
    found = copies()
    measured = Measurement(found, workers=2).run(range(len(found)))
    near = measured.near[10, 0]
    assert near.window <= 60
    assert near.aligned <= 16
    assert near.own > 31
    rows = run.by_kind(found, measured)
    assert rows["same scene"]["pairs"] == 2
    assert rows["same scene"]["matches"] >= 1
    assert rows["photos"]["pairs"] == 10 * 11 - 2
    assert rows["photos"]["matches"] == 0


def test_a_small_run_reports_every_table(tmp_path):
    found = copies()
    drawn = pictures.Drawings(people=10, series=6, smooth=3, grounds=3)
    found += [pictures.drawing(number, drawn) for number in range(drawn.total)]
    collected = Counter(picture.kind for picture in found)
    found = run.usable(found, workers=2)
    assert len(found) > 20
    measured = Measurement(found, workers=2).run(range(len(found)))
    assert measured.counts["all"].sum() > measured.counts["gated"].sum() > 0
    results = run.evaluate(found, measured, collected, rows=100, seconds=1.0)
    text = report.markdown(results)
    strangers = sum(
        row["pairs"] for name, row in results["kinds"].items() if not name.startswith("same ")
    )
    usable = len(found)
    related = sum(row["pairs"] for row in results["kinds"].values()) - strangers
    assert strangers + related == usable * (usable - 1)
    assert f"{strangers:,} ordered pairs" in text
    assert "answers `review`, never `block`" in text
    report.plot(results, tmp_path / "false-matches")
