"""The commands of a helpline's advocate, and taking over a case that one opened."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nciihash.cli import submission, tables
from nciihash.cli.options import AsJson, wanted_signals
from nciihash.cli.receipt import Receipt, report, why_not
from nciihash.cli.saved_hashes import read_saved
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.errors import ServiceError
from nciihash.signals import Item, SignalType, VariantSet
from nciihash.wire import ITEMS_MAX, CaseStatus, ItemReceipt, Reason, Withdrawal
from nciihash.wire.advocates import ASSISTED_ITEMS_MAX, AssistedCase

# Clients take a while to load, and most commands need none.
if TYPE_CHECKING:
    from nciihash.client.advocate import AdvocateClient
    from nciihash.client.survivor import Client

advocate = typer.Typer(
    no_args_is_help=True,
    help="Look after cases that you opened for others with `submit --advocate`. The key is read "
    "from NCIIHASH_ADVOCATE_KEY.",
)
app = typer.Typer()
app.add_typer(advocate, name="advocate", rich_help_panel="If you help somebody")

Server = Annotated[
    str,
    typer.Option(
        envvar="NCIIHASH_SERVER", help="The clearinghouse, https://HOST.", show_default=False
    ),
]
Reference = Annotated[str, typer.Argument(help="The case's reference, such as 7KQ2.")]

_PART: Final = """\
It is not certain that the last {count} files were added to the case {reference}. `nciihash \
advocate status {reference}` shows what is in it; add what is missing with --resume {reference}."""

_NO_CONSENT: Final = """\
Only the person in the pictures decides. Explain what a case is, and come back when they want one. \
Nothing was opened or sent."""

_UNKNOWN: Final = """\
It is not known whether the case was opened. `nciihash advocate list` shows it if it was; then add \
to it with --resume."""

_CODE: Final = """\
Give this code to the person whose case it is, and to nobody else. On a device of their own, \
`nciihash claim --server {server}` asks for it and shows them a case number and a passphrase. From \
then on only they can see the case. The code works once, until {until}; until then the case stays \
in your hands."""


@contextmanager
def door(server: str) -> "Iterator[AdvocateClient]":
    """Open the way to the clearinghouse with the key from the environment.

    Raises:
        typer.BadParameter: there is none.
    """
    key = os.environ.get("NCIIHASH_ADVOCATE_KEY", "")
    if not key:
        raise typer.BadParameter("Put the helpline's key into NCIIHASH_ADVOCATE_KEY.")
    from nciihash.client.advocate import AdvocateClient

    with AdvocateClient(server, key) as client:
        yield client


def own_door(server: str) -> "Client":
    """Open the way to the clearinghouse for somebody's own case."""
    from nciihash.client.survivor import Client

    return Client(server)


def submit_for_other(
    terminal: Terminal,
    files: Sequence[Path],
    server: str,
    *,
    saved: Path | None,
    reason: Reason | None,
    yes: bool,
    signal: Sequence[SignalType],
    variants: VariantSet,
    show_hashes: bool,
    sandboxed: bool,
    resume: str | None,
) -> None:
    """Open a case for somebody who agreed, or add files to one.

    Raises:
        typer.Exit: some files failed, or the person did not agree.
    """
    earlier = read_saved(saved) if saved else []
    if not files and not saved:
        raise typer.BadParameter("Name the pictures, or hashes made before with --from.")
    if (count := len(files) + len(earlier)) > ASSISTED_ITEMS_MAX:
        raise typer.BadParameter(
            f"A case holds at most {ASSISTED_ITEMS_MAX} files, and these are {count}. Nothing was "
            "sent."
        )
    with door(server) as client:
        with submission.nothing_sent_yet(terminal):
            if not yes and resume is None:
                _declare(terminal)
                reason = reason or submission.why(terminal)
            prepared, failed = submission.prepare(
                terminal, files, wanted_signals(signal), variants, sandboxed=sandboxed
            )
            if saved:
                fit, unfit = submission.choose(terminal, saved, earlier)
                prepared, failed = prepared + fit, failed + unfit
            if not prepared:
                terminal.say(submission.NOTHING_SENT)
                raise typer.Exit(ExitCode.SOME_FAILED)
            goes_with = submission.with_others(reason if resume is None else None)
            submission.explain(terminal, prepared, goes_with, show_hashes=show_hashes)
            if not yes and not terminal.agree("Send this now?"):
                terminal.say(submission.NOTHING_SENT)
                return
        items = [item for _, item in prepared]
        reference, receipts = _send(terminal, client, items, reason, resume)
    paths = [os.fsdecode(path) for path, _ in prepared]
    _report(terminal, reference, receipts, paths)
    if failed or any(receipt.accepted == 0 for receipt in receipts):
        raise typer.Exit(ExitCode.SOME_FAILED)


def _declare(terminal: Terminal) -> None:
    """Ask what the advocate has to know of the person, before any file is opened.

    Raises:
        typer.Exit: it is not so.
    """
    if not terminal.agree("Was the person 18 or older when these pictures were taken?"):
        submission.refuse_minors(terminal)
    if not terminal.agree("Does that person know what is sent, and agree to it?"):
        terminal.say(_NO_CONSENT)
        raise typer.Exit(ExitCode.SOME_FAILED)


def _send(
    terminal: Terminal,
    client: "AdvocateClient",
    items: Sequence[Item],
    reason: Reason | None,
    resume: str | None,
) -> tuple[str, list[ItemReceipt]]:
    """Send in parts of up to 200 files, and say what is missing if one of them fails."""
    parts = [items[start : start + ITEMS_MAX] for start in range(0, len(items), ITEMS_MAX)]
    from nciihash.client.sans_io import new_idempotency_key

    reference, receipts = resume, list[ItemReceipt]()
    with terminal.progress("Sending", len(items)) as advance:
        for part in parts:
            key = new_idempotency_key()
            if reference is None:
                assert reason is not None  # noqa: S101 - asked for, or given with --yes
                try:
                    opened = client.open_case(
                        part,
                        reason=reason,
                        consent=True,
                        adult=True,
                        depicted=True,
                        idempotency_key=key,
                    )
                except (ServiceError, KeyboardInterrupt):
                    if client.unanswered:
                        terminal.say(_UNKNOWN, style="bold")
                    raise
                reference, new = opened.reference, opened.items
            else:
                try:
                    new = client.add(reference, part, idempotency_key=key).items
                except (ServiceError, KeyboardInterrupt):
                    left = len(items) - len(receipts)
                    terminal.say(_PART.format(reference=reference, count=left), style="bold")
                    raise
            receipts += new
            advance(len(part))
    assert reference is not None  # noqa: S101 - there was one part at least
    return reference, receipts


def _report(
    terminal: Terminal, reference: str, receipts: Sequence[ItemReceipt], paths: Sequence[str]
) -> None:
    pairs = list(zip(receipts, paths, strict=False))
    if terminal.as_json:
        items = [{"file": path} | item.model_dump(mode="json") for item, path in pairs]
        terminal.line({"reference": reference, "items": items})
        return
    terminal.show(f"The case is open. Its reference is {tables.shown(reference)}.")
    for item, path in pairs:
        taken = "" if item.accepted else f" ({why_not(item)})"
        terminal.show(f"File {item.item:<9} {tables.shown(path)}{taken}")
    terminal.show(
        f"Hand it over when the person is ready:  nciihash advocate hand-over {reference}"
    )


@advocate.command("list")
def list_cases(server: Server, as_json: AsJson = False) -> None:
    """List your open cases, with the hours that sites you reported to have left."""
    terminal = Terminal(as_json=as_json)
    with terminal.guard(), door(server) as client:
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
    with terminal.guard(), door(server) as client:
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
    with terminal.guard(), door(server) as client:
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
    with terminal.guard(), door(server) as client:
        _show(terminal, client.note_report(reference).cases)


@advocate.command("hand-over")
def hand_over(reference: Reference, server: Server, as_json: AsJson = False) -> None:
    """Get the code by which the person takes the case over. An earlier code ends."""
    terminal = Terminal(as_json=as_json)
    with terminal.guard(), door(server) as client:
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
    with terminal.guard(), own_door(server) as client:
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
