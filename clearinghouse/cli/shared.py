"""What the operator's commands share: options, the store, and output as a table or JSON."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from clearinghouse.database.store import Store, check_not_lost
from clearinghouse.settings import Settings

Database = Annotated[
    str | None,
    typer.Option(
        help="The database: sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME. It is created "
        "or migrated if needed.",
        envvar="CLEARINGHOUSE_DATABASE",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def settings(database: str | None) -> Settings:
    """Read the settings from the environment; `database` overrides CLEARINGHOUSE_DATABASE."""
    read = Settings.from_environment(os.environ)
    return read if database is None else replace(read, database=database)


@contextmanager
def open_store(database: str | None) -> Iterator[Store]:
    """Open the database, and close it at the end."""
    read = settings(database)
    check_not_lost(read)
    store = Store.open(read)
    try:
        yield store
    finally:
        store.close()


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def check_name(name: str) -> None:
    """Check that a name can be displayed.

    Raises:
        BadParameter: it is empty, longer than 64 characters, or not printable.
    """
    if not 0 < len(name) <= 64 or not name.isprintable():
        raise typer.BadParameter("A name has 1 to 64 printable characters.")


def show(as_json: bool, value: Any, table: Callable[[], Table | str]) -> None:  # noqa: ANN401 - any JSON value
    """Print a value as JSON, or the text or table of it."""
    if as_json:
        typer.echo(json.dumps(value))
    else:
        Console().print(table())


def counts(figures: dict[str, int]) -> Table:
    """Return a table of figures by name."""
    table = Table("Figure", "Count")
    for name, count in figures.items():
        table.add_row(name.replace("_", " "), f"{count:,}")
    return table
