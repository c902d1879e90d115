"""The command `nciihash`: its entry point and its groups of commands."""

import os
from pathlib import Path
from typing import Annotated

import typer

from nciihash import __version__, core_dumps
from nciihash.cli import advocate as advocate_commands
from nciihash.cli import gate as gate_commands
from nciihash.cli import local as local_commands
from nciihash.cli import platform as platform_commands
from nciihash.cli import scan as scan_commands
from nciihash.cli import survivor as survivor_commands
from nciihash.cli.terminal import ExitCode, Terminal

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Stop copies of intimate pictures. Your own device computes a short hash of each picture. "
    "Only the hash is sent, and participating platforms recognise copies by it.",
)


def main() -> None:
    """Run the command line.

    Exit status: 0 success, 1 some files failed, 2 wrong usage, 3 the clearinghouse failed or
    refused, 130 Ctrl-C.
    """
    core_dumps.forbid()
    # The matrices of windows are small, and OpenBLAS's threads mostly wait for each other in busy
    # loops. It reads this when NumPy is loaded, which no module has done yet.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # If a standard stream is closed, the next file that is opened gets its number, and its output.
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    app()


def _version(value: bool) -> None:
    if value:
        typer.echo(f"nciihash {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Define the options that come before the name of a command."""


trial = typer.Typer()


@trial.command(rich_help_panel="To try it out")
def demo(
    photos: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Photos to use; by default, the ones that come with scikit-image.",
            show_default=False,
        ),
    ] = None,
    gate: Annotated[
        bool,
        typer.Option(
            "--gate",
            help="Show the gate: two sites that know nothing of hashes refuse copies, one through "
            "its virus scanner's protocol, the other behind Squid if that is installed.",
        ),
    ] = False,
) -> None:
    """Run a demonstration on this machine: submit, follow, match edited copies, withdraw.

    Starts a clearinghouse with a database in a temporary folder, and removes both at the end.

    Example: `nciihash demo` or `nciihash demo holiday.jpg`
    """
    # imported here because only the demo needs these packages
    if gate:
        from nciihash.cli.demo.gate import run
    else:
        from nciihash.cli.demo.walkthrough import run

    terminal = Terminal()
    with terminal.guard():
        if not run(terminal, photos or ()):
            raise typer.Exit(ExitCode.SOME_FAILED)


# in the order of --help
for commands in (
    local_commands.app,
    trial,
    survivor_commands.app,
    advocate_commands.app,
    platform_commands.app,
    scan_commands.app,
    gate_commands.app,
):
    app.add_typer(commands)
