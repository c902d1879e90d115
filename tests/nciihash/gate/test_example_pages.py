"""The settings of the gate that the pages of `examples/gate` show."""

import re

import pytest

from nciihash.gate.config import load
from nciihash.gate.outcome import Dialect
from support.paths import ROOT

PAGES = sorted((ROOT / "examples" / "gate").glob("*.md"))
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
