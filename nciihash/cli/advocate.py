"""The commands of a helpline's advocate, and taking over a case that one opened."""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from nciihash.cli import tables
from nciihash.cli.clients import advocate_client, survivor_client
from nciihash.cli.options import AsJson, Server
from nciihash.cli.receipt import Receipt, report
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.wire import CaseStatus, Withdrawal
from nciihash.wire.advocates import AssistedCase

advocate = typer.Typer(
    no_args_is_help=True,
    help="Look after cases that you opened for others with `submit --advocate`. The key is read "
    "from NCIIHASH_ADVOCATE_KEY.",
)
app = typer.Typer()
app.add_typer(advocate, name="advocate", rich_help_panel="If you help somebody")

Reference = Annotated[str, typer.Argument(help="The case's reference, such as 7KQ2.")]

_CODE: Final = """\
Give this code to the person whose case it is, and to nobody else. On a device of their own, \
`nciihash claim --server {server}` asks for it and shows them a case number and a passphrase. From \
then on only they can see the case. The code works once, until {until}; until then the case stays \
in your hands."""


@advocate.command("list")
def list_cases(server: Server, as_json: AsJson = False) -> None:
    """List your open cases, with the hours that sites you reported to have left."""
    terminal = Terminal(as_json=as_json)
    with terminal.guard(), advocate_client(server) as client:
        _show(terminal, client.cases().cases)


def _show(terminal: Terminal, found: Sequence[AssistedCase]) -> None:
    if terminal.as_json:
        for case in found:
            terminal.line(case.model_dump(mode="json"))
    else:
        terminal.show(tables.assisted_table(found, now=datetime.now(UTC)))


@advocate.command()
def status(reference: Reference, server: Server, as_json: AsJson = False) -> None:
    """See what each platform did about a case. Looking renews it."""
    terminal = Terminal(as_json=as_json)
    with terminal.guard(), advocate_client(server) as client:
        found: CaseStatus = client.status(reference)
        if as_json:
            terminal.line(found.model_dump(mode="json"))
            return
        terminal.show(f"The case is {found.state}; its time ends {tables.when(found.expires)}.")
        terminal.show(tables.status_table(found))


@advocate.command()
def withdraw(
    reference: Reference,
    server: Server,
    item: Annotated[
        int | None, typer.Option(min=1, help="One file, by its number.", show_default=False)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take back one file of a case, or all of them and close it."""
    terminal = Terminal(as_json=as_json)
    with terminal.guard(), advocate_client(server) as client:
        what = "all files and close the case" if item is None else f"file {item}"
        if not yes and not terminal.agree(f"Withdraw {what}? Copies will not be stopped any more."):
            terminal.say("Nothing was changed.")
            return
        done: Withdrawal = client.withdraw(reference, item)
        if as_json:
            terminal.line(done.model_dump(mode="json"))
        else:
            terminal.show(f"{done.withdrawn} withdrawn; {done.remaining} still matched.")


@advocate.command()
def reported(reference: Reference, server: Server, as_json: AsJson = False) -> None:
    """Note that you sent a site a notice just now: its 48 hours begin."""
    terminal = Terminal(as_json=as_json)
    with terminal.guard(), advocate_client(server) as client:
        _show(terminal, client.note_report(reference).cases)


@advocate.command("hand-over")
def hand_over(reference: Reference, server: Server, as_json: AsJson = False) -> None:
    """Get the code by which the person takes the case over. An earlier code ends."""
    terminal = Terminal(as_json=as_json)
    with terminal.guard(), advocate_client(server) as client:
        given = client.hand_over(reference)
        if as_json:
            terminal.line(given.model_dump(mode="json"))
            return
        terminal.show(f"Code    {tables.shown(given.code)}")
        terminal.show(_CODE.format(server=server, until=tables.when(given.until)))


@app.command(rich_help_panel="If it is your picture")
def claim(
    server: Server,
    receipt: Annotated[
        Path | None,
        typer.Option(
            help="Write number and passphrase to this new file, which only you can read.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take over a case that a helpline opened for you. Only you can see it afterwards.

    The code that they gave you is asked for, or read from NCIIHASH_CODE.
    """
    terminal = Terminal(as_json=as_json)
    with terminal.guard(), survivor_client(server) as client:
        try:
            code = os.environ.get("NCIIHASH_CODE") or terminal.ask_hidden("Code")
        except EOFError:
            terminal.say("A code is needed: type it here, or set NCIIHASH_CODE.")
            raise typer.Exit(ExitCode.USAGE) from None
        with Receipt(receipt) if receipt else nullcontext() as paper:
            opened = client.claim(code)
            if paper:
                paper.write(opened, server)
            try:
                report(terminal, opened, [], server)
            finally:
                if paper:
                    paper.tell(terminal)
