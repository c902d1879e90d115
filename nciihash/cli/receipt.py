"""Show a case's number and passphrase on the screen, and write them to a file if asked to."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import typer

from nciihash.cli import tables
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.media.reading import name_fields
from nciihash.wire import CaseOpened, ItemReceipt

_NEXT_STEPS: Final = """\
Write down the number and the passphrase, or keep them in a password manager that nobody else \
uses. They are shown only this once, and nobody can look them up for you. Anyone who has both can \
see and withdraw the case.
  See what platforms did:   nciihash status {case} --server {server}
  Withdraw everything:      nciihash withdraw {case} --server {server}
If the pictures are online already, report them to the site as well: a case here is not a notice \
to the site. In the United States, under the TAKE IT DOWN Act, a site must remove them within 48 \
hours of a valid notice."""


def report(terminal: Terminal, opened: CaseOpened, paths: Sequence[Path], server: str) -> None:
    """Show the number and the passphrase, and what to do with them.

    Args:
        terminal: where to print them.
        opened: the service's reply.
        paths: the files that were sent, in order. The credentials are shown even if the reply has
            another number of items.
        server: address of the service.

    Raises:
        typer.Exit: standard output failed; number and passphrase are on standard error instead.
    """
    try:
        _report(terminal, opened, paths, server)
    except (OSError, UnicodeError):
        terminal.say(
            "Your case is open. Standard output failed, so what you need to look after the case "
            "is printed here:",
            style="bold",
        )
        terminal.say(_credentials(opened))
        raise typer.Exit(ExitCode.SOME_FAILED) from None


def _report(terminal: Terminal, opened: CaseOpened, paths: Sequence[Path], server: str) -> None:
    pairs = list(zip(opened.items, paths, strict=False))
    if terminal.as_json:
        value = opened.model_dump(mode="json")
        value["items"] = [name_fields(path) | item.model_dump(mode="json") for item, path in pairs]
        terminal.line(value)
        return
    terminal.show("Your case is open.")
    terminal.show(_credentials(opened))
    for item, path in pairs:
        note = "" if item.accepted else f" ({why_not(item)})"
        terminal.show(f"File {item.item:<9} {tables.shown(path)}{note}")
    terminal.show(_NEXT_STEPS.format(case=tables.shown(opened.case), server=server))


def why_not(item: ItemReceipt) -> str:
    """Return why none of a file's hashes was accepted."""
    if any(refusal.code == "quarantined" for refusal in item.refused):
        return "held back: it resembles a known harmless picture; the clearinghouse decides first"
    if any(refusal.code == "being_checked" for refusal in item.refused):
        return "held back: platforms did not block it before; the clearinghouse checks it first"
    return "not accepted: too plain"


def _credentials(opened: CaseOpened) -> str:
    return (
        f"Case number    {tables.shown(opened.case)}\n"
        f"Passphrase     {tables.shown(opened.passphrase)}\n"
        f"Open until     {tables.when(opened.expires)}; looking at its status renews it"
    )


class Receipt:
    """A new file for the number and the passphrase; a context manager.

    It is created before anything is sent, so that a folder without write access is noticed in time.
    If nothing was written to it, it is deleted at the end of the block. It holds no file names.

    Raises:
        typer.BadParameter: the file exists already.
        OSError: the file cannot be created.
    """

    def __init__(self, path: Path) -> None:
        try:
            # O_EXCL refuses a symbolic link, too
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise typer.BadParameter(
                "The file for the receipt exists already; nothing was sent. Name a new one."
            ) from None
        self._path = path
        self._written = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        if not self._written:
            with suppress(OSError):
                self._path.unlink()

    def write(self, opened: CaseOpened, server: str) -> None:
        """Write the receipt, durably. If that fails, `announce` says so."""
        count = sum(1 for item in opened.items if item.accepted)
        text = (
            f"{_credentials(opened)}\nClearinghouse  {server}\nFiles          {count}\n\n"
            f"{_NEXT_STEPS.format(case=tables.shown(opened.case), server=server)}\n"
        )
        unwritten = text.encode()
        with suppress(OSError):
            while unwritten:
                unwritten = unwritten[os.write(self._file, unwritten) :]
            os.fsync(self._file)
            self._written = True

    def announce(self, terminal: Terminal) -> None:
        """Print where the receipt is, or that it could not be written."""
        if self._written:
            terminal.say(f"The receipt is in {tables.shown(self._path)}.")
        else:
            terminal.say(
                "The receipt could not be written. Write down what is shown here.", style="bold"
            )
