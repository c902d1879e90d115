"""Count the results of many files, and print a summary at the end."""

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Final

from nciihash.cli.results_file import Layout, ResultLine, ResultsFile
from nciihash.cli.tables import shown
from nciihash.cli.terminal import Terminal
from nciihash.errors import FileRefused, UnsupportedFormat
from nciihash.sdk.match_fields import MATCH_COLUMNS, match_row


def _name_columns(line: ResultLine) -> dict[str, str | None]:
    return {"file": line["file"], "file_bytes": line.get("file_bytes")}


HASHES: Final = Layout(
    {
        "file": "string",
        "file_bytes": "string",
        "media": "string",
        "type": "string",
        "value": "string",
        "quality": "int8",
        "variant": "string",
        "time": "float64",
    },
    lambda line: (
        {**_name_columns(line), "media": line["media"], **hashed} for hashed in line["hashes"]
    ),
)
MATCHES: Final = Layout(
    {"file": "string", "file_bytes": "string", **MATCH_COLUMNS},
    lambda line: ({**_name_columns(line), **match_row(match)} for match in line["matches"]),
)
_EXAMPLES: Final = 5  # files that are named for each kind of failure


class RunSummary:
    """Counts of the files of one run.

    Args:
        terminal: where to print messages.
        verb: what is done to files, as a participle such as "hashed".
        skip_unsupported: count files that are neither pictures nor videos instead of refusing
            them, as suits whole folders.
    """

    def __init__(self, terminal: Terminal, verb: str, *, skip_unsupported: bool) -> None:
        self._terminal = terminal
        self._verb = verb
        self._skip_unsupported = skip_unsupported
        self._done = self._done_before = self._unsupported = 0
        self._refused: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}
        self._examples: dict[str, list[str]] = defaultdict(list)
        self._start = time.monotonic()

    @property
    def failed(self) -> int:
        """Number of files that were refused."""
        return self._refused.total()

    def not_done(self, paths: Iterable[Path], results: ResultsFile | None) -> list[Path]:
        """Return the files that are not in the results of earlier runs, and count the others."""
        paths = list(paths)
        if results is None:
            return paths
        todo = [path for path in paths if os.fsdecode(path) not in results.done]
        self._done_before += len(paths) - len(todo)
        return todo

    @contextmanager
    def resumable(self, results: ResultsFile | None) -> Iterator[None]:
        """Explain how to continue the run if Ctrl-C interrupts the block."""
        try:
            yield
        except KeyboardInterrupt:
            if results is not None:
                self._terminal.say(
                    f"\nInterrupted. {shown(results.lines_path)} holds the {self._done:,} results "
                    "of this run. Run the same command again to continue."
                )
            raise

    def done(self) -> None:
        """Count a file that is done."""
        self._done += 1

    def refuse(self, path: str | PathLike[str], refusal: FileRefused) -> None:
        """Count a file that was refused, and print why unless a whole folder is searched."""
        if self._skip_unsupported and isinstance(refusal, UnsupportedFormat):
            self._unsupported += 1
            return
        self._refused[refusal.code] += 1
        self._reasons.setdefault(refusal.code, " ".join(str(refusal).split()))
        if len(self._examples[refusal.code]) < _EXAMPLES:
            self._examples[refusal.code].append(shown(path))
        if not self._skip_unsupported or self._terminal.as_json:
            self._terminal.refuse(path, refusal)

    def say(self) -> None:
        """Print how many files are done, how fast that was, and what failed and why."""
        seconds = max(time.monotonic() - self._start, 1e-3)
        rate = self._done / seconds
        done = f"{self._done:,} {'file' if self._done == 1 else 'files'} {self._verb}"
        parts = [f"{done} in {seconds:,.1f} s, {rate:,.1f} per second"]
        if self._done_before:
            parts.append(f"{self._done_before:,} were done before")
        if self._unsupported:
            parts.append(
                f"{self._unsupported:,} are neither pictures nor videos that can be opened"
            )
        parts.append(f"{self.failed:,} failed")
        self._terminal.say("; ".join(parts) + ".")
        for code, count in self._refused.most_common():
            names = ", ".join(self._examples[code])
            more = f" and {count - _EXAMPLES:,} more" if count > _EXAMPLES else ""
            self._terminal.say(f"  {count:,} {code}: {self._reasons[code]}", style="yellow")
            self._terminal.say(f"    {names}{more}")
