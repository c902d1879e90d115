"""Options that several commands share."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from nciihash.signals import SignalType

LEVELS: Final = (
    "fast looks up the picture and the picture within its frame; windows also some 100 parts of "
    "it, and thorough nearly a thousand."
)


class SignalChoice(StrEnum):
    """A type of hash that can be computed from a file.

    `SignalType` also has the veiled types, which only a clearinghouse derives (`nciihash.veil`).
    """

    PDQ = SignalType.PDQ
    PHASH = SignalType.PHASH
    DHASH = SignalType.DHASH
    MD5 = SignalType.MD5
    SHA256 = SignalType.SHA256


AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON value per line, for programs.")
]
Server = Annotated[
    str,
    typer.Option(
        envvar="NCIIHASH_SERVER",
        help="Address of the clearinghouse: https://HOST.",
        show_default=False,
    ),
]
NoSandbox = Annotated[
    bool,
    typer.Option(
        "--no-sandbox",
        help="Open files in this process instead of the sandbox. Use it only for your own files, "
        "on a system where the sandbox cannot start.",
    ),
]
Recursive = Annotated[
    bool, typer.Option("--recursive", "-r", help="Search folders and their subfolders for files.")
]
Fast = Annotated[
    bool,
    typer.Option(
        "--fast",
        help="Hash large JPEG files many times faster. PDQ hashes may differ from the exact ones "
        "by up to 4 bits; phash and dhash stay exact.",
    ),
]
ReceiptFile = Annotated[
    Path | None,
    typer.Option(
        help="Write the case number and the passphrase to this new file, which only you can read.",
        show_default=False,
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of files to decode at the same time. By default, one per processor.",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Write results to this file, .jsonl or .parquet, while the command runs. Files that "
        "are already in it are skipped.",
        show_default=False,
    ),
]


def wanted_signals(choices: Sequence[SignalChoice] | None) -> tuple[SignalType, ...]:
    """Return the types of hash to compute: PDQ first, then the others that were asked for."""
    return tuple(dict.fromkeys((SignalType.PDQ, *map(SignalType, choices or ()))))
