"""Submitted values of which the service knows something from before."""

from collections.abc import Sequence

from clearinghouse.database.transaction import Transaction
from nciihash.wire import SignalIn

Files = Sequence[Sequence[SignalIn]]  # the signals of each file


def held_by_verdicts(tx: Transaction, files: Files) -> list[bool]:
    """Tell of each file whether verdicts hold back an equal value."""
    if not tx.signals.any_held():
        return [False] * len(files)
    lookups = [[tx.vault.lookup(s.type, _value(s)) for s in signals] for signals in files]
    held = tx.signals.held_values([at for found in lookups for at in found])
    return [not held.isdisjoint(found) for found in lookups]


def forget_withdrawals(tx: Transaction, files: Files) -> None:
    """Let contributors confirm again what a survivor submits, even if it was withdrawn before."""
    if tx.withdrawn.any():
        tx.withdrawn.forget([tx.vault.tag(s.type, _value(s)) for kept in files for s in kept])


def _value(signal: SignalIn) -> bytes:
    return bytes.fromhex(signal.value)
