"""The commands that let helplines in."""

from typing import Annotated

import typer
from rich.table import Table

from clearinghouse.cases import advocates
from clearinghouse.cli.shared import AsJson, Database, check_name, now, opened, show
from clearinghouse.database.schema import AnyRow
from clearinghouse.times import moment

advocate = typer.Typer(
    no_args_is_help=True, help="Helplines that open cases for people who asked them to."
)


Name = Annotated[str, typer.Argument(help="Of the helpline, or of one advocate.")]


@advocate.command("add")
def add_advocate(name: Name, database: Database = None, as_json: AsJson = False) -> None:
    """Let a helpline open cases for others, and print its key, this once.

    For a helpline that you know: its key opens cases without proof of work.
    """
    check_name(name)
    with opened(database) as store:
        key = advocates.add(store, name, now())
    _print_key(name, key, as_json=as_json)


@advocate.command("rotate")
def rotate_advocate(name: Name, database: Database = None, as_json: AsJson = False) -> None:
    """Print a new key for a helpline. The old one ends now, and its cases stay."""
    with opened(database) as store:
        key = advocates.rotate(store, name, now())
    _print_key(name, key, as_json=as_json)


@advocate.command("revoke")
def revoke_advocate(name: Name, database: Database = None, as_json: AsJson = False) -> None:
    """End a helpline's key, from this moment. Its cases go on being matched."""
    with opened(database) as store:
        advocates.revoke(store, name, now())
    show(as_json, {"advocate": name, "state": "revoked"}, lambda: "The key is revoked.")


@advocate.command("list")
def list_advocates(database: Database = None, as_json: AsJson = False) -> None:
    """List helplines, the states of their keys, and how many open cases are in their hands."""
    with opened(database) as store, store.read() as tx:
        rows = tx.advocates.all()
    at = now().timestamp()

    def state(row: AnyRow) -> str:
        return "revoked" if row.revoked else "valid" if row.expires > at else "old"

    def table() -> Table:
        shown = Table("Helpline", "Key expires", "State", "Open cases")
        for row in rows:
            day = f"{moment(row.expires):%Y-%m-%d}"
            shown.add_row(row.name, day, state(row), str(row.held))
        return shown

    found = [
        {
            "advocate": row.name,
            "expires": moment(row.expires).isoformat(),
            "state": state(row),
            "cases": row.held,
        }
        for row in rows
    ]
    show(as_json, found, table)


def _print_key(name: str, key: str, *, as_json: bool) -> None:
    show(as_json, {"advocate": name, "key": key}, lambda: key)
    if not as_json:
        typer.echo(f"This is the key of {name}. It cannot be shown again.", err=True)
