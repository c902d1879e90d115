"""The settings on the pages of `examples/gate/`."""

import re
from pathlib import Path

import pytest

from nciihash.gate.config import load

PAGES = sorted((Path(__file__).parents[3] / "examples" / "gate").glob("*.md"))
WHOLE = 'server = "https://clearinghouse.example"\ndata = "data"\n\n'


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_gate_starts_with_the_settings_of_a_page(page, tmp_path):
    blocks = re.findall(r"^```toml\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    for text in blocks:
        path = tmp_path / "gate.toml"
        path.write_text(text if "server =" in text else WHOLE + text)
        assert load(path, {"NCIIHASH_KEY": "nciik_" + "a" * 40}).dialects
