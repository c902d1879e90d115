"""The clients that commands use, and a progress bar for their proof of work.

Each client is imported when it is first needed.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import typer

from nciihash.cli.terminal import ExitCode, Terminal

# They take a while to load, and most commands need none.
if TYPE_CHECKING:
    from nciihash.client.advocate import AdvocateClient
    from nciihash.client.platform import PlatformClient
    from nciihash.client.survivor import Client


@contextmanager
def advocate_client(server: str) -> "Iterator[AdvocateClient]":
    """Open a client for an advocate, with the key from the environment.

    Raises:
        typer.BadParameter: the environment has no key.
    """
    key = os.environ.get("NCIIHASH_ADVOCATE_KEY", "")
    if not key:
        raise typer.BadParameter("Put the helpline's key into NCIIHASH_ADVOCATE_KEY.")
    from nciihash.client.advocate import AdvocateClient

    with AdvocateClient(server, key) as client:
        yield client


def survivor_client(server: str) -> "Client":
    """Return a client for a person's own case."""
    from nciihash.client.survivor import Client

    return Client(server)


def platform_client(terminal: Terminal, server: str) -> "PlatformClient":
    """Return a client for a platform, with the key from the environment.

    The key is not an option: arguments are visible in `ps` and in the shell's history.

    Raises:
        typer.Exit: the environment has no key.
    """
    key = os.environ.get("NCIIHASH_KEY")
    if not key:
        terminal.fail(
            "key_missing",
            "Put the platform's key into NCIIHASH_KEY. The operator of the clearinghouse issues "
            "it.",
        )
        raise typer.Exit(ExitCode.USAGE)
    from nciihash.client.platform import PlatformClient

    return PlatformClient(server, key)


@contextmanager
def computing(terminal: Terminal) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar while puzzles are being solved, if the service asks for any.

    Yields:
        A function that takes the number of puzzles solved so far, starting at 0, and their total.
    """
    with ExitStack() as bar:
        advances: list[Callable[[int], None]] = []

        def on_work(done: int, puzzles: int) -> None:
            if done:
                advances[-1](1)
                if done == puzzles:
                    bar.close()
                return
            bar.close()  # of the previous attempt
            terminal.say("Many people are using the service, so this takes a little longer.")
            advances.append(bar.enter_context(terminal.progress("Working", puzzles)))

        yield on_work
