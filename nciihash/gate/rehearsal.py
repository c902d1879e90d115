"""A bank of test pictures, with which an administrator tries a gate without a clearinghouse.

The pictures are drawn and harmless, and come with the documentation (docs/gate). They are what the
EICAR file is to virus scanners.
"""

import json
from importlib.resources import files

from nciihash.signals import Hashed, Item, Media, Signal, SignalType, Variant


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
