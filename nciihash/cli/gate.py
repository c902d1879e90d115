"""The group of commands `gate`: run a gate, and decide about what it did."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nciihash.cli import gate_decisions
from nciihash.cli.terminal import Terminal
from nciihash.errors import ExtraMissing

# The gate loads a web framework, which other commands do not need.
if TYPE_CHECKING:
    from nciihash.gate.config import GateConfig
    from nciihash.gate.listeners import Listener

app = typer.Typer()
gate = typer.Typer(help="Check uploads next to a platform's upload path.")
app.add_typer(gate, name="gate", rich_help_panel="If you run a platform")
gate.add_typer(gate_decisions.app)

_NEEDED: Final = ("httptools", "prometheus_client", "python_multipart", "starlette", "uvicorn")


@gate.callback(invoke_without_command=True)
def run_gate(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(help="The configuration file.", show_default=False)
    ] = None,
    print_config: Annotated[
        bool,
        typer.Option("--print-config", help="Print a configuration file with every key explained."),
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Check the configuration, say what it does, and exit."),
    ] = False,
    sandbox: Annotated[
        bool,
        typer.Option(
            "--sandbox",
            help="Try the gate without a clearinghouse: with a bank of the test pictures in "
            "docs/gate, and files in a temporary folder. Without --config it listens on this "
            "machine, for HTTP, clamd and ICAP.",
        ),
    ] = False,
) -> None:
    """Check uploads next to a platform's upload path, in the protocols that platforms speak.

    Runs until SIGTERM or Ctrl-C, which let requests in progress finish. SIGHUP reads the
    configuration again.

    Example: `nciihash gate --sandbox`, then
    `curl --data-binary @docs/gate/block.jpg http://127.0.0.1:8480/check`
    """
    if context.invoked_subcommand is not None:
        if config is not None or print_config or check or sandbox:
            raise typer.BadParameter(
                f"Write options after the command: nciihash gate {context.invoked_subcommand} ..."
            )
        return
    terminal = Terminal()
    with terminal.guard():
        _check_installed()
        from nciihash.gate.config.keys import render_default

        if print_config:
            terminal.raw(render_default())
        elif config is None and not sandbox:
            raise typer.BadParameter(
                "Name a configuration file with --config, or try the gate with --sandbox. "
                "`nciihash gate --print-config` prints a file to start from."
            )
        elif check:
            _check(terminal, config)
        else:
            _serve(terminal, config, sandbox=sandbox)


def _check(terminal: Terminal, path: Path | None) -> None:
    from nciihash.gate.config import load
    from nciihash.gate.config.description import describe

    if path is None:
        raise typer.BadParameter("--check needs --config.")
    for line in describe(load(path, os.environ)):
        terminal.show(line)


def _serve(terminal: Terminal, path: Path | None, *, sandbox: bool) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        NciihashError: the configuration, a file or an address cannot be used.
        OSError: a file of the gate cannot be opened.
    """
    from nciihash.gate.bank import StaticBank
    from nciihash.gate.config import load
    from nciihash.gate.config.description import describe
    from nciihash.gate.rehearsal import PICTURES, TRIAL, picture_items, rehearsal_config
    from nciihash.gate.serve import serve

    def ready(config: "GateConfig", listeners: Sequence["Listener"]) -> None:
        for line in describe(config):
            terminal.say(line)
        for listener in listeners:
            names = ", ".join(listener.dialects)
            terminal.show(f"gate: listening for {names} on {listener.url}")
        if sandbox:
            terminal.say(f"This is a trial with test pictures: {PICTURES}")
        if sandbox and path is None:
            terminal.say(
                "Its configuration, for decide, except, exceptions and report, is "
                f"{config.data.parent / TRIAL}, and is deleted at the end."
            )

    if not sandbox:
        assert path is not None  # noqa: S101 - checked by the caller
        serve(lambda: load(path, os.environ), ready=ready)
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="nciihash-gate-")))

        def loaded() -> "GateConfig":
            return replace(rehearsal_config(path, folder), data=folder / "data")

        serve(loaded, ready=ready, bank=StaticBank(picture_items()))


def _check_installed() -> None:
    """Check that the packages of the gate are installed.

    Raises:
        ExtraMissing: one is not.
    """
    if any(find_spec(name) is None for name in _NEEDED):
        raise ExtraMissing(
            'The gate needs packages that are not installed: pip install "nciihash[gate]"'
        )
