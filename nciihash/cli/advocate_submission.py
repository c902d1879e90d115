"""The work of `submit --advocate`: open a case for somebody who agreed, or add files to it."""

import os
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
from nciihash.signals import Item, SignalType, VariantSet
from nciihash.wire import ITEMS_MAX, ItemReceipt, Reason
from nciihash.wire.advocates import ASSISTED_ITEMS_MAX

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
