"""Follow the feed of a clearinghouse into a bank, and report the progress."""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import typer

from nciihash.bank.bank import Bank
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.client.platform import PlatformClient
from nciihash.sdk.follow_loop import Progress, Stop, follow
from nciihash.sdk.veiled import load_veil, save_veil
from nciihash.veil import Veil


@dataclass(frozen=True, slots=True)
class FollowOptions:
    """Where to follow the feed to.

    Attributes:
        bank: file of the bank; it is created if it does not exist.
        veil: store only a part of each hash.
        once: end when the bank holds everything in the feed.
    """

    bank: Path
    veil: bool = False
    once: bool = False


def follow_into_bank(
    terminal: Terminal, client: PlatformClient, options: FollowOptions
) -> ExitCode:
    """Follow the feed until SIGTERM or SIGINT; with `once`, until the bank is up to date.

    Call it in the main thread, since it handles these signals.

    Returns:
        `INTERRUPTED` after SIGINT, else `OK`.

    Raises:
        typer.BadParameter: the bank is veiled and `veil` is not set, or the other way round.
        NciihashError, OSError: as `nciihash.sdk.follow_loop.follow` does.
    """
    stop = Stop()
    with Bank.open(options.bank) as bank, stop.on_signals():
        veil = _open_veil(client, bank, options)
        progress = follow(
            client, bank, once=options.once, veil=veil, stop=stop, on_progress=_reporter(terminal)
        )
        if terminal.as_json:
            terminal.line(_progress_line(progress))
        else:
            terminal.show(
                f"{progress.signals:,} signals in the bank; {progress.added:,} added and "
                f"{progress.removed:,} removed in this run."
            )
    return ExitCode.INTERRUPTED if stop.signal == signal.SIGINT else ExitCode.OK


def _open_veil(client: PlatformClient, bank: Bank, options: FollowOptions) -> Veil | None:
    """Return how the bank is veiled, or None; fetch the veil for a new bank that is to have one."""
    veil = load_veil(options.bank)
    if options.veil == (veil is not None):
        return veil
    if not options.veil:
        raise typer.BadParameter("This bank is veiled: add --veil, or name another file.")
    if bank.cursor is not None:
        raise typer.BadParameter("This bank holds whole hashes. Name another file for --veil.")
    veil = client.veil()
    save_veil(options.bank, veil)
    return veil


def _reporter(terminal: Terminal) -> Callable[[Progress], None]:
    """Return a function that reports what has changed since its last call.

    It writes JSON lines to standard output if the terminal does, else sentences to standard error.
    """
    last = Progress()

    def report(progress: Progress) -> None:
        nonlocal last
        previous, last = last, progress
        if progress == previous:
            return
        if terminal.as_json:
            terminal.line(_progress_line(progress))
        elif progress.error:
            terminal.say(f"{progress.error.rstrip('.')}. Retrying.", style="yellow")
        elif progress.rebuilding and not previous.rebuilding:
            terminal.say(
                "The cursor has expired, so the feed is read again from its start into a second "
                "bank, which then replaces this one."
            )
        elif progress.current:
            terminal.say(f"Up to date: {progress.signals:,} signals.")
        else:
            terminal.say(f"{progress.added:,} added, {progress.removed:,} removed so far.")

    return report


def _progress_line(progress: Progress) -> dict[str, object]:
    return {
        "signals": progress.signals,
        "added": progress.added,
        "removed": progress.removed,
        "current": progress.current,
        "rebuilding": progress.rebuilding,
        "trouble": progress.error,
    }
