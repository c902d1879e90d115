"""The commands for platforms and their keys."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from clearinghouse.cli.shared import AsJson, Database, check_name, now, opened, show
from clearinghouse.platforms import contributions, health, keys
from clearinghouse.platforms.keys import Scope
from clearinghouse.times import Hour, moment

platform = typer.Typer(no_args_is_help=True, help="Platforms and their keys.")


def _scopes(text: str) -> list[Scope]:
    try:
        return [Scope(word.strip()) for word in text.split(",")]
    except ValueError:
        names = ", ".join(Scope)
        raise typer.BadParameter(f"Scopes are a comma-separated list of {names}.") from None


@platform.command("add")
def add_platform(
    name: Annotated[str, typer.Argument(help="As survivors will read it.")],
    scope: Annotated[
        str, typer.Option(help="Comma-separated: feed, match, feedback, contribute.")
    ] = "match",
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Add a platform and print its key, this once.

    A key with `feed` gets every hash; `match` alone discloses none. One with `contribute` adds
    hashes that no survivor submitted.
    """
    check_name(name)
    scopes = _scopes(scope)
    with opened(database) as store:
        key = keys.add_platform(store, name, scopes, now())
    _print_key(name, key, as_json)


@platform.command("rotate")
def rotate(
    name: str,
    scope: Annotated[
        str | None,
        typer.Option(help="Other scopes than the old key's, comma-separated.", show_default=False),
    ] = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Print a further key for a platform; the old one stays valid until it is revoked."""
    scopes = None if scope is None else _scopes(scope)
    with opened(database) as store:
        key = keys.rotate_key(store, name, now(), scopes=scopes)
    _print_key(name, key, as_json)


def _print_key(name: str, key: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"platform": name, "key": key}))
    else:
        typer.echo(key)
        typer.echo(f"This is the key of {name}. It cannot be shown again.", err=True)


@platform.command("list")
def list_platforms(
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """List platforms and the states of their keys."""
    with opened(database) as store:
        listed = keys.list_keys(store, now())

    def table() -> Table:
        shown = Table("Platform", "Key", "Scopes", "Added", "Expires", "Last used", "State")
        for key in listed:
            days = (_day(at) for at in (key.added, key.expires, key.used))
            shown.add_row(key.platform, str(key.key), ", ".join(key.scopes), *days, key.state)
        return shown

    rows = [
        asdict(key)
        | {"added": moment(key.added).isoformat(), "expires": moment(key.expires).isoformat()}
        | {"used": None if key.used is None else moment(key.used).isoformat()}
        for key in listed
    ]
    show(as_json, rows, table)


def _day(at: Hour | None) -> str:
    return "never" if at is None else f"{moment(at):%Y-%m-%d}"


@platform.command("check")
def check(database: Database = None, as_json: AsJson = False) -> None:
    """Tell which platforms no longer come or confirm, and whose keys end; exit code 1 if any."""
    with opened(database) as store, store.read() as tx:
        found = health.alerts(tx, now=now())
    rows = [
        {"platform": a.platform, "concern": a.concern, "since": moment(a.since).isoformat()}
        for a in found
    ]
    show(as_json, rows, lambda: "\n".join(a.words for a in found) or "All is well.")
    if found:
        raise typer.Exit(1)


@platform.command("revoke")
def revoke(
    name: str,
    key: Annotated[int | None, typer.Option(help="One key, by its number in the list.")] = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a platform's keys, from this moment."""
    with opened(database) as store:
        revoked = keys.revoke_keys(store, name, key, now())
    show(as_json, {"platform": name, "revoked": revoked}, lambda: f"{revoked} key(s) revoked.")


@platform.command("withdraw")
def withdraw(
    name: str,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Withdraw every hash that a platform contributed, or that was imported from it."""
    with opened(database) as store:
        gone = contributions.take_back_all(store, keys.find(store, name), now=now())
    show(as_json, {"platform": name, "withdrawn": gone}, lambda: f"{gone} hash(es) withdrawn.")
