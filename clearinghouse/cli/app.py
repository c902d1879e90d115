"""The command line for the operator of a clearinghouse."""

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
    open_store,
    settings,
    show,
)
from clearinghouse.database.store import Store
from clearinghouse.errors import ClearinghouseError, SettingInvalid
from clearinghouse.maintenance import clock, transparency
from clearinghouse.maintenance.purge import purge as purge_database
from clearinghouse.platforms import keys
from clearinghouse.platforms.keys import Scope
from clearinghouse.settings import Settings
from nciihash import __version__, core_dumps
from nciihash.errors import describe_os_error

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # joins the lines of a paragraph
    help="Run a clearinghouse: it collects hashes of intimate pictures from the people in them and "
    "passes the hashes on to platforms. It never receives a picture.",
)
app.add_typer(platform, name="platform")
app.add_typer(maintenance.app)
app.add_typer(review, name="review")
app.add_typer(advocate, name="advocate")


def main() -> None:
    """Run the command line; print an error as one line, and exit with code 2 or 3."""
    core_dumps.forbid()
    try:
        app()
    except ClearinghouseError as error:
        print(f"clearinghouse: {error}", file=sys.stderr)  # noqa: T201 - a command line prints
        sys.exit(2)
    except SQLAlchemyError as error:
        # the driver's message alone: it has neither the statement nor its values
        cause = getattr(error, "orig", None) or type(error).__name__
        print(f"clearinghouse: The database failed: {cause}.", file=sys.stderr)  # noqa: T201
        sys.exit(3)
    except OSError as error:
        print(f"clearinghouse: {describe_os_error(error)}", file=sys.stderr)  # noqa: T201
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
    """Define the options of the program itself."""


@app.command()
def serve(
    database: Database = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")
    ] = 8000,
    sandbox: Annotated[
        bool,
        typer.Option(
            "--sandbox",
            help="Serve made-up cases from a temporary database, and errors on request, so that a "
            "platform can test its client.",
        ),
    ] = False,
) -> None:
    """Run the service until SIGTERM or Ctrl-C.

    Run it behind a reverse proxy that terminates HTTPS, and turn off the proxy's access log.
    """
    from clearinghouse.serve import serve as run  # loads the web framework

    def ready(address: str) -> None:
        typer.echo(f"clearinghouse: listening on {address}")
        sys.stdout.flush()

    if not sandbox:
        if not run(settings(database), host=host, port=port, ready=ready):
            raise typer.Exit(3)
        return
    # never the configured database: made-up cases must not be added to a real one
    with TemporaryDirectory(prefix="clearinghouse-") as folder:
        temporary = Settings(database=f"sqlite:///{folder}/sandbox.sqlite3")
        store = Store.open(temporary)
        key = keys.add_platform(store, "Sandbox", list(Scope), now())
        store.close()
        typer.echo(f"clearinghouse: the sandbox's key is {key}")
        if not run(temporary, host=host, port=port, ready=ready, sandbox=True):
            raise typer.Exit(3)


@app.command("app")
def serve_page(
    server: Annotated[
        str | None,
        typer.Option(
            help="The clearinghouse that the page sends fingerprints to, https://HOST. Without "
            "one, the page saves them to a file.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")
    ] = True,
) -> None:
    """Serve the survivor's page to this computer only, until Ctrl-C.

    For people without internet, and for helplines with many files. It needs no database. `nciihash
    app` does the same.
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
    """Migrate the database to this version, or create it."""
    with open_store(database):
        typer.echo("The database is up to date.", err=True)


@app.command("follow-stopncii")
def follow_stopncii(
    url: Annotated[
        str,
        typer.Option(help="Base URL of its StopNCII API, without /FetchHashes: https://HOST/…/v1."),
    ],
    name: Annotated[
        str, typer.Option(help="Name of the other clearinghouse in this one, like a platform's.")
    ],
    every: Annotated[
        float | None,
        typer.Option(min=1, help="Repeat, this many seconds after each round."),
    ] = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Import the hashes of another clearinghouse, and remove those that it no longer has.

    Set CLEARINGHOUSE_FOLLOW_KEY to the key that the other clearinghouse issued: one key, or two for
    its two headers as FUNCTION,SUBSCRIPTION. Each round fetches all hashes. With --every, a round
    that fails is reported on standard error, and the next round tries again.
    """
    from clearinghouse.platforms.federation import (  # loads a network client
        FollowFailed,
        Source,
        follow,
    )

    check_name(name)
    key = os.environ.get("CLEARINGHOUSE_FOLLOW_KEY", "")
    if not key:
        raise SettingInvalid(
            "Set CLEARINGHOUSE_FOLLOW_KEY to the key that the other clearinghouse issued."
        )
    source = Source.of(url, key)
    with open_store(database) as store:
        while True:
            try:
                done = follow(store, settings(database), name, source, clock=now)
            except FollowFailed as error:
                if every is None:
                    raise
                typer.echo(f"clearinghouse: {error}", err=True)
            else:
                show(as_json, asdict(done), partial(counts, asdict(done)))
                sys.stdout.flush()
            if every is None:
                return
            time.sleep(every)


def _months(months: dict[str, dict[str, int | None]]) -> Table:
    names = list(next(iter(months.values()), {}))
    table = Table("Month", *(name.replace("_", " ") for name in names))
    for month, figures in months.items():
        cells = (
            f"under {transparency.SMALLEST}" if n is None else f"{n:,}" for n in figures.values()
        )
        table.add_row(month, *cells)
    return table


@app.command()
def stats(
    by_month: Annotated[
        bool,
        typer.Option(
            "--transparency",
            help="Count by month, for publication: rounded, with small counts suppressed.",
        ),
    ] = False,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Count cases, files, hashes, matches and verdicts. Nothing printed concerns a person."""
    if by_month:
        with open_store(database) as store:
            months = transparency.by_month(store)
        show(as_json, months, lambda: _months(months))
        return
    with open_store(database) as store, store.read() as tx:
        figures = tx.figures.totals()
    show(as_json, figures, lambda: counts(figures))


@app.command()
def purge(
    clock_is_right: Annotated[
        bool,
        typer.Option(
            "--clock-is-right",
            help="Say that you have checked the clock of this machine, after a refusal.",
        ),
    ] = False,
    may_expire: Annotated[
        int,
        typer.Option(
            "--expire",
            min=0,
            metavar="NUMBER",
            help="Let this many cases expire at once, after a refusal that named the number.",
            show_default=False,
        ),
    ] = 0,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Expire cases, and delete data past its retention period, as the service does every hour.

    Refused if the clock may be wrong. If many cases have expired at once, none is removed, and the
    exit code is 1.
    """
    days = settings(database).retention_days
    with open_store(database) as store:
        at = now()
        clock.check(store, at, confirmed=clock_is_right)
        done = purge_database(store, retention_days=days, now=at, may_expire=may_expire)
    show(as_json, asdict(done), lambda: counts(asdict(done)))
    if done.refusal:
        typer.echo(f"clearinghouse: {done.refusal}", err=True)
        raise typer.Exit(1)
