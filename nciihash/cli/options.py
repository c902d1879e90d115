"""Options that several commands share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nciihash.signals import SignalType

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value a line, for programs.")]
Server = Annotated[
    str,
    typer.Option(
        envvar="NCIIHASH_SERVER", help="The clearinghouse, https://HOST.", show_default=False
    ),
]
NoSandbox = Annotated[
    bool,
    typer.Option(
        "--no-sandbox",
        help="Open files in this process itself. Only for files of your own, where the sandbox "
        "cannot start.",
    ),
]
Recursive = Annotated[
    bool, typer.Option("--recursive", "-r", help="Go through folders and the folders in them.")
]
Fast = Annotated[
    bool,
    typer.Option(
        "--fast",
        help="Large JPEG files many times faster, up to 4 bits from the exact hash. phash and "
        "dhash stay exact.",
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        min=1, help="Processes that decode at once; one a processor by default.", show_default=False
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Write results to this file, .jsonl or .parquet, as they come; what it holds already "
        "is not done again.",
        show_default=False,
    ),
]


def wanted_signals(more: Sequence[SignalType]) -> tuple[SignalType, ...]:
    """Give the types of hash to make: PDQ always, then those asked for beside it."""
    return tuple(dict.fromkeys((SignalType.PDQ, *more)))
