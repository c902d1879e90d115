"""Commands for platforms and their keys."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from clearinghouse.cli.shared import AsJson, Database, check_name, now, open_store, show
from clearinghouse.platforms import contributions, health, keys
from clearinghouse.platforms.keys import Scope
from clearinghouse.times import Hour, moment

platform = typer.Typer(no_args_is_help=True, help="Platforms and their keys.")


def _scopes(text: str) -> list[Scope]:
    try:
        return [Scope(word.strip()) for word in text.split(",")]
    except ValueError:
        names = ", ".join(Scope)
        raise typer.BadParameter(f"Use a comma-separated list of: {names}.") from None


MatchHour = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Hashes that each key of the platform may look up in an hour; 0 for the default, "
        "CLEARINGHOUSE_MATCH_HOUR.",
        show_default=False,
    ),
]
MatchDay = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Hashes that each key of the platform may look up in a day; 0 for the default, "
        "CLEARINGHOUSE_MATCH_DAY.",
        show_default=False,
    ),
]
Name = Annotated[str, typer.Argument(help="Name of the platform.")]


@platform.command("add")
def add_platform(
    name: Annotated[str, typer.Argument(help="Name of the platform; survivors see it.")],
    scope: Annotated[
        str,
        typer.Option(help=f"What its key may do, comma-separated: {', '.join(Scope)}."),
    ] = "match",
    match_hour: MatchHour = None,
    match_day: MatchDay = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Add a platform and print its key. It is shown only once.

    With the scope `feed` a platform receives every hash; with `match` alone it receives none. With
    `contribute` it adds hashes that no survivor submitted.
    """
    check_name(name)
    scopes = _scopes(scope)
    with open_store(database) as store:
        limits = {"match_hour": match_hour or None, "match_day": match_day or None}
        key = keys.add_platform(store, name, scopes, now(), **limits)
    _print_key(name, key, as_json)


@platform.command("limit")
def limit(
    name: Name,
    match_hour: MatchHour = None,
    match_day: MatchDay = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Set how many hashes each key of a platform may look up.

    The service applies it from the platform's next request on.
    """
    given = {"match_hour": match_hour, "match_day": match_day}
    limits = {option: count or None for option, count in given.items() if count is not None}
    if not limits:
        raise typer.BadParameter("Pass --match-hour, --match-day, or both.")
    with open_store(database) as store:
        keys.set_limits(store, name, now(), **limits)
    show(as_json, {"platform": name} | limits, lambda: f"Set the limits of {name}.")


@platform.command("rotate")
def rotate(
    name: Name,
    scope: Annotated[
        str | None,
        typer.Option(
            help="Scopes of the new key, comma-separated; those of the last key by default.",
            show_default=False,
        ),
    ] = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Create another key for a platform and print it. Old keys stay valid until you revoke them."""
    scopes = None if scope is None else _scopes(scope)
    with open_store(database) as store:
        key = keys.rotate_key(store, name, now(), scopes=scopes)
    _print_key(name, key, as_json)


def _print_key(name: str, key: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"platform": name, "key": key}))
    else:
        typer.echo(key)
        typer.echo(f"This is the key of {name}. Store it now: it cannot be shown again.", err=True)


@platform.command("list")
def list_platforms(
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """List platforms, with their keys and when each was last used."""
    with open_store(database) as store:
        listed = keys.list_keys(store, now())

    def table() -> Table:
        result = Table(
            *("Platform", "Key", "Scopes", "Added", "Expires", "Last used", "State"),
            *("Match/hour", "Match/day"),
        )
        for key in listed:
            days = (_day(at) for at in (key.added, key.expires, key.used))
            limits = ("default" if n is None else f"{n:,}" for n in (key.match_hour, key.match_day))
            scopes = ", ".join(key.scopes)
            result.add_row(key.platform, str(key.key), scopes, *days, key.state, *limits)
        return result

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
    """List platforms that stopped following the feed, or whose last key expires soon.

    That is: no request for a day, a change not acknowledged for two days, or a last key that
    expires within 30 days. The exit code is 1 if there are any.
    """
    with open_store(database) as store, store.read() as tx:
        alerts = health.alerts(tx, now=now())
    rows = [
        {"platform": a.platform, "concern": a.concern, "since": moment(a.since).isoformat()}
        for a in alerts
    ]
    show(as_json, rows, lambda: "\n".join(a.text for a in alerts) or "No alerts.")
    if alerts:
        raise typer.Exit(1)


@platform.command("revoke")
def revoke(
    name: Name,
    key: Annotated[
        int | None,
        typer.Option(help="Number of the key in `platform list`; all keys by default."),
    ] = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Revoke the keys of a platform at once."""
    with open_store(database) as store:
        revoked = keys.revoke_keys(store, name, key, now())
    show(as_json, {"platform": name, "revoked": revoked}, lambda: f"{revoked} key(s) revoked.")


@platform.command("withdraw")
def withdraw(
    name: Name,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Withdraw every hash that a platform contributed, or that was imported from it."""
    with open_store(database) as store:
        count = contributions.withdraw_all_contributions(store, keys.find(store, name), now=now())
    show(as_json, {"platform": name, "withdrawn": count}, lambda: f"{count} hash(es) withdrawn.")
