"""Comparison of hashes with the allowlist, before the write lock is taken.

There is one writer at a time, so work in a write transaction delays every other submission and
withdrawal. Hashes are therefore compared with the list, sealed and looked up beforehand. In the
meantime the operator may change the list or the master key: `Screening.check` detects that inside
the transaction, and `retry_if_outdated` then starts over.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from clearinghouse.abuse.allowlist import AllowlistIndex
from clearinghouse.database.store import Store
from clearinghouse.database.transaction import Transaction
from clearinghouse.errors import Busy
from clearinghouse.sealing.master_key import KEY
from clearinghouse.sealing.vault import Vault
from nciihash.signals import Signal

T = TypeVar("T")

_ATTEMPTS: Final = 5  # the operator changes the list or the key a few times a year


class Outdated(Exception):
    """The allowlist or the master key has changed since the screening."""


@dataclass(frozen=True, slots=True)
class Screening:
    """Which hashes are near a lawful picture, and the vault to seal them with.

    Attributes:
        near: for each hash, whether it is near a listed one.
        version: of the list.
        vault: for the master key at the time of the screening.
    """

    near: tuple[bool, ...]
    version: tuple[int, int]
    vault: Vault

    def check(self, tx: Transaction) -> None:
        """Check that the list and the key are unchanged.

        Raises:
            Outdated: one of them has changed.
        """
        if (
            tx.allowlist.version() != self.version
            or tx.facts.read([KEY])[KEY] != self.vault.check()
        ):
            raise Outdated


def screen(store: Store, lawful: AllowlistIndex, signals: Sequence[Signal]) -> Screening:
    """Compare hashes with the allowlist."""
    vault = store.vault
    with store.read() as tx:
        return Screening(tuple(lawful.near(tx, signals)), tx.allowlist.version(), vault)


def retry_if_outdated(act: Callable[[], T]) -> T:
    """Call `act`, which screens and then writes; retry while its screening is outdated.

    Raises:
        Busy: the list or the key changed on every attempt.
    """
    for _ in range(_ATTEMPTS):
        try:
            return act()
        except Outdated:
            continue
    raise Busy
