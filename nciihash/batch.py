"""Hash many files, one after another; a file that is refused does not keep the others."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from nciihash.errors import FileRefused
from nciihash.sandbox import Sandbox
from nciihash.signals import Item, SignalType


def wanted_signals(more: Sequence[SignalType]) -> tuple[SignalType, ...]:
    """Give the types of hash to make: PDQ always, then those asked for beside it."""
    return tuple(dict.fromkeys((SignalType.PDQ, *more)))


def hash_files(
    paths: Sequence[Path], *, signals: Sequence[SignalType], sandboxed: bool = True
) -> Iterator[tuple[Path, Item | FileRefused]]:
    """Hash files in their order.

    Args:
        paths: the files.
        signals: which types of hash to make.
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
                yield path, hash_file(path, signals=signals)
            except FileRefused as refusal:
                yield path, refusal
