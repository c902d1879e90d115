"""The statements by which files and their signals come in, many at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, insert

from clearinghouse.database.queries.log import Upkeep
from clearinghouse.database.queries.stopncii_records import SHOWN
from clearinghouse.database.schema import items, signals


@dataclass(frozen=True, slots=True)
class NewItem:
    """A file of a case.

    A refused one has no signals and is not shown; its row keeps its number from being reused.
    """

    ordinal: int
    media: str
    refused: bool = False


@dataclass(frozen=True, slots=True)
class NewSignals:
    """The signals of one file, a row of columns each.

    Those of a file that is held back stand in no log and no order, until they are released.
    """

    media: str
    rows: Sequence[dict[str, Any]]
    held_back: bool = False


class Arrivals(Upkeep):
    """The statements, as a part of `clearinghouse.database.transaction.Transaction`."""

    def add_items(self, case: int, files: Sequence[NewItem], hour: int) -> list[int]:
        """Insert files of a case and give their row numbers, in their order."""
        rows = [
            {
                "case_id": case,
                "ordinal": file.ordinal,
                "media": file.media,
                "added": hour,
                "withdrawn": hour if file.refused else None,
            }
            for file in files
        ]
        return self._numbered(items, rows)

    def _numbered(self, table: Table, rows: Sequence[dict[str, Any]]) -> list[int]:
        """Insert rows and give their numbers, in their order."""
        if not rows:
            return []
        query = insert(table).returning(table.c.id, sort_by_parameter_order=True)
        return list(self._run(query, rows).scalars())

    def add_signals(self, files: Sequence[NewSignals], hour: int) -> None:
        """Insert signals of files, and log each addition."""
        listed = [(file, row) for file in files for row in file.rows]
        shown = [(file.media, row["type"]) in SHOWN and not file.held_back for file, row in listed]
        places = iter(self.take_places(sum(shown), hour))
        rows = [
            row | {"place": next(places) if is_shown else None}
            for (_, row), is_shown in zip(listed, shown, strict=True)
        ]
        numbers = self._numbered(signals, rows)
        self._log(
            "add",
            [n for n, (file, _) in zip(numbers, listed, strict=True) if not file.held_back],
        )
