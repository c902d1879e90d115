"""The group of commands `gate`: run a gate, and decide about what it did."""

import typer

from nciihash.cli import gate_decisions

app = typer.Typer()
gate = typer.Typer(no_args_is_help=True, help="Check uploads next to a platform's upload path.")
app.add_typer(gate, name="gate", rich_help_panel="If you run a platform")
gate.add_typer(gate_decisions.app)
