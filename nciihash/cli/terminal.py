"""The output of a command: tables and sentences for people, JSON lines for programs.

Results go to standard output; questions, warnings, errors and progress to standard error. With
`--json`, standard output has one JSON value per line and nothing else; failures are such lines too.
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

from nciihash.cli.interrupts import deferred_interrupt, wait_writable
from nciihash.cli.tables import shown
from nciihash.errors import (
    BankError,
    ConfigInvalid,
    FileRefused,
    InvalidRequest,
    NciihashError,
    ServiceError,
    ServiceRefused,
    describe_os_error,
)
from nciihash.hashing.frame_selection import SAMPLE_INTERVAL
from nciihash.media.reading import name_fields
from nciihash.signals import Item, Media

_PIPE_WIDTH: Final = 160  # columns of tables that are written to a file or another program


class ExitCode(IntEnum):
    """Exit statuses of commands."""

    OK = 0
    SOME_FAILED = 1
    USAGE = 2
    SERVER = 3
    INTERRUPTED = 130


class _Console(Console):
    """A console that raises BrokenPipeError when its reader has exited, instead of exiting."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None


class _Rate(ProgressColumn):
    """The number of steps per second."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.1f}/s")


@contextmanager
def _output() -> Iterator[None]:
    """Write to standard output; once that fails, replace it, since closing it would fail again."""
    try:
        yield
    except OSError as error:
        sys.stdout = io.StringIO()
        if error.filename is None:
            error.filename = "standard output"
        raise


def _is_there(stream: TextIO | None) -> bool:
    """Whether a standard stream was open when this process started."""
    return stream is not None


class Terminal:
    """The standard streams of one command.

    Args:
        as_json: write JSON lines to standard output, for programs.

    Raises:
        typer.Exit: standard output is closed, so no result could be shown.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self._err = _Console(stderr=True, highlight=False)
        for stream in (sys.stdout, sys.stderr):
            # a character that the encoding lacks must not end a command halfway
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        if not _is_there(sys.stdout):
            self.say(
                "nciihash: Standard output is closed, so nothing was done. Run the command "
                "with standard output open."
            )
            raise typer.Exit(ExitCode.USAGE)
        width = None if sys.stdout.isatty() or "COLUMNS" in environ else _PIPE_WIDTH
        self._out = _Console(width=width, highlight=False)

    def line(self, value: Mapping[str, object]) -> None:
        """Print a JSON value on one line of standard output, and flush it.

        Ctrl-C takes effect after the line. Names that are not UTF-8 are escaped as `file_name` does
        it, since strict readers refuse lone surrogates.
        """
        text = json.dumps(_valid(value)) + "\n"
        with _output():
            wait_writable(sys.stdout)
            with deferred_interrupt():
                sys.stdout.write(text)
                sys.stdout.flush()

    def raw(self, text: str) -> None:
        """Print a text on standard output as it is, for programs."""
        with _output():
            wait_writable(sys.stdout)
            sys.stdout.write(text)
            sys.stdout.flush()

    def show(self, result: RenderableType) -> None:
        """Print a result for people on standard output. Strings are not parsed as markup."""
        with _output():
            self._out.print(Text(result) if isinstance(result, str) else result)

    def say(self, text: str, *, style: str = "") -> None:
        """Print a sentence on standard error. Errors are ignored: nobody could read them."""
        with suppress(OSError):
            self._err.print(Text(text, style=style), soft_wrap=True)

    def refuse(self, path: str | PathLike[str], refusal: FileRefused) -> None:
        """Report on one line that a file could not be used, and why."""
        reason = " ".join(str(refusal).split())
        if self.as_json:
            self.line(name_fields(path) | {"error": {"code": refusal.code, "message": reason}})
        else:
            self.say(f"{shown(path)}: {reason}", style="yellow")

    def note_frames(self, path: str | PathLike[str], item: Item) -> None:
        """Warn if only a part of a file was hashed: one of its pictures, or some frames."""
        if item.media is Media.VIDEO:
            if item.every > SAMPLE_INTERVAL:
                self.say(
                    f"{shown(path)}: this video is so long that one frame was taken every "
                    f"{item.every:.3g} seconds rather than four per second. Short excerpts of it "
                    "may be missed.",
                    style="yellow",
                )
        elif item.frames > 1:
            self.say(
                f"{shown(path)}: only the first of the {item.frames:,} pictures in this file is "
                "covered. Save the others as separate files.",
                style="yellow",
            )
        if item.motion:
            self.say(
                f"{shown(path)}: this photo contains a short video, which is not covered. Export "
                "it as a video file, and add that file as well.",
                style="yellow",
            )

    def ask(self, question: str) -> str:
        """Print a question on standard error, and return the answer: a line of standard input.

        Raises:
            typer.Exit: there is no answer.
        """
        answer = ""
        if _is_there(sys.stdin) and _is_there(sys.stderr):
            with suppress(OSError):
                sys.stderr.write(f"{question} ")
                sys.stderr.flush()
                answer = sys.stdin.readline()
        if not answer:
            self.say("\nThe question was not answered, so the command ends here.")
            raise typer.Exit(ExitCode.USAGE)
        return answer.strip()

    def ask_hidden(self, what: str) -> str:
        """Return a secret: typed at a terminal without echo, or one line of standard input.

        Raises:
            EOFError: the input has ended.
        """
        if not _is_there(sys.stdin):
            raise EOFError
        if sys.stdin.isatty():
            return getpass.getpass(f"{what}: ")
        if line := sys.stdin.readline().rstrip("\r\n"):
            return line
        raise EOFError

    def agree(self, question: str) -> bool:
        """Ask a question until the answer is yes or no; return whether it is yes."""
        while True:
            answer = self.ask(f"{question} [yes/no]").casefold()
            if answer in {"y", "yes"}:
                return True
            if answer in {"n", "no"}:
                return False
            self.say("Please answer yes or no.")

    @contextmanager
    def progress(self, what: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Show a progress bar on standard error, if it is a terminal to which nothing else writes.

        Yields:
            A function that takes the number of steps done since its last call.
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
            redirect_stdout=False,  # results go to standard output, with or without a bar
            redirect_stderr=False,
            disable=quiet,
        )
        with bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.advance(task, done)

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Turn errors of nciihash and of the system into a message and an exit status.

        Raises:
            typer.Exit: with the exit status for the error that the block raised.
        """
        try:
            yield
        except ConfigInvalid as error:
            for fault in error.faults if len(error.faults) > 1 else ():
                self.say(fault, style="yellow")
            self.fail(error.code, str(error) if len(error.faults) == 1 else error.summary)
            raise typer.Exit(ExitCode.USAGE) from None
        except NciihashError as error:
            # the service's own code is more specific
            code = error.problem if isinstance(error, ServiceRefused) else error.code
            self.fail(code, str(error))
            raise typer.Exit(_status(error)) from None
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader has exited
                raise
            self.fail("os_error", describe_os_error(error))
            raise typer.Exit(ExitCode.USAGE) from None

    def fail(self, code: str, message: str) -> None:
        """Report why the command ends: in a sentence, and with `--json` in a line as well."""
        message = " ".join(message.split())
        if self.as_json:
            with suppress(OSError):  # standard output itself may have failed
                self.line({"error": {"code": code, "message": message}})
        self.say(f"nciihash: {message}", style="red")


def _valid(value: object) -> object:
    """Return a JSON value with escapes for what UTF-8 cannot express in its strings."""
    match value:
        case str():
            try:
                raw = value.encode(errors="surrogateescape")
            except UnicodeEncodeError:  # a surrogate that does not stand for a byte
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
