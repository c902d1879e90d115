"""The command line of the charity that runs the service."""

import os
import sys
import time
import webbrowser
from dataclasses import asdict
from functools import partial
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from clearinghouse.cli import maintenance
from clearinghouse.cli.advocates import advocate
from clearinghouse.cli.platforms import platform
from clearinghouse.cli.review import review
from clearinghouse.cli.shared import (
    AsJson,
    Database,
    check_name,
    counts,
    now,
    opened,
    settings,
    show,
)
from clearinghouse.database.store import Store
from clearinghouse.errors import ClearinghouseError, SettingInvalid
from clearinghouse.maintenance import transparency
from clearinghouse.maintenance.purge import purge as purge_database
from clearinghouse.platforms import keys
from clearinghouse.platforms.keys import Scope
from clearinghouse.settings import Settings
from nciihash import __version__, core_dumps
from nciihash.errors import explained

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Run a clearinghouse: it takes hashes of intimate pictures from the people in them and "
    "hands them to platforms. It never sees a picture.",
)
app.add_typer(platform, name="platform")
app.add_typer(maintenance.app)
app.add_typer(review, name="review")
app.add_typer(advocate, name="advocate")


def main() -> None:
    """Run the command line; a trouble becomes one line on standard error and exit code 2 or 3."""
    core_dumps.forbid()
    try:
        app()
    except ClearinghouseError as trouble:
        print(f"clearinghouse: {trouble}", file=sys.stderr)  # noqa: T201 - a command line prints
        sys.exit(2)
    except SQLAlchemyError as error:
        # the driver's word without the statement; no value is in it
        cause = getattr(error, "orig", None) or type(error).__name__
        print(f"clearinghouse: The database failed: {cause}.", file=sys.stderr)  # noqa: T201
        sys.exit(3)
    except OSError as error:
        print(f"clearinghouse: {explained(error)}", file=sys.stderr)  # noqa: T201
        sys.exit(3)


def _version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold the options that every command shares."""


@app.command()
def serve(
    database: Database = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any free port.")] = 8000,
    sandbox: Annotated[
        bool,
        typer.Option(
            "--sandbox",
            help="Serve made-up cases out of a temporary folder, with trouble on request, so that "
            "a platform can try out its client.",
        ),
    ] = False,
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Put a reverse proxy with HTTPS before it, whose access log is off as well.
    """
    from clearinghouse.serve import serve as run  # loads the web framework

    def ready(address: str) -> None:
        typer.echo(f"clearinghouse: listening on {address}")
        sys.stdout.flush()

    if not sandbox:
        if not run(settings(database), host=host, port=port, ready=ready):
            raise typer.Exit(3)
        return
    # whatever database is set elsewhere must never be mixed with what is made up
    with TemporaryDirectory(prefix="clearinghouse-") as folder:
        made_up = Settings(database=f"sqlite:///{folder}/sandbox.sqlite3")
        store = Store.open(made_up)
        key = keys.add_platform(store, "Sandbox", list(Scope), now())
        store.close()
        typer.echo(f"clearinghouse: the sandbox's key is {key}")
        if not run(made_up, host=host, port=port, ready=ready, sandbox=True):
            raise typer.Exit(3)


@app.command("app")
def serve_page(
    server: Annotated[
        str | None,
        typer.Option(
            help="The clearinghouse to which the page sends, https://HOST; without one it saves "
            "the fingerprints as a file.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any free port.")] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")
    ] = True,
) -> None:
    """Show the survivor's page from this machine alone, until Ctrl-C. `nciihash app` is the same.

    For people without internet, and for helplines with many files. It needs no database.
    """
    from clearinghouse.serve_page import serve as run  # loads the web framework

    def ready(address: str) -> None:
        typer.echo(f"clearinghouse: the page is at {address}")
        sys.stdout.flush()
        if browser:
            webbrowser.open(address)

    run(server, port=port, ready=ready)


@app.command()
def migrate(database: Database = None) -> None:
    """Bring the database to this version's tables, or make it."""
    with opened(database):
        typer.echo("The database is up to date.", err=True)


@app.command("follow-stopncii")
def follow_stopncii(
    url: Annotated[str, typer.Option(help="What /FetchHashes is added to: https://HOST/…/v1.")],
    name: Annotated[str, typer.Option(help="The other clearinghouse, as platforms are named.")],
    every: Annotated[
        float | None, typer.Option(min=1, help="Go on, with so many seconds between rounds.")
    ] = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Import the hashes of another clearinghouse, and end those that it no longer holds.

    The key that it gave us is read from CLEARINGHOUSE_FOLLOW_KEY: one key, or two for its two
    headers as FUNCTION,SUBSCRIPTION. Each round fetches everything. With --every a round that fails
    is told on standard error, and the next one tries again.
    """
    from clearinghouse.platforms.federation import (  # loads a network client
        FollowFailed,
        Source,
        follow,
    )

    check_name(name)
    key = os.environ.get("CLEARINGHOUSE_FOLLOW_KEY", "")
    if not key:
        raise SettingInvalid("Put the other clearinghouse's key into CLEARINGHOUSE_FOLLOW_KEY.")
    source = Source.of(url, key)
    with opened(database) as store:
        while True:
            try:
                done = follow(store, settings(database), name, source, clock=now)
            except FollowFailed as trouble:
                if every is None:
                    raise
                typer.echo(f"clearinghouse: {trouble}", err=True)
            else:
                show(as_json, asdict(done), partial(counts, asdict(done)))
                sys.stdout.flush()
            if every is None:
                return
            time.sleep(every)


def _months(months: dict[str, dict[str, int | None]]) -> Table:
    names = list(next(iter(months.values()), {}))
    table = Table("Month", *(name.replace("_", " ") for name in names))
    for month, found in months.items():
        shown = (
            f"under {transparency.SMALLEST}" if n is None else f"{n:,}" for n in found.values()
        )
        table.add_row(month, *shown)
    return table


@app.command()
def stats(
    by_month: Annotated[
        bool,
        typer.Option(
            "--transparency", help="Counts by month to publish: rounded, small ones hidden."
        ),
    ] = False,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Count cases, files, signals and what platforms said. Nothing about anybody."""
    if by_month:
        with opened(database) as store:
            months = transparency.by_month(store)
        show(as_json, months, lambda: _months(months))
        return
    with opened(database) as store, store.read() as tx:
        figures = tx.figures.totals()
    show(as_json, figures, lambda: counts(figures))


@app.command()
def purge(
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Withdraw what has expired and forget what is past its time. `serve` does it by the hour."""
    days = settings(database).retention_days
    with opened(database) as store:
        done = purge_database(store, retention_days=days, now=now())
    show(as_json, done, lambda: counts(done))
