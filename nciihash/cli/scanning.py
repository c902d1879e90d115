"""Scan a source against a bank, save the results in a folder, and report the progress."""

import os
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import typer

from nciihash.cli.tables import shown
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.media.reading import name_fields
from nciihash.sandbox.pool import cores
from nciihash.scan import executors
from nciihash.scan.executors import BlockFailure, BlockOutcome
from nciihash.scan.plan import Block, FileRefusal, Kind, Plan, plan
from nciihash.scan.results import ScanFolder, is_index_file
from nciihash.scan.sources import open_source
from nciihash.scan.worker import BlockResult, Job
from nciihash.sdk.veiled import load_veil
from nciihash.signals import Level, SignalType

_EXAMPLES: Final = 5  # files that are named for each kind of failure


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """What to scan against what, and how.

    Attributes:
        source: path or URL of a folder of files, or of Parquet files of hashes.
        bank: path of a bank, or of an index file of PDQ hashes.
        out: folder for the results.
        on_ray: run on a Ray cluster instead of this machine.
        signals: types of hash to compute from files.
        level: how thoroughly to search for each file.
        fast: allow PDQ hashes of files to differ by up to 4 bits from the exact ones.
        block: files or hashes in a block; None for the default.
        jobs: blocks to scan at the same time on this machine; None for one per processor.
        sandboxed: open files in the sandbox.
    """

    source: str
    bank: Path
    out: Path
    on_ray: bool = False
    signals: tuple[SignalType, ...] = (SignalType.PDQ,)
    level: Level = Level.FAST
    fast: bool = False
    block: int | None = None
    jobs: int | None = None
    sandboxed: bool = True


def scan_source(terminal: Terminal, options: ScanOptions) -> ExitCode:
    """Scan a source, or continue the scan whose results are in the folder.

    Returns:
        `SOME_FAILED` if files or hashes were refused, or blocks failed; else `OK`.

    Raises:
        typer.BadParameter: the bank is veiled; or the level is not `fast`, and the source holds
            hashes, or the bank is an index file.
        NciihashError: the source, the bank or the cluster cannot be opened, or the folder holds
            something else.
        OSError: the results cannot be written.
    """
    if load_veil(options.bank) is not None:
        raise typer.BadParameter(
            "This bank is veiled, so what it finds are only candidates: use `match --confirm`."
        )
    if options.level is not Level.FAST and is_index_file(options.bank):
        raise typer.BadParameter(
            f"--level {options.level} needs a bank: in an index file it is not known which "
            "hashes are of one picture."
        )
    source = options.source
    if "://" not in source:
        source = os.path.abspath(source)  # noqa: PTH100 - a string
    with ScanFolder(options.out) as folder:
        terminal.say("Listing the source …")
        planned = plan(open_source(source), options.block)
        if options.level is not Level.FAST and planned.kind is Kind.HASHES:
            raise typer.BadParameter(
                f"--level {options.level} needs the pictures: this source holds only their hashes."
            )
        signals = options.signals if planned.kind is Kind.FILES else ()
        how = {
            "signals": [type.value for type in signals],
            "level": options.level.value,
            "fast": options.fast and bool(signals),
        }
        bank, state = folder.begin(source, planned, options.bank, how)
        report = _ScanReport(terminal, folder, planned)
        report.begin(state.signals)
        job = Job(
            source,
            planned.kind,
            str(bank),
            state.fingerprint,
            signals,
            options.level,
            options.fast,
            options.sandboxed,
        )
        blocks = list(executors.unfinished(planned.blocks, folder.done))
        _scan_blocks(terminal, options, job, blocks, folder, report)
        folder.finish(planned.refused, complete=not report.failed_blocks)
        return ExitCode.SOME_FAILED if report.end() else ExitCode.OK


def _scan_blocks(
    terminal: Terminal,
    options: ScanOptions,
    job: Job,
    blocks: Sequence[Block],
    folder: ScanFolder,
    report: "_ScanReport",
) -> None:
    if not blocks:
        return
    outcomes: Generator[BlockOutcome, None, None] = (
        executors.ray(job, blocks)
        if options.on_ray
        else executors.local(job, blocks, options.jobs or min(cores(), len(blocks)))
    )
    counts = {block.number: block.count for block in blocks}
    with (
        closing(outcomes),
        terminal.progress("Scanning", sum(counts.values())) as advance,
        report.resumable(),
    ):
        for outcome in outcomes:
            if isinstance(outcome, BlockResult):
                folder.write(outcome)
            report.add(outcome)
            advance(counts[outcome.number])


class _ScanReport:
    """Reports the progress of a scan and its results.

    Attributes:
        failed_blocks: the blocks that were not scanned in this run.
    """

    def __init__(self, terminal: Terminal, folder: ScanFolder, plan: Plan) -> None:
        self.failed_blocks: list[BlockFailure] = []
        self._terminal = terminal
        self._folder = folder
        self._plan = plan
        self._scanned_before = folder.totals.scanned
        self._start = time.monotonic()

    def begin(self, signals: int) -> None:
        """Print what is going to be scanned, against how many signals."""
        plan, done = self._plan, len(self._folder.done)
        files = f" in {plan.files:,} files" if plan.kind is Kind.HASHES else ""
        text = f"Scanning {plan.count:,} {plan.kind.value}{files} against {signals:,} signals"
        if done:
            text += f"; {done:,} of {len(plan.blocks):,} blocks were done before"
        self._terminal.say(f"{text}.")

    def add(self, outcome: BlockOutcome) -> None:
        """Count a block, and print a JSON line for it if the terminal prints JSON."""
        if isinstance(outcome, BlockFailure):
            self.failed_blocks.append(outcome)
        if not self._terminal.as_json:
            return
        if isinstance(outcome, BlockFailure):
            error = {"code": "undone", "message": outcome.reason}
            self._terminal.line({"block": outcome.number, "error": error})
            return
        for refusal in outcome.refused:
            error = {"code": refusal.code, "message": refusal.reason}
            self._terminal.line(name_fields(refusal.name) | {"error": error})
        self._terminal.line(
            {
                "block": outcome.number,
                "blocks": len(self._plan.blocks),
                "done": len(self._folder.done),
                "scanned": outcome.scanned,
                "matches": len(outcome.matches),
                "failed": outcome.failed.total(),
            }
        )

    @contextmanager
    def resumable(self) -> Iterator[None]:
        """Explain how to continue the scan if Ctrl-C interrupts the block."""
        try:
            yield
        except KeyboardInterrupt:
            done, total = len(self._folder.done), len(self._plan.blocks)
            self._terminal.say(
                f"\nInterrupted. {shown(self._folder.path)} holds {done:,} of {total:,} blocks. "
                "Run the same command again to continue, or delete the folder: it holds a copy of "
                "the bank."
            )
            raise

    def end(self) -> int:
        """Print the results; return the number of files, hashes and blocks that failed."""
        totals, terminal = self._folder.totals, self._terminal
        seconds = max(time.monotonic() - self._start, 1e-3)
        scanned = totals.scanned - self._scanned_before
        failed = totals.failed.total() + len(self._plan.refused)
        if terminal.as_json:
            terminal.line(
                {
                    "complete": not self.failed_blocks,
                    "scanned": totals.scanned,
                    "matches": totals.matches,
                    "foreign": totals.foreign,
                    "failed": failed,
                    "undone": len(self.failed_blocks),
                    "scanned_now": scanned,
                    "seconds": round(seconds, 3),
                }
            )
        speed = f"in {seconds:,.1f} s, {scanned / seconds:,.1f} per second"
        parts = [f"{scanned:,} {self._plan.kind.value} scanned {speed}"]
        if self._scanned_before:
            parts.append(f"{self._scanned_before:,} were scanned before")
        if totals.foreign:
            parts.append(f"{totals.foreign:,} are neither pictures nor videos that can be opened")
        parts += [f"{totals.matches:,} matches", f"{failed:,} failed"]
        terminal.say("; ".join(parts) + ".")
        if failed:
            self._name_refused()
        if self.failed_blocks:
            terminal.say(
                f"{len(self.failed_blocks):,} blocks were not scanned: "
                f"{self.failed_blocks[0].reason} Run the same command again to retry them.",
                style="yellow",
            )
        matches = shown(self._folder.path / "matches")
        terminal.say(f"The matches are in {matches}, in a Parquet file for each block.")
        return failed + len(self.failed_blocks)

    def _name_refused(self) -> None:
        """Name some files for each kind of failure; the folder lists all of them."""
        refused: dict[str, list[FileRefusal]] = {}
        for refusal in (*self._plan.refused, *self._folder.refused()):
            examples = refused.setdefault(refusal.code, [])
            if len(examples) < _EXAMPLES:
                examples.append(refusal)
        counts = Counter(refusal.code for refusal in self._plan.refused)
        for code, count in (counts + self._folder.totals.failed).most_common():
            examples = refused[code]
            self._terminal.say(f"  {count:,} {code}: {examples[0].reason}", style="yellow")
            names = ", ".join(shown(refusal.name) for refusal in examples)
            self._terminal.say(f"    {names}{' and more' if count > _EXAMPLES else ''}")
        self._terminal.say(
            f"  All of them are listed in {shown(self._folder.path / 'refused.jsonl')}."
        )
