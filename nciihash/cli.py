"""The command `nciihash`: hash and compare here; the commands of both doors join in."""

import os
import string
from pathlib import Path
from typing import Annotated

import typer

from nciihash import __version__, tables
from nciihash import advocates as advocate_commands
from nciihash import platforms as platform_commands
from nciihash import survivors as survivor_commands
from nciihash.batch import hash_files, wanted_signals
from nciihash.errors import FileRefused, InvalidRequest
from nciihash.saved import read_saved
from nciihash.signals import Band, Hashed, Item, Signal, SignalType, VariantSet, band
from nciihash.terminal import AsJson, ExitCode, NoSandbox, Terminal

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Stop copies of intimate pictures. A picture is turned into a short hash on your own "
    "device; only the hash is sent, and platforms that take part recognise copies by it.",
)

_PDQ_DIGITS = SignalType.PDQ.bits // 4


def main() -> None:
    """Run the command line.

    Exit status: 0 done, 1 some files failed, 2 wrong usage, 3 the clearinghouse, 130 Ctrl-C.
    """
    # A file opened later would get the number of a standard stream that is closed, and its words.
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    app()


def _version(value: bool) -> None:
    if value:
        typer.echo(f"nciihash {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold the options that every command shares."""


@app.command("hash", rich_help_panel="On this device")
def hash_command(
    files: Annotated[list[Path], typer.Argument(help="Pictures.")],
    signal: Annotated[
        list[SignalType] | None,
        typer.Option(help="Another kind of hash to make beside pdq; may be repeated."),
    ] = None,
    variants: Annotated[
        VariantSet, typer.Option(help="Which altered copies to hash as well.")
    ] = VariantSet.NONE,
    no_sandbox: NoSandbox = False,
    as_json: AsJson = False,
) -> None:
    """Hash pictures. Nothing is sent and no file is written."""
    terminal = Terminal(as_json=as_json)
    rows: list[tuple[str, Item]] = []
    failed = False
    with terminal.guard(), terminal.progress("Hashing", len(files)) as advance:
        signals = wanted_signals(signal or ())
        hashed = hash_files(
            files, signals=signals, variants=variants.value, sandboxed=not no_sandbox
        )
        for path, outcome in hashed:
            if isinstance(outcome, FileRefused):
                failed = True
                terminal.refuse(path, outcome)
            elif as_json:
                terminal.line({"file": str(path)} | _described(outcome))
            else:
                rows.append((str(path), outcome))
            if isinstance(outcome, Item):
                terminal.note_frames(path, outcome)
            advance(1)
    with terminal.guard():
        if rows:
            terminal.show(tables.hash_table(rows))
    if failed:
        raise typer.Exit(ExitCode.SOME_FAILED)


def _described(item: Item) -> dict[str, object]:
    hashes = [
        {
            "type": hashed.signal.type.value,
            "value": hashed.signal.hex,
            "quality": hashed.quality,
            "variant": hashed.variant.value,
        }
        for hashed in item.hashes
    ]
    return {"media": item.media.value, "hashes": hashes}


@app.command(rich_help_panel="On this device")
def compare(
    a: Annotated[str, typer.Argument(help="A picture, or a PDQ hash of 64 digits.")],
    b: Annotated[str, typer.Argument(help="Another picture, or another hash.")],
    no_sandbox: NoSandbox = False,
    as_json: AsJson = False,
) -> None:
    """Tell how near two pictures are, in bits and in words. Nothing is sent."""
    terminal = Terminal(as_json=as_json)
    with terminal.guard():
        found = [_read(terminal, text, sandboxed=not no_sandbox) for text in (a, b)]
        first, second = found
        if first is None or second is None:
            raise typer.Exit(ExitCode.SOME_FAILED)
        distance = _distance(first.signal, second.signal)
        near = band(SignalType.PDQ, distance) if distance <= SignalType.PDQ.threshold else None
        if as_json:
            terminal.line(
                {
                    "distance": distance,
                    "threshold": SignalType.PDQ.threshold,
                    "band": near,
                    "qualities": [first.quality, second.quality],
                }
            )
            return
        words = {
            Band.STRONG: "A strong match: almost surely copies of one picture.",
            Band.LIKELY: "A likely match: probably copies of one picture, one of them edited.",
            None: "No match: different pictures, or an edit that this hash does not see through.",
        }
        terminal.show(f"{distance} of {SignalType.PDQ.bits} bits differ. {words[near]}")
        if first.plain or second.plain:
            terminal.show("One of them is so plain that this says little.")


def _read(terminal: Terminal, text: str, *, sandboxed: bool) -> Hashed | None:
    """Take a hash as it is, and hash a file; None if the file is refused, which is told."""
    if len(text) == _PDQ_DIGITS and set(text) <= set(string.hexdigits) and not Path(text).exists():
        return Hashed(Signal.from_hex(SignalType.PDQ, text))
    ((_, outcome),) = hash_files([Path(text)], signals=[SignalType.PDQ], sandboxed=sandboxed)
    if isinstance(outcome, FileRefused):
        terminal.refuse(text, outcome)
        return None
    return outcome.hashes[0]


def _distance(a: Signal, b: Signal) -> int:
    return (int.from_bytes(a.value) ^ int.from_bytes(b.value)).bit_count()


@app.command(rich_help_panel="On this device")
def check(
    file: Annotated[Path, typer.Argument(help="A copy of a picture, edited perhaps.")],
    against: Annotated[
        Path,
        typer.Option(
            help="What `nciihash hash --variants standard --json` wrote about the picture, or what "
            "the page for use without internet saved.",
            show_default=False,
        ),
    ],
    no_sandbox: NoSandbox = False,
    as_json: AsJson = False,
) -> None:
    """Find out whether a copy would be found by a platform that trims frames. Nothing is sent."""
    terminal = Terminal(as_json=as_json)
    with terminal.guard():
        held = _held(against)
        ((_, outcome),) = hash_files(
            [file],
            signals=[SignalType.PDQ],
            variants=VariantSet.MATCH.value,
            sandboxed=not no_sandbox,
        )
        if isinstance(outcome, FileRefused):
            terminal.refuse(file, outcome)
            raise typer.Exit(ExitCode.SOME_FAILED)
    distance, by = min(
        (_distance(kept.signal, ours.signal), kept.variant)
        for kept in held
        for ours in outcome.hashes
    )
    near = band(SignalType.PDQ, distance) if distance <= SignalType.PDQ.threshold else None
    if as_json:
        terminal.line(
            {"found": near is not None, "distance": distance, "variant": by, "band": near}
        )
        return
    if near is None:
        terminal.show(
            f"It would not be found: {distance} bits differ at least, and up to "
            f"{SignalType.PDQ.threshold} are a match. Submit this copy as well."
        )
    else:
        terminal.show(f"It would be found: {distance} bits differ from the hash named {by}.")


def _held(path: Path) -> list[Hashed]:
    """Read the PDQ hashes that were saved and would be submitted."""
    entries = [hashed for item in read_saved(path) for hashed in item.hashes]
    held = [h for h in entries if h.signal.type is SignalType.PDQ and not h.plain]
    if not held:
        raise InvalidRequest("The file given with --against holds no hash fit to be submitted.")
    return held


app.add_typer(survivor_commands.app)
app.add_typer(advocate_commands.app)
app.add_typer(platform_commands.app)


@app.command(rich_help_panel="To try it out")
def demo(
    photos: Annotated[
        list[Path] | None,
        typer.Argument(help="Photos to use; scikit-image's own by default.", show_default=False),
    ] = None,
) -> None:
    """See the whole way, on this machine alone: submit, follow, match edited copies, withdraw.

    Starts a clearinghouse with a database in a temporary folder, and removes both at the end.
    """
    from nciihash.demo import run  # only this command needs what the demo needs

    terminal = Terminal()
    with terminal.guard():
        if not run(terminal, photos or ()):
            raise typer.Exit(ExitCode.SOME_FAILED)
