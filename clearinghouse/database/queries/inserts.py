"""Inserts that return row numbers, and inserts that may change the row that is there already."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Table, insert
from sqlalchemy.dialects import postgresql, sqlite


def insert_row(connection: Connection, table: Table, **values: Any) -> int:  # noqa: ANN401 - columns
    """Insert a row and return its number."""
    inserted = connection.execute(insert(table).values(**values)).inserted_primary_key
    assert inserted is not None  # noqa: S101 - an insert of one row always has a key
    number: int = inserted[0]
    return number


def insert_rows(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> list[int]:
    """Insert rows and return their numbers, in their order."""
    if not rows:
        return []
    query = insert(table).returning(table.c.id, sort_by_parameter_order=True)
    return list(connection.execute(query, rows).scalars())


def upsert(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Begin an insert that may change the row that is there already."""
    is_postgres = connection.dialect.name == "postgresql"
    return postgresql.insert(table) if is_postgres else sqlite.insert(table)
