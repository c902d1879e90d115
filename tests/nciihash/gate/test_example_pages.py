"""The settings of the gate on the pages of `examples/gate/`."""

import re
from pathlib import Path

import pytest

from nciihash.gate.config import load
from nciihash.gate.outcome import Dialect

PAGES = sorted((Path(__file__).parents[3] / "examples" / "gate").glob("*.md"))
WHOLE = 'server = "https://clearinghouse.example"\ndata = "data"\n\n'
# a page may also show the settings of another program in TOML
OURS = re.compile(rf"^\[({'|'.join(Dialect)})\]", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_gate_starts_with_the_settings_of_a_page(page, tmp_path):
    blocks = re.findall(r"^```toml\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    ours = [text for text in blocks if OURS.search(text)]
    assert ours or not blocks
    for text in ours:
        path = tmp_path / "gate.toml"
        path.write_text(text if "server =" in text else WHOLE + text)
        assert load(path, {"NCIIHASH_KEY": "nciik_" + "a" * 40}).dialects
