"""A bank of test pictures, with which an administrator tries a gate without a clearinghouse.

The pictures are drawn and harmless, and come with the documentation (docs/gate). They are what the
EICAR file is to virus scanners.
"""

import json
from importlib.resources import files
from pathlib import Path
from typing import Final

from nciihash.gate.config import GateConfig, load
from nciihash.signals import Hashed, Item, Media, Signal, SignalType, Variant

PICTURES: Final = (
    "block.jpg is blocked, review.jpg is for a person to review, clear.jpg is accepted, and "
    "unreadable.jpg cannot be read. They are in docs/gate of the project."
)
TRIAL: Final = "gate.toml"  # the name of the configuration of a trial that was started without one
_KEY: Final = "0" * 64
_CONFIG: Final = """
server = "http://127.0.0.1:9"
data = "data"

[limits]
connections = 1_000

[http]
listen = "127.0.0.1:8480"

[clamd]
listen = "127.0.0.1:3310"
review_as = "block"

[icap]
listen = "127.0.0.1:1344"
review_as = "block"
"""


def picture_items() -> dict[str, Item]:
    """Return the hashes of the test pictures, by name."""
    text = files("nciihash.gate").joinpath("test_bank.json").read_text()
    return {
        name: Item(
            Media.IMAGE,
            tuple(
                Hashed(Signal.from_hex(SignalType.PDQ, digits), quality, Variant(variant))
                for digits, quality, variant in hashes
            ),
        )
        for name, hashes in json.loads(text).items()
    }


def rehearsal_config(path: Path | None, folder: Path) -> GateConfig:
    """Return the configuration of a trial.

    Args:
        path: the configuration file; None for one that listens on this machine only.
        folder: where such a file is written.

    Raises:
        ConfigInvalid: the configuration cannot be used.
    """
    if path is None:
        path = folder / TRIAL
        path.write_text(_CONFIG)
    # no clearinghouse is asked, so the key need not be one
    return load(path, {"NCIIHASH_KEY": _KEY})
