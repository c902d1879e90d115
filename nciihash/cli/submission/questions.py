"""Questions that are asked before any file is opened."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

import typer

from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.wire import Reason

NOTHING_OPENED: Final = "No case was opened."
NOTHING_SENT: Final = f"Nothing was sent. {NOTHING_OPENED}"

REASONS: Final = {
    Reason.THREATENED: "somebody threatens to share them",
    Reason.SHARED: "somebody has shared them",
    Reason.PRECAUTION: "nothing has happened yet; I want to be safe",
    Reason.SYNTHETIC: "they are fake, for example made by a computer, and show me",
}

_NOT_ADULT: Final = """\
This service is for pictures of people who were 18 or older. For younger people there is other \
help, free and private, and you need not show anybody the pictures:
  Take It Down, by NCMEC, anywhere:          https://takeitdown.ncmec.org
  Report Remove, by IWF and Childline, UK:   https://www.childline.org.uk/remove
Please do not copy the pictures or send them to anybody, not even to get help. Nothing was opened \
or sent here."""

_NOT_DEPICTED: Final = """\
Only the person in the pictures can open a case here. If you want to help that person, sit with \
them while they do it; the choice is theirs. Nothing was opened or sent."""


@contextmanager
def nothing_sent_yet(terminal: Terminal) -> Iterator[None]:
    """Report that nothing was sent if Ctrl-C interrupts the block."""
    try:
        yield
    except KeyboardInterrupt:
        terminal.say(f"\n{NOTHING_SENT}")
        raise


def declare(terminal: Terminal) -> None:
    """Ask for the two declarations: of age, and of being the person depicted.

    Raises:
        typer.Exit: one of them was not made; the message has said where to find help.
    """
    if not terminal.agree("Were you 18 or older when these pictures were taken?"):
        refuse_minors(terminal)
    if not terminal.agree("Are you the person in them?"):
        terminal.say(_NOT_DEPICTED)
        raise typer.Exit(ExitCode.SOME_FAILED)


def refuse_minors(terminal: Terminal) -> NoReturn:
    """Name the services for pictures of people under 18, and end the command.

    Raises:
        typer.Exit: always.
    """
    terminal.say(_NOT_ADULT)
    raise typer.Exit(ExitCode.SOME_FAILED)


def ask_reason(terminal: Terminal) -> Reason:
    """Ask for the reason, in plain words."""
    terminal.say("What happened?")
    reasons = list(REASONS)
    for number, reason in enumerate(reasons, 1):
        terminal.say(f"  {number}  {REASONS[reason]}")
    while True:
        answer = terminal.ask("The number:")
        if answer in {str(number) for number in range(1, len(reasons) + 1)}:
            return reasons[int(answer) - 1]
        terminal.say(f"Please answer with a number from 1 to {len(reasons)}.")
