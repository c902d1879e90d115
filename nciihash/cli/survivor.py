"""The commands of somebody whose picture it is: submit, status, withdraw."""

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Final

import typer

from nciihash.cli import submission, tables
from nciihash.cli.advocate_submission import submit_for_other
from nciihash.cli.clients import survivor_client
from nciihash.cli.computing import computing
from nciihash.cli.demo.local_service import become_page
from nciihash.cli.options import AsJson, NoSandbox, Server, wanted_signals
from nciihash.cli.receipt import Receipt, report
from nciihash.cli.saved_hashes import read_saved
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.signals import SignalType, VariantSet
from nciihash.wire import ITEMS_MAX, CaseState, Reason, Withdrawal

app = typer.Typer()

_PANEL: Final = "If it is your picture"

Case = Annotated[str, typer.Argument(help="The case number, such as K7Q4-29XD-MM3R.")]


@app.command(rich_help_panel=_PANEL)
def submit(
    server: Server,
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Pictures and videos; they stay on this device.", show_default=False),
    ] = None,
    saved: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Send hashes made before: the file that the page for use without internet saved, "
            "or what `nciihash hash --variants standard --json` wrote.",
            show_default=False,
        ),
    ] = None,
    reason: Annotated[
        Reason | None, typer.Option(help="Why; asked for when left out.", show_default=False)
    ] = None,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes",
            help="Declare that you are in the pictures and were 18 or older, and send without "
            "asking.",
        ),
    ] = False,
    signal: Annotated[
        list[SignalType] | None,
        typer.Option(help="Another kind of hash to send beside pdq; may be repeated."),
    ] = None,
    variants: Annotated[
        VariantSet,
        typer.Option(
            help="Which altered copies to hash as well, so that crops, mirror images and frames "
            "are found too."
        ),
    ] = VariantSet.STANDARD,
    show_hashes: Annotated[
        bool, typer.Option("--show-hashes", help="Show the hashes themselves before sending.")
    ] = False,
    receipt: Annotated[
        Path | None,
        typer.Option(
            help="Write number and passphrase to this new file, which only you can read.",
            show_default=False,
        ),
    ] = None,
    advocate: Annotated[
        bool,
        typer.Option(
            "--advocate",
            help="For helplines: open it for somebody who agreed, with the key in "
            "NCIIHASH_ADVOCATE_KEY. With --yes you declare that they agreed and were 18 or older.",
        ),
    ] = False,
    resume: Annotated[
        str | None,
        typer.Option(
            help="With --advocate: add to the case with this reference.", show_default=False
        ),
    ] = None,
    no_sandbox: NoSandbox = False,
    as_json: AsJson = False,
) -> None:
    """Open a case: hash your pictures and videos here, and send the hashes, never the files.

    Platforms that take part can then recognise copies and stop them. You are asked a few questions
    first, shown what would be sent, and given a number and a passphrase to look after the case.
    """
    terminal = Terminal(as_json=as_json)
    if yes and reason is None and resume is None:
        raise typer.BadParameter("With --yes, say why with --reason as well.")
    if advocate:
        if receipt:
            raise typer.BadParameter(
                "A case opened for somebody has no receipt until they claim it."
            )
        with terminal.guard():
            submit_for_other(
                terminal,
                files or (),
                server,
                saved=saved,
                reason=reason,
                yes=yes,
                signal=signal or (),
                variants=variants,
                show_hashes=show_hashes,
                sandboxed=not no_sandbox,
                resume=resume,
            )
        return
    if resume:
        raise typer.BadParameter("--resume goes with --advocate.")
    with terminal.guard(), survivor_client(server) as client:
        earlier = read_saved(saved) if saved else []
        files = files or []
        if not files and not saved:
            raise typer.BadParameter("Name the pictures, or hashes made before with --from.")
        if (count := len(files) + len(earlier)) > ITEMS_MAX:
            raise typer.BadParameter(
                f"A case holds at most {ITEMS_MAX} files, and these are {count}. Nothing was "
                "sent. Open several cases, each with a part of them."
            )
        with submission.nothing_sent_yet(terminal):
            if not yes:
                submission.declare(terminal)
                reason = reason or submission.why(terminal)
            prepared, failed = submission.prepare(
                terminal, files, wanted_signals(signal or ()), variants, sandboxed=not no_sandbox
            )
            if saved:
                fit, unfit = submission.choose(terminal, saved, earlier)
                prepared, failed = prepared + fit, failed + unfit
            if not prepared:
                terminal.say(f"Nothing is left to send. {submission.NOTHING_OPENED}")
                raise typer.Exit(ExitCode.SOME_FAILED)
            assert reason is not None  # noqa: S101 - asked for above
            goes_with = submission.with_hers(reason)
            submission.explain(terminal, prepared, goes_with, show_hashes=show_hashes)
            if not yes and not terminal.agree("Send this now?"):
                terminal.say(submission.NOTHING_SENT)
                return
        with Receipt(receipt) if receipt else nullcontext() as paper:
            items = [item for _, item in prepared]
            opened = submission.send(terminal, client, items, reason, ask=not yes)
            if paper:
                paper.write(opened, server)
            try:
                report(terminal, opened, [path for path, _ in prepared], server)
            finally:
                if paper:
                    paper.tell(terminal)
        some_left = len(opened.items) < len(prepared)
        if failed or some_left or any(item.accepted == 0 for item in opened.items):
            raise typer.Exit(ExitCode.SOME_FAILED)


@app.command("app", rich_help_panel=_PANEL)
def open_page(
    server: Annotated[
        str | None,
        typer.Option(
            envvar="NCIIHASH_SERVER",
            help="The clearinghouse to which the page sends, https://HOST; without one it saves "
            "the fingerprints, for `submit --from` or the page on the internet.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any free port.")] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open it in the browser.")
    ] = True,
) -> None:
    """Open the page in your browser, from this machine alone, until Ctrl-C.

    For somebody without internet, and for helplines with many files. Only what the page of a
    clearinghouse would send is passed on, and nothing is written down.
    """
    with Terminal().guard():
        become_page(server, port, browser=browser)


def _passphrase(terminal: Terminal) -> str:
    """Take the passphrase from the environment or a hidden prompt; arguments show in `ps`."""
    if given := os.environ.get("NCIIHASH_PASSPHRASE"):
        return given
    try:
        return terminal.ask_hidden("Passphrase")
    except EOFError:
        terminal.say("A passphrase is needed: type it here, or set NCIIHASH_PASSPHRASE.")
        raise typer.Exit(ExitCode.USAGE) from None


_NO_LONGER: Final = (
    "The clearinghouse no longer matches anything in it, and has told every platform to delete it. "
    "The table shows who has confirmed."
)


@app.command(rich_help_panel=_PANEL)
def status(case: Case, server: Server, as_json: AsJson = False) -> None:
    """See what each platform did about your case. Looking renews it.

    The passphrase is asked for, or read from NCIIHASH_PASSPHRASE.
    """
    terminal = Terminal(as_json=as_json)
    with terminal.guard(), survivor_client(server) as client:
        passphrase = _passphrase(terminal)
        with computing(terminal) as working:
            found = client.status(case, passphrase, working=working)
        if as_json:
            terminal.line(found.model_dump(mode="json"))
            return
        words = {
            CaseState.OPEN: f"The case is open until {tables.when(found.expires)}.",
            CaseState.WITHDRAWN: f"The case is withdrawn. {_NO_LONGER}",
            CaseState.EXPIRED: f"The case has expired. {_NO_LONGER}",
        }
        terminal.show(words[found.state])
        terminal.show(tables.status_table(found))


@app.command(rich_help_panel=_PANEL)
def withdraw(
    case: Case,
    server: Server,
    item: Annotated[
        int | None,
        typer.Option(min=1, help="One file, by its number in the status.", show_default=False),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take back one file, or all of them and close the case.

    From that moment nothing of it matches at the clearinghouse, and every platform is told to
    delete it. The passphrase is asked for, or read from NCIIHASH_PASSPHRASE.
    """
    terminal = Terminal(as_json=as_json)
    with terminal.guard(), survivor_client(server) as client:
        passphrase = _passphrase(terminal)
        what = "all files and close the case" if item is None else f"file {item}"
        if not yes and not terminal.agree(f"Withdraw {what}? Copies will not be stopped any more."):
            terminal.say("Nothing was changed.")
            return
        with computing(terminal) as working:
            done = client.withdraw(case, passphrase, item, working=working)
        if as_json:
            terminal.line(done.model_dump(mode="json"))
        else:
            terminal.show(_withdrawn(done, item))


def _withdrawn(done: Withdrawal, item: int | None) -> str:
    """Say what a withdrawal did, and no more than is known: platforms delete in their own time."""
    if done.withdrawn == 0:
        first = "The case" if item is None else f"File {item}"
        said = f"{first} was withdrawn already."
    else:
        said = f"{done.withdrawn} {'file' if done.withdrawn == 1 else 'files'} withdrawn."
        what = "it" if done.withdrawn == 1 else "them"
        said += (
            f" The clearinghouse no longer matches {what}, and has told every platform to delete "
            f"{what}. The status shows who has confirmed."
        )
    if done.remaining:
        verb = "file of the case is" if done.remaining == 1 else "files of the case are"
        return f"{said} {done.remaining} {verb} still matched."
    closed = " now" if done.withdrawn else ""
    return f"{said} No file of the case is left, so the case is{closed} closed."
