"""Inserts that return row numbers, and inserts that may change the row that is there already."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Table, insert, text
from sqlalchemy.dialects import postgresql, sqlite


def insert_row(connection: Connection, table: Table, **values: Any) -> int:  # noqa: ANN401 - columns
    """Insert a row and return its number."""
    inserted = connection.execute(insert(table).values(**values)).inserted_primary_key
    assert inserted is not None  # noqa: S101 - an insert of one row always has a key
    number: int = inserted[0]
    return number


def insert_rows(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> list[int]:
    """Insert rows and return their numbers, in their order.

    The numbers are reserved first: SQLite returns those that it gives in no certain order, and one
    statement for each row would cost several times as much.
    """
    if not rows:
        return []
    numbers = reserve(connection, table, len(rows))
    connection.execute(
        insert(table), [row | {"id": n} for n, row in zip(numbers, rows, strict=True)]
    )
    return numbers


def reserve(connection: Connection, table: Table, count: int) -> list[int]:
    """Return row numbers of this table, in ascending order, that no other row will get."""
    name = {"name": table.name}
    if connection.dialect.name == "postgresql":
        query = text(
            "SELECT nextval(pg_get_serial_sequence(:name, 'id')) FROM generate_series(1, :count)"
        )
        return sorted(connection.execute(query, name | {"count": count}).scalars())
    query = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
    last = connection.scalar(query, name)
    if last is None:
        query = text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)")
    else:
        query = text("UPDATE sqlite_sequence SET seq = :seq WHERE name = :name")
    first = (last or 0) + 1
    connection.execute(query, name | {"seq": first + count - 1})
    return list(range(first, first + count))


def upsert(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Begin an insert that may change the row that is there already."""
    is_postgres = connection.dialect.name == "postgresql"
    return postgresql.insert(table) if is_postgres else sqlite.insert(table)
