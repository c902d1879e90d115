"""A gate for benchmarks: with a bank of random hashes instead of one that follows a feed.

    python -m benchmarks.gate.server --config gate.toml --rows 1e6

Prints a line of JSON with the port of each dialect when it accepts uploads.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from nciihash.bank.contents import BankContents
from nciihash.bank.snapshot import Table
from nciihash.feed import Added
from nciihash.gate import serve
from nciihash.gate.bank import BankState
from nciihash.gate.config import load
from nciihash.gate.listeners import Listener
from nciihash.sdk.lookup import LookupResult
from nciihash.sdk.matcher import Matcher
from nciihash.signals import Item, Level, Media, SignalType, Variant

_ID: Final = 16  # bytes


def random_contents(rows: int) -> BankContents:
    """Return a bank of random hashes with half of their bits set, as PDQ hashes have."""
    rng = np.random.default_rng(1)
    return BankContents(
        [
            Table(
                SignalType.PDQ,
                ((Media.IMAGE, Variant.ORIGINAL),),
                np.sort(rng.integers(0, 256, (rows, _ID), np.uint8).view("S16").reshape(-1)),
                rng.integers(0, 256, (rows, _ID), np.uint8),
                np.zeros(rows, np.uint16),
                np.full(rows, 90, np.uint8),
                rng.integers(0, 256, (rows, 32), np.uint8),
            )
        ]
    )


class FixedBank:
    """A gate's bank that never changes."""

    def __init__(self, contents: BankContents) -> None:
        self._contents = contents
        self._matchers = {level: Matcher(contents, level=level) for level in Level}

    def look_up(self, items: Sequence[Item], level: Level) -> list[LookupResult]:
        """Return the matches of each item."""
        return self._matchers[level].look_up(items)

    def entry(self, id: str) -> Added | None:
        """Return a signal by its id."""
        return self._contents.entry(id)

    def state(self) -> BankState:
        """Return the state, which is always current."""
        return BankState(len(self._contents), time.time(), current=True, version="0" * 16)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="A gate with a bank of random hashes.")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--rows", type=lambda text: int(float(text)), default=1_000_000)
    options = parser.parse_args()
    bank = FixedBank(random_contents(options.rows))

    def ready(_: object, listeners: Sequence[Listener]) -> None:
        ports = {
            dialect.value: listener.server.port
            for listener in listeners
            for dialect in listener.dialects
        }
        print(json.dumps(ports), flush=True)

    serve.serve(lambda: load(options.config, os.environ), ready=ready, bank=bank)


if __name__ == "__main__":
    main()
