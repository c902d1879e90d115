"""The settings of the gate that the pages of `examples/gate` show."""

import re
import subprocess
import sys

import pytest
import typer
import yaml

from clearinghouse.cli import app as service_commands
from nciihash.cli import app as commands
from nciihash.gate.config import load
from nciihash.gate.outcome import Dialect
from support.paths import ROOT

FOLDER = ROOT / "examples" / "gate"
INDEX = FOLDER / "README.md"
PAGES = sorted(set(FOLDER.glob("*.md")) - {INDEX})
TOP = 'server = "https://clearinghouse.example"\ndata = "data"\n'
BLOCK = re.compile(r"```toml\n(.*?)```", re.DOTALL)


def settings(page):
    """Return the blocks of TOML that are of the gate: they have tables of its dialects."""
    blocks = BLOCK.findall(page.read_text())
    tables = "|".join(Dialect)
    return [block for block in blocks if re.search(rf"^\[({tables})\]", block, re.MULTILINE)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_they_are_valid(page, tmp_path):
    blocks = settings(page)
    assert blocks
    for block in blocks:
        path = tmp_path / "gate.toml"
        path.write_text(block if "server =" in block else TOP + block)
        assert load(path, {"NCIIHASH_KEY": "nciik_" + "a" * 40}).dialects


def test_the_index_names_every_file():
    named = re.findall(r"\]\(([\w.-]+)\)", INDEX.read_text())
    assert sorted(named) == sorted(path.name for path in FOLDER.iterdir() if path != INDEX)


@pytest.fixture
def composed():
    """Return the services of compose.yaml, and its configuration of the gate.

    This reads it as YAML. No container is started: that needs Docker.
    """
    content = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return content["services"], content["configs"]["gate"]["content"]


def test_the_configuration_in_compose_yaml_is_valid(composed, tmp_path):
    services, text = composed
    (tmp_path / "gate.toml").write_text(text)
    config = load(tmp_path / "gate.toml", {"NCIIHASH_KEY": "nciik_" + "a" * 40})
    assert str(config.dialects[Dialect.CLAMD].listen) in services["site"]["command"]
    _, folder = services["gate"]["volumes"][0].split(":")
    assert str(config.data) == folder


def test_the_commands_in_compose_yaml_exist(composed):
    services, _ = composed
    roots = {"nciihash": commands.app, "clearinghouse": service_commands.app}
    for name in ("clearinghouse", "gate"):
        program, word, *arguments = services[name]["command"]
        command = typer.main.get_group(roots[program]).commands[word]
        known = {option for each in command.params for option in each.opts}
        assert {each for each in arguments if each.startswith("--")} <= known
    python, *arguments = services["site"]["command"]
    assert python == "python"
    shown = subprocess.run(
        [sys.executable, *arguments[:2], "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(option in shown for option in arguments if option.startswith("--"))
