"""Count what became of many files, and say it at the end."""

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


def _named(line: ResultLine) -> dict[str, str | None]:
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
    lambda line: ({**_named(line), "media": line["media"], **hashed} for hashed in line["hashes"]),
)
MATCHES: Final = Layout(
    {
        "file": "string",
        "file_bytes": "string",
        "id": "string",
        "item": "string",
        "type": "string",
        "variant": "string",
        "distance": "int16",
        "band": "string",
    },
    lambda line: ({**_named(line), **match} for match in line["matches"]),
)
_NAMED: Final = 5  # files of each kind of failure


class RunSummary:
    """What became of the files of one run.

    Args:
        terminal: where to speak.
        what: the word for what was done, such as "hashed".
        skip_foreign: count files that are neither picture nor video rather than refuse them, as it
            is proper for a whole folder.
    """

    def __init__(self, terminal: Terminal, what: str, *, skip_foreign: bool) -> None:
        self._terminal = terminal
        self._what = what
        self._skip_foreign = skip_foreign
        self._done = self._before = self._foreign = 0
        self._refused: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}
        self._names: dict[str, list[str]] = defaultdict(list)
        self._start = time.monotonic()

    @property
    def failed(self) -> int:
        """Count the files that were refused."""
        return self._refused.total()

    def left(self, paths: Iterable[Path], ledger: ResultsFile | None) -> list[Path]:
        """Give those files that no earlier run has done, and note the others."""
        all = list(paths)
        if ledger is None:
            return all
        left = [path for path in all if os.fsdecode(path) not in ledger.done]
        self._before += len(all) - len(left)
        return left

    @contextmanager
    def resumable(self, ledger: ResultsFile | None) -> Iterator[None]:
        """Say where the results are, and how to go on, to whoever breaks the block off."""
        try:
            yield
        except KeyboardInterrupt:
            if ledger is not None:
                self._terminal.say(
                    f"\nInterrupted. {shown(ledger.lines_path)} holds the {self._done:,} results "
                    "of this run. Run the same command again to go on."
                )
            raise

    def done(self) -> None:
        """Note a file that is done."""
        self._done += 1

    def refuse(self, path: str | PathLike[str], refusal: FileRefused) -> None:
        """Note a file that was refused, and tell why, unless it is no picture at all."""
        if self._skip_foreign and isinstance(refusal, UnsupportedFormat):
            self._foreign += 1
            return
        self._refused[refusal.code] += 1
        self._reasons.setdefault(refusal.code, " ".join(str(refusal).split()))
        if len(self._names[refusal.code]) < _NAMED:
            self._names[refusal.code].append(shown(path))
        if not self._skip_foreign or self._terminal.as_json:
            self._terminal.refuse(path, refusal)

    def say(self) -> None:
        """Say how many files are done and how fast that was, and what failed and why."""
        seconds = max(time.monotonic() - self._start, 1e-3)
        rate = self._done / seconds
        told = f"{self._done:,} {'file' if self._done == 1 else 'files'} {self._what}"
        parts = [f"{told} in {seconds:,.1f} s, {rate:,.1f} a second"]
        if self._before:
            parts.append(f"{self._before:,} were done before")
        if self._foreign:
            parts.append(f"{self._foreign:,} are neither pictures nor videos that can be opened")
        parts.append(f"{self.failed:,} failed")
        self._terminal.say("; ".join(parts) + ".")
        for code, count in self._refused.most_common():
            names = ", ".join(self._names[code])
            more = f" and {count - _NAMED:,} more" if count > _NAMED else ""
            self._terminal.say(f"  {count:,} {code}: {self._reasons[code]}", style="yellow")
            self._terminal.say(f"    {names}{more}")
