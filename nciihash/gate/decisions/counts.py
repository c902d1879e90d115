"""Counts of a gate's decisions by the hour, for reports."""

import threading
from collections import Counter
from typing import Final

from nciihash.gate.decisions.records import DecisionKind, KindCount
from nciihash.gate.decisions.tables import KIND, columns, hour_of, read_kind
from nciihash.sdk.sqlite_file import SQLiteFile

_ADD: Final = f"""
INSERT INTO counts (hour, {KIND}, count) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (hour, {KIND}) DO UPDATE SET count = count + excluded.count
"""  # noqa: S608 - the names are constants
_OF_MONTH: Final = f"""
SELECT {KIND}, sum(count) AS total FROM counts WHERE strftime('%Y-%m', hour, 'unixepoch') = ?
GROUP BY {KIND} ORDER BY total DESC, {KIND}
"""  # noqa: S608 - the names are constants


class DecisionCounts:
    """How many uploads were decided in which way in each hour; usable from any thread.

    Counts are kept in memory until `flush`, so that not every upload causes a write. A crash loses
    those since the last one.

    Args:
        file: the file of decisions.
    """

    def __init__(self, file: SQLiteFile) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._counts: Counter[tuple[int, DecisionKind]] = Counter()

    def add(self, kind: DecisionKind, *, now: float) -> None:
        """Count an upload, in memory.

        Args:
            kind: what was decided.
            now: the time, in Unix seconds.
        """
        with self._lock:
            self._counts[hour_of(now), kind] += 1

    def flush(self) -> None:
        """Store the counts.

        Raises:
            OSError: the file cannot be written; the counts stay in memory.
        """
        with self._lock:
            counts, self._counts = self._counts, Counter()
        if not counts:
            return
        rows = [(hour, *columns(kind), count) for (hour, kind), count in counts.items()]
        try:
            with self._file.change() as database:
                database.executemany(_ADD, rows)
        except BaseException:
            with self._lock:
                self._counts.update(counts)
            raise

    def of_month(self, month: str) -> list[KindCount]:
        """Return the stored counts of a month (UTC) such as "2026-11", largest first."""
        with self._file.read() as database:
            rows = database.execute(_OF_MONTH, (month,)).fetchall()
        return [KindCount(read_kind(kind), count) for *kind, count in rows]
