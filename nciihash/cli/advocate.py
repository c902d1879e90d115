"""The commands of an advocate at a helpline, and `claim` for a case that an advocate opened."""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from nciihash.cli import tables
from nciihash.cli.clients import advocate_client, survivor_client
from nciihash.cli.options import AsJson, ReceiptFile, Server
from nciihash.cli.receipt import Receipt, report
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.wire import CaseStatus, Withdrawal
from nciihash.wire.advocates import AssistedCase

advocate = typer.Typer(
    no_args_is_help=True,
    help="Look after the cases that you opened for others with `submit --advocate`. Your key is "
    "read from NCIIHASH_ADVOCATE_KEY.",
)
app = typer.Typer()
app.add_typer(advocate, name="advocate", rich_help_panel="If you help somebody")

Reference = Annotated[str, typer.Argument(help="The reference of the case, such as 7KQ2.")]

_CODE: Final = """\
Pass this code on to the person whose case it is, and to nobody else. On their own device they run \
`nciihash claim --server {server}`, which asks for the code and shows them a case number and a \
passphrase. From then on only they can see the case. The code works once, until {until}. You \
lose access to the case when it is used."""


@advocate.command("list")
def list_cases(server: Server, as_json: AsJson = False) -> None:
    """List your open cases, and how many hours are left to the sites that you sent a notice."""
    terminal = Terminal(as_json=as_json)
    with terminal.guard(), advocate_client(server) as client:
        _show(terminal, client.cases().cases)


def _show(terminal: Terminal, cases: Sequence[AssistedCase]) -> None:
    if terminal.as_json:
        for case in cases:
            terminal.line(case.model_dump(mode="json"))
    else:
        terminal.show(tables.assisted_table(cases, now=datetime.now(UTC)))


@advocate.command()
def status(reference: Reference, server: Server, as_json: AsJson = False) -> None:
    """Show what each platform did about a case. This renews the case."""
    terminal = Terminal(as_json=as_json)
    with terminal.guard(), advocate_client(server) as client:
        reply: CaseStatus = client.status(reference)
        if as_json:
            terminal.line(reply.model_dump(mode="json"))
            return
        terminal.show(f"The case is {reply.state}. It expires at {tables.when(reply.expires)}.")
        terminal.show(tables.status_table(reply))


@advocate.command()
def withdraw(
    reference: Reference,
    server: Server,
    item: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Withdraw only one file: its number in the status. By default, all of them.",
            show_default=False,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: AsJson = False,
) -> None:
    """Withdraw one file of a case, or all of them and close it."""
    terminal = Terminal(as_json=as_json)
    with terminal.guard(), advocate_client(server) as client:
        what = "all files and close the case" if item is None else f"file {item}"
        if not yes and not terminal.agree(f"Withdraw {what}? Copies will no longer be stopped."):
            terminal.say("Nothing was changed.")
            return
        reply: Withdrawal = client.withdraw(reference, item)
        if as_json:
            terminal.line(reply.model_dump(mode="json"))
        else:
            terminal.show(f"{reply.withdrawn} withdrawn; {reply.remaining} still matched.")


@advocate.command()
def reported(reference: Reference, server: Server, as_json: AsJson = False) -> None:
    """Record that you have just sent a site a notice, which starts its 48 hours."""
    terminal = Terminal(as_json=as_json)
    with terminal.guard(), advocate_client(server) as client:
        _show(terminal, client.note_report(reference).cases)


@advocate.command("hand-over")
def hand_over(reference: Reference, server: Server, as_json: AsJson = False) -> None:
    """Get a code with which the person takes over the case. It replaces any earlier code."""
    terminal = Terminal(as_json=as_json)
    with terminal.guard(), advocate_client(server) as client:
        reply = client.hand_over(reference)
        if as_json:
            terminal.line(reply.model_dump(mode="json"))
            return
        terminal.show(f"Code    {tables.shown(reply.code)}")
        terminal.show(_CODE.format(server=server, until=tables.when(reply.until)))


@app.command(rich_help_panel="If it is your picture")
def claim(
    server: Server,
    receipt: ReceiptFile = None,
    as_json: AsJson = False,
) -> None:
    """Take over a case that a helpline opened for you. Afterwards only you can see it.

    You are asked for the code from the helpline, unless it is in NCIIHASH_CODE.
    """
    terminal = Terminal(as_json=as_json)
    with terminal.guard(), survivor_client(server) as client:
        try:
            code = os.environ.get("NCIIHASH_CODE") or terminal.ask_hidden("Code")
        except EOFError:
            terminal.say("A code is needed: type it here, or set NCIIHASH_CODE.")
            raise typer.Exit(ExitCode.USAGE) from None
        with Receipt(receipt) if receipt else nullcontext() as written:
            opened = client.claim(code)
            if written:
                written.write(opened, server)
            try:
                report(terminal, opened, [], server)
            finally:
                if written:
                    written.announce(terminal)
