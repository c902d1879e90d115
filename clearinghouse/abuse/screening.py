"""Compare hashes with the lawful list before the one writer's lock is taken.

Whatever is done in a write transaction keeps every other submission and every withdrawal waiting.
So hashes are compared with the list, sealed and looked up before it. Between the two the operator
may change the list or the master key: `Screening.check` notices that in the transaction, and
`screened` then begins again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from clearinghouse.abuse.allowlist import LawfulList
from clearinghouse.database.store import Store
from clearinghouse.database.transaction import Transaction
from clearinghouse.errors import Busy
from clearinghouse.sealing.master_key import KEY
from clearinghouse.sealing.vault import Vault
from nciihash.signals import Signal

T = TypeVar("T")

_ATTEMPTS: Final = 5  # the operator changes the list or the key a few times a year


class Outdated(Exception):
    """The lawful list or the master key has changed since."""


@dataclass(frozen=True, slots=True)
class Screening:
    """Which of some hashes are near a lawful picture, and the vault to seal them with.

    Attributes:
        near: for each hash, whether the list holds one that it is near to.
        version: of the list.
        vault: of the master key at that time.
    """

    near: tuple[bool, ...]
    version: tuple[int, int]
    vault: Vault

    def check(self, tx: Transaction) -> None:
        """Make sure that the list and the key are still the same.

        Raises:
            Outdated: one of them is not.
        """
        if (
            tx.allowlist.version() != self.version
            or tx.facts.read([KEY])[KEY] != self.vault.check()
        ):
            raise Outdated


def screen(store: Store, lawful: LawfulList, signals: Sequence[Signal]) -> Screening:
    """Compare hashes with the lawful list."""
    vault = store.vault
    with store.read() as tx:
        return Screening(tuple(lawful.near(tx, signals)), tx.allowlist.version(), vault)


def screened(act: Callable[[], T]) -> T:
    """Call `act`, which screens and then writes, again while it is outdated.

    Raises:
        Busy: the list or the key changed again and again.
    """
    for _ in range(_ATTEMPTS):
        try:
            return act()
        except Outdated:
            continue
    raise Busy
