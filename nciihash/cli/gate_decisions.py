"""The commands of a moderator next to a gate: decide, except, exceptions, report."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nciihash.cli.options import AsJson
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.gate.decisions.records import operator_name
from nciihash.gate.decisions.report import Layout
from nciihash.signals import Verdict

# The client takes a while to load. It is imported where it is used, so that others start fast.
if TYPE_CHECKING:
    from nciihash.cli.deciding import GateFiles

app = typer.Typer()


class Decided(StrEnum):
    """A person's verdict."""

    BLOCKED = Verdict.BLOCKED
    NOT_BLOCKED = Verdict.NOT_BLOCKED
    UNSURE = Verdict.UNSURE


Config = Annotated[Path, typer.Option(help="The gate's configuration file.")]
ConfigFile = Path("gate.toml")


def _name(value: str) -> str:
    try:
        return operator_name(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _month(value: str) -> str:
    if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", value, re.ASCII):
        raise typer.BadParameter("Write the month as 2026-11.")
    return value


def _required_name(value: str) -> str:
    if not (name := _name(value)):
        raise typer.BadParameter("Say who excepts the file.")
    return name


@contextmanager
def _files(terminal: Terminal, config: Path) -> Iterator["GateFiles"]:
    """Yield where the gate has its files; turn errors of the block into messages."""
    with terminal.guard():
        from nciihash.cli.deciding import GateFiles
        from nciihash.gate.config import load

        settings = load(config, os.environ, with_key=False)
        yield GateFiles(settings.data, settings.reference_days)


@app.command("decide")
def decide_reference(
    reference: Annotated[str, typer.Argument(help="The reference that the gate returned.")],
    verdict: Annotated[Decided, typer.Argument(help="What should happen to the upload.")],
    by: Annotated[
        str, typer.Option(help="Your name, for the records of this platform.", callback=_name)
    ] = "",
    config: Config = ConfigFile,
    as_json: AsJson = False,
) -> None:
    """Decide about an upload that the gate blocked or left to you, also after an appeal.

    The clearinghouse receives the verdict, and the survivor sees it. You may decide again at any
    time while the reference is valid.

    Example: `nciihash gate decide 9F0C-5D3F-7BE1-4F4E-0B9D-3C1F-6A2E not_blocked --by Ana`
    """
    from nciihash.cli.deciding import DecideOptions, decide

    terminal = Terminal(as_json=as_json)
    options = DecideOptions(reference, Verdict(verdict), by)
    with _files(terminal, config) as files:
        decide(terminal, files, options, now=time.time())


@app.command("except")
def except_lawful(
    file: Annotated[Path, typer.Argument(help="The lawful picture or video.")],
    reference: Annotated[
        str, typer.Option(help="The reference of the decision that was wrong.", show_default=False)
    ],
    by: Annotated[
        str, typer.Option(help="Your name.", callback=_required_name, show_default=False)
    ],
    config: Config = ConfigFile,
    as_json: AsJson = False,
) -> None:
    """Stop blocking a lawful file, and report `not_blocked`.

    Only uploads that are nearly equal to this file pass from now on, and only where they resemble
    it more than what is in the bank. The gate stores hashes of this file, not the file.

    Example: `nciihash gate except art.jpg --reference 9F0C-5D3F-7BE1-4F4E-0B9D-3C1F-6A2E --by Ana`
    """
    from nciihash.cli.deciding import ExceptOptions, except_file

    terminal = Terminal(as_json=as_json)
    with _files(terminal, config) as files:
        except_file(terminal, files, ExceptOptions(file, reference, by), now=time.time())


@app.command("exceptions")
def exceptions(
    remove: Annotated[
        int | None, typer.Option(help="Remove the exception with this number.", show_default=False)
    ] = None,
    config: Config = ConfigFile,
    as_json: AsJson = False,
) -> None:
    """List what was excepted, by whom and when, or remove an exception.

    Example: `nciihash gate exceptions --remove 3`
    """
    from nciihash.cli.deciding import list_exceptions, remove_exception

    terminal = Terminal(as_json=as_json)
    code = ExitCode.OK
    with _files(terminal, config) as files:
        if remove is None:
            list_exceptions(terminal, files)
        else:
            code = remove_exception(terminal, files, remove)
    raise typer.Exit(code)


@app.command("report")
def report(
    month: Annotated[
        str,
        typer.Option(help="The month (UTC), such as 2026-11.", callback=_month, show_default=False),
    ],
    layout: Annotated[Layout, typer.Option("--format", help="How to print it.")] = Layout.TABLE,
    config: Config = ConfigFile,
    as_json: AsJson = False,
) -> None:
    """Report what the gate decided in a month, and what people decided about that.

    For dry runs it says how many uploads would have been stopped, and why.

    Example: `nciihash gate report --month 2026-11 --format csv`
    """
    from nciihash.cli.deciding import print_report

    terminal = Terminal(as_json=as_json or layout is Layout.JSON)
    with _files(terminal, config) as files:
        print_report(terminal, files, month, Layout.JSON if as_json else layout)
