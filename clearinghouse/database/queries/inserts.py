"""Inserts of one row or of many, and inserts that may change the row that is there already.

What is done for each of many rows goes to the driver as it is: SQLAlchemy's own handling of their
parameters would keep other writers waiting several times as long.
"""

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
    """Insert rows, all with the same columns, and return their numbers, in their order."""
    if not rows:
        return []
    numbers = reserve(connection, table, len(rows))
    write_rows(connection, table, [row | {"id": n} for n, row in zip(numbers, rows, strict=True)])
    return numbers


def write_rows(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows, all with the same columns."""
    if rows:
        columns = list(rows[0])
        marks = ", ".join([_mark(connection)] * len(columns))
        statement = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608
        connection.exec_driver_sql(statement, [tuple(row[c] for c in columns) for row in rows])


def update_rows(
    connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Set columns of rows; each tuple has their values, and the row's number at its end."""
    if rows:
        mark = _mark(connection)
        values = ", ".join(f"{column} = {mark}" for column in columns)
        statement = f"UPDATE {table.name} SET {values} WHERE id = {mark}"  # noqa: S608
        connection.exec_driver_sql(statement, list(rows))


def _mark(connection: Connection) -> str:
    return "%s" if connection.dialect.name == "postgresql" else "?"


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
