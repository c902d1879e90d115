"""Commands for the audit trail, the master key and backups."""

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from clearinghouse.cli.shared import AsJson, Database, counts, now, open_store, settings, show
from clearinghouse.database import audit
from clearinghouse.database.audit import Verification
from clearinghouse.sealing.master_key import has_old_key
from clearinghouse.times import moment

app = typer.Typer()
trail = typer.Typer(no_args_is_help=True, help="The audit trail of what operators did.")
app.add_typer(trail, name="audit")


@trail.command("verify")
def verify_audit(
    digest: Annotated[
        str | None, typer.Option(help="A digest printed earlier, which must be in the trail.")
    ] = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Verify that no entry of the audit trail was changed, deleted or inserted.

    Store the printed digest somewhere else. With it, a later check detects that the end of the
    trail was deleted. The exit code is 1 if anything is wrong.
    """
    with open_store(database) as store, store.read() as tx:
        result = audit.verify(tx.vault, tx, digest)
        old_key = has_old_key(settings(database), tx.vault)
    show(
        as_json, asdict(result) | {"old_key": old_key}, lambda: _verification_text(result, old_key)
    )
    if result.broken is not None or not result.found or old_key:
        raise typer.Exit(1)


def _verification_text(result: Verification, old_key: bool) -> str:
    if result.broken is not None:
        return (
            f"Entry {result.broken} was changed, inserted or deleted. The {result.entries} entries "
            "before it are intact."
        )
    parts = [f"{result.entries} entries are intact."]
    if not result.found:
        parts.append(
            "The given digest is not among them: it is mistyped, or the trail was truncated or "
            "rewritten since."
        )
    if old_key:
        parts.append(
            "The database is sealed under an old master key: it was restored from an older backup, "
            "or somebody who has that key forged this trail. Check `audit list`, then run "
            "`rotate-key`."
        )
    return " ".join([*parts, f"Digest: {result.digest}"])


@trail.command("list")
def list_audit(
    last: Annotated[int, typer.Option(min=1, help="How many of the newest entries.")] = 50,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """List what operators did, and in which hour; the newest entry is last."""
    with open_store(database) as store, store.read() as tx:
        rows = audit.entries(tx, last)

    def table() -> Table:
        result = Table("Entry", "Hour (UTC)", "Action", "Platform", "Count")
        for row in rows:
            at = f"{moment(row.hour):%Y-%m-%d %H:00}"
            result.add_row(str(row.number), at, row.act, row.subject, f"{row.amount:,}")
        return result

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
    """Change the master key while the service runs. If interrupted, run the command again.

    If the key is in a file, the command replaces it with a new key and keeps the old one next to
    it, since earlier backups need it. Copy the new file to other machines before their workers
    restart.

    If the key is in CLEARINGHOUSE_KEY, set CLEARINGHOUSE_NEXT_KEY to the new key first.
    """
    from clearinghouse.maintenance.key_rotation import rotate
    from clearinghouse.sealing.vault import parse_key

    next_key = os.environ.get("CLEARINGHOUSE_NEXT_KEY")
    is_terminal = sys.stderr.isatty()

    def progress(count: int) -> None:
        if is_terminal:
            typer.echo(f"\r{count:,} values resealed", err=True, nl=False)

    with open_store(database) as store:
        result = rotate(
            store,
            settings(database),
            now=now(),
            successor=parse_key(next_key) if next_key else None,
            progress=progress,
        )
    if is_terminal:
        typer.echo(err=True)
    show(as_json, asdict(result), lambda: counts(asdict(result)))


@app.command()
def backup(
    file: Annotated[
        Path, typer.Argument(help="The file to write; an existing backup is replaced.")
    ],
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Copy a SQLite database to one file, and check the copy. The service may run meanwhile.

    The hashes in the copy are encrypted, and it contains no key: back up the folder of the key
    separately.
    """
    from clearinghouse.maintenance.backup import back_up

    size = back_up(settings(database), file)
    result = {"file": str(file), "bytes": size}
    show(as_json, result, lambda: f"{file}: {size:,} bytes, checked.")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A file that `clearinghouse backup` wrote.")],
    database: Database = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check a backup, and replace the database with it. If anything fails, nothing is changed.

    Hashes withdrawn since the backup are withdrawn again, from the journal next to the key. Cases
    that expired since expire again only if they are due now: correct a wrong clock first. Cases
    opened since are lost. Platforms read the feed again from the beginning.
    """
    from clearinghouse.maintenance.backup import restore as restore_backup

    if not yes:
        typer.confirm("Replace the database with this backup?", abort=True)
    result = asdict(restore_backup(settings(database), file))
    show(as_json, result, lambda: counts(result))
