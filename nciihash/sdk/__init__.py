"""Building blocks for platforms: followers of the feed, lookups, and a queue of verdicts."""

from typing import TYPE_CHECKING

from nciihash._lazy import attach

if TYPE_CHECKING:
    from nciihash.sdk.bank_reader import BankReader
    from nciihash.sdk.follow_loop import FollowerOptions, Progress, Stop, follow
    from nciihash.sdk.follower import Follower, VeiledFollower
    from nciihash.sdk.lookup import LookupResult, look_up
    from nciihash.sdk.matcher import Matcher
    from nciihash.sdk.veiled import Confirmer
    from nciihash.sdk.verdict_queue import VerdictQueue, VerdictSender

__all__ = [
    "BankReader",
    "Confirmer",
    "Follower",
    "FollowerOptions",
    "LookupResult",
    "Matcher",
    "Progress",
    "Stop",
    "VeiledFollower",
    "VerdictQueue",
    "VerdictSender",
    "follow",
    "look_up",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "bank_reader": ("BankReader",),
        "follow_loop": (
            "FollowerOptions",
            "Progress",
            "Stop",
            "follow",
        ),
        "follower": (
            "Follower",
            "VeiledFollower",
        ),
        "lookup": (
            "LookupResult",
            "look_up",
        ),
        "matcher": ("Matcher",),
        "veiled": ("Confirmer",),
        "verdict_queue": (
            "VerdictQueue",
            "VerdictSender",
        ),
    },
    __all__,
)
