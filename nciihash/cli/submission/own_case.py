"""Open a case for one's own pictures."""

from contextlib import nullcontext
from typing import TYPE_CHECKING

from nciihash.cli.receipt import Receipt, report
from nciihash.cli.submission.disclosure import disclose, sent_with_own
from nciihash.cli.submission.options import SubmitOptions
from nciihash.cli.submission.preparation import Prepared, prepare, read_saved_items
from nciihash.cli.submission.questions import (
    NOTHING_OPENED,
    NOTHING_SENT,
    ask_reason,
    declare,
    nothing_sent_yet,
)
from nciihash.cli.submission.sending import send
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.wire import ITEMS_MAX, CaseOpened, Reason

if TYPE_CHECKING:
    from nciihash.client.survivor import Client


def submit(terminal: Terminal, client: "Client", options: SubmitOptions) -> ExitCode:
    """Open a case: ask, hash, explain what would be sent, send it, and show the credentials.

    Returns:
        `SOME_FAILED` if some file is not in the case; `OK` otherwise, also when the answer to the
        last question was no.

    Raises:
        typer.BadParameter: the options do not go together, or there are too many files.
        typer.Exit: a declaration was not made, or nobody answered a question.
        InvalidRequest: the saved hashes cannot be read.
        ServiceError: the case was not opened, or that is not known; the message has said which.
    """
    options.check()
    saved = read_saved_items(options, ITEMS_MAX, "Open several cases, each with some of them.")
    with nothing_sent_yet(terminal):
        reason = options.reason
        if not options.yes:
            declare(terminal)
            reason = reason or ask_reason(terminal)
        prepared, failed = prepare(terminal, options, saved)
        if not prepared:
            terminal.say(f"There is nothing left to send. {NOTHING_OPENED}")
            return ExitCode.SOME_FAILED
        assert reason is not None  # noqa: S101 - asked for above, or given with --yes
        disclose(terminal, prepared, sent_with_own(reason), show_hashes=options.show_hashes)
        if not options.yes and not terminal.agree("Send this now?"):
            terminal.say(NOTHING_SENT)
            return ExitCode.OK
    opened = _open(terminal, client, options, prepared, reason)
    missing = len(opened.items) < len(prepared)
    if failed or missing or any(item.accepted == 0 for item in opened.items):
        return ExitCode.SOME_FAILED
    return ExitCode.OK


def _open(
    terminal: Terminal, client: "Client", options: SubmitOptions, prepared: Prepared, reason: Reason
) -> CaseOpened:
    """Send the items, then show the credentials and write the receipt."""
    with Receipt(options.receipt) if options.receipt else nullcontext() as receipt:
        items = [item for _, item in prepared]
        opened = send(terminal, client, items, reason, ask=not options.yes)
        if receipt:
            receipt.write(opened, options.server)
        try:
            report(terminal, opened, [path for path, _ in prepared], options.server)
        finally:
            if receipt:
                receipt.announce(terminal)
    return opened
