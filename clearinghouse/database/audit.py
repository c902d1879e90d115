"""The audit trail: what operators did, as a hash chain.

An entry records what was done, to which platform or advocate, to how many, and in which hour. It
contains no value and no case. Its digest is an HMAC over itself and the digest before it, under a
key that is sealed under the master key. Each change of the master key adds a new key for the trail,
first used for the entry on that change. So an attacker who can write to the database but does not
have the current master key can neither change an entry, nor delete one from the middle, nor insert
one. An old master key with an old copy of the database is not enough either: entries forged with
them do not chain to the entry on the next change, and that entry must exist.

The current master key can forge the whole trail, and an earlier one could while it was in use. A
trail whose end was deleted is detected by a digest that somebody wrote down earlier: `verify`
returns the current digest, and searches for an earlier one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from clearinghouse.database.schema import AnyRow
from clearinghouse.database.transaction import Transaction
from clearinghouse.sealing.vault import Vault
from clearinghouse.times import Hour

_BEGIN: Final = b"\0" * 32  # the digest before the first entry
_PAGE: Final = 1_000


class Act(StrEnum):
    """An action of an operator, or of the hourly purge."""

    PLATFORM_ADDED = "platform added"
    KEY_MADE = "key made"
    LIMITS_SET = "match limits set"
    KEYS_REVOKED = "keys revoked"
    PLATFORM_WITHDRAWN = "platform withdrawn"
    PURGED = "purged"
    MASTER_CHANGED = "master key changed"
    RESTORED = "backup restored"
    FILE_KEPT = "file kept"
    FILE_REMOVED = "file removed"
    FILE_HELD = "file held back by verdicts"
    FILE_PUT_BACK = "file put back by a verdict"
    VERDICTS_DONE = "files purged after verdicts"
    VERDICTS_UNDONE = "files put back"
    LAWFUL_LISTED = "lawful listed"
    LAWFUL_UNLISTED = "lawful unlisted"
    ADVOCATE_KEY = "advocate key made"
    ADVOCATE_REVOKED = "advocate revoked"


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of verifying the trail.

    Attributes:
        entries: how many entries are intact, from the beginning.
        broken: the number of the first entry that was changed, inserted or is missing; None if
            there is none.
        digest: of the last intact entry, in hexadecimal. Written down elsewhere, it later proves
            that nothing up to this entry was changed.
        found: whether the digest that was searched for is in the trail.
    """

    entries: int
    broken: int | None
    digest: str
    found: bool


def record(
    vault: Vault, tx: Transaction, act: Act, subject: str = "", *, count: int, hour: Hour
) -> None:
    """Append an entry, in the transaction of the action that it records."""
    last = tx.audit.last()
    number, before = next_number(tx), last.digest if last else _BEGIN
    entry = (number, act.value, subject, count, hour)
    tx.audit.add(*entry, _digest(vault, before, *entry))


def next_number(tx: Transaction) -> int:
    """Return the number of the next entry."""
    last = tx.audit.last()
    return last.number + 1 if last else 1


def verify(vault: Vault, tx: Transaction, sought: str | None = None) -> Verification:
    """Verify the whole trail, and search it for a digest that was written down earlier."""
    before, number, found = _BEGIN, 0, sought is None
    while rows := tx.audit.read(number, _PAGE):
        for row in rows:
            entry = (row.number, row.act, row.subject, row.amount, row.hour)
            if row.number != number + 1 or row.digest != _digest(vault, before, *entry):
                return Verification(number, number + 1, before.hex(), found)
            before, number = row.digest, row.number
            found |= before.hex() == sought
    if vault.trail and number < vault.trail[-1][0]:  # the entry on the last rotation is missing
        return Verification(number, number + 1, before.hex(), found)
    return Verification(number, None, before.hex(), found)


def entries(tx: Transaction, last: int) -> Sequence[AnyRow]:
    """Return up to `last` of the newest entries, oldest first."""
    newest = tx.audit.last()
    return [] if newest is None else tx.audit.read(max(0, newest.number - last), last)


def _digest(
    vault: Vault, before: bytes, number: int, act: str, subject: str, count: int, hour: Hour
) -> bytes:
    # each part is prefixed with its length, so that different entries have different encodings
    parts = [str(part).encode() for part in (number, act, subject, count, hour)]
    plain = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return vault.chain(number, before + plain)
