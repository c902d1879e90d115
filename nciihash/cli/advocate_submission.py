"""The work of `submit --advocate`: open a case for somebody who agreed, or add files to it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from nciihash.cli import submission, tables
from nciihash.cli.clients import advocate_client
from nciihash.cli.options import wanted_signals
from nciihash.cli.receipt import why_not
from nciihash.cli.saved_hashes import read_saved
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.errors import ServiceError
from nciihash.media.reading import name_fields
from nciihash.signals import Item, SignalType, VariantSet
from nciihash.wire import ItemReceipt, ItemsAdded, Reason
from nciihash.wire.advocates import ASSISTED_ITEMS_MAX, OpenedForOther

if TYPE_CHECKING:
    from nciihash.client.advocate import AdvocateClient


_PART: Final = """\
It is not certain that the last {count} files were added to the case {reference}. `nciihash \
advocate status {reference}` shows what is in it; add what is missing with --resume {reference}."""

_NO_CONSENT: Final = """\
Only the person in the pictures decides. Explain what a case is, and come back when they want one. \
Nothing was opened or sent."""

_UNKNOWN: Final = """\
It is not known whether the case was opened. `nciihash advocate list` shows it if it was; then add \
to it with --resume."""


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
    with advocate_client(server) as client:
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
    _report(terminal, reference, receipts, [path for path, _ in prepared])
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
    """Send everything, and say what is missing if that fails on the way."""
    known: list[OpenedForOther | ItemsAdded] = []
    reference = resume
    with terminal.progress("Sending", len(items)) as advance:

        def sent(receipt: OpenedForOther | ItemsAdded) -> None:
            nonlocal reference
            if isinstance(receipt, OpenedForOther):
                reference = receipt.reference
            advance(len(receipt.items) - (len(known[-1].items) if known else 0))
            known.append(receipt)

        try:
            if resume is not None:
                client.add(resume, items, sent=sent)
            else:
                assert reason is not None  # noqa: S101 - asked for, or given with --yes
                client.open_case(
                    items, reason=reason, consent=True, adult=True, depicted=True, sent=sent
                )
        except (ServiceError, KeyboardInterrupt):
            if reference is not None:
                left = len(items) - (len(known[-1].items) if known else 0)
                terminal.say(_PART.format(reference=reference, count=left), style="bold")
            elif client.unanswered:
                terminal.say(_UNKNOWN, style="bold")
            raise
    assert reference is not None  # noqa: S101 - it was opened, or given
    return reference, list(known[-1].items)


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
        taken = "" if item.accepted else f" ({why_not(item)})"
        terminal.show(f"File {item.item:<9} {tables.shown(path)}{taken}")
    terminal.show(
        f"Hand it over when the person is ready:  nciihash advocate hand-over {reference}"
    )
