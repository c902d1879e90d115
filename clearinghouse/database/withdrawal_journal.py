"""The journal of withdrawals: what a restored backup must not bring back to life.

It lies outside the database and its backups, beside the key or where `CLEARINGHOUSE_NOTES` says,
and follows the log as any reader does: a line for each removal, with its place in the log and the
row number of the signal. A line for each key that was revoked. No value, no time, nothing else. A
withdrawal is in the journal, on the disk, before it is confirmed.

Every machine that runs workers keeps a journal, and each holds all removals; the workers of one
machine share it. It names the epoch of the log up to which it was replayed: a database that says
another one was put back, and loses again all that the journal names (`Store.settle`).
"""

import fcntl
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from nciihash.durable import naming, sync_folder

_PAGE: Final = 10_000  # removals read from the log at a time

_END: Final = "."  # closes a line, so that one that was cut off is not taken for another

# Reads removals behind a place, so many at most: (place, signal), in order.
Reader = Callable[[int, int], Sequence[tuple[int, int]]]


class WithdrawalJournal:
    """One journal; any number of threads and processes may use it at once.

    Args:
        path: its file; made, with its folder, when first written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._offset = 0  # bytes of the file that were read
        self._epoch: int | None = None
        self._last = 0  # the last place that the file names
        self._seen = 0  # the last place of the log that was looked at

    def reached(self) -> int:
        """Give the place in the log of the last removal that was written down; 0 for none."""
        with self._opened():
            return self._last

    def catch_up(self, head: int, read: Reader) -> None:
        """Write down every removal that the log has up to `head`; on the disk when this returns.

        Raises:
            OSError: it cannot be written. Nothing is lost: the next call writes it.
        """
        with self._opened() as file:
            after, wrote = max(self._last, self._seen), False
            while rows := read(after, _PAGE):
                _append(file, (f"gone {place} {signal}" for place, signal in rows))
                after, wrote = rows[-1][0], True
            if wrote:
                os.fsync(file.fileno())
            self._seen = max(after, head)

    def add_keys(self, keys: Iterable[int]) -> None:
        """Write down keys that were revoked, by their row numbers."""
        self._write(f"key {key}" for key in keys)

    def is_of(self, epoch: int) -> bool:
        """Tell whether the journal has been replayed in this epoch of the log, or is new."""
        with self._opened():
            return self._epoch in {None, epoch}

    def begin(self, epoch: int) -> None:
        """Note that what it names is out of the database in this epoch."""
        with self._opened():
            known = self._epoch == epoch
            self._seen = 0
        if not known:
            self._write([f"epoch {epoch}"])

    def replay(self, size: int) -> Iterator[tuple[list[int], list[int]]]:
        """Give all signals and all keys that it names, so many lines at a time."""
        signals: list[int] = []
        keys: list[int] = []
        with self._opened() as file:
            file.seek(0)
            for line in file:
                match _entry(line):
                    case ("gone", _, signal):
                        signals.append(signal)
                    case ("key", key, _):
                        keys.append(key)
                if len(signals) + len(keys) == size:
                    yield signals, keys
                    signals, keys = [], []
        yield signals, keys

    def _write(self, lines: Iterable[str]) -> None:
        with self._opened() as file:
            _append(file, lines)
            os.fsync(file.fileno())

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        """Open the file for this thread alone, having read what others wrote since."""
        with self._lock:
            made = not self._path.exists()
            if made:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            with naming(self._path), os.fdopen(descriptor, "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # given back when the file is closed
                if made:
                    sync_folder(self._path.parent)
                self._read_on(file)
                yield file

    def _read_on(self, file: BinaryIO) -> None:
        file.seek(self._offset)
        for line in file:
            match _entry(line):
                case ("gone", place, _):
                    self._last = max(self._last, place)
                case ("epoch", epoch, _):
                    self._epoch = epoch
            if line.endswith(b"\n"):
                self._offset += len(line)


def _append(file: BinaryIO, lines: Iterable[str]) -> None:
    data = "".join(f"{line} {_END}\n" for line in lines).encode()
    size = file.seek(0, os.SEEK_END)
    if size:
        file.seek(size - 1)
        if file.read(1) != b"\n":
            data = b"\n" + data  # the last line was cut off, and is passed over
    file.write(data)
    file.flush()


def _entry(line: bytes) -> tuple[str, int, int] | None:
    """Read a line: ("gone", place, signal), ("key", key, 0), ("epoch", epoch, 0).

    One that was cut off lacks its end, and is none.
    """
    try:
        match line.decode().split():
            case ["gone", place, signal, end] if end == _END:
                return "gone", int(place), int(signal)
            case ["key" | "epoch" as kind, number, end] if end == _END:
                return kind, int(number), 0
    except ValueError:
        pass
    return None
