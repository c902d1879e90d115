"""The photos of the demo, their edited copies and unrelated photos; what platforms match."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Self

from PIL import Image

from nciihash.cli.demo.edits import EDITS
from nciihash.cli.terminal import Terminal
from nciihash.errors import ExtraMissing, FileRefused, TooPlain
from nciihash.hashing.image import read_pixels
from nciihash.sandbox.pool import hash_files
from nciihash.signals import Item, Level, Match, SignalType, VariantSet
from nciihash.wire import ITEMS_MAX, Hit

Found = Sequence[Match | Hit]
Find = Callable[[Sequence[Item]], Sequence[Found]]

_SUBMITTED: Final = ("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "rocket.jpg")
# Photos of something else. (Textures, drawings and scans of text are no fair test of a hash for
# photos, and `motorcycle_right` is nearly equal to `motorcycle_left`.)
_UNRELATED: Final = (
    *("cell.png", "coins.png", "hubble_deep_field.jpg", "ihc.png", "moon.png"),
    *("motorcycle_left.png", "retina.jpg"),
)
_SIDE_MAX: Final = 1600  # pixels; larger photos are scaled down before they are edited


@dataclass(frozen=True, slots=True)
class DemoHashes:
    """The hashes of all photos of a demo.

    Attributes:
        names: file names of the submitted photos, without suffix.
        photos: the submitted photos.
        copies: the edited copies of each photo, in the order of `EDITS`.
        unrelated: photos that are not submitted.
    """

    names: tuple[str, ...]
    photos: tuple[Item, ...]
    copies: tuple[tuple[Item, ...], ...]
    unrelated: tuple[Item, ...]

    @property
    def queries(self) -> list[Item]:
        """The photos as they are, then all copies, then unrelated photos."""
        photos = [replace(photo, hashes=photo.hashes[:1]) for photo in self.photos]
        return [*photos, *(copy for row in self.copies for copy in row), *self.unrelated]

    def distance(self, photo: int, edit: int) -> int:
        """Return the smallest distance, in bits, between the hashes of a photo and of a copy."""
        photo_values, copy_values = (
            [int.from_bytes(hashed.signal.value) for hashed in item.hashes]
            for item in (self.photos[photo], self.copies[photo][edit])
        )
        return min((a ^ b).bit_count() for a in photo_values for b in copy_values)


@dataclass(frozen=True, slots=True)
class DemoFiles:
    """The photos of a demo, and files of what is uploaded.

    Attributes:
        names: file names of the submitted photos, without suffix.
        items: the submitted photos.
        copies: edited copies: those of the first photo in the order of `EDITS`, then the next.
        unrelated: photos that are not submitted.
    """

    names: tuple[str, ...]
    items: tuple[Item, ...]
    copies: tuple[Path, ...]
    unrelated: tuple[Path, ...]


def choose_files(terminal: Terminal, photos: Sequence[Path], folder: Path) -> DemoFiles:
    """Choose and hash the photos, and write their edited copies to a folder.

    Files are hashed in the sandbox, but decoded in this process for editing.

    Args:
        terminal: for the progress, and for photos that cannot be used.
        photos: the photos to submit; those of scikit-image if there are none.
        folder: for the copies.

    Raises:
        ExtraMissing: no photos were given, and scikit-image is not installed.
        TooPlain: no photo can be used.
    """
    bundled = _bundled()
    if not photos and bundled is None:
        raise ExtraMissing(
            "The demo has no photos. Name some, or install scikit-image, which comes with a few: "
            'pip install "nciihash[demo]"'
        )
    chosen = photos or [bundled / name for name in _SUBMITTED if bundled]
    names, items, sources = [], [], []
    for path, outcome in _hashed(chosen[:ITEMS_MAX], VariantSet.THOROUGH):
        if isinstance(outcome, FileRefused):
            terminal.refuse(path, outcome)
        elif outcome.hashes[0].plain:
            terminal.refuse(
                path, TooPlain("Too plain to be told apart from others, so it is skipped.")
            )
        else:
            names.append(path.stem)
            items.append(outcome)
            sources.append(path)
    if not items:
        raise TooPlain("None of these photos can be used. Name others.")

    copies = []
    with terminal.progress("Editing copies", len(sources) * len(EDITS)) as advance:
        for number, path in enumerate(sources):
            photo = Image.fromarray(read_pixels(path))
            photo.thumbnail((_SIDE_MAX, _SIDE_MAX))
            for edit_number, edit in enumerate(EDITS):
                file = folder / f"{number}-{edit_number}.{edit.format.lower()}"
                file.write_bytes(edit.apply(photo))
                copies.append(file)
                advance(1)

    submitted = {_digest(path) for path in sources}
    others = [bundled / name for name in _UNRELATED] if bundled else []
    unrelated = [path for path in others if path.is_file() and _digest(path) not in submitted]
    return DemoFiles(tuple(names), tuple(items), tuple(copies), tuple(unrelated))


def hash_photos(terminal: Terminal, photos: Sequence[Path], folder: Path) -> DemoHashes:
    """Choose the photos as `choose_files` does, and hash their copies and the unrelated photos.

    Raises:
        ExtraMissing: no photos were given, and scikit-image is not installed.
        TooPlain: no photo can be used.
    """
    files = choose_files(terminal, photos, folder)
    queries = [*files.copies, *files.unrelated]
    hashes: list[Item] = []
    with terminal.progress("Hashing", len(queries)) as advance:
        for _, outcome in _hashed(queries, VariantSet.MATCH, Level.THOROUGH):
            if isinstance(outcome, FileRefused):
                raise outcome  # a copy from above, or a file known to be good
            hashes.append(outcome)
            advance(1)
    count = len(files.copies)
    rows = [tuple(hashes[start : start + len(EDITS)]) for start in range(0, count, len(EDITS))]
    return DemoHashes(files.names, files.items, tuple(rows), tuple(hashes[count:]))


def _hashed(
    paths: Sequence[Path], variants: VariantSet, level: Level | None = None
) -> Iterator[tuple[Path, Item | FileRefused]]:
    return hash_files(paths, signals=[SignalType.PDQ], variants=variants.value, level=level)


def _bundled() -> Path | None:
    """Return the folder of scikit-image's photos, without importing it or downloading any."""
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "data"
    return folder if all((folder / name).is_file() for name in _SUBMITTED) else None


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


@dataclass(frozen=True, slots=True)
class PlatformMatches:
    """The matches of one platform, arranged as the photos in `DemoHashes`."""

    photos: tuple[Found, ...]
    copies: tuple[tuple[Found, ...], ...]
    unrelated: tuple[Found, ...]

    @classmethod
    def of(cls, hashes: DemoHashes, find: Find) -> Self:
        """Match all photos and copies.

        Args:
            hashes: what to match.
            find: returns the matches of each item, best first.
        """
        matches = iter(find(hashes.queries))
        return cls(
            tuple(next(matches) for _ in hashes.photos),
            tuple(tuple(next(matches) for _ in row) for row in hashes.copies),
            tuple(matches),
        )

    def nearest(self, photo: int, edit: int) -> Match | Hit | None:
        """Return the nearest match of a copy with its own photo, if there is one."""
        own = self._own(photo)
        return next((m for m in self.copies[photo][edit] if m.item in own), None)

    @property
    def false(self) -> int:
        """Number of unrelated photos that match, and of copies that match another photo."""
        wrong = sum(
            any(match.item not in self._own(photo) for match in matches)
            for photo, row in enumerate(self.copies)
            for matches in row
        )
        return wrong + sum(bool(matches) for matches in self.unrelated)

    @property
    def total(self) -> int:
        """Number of photos, copies and unrelated photos that match anything."""
        copies = [matches for row in self.copies for matches in row]
        return sum(bool(matches) for matches in (*self.photos, *copies, *self.unrelated))

    @property
    def ids(self) -> list[str]:
        """The ids of the signals that are nearest to a copy of their own photo."""
        return sorted(
            {
                nearest.id
                for photo, row in enumerate(self.copies)
                for edit in range(len(row))
                if (nearest := self.nearest(photo, edit))
            }
        )

    def _own(self, photo: int) -> frozenset[str]:
        """Return the items that the unedited photo matches: its own and near-duplicates."""
        return frozenset(match.item for match in self.photos[photo])


@dataclass(frozen=True, slots=True)
class Score:
    """The result of a demo.

    Attributes:
        copies: number of edited copies.
        found: number of copies that the platform with a bank matched with their photo.
        false: number of false matches, at the platform with more of them.
        after: number of matches at all platforms after the withdrawal.
    """

    copies: int
    found: int
    false: int
    after: int

    @property
    def line(self) -> str:
        """The last line of the demo's output."""
        return (
            f"demo: {self.found} of {self.copies} copies found, {self.false} false, "
            f"withdrawn: {self.after} found"
        )

    @property
    def good(self) -> bool:
        """Whether half the copies or more were found, with no false match, and none afterwards."""
        return 2 * self.found >= self.copies > 0 and not self.false and not self.after
