"""Commands for helplines and their keys."""

from typing import Annotated

import typer
from rich.table import Table

from clearinghouse.cases import advocates
from clearinghouse.cli.shared import AsJson, Database, check_name, now, open_store, show
from clearinghouse.database.schema import AnyRow
from clearinghouse.times import moment

advocate = typer.Typer(
    no_args_is_help=True, help="Helplines that open cases for people who ask them to."
)


Name = Annotated[str, typer.Argument(help="Name of the helpline, or of one advocate.")]


@advocate.command("add")
def add_advocate(name: Name, database: Database = None, as_json: AsJson = False) -> None:
    """Add a helpline that may open cases for others, and print its key. It is shown only once.

    Add only helplines that you know: with its key, a helpline opens cases without proof of work.
    """
    check_name(name)
    with open_store(database) as store:
        key = advocates.add(store, name, now())
    _print_key(name, key, as_json=as_json)


@advocate.command("rotate")
def rotate_advocate(name: Name, database: Database = None, as_json: AsJson = False) -> None:
    """Replace the key of a helpline and print the new one. The old one stops working at once.

    The helpline keeps its cases.
    """
    with open_store(database) as store:
        key = advocates.rotate(store, name, now())
    _print_key(name, key, as_json=as_json)


@advocate.command("revoke")
def revoke_advocate(name: Name, database: Database = None, as_json: AsJson = False) -> None:
    """Revoke the key of a helpline at once. Hashes of its cases are still matched."""
    with open_store(database) as store:
        advocates.revoke(store, name, now())
    show(as_json, {"advocate": name, "state": "revoked"}, lambda: "The key is revoked.")


@advocate.command("list")
def list_advocates(database: Database = None, as_json: AsJson = False) -> None:
    """List helplines, the states of their keys, and the numbers of their open cases."""
    with open_store(database) as store, store.read() as tx:
        rows = tx.advocates.all()
    at = now().timestamp()

    def state(row: AnyRow) -> str:
        return "revoked" if row.revoked else "valid" if row.expires > at else "old"

    def table() -> Table:
        result = Table("Helpline", "Key expires", "State", "Open cases")
        for row in rows:
            day = f"{moment(row.expires):%Y-%m-%d}"
            result.add_row(row.name, day, state(row), str(row.open_cases))
        return result

    listed = [
        {
            "advocate": row.name,
            "expires": moment(row.expires).isoformat(),
            "state": state(row),
            "cases": row.open_cases,
        }
        for row in rows
    ]
    show(as_json, listed, table)


def _print_key(name: str, key: str, *, as_json: bool) -> None:
    show(as_json, {"advocate": name, "key": key}, lambda: key)
    if not as_json:
        typer.echo(f"This is the key of {name}. Store it now: it cannot be shown again.", err=True)
