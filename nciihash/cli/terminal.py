"""Speak to whoever runs a command: tables and sentences for people, JSON lines for programs.

Results go to standard output; questions, warnings, errors and progress to standard error. With
`--json` standard output carries one JSON value a line and nothing else, failures among them.
"""

import errno
import getpass
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import IntEnum
from os import PathLike, environ
from typing import Final, TextIO

import typer
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from nciihash.cli.interrupts import held_off, wait_writable
from nciihash.cli.tables import shown
from nciihash.errors import (
    BankError,
    FileRefused,
    InvalidRequest,
    NciihashError,
    ServiceError,
    ServiceRefused,
    explained,
)
from nciihash.hashing.frame_selection import EVERY
from nciihash.media.reading import name_fields
from nciihash.signals import Item, Media

_PIPE_WIDTH: Final = 160  # columns for tables that go to a file or another program


class ExitCode(IntEnum):
    """What a command's exit status means."""

    OK = 0
    SOME_FAILED = 1
    USAGE = 2
    SERVER = 3
    INTERRUPTED = 130


class _Console(Console):
    """A console that lets its caller know when its reader has gone."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None


class _Rate(ProgressColumn):
    """How many things a second."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.1f}/s")


@contextmanager
def _output() -> Iterator[None]:
    """Write to standard output; once that has failed, let it be, or its end would fail as well."""
    try:
        yield
    except OSError as error:
        sys.stdout = io.StringIO()
        if error.filename is None:
            error.filename = "standard output"
        raise


def _is_there(stream: TextIO | None) -> bool:
    """Tell whether a standard stream was open when this process began."""
    return stream is not None


class Terminal:
    """The two outputs of one command.

    Args:
        as_json: whether standard output is for programs.

    Raises:
        typer.Exit: standard output is closed, so that no result could be shown.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self._err = _Console(stderr=True, highlight=False)
        for stream in (sys.stdout, sys.stderr):
            # a name that the terminal's alphabet lacks must not end a command half-way
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        if not _is_there(sys.stdout):
            self.say("nciihash: Standard output is closed, so nothing was done: leave it open.")
            raise typer.Exit(ExitCode.USAGE)
        wide = None if sys.stdout.isatty() or "COLUMNS" in environ else _PIPE_WIDTH
        self._out = _Console(width=wide, highlight=False)

    def line(self, value: Mapping[str, object]) -> None:
        """Print one JSON value on a line of standard output, at once and whole.

        Ctrl-C takes effect after the line. Names that are no UTF-8 are written as `file_name` does,
        since strict readers refuse half of a surrogate pair.
        """
        text = json.dumps(_valid(value)) + "\n"
        with _output():
            wait_writable(sys.stdout)
            with held_off():
                sys.stdout.write(text)
                sys.stdout.flush()

    def show(self, thing: RenderableType) -> None:
        """Print a result for people on standard output; text is taken as it is, without markup."""
        with _output():
            self._out.print(Text(thing) if isinstance(thing, str) else thing)

    def say(self, text: str, *, style: str = "") -> None:
        """Print a sentence on standard error; where that fails, nobody is there to read it."""
        with suppress(OSError):
            self._err.print(Text(text, style=style), soft_wrap=True)

    def refuse(self, path: str | PathLike[str], refusal: FileRefused) -> None:
        """Tell that one file could not be used, on one line, and why."""
        reason = " ".join(str(refusal).split())
        if self.as_json:
            self.line(name_fields(path) | {"error": {"code": refusal.code, "message": reason}})
        else:
            self.say(f"{shown(path)}: {reason}", style="yellow")

    def note_frames(self, path: str | PathLike[str], item: Item) -> None:
        """Say so if a file holds more than what was hashed: other pictures, or more moments."""
        if item.media is Media.VIDEO:
            if item.every > EVERY:
                self.say(
                    f"{shown(path)}: this is so long that one frame was taken every "
                    f"{item.every:.3g} seconds rather than four a second. Shorter parts of it may "
                    "be missed.",
                    style="yellow",
                )
        elif item.frames > 1:
            self.say(
                f"{shown(path)}: only the first of the {item.frames:,} pictures in this file is "
                "covered. Save the others as files of their own.",
                style="yellow",
            )
        if item.motion:
            self.say(
                f"{shown(path)}: this photo holds a short video, which is not covered. Export that "
                "as a video in the program that plays it, and take it as well.",
                style="yellow",
            )

    def ask(self, question: str) -> str:
        """Put a question on standard error and read the answer's line.

        Raises:
            typer.Exit: there is nobody to answer.
        """
        answer = ""
        if _is_there(sys.stdin) and _is_there(sys.stderr):
            with suppress(OSError):
                sys.stderr.write(f"{question} ")
                sys.stderr.flush()
                answer = sys.stdin.readline()
        if not answer:
            self.say("\nThe question was not answered, so this ends here.")
            raise typer.Exit(ExitCode.USAGE)
        return answer.strip()

    def ask_hidden(self, what: str) -> str:
        """Read a secret: typed unseen at a terminal, or as one line of what is piped in.

        Raises:
            EOFError: there is none.
        """
        if not _is_there(sys.stdin):
            raise EOFError
        if sys.stdin.isatty():
            return getpass.getpass(f"{what}: ")
        if line := sys.stdin.readline().rstrip("\r\n"):
            return line
        raise EOFError

    def agree(self, question: str) -> bool:
        """Ask a question until the answer is yes or no."""
        while True:
            answer = self.ask(f"{question} [yes/no]").casefold()
            if answer in {"y", "yes"}:
                return True
            if answer in {"n", "no"}:
                return False
            self.say("Please answer yes or no.")

    @contextmanager
    def progress(self, what: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Show a bar on standard error, if that is a terminal and nothing else writes to it.

        Gives a function that is called with the number of things done since the last call.
        """
        quiet = not self._err.is_terminal or (self.as_json and sys.stdout.isatty())
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            console=self._err,
            transient=True,
            redirect_stdout=False,  # results belong on standard output, bar or no bar
            redirect_stderr=False,
            disable=quiet,
        )
        with bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.advance(task, done)

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Turn our errors into one line and an exit status.

        Raises:
            typer.Exit: with the status of whatever error came out of the block.
        """
        try:
            yield
        except NciihashError as error:
            # the service's own code says more than that it refused
            code = error.problem if isinstance(error, ServiceRefused) else error.code
            self.fail(code, str(error))
            raise typer.Exit(_status(error)) from None
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader has seen enough
                raise
            self.fail("os_error", explained(error))
            raise typer.Exit(ExitCode.USAGE) from None

    def fail(self, code: str, message: str) -> None:
        """Tell why the command ends: a sentence, and a line for programs if asked to."""
        message = " ".join(message.split())
        if self.as_json:
            with suppress(OSError):  # it may be standard output itself that failed
                self.line({"error": {"code": code, "message": message}})
        self.say(f"nciihash: {message}", style="red")


def _valid(value: object) -> object:
    """Replace what UTF-8 cannot express in the texts of a JSON value."""
    match value:
        case str():
            try:
                raw = value.encode(errors="surrogateescape")
            except UnicodeEncodeError:  # a surrogate that stands for no byte
                raw = value.encode(errors="backslashreplace")
            return raw.decode(errors="backslashreplace")
        case Mapping():
            return {key: _valid(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_valid(inner) for inner in value]
        case _:
            return value


def _status(error: NciihashError) -> ExitCode:
    match error:
        case InvalidRequest() | BankError():
            return ExitCode.USAGE
        case ServiceError():
            return ExitCode.SERVER
        case _:
            return ExitCode.SOME_FAILED
