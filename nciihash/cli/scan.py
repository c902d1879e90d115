"""The command `scan`: look for everything that a platform has stored in a bank, on many cores."""

import os
import time
from collections import Counter
from contextlib import ExitStack, closing
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nciihash.cli.options import AsJson, Fast, Jobs, NoSandbox, wanted_signals
from nciihash.cli.tables import shown
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.media.reading import name_fields
from nciihash.sandbox.pool import cores
from nciihash.signals import SignalType

# A bank locks its file as POSIX systems do: what needs it is imported by the command alone.
if TYPE_CHECKING:
    from nciihash.scan.executors import BlockFailure
    from nciihash.scan.plan import FileRefusal, Plan
    from nciihash.scan.results import ScanFolder
    from nciihash.scan.worker import BlockResult

app = typer.Typer()

_NAMED: Final = 5  # files of each kind of failure


class Engine(StrEnum):
    """Where a scan runs."""

    LOCAL = "local"
    RAY = "ray"


@app.command(rich_help_panel="If you run a platform")
def scan(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder of pictures and videos, or of Parquet files of hashes as `hash --out` "
            "writes them; or the URL of one."
        ),
    ],
    bank: Annotated[
        Path,
        typer.Option(
            help="A bank that `follow` keeps, or an index file of PDQ hashes.", show_default=False
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="A folder for the results, new or of the same scan, which then goes on.",
            show_default=False,
        ),
    ],
    engine: Annotated[
        Engine, typer.Option(help="All cores of this machine, or a Ray cluster.")
    ] = Engine.LOCAL,
    signal: Annotated[
        list[SignalType] | None,
        typer.Option(help="Another kind of hash to make of files beside pdq; may be repeated."),
    ] = None,
    fast: Fast = False,
    block: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Files, or hashes, that are done and kept as a whole; 256, or 262,144, by "
            "default.",
            show_default=False,
        ),
    ] = None,
    jobs: Jobs = None,
    no_sandbox: NoSandbox = False,
    as_json: AsJson = False,
) -> None:
    """Find out which of many stored files, or hashes, are near something in a bank.

    The results are Parquet files in a folder, one for each finished block. A scan that ended early
    goes on when the same command is run again. It looks in the bank as it was at the start.
    """
    terminal = Terminal(as_json=as_json)
    try:
        from nciihash.scan import executors
        from nciihash.scan.plan import Kind, plan
        from nciihash.scan.results import ScanFolder
        from nciihash.scan.sources import store
        from nciihash.scan.worker import BlockResult, Job
        from nciihash.sdk.veiled import kept_veil
    except ModuleNotFoundError as error:
        if error.name != "fcntl":
            raise
        terminal.fail("bank_unavailable", "A bank is locked as Linux and macOS do: scan there.")
        raise typer.Exit(ExitCode.USAGE) from None

    with terminal.guard(), ExitStack() as stack:
        if kept_veil(bank) is not None:
            raise typer.BadParameter(
                "This bank is veiled, and what it finds are candidates: use `match --confirm`."
            )
        source = source if "://" in source else os.path.abspath(source)  # noqa: PTH100 - a text
        findings = stack.enter_context(ScanFolder(out))
        terminal.say("Listing what there is …")
        planned = plan(store(source), block)
        signals = wanted_signals(signal or ()) if planned.kind is Kind.FILES else ()
        how = {"signals": [type.value for type in signals], "fast": fast and bool(signals)}
        where, pin = findings.begin(source, planned, bank, how)
        teller = _Teller(terminal, findings, planned)
        teller.begin(pin.signals)
        blocks = list(executors.left(planned.blocks, findings.done))
        if blocks:
            job = Job(
                source, planned.kind, str(where), pin.fingerprint, signals, fast, not no_sandbox
            )
            results = (
                executors.local(job, blocks, jobs or min(cores(), len(blocks)))
                if engine is Engine.LOCAL
                else executors.ray(job, blocks)
            )
            stack.enter_context(closing(results))
            counts = {each.number: each.count for each in blocks}
            advance = stack.enter_context(terminal.progress("Scanning", sum(counts.values())))
            try:
                for outcome in results:
                    if isinstance(outcome, BlockResult):
                        findings.write(outcome)
                    teller.tell(outcome)
                    advance(counts[outcome.number])
            except KeyboardInterrupt:
                teller.interrupted()
                raise
        findings.finish(planned.refused, complete=not teller.undone)
        failed = teller.end()
    if failed:
        raise typer.Exit(ExitCode.SOME_FAILED)


class _Teller:
    """Tells how a scan goes, and what came of it."""

    def __init__(self, terminal: Terminal, findings: "ScanFolder", plan: "Plan") -> None:
        self._terminal = terminal
        self._findings = findings
        self._plan = plan
        self._before = findings.totals.scanned
        self._start = time.monotonic()
        self.undone: list[BlockFailure] = []

    def begin(self, signals: int) -> None:
        """Say what is to be done."""
        plan, done = self._plan, len(self._findings.done)
        of = f" in {plan.files:,} files" if plan.kind.value == "hashes" else ""
        told = f"{plan.count:,} {plan.kind.value}{of} against {signals:,} signals"
        if done:
            told += f"; {done:,} of {len(plan.blocks):,} blocks were done before"
        self._terminal.say(f"{told}.")

    def tell(self, outcome: "BlockResult | BlockFailure") -> None:
        """Note a block, and tell of it if programs listen."""
        from nciihash.scan.worker import BlockResult

        if not isinstance(outcome, BlockResult):
            self.undone.append(outcome)
        if not self._terminal.as_json:
            return
        if not isinstance(outcome, BlockResult):
            error = {"code": "undone", "message": outcome.reason}
            self._terminal.line({"block": outcome.number, "error": error})
            return
        for each in outcome.refused:
            error = {"code": each.code, "message": each.reason}
            self._terminal.line(name_fields(each.name) | {"error": error})
        self._terminal.line(
            {
                "block": outcome.number,
                "blocks": len(self._plan.blocks),
                "done": len(self._findings.done),
                "scanned": outcome.scanned,
                "matches": len(outcome.matches),
                "failed": outcome.failed.total(),
            }
        )

    def interrupted(self) -> None:
        """Say where results are, and how to go on."""
        done, all = len(self._findings.done), len(self._plan.blocks)
        self._terminal.say(
            f"\nInterrupted. {shown(self._findings.path)} holds {done:,} of {all:,} blocks. Run "
            "the same command again to go on, or delete the folder: it holds a copy of the bank."
        )

    def end(self) -> int:
        """Say what came of everything; give how much failed."""
        totals, terminal = self._findings.totals, self._terminal
        seconds = max(time.monotonic() - self._start, 1e-3)
        now = totals.scanned - self._before
        failed = totals.failed.total() + len(self._plan.refused)
        if terminal.as_json:
            terminal.line(
                {
                    "complete": not self.undone,
                    "scanned": totals.scanned,
                    "matches": totals.matches,
                    "foreign": totals.foreign,
                    "failed": failed,
                    "undone": len(self.undone),
                    "scanned_now": now,
                    "seconds": round(seconds, 3),
                }
            )
        parts = [f"{now:,} {self._plan.kind.value} scanned in {seconds:,.1f} s"]
        parts[0] += f", {now / seconds:,.1f} a second"
        if self._before:
            parts.append(f"{self._before:,} were scanned before")
        if totals.foreign:
            parts.append(f"{totals.foreign:,} are neither pictures nor videos that can be opened")
        parts += [f"{totals.matches:,} matches", f"{failed:,} failed"]
        terminal.say("; ".join(parts) + ".")
        if failed:
            self._tell_refused()
        if self.undone:
            terminal.say(
                f"{len(self.undone):,} blocks are not done: {self.undone[0].reason} "
                "Run the same command again to try them once more.",
                style="yellow",
            )
        where = shown(self._findings.path / "matches")
        terminal.say(f"The matches are in {where}, a Parquet file for each block.")
        return failed + len(self.undone)

    def _tell_refused(self) -> None:
        """Name some files of each kind of failure; all are in the folder."""
        named: dict[str, list[FileRefusal]] = {}
        for each in (*self._plan.refused, *self._findings.refused()):
            some = named.setdefault(each.code, [])
            if len(some) <= _NAMED:
                some.append(each)
        counts = Counter(each.code for each in self._plan.refused) + self._findings.totals.failed
        for code, count in counts.most_common():
            some = named[code]
            self._terminal.say(f"  {count:,} {code}: {some[0].reason}", style="yellow")
            names = ", ".join(shown(each.name) for each in some[:_NAMED])
            self._terminal.say(f"    {names}{' and more' if count > _NAMED else ''}")
        self._terminal.say(f"  All are named in {shown(self._findings.path / 'refused.jsonl')}.")
