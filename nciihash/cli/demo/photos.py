"""The photos of a demo, their edited copies and some strangers: hashed, looked for, counted."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Self

from PIL import Image

from nciihash.cli.demo.edits import EDITS
from nciihash.cli.terminal import Terminal
from nciihash.errors import ExtraMissing, FileRefused, TooPlain
from nciihash.hashing.image import read_pixels
from nciihash.sandbox.pool import hash_files
from nciihash.sdk.lookup import once
from nciihash.signals import Item, Match, Signal, SignalType
from nciihash.wire import ITEMS_MAX, Hit

Found = Sequence[Match | Hit]
Query = Callable[[Sequence[Signal]], Sequence[Found]]

_SUBMITTED: Final = ("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "rocket.jpg")
# Photographs that show something else. (Textures, drawings and scans of text are no fair test of a
# hash for photos, and `motorcycle_right` nearly equals `motorcycle_left`.)
_STRANGERS: Final = (
    *("cell.png", "coins.png", "hubble_deep_field.jpg", "ihc.png", "moon.png"),
    *("motorcycle_left.png", "retina.jpg"),
)
_SIDE_MAX: Final = 1600  # pixels of what copies are made from, so that large photos go fast


@dataclass(frozen=True, slots=True)
class DemoHashes:
    """Hashes, made in the sandbox from files.

    Attributes:
        names: the submitted photos' file names without their endings.
        photos: the submitted photos.
        copies: for each photo its edited copies, in the order of `EDITS`.
        strangers: photos that are not submitted.
    """

    names: tuple[str, ...]
    photos: tuple[Item, ...]
    copies: tuple[tuple[Item, ...], ...]
    strangers: tuple[Item, ...]

    @property
    def queries(self) -> list[tuple[Signal, ...]]:
        """Give what a platform looks for: the photos, then all copies, then the strangers."""
        copies = [copy for row in self.copies for copy in row]
        looked_for = (*copies, *self.strangers)
        photos = [(photo.hashes[0].signal,) for photo in self.photos]
        return photos + [tuple(h.signal for h in item.hashes) for item in looked_for]

    def distance(self, photo: int, edit: int) -> int:
        """Give the bits by which a copy's hashes differ from its photo's, at least."""
        ours, theirs = (
            [int.from_bytes(hashed.signal.value) for hashed in item.hashes]
            for item in (self.photos[photo], self.copies[photo][edit])
        )
        return min((a ^ b).bit_count() for a in ours for b in theirs)


def hang(terminal: Terminal, photos: Sequence[Path], folder: Path) -> DemoHashes:
    """Choose the photos, make their edited copies in a folder, and hash everything.

    Hashing happens in the sandbox; editing decodes the photos in this process.

    Args:
        terminal: hears of progress, and of photos that cannot be used.
        photos: what to submit; scikit-image's photos if there are none.
        folder: where to put the copies.

    Raises:
        ExtraMissing: no photos were given, and scikit-image is not installed.
        TooPlain: no photo can be used.
    """
    bundled = _bundled()
    if not photos and bundled is None:
        raise ExtraMissing(
            "There are no photos to show this with. Name some, or install scikit-image, which "
            'brings a few: pip install "nciihash[demo]"'
        )
    chosen = photos or [bundled / name for name in _SUBMITTED if bundled]
    names, items, sources = [], [], []
    for path, outcome in _hashed(chosen[:ITEMS_MAX], "standard"):
        if isinstance(outcome, FileRefused):
            terminal.refuse(path, outcome)
        elif outcome.hashes[0].plain:
            terminal.refuse(path, TooPlain("Too plain to be told from others, so it is left out."))
        else:
            names.append(path.stem)
            items.append(outcome)
            sources.append(path)
    if not items:
        raise TooPlain("None of these photos can be used: name others.")

    files = []
    with terminal.progress("Editing copies", len(sources) * len(EDITS)) as advance:
        for number, path in enumerate(sources):
            photo = Image.fromarray(read_pixels(path))
            photo.thumbnail((_SIDE_MAX, _SIDE_MAX))
            for edit_number, edit in enumerate(EDITS):
                file = folder / f"{number}-{edit_number}.{edit.format.lower()}"
                file.write_bytes(edit.apply(photo))
                files.append(file)
                advance(1)

    taken = {_digest(path) for path in sources}
    others = [bundled / name for name in _STRANGERS] if bundled else []
    others = [path for path in others if path.is_file() and _digest(path) not in taken]
    hashes: list[Item] = []
    with terminal.progress("Hashing", len(files) + len(others)) as advance:
        for _, outcome in _hashed([*files, *others], "match"):
            if isinstance(outcome, FileRefused):
                raise outcome  # we made it ourselves, or it is known to be good
            hashes.append(outcome)
            advance(1)
    rows = [tuple(hashes[start : start + len(EDITS)]) for start in range(0, len(files), len(EDITS))]
    return DemoHashes(tuple(names), tuple(items), tuple(rows), tuple(hashes[len(files) :]))


def _hashed(paths: Sequence[Path], variants: str) -> Iterator[tuple[Path, Item | FileRefused]]:
    return hash_files(paths, signals=[SignalType.PDQ], variants=variants)


def _bundled() -> Path | None:
    """Find the folder of scikit-image's photos without importing or fetching anything."""
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "data"
    return folder if all((folder / name).is_file() for name in _SUBMITTED) else None


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def _merged(answers: Sequence[Found]) -> Found:
    """Join what a picture and its trimmed form found."""
    return [m for _, m in once((SignalType.PDQ, m) for matches in answers for m in matches)]


@dataclass(frozen=True, slots=True)
class PlatformMatches:
    """What one platform found, arranged as the gallery is."""

    photos: tuple[Found, ...]
    copies: tuple[tuple[Found, ...], ...]
    strangers: tuple[Found, ...]

    @classmethod
    def of(cls, gallery: DemoHashes, query: Query) -> Self:
        """Look for everything in a gallery."""
        queries = gallery.queries
        answers = iter(query([signal for signals in queries for signal in signals]))
        found = iter([_merged([next(answers) for _ in signals]) for signals in queries])
        return cls(
            tuple(next(found) for _ in gallery.photos),
            tuple(tuple(next(found) for _ in row) for row in gallery.copies),
            tuple(found),
        )

    def nearest(self, photo: int, edit: int) -> Match | Hit | None:
        """Give the nearest match of a copy with its own photo."""
        own = self._own(photo)
        return next((m for m in self.copies[photo][edit] if m.item in own), None)

    @property
    def false(self) -> int:
        """Count strangers that match anything, and copies that match another photo."""
        wrong = sum(
            any(match.item not in self._own(photo) for match in matches)
            for photo, row in enumerate(self.copies)
            for matches in row
        )
        return wrong + sum(bool(matches) for matches in self.strangers)

    @property
    def total(self) -> int:
        """Count everything that matched anything: photos, copies and strangers."""
        copies = [matches for row in self.copies for matches in row]
        return sum(bool(matches) for matches in (*self.photos, *copies, *self.strangers))

    @property
    def ids(self) -> list[str]:
        """Name the signals that were nearest to a copy of their own photo."""
        return sorted(
            {
                nearest.id
                for photo, row in enumerate(self.copies)
                for edit in range(len(row))
                if (nearest := self.nearest(photo, edit))
            }
        )

    def _own(self, photo: int) -> frozenset[str]:
        """Give the items that the unedited photo matches: its own, and those of near-equal ones."""
        return frozenset(match.item for match in self.photos[photo])


@dataclass(frozen=True, slots=True)
class Score:
    """What was measured.

    Attributes:
        copies: edited copies that were looked for.
        found: those that every platform found.
        false: strangers, and copies of other photos, that any platform took for a match.
        after: whatever any platform still found after the withdrawal.
    """

    copies: int
    found: int
    false: int
    after: int

    @property
    def line(self) -> str:
        """Write the demo's last line."""
        return (
            f"demo: {self.found} of {self.copies} copies found, {self.false} false, "
            f"withdrawn: {self.after} found"
        )

    @property
    def good(self) -> bool:
        """Tell whether the demo showed what it is meant to show."""
        return 2 * self.found >= self.copies > 0 and not self.false and not self.after
