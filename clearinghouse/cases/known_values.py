"""Submitted values that the service knows: on hold after verdicts, or withdrawn earlier."""

from collections.abc import Sequence

from clearinghouse.cases.intake import File
from clearinghouse.database.transaction import Transaction


def on_hold_by_verdicts(tx: Transaction, files: Sequence[File]) -> list[bool]:
    """Return for each file whether an equal value is on hold after verdicts."""
    if not tx.signals.has_held():
        return [False] * len(files)
    lookups = [[row["lookup"] for row in file.rows] for file in files]
    held = tx.signals.filter_held([lookup for found in lookups for lookup in found])
    return [not held.isdisjoint(found) for found in lookups]


def forget_withdrawals(tx: Transaction, files: Sequence[File]) -> None:
    """Forget earlier withdrawals of these values, so that contributions of them count again."""
    if tx.withdrawn.any():
        tx.withdrawn.delete([tag for file in files for tag in file.tags])
