"""The commands that work only on this device: hash, dedupe, compare, check and sandbox."""

from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated

import typer

from nciihash.cli import tables
from nciihash.cli.comparison import check_copy, compare_pair
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
from nciihash.cli.summary import HASHES, RunSummary
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.errors import FileRefused
from nciihash.media.reading import files_in, name_fields
from nciihash.sandbox.parent import ISOLATION_MEASURES, Sandbox
from nciihash.sandbox.pool import cores, hash_files
from nciihash.signals import Item, Media, SignalType, VariantSet

app = typer.Typer()

_PANEL = "On this device"


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
        VariantSet,
        typer.Option(
            help="Altered copies to hash as well: for a submission, standard (up to 26 a picture), "
            "full (up to 65) or thorough (up to 43, for platforms that look up parts of uploads); "
            "for a query, match (the picture without its border, if it has one)."
        ),
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
    with terminal.guard():
        todo = list(files_in(files))
        names, items = _hash_all(
            terminal, summary, todo, fast=not exact, sandboxed=not no_sandbox, jobs=jobs
        )
    from nciihash.search.near_duplicates import groups  # loads the search kernel

    with terminal.guard():
        duplicates = [
            [(names[member.file], member.distance) for member in group]
            for group in groups(items, within)
        ]
        if as_json:
            for number, group in enumerate(duplicates, 1):
                members = [name_fields(path) | {"distance": bits} for path, bits in group]
                terminal.line({"group": number, "files": members})
        elif duplicates:
            terminal.show(tables.group_table(duplicates))
        summary.say()
        count = sum(len(group) for group in duplicates)
        terminal.say(f"{count:,} of them are in {len(duplicates):,} groups of near-duplicates.")
    if summary.failed:
        raise typer.Exit(ExitCode.SOME_FAILED)


def _hash_all(
    terminal: Terminal,
    summary: RunSummary,
    files: list[Path],
    *,
    fast: bool,
    sandboxed: bool,
    jobs: int | None,
) -> tuple[list[Path], list[Item]]:
    """Return those files that could be hashed, and their hashes, in the same order."""
    names: list[Path] = []
    items: list[Item] = []
    hashed = hash_files(
        files,
        signals=[SignalType.PDQ],
        fast=fast,
        sandboxed=sandboxed,
        jobs=jobs or min(cores(), len(files)),
    )
    with terminal.progress("Hashing", len(files)) as advance, closing(hashed):
        for path, outcome in hashed:
            if isinstance(outcome, FileRefused):
                summary.refuse(path, outcome)
            else:
                summary.done()
                names.append(path)
                items.append(outcome)
            advance(1)
    return names, items


@app.command(rich_help_panel=_PANEL)
def compare(
    a: Annotated[
        str, typer.Argument(help="A picture, a video, or a PDQ hash of 64 hexadecimal digits.")
    ],
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
        code = compare_pair(terminal, a, b, sandboxed=not no_sandbox)
    raise typer.Exit(code)


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
        code = check_copy(terminal, file, against, sandboxed=not no_sandbox)
    raise typer.Exit(code)


@app.command(rich_help_panel=_PANEL)
def sandbox(as_json: AsJson = False) -> None:
    """Show how the process that opens files is confined on this system.

    The exit status is 1 if that process cannot start here; then no file is hashed.
    """
    terminal = Terminal(as_json=as_json)
    with terminal.guard(), Sandbox() as box:
        isolation = box.isolation
    missing = [name for name in ISOLATION_MEASURES if name not in isolation]
    if as_json:
        terminal.line({"isolation": list(isolation), "missing": missing})
        return
    terminal.show(f"Files are opened in isolation by: {', '.join(isolation)}.")
    if missing:
        terminal.show(f"Not available on this system: {', '.join(missing)}.")
