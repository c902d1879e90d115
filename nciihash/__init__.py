"""Hash intimate pictures on the device, search banks of hashes exactly, follow a clearinghouse.

The names below are imported when they are first used, so that the service, which uses only the
pure modules, never loads a decoder.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nciihash.client import AsyncPlatformClient, PlatformClient
    from nciihash.follower import Follower, VeiledFollower
    from nciihash.hasher import hash_file, hash_image
    from nciihash.index import Index, Matches
    from nciihash.signals import Hashed, Item, Match, Media, Signal, SignalType, Variant, Verdict
    from nciihash.verdicts import VerdictQueue, VerdictSender

__version__ = "0.1.0"

__all__ = [
    "AsyncPlatformClient",
    "Follower",
    "Hashed",
    "Index",
    "Item",
    "Match",
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
]

_HOMES = {
    "AsyncPlatformClient": "client",
    "PlatformClient": "client",
    "Follower": "follower",
    "VeiledFollower": "follower",
    "VerdictQueue": "verdicts",
    "VerdictSender": "verdicts",
    "hash_file": "hasher",
    "hash_image": "hasher",
    "Index": "index",
    "Matches": "index",
    **dict.fromkeys(
        ("Hashed", "Item", "Match", "Media", "Signal", "SignalType", "Variant", "Verdict"),
        "signals",
    ),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module attribute can be anything
    from importlib import import_module

    if home := _HOMES.get(name):
        return getattr(import_module(f"nciihash.{home}"), name)
    try:
        return import_module(f"nciihash.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"nciihash.{name}":
            raise
    raise AttributeError(f"module 'nciihash' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
