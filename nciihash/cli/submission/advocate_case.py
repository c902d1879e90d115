"""Open a case for somebody who agreed, or add files to it: `submit --advocate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from nciihash.cli import tables
from nciihash.cli.receipt import why_not
from nciihash.cli.submission.disclosure import disclose, sent_for_other
from nciihash.cli.submission.options import SubmitOptions
from nciihash.cli.submission.preparation import prepare, read_saved_items
from nciihash.cli.submission.questions import (
    NOTHING_SENT,
    ask_reason,
    nothing_sent_yet,
    refuse_minors,
)
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.errors import ServiceError
from nciihash.media.reading import name_fields
from nciihash.signals import Item
from nciihash.wire import ItemReceipt, ItemsAdded, Reason
from nciihash.wire.advocates import ASSISTED_ITEMS_MAX, OpenedForOther

if TYPE_CHECKING:
    from nciihash.client.advocate import AdvocateClient


_INCOMPLETE: Final = """\
It is not certain that the last {count} files were added to the case {reference}. Run `nciihash \
advocate status {reference}` to see what is in it, and add what is missing with \
--resume {reference}."""

_NO_CONSENT: Final = """\
Only the person in the pictures decides. Explain what a case is, and come back when they want one. \
Nothing was opened or sent."""

_MAYBE: Final = """\
It is not known whether the case was opened. If it was, `nciihash advocate list` shows it; then \
add to it with --resume."""


def submit_for_other(
    terminal: Terminal, client: "AdvocateClient", options: SubmitOptions
) -> ExitCode:
    """Open a case for somebody who agreed, or add files to one.

    Returns:
        `SOME_FAILED` if some file is not in the case; `OK` otherwise, also when the answer to the
        last question was no.

    Raises:
        typer.BadParameter: the options do not go together, or there are too many files.
        typer.Exit: the person did not agree or was too young, or nobody answered a question.
        InvalidRequest: the saved hashes cannot be read.
        ServiceError: something was not sent, or that is not known; the message has said which.
    """
    options.check()
    saved = read_saved_items(options, ASSISTED_ITEMS_MAX)
    reason = options.reason
    with nothing_sent_yet(terminal):
        if not options.yes and options.resume is None:
            _declare(terminal)
            reason = reason or ask_reason(terminal)
        prepared, failed = prepare(terminal, options, saved)
        if not prepared:
            terminal.say(NOTHING_SENT)
            return ExitCode.SOME_FAILED
        sent_with = sent_for_other(reason if options.resume is None else None)
        disclose(terminal, prepared, sent_with, show_hashes=options.show_hashes)
        if not options.yes and not terminal.agree("Send this now?"):
            terminal.say(NOTHING_SENT)
            return ExitCode.OK
    items = [item for _, item in prepared]
    reference, receipts = _send(terminal, client, items, reason, options.resume)
    _report(terminal, reference, receipts, [path for path, _ in prepared])
    if failed or any(receipt.accepted == 0 for receipt in receipts):
        return ExitCode.SOME_FAILED
    return ExitCode.OK


def _declare(terminal: Terminal) -> None:
    """Ask the advocate about the person's age and consent, before any file is opened.

    Raises:
        typer.Exit: the person was too young, or has not agreed.
    """
    if not terminal.agree("Was the person 18 or older when these pictures were taken?"):
        refuse_minors(terminal)
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
    """Send all items; if that fails halfway, say what may be missing.

    Returns:
        The reference of the case, and a receipt for each item.
    """
    replies: list[OpenedForOther | ItemsAdded] = []
    reference = resume
    with terminal.progress("Sending", len(items)) as advance:

        def sent(reply: OpenedForOther | ItemsAdded) -> None:
            nonlocal reference
            if isinstance(reply, OpenedForOther):
                reference = reply.reference
            advance(len(reply.items) - (len(replies[-1].items) if replies else 0))
            replies.append(reply)

        try:
            if resume is not None:
                client.add(resume, items, on_sent=sent)
            else:
                assert reason is not None  # noqa: S101 - asked for, or given with --yes
                client.open_case(
                    items, reason=reason, consent=True, adult=True, depicted=True, on_sent=sent
                )
        except (ServiceError, KeyboardInterrupt):
            if reference is not None:
                unsent = len(items) - (len(replies[-1].items) if replies else 0)
                terminal.say(_INCOMPLETE.format(reference=reference, count=unsent), style="bold")
            elif client.unanswered:
                terminal.say(_MAYBE, style="bold")
            raise
    assert reference is not None  # noqa: S101 - of the new case, or given
    return reference, list(replies[-1].items)


def _report(
    terminal: Terminal, reference: str, receipts: Sequence[ItemReceipt], paths: Sequence[Path]
) -> None:
    pairs = list(zip(receipts, paths, strict=False))
    if terminal.as_json:
        items = [name_fields(path) | item.model_dump(mode="json") for item, path in pairs]
        terminal.line({"reference": reference, "items": items})
        return
    terminal.show(f"The case is open. Its reference is {tables.shown(reference)}.")
    for item, path in pairs:
        note = "" if item.accepted else f" ({why_not(item)})"
        terminal.show(f"File {item.item:<9} {tables.shown(path)}{note}")
    terminal.show(
        f"Hand it over when the person is ready:  nciihash advocate hand-over {reference}"
    )
