"""The commands of a platform's engineer: follow, match, confirm, feedback."""

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final

import typer

from nciihash.cli.clients import platform_client
from nciihash.cli.matching import MatchOptions, confirm_candidates, match_files
from nciihash.cli.options import (
    LEVELS,
    AsJson,
    Fast,
    Jobs,
    NoSandbox,
    Out,
    Recursive,
    Server,
    SignalChoice,
    wanted_signals,
)
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.signals import Level, Verdict

app = typer.Typer()

_PANEL: Final = "If you run a platform"


@app.command(rich_help_panel=_PANEL)
def follow(
    server: Server,
    bank: Annotated[
        Path,
        typer.Option(
            help="File of the bank. It is created if it does not exist.", show_default=False
        ),
    ],
    veil: Annotated[
        bool,
        typer.Option(
            "--veil",
            help="Store only a part of each hash, which reveals less about the picture. `match "
            "--confirm` then asks the clearinghouse about files that match that part.",
        ),
    ] = False,
    once: Annotated[
        bool, typer.Option("--once", help="Exit when the bank holds everything in the feed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Keep a bank up to date with the clearinghouse, and acknowledge what is on disk.

    Needs a key in NCIIHASH_KEY with the scope `feed`, or `veil` for a veiled bank. Runs until
    SIGTERM or Ctrl-C. When it is started again, it continues where it was, even after a crash.

    Example: `nciihash follow --server https://clearinghouse.example --bank bank`
    """
    terminal = Terminal(as_json=as_json)
    _require_file_locks(terminal)
    from nciihash.cli.following import FollowOptions, follow_into_bank

    with terminal.guard(), platform_client(terminal, server) as client:
        code = follow_into_bank(terminal, client, FollowOptions(bank, veil=veil, once=once))
    raise typer.Exit(code)


def _require_file_locks(terminal: Terminal) -> None:
    """End the command on a system where a bank cannot be locked.

    Raises:
        typer.Exit: this is such a system.
    """
    if find_spec("fcntl") is None:
        terminal.fail(
            "bank_unavailable",
            "Banks need file locks that this system does not have. Keep the bank on Linux or "
            "macOS, or match with --server.",
        )
        raise typer.Exit(ExitCode.USAGE)


LocalBank = Annotated[
    Path | None,
    typer.Option(
        help="Match against this bank, which `follow` keeps up to date.", show_default=False
    ),
]
QueriedServer = Annotated[
    str | None,
    typer.Option(
        help="Ask this clearinghouse instead of a bank or, with --confirm, in addition to it. "
        "Needs a key in NCIIHASH_KEY. No distances are returned.",
        show_default=False,
    ),
]
Confirm = Annotated[
    bool,
    typer.Option(
        "--confirm",
        help="The bank is veiled: ask --server about files that may match. If it does not answer, "
        "their hashes are stored next to the bank, for `nciihash confirm`.",
    ),
]
Signals = Annotated[
    list[SignalChoice] | None,
    typer.Option(help="Match this type of hash as well as pdq. May be repeated."),
]

SearchLevel = Annotated[
    Level | None,
    typer.Option(
        help=f"How thoroughly to search: {LEVELS} By default windows; with --server or a veiled "
        "bank only fast is possible.",
        show_default=False,
    ),
]


@app.command(rich_help_panel=_PANEL)
def match(
    files: Annotated[list[Path], typer.Argument(help="Pictures and videos to match.")],
    bank: LocalBank = None,
    server: QueriedServer = None,
    confirm: Confirm = False,
    signal: Signals = None,
    level: SearchLevel = None,
    recursive: Recursive = False,
    fast: Fast = False,
    out: Out = None,
    jobs: Jobs = None,
    no_sandbox: NoSandbox = False,
    as_json: AsJson = False,
) -> None:
    """Find out which files match something in a bank. Only hashes leave this machine.

    A bank of whole hashes also finds crops, pictures with stickers, and parts of collages. Such a
    match is marked `review`: a person has to look at it before anything is blocked.

    For a video and each item that it matches, the result says how many of the video's frames match
    the item, and how many of the item's frames match the video. If the file is a short part of a
    long video in the bank, the first share is large and the second one small.

    Example: `nciihash match --bank bank uploads/ --recursive`
    """
    options = MatchOptions(
        files,
        bank=bank,
        server=server,
        confirm=confirm,
        signals=wanted_signals(signal),
        level=level,
        recursive=recursive,
        fast=fast,
        out=out,
        jobs=jobs,
        sandboxed=not no_sandbox,
    )
    terminal = Terminal(as_json=as_json)
    if bank is not None:
        _require_file_locks(terminal)
    with terminal.guard():
        code = match_files(terminal, partial(platform_client, terminal), options)
    raise typer.Exit(code)


@app.command(rich_help_panel=_PANEL)
def confirm(
    server: Server,
    bank: Annotated[
        Path, typer.Option(help="The veiled bank that was matched against.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Ask the clearinghouse about files that may match, if it did not answer `match --confirm`.

    Needs a key in NCIIHASH_KEY with the scope `match`.

    Example: `nciihash confirm --server https://clearinghouse.example --bank bank`
    """
    terminal = Terminal(as_json=as_json)
    _require_file_locks(terminal)
    with terminal.guard(), platform_client(terminal, server) as client:
        confirm_candidates(terminal, client, bank)


@app.command(rich_help_panel=_PANEL)
def feedback(
    ids: Annotated[list[str], typer.Argument(help="Ids of the signals that matched.")],
    verdict: Annotated[Verdict, typer.Option(help="What you decided.", show_default=False)],
    server: Server,
    as_json: AsJson = False,
) -> None:
    """Report what you decided about matches. Survivors see it.

    Needs a key in NCIIHASH_KEY with the scope `feedback`.

    Example: `nciihash feedback 0123456789abcdef0123456789abcdef --verdict blocked --server
    https://clearinghouse.example`
    """
    terminal = Terminal(as_json=as_json)
    with terminal.guard(), platform_client(terminal, server) as client:
        reply = client.feedback(dict.fromkeys(ids, verdict))
        if as_json:
            terminal.line(reply.model_dump(mode="json"))
        else:
            terminal.show(f"{reply.recorded:,} recorded, {reply.unknown:,} unknown.")
        if reply.unknown:
            terminal.say("An id is unknown if this clearinghouse did not send it to this platform.")
            raise typer.Exit(ExitCode.SOME_FAILED)
