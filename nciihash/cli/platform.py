"""The commands of a platform's engineer: follow, match, feedback."""

import os
import signal as signal_numbers
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nciihash.cli import tables
from nciihash.cli.options import (
    AsJson,
    Fast,
    Jobs,
    NoSandbox,
    Out,
    Recursive,
    Server,
    wanted_signals,
)
from nciihash.cli.results_file import ResultsFile
from nciihash.cli.summary import MATCHES, RunSummary
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.errors import FileRefused, explained
from nciihash.media.reading import files_in, name_fields
from nciihash.sandbox.pool import cores, hash_files
from nciihash.sdk.lookup import Find, Kinds, LookupResult, look_up, once
from nciihash.signals import Item, Match, SignalType, Verdict
from nciihash.wire import Hit

# A bank locks its file as POSIX systems do. The commands import it when they need it, so that the
# others, a survivor's first of all, start on every system; and the client, which takes a while.
if TYPE_CHECKING:
    from nciihash.client.platform import PlatformClient
    from nciihash.sdk.follow_loop import Progress
    from nciihash.sdk.veiled import Confirmer, PendingCandidates

app = typer.Typer()

_PANEL: Final = "If you run a platform"
_AT_ONCE: Final = 32  # files that are looked for in one query


def _key(terminal: Terminal) -> str:
    """Read the platform's key; an argument would show in `ps` and in the shell's history."""
    if key := os.environ.get("NCIIHASH_KEY"):
        return key
    terminal.fail(
        "key_missing",
        "Put the platform's key into the environment as NCIIHASH_KEY. The clearinghouse's operator "
        "hands it out.",
    )
    raise typer.Exit(ExitCode.USAGE)


def _client(terminal: Terminal, server: str) -> "PlatformClient":
    from nciihash.client.platform import PlatformClient

    return PlatformClient(server, _key(terminal))


@app.command(rich_help_panel=_PANEL)
def follow(
    server: Server,
    bank: Annotated[
        Path, typer.Option(help="The bank's file; made when absent.", show_default=False)
    ],
    veil: Annotated[
        bool,
        typer.Option(
            "--veil",
            help="Keep only a part of each hash, from which less of a picture could be computed; "
            "`match --confirm` asks the clearinghouse about what is like one.",
        ),
    ] = False,
    once: Annotated[
        bool, typer.Option("--once", help="End when everything there is has been taken in.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Keep a bank up to date with the clearinghouse, and acknowledge what is on disk.

    Needs a key with the scope `feed` in NCIIHASH_KEY, or with `veil` for a veiled bank. Runs until
    SIGTERM or Ctrl-C; whenever it is started again it goes on where it was, even after a crash.
    """
    terminal = Terminal(as_json=as_json)
    _needs_posix(terminal)
    from nciihash.bank.bank import Bank
    from nciihash.sdk.follow_loop import Stop
    from nciihash.sdk.follow_loop import follow as follow_feed
    from nciihash.sdk.veiled import keep_veil, kept_veil

    stop = Stop()
    with (
        terminal.guard(),
        _client(terminal, server) as client,
        Bank.open(bank) as kept,
        stop.on_signals(),
    ):
        own = kept_veil(bank)
        if veil != (own is not None):
            if not veil or kept.cursor is not None:
                raise typer.BadParameter(
                    "This bank holds whole hashes. Give --veil another file."
                    if veil
                    else "This bank is veiled: give --veil, or another file."
                )
            own = client.veil()
            keep_veil(bank, own)
        end = follow_feed(
            client, kept, once=once, veil=own, stop=stop, on_progress=_teller(terminal)
        )
        if as_json:
            terminal.line(_described(end))
        else:
            terminal.show(
                f"{end.signals:,} signals in the bank; {end.added:,} added and {end.removed:,} "
                "removed in this run."
            )
    if stop.signal == signal_numbers.SIGINT:
        raise typer.Exit(ExitCode.INTERRUPTED)


def _needs_posix(terminal: Terminal) -> None:
    """End where a bank cannot be kept."""
    if find_spec("fcntl") is None:
        terminal.fail(
            "bank_unavailable",
            "A bank is locked in a way that this system does not know: keep it on Linux or macOS, "
            "or match with --server.",
        )
        raise typer.Exit(ExitCode.USAGE)


def _teller(terminal: Terminal) -> "Callable[[Progress], None]":
    """Tell what changed since the last time, on standard error; as lines of JSON if asked to."""
    from nciihash.sdk.follow_loop import Progress

    last = Progress()

    def tell(now: Progress) -> None:
        nonlocal last
        before, last = last, now
        if now == before:
            return
        if terminal.as_json:
            terminal.line(_described(now))
        elif now.error:
            terminal.say(f"{now.error.rstrip('.')}. Trying on.", style="yellow")
        elif now.rebuilding and not before.rebuilding:
            terminal.say("The place in the feed has expired: building the bank anew beside it.")
        elif now.current:
            terminal.say(f"Up to date: {now.signals:,} signals.")
        else:
            terminal.say(f"{now.added:,} added, {now.removed:,} removed so far.")

    return tell


def _described(progress: "Progress") -> dict[str, object]:
    return {
        "signals": progress.signals,
        "added": progress.added,
        "removed": progress.removed,
        "current": progress.current,
        "rebuilding": progress.rebuilding,
        "trouble": progress.error,
    }


@app.command(rich_help_panel=_PANEL)
def match(
    files: Annotated[list[Path], typer.Argument(help="Pictures and videos to look for.")],
    bank: Annotated[
        Path | None, typer.Option(help="A bank that `follow` keeps.", show_default=False)
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            help="Ask this clearinghouse instead, with the key in NCIIHASH_KEY. It tells no "
            "distances.",
            show_default=False,
        ),
    ] = None,
    confirm: Annotated[
        bool,
        typer.Option(
            "--confirm",
            help="The bank is veiled: ask --server about what is like something in it. What cannot "
            "be asked now waits beside the bank for `confirm`.",
        ),
    ] = False,
    signal: Annotated[
        list[SignalType] | None,
        typer.Option(help="Another kind of hash to look for beside pdq; may be repeated."),
    ] = None,
    recursive: Recursive = False,
    fast: Fast = False,
    out: Out = None,
    jobs: Jobs = None,
    no_sandbox: NoSandbox = False,
    as_json: AsJson = False,
) -> None:
    """Find out which files are near something in a bank. Only hashes leave this machine.

    Of a video, the share of its frames that are near an item's is told, and of the item's frames
    that are near the video's: a short part of a long film has a large share of the one and a small
    share of the other.
    """
    terminal = Terminal(as_json=as_json)
    if confirm and (bank is None or server is None):
        raise typer.BadParameter("--confirm needs a veiled --bank, and the --server it is from.")
    if not confirm and (bank is None) == (server is None):
        raise typer.BadParameter("Give either --bank or --server.")
    rows: list[tuple[str, LookupResult]] = []
    tally = RunSummary(terminal, "looked for", skip_foreign=recursive)
    keeper: _Keeper | None = None
    with terminal.guard(), ExitStack() as stack:
        find: Find
        kinds: Kinds = None
        if bank is None:
            find = stack.enter_context(_client(terminal, server or "")).match
        else:
            _needs_posix(terminal)
            from nciihash.bank.bank import Bank
            from nciihash.sdk.veiled import Confirmer, PendingCandidates, kept_veil

            kept = stack.enter_context(Bank.read(bank))
            veil = kept_veil(bank)
            if confirm != (veil is not None):
                raise typer.BadParameter(
                    "This bank holds whole hashes: leave --confirm and --server away."
                    if confirm
                    else "This bank is veiled, and what it finds are candidates: give --confirm "
                    "and --server."
                )
            if veil is None:
                find, kinds = kept.query, partial(kept.kinds, SignalType.PDQ)
            else:
                client = stack.enter_context(_client(terminal, server or ""))
                confirmer = Confirmer(kept, veil, client.match)
                find, keeper = confirmer.find, _Keeper(confirmer, PendingCandidates(bank))
        try:
            ledger = None if out is None else stack.enter_context(ResultsFile(out, MATCHES))
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        todo = tally.left(files_in(files) if recursive else files, ledger)
        advance = stack.enter_context(terminal.progress("Matching", len(todo)))
        hashed = hash_files(
            todo,
            signals=wanted_signals(signal or ()),
            # the trimmed picture as well, so that a screenshot or a border hides nothing
            variants="match",
            fast=fast,
            sandboxed=not no_sandbox,
            jobs=jobs or min(cores(), len(todo)),
        )
        stack.enter_context(closing(hashed))
        with tally.resumable(ledger):
            while batch := list(islice(hashed, _AT_ONCE)):
                hashes = dict(batch)
                for path, outcome in look_up(batch, find, kinds):
                    if isinstance(outcome, FileRefused):
                        tally.refuse(path, outcome)
                        continue
                    tally.done()
                    described = _outcome_described(outcome)
                    item = hashes[path]
                    waits = None
                    if keeper and isinstance(item, Item):
                        waits = keeper.keep(path, item)
                        described |= {} if waits is None else {"waiting": waits}
                    if ledger and waits is not False:  # else the next run looks at it again
                        ledger.add(name_fields(path) | described)
                    elif as_json:
                        terminal.line(name_fields(path) | described)
                    if not as_json and (outcome.found or not (recursive or out)):
                        rows.append((os.fsdecode(path), outcome))
                advance(len(batch))
    with terminal.guard():
        if rows:
            terminal.show(tables.match_table(rows))
    if recursive or out:
        tally.say()
    if keeper:
        keeper.say(terminal)
    if tally.failed or (keeper and (keeper.waiting or keeper.lost)):
        raise typer.Exit(ExitCode.SOME_FAILED)


class _Keeper:
    """Keeps files that may match, where the clearinghouse does not answer, for `confirm`.

    Attributes:
        waiting: files that wait.
        lost: files that may match and could not be kept, as on a full disk; the others go on.
    """

    def __init__(self, confirmer: "Confirmer", waiting: "PendingCandidates") -> None:
        self._confirmer = confirmer
        self._waiting = waiting
        self.waiting = self.lost = 0
        self._trouble = ""

    def keep(self, path: Path, item: Item) -> bool | None:
        """Let a file wait if it has a candidate that could not be confirmed.

        Returns:
            Whether it waits; None if it has no such candidate.
        """
        from nciihash.sdk.veiled import Candidate, WaitingFull

        unanswered = self._confirmer.unanswered
        if not (signals := tuple(h.signal for h in item.hashes if h.signal in unanswered)):
            return None
        try:
            self._waiting.add(Candidate(os.fsdecode(path), signals))
        except (OSError, WaitingFull) as error:
            self.lost += 1
            self._trouble = explained(error) if isinstance(error, OSError) else str(error)
            return False
        self.waiting += 1
        return True

    def say(self, terminal: Terminal) -> None:
        """Say how many files may match, and what to do about them."""
        if self.waiting:
            terminal.say(
                f"The clearinghouse does not answer, and {self.waiting:,} file(s) may match: their "
                "hashes wait beside the bank. Run `nciihash confirm` later.",
                style="yellow",
            )
        if self.lost:
            terminal.say(
                f"{self.lost:,} further file(s) may match, and could not be kept for `confirm`. "
                f"{self._trouble} Then match them again.",
                style="red",
            )


@app.command(rich_help_panel=_PANEL)
def confirm(
    server: Server,
    bank: Annotated[Path, typer.Option(help="A veiled bank.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Ask the clearinghouse about candidates that wait, because it did not answer before.

    Needs a key with the scope `match` in NCIIHASH_KEY.
    """
    terminal = Terminal(as_json=as_json)
    _needs_posix(terminal)
    from nciihash.sdk.veiled import PendingCandidates

    waiting = PendingCandidates(bank)
    rows: list[tuple[str, LookupResult]] = []
    with terminal.guard(), _client(terminal, server) as client:
        todo = waiting.read()
        advance = terminal.progress("Confirming", len(todo))
        with advance as done:
            for start in range(0, len(todo), _AT_ONCE):
                part = todo[start : start + _AT_ONCE]
                signals = [signal for candidate in part for signal in candidate.signals]
                answers = iter(client.match(signals))
                for candidate in part:
                    hits = [(s.type, next(answers)) for s in candidate.signals]
                    found = [(type, hit) for type, many in hits for hit in many]
                    cut = any(many.truncated for _, many in hits)
                    outcome = LookupResult(tuple(once(found)), truncated=cut)
                    if as_json:
                        terminal.line(name_fields(candidate.file) | _outcome_described(outcome))
                    else:
                        rows.append((candidate.file, outcome))
                waiting.drop(len(part))
                done(len(part))
        if rows:
            terminal.show(tables.match_table(rows))
        elif not todo:
            terminal.say("Nothing waits.")


def _outcome_described(outcome: LookupResult) -> dict[str, object]:
    told: dict[str, object] = {
        "matches": [_match_described(type, match) for type, match in outcome.found]
    }
    if outcome.truncated:
        told["truncated"] = True
    if outcome.shared:
        told["items"] = [
            {
                "item": shared.item,
                "query": asdict(shared.query),
                "bank": None if shared.bank is None else asdict(shared.bank),
            }
            for shared in outcome.shared
        ]
    return told


def _match_described(type: SignalType, match: Match | Hit) -> dict[str, object]:
    told: dict[str, object] = {"id": match.id, "item": match.item, "type": type.value}
    if isinstance(match, Match):
        told |= {"variant": match.variant.value, "distance": match.distance}
    return told | {"band": match.band.value}


@app.command(rich_help_panel=_PANEL)
def feedback(
    ids: Annotated[list[str], typer.Argument(help="The ids of the signals that matched.")],
    verdict: Annotated[Verdict, typer.Option(help="What you decided.", show_default=False)],
    server: Server,
    as_json: AsJson = False,
) -> None:
    """Tell the clearinghouse what was decided about matches; survivors see it.

    Needs a key with the scope `feedback` in NCIIHASH_KEY.
    """
    terminal = Terminal(as_json=as_json)
    with terminal.guard(), _client(terminal, server) as client:
        taken = client.feedback(dict.fromkeys(ids, verdict))
        if as_json:
            terminal.line(taken.model_dump(mode="json"))
        else:
            terminal.show(f"{taken.recorded:,} recorded, {taken.unknown:,} unknown.")
        if taken.unknown:
            terminal.say("An unknown id is not one that this clearinghouse gave to this platform.")
            raise typer.Exit(ExitCode.SOME_FAILED)
