"""Hash many files, one after another; a file that is refused does not keep the others."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

from nciihash.errors import FileRefused
from nciihash.sandbox import Sandbox
from nciihash.signals import Band, Item, Match, SignalType
from nciihash.wire import Hit

Found: TypeAlias = tuple[SignalType, Match | Hit]


def wanted_signals(more: Sequence[SignalType]) -> tuple[SignalType, ...]:
    """Give the types of hash to make: PDQ always, then those asked for beside it."""
    return tuple(dict.fromkeys((SignalType.PDQ, *more)))


def once(found: Iterable[Found]) -> list[Found]:
    """Keep each signal's nearest match, nearest first: a picture and its trimmed form find it."""
    nearest: dict[str, Found] = {}
    for type, match in sorted(found, key=_nearness):
        nearest.setdefault(match.id, (type, match))
    return list(nearest.values())


def _nearness(found: Found) -> tuple[int, str]:
    type, match = found
    if isinstance(match, Match):
        return match.distance, match.id
    return 0 if match.band is Band.STRONG else type.threshold, match.id


def hash_files(
    paths: Sequence[Path],
    *,
    signals: Sequence[SignalType],
    variants: str = "none",
    sandboxed: bool = True,
) -> Iterator[tuple[Path, Item | FileRefused]]:
    """Hash files in their order.

    Args:
        paths: the files.
        signals: which types of hash to make.
        variants: which altered copies to hash too, as `nciihash.hasher.hash_file` takes them.
        sandboxed: decode in a child process that can do no harm, else in this one.

    Yields:
        Each path with its hashes, or with the reason why there are none.

    Raises:
        SandboxUnavailable: the child process cannot start; nothing was decoded.
    """
    with ExitStack() as stack:
        if sandboxed:
            hash_file = stack.enter_context(Sandbox()).hash_file
        else:
            from nciihash.hasher import hash_file  # loads the decoders, which this was told to use
        for path in paths:
            try:
                yield path, hash_file(path, variants=variants, signals=signals)
            except FileRefused as refusal:
                yield path, refusal
