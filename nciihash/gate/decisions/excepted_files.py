"""The lawful files that operators have excepted. Only of these does a gate store hashes."""

from collections.abc import Sequence
from typing import Any

from nciihash.gate.decisions.records import ExceptedFile, operator_name
from nciihash.gate.decisions.tables import hour_of
from nciihash.sdk.sqlite_file import SQLiteFile
from nciihash.signals import Signal, SignalType


class ExceptedFiles:
    """The list of excepted files, in the file of decisions; usable from any thread.

    Args:
        file: the file of decisions.
    """

    def __init__(self, file: SQLiteFile) -> None:
        self._file = file

    def add(self, hashes: Sequence[Signal], reference: str, *, by: str, now: float) -> ExceptedFile:
        """Add a file, durably. To add the same hashes for the same reference again adds nothing.

        Args:
            hashes: of the picture, and of the picture within its frame if it has one.
            reference: of the decision that was wrong, as it is stored.
            by: the name of who excepts the file.
            now: the time, in Unix seconds.

        Raises:
            ValueError: there is no hash, or no valid name.
            OSError: the file of decisions cannot be written.
        """
        by = operator_name(by)
        if not hashes or not by:
            raise ValueError("An exception needs hashes, and the name of who excepts the file.")
        text = " ".join(f"{signal.type}:{signal.hex}" for signal in hashes)
        with self._file.change() as database:
            row = database.execute(
                "SELECT * FROM exceptions WHERE hashes = ? AND reference = ?", (text, reference)
            ).fetchone()
            if row is None:
                row = (text, reference, by, hour_of(now))
                inserted = database.execute(
                    "INSERT INTO exceptions (hashes, reference, by, hour) VALUES (?, ?, ?, ?)", row
                )
                row = (inserted.lastrowid, *row)
        return _file(row)

    def all(self) -> list[ExceptedFile]:
        """Return all excepted files, oldest first."""
        with self._file.read() as database:
            rows = database.execute("SELECT * FROM exceptions ORDER BY number").fetchall()
        return [_file(row) for row in rows]

    def version(self) -> tuple[int, int]:
        """Return a value that differs when the list does, whichever process changed it."""
        with self._file.read():
            return (
                self._file.number("SELECT ifnull(max(number), 0) FROM exceptions"),
                self._file.number("SELECT count(*) FROM exceptions"),
            )

    def remove(self, number: int) -> bool:
        """Remove a file from the list; return whether it was there.

        Raises:
            OSError: the file of decisions cannot be written.
        """
        with self._file.change() as database:
            gone = database.execute("DELETE FROM exceptions WHERE number = ?", (number,))
            return gone.rowcount > 0


def _file(row: Sequence[Any]) -> ExceptedFile:
    number, hashes, reference, by, hour = row
    signals = []
    for typed in hashes.split():
        type, _, digits = typed.partition(":")
        signals.append(Signal.from_hex(SignalType(type), digits))
    return ExceptedFile(number, tuple(signals), reference, by, hour)
