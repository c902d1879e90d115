"""Hash the files of a submission, and refuse those that are not fit to be submitted."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias

import typer

from nciihash.cli.saved_hashes import read_saved
from nciihash.cli.submission.options import SubmitOptions
from nciihash.cli.terminal import Terminal
from nciihash.errors import FileRefused, TooPlain
from nciihash.sandbox.pool import hash_files
from nciihash.signals import QUALITY_MIN, Item, SignalType

Prepared: TypeAlias = list[tuple[Path, Item]]

_TOO_PLAIN: Final = """\
This picture is too plain: its fingerprint would match strangers' pictures, so it is not sent."""

_TOO_REGULAR: Final = """\
The pattern of this picture is too regular for a dependable fingerprint, so it is not sent. Use \
another version of the picture."""


def read_saved_items(options: SubmitOptions, items_max: int, advice: str = "") -> list[Item]:
    """Return the saved items, if they and the files together fit into one case.

    Args:
        options: names the files and the saved hashes.
        items_max: how many files a case holds.
        advice: what to do when there are more.

    Raises:
        typer.BadParameter: there are more.
        InvalidRequest: the saved hashes cannot be read.
    """
    saved = read_saved(options.saved) if options.saved else []
    if (count := len(options.files) + len(saved)) > items_max:
        raise typer.BadParameter(
            f"A case holds at most {items_max} files, and these are {count}. Nothing was sent."
            + (f" {advice}" if advice else "")
        )
    return saved


def prepare(
    terminal: Terminal, options: SubmitOptions, saved: Sequence[Item]
) -> tuple[Prepared, int]:
    """Return the items that can be sent, the saved ones last, and the number of the others.

    Saved items are named by the file that they are in, and their number in it.
    """
    prepared: Prepared = []
    with terminal.progress("Hashing", len(options.files)) as advance:
        for path, outcome in hash_files(
            options.files,
            signals=options.signals,
            variants=options.variants.value,
            sandboxed=options.sandboxed,
        ):
            if isinstance(outcome, FileRefused):
                terminal.refuse(path, outcome)
            elif item := _without_plain(terminal, path, outcome):
                terminal.note_frames(path, outcome)
                prepared.append((path, item))
            advance(1)
    for number, outcome in enumerate(saved, 1):
        path = Path(f"{options.saved}, number {number}")
        if item := _without_plain(terminal, path, outcome):
            prepared.append((path, item))
    return prepared, len(options.files) + len(saved) - len(prepared)


def too_plain(item: Item) -> TooPlain | None:
    """Return why no PDQ hash of a file is fit to be submitted, or None if one is."""
    if any(hashed.signal.type is SignalType.PDQ and not hashed.plain for hashed in item.hashes):
        return None
    regular = all(hashed.quality is None or hashed.quality >= QUALITY_MIN for hashed in item.hashes)
    return TooPlain(_TOO_REGULAR if regular else _TOO_PLAIN)


def _without_plain(terminal: Terminal, path: Path, item: Item) -> Item | None:
    """Return the item with only those hashes that may be sent; report it if none is left."""
    if (refusal := too_plain(item)) is not None:
        terminal.refuse(path, refusal)
        return None
    return replace(item, hashes=tuple(hashed for hashed in item.hashes if not hashed.plain))
