"""The public names that the README and the documentation use."""

import ast
import re
from importlib import import_module

import pytest

from support.paths import ROOT

NAMES = {
    "nciihash": (
        *(
            "AsyncPlatformClient",
            "BankReader",
            "Edit",
            "Follower",
            "Hashed",
            "Index",
            "Item",
            "Level",
            "Match",
            "Matcher",
            "Matches",
            "Media",
        ),
        *("PlatformClient", "Signal", "SignalType", "Variant", "VeiledFollower", "Verdict"),
        *("VerdictQueue", "VerdictSender", "hash_file", "hash_image", "hash_upload"),
    ),
    "nciihash.bank": ("Bank",),
    "nciihash.client": ("AdvocateClient", "AsyncPlatformClient", "Client", "PlatformClient"),
    "nciihash.errors": ("BankLocked", "BankStale", "FileRefused", "NciihashError", "ServiceError"),
    "nciihash.feed": ("Added", "FeedPage", "Removed", "apply"),
    "nciihash.pdq": ("analyse", "hash_pixels"),
    "nciihash.sandbox": ("Sandbox", "hash_file", "hash_upload"),
    "nciihash.sdk": (
        *(
            "BankReader",
            "Follower",
            "LookupResult",
            "Matcher",
            "Progress",
            "Stop",
            "VeiledFollower",
            "VerdictQueue",
            "VerdictSender",
        ),
        *("follow", "look_up"),
    ),
    "nciihash.signals": ("Hashed", "Item", "Match", "Signal", "SignalType", "Verdict"),
    "nciihash.tx": ("TX_MANIFEST",),
    "nciihash.veil": ("Veil",),
    "nciihash.wire": ("CaseOpened", "CaseStatus", "FeedReply", "Hit", "OpenCase", "Reason"),
    "clearinghouse": ("Settings", "create_app"),
}


@pytest.mark.parametrize("module", NAMES)
def test_public_names_can_be_imported(module):
    for name in NAMES[module]:
        assert getattr(import_module(module), name) is not None


@pytest.mark.parametrize(
    "module", ["nciihash.bank", "nciihash.client", "nciihash.sandbox", "nciihash.sdk"]
)
def test_a_package_lists_its_public_names(module):
    package = import_module(module)
    assert set(package.__all__) == set(dir(package))
    assert set(NAMES[module]) <= set(package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = package.nonsense


def imports(text):
    """Return the names that some code imports from the two packages, as (module, name)."""
    return {
        (node.module, alias.name)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom)
        and node.module.partition(".")[0] in {"nciihash", "clearinghouse"}
        for alias in node.names
    }


def test_the_readme_the_docs_and_the_examples_use_only_public_names():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    code = [
        block
        for page in pages
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
    ]
    code += [path.read_text("utf-8") for path in sorted((ROOT / "examples").glob("*.py"))]
    used = set().union(*map(imports, code))
    assert len(used) >= 10
    assert used <= {(module, name) for module, names in NAMES.items() for name in names}
