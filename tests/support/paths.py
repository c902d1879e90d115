"""Where the parts of the checkout are."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
GOLDEN = TESTS / "golden"
SITE = ROOT / "clearinghouse" / "page" / "site"
