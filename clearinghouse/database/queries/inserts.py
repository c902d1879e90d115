"""Inserts of one row or many, updates of many rows, and upserts.

Statements for many rows go to the driver directly: with SQLAlchemy's parameter handling they would
hold the writer lock several times as long.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Table, insert, text
from sqlalchemy.dialects import postgresql, sqlite


def insert_row(connection: Connection, table: Table, **values: Any) -> int:  # noqa: ANN401 - columns
    """Insert a row and return its row number."""
    inserted = connection.execute(insert(table).values(**values)).inserted_primary_key
    assert inserted is not None  # noqa: S101 - an insert of one row always has a key
    number: int = inserted[0]
    return number


def insert_returning_ids(
    connection: Connection, table: Table, rows: Sequence[dict[str, Any]]
) -> list[int]:
    """Insert rows with the same columns, and return their row numbers in the same order."""
    if not rows:
        return []
    ids = reserve_ids(connection, table, len(rows))
    insert_rows(connection, table, [row | {"id": id} for id, row in zip(ids, rows, strict=True)])
    return ids


def insert_rows(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows with the same columns."""
    if rows:
        columns = list(rows[0])
        values = ", ".join([_placeholder(connection)] * len(columns))
        statement = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({values})"  # noqa: S608
        connection.exec_driver_sql(statement, [tuple(row[c] for c in columns) for row in rows])


def update_rows(
    connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Update columns of many rows; each tuple has the new values, then the row number."""
    if rows:
        placeholder = _placeholder(connection)
        values = ", ".join(f"{column} = {placeholder}" for column in columns)
        statement = f"UPDATE {table.name} SET {values} WHERE id = {placeholder}"  # noqa: S608
        connection.exec_driver_sql(statement, list(rows))


def _placeholder(connection: Connection) -> str:
    return "%s" if connection.dialect.name == "postgresql" else "?"


def reserve_ids(connection: Connection, table: Table, count: int) -> list[int]:
    """Allocate row numbers of this table, and return them in ascending order."""
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
    """Return an insert statement with `on_conflict_do_update` and `on_conflict_do_nothing`."""
    is_postgres = connection.dialect.name == "postgresql"
    return postgresql.insert(table) if is_postgres else sqlite.insert(table)
