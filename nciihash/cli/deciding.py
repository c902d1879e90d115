"""Decide on what a gate did, except lawful files, and report on a month of decisions."""

import csv
import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nciihash.cli.tables import exception_table, report_table
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.errors import QueueInvalid, TooPlain, describe_os_error
from nciihash.gate.decisions import DECISIONS_FILE, DecisionStore
from nciihash.gate.decisions.records import operator_name
from nciihash.gate.decisions.report import COLUMNS, Layout, Report, report
from nciihash.gate.decisions.verdicts import VERDICTS_FILE, VerdictReporter
from nciihash.sandbox.parent import Sandbox
from nciihash.sdk.verdict_queue import VerdictQueue
from nciihash.signals import Signal, VariantSet, Verdict

_NOT_YET: Final = (
    "The clearinghouse is not notified yet, since the verdict cannot be added to the queue. The "
    "gate adds it as soon as that works. {reason}"
)


@dataclass(frozen=True, slots=True)
class GateFiles:
    """Where the gate has its data.

    Attributes:
        data: its folder.
        reference_days: days for which references are valid.
    """

    data: Path
    reference_days: int


@contextmanager
def _decisions(files: GateFiles) -> Iterator[DecisionStore]:
    """Open the decisions of a gate, which may be running.

    Raises:
        FileNotFoundError: the gate has never run with this folder.
    """
    path = files.data / DECISIONS_FILE
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    with DecisionStore(path, reference_days=files.reference_days) as store:
        yield store


@contextmanager
def _reporting(terminal: Terminal, files: GateFiles, store: DecisionStore) -> Iterator[None]:
    """Queue the verdicts that are stored before and in the block; the gate sends them.

    Those from before come first: `not_blocked` would replace a `blocked` that is not queued yet.
    """
    _report(files, store)
    yield
    if reason := _report(files, store):
        terminal.say(_NOT_YET.format(reason=reason), style="yellow")


def _report(files: GateFiles, store: DecisionStore) -> str | None:
    """Queue the stored verdicts; return why that is not possible, as a sentence."""
    try:
        with VerdictQueue(files.data / VERDICTS_FILE) as queue:
            reporter = VerdictReporter(store, queue)
            reporter.report()
            return reporter.state.error
    except OSError as error:
        return describe_os_error(error)
    except QueueInvalid as error:
        return str(error)


# --- decide --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DecideOptions:
    """A person's decision on something that a gate decided.

    Attributes:
        reference: which decision.
        verdict: what should have happened.
        by: the name of who decides; may be empty.
    """

    reference: str
    verdict: Verdict
    by: str = ""


def decide(terminal: Terminal, files: GateFiles, options: DecideOptions, *, now: float) -> None:
    """Store a person's verdict, and queue it for the clearinghouse.

    Raises:
        ReferenceUnknown: there is no such decision, or it has expired.
        ValueError: the name is not valid.
        OSError: the decisions cannot be read or written.
    """
    with _decisions(files) as store, _reporting(terminal, files, store):
        decision = store.decide(options.reference, options.verdict, by=options.by, now=now)
    if terminal.as_json:
        terminal.line(decision.fields())
    else:
        terminal.show(f"{decision.reference}: {decision.state}.")


# --- exceptions ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ExceptOptions:
    """A lawful file that a gate stopped.

    Attributes:
        file: the file.
        reference: of the decision that was wrong.
        by: the name of who excepts it.
    """

    file: Path
    reference: str
    by: str


def except_file(
    terminal: Terminal, files: GateFiles, options: ExceptOptions, *, now: float
) -> None:
    """Except a file, and report `not_blocked`. The running gate takes notice.

    Raises:
        ReferenceUnknown: there is no such decision, or it has expired.
        FileRefused: the file cannot be hashed, or is so plain that its hash resembles others.
        SandboxUnavailable: nothing was hashed.
        ValueError: the name is empty or not valid.
        OSError: the decisions cannot be read or written.
    """
    by = operator_name(options.by)
    with _decisions(files) as store, _reporting(terminal, files, store):
        store.get(options.reference, now=now)  # before the work of hashing
        hashes = _hashes(options.file)
        decision = store.decide(options.reference, Verdict.NOT_BLOCKED, by=by, now=now)
        excepted = store.exceptions.add(hashes, decision.reference, by=by, now=now)
    if terminal.as_json:
        terminal.line(excepted.fields())
    else:
        terminal.show(
            f"Exception {excepted.number}: this file passes from now on, unless the bank has the "
            f"same picture. {decision.reference}: {decision.state}."
        )


def _hashes(file: Path) -> list[Signal]:
    """Return the PDQ hashes of a file and of what is within its frame, computed in the sandbox.

    Raises:
        FileRefused: it cannot be hashed, or is too plain.
    """
    with Sandbox() as sandbox:
        item = sandbox.hash_file(file, variants=VariantSet.MATCH.value)
    hashes = dict.fromkeys(hashed.signal for hashed in item.hashes if not hashed.plain)
    if not hashes:
        raise TooPlain(
            "This file has so little detail that it matches nothing. It cannot be the one that was "
            "stopped."
        )
    return list(hashes)


def list_exceptions(terminal: Terminal, files: GateFiles) -> None:
    """Print the exceptions: their numbers, their references, who excepted them and when.

    Raises:
        OSError: the decisions cannot be read.
    """
    with _decisions(files) as store:
        rows = [excepted.fields() for excepted in store.exceptions.all()]
    if terminal.as_json:
        for row in rows:
            terminal.line(row)
    elif rows:
        terminal.show(exception_table(rows))
    else:
        terminal.say("There are no exceptions.")


def remove_exception(terminal: Terminal, files: GateFiles, number: int) -> ExitCode:
    """Remove an exception; return `SOME_FAILED` if there is none with this number.

    The verdict on its reference stays.

    Raises:
        OSError: the decisions cannot be read or written.
    """
    with _decisions(files) as store:
        removed = store.exceptions.remove(number)
    if not removed:
        terminal.fail(
            "exception_unknown",
            "There is no exception with this number. List them with `nciihash gate exceptions`.",
        )
        return ExitCode.SOME_FAILED
    if terminal.as_json:
        terminal.line({"removed": number})
    else:
        terminal.show(f"Exception {number} is removed.")
    return ExitCode.OK


# --- reports -------------------------------------------------------------------------------------


def print_report(terminal: Terminal, files: GateFiles, month: str, layout: Layout) -> None:
    """Print the report of a month such as "2026-11" (UTC).

    Raises:
        OSError: the decisions cannot be read.
    """
    with _decisions(files) as store:
        result = report(month, store.counts.of_month(month), store.states(month))
    match layout:
        case Layout.CSV:
            terminal.raw(_csv(result))
        case Layout.JSON:
            terminal.line(
                {
                    "month": month,
                    "totals": result.totals(),
                    "dry_run": result.dry_run(),
                    "rows": [row.fields(month) for row in result.rows],
                }
            )
        case Layout.TABLE:
            if result.rows:
                terminal.show(report_table(result))
            for sentence in _sentences(result):
                terminal.show(sentence)


def _csv(result: Report) -> str:
    """Return the rows of a report as CSV (RFC 4180); booleans are `true` and `false`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    for row in result.rows:
        fields = row.fields(result.month)
        writer.writerow(
            {name: str(v).lower() if isinstance(v, bool) else v for name, v in fields.items()}
        )
    return text.getvalue()


def _sentences(result: Report) -> Iterator[str]:
    """Return the totals of a report in words."""
    yield f"{result.month}: {result.uploads:,} uploads, of which {result.stopped:,} were stopped."
    if result.median_hours is not None:
        hours = result.median_hours
        within = f"{hours:g} hours" if hours else "the same hour"
        yield (
            f"People decided on {result.decided:,}, half of them within {within}. "
            f"{result.overturned:,} stopped uploads should not have been."
        )
    if result.dry_uploads:
        stopped = sum(result.dry_stopped.values())
        reasons = ", ".join(f"{count:,} {name}" for name, count in result.dry_stopped.items())
        yield (
            f"Dry run: of {result.dry_uploads:,} uploads, {stopped:,} would have been stopped"
            + (f", for these reasons: {reasons}." if reasons else ".")
        )
