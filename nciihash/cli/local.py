"""The commands that work on this device alone: hash, dedupe, compare and check."""

import string
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nciihash.cli import tables
from nciihash.cli.options import AsJson, Fast, Jobs, NoSandbox, Out, Recursive, wanted_signals
from nciihash.cli.results_file import Layout, ResultsFile
from nciihash.cli.saved_hashes import read_saved
from nciihash.cli.submission import too_plain
from nciihash.cli.summary import HASHES, RunSummary
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.errors import FileRefused, InvalidRequest
from nciihash.media.reading import files_in, name_fields
from nciihash.sandbox.parent import WALLS, Sandbox
from nciihash.sandbox.pool import cores, hash_files
from nciihash.signals import (
    Band,
    Hashed,
    Item,
    Media,
    Signal,
    SignalType,
    Variant,
    VariantSet,
    band,
)
from nciihash.vpdq import Comparison, Share, frames_of
from nciihash.vpdq import compare as compare_videos

app = typer.Typer()

_PANEL = "On this device"
_PDQ_DIGITS = SignalType.PDQ.bits // 4


@app.command("hash", rich_help_panel=_PANEL)
def hash_command(
    files: Annotated[list[Path], typer.Argument(help="Pictures and videos.")],
    signal: Annotated[
        list[SignalType] | None,
        typer.Option(help="Another kind of hash to make beside pdq; may be repeated."),
    ] = None,
    variants: Annotated[
        VariantSet, typer.Option(help="Which altered copies to hash as well.")
    ] = VariantSet.NONE,
    recursive: Recursive = False,
    fast: Fast = False,
    out: Out = None,
    jobs: Jobs = None,
    no_sandbox: NoSandbox = False,
    as_json: AsJson = False,
) -> None:
    """Hash pictures and videos. Nothing is sent, and only what --out names is written."""
    terminal = Terminal(as_json=as_json)
    rows: list[tuple[str, Item]] = []
    tally = RunSummary(terminal, "hashed", skip_foreign=recursive)
    with terminal.guard(), ExitStack() as stack:
        ledger = None if out is None else stack.enter_context(_ledger(out, HASHES))
        todo = tally.left(files_in(files) if recursive else files, ledger)
        advance = stack.enter_context(terminal.progress("Hashing", len(todo)))
        hashed = hash_files(
            todo,
            signals=wanted_signals(signal or ()),
            variants=variants.value,
            fast=fast,
            sandboxed=not no_sandbox,
            jobs=jobs or min(cores(), len(todo)),
        )
        stack.enter_context(closing(hashed))
        with tally.resumable(ledger):
            for path, outcome in hashed:
                if isinstance(outcome, FileRefused):
                    tally.refuse(path, outcome)
                else:
                    tally.done()
                    if ledger:
                        ledger.add(name_fields(path) | _described(outcome))
                    elif as_json:
                        terminal.line(name_fields(path) | _described(outcome))
                    else:
                        rows.append((str(path), outcome))
                    if not recursive:
                        terminal.note_frames(path, outcome)
                advance(1)
    with terminal.guard():
        if rows:
            terminal.show(tables.hash_table(rows))
    if recursive or out:
        tally.say()
    if tally.failed:
        raise typer.Exit(ExitCode.SOME_FAILED)


def _ledger(out: Path, layout: Layout) -> ResultsFile:
    try:
        return ResultsFile(out, layout)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@app.command(rich_help_panel=_PANEL)
def dedupe(
    files: Annotated[list[Path], typer.Argument(help="Folders, or pictures and videos.")],
    within: Annotated[
        int, typer.Option(min=0, max=64, help="Bits that hashes of one group differ at most.")
    ] = SignalType.PDQ.threshold,
    exact: Annotated[
        bool, typer.Option("--exact", help="Take exact hashes, for which JPEG takes longer.")
    ] = False,
    jobs: Jobs = None,
    no_sandbox: NoSandbox = False,
    as_json: AsJson = False,
) -> None:
    """Group files that show nearly the same. Nothing is sent, and no file is changed.

    Pictures are near each other directly or through others; of videos, four fifths of the frames of
    one must be near the other's. With --json, each group is a line.
    """
    terminal = Terminal(as_json=as_json)
    tally = RunSummary(terminal, "hashed", skip_foreign=True)
    names: list[Path] = []
    items: list[Item] = []
    with terminal.guard(), ExitStack() as stack:
        todo = list(files_in(files))
        advance = stack.enter_context(terminal.progress("Hashing", len(todo)))
        hashed = hash_files(
            todo,
            signals=[SignalType.PDQ],
            fast=not exact,
            sandboxed=not no_sandbox,
            jobs=jobs or min(cores(), len(todo)),
        )
        stack.enter_context(closing(hashed))
        for path, outcome in hashed:
            if isinstance(outcome, FileRefused):
                tally.refuse(path, outcome)
            else:
                tally.done()
                names.append(path)
                items.append(outcome)
            advance(1)
    from nciihash.search.near_duplicates import groups  # loads the search

    with terminal.guard():
        found = [[(names[m.file], m.distance) for m in group] for group in groups(items, within)]
        for number, group in enumerate(found if as_json else (), 1):
            members = [name_fields(path) | {"distance": bits} for path, bits in group]
            terminal.line({"group": number, "files": members})
        if found and not as_json:
            terminal.show(tables.group_table(found))
        tally.say()
        count = sum(len(group) for group in found)
        terminal.say(f"{count:,} of them are in {len(found):,} groups of near-duplicates.")
    if tally.failed:
        raise typer.Exit(ExitCode.SOME_FAILED)


def _described(item: Item) -> dict[str, object]:
    hashes = [
        {
            "type": hashed.signal.type.value,
            "value": hashed.signal.hex,
            "quality": hashed.quality,
            "variant": hashed.variant.value,
        }
        | ({} if hashed.time is None else {"time": round(hashed.time, 3)})
        for hashed in item.hashes
    ]
    told: dict[str, object] = {"media": item.media.value, "hashes": hashes}
    if item.reduced:
        told["fast"] = True
    if item.motion:
        told["motion"] = True
    return told | ({"every": item.every} if item.media is Media.VIDEO else {})


@app.command(rich_help_panel=_PANEL)
def compare(
    a: Annotated[str, typer.Argument(help="A picture or video, or a PDQ hash of 64 digits.")],
    b: Annotated[str, typer.Argument(help="Another one, or another hash.")],
    no_sandbox: NoSandbox = False,
    as_json: AsJson = False,
) -> None:
    """Tell how near two pictures or videos are, in bits and in words. Nothing is sent."""
    terminal = Terminal(as_json=as_json)
    with terminal.guard():
        # of one of two videos as many frames as matching takes: they may be cut at other moments
        first = _read(terminal, a, VariantSet.MATCH, sandboxed=not no_sandbox)
        second = _read(terminal, b, VariantSet.NONE, sandboxed=not no_sandbox)
        if first is None or second is None:
            raise typer.Exit(ExitCode.SOME_FAILED)
        pair = compare_videos(frames_of(first), frames_of(second))
        distance, videos = pair.distance, pair.query.frames > 1 or pair.bank.frames > 1
        near = band(SignalType.PDQ, distance) if distance <= SignalType.PDQ.threshold else None
        if as_json:
            qualities = None if videos else [first[0].quality, second[0].quality]
            told: dict[str, object] = {
                "distance": distance,
                "threshold": SignalType.PDQ.threshold,
                "band": near,
                "qualities": qualities,
            }
            terminal.line(told | (_shares(pair) if videos else {}))
            return
        if videos:
            terminal.show(
                f"{_count(pair.query, 'the first')} and {_count(pair.bank, 'the second')} are near "
                f"each other; {distance} bits differ between the nearest two."
            )
            return
        words = {
            Band.STRONG: "A strong match: almost surely copies of one picture.",
            Band.LIKELY: "A likely match: probably copies of one picture, one of them edited.",
            None: "No match: different pictures, or an edit that this hash does not see through.",
        }
        terminal.show(f"{distance} of {SignalType.PDQ.bits} bits differ. {words[near]}")
        if first[0].plain or second[0].plain:
            terminal.show("One of them is so plain that this says little.")


def _read(
    terminal: Terminal, text: str, variants: VariantSet, *, sandboxed: bool
) -> Sequence[Hashed] | None:
    """Take a hash as it is, and hash a file, untrimmed; None if it is refused, which is told."""
    if len(text) == _PDQ_DIGITS and set(text) <= set(string.hexdigits) and not Path(text).exists():
        return [Hashed(Signal.from_hex(SignalType.PDQ, text))]
    ((_, outcome),) = hash_files(
        [Path(text)], signals=[SignalType.PDQ], variants=variants.value, sandboxed=sandboxed
    )
    if isinstance(outcome, FileRefused):
        terminal.refuse(text, outcome)
        return None
    return [hashed for hashed in outcome.hashes if hashed.variant is Variant.ORIGINAL]


@app.command(rich_help_panel=_PANEL)
def check(
    file: Annotated[Path, typer.Argument(help="A copy of a picture or video, edited perhaps.")],
    against: Annotated[
        Path,
        typer.Option(
            help="What `nciihash hash --variants standard --json` wrote about the original, or "
            "what the page for use without internet saved.",
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
    plain = too_plain(outcome)
    found = compare_videos(frames_of(outcome.hashes), frames_of(held))
    distance, by = found.distance, found.variant
    near = band(SignalType.PDQ, distance) if distance <= SignalType.PDQ.threshold else None
    videos = found.query.frames > 1 or found.bank.frames > 1
    if as_json:
        told: dict[str, object] = {
            "found": near is not None,
            "distance": distance,
            "variant": by,
            "band": near,
            "too_plain": plain is not None,
        }
        terminal.line(told | (_shares(found) if videos else {}))
        return
    if plain is not None:
        terminal.show(
            f"This copy cannot be submitted. {plain} Compared all the same, {distance} bits differ "
            f"at least, and up to {SignalType.PDQ.threshold} are a match."
        )
        return
    if near is not None and videos:
        terminal.show(
            f"It would be found: {_count(found.query, 'this copy')} and "
            f"{_count(found.bank, 'the original')} are near each other."
        )
    elif near is None:
        terminal.show(
            f"It would not be found: {distance} bits differ at least, and up to "
            f"{SignalType.PDQ.threshold} are a match. Submit this copy as well."
        )
    else:
        terminal.show(f"It would be found: {distance} bits differ from the hash named {by}.")


@app.command(rich_help_panel=_PANEL)
def sandbox(as_json: AsJson = False) -> None:
    """Show what confines the process that opens files from strangers, on this system.

    Exit status 1 if it cannot start here, and then nothing would be hashed.
    """
    terminal = Terminal(as_json=as_json)
    with terminal.guard(), Sandbox() as box:
        isolation = box.isolation
    missing = [name for name in WALLS if name not in isolation]
    if as_json:
        terminal.line({"isolation": list(isolation), "missing": missing})
        return
    terminal.show(f"Files are opened behind: {', '.join(isolation)}.")
    if missing:
        terminal.show(f"This system does not give: {', '.join(missing)}.")


def _shares(found: Comparison) -> dict[str, object]:
    return {"query": asdict(found.query), "bank": asdict(found.bank)}


def _count(share: Share, of: str) -> str:
    return f"{share.found:,} of the {share.frames:,} frames of {of} ({share.of_one:.0%})"


def _held(path: Path) -> list[Hashed]:
    """Read the PDQ hashes that were saved and would be submitted."""
    entries = [hashed for item in read_saved(path) for hashed in item.hashes]
    held = [h for h in entries if h.signal.type is SignalType.PDQ and not h.plain]
    if not held:
        raise InvalidRequest("The file given with --against holds no hash fit to be submitted.")
    return held
