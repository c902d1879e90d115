"""The command `scan`: match everything that a platform has stored against a bank, on many cores."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nciihash.cli.options import (
    LEVELS,
    AsJson,
    Fast,
    Jobs,
    NoSandbox,
    SignalChoice,
    wanted_signals,
)
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.signals import Level

app = typer.Typer()


class Engine(StrEnum):
    """Where a scan runs."""

    LOCAL = "local"
    RAY = "ray"


Source = Annotated[
    str,
    typer.Argument(
        help="A folder of pictures and videos, or of Parquet files of hashes as `hash --out` "
        "writes them; or the URL of such a folder."
    ),
]
ScannedBank = Annotated[
    Path,
    typer.Option(
        help="A bank that `follow` keeps up to date, or an index file of PDQ hashes.",
        show_default=False,
    ),
]
ResultsFolder = Annotated[
    Path,
    typer.Option(
        help="Folder for the results: a new one, or the one of an unfinished scan, which is then "
        "continued.",
        show_default=False,
    ),
]
Signals = Annotated[
    list[SignalChoice] | None,
    typer.Option(help="Hash files with this type as well as pdq. May be repeated."),
]
ScanLevel = Annotated[
    Level,
    typer.Option(
        help=f"How thoroughly to search: {LEVELS} The latter two also find crops, pictures with "
        "stickers, and parts of collages, and take longer; a person has to look at what they find.",
    ),
]
BlockSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of files or hashes in a block, whose results are saved together. By default, "
        "256 files or 262,144 hashes.",
        show_default=False,
    ),
]


@app.command(rich_help_panel="If you run a platform")
def scan(
    source: Source,
    bank: ScannedBank,
    out: ResultsFolder,
    engine: Annotated[
        Engine, typer.Option(help="Run on all cores of this machine, or on a Ray cluster.")
    ] = Engine.LOCAL,
    signal: Signals = None,
    level: ScanLevel = Level.FAST,
    fast: Fast = False,
    block: BlockSize = None,
    jobs: Jobs = None,
    no_sandbox: NoSandbox = False,
    as_json: AsJson = False,
) -> None:
    """Find out which of many stored files or hashes match something in a bank.

    The results are Parquet files in a folder, one for each finished block. To continue a scan that
    ended early, run the same command again. A scan uses the bank as it was when the scan began.

    Example: `nciihash scan photos/ --bank bank --out found`
    """
    terminal = Terminal(as_json=as_json)
    try:
        from nciihash.cli.scanning import ScanOptions, scan_source
    except ModuleNotFoundError as error:
        if error.name != "fcntl":
            raise
        terminal.fail(
            "bank_unavailable",
            "Banks need file locks that this system does not have. Run the scan on Linux or macOS.",
        )
        raise typer.Exit(ExitCode.USAGE) from None
    options = ScanOptions(
        source,
        bank,
        out,
        on_ray=engine is Engine.RAY,
        signals=wanted_signals(signal),
        level=level,
        fast=fast,
        block=block,
        jobs=jobs,
        sandboxed=not no_sandbox,
    )
    with terminal.guard():
        code = scan_source(terminal, options)
    raise typer.Exit(code)
