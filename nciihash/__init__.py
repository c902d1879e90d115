"""Perceptual hashes of intimate images, exact search in banks of them, and clients for both sides.

The names below are imported on first use, so that the service, which needs only the core modules,
never loads a decoder.
"""

from typing import TYPE_CHECKING

from nciihash._lazy import attach

if TYPE_CHECKING:
    from nciihash.client.platform import AsyncPlatformClient, PlatformClient
    from nciihash.hashing.hasher import hash_file, hash_image
    from nciihash.sandbox.parent import hash_upload
    from nciihash.sdk.bank_reader import BankReader
    from nciihash.sdk.follower import Follower, VeiledFollower
    from nciihash.sdk.matcher import Matcher
    from nciihash.sdk.verdict_queue import VerdictQueue, VerdictSender
    from nciihash.search.index import Index, Matches
    from nciihash.signals import (
        Edit,
        Hashed,
        Item,
        Level,
        Match,
        Media,
        Signal,
        SignalType,
        Variant,
        Verdict,
    )

__version__ = "0.1.0"

__all__ = [
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
    "PlatformClient",
    "Signal",
    "SignalType",
    "Variant",
    "VeiledFollower",
    "Verdict",
    "VerdictQueue",
    "VerdictSender",
    "__version__",
    "hash_file",
    "hash_image",
    "hash_upload",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "client.platform": ("AsyncPlatformClient", "PlatformClient"),
        "hashing.hasher": ("hash_file", "hash_image"),
        "sandbox.parent": ("hash_upload",),
        "sdk.bank_reader": ("BankReader",),
        "sdk.follower": ("Follower", "VeiledFollower"),
        "sdk.matcher": ("Matcher",),
        "sdk.verdict_queue": ("VerdictQueue", "VerdictSender"),
        "search.index": ("Index", "Matches"),
        "signals": (
            "Edit",
            "Hashed",
            "Item",
            "Level",
            "Match",
            "Media",
            "Signal",
            "SignalType",
            "Variant",
            "Verdict",
        ),
    },
    __all__,
)
