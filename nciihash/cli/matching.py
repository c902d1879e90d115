"""Match files against a bank or a clearinghouse, and confirm candidates of a veiled bank."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import typer

from nciihash.cli import tables
from nciihash.cli.results_file import ResultsFile, open_results
from nciihash.cli.summary import MATCHES, RunSummary
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.errors import FileRefused, describe_os_error
from nciihash.media.reading import files_in, name_fields
from nciihash.sandbox.pool import cores, hash_files
from nciihash.sdk.lookup import LookupResult, look_up, plain_signals, result_of_hits
from nciihash.sdk.match_fields import result_fields
from nciihash.signals import Item, Level, SignalType, VariantSet

# Banks need file locks as POSIX has them, and clients take a while to load. Both are imported where
# they are used, so that other commands start fast, and on every system.
if TYPE_CHECKING:
    from nciihash.client.platform import PlatformClient
    from nciihash.sdk.veiled import Confirmer, PendingCandidates

_BATCH: Final = 32  # files that are looked up in one query

_WHOLE_ONLY: Final = (
    "A clearinghouse is only asked about whole pictures, and pictures within a frame. This finds "
    "copies that were resized, recoloured, mirrored or cropped a little. To find copies that were "
    "cropped further, covered by stickers or put into a collage, match against a bank of whole "
    "hashes."
)
_REVIEW: Final = (
    "A person has to look at the matches marked `review` before anything is blocked: only a part "
    "of the picture matched, or it has so little detail that other pictures resemble it."
)

Connect: TypeAlias = "Callable[[str], PlatformClient]"


@dataclass(frozen=True, slots=True)
class MatchOptions:
    """What to match against what, and how.

    Attributes:
        files: pictures, videos and, if `recursive`, folders.
        bank: the bank to match against.
        server: address of the clearinghouse to ask; without `confirm`, in place of a bank.
        confirm: the bank is veiled: ask the clearinghouse about candidates.
        signals: types of hash to compute.
        level: how thoroughly to search; None for `windows`, or for `fast` where whole hashes are
            not known.
        recursive: search folders, and skip files that are neither pictures nor videos.
        fast: allow PDQ hashes to differ by up to 4 bits from the exact ones.
        out: write the results to this file.
        jobs: files to decode at the same time; None for one per processor.
        sandboxed: open files in the sandbox.
    """

    files: Sequence[Path]
    bank: Path | None = None
    server: str | None = None
    confirm: bool = False
    signals: tuple[SignalType, ...] = (SignalType.PDQ,)
    level: Level | None = None
    recursive: bool = False
    fast: bool = False
    out: Path | None = None
    jobs: int | None = None
    sandboxed: bool = True

    def check(self) -> None:
        """Refuse options that do not go together.

        Raises:
            typer.BadParameter: with what to change.
        """
        if self.confirm and (self.bank is None or self.server is None):
            raise typer.BadParameter(
                "--confirm needs a veiled --bank, and the --server that it was fetched from."
            )
        if not self.confirm and (self.bank is None) == (self.server is None):
            raise typer.BadParameter("Use either --bank or --server.")
        if self.server is not None and self.level not in {None, Level.FAST}:
            raise typer.BadParameter(
                f"--level {self.level} needs a bank of whole hashes. With --server, or a veiled "
                "bank, the only level is fast."
            )


def match_files(terminal: Terminal, connect: Connect, options: MatchOptions) -> ExitCode:
    """Match files, and print or write what they match.

    Args:
        terminal: where to print the results.
        connect: returns a client for the address of a clearinghouse.
        options: what to match.

    Returns:
        `SOME_FAILED` if files were refused or could not be confirmed, else `OK`.

    Raises:
        typer.BadParameter: the options do not go together, or not with this bank.
        NciihashError: the bank cannot be opened, or the clearinghouse does not answer.
        OSError: the results cannot be written.
    """
    options.check()
    summary = RunSummary(terminal, "matched", skip_unsupported=options.recursive)
    with ExitStack() as stack:
        source = _open_source(connect, options, stack)
        if source.level is None:
            terminal.say(_WHOLE_ONLY)
        results = open_results(options.out, MATCHES, stack)
        files = files_in(options.files) if options.recursive else options.files
        todo = summary.not_done(files, results)
        advance = stack.enter_context(terminal.progress("Matching", len(todo)))
        hashed = hash_files(
            todo,
            signals=options.signals,
            # the trimmed picture as well, so that a screenshot or a border hides nothing
            variants=VariantSet.MATCH.value,
            level=source.level,
            fast=options.fast,
            sandboxed=options.sandboxed,
            jobs=options.jobs or min(cores(), len(todo)),
        )
        stack.enter_context(closing(hashed))
        writer = _ResultWriter(terminal, options, summary, results, source.unconfirmed)
        with summary.resumable(results):
            while batch := list(islice(hashed, _BATCH)):
                items = [outcome for _, outcome in batch if isinstance(outcome, Item)]
                found = iter(source.look_up(items))
                for path, outcome in batch:
                    if isinstance(outcome, FileRefused):
                        summary.refuse(path, outcome)
                    else:
                        writer.add(path, outcome, next(found))
                advance(len(batch))
    if writer.rows:
        terminal.show(tables.match_table(writer.rows))
    if writer.review:
        terminal.say(_REVIEW)
    if options.recursive or options.out:
        summary.say()
    unconfirmed = source.unconfirmed
    if unconfirmed:
        unconfirmed.say(terminal)
    if summary.failed or (unconfirmed and (unconfirmed.stored or unconfirmed.lost)):
        return ExitCode.SOME_FAILED
    return ExitCode.OK


@dataclass(frozen=True, slots=True)
class _Source:
    """What files are matched against.

    Attributes:
        look_up: returns the results of files, given their hashes.
        level: which windows to hash of each file; None if the source is never asked about windows.
        unconfirmed: stores candidates that could not be confirmed; None for whole hashes.
    """

    look_up: Callable[[Sequence[Item]], Sequence[LookupResult]]
    level: Level | None = None
    unconfirmed: "_UnconfirmedFiles | None" = None


def _open_source(connect: Connect, options: MatchOptions, stack: ExitStack) -> _Source:
    """Open the bank or the client, or both, until the stack is closed.

    Raises:
        typer.BadParameter: the bank is veiled and `confirm` is not set, or the other way round.
    """
    if options.bank is None:
        client = stack.enter_context(connect(options.server or ""))
        return _Source(partial(look_up, ask=client.match))
    from nciihash.bank.bank import Bank
    from nciihash.sdk.matcher import Matcher
    from nciihash.sdk.veiled import Confirmer, PendingCandidates, load_veil

    bank = stack.enter_context(Bank.read(options.bank))
    veil = load_veil(options.bank)
    if options.confirm and veil is None:
        raise typer.BadParameter("This bank holds whole hashes: omit --confirm and --server.")
    if veil is None:
        matcher = Matcher(bank, level=options.level or Level.WINDOWS)
        variant_counts = partial(bank.count_variants, SignalType.PDQ)
        return _Source(partial(matcher.look_up, variant_counts=variant_counts), matcher.level)
    if not options.confirm:
        raise typer.BadParameter(
            "This bank is veiled, so what it finds are only candidates: add --confirm and --server."
        )
    client = stack.enter_context(connect(options.server or ""))
    confirmer = Confirmer(bank, veil, client.match)
    pending = PendingCandidates(options.bank)
    return _Source(
        partial(look_up, ask=confirmer.find), unconfirmed=_UnconfirmedFiles(confirmer, pending)
    )


class _ResultWriter:
    """Prints or writes the result of each file.

    Attributes:
        rows: files and their results for the table that is shown at the end.
        review: whether a person has to look at any of the matches.
    """

    def __init__(
        self,
        terminal: Terminal,
        options: MatchOptions,
        summary: RunSummary,
        results: ResultsFile | None,
        unconfirmed: "_UnconfirmedFiles | None",
    ) -> None:
        self.rows: list[tuple[str, LookupResult]] = []
        self.review = False
        self._terminal = terminal
        self._all_rows = not (options.recursive or options.out)
        self._summary = summary
        self._results = results
        self._unconfirmed = unconfirmed

    def add(self, path: Path, item: Item, result: LookupResult) -> None:
        """Add the result of a file."""
        self._summary.done()
        self.review |= result.review
        line = name_fields(path) | result_fields(result)
        stored = None
        if self._unconfirmed:
            stored = self._unconfirmed.add(path, item)
            if stored is not None:
                line["waiting"] = stored
        if self._results and stored is not False:  # otherwise the next run matches it again
            self._results.add(line)
        elif self._terminal.as_json:
            self._terminal.line(line)
        if not self._terminal.as_json and (result.found or self._all_rows):
            self.rows.append((os.fsdecode(path), result))


class _UnconfirmedFiles:
    """Stores candidates for `confirm` while the clearinghouse does not answer.

    Attributes:
        stored: number of files whose candidates were stored.
        lost: number of files whose candidates could not be stored, for example on a full disk.
    """

    def __init__(self, confirmer: "Confirmer", pending: "PendingCandidates") -> None:
        self._confirmer = confirmer
        self._pending = pending
        self.stored = self.lost = 0
        self._error = ""

    def add(self, path: Path, item: Item) -> bool | None:
        """Store a file's candidates that could not be confirmed.

        Returns:
            Whether they are stored; None if it has none.
        """
        from nciihash.sdk.veiled import Candidate, WaitingFull

        unanswered = self._confirmer.unanswered
        if not (signals := tuple(h.signal for h in item.hashes if h.signal in unanswered)):
            return None
        try:
            plain = plain_signals(item.hashes)
            self._pending.add(Candidate(os.fsdecode(path), signals, plain.intersection(signals)))
        except (OSError, WaitingFull) as error:
            self.lost += 1
            self._error = describe_os_error(error) if isinstance(error, OSError) else str(error)
            return False
        self.stored += 1
        return True

    def say(self, terminal: Terminal) -> None:
        """Print how many files may match, and what to do about them."""
        if self.stored:
            terminal.say(
                f"The clearinghouse does not answer, and {self.stored:,} file(s) may match. Their "
                "hashes are stored next to the bank. Run `nciihash confirm` later.",
                style="yellow",
            )
        if self.lost:
            terminal.say(
                f"{self.lost:,} further file(s) may match, but could not be stored for "
                f"`nciihash confirm`. {self._error} Then match them again.",
                style="red",
            )


def confirm_candidates(terminal: Terminal, client: "PlatformClient", bank: Path) -> None:
    """Ask the clearinghouse about the stored candidates of a veiled bank, and print the matches.

    Each batch of candidates is deleted once its results are printed.

    Raises:
        ServiceError: the clearinghouse does not answer, or refuses.
        OSError: the file of candidates cannot be read or written.
    """
    from nciihash.sdk.veiled import PendingCandidates

    pending = PendingCandidates(bank)
    candidates = pending.read()
    rows: list[tuple[str, LookupResult]] = []
    review = False
    with terminal.progress("Confirming", len(candidates)) as advance:
        for start in range(0, len(candidates), _BATCH):
            batch = candidates[start : start + _BATCH]
            signals = [signal for candidate in batch for signal in candidate.signals]
            replies = iter(client.match(signals))
            for candidate in batch:
                answered = [(signal, next(replies)) for signal in candidate.signals]
                result = result_of_hits(answered, candidate.plain)
                review |= result.review
                if terminal.as_json:
                    terminal.line(name_fields(candidate.file) | result_fields(result))
                else:
                    rows.append((candidate.file, result))
            pending.drop(len(batch))
            advance(len(batch))
    if rows:
        terminal.show(tables.match_table(rows))
    elif not candidates:
        terminal.say("There is nothing to confirm.")
    if review:
        terminal.say(_REVIEW)
