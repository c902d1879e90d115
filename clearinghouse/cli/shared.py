"""What the commands of the operator share: the database they work on, and how they answer."""

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

from clearinghouse.database.store import Store
from clearinghouse.settings import Settings

Database = Annotated[
    str | None,
    typer.Option(
        help="sqlite:///FILE; made and migrated when needed.",
        envvar="CLEARINGHOUSE_DATABASE",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def settings(database: str | None) -> Settings:
    """Read the settings; the option goes before the variable."""
    found = Settings.from_environment(os.environ)
    return found if database is None else replace(found, database=database)


@contextmanager
def opened(database: str | None) -> Iterator[Store]:
    """Open the database, and close it afterwards."""
    store = Store.open(settings(database))
    try:
        yield store
    finally:
        store.close()


def now() -> datetime:
    """Give the time."""
    return datetime.now(UTC)


def check_name(name: str) -> None:
    """Refuse a name that cannot be shown.

    Raises:
        BadParameter: it is empty, too long or holds control characters.
    """
    if not 0 < len(name) <= 64 or not name.isprintable():
        raise typer.BadParameter("A name has 1 to 64 printable characters.")


def show(as_json: bool, value: Any, table: Callable[[], Table | str]) -> None:  # noqa: ANN401 - any JSON value
    """Print a value for machines, or a table of it for people."""
    if as_json:
        typer.echo(json.dumps(value))
    else:
        Console().print(table())


def counts(figures: dict[str, int]) -> Table:
    """Show figures by their names."""
    table = Table("What", "How many")
    for name, count in figures.items():
        table.add_row(name.replace("_", " "), f"{count:,}")
    return table
