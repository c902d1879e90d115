"""Hand over a case's number and passphrase: on the screen, and in a file if she wants one."""

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

_AFTERWARDS: Final = """\
Write down the number and the passphrase, or keep them in a password manager, where nobody else \
looks. They are shown this once, nobody can look them up for you, and whoever has both can see and \
withdraw the case.
  see what platforms did:   nciihash status {case} --server {server}
  take everything back:     nciihash withdraw {case} --server {server}
If the pictures are online already, report them to the site too: a case here is no such notice. In \
the United States, under the TAKE IT DOWN Act, a site must remove them within 48 hours of a valid \
notice."""


def report(terminal: Terminal, opened: CaseOpened, paths: Sequence[Path], server: str) -> None:
    """Hand over the number and the passphrase, with what to do with them.

    Args:
        terminal: where to speak.
        opened: the service's answer.
        paths: the files that were sent, in their order. An answer about another number of files is
            no reason to keep the passphrase from her.
        server: the service's address.

    Raises:
        typer.Exit: standard output failed; number and passphrase are on standard error instead.
    """
    try:
        _report(terminal, opened, paths, server)
    except (OSError, UnicodeError):
        terminal.say(
            "Your case is open, and this is what you need to look after it. It stands here because "
            "standard output failed.",
            style="bold",
        )
        terminal.say(_facts(opened))
        raise typer.Exit(ExitCode.SOME_FAILED) from None


def _report(terminal: Terminal, opened: CaseOpened, paths: Sequence[Path], server: str) -> None:
    pairs = list(zip(opened.items, paths, strict=False))
    if terminal.as_json:
        value = opened.model_dump(mode="json")
        value["items"] = [name_fields(path) | item.model_dump(mode="json") for item, path in pairs]
        terminal.line(value)
        return
    terminal.show("Your case is open.")
    terminal.show(_facts(opened))
    for item, path in pairs:
        taken = "" if item.accepted else f" ({why_not(item)})"
        terminal.show(f"File {item.item:<9} {tables.shown(path)}{taken}")
    terminal.show(_AFTERWARDS.format(case=tables.shown(opened.case), server=server))


def why_not(item: ItemReceipt) -> str:
    """Say why no hash of a file was taken."""
    if any(refusal.code == "quarantined" for refusal in item.refused):
        return "held back: it is like a known harmless picture, so the clearinghouse decides first"
    if any(refusal.code == "being_checked" for refusal in item.refused):
        return "held back: platforms did not block it before, so the clearinghouse checks it first"
    return "not taken: too plain"


def _facts(opened: CaseOpened) -> str:
    return (
        f"Case number    {tables.shown(opened.case)}\n"
        f"Passphrase     {tables.shown(opened.passphrase)}\n"
        f"Open until     {tables.when(opened.expires)}; each look at it renews it"
    )


class Receipt:
    """A file for the number and the passphrase, made before anything is sent.

    So a folder that cannot be written to is noticed while it is still time. A context manager: the
    file is gone again when nothing was written into it. It holds no file names.

    Raises:
        typer.BadParameter: the file exists already.
        OSError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        try:
            # O_EXCL also refuses a link that somebody else put there
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
        """Write the receipt; if that fails, the screen still shows it all, and `tell` says so."""
        count = sum(1 for item in opened.items if item.accepted)
        text = (
            f"{_facts(opened)}\nClearinghouse  {server}\nFiles          {count}\n\n"
            f"{_AFTERWARDS.format(case=tables.shown(opened.case), server=server)}\n"
        )
        rest = text.encode()
        with suppress(OSError):
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
            self._written = True

    def tell(self, terminal: Terminal) -> None:
        """Say where the receipt is, or that it could not be written."""
        if self._written:
            terminal.say(f"The receipt is in {tables.shown(self._path)}.")
        else:
            terminal.say(
                "The receipt could not be written. Write down what is shown here.", style="bold"
            )
