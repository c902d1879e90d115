"""The commands of somebody whose picture it is: submit, app, status, withdraw."""

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from nciihash.cli import tables
from nciihash.cli.clients import advocate_client, computing, survivor_client
from nciihash.cli.demo.local_service import become_page
from nciihash.cli.options import (
    AsJson,
    NoSandbox,
    ReceiptFile,
    Server,
    SignalChoice,
    wanted_signals,
)
from nciihash.cli.submission.advocate_case import submit_for_other
from nciihash.cli.submission.options import SubmitOptions
from nciihash.cli.submission.own_case import submit as submit_own
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.signals import SUBMITTED, VariantSet
from nciihash.wire import CaseState, Reason, Withdrawal

app = typer.Typer()

_PANEL: Final = "If it is your picture"

Case = Annotated[str, typer.Argument(help="The case number, such as K7Q4-29XD-MM3R.")]


Files = Annotated[
    list[Path] | None,
    typer.Argument(help="Pictures and videos. They stay on this device.", show_default=False),
]
SavedHashes = Annotated[
    Path | None,
    typer.Option(
        "--from",
        help="Send hashes from this file: the one that the offline page saved, or the output of "
        "`nciihash hash --variants standard --json`.",
        show_default=False,
    ),
]
Why = Annotated[
    Reason | None,
    typer.Option(help="Why you open the case. By default, you are asked.", show_default=False),
]
YesToAll = Annotated[
    bool,
    typer.Option(
        "--yes",
        help="Declare that you are in the pictures and were 18 or older, and send without asking.",
    ),
]
Signals = Annotated[
    list[SignalChoice] | None,
    typer.Option(help="Send this type of hash as well as pdq. May be repeated."),
]
Variants = Annotated[
    VariantSet,
    typer.Option(
        help="Altered copies to hash as well, so that crops, mirror images and pictures with a "
        "border are found too: standard (up to 26 a picture), full (up to 65) or thorough (up to "
        "43, for platforms that look up parts of uploads)."
    ),
]
ShowHashes = Annotated[
    bool, typer.Option("--show-hashes", help="Show the hashes before they are sent.")
]
Advocate = Annotated[
    bool,
    typer.Option(
        "--advocate",
        help="For helplines: open the case for somebody who agreed, with the key in "
        "NCIIHASH_ADVOCATE_KEY. With --yes you declare that they agreed and were 18 or older.",
    ),
]
Resume = Annotated[
    str | None,
    typer.Option(
        help="With --advocate: add the files to the case with this reference.", show_default=False
    ),
]


@app.command(rich_help_panel=_PANEL)
def submit(
    server: Server,
    files: Files = None,
    saved: SavedHashes = None,
    reason: Why = None,
    yes: YesToAll = False,
    signal: Signals = None,
    variants: Variants = SUBMITTED,
    show_hashes: ShowHashes = False,
    receipt: ReceiptFile = None,
    advocate: Advocate = False,
    resume: Resume = None,
    no_sandbox: NoSandbox = False,
    as_json: AsJson = False,
) -> None:
    """Open a case: hash your pictures and videos here, and send only the hashes.

    Participating platforms can then recognise copies and stop them. First you answer a few
    questions and see what would be sent. Afterwards you get a case number and a passphrase, with
    which you can see what platforms did, and withdraw.

    Example: `nciihash submit --server https://clearinghouse.example photo.jpg`
    """
    options = SubmitOptions(
        server,
        files or (),
        saved=saved,
        reason=reason,
        yes=yes,
        signals=wanted_signals(signal),
        variants=variants,
        show_hashes=show_hashes,
        receipt=receipt,
        advocate=advocate,
        resume=resume,
        sandboxed=not no_sandbox,
    )
    terminal = Terminal(as_json=as_json)
    with terminal.guard():
        if advocate:
            with advocate_client(server) as helper:
                code = submit_for_other(terminal, helper, options)
        else:
            with survivor_client(server) as client:
                code = submit_own(terminal, client, options)
    raise typer.Exit(code)


@app.command("app", rich_help_panel=_PANEL)
def open_page(
    server: Annotated[
        str | None,
        typer.Option(
            envvar="NCIIHASH_SERVER",
            help="Address of the clearinghouse that the page sends to: https://HOST. Without it, "
            "the page saves the fingerprints in a file for `submit --from` or for the page on the "
            "internet.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")
    ] = True,
) -> None:
    """Serve the web page from this machine and open it in your browser. Ctrl-C ends it.

    It is for people without internet access, and for helplines with many files. It sends to the
    clearinghouse only what the page on the internet would send, and writes nothing to disk.
    """
    with Terminal().guard():
        become_page(server, port, browser=browser)


def _passphrase(terminal: Terminal) -> str:
    """Return the passphrase from the environment or a hidden prompt.

    It is not an option: arguments are visible in `ps` and in the shell's history.
    """
    if passphrase := os.environ.get("NCIIHASH_PASSPHRASE"):
        return passphrase
    try:
        return terminal.ask_hidden("Passphrase")
    except EOFError:
        terminal.say("A passphrase is needed: type it here, or set NCIIHASH_PASSPHRASE.")
        raise typer.Exit(ExitCode.USAGE) from None


_NO_LONGER: Final = (
    "The clearinghouse no longer matches anything in it, and has instructed every platform to "
    "delete it. The table shows who has confirmed."
)


@app.command(rich_help_panel=_PANEL)
def status(case: Case, server: Server, as_json: AsJson = False) -> None:
    """Show what each platform did about your case. This renews the case.

    You are asked for the passphrase, unless it is in NCIIHASH_PASSPHRASE.

    Example: `nciihash status K7Q4-29XD-MM3R --server https://clearinghouse.example`
    """
    terminal = Terminal(as_json=as_json)
    with terminal.guard(), survivor_client(server) as client:
        passphrase = _passphrase(terminal)
        with computing(terminal) as on_work:
            reply = client.status(case, passphrase, on_work=on_work)
        if as_json:
            terminal.line(reply.model_dump(mode="json"))
            return
        sentences = {
            CaseState.OPEN: f"The case is open until {tables.when(reply.expires)}.",
            CaseState.WITHDRAWN: f"The case is withdrawn. {_NO_LONGER}",
            CaseState.EXPIRED: f"The case has expired. {_NO_LONGER}",
        }
        terminal.show(sentences[reply.state])
        terminal.show(tables.status_table(reply))


@app.command(rich_help_panel=_PANEL)
def withdraw(
    case: Case,
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
    """Withdraw one file, or all of them and close the case.

    From that moment the clearinghouse no longer matches what you withdrew, and every platform is
    instructed to delete it. You are asked for the passphrase, unless it is in NCIIHASH_PASSPHRASE.

    Example: `nciihash withdraw K7Q4-29XD-MM3R --item 2 --server https://clearinghouse.example`
    """
    terminal = Terminal(as_json=as_json)
    with terminal.guard(), survivor_client(server) as client:
        passphrase = _passphrase(terminal)
        what = "all files and close the case" if item is None else f"file {item}"
        if not yes and not terminal.agree(f"Withdraw {what}? Copies will no longer be stopped."):
            terminal.say("Nothing was changed.")
            return
        with computing(terminal) as on_work:
            reply = client.withdraw(case, passphrase, item, on_work=on_work)
        if as_json:
            terminal.line(reply.model_dump(mode="json"))
        else:
            terminal.show(_withdrawn(reply, item))


def _withdrawn(reply: Withdrawal, item: int | None) -> str:
    """Return what a withdrawal did, without claiming that platforms have deleted anything yet."""
    if reply.withdrawn == 0:
        subject = "The case" if item is None else f"File {item}"
        text = f"{subject} was withdrawn already."
    else:
        text = f"{reply.withdrawn} {'file' if reply.withdrawn == 1 else 'files'} withdrawn."
        pronoun = "it" if reply.withdrawn == 1 else "them"
        text += (
            f" The clearinghouse no longer matches {pronoun}, and has instructed every platform to "
            f"delete {pronoun}. The status shows who has confirmed."
        )
    if reply.remaining:
        verb = "file of the case is" if reply.remaining == 1 else "files of the case are"
        return f"{text} {reply.remaining} {verb} still matched."
    now = " now" if reply.withdrawn else ""
    return f"{text} No file of the case is left, so the case is{now} closed."
