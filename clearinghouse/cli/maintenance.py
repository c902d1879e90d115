"""The commands that keep a database in order: its key, its backups, its trail."""

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from clearinghouse.cli.shared import AsJson, Database, counts, now, opened, settings, show
from clearinghouse.database import audit
from clearinghouse.sealing.master_key import is_old
from clearinghouse.times import moment

app = typer.Typer()
trail = typer.Typer(no_args_is_help=True, help="The trail of what operators did.")
app.add_typer(trail, name="audit")


@trail.command("verify")
def verify_audit(
    digest: Annotated[
        str | None, typer.Option(help="One that was told earlier, and must be there.")
    ] = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Check the trail from its beginning: that nothing was changed, taken out or put in.

    Write the digest down elsewhere: with it a later check sees that the end was not cut off. Exit
    code 1 when something is wrong.
    """
    with opened(database) as store, store.read() as tx:
        found = audit.verify(tx.vault, tx, digest)
        old = is_old(settings(database), tx.vault)

    def told() -> str:
        if found.broken is not None:
            return f"Entry {found.broken} is not what was written. The {found.entries} before are."
        missing = "" if found.found else " The digest that was looked for is not among them."
        aged = (
            " The database is sealed with an old key: it was put back from an older backup, or "
            "somebody who had that key wrote this trail. See `audit list`, then `rotate-key`."
            if old
            else ""
        )
        return f"{found.entries} entries are whole.{missing}{aged} Digest: {found.digest}"

    show(as_json, asdict(found) | {"old_key": old}, told)
    if found.broken is not None or not found.found or old:
        raise typer.Exit(1)


@trail.command("list")
def list_audit(
    last: Annotated[int, typer.Option(min=1, help="How many of the newest.")] = 50,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """List what operators did, by the hour."""
    with opened(database) as store, store.read() as tx:
        rows = audit.entries(tx, last)

    def table() -> Table:
        shown = Table("Entry", "Hour (UTC)", "What", "Platform", "How many")
        for row in rows:
            at = f"{moment(row.hour):%Y-%m-%d %H:00}"
            shown.add_row(str(row.number), at, row.act, row.subject, f"{row.amount:,}")
        return shown

    listed = [
        {"entry": row.number, "hour": moment(row.hour).isoformat(), "act": row.act}
        | {"platform": row.subject or None, "count": row.amount}
        for row in rows
    ]
    show(as_json, listed, table)


@app.command("rotate-key")
def rotate_master_key(
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Change the master key while the service runs; broken off, the same command goes on.

    A key in a file is made, and put in its place; the old one is kept beside it, since older
    backups open with it alone. Give the new file to other machines before their workers start
    again. In the place of a key in CLEARINGHOUSE_KEY, put the new one into CLEARINGHOUSE_NEXT_KEY.
    """
    from clearinghouse.maintenance.key_rotation import rotate
    from clearinghouse.sealing.vault import parse_key

    found = settings(database)
    given = os.environ.get("CLEARINGHOUSE_NEXT_KEY")
    shown = sys.stderr.isatty()

    def told(count: int) -> None:
        if shown:
            typer.echo(f"\r{count:,} values sealed anew", err=True, nl=False)

    with opened(database) as store:
        done = rotate(
            store,
            found,
            now=now(),
            successor=parse_key(given) if given else None,
            told=told,
        )
    if shown:
        typer.echo(err=True)
    show(as_json, asdict(done), lambda: counts(asdict(done)))


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="Where to; an older one there is replaced.")],
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Copy a database in SQLite into one file, whole and checked, while it is served.

    The copy is sealed and holds no key: keep the key's folder elsewhere.
    """
    from clearinghouse.maintenance.backup import back_up

    size = back_up(settings(database), file)
    shown = {"file": str(file), "bytes": size}
    show(as_json, shown, lambda: f"{file}: {size:,} bytes, checked.")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="What `backup` made.")],
    database: Database = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check a backup and put it in the place of the database, all of it or nothing.

    What was withdrawn since is withdrawn again, as the journal beside the key says. Cases that were
    opened since are gone. Platforms begin the feed anew.
    """
    from clearinghouse.maintenance.backup import restore as put_back

    if not yes:
        typer.confirm("Replace all that the database holds by this backup?", abort=True)
    done = asdict(put_back(settings(database), file))
    show(as_json, done, lambda: counts(done))
