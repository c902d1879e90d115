"""The clients that commands use, imported when they are first used."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

# They take a while to load, and most commands need none.
if TYPE_CHECKING:
    from nciihash.client.advocate import AdvocateClient
    from nciihash.client.survivor import Client


@contextmanager
def advocate_client(server: str) -> "Iterator[AdvocateClient]":
    """Return a client of an advocate, with the key from the environment.

    Raises:
        typer.BadParameter: there is none.
    """
    key = os.environ.get("NCIIHASH_ADVOCATE_KEY", "")
    if not key:
        raise typer.BadParameter("Put the helpline's key into NCIIHASH_ADVOCATE_KEY.")
    from nciihash.client.advocate import AdvocateClient

    with AdvocateClient(server, key) as client:
        yield client


def survivor_client(server: str) -> "Client":
    """Return a client for somebody's own case."""
    from nciihash.client.survivor import Client

    return Client(server)
