"""The commands that work only on this device: hash, dedupe, compare, check and sandbox."""

import string
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nciihash.cli import tables
from nciihash.cli.options import (
    AsJson,
    Fast,
    Jobs,
    NoSandbox,
    Out,
    Recursive,
    SignalChoice,
    wanted_signals,
)
from nciihash.cli.results_file import open_results
from nciihash.cli.saved_hashes import read_saved
from nciihash.cli.submission.preparation import too_plain
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
    files: Annotated[
        list[Path], typer.Argument(help="Pictures and videos; with --recursive, folders as well.")
    ],
    signal: Annotated[
        list[SignalChoice] | None,
        typer.Option(help="Compute this type of hash as well as pdq. May be repeated."),
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
    """Hash pictures and videos. Nothing is sent, and nothing but the file of --out is written.

    Example: `nciihash hash photo.jpg` or `nciihash hash photos/ --recursive --out hashes.parquet`
    """
    terminal = Terminal(as_json=as_json)
    rows: list[tuple[str, Item]] = []
    summary = RunSummary(terminal, "hashed", skip_unsupported=recursive)
    with terminal.guard(), ExitStack() as stack:
        results = open_results(out, HASHES, stack)
        todo = summary.not_done(files_in(files) if recursive else files, results)
        advance = stack.enter_context(terminal.progress("Hashing", len(todo)))
        hashed = hash_files(
            todo,
            signals=wanted_signals(signal),
            variants=variants.value,
            fast=fast,
            sandboxed=not no_sandbox,
            jobs=jobs or min(cores(), len(todo)),
        )
        stack.enter_context(closing(hashed))
        with summary.resumable(results):
            for path, outcome in hashed:
                if isinstance(outcome, FileRefused):
                    summary.refuse(path, outcome)
                else:
                    summary.done()
                    if results:
                        results.add(name_fields(path) | _item_line(outcome))
                    elif as_json:
                        terminal.line(name_fields(path) | _item_line(outcome))
                    else:
                        rows.append((str(path), outcome))
                    if not recursive:
                        terminal.note_frames(path, outcome)
                advance(1)
    with terminal.guard():
        if rows:
            terminal.show(tables.hash_table(rows))
    if recursive or out:
        summary.say()
    if summary.failed:
        raise typer.Exit(ExitCode.SOME_FAILED)


@app.command(rich_help_panel=_PANEL)
def dedupe(
    files: Annotated[list[Path], typer.Argument(help="Pictures, videos and folders.")],
    within: Annotated[
        int,
        typer.Option(
            min=0, max=64, help="Largest distance, in bits, of files that are near-duplicates."
        ),
    ] = SignalType.PDQ.threshold,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Compute exact hashes, which takes longer for JPEG files."),
    ] = False,
    jobs: Jobs = None,
    no_sandbox: NoSandbox = False,
    as_json: AsJson = False,
) -> None:
    """Find groups of near-duplicates. Nothing is sent, and no file is changed.

    Each picture in a group is a near-duplicate of at least one other in it. Two videos are
    near-duplicates if four fifths of the frames of one match the other's. With --json, each group
    is a line.

    Example: `nciihash dedupe photos/`
    """
    terminal = Terminal(as_json=as_json)
    summary = RunSummary(terminal, "hashed", skip_unsupported=True)
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
                summary.refuse(path, outcome)
            else:
                summary.done()
                names.append(path)
                items.append(outcome)
            advance(1)
    from nciihash.search.near_duplicates import groups  # loads the search kernel

    with terminal.guard():
        duplicates = [
            [(names[member.file], member.distance) for member in group]
            for group in groups(items, within)
        ]
        for number, group in enumerate(duplicates if as_json else (), 1):
            members = [name_fields(path) | {"distance": bits} for path, bits in group]
            terminal.line({"group": number, "files": members})
        if duplicates and not as_json:
            terminal.show(tables.group_table(duplicates))
        summary.say()
        count = sum(len(group) for group in duplicates)
        terminal.say(f"{count:,} of them are in {len(duplicates):,} groups of near-duplicates.")
    if summary.failed:
        raise typer.Exit(ExitCode.SOME_FAILED)


def _item_line(item: Item) -> dict[str, object]:
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
    line: dict[str, object] = {"media": item.media.value, "hashes": hashes}
    if item.reduced:
        line["fast"] = True
    if item.motion:
        line["motion"] = True
    return line | ({"every": item.every} if item.media is Media.VIDEO else {})


@app.command(rich_help_panel=_PANEL)
def compare(
    a: Annotated[str, typer.Argument(help="A picture, a video, or a PDQ hash of 64 hex digits.")],
    b: Annotated[str, typer.Argument(help="Another picture, video or hash.")],
    no_sandbox: NoSandbox = False,
    as_json: AsJson = False,
) -> None:
    """Compare two pictures or videos: show their distance in bits, and what it means.

    Nothing is sent.

    Example: `nciihash compare photo.jpg copy.jpg`
    """
    terminal = Terminal(as_json=as_json)
    with terminal.guard():
        # frames of the first video as dense as for matching: the two may be sampled at other times
        first = _read(terminal, a, VariantSet.MATCH, sandboxed=not no_sandbox)
        second = _read(terminal, b, VariantSet.NONE, sandboxed=not no_sandbox)
        if first is None or second is None:
            raise typer.Exit(ExitCode.SOME_FAILED)
        pair = compare_videos(frames_of(first), frames_of(second))
        distance, videos = pair.distance, pair.query.frames > 1 or pair.bank.frames > 1
        match = band(SignalType.PDQ, distance) if distance <= SignalType.PDQ.threshold else None
        if as_json:
            qualities = None if videos else [first[0].quality, second[0].quality]
            line: dict[str, object] = {
                "distance": distance,
                "threshold": SignalType.PDQ.threshold,
                "band": match,
                "qualities": qualities,
            }
            terminal.line(line | (_shares(pair) if videos else {}))
            return
        if videos:
            terminal.show(
                f"{_share(pair.query, 'the first')} and {_share(pair.bank, 'the second')} match; "
                f"the smallest distance is {distance} bits."
            )
            return
        meaning = {
            Band.STRONG: "A strong match: almost certainly copies of one picture.",
            Band.LIKELY: "A likely match: probably copies of one picture, one of them edited.",
            None: "No match: different pictures, or an edit that PDQ does not recognise.",
        }
        terminal.show(f"{distance} of {SignalType.PDQ.bits} bits differ. {meaning[match]}")
        if first[0].plain or second[0].plain:
            terminal.show("One of them is so plain that this says little.")


def _read(
    terminal: Terminal, text: str, variants: VariantSet, *, sandboxed: bool
) -> Sequence[Hashed] | None:
    """Return a hash that was given, or those of a file, untrimmed; None if the file is refused."""
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
    file: Annotated[Path, typer.Argument(help="A copy of a picture or video, possibly edited.")],
    against: Annotated[
        Path,
        typer.Option(
            help="Hashes of the original: the output of `nciihash hash --variants standard "
            "--json`, or the file that the offline page saved.",
            show_default=False,
        ),
    ],
    no_sandbox: NoSandbox = False,
    as_json: AsJson = False,
) -> None:
    """Check whether a platform would recognise a copy. Nothing is sent.

    The copy is matched as a platform does it: as it is, and with any border trimmed off.

    Example: `nciihash hash --variants standard --json photo.jpg > item.json`, then
    `nciihash check copy.jpg --against item.json`
    """
    terminal = Terminal(as_json=as_json)
    with terminal.guard():
        original = _submitted_hashes(against)
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
    pair = compare_videos(frames_of(outcome.hashes), frames_of(original))
    distance, threshold = pair.distance, SignalType.PDQ.threshold
    match = band(SignalType.PDQ, distance) if distance <= threshold else None
    videos = pair.query.frames > 1 or pair.bank.frames > 1
    if as_json:
        line: dict[str, object] = {
            "found": match is not None,
            "distance": distance,
            "variant": pair.variant,
            "band": match,
            "too_plain": plain is not None,
        }
        terminal.line(line | (_shares(pair) if videos else {}))
    elif plain is not None:
        terminal.show(
            f"This copy cannot be submitted. {plain} Its distance from the original is {distance} "
            f"bits; a match differs by at most {threshold}."
        )
    elif match is None:
        terminal.show(
            f"It would not be found: the smallest distance is {distance} bits, and a match differs "
            f"by at most {threshold}. Submit this copy as well."
        )
    elif videos:
        terminal.show(
            f"It would be found: {_share(pair.query, 'this copy')} and "
            f"{_share(pair.bank, 'the original')} match."
        )
    else:
        terminal.show(
            f"It would be found: {distance} bits differ from the hash of variant {pair.variant}."
        )


@app.command(rich_help_panel=_PANEL)
def sandbox(as_json: AsJson = False) -> None:
    """Show how the process that opens files is confined on this system.

    The exit status is 1 if that process cannot start here; then no file is hashed.
    """
    terminal = Terminal(as_json=as_json)
    with terminal.guard(), Sandbox() as box:
        isolation = box.isolation
    missing = [name for name in WALLS if name not in isolation]
    if as_json:
        terminal.line({"isolation": list(isolation), "missing": missing})
        return
    terminal.show(f"Files are opened in isolation by: {', '.join(isolation)}.")
    if missing:
        terminal.show(f"Not available on this system: {', '.join(missing)}.")


def _shares(pair: Comparison) -> dict[str, object]:
    return {"query": asdict(pair.query), "bank": asdict(pair.bank)}


def _share(share: Share, of: str) -> str:
    return f"{share.found:,} of the {share.frames:,} frames of {of} ({share.of_one:.0%})"


def _submitted_hashes(path: Path) -> list[Hashed]:
    """Return those PDQ hashes in a file of saved hashes that would be submitted.

    Raises:
        InvalidRequest: the file cannot be read, or has no such hash.
    """
    hashes = [hashed for item in read_saved(path) for hashed in item.hashes]
    fit = [h for h in hashes if h.signal.type is SignalType.PDQ and not h.plain]
    if not fit:
        raise InvalidRequest("The file given with --against holds no hash fit to be submitted.")
    return fit
