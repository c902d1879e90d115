"""The journal of withdrawals, which keeps a restored backup from reviving withdrawn hashes.

The journal is a file outside the database and its backups, next to the key or in the folder
`CLEARINGHOUSE_NOTES`. It has a line for each removal in the log, with its position in the log and
the row number of the signal, and a line for each revoked key. It contains no value and no time. A
withdrawal is in the journal, on the disk, before it is confirmed.

Removals of cases that expired have lines of another kind. After a restore, withdrawals are replayed
always, and expiries only if the case has expired by the present clock. So a backup is not lost to a
clock that was wrong when the cases expired.

Every machine that runs workers has its own journal with all removals; the workers of one machine
share it. A line names the epoch of the log in which the journal was last replayed. A database with
another epoch was restored, and the journal is replayed into it (`Store.reconcile`).
"""

import fcntl
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from nciihash.durable import filename_in_errors, fsync_folder

_PAGE: Final = 10_000  # removals read from the log at a time

_END: Final = "."  # ends each line, so that a truncated number is not mistaken for another one


class Removal(NamedTuple):
    """A removal in the log.

    Attributes:
        seq: its position.
        signal: the row number of the signal.
        expired: whether its case had expired; otherwise somebody removed it.
    """

    seq: int
    signal: int
    expired: bool


class Replay(NamedTuple):
    """Row numbers of signals that were withdrawn, of signals that expired, and of revoked keys."""

    withdrawn: list[int]
    expired: list[int]
    keys: list[int]


# Called with a log position and a limit; returns the removals after it, in order.
Reader = Callable[[int, int], Sequence[Removal]]


class WithdrawalJournal:
    """One journal; any number of threads and processes may use it at once.

    Args:
        path: its file; created, with its folder, on first use.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._offset = 0  # bytes of the file that were read
        self._epoch: int | None = None
        self._last = 0  # the last log position in the file
        self._checked = 0  # the log position up to which removals were looked for

    def last_seq(self) -> int:
        """Return the log position of the last removal in the journal; 0 if there is none."""
        with self._locked_file():
            return self._last

    def catch_up(self, head: int, read: Reader) -> None:
        """Append every removal that the log has up to `head`; on the disk when this returns.

        Raises:
            OSError: it cannot be written. Nothing is lost: the next call writes it.
        """
        with self._locked_file() as file:
            after, appended = max(self._last, self._checked), False
            while rows := read(after, _PAGE):
                _append(file, map(_line, rows))
                after, appended = rows[-1].seq, True
            if appended:
                os.fsync(file.fileno())
            self._checked = max(after, head)

    def add_keys(self, keys: Iterable[int]) -> None:
        """Append revoked keys, by their row numbers."""
        self._write(f"key {key}" for key in keys)

    def is_replayed_in(self, epoch: int) -> bool:
        """Whether the journal was replayed in this epoch of the log, or has none yet."""
        with self._locked_file():
            return self._epoch in {None, epoch}

    def set_epoch(self, epoch: int) -> None:
        """Record that the journal has been replayed in this epoch of the log."""
        with self._locked_file():
            known = self._epoch == epoch
            self._checked = 0
        if not known:
            self._write([f"epoch {epoch}"])

    def replay(self, size: int) -> Iterator[Replay]:
        """Yield what is in the journal, `size` entries at a time."""
        batch = Replay([], [], [])
        with self._locked_file() as file:
            file.seek(0)
            for line in file:
                match _parse(line):
                    case ("gone", _, signal):
                        batch.withdrawn.append(signal)
                    case ("expired", _, signal):
                        batch.expired.append(signal)
                    case ("key", key, _):
                        batch.keys.append(key)
                if sum(map(len, batch)) == size:
                    yield batch
                    batch = Replay([], [], [])
        yield batch

    def _write(self, lines: Iterable[str]) -> None:
        with self._locked_file() as file:
            _append(file, lines)
            os.fsync(file.fileno())

    @contextmanager
    def _locked_file(self) -> Iterator[BinaryIO]:
        """Open and lock the file, and read the lines that other workers have appended."""
        with self._lock:
            is_new = not self._path.exists()
            if is_new:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            with filename_in_errors(self._path), os.fdopen(descriptor, "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed
                if is_new:
                    fsync_folder(self._path.parent)
                self._read_new_lines(file)
                yield file

    def _read_new_lines(self, file: BinaryIO) -> None:
        file.seek(self._offset)
        for line in file:
            match _parse(line):
                case ("gone" | "expired", seq, _):
                    self._last = max(self._last, seq)
                case ("epoch", epoch, _):
                    self._epoch = epoch
            if line.endswith(b"\n"):
                self._offset += len(line)


def _line(removal: Removal) -> str:
    return f"{'expired' if removal.expired else 'gone'} {removal.seq} {removal.signal}"


def _append(file: BinaryIO, lines: Iterable[str]) -> None:
    data = "".join(f"{line} {_END}\n" for line in lines).encode()
    size = file.seek(0, os.SEEK_END)
    if size:
        file.seek(size - 1)
        if file.read(1) != b"\n":
            data = b"\n" + data  # ends a truncated line, which readers skip
    file.write(data)
    file.flush()


def _parse(line: bytes) -> tuple[str, int, int] | None:
    """Return the kind and the numbers of a line: (kind, seq, signal) or (kind, number, 0).

    None for a truncated line, which lacks its end mark.
    """
    try:
        match line.decode().split():
            case ["gone" | "expired" as kind, seq, signal, end] if end == _END:
                return kind, int(seq), int(signal)
            case ["key" | "epoch" as kind, number, end] if end == _END:
                return kind, int(number), 0
    except ValueError:
        pass
    return None
