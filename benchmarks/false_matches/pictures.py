"""The pictures whose distances are measured: photos, their crops, paintings and drawn pictures.

Each has a source and a scene. Pictures of one scene show the same: sizes of one wallpaper, a photo
and its crop, a series. They are not strangers, and a match between them is right. Pictures of one
source are not independent: crops of one photo that do not overlap are different pictures with the
same light, lens and often the same sky.

Scenes are recognised by name: wallpapers have their size or colour at the end. The benchmark lists
the pairs of different scenes within 31 bits, to be checked by eye; `_SAME` has those that were
found to show the same.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import folders
from benchmarks.false_matches import bodies, grounds

Pixels = NDArray[np.uint8]

# Debian packages of free photos and wallpapers.
PACKAGES: Final = (
    "mate-backgrounds",
    "lomiri-wallpapers-16.04",
    "lomiri-wallpapers-20.04",
    "ukui-wallpapers",
    "lxqt-themes",
)
# Painted people, each on a transparent ground.
PORTRAITS: Final = "wesnoth-1.16-data"
_PORTRAIT_FOLDERS: Final = ("portraits/humans", "portraits/elves", "portraits/dunefolk")

SERIES: Final = 6  # pictures of one drawn person

KINDS: Final = ("photo", "crop", "portrait", "body", "smooth", "ground", "hard negative")

# Names of pictures that show people or statues, as found by eye.
_PEOPLE: Final = (
    *("astronaut", "kodak__15", "kodak__17", "kodak__18", "gcompris-qt-data__fireplace"),
    *("portraitofperetanguy", "statue", "mountrushmore", "life_by_aitzol"),
)
# Beginnings of names that show the same, in addition to sizes and colours.
_SAME: Final = (
    *("beam", "origami", "lxqt-origami", "plasma-logo", "triangles", "waves", "elephants"),
    *("ubuntu-mate", "mate-stripes", "motorcycle", "te_bridge_mods"),
)
# The marshal is the general with another helmet; two screenshots show one photo of the Taj Mahal.
_SAME_PAINTING: Final = ("general", "marshal")
_SAME_PHOTO: Final = ("color-taj-", "combine-taj-")
# Plasma's logos are drawn on the same waves; both preview pictures of themes show their wallpaper.
_LXQT_BLUE: Final = ("plasma_arch", "simple_blue", "waves", "kde-plasma")
_THEME_PARTS: Final = re.compile(r"(preview|close-\d|debug|slidercursor)", re.IGNORECASE)
_SIZE: Final = re.compile(r"[-_]\d{3,4}x\d{3,4}|_contents_images.*|-\d$")

_LONG: Final = 640  # pixels, longer side of a whole photo
_TILE: Final = 240  # pixels, least side of a crop
_COLUMNS: Final = 5  # most crops along each side of a photo
_SMALLEST: Final = 200  # pixels; smaller pictures are icons


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture, and how it is related to others.

    Attributes:
        name: for the list of the nearest pairs.
        kind: one of `KINDS`.
        detail: which hard negative, ground or series it is; the kind itself for others.
        source: pictures of one source are not independent.
        scene: pictures of one scene show the same.
        part: of a crop, its row and column; crops of one photo with different parts are different
            pictures. None for all others.
        pixels: uint8 (h, w, 3).
        people: whether it shows a person or a statue of one.
    """

    name: str
    kind: str
    detail: str
    source: str
    scene: str
    part: tuple[int, int] | None
    pixels: Pixels
    people: bool = False


def related(one: Picture, other: Picture) -> bool:
    """Whether two pictures show the same, wholly or in part, so that a match is right."""
    if one.scene != other.scene:
        return False
    return one.part is None or other.part is None or one.part == other.part


def scene_of(path: Path) -> str:
    """Return the scene of a picture by its file's name."""
    stem = path.stem.lower().rpartition("__")[2]
    if path.parent.name == "te_bridge_mods":
        return "te_bridge_mods"
    stem = _SIZE.sub("", stem)
    if stem.startswith(_LXQT_BLUE):
        return "lxqt-blue"
    return next((start for start in _SAME if stem.startswith(start)), stem)


def photos(*paths: Path) -> Iterator[Picture]:
    """Yield the photos in folders, each name once, and crops of the first photo of each scene.

    A photo must be large for crops: each is at least `_TILE` pixels high and wide.
    """
    known, cropped = set[str](), set[str]()
    for path, pixels in folders.pictures(*paths):
        stem = path.stem.lower().rpartition("__")[2]
        if stem in known or _THEME_PARTS.match(stem) or min(pixels.shape[:2]) < _SMALLEST:
            continue
        known.add(stem)
        scene, people = scene_of(path), any(name in path.stem.lower() for name in _PEOPLE)
        whole = folders.shrink(pixels, _LONG)
        yield Picture(path.name, "photo", "photo", scene, scene, None, whole, people=people)
        if scene in cropped:
            continue
        cropped.add(scene)
        for (row, column), crop in tiles(pixels):
            name = f"{path.name} [{row}, {column}]"
            # which crops of a photo of people show them is not known
            yield Picture(name, "crop", "crop", scene, scene, (row, column), crop)


def tiles(pixels: Pixels) -> Iterator[tuple[tuple[int, int], Pixels]]:
    """Yield crops that do not overlap, each with its row and column; none of a small picture."""
    height, width = pixels.shape[:2]
    rows, columns = (min(side // _TILE, _COLUMNS) for side in (height, width))
    if rows * columns < 2:
        return
    for row in range(rows):
        for column in range(columns):
            top, bottom = row * height // rows, (row + 1) * height // rows
            left, right = column * width // columns, (column + 1) * width // columns
            crop = np.ascontiguousarray(pixels[top:bottom, left:right])
            yield (row, column), folders.shrink(crop, _LONG // 2)


def portraits(folder: Path) -> Iterator[Picture]:
    """Yield the paintings of people in the package `PORTRAITS`."""
    for part in _PORTRAIT_FOLDERS:
        for path, pixels in folders.pictures(*folder.glob(f"**/{part}"), side=_LONG // 2):
            person = _SIZE.sub("", path.stem)
            person = _SAME_PAINTING[0] if person in _SAME_PAINTING else person
            scene = f"portrait {path.parent.name} {person}"
            yield Picture(
                path.name, "portrait", "portrait", scene, scene, None, pixels, people=True
            )


def hard_negatives(folder: Path) -> Iterator[Picture]:
    """Yield different pictures that look alike; the name of a subfolder is their detail."""
    for path, pixels in folders.pictures(folder, side=_LONG):
        name = f"{path.parent.name}/{path.name}"
        scene = _SAME_PHOTO[0] if any(part in name for part in _SAME_PHOTO) else name
        yield Picture(name, "hard negative", path.parent.name, scene, scene, None, pixels)


@dataclass(frozen=True, slots=True)
class Drawings:
    """How many pictures to draw.

    Attributes:
        people: each another person.
        series: of persons shown `SERIES` times with small changes.
        smooth: without a person.
        grounds: stripes, cloth, wood, waves and more.
    """

    people: int
    series: int
    smooth: int
    grounds: int

    @property
    def total(self) -> int:
        """The number of all pictures."""
        return self.people + self.series + self.smooth + self.grounds


def drawing(number: int, counts: Drawings) -> Picture:
    """Return one of the drawn pictures; `number` is from 0 to `counts.total - 1`."""
    if number < counts.people:
        scene = bodies.person(number, bodies.GROUNDS[number % len(bodies.GROUNDS)])
        name = f"person {number}"
        return _drawn(name, "body", scene.ground, name, bodies.draw(scene))
    number -= counts.people
    if number < counts.series:
        seed, shot = counts.people + number // SERIES, number % SERIES
        pixels = bodies.draw(bodies.series(seed, SERIES)[shot])
        return _drawn(f"person {seed}, {shot}", "body", "series", f"person {seed}", pixels)
    number -= counts.series
    if number < counts.smooth:
        kind = bodies.SMOOTH[number % len(bodies.SMOOTH)]
        name = f"{kind} {number}"
        return _drawn(name, "smooth", kind, name, bodies.smooth(number, kind))
    number -= counts.smooth
    kind = sorted(grounds.KINDS)[number % len(grounds.KINDS)]
    name = f"{kind} {number}"
    pixels = folders.shrink(grounds.draw(kind, number), _LONG // 2)
    return _drawn(name, "ground", kind, name, pixels)


def _drawn(name: str, kind: str, detail: str, scene: str, pixels: Pixels) -> Picture:
    return Picture(name, kind, detail, scene, scene, None, pixels, people=kind == "body")


def download(names: Iterable[str], target: Path) -> list[Path]:
    """Download Debian packages and unpack them; return a folder for each that could be had.

    Nothing is installed. Without `apt-get` and `dpkg-deb`, or offline, there are none.

    Args:
        names: the packages.
        target: an existing folder.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return []
    unpacked = []
    for name in names:
        out = target / name
        if out.is_dir():
            unpacked.append(out)
            continue
        with tempfile.TemporaryDirectory(dir=target) as temporary:
            command = ["apt-get", "download", "--quiet", name]
            done = subprocess.run(command, cwd=temporary, capture_output=True, check=False)
            archives = list(Path(temporary).glob("*.deb"))
            if done.returncode or not archives:
                print(f"no pictures of {name}: the package could not be downloaded")
                continue
            subprocess.run(["dpkg-deb", "-x", archives[0], out], check=True)
        unpacked.append(out)
    return unpacked
