"""The trail of what operators did, each entry chained to the one before.

An entry says what was done, to which platform or advocate, to how many, and in which hour: no
value, no case. Its digest is an HMAC over itself and the digest before it, under the secret of the
database that stays when the master key changes. So whoever can write to the database but has no key
can neither change an entry, nor take one out of the middle, nor put one in. That the end was cut
off is seen by a digest that somebody wrote down: `verify` tells it, and looks for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from clearinghouse.database.schema import AnyRow
from clearinghouse.database.transaction import Transaction
from clearinghouse.sealing.vault import Vault

_BEGIN: Final = b"\0" * 32  # what the first entry is chained to
_PAGE: Final = 1_000


class Act(StrEnum):
    """What an operator, or the service by the hour, did."""

    PLATFORM_ADDED = "platform added"
    KEY_MADE = "key made"
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
class Finding:
    """What a look through the trail found.

    `broken` is the first entry that is not what was written, or follows something else than what
    was before it; None where all is whole. `digest`, in digits, is the last good entry's: written
    down elsewhere, it proves later that nothing up to it was changed. `found`: whether the digest
    that was looked for is there.
    """

    entries: int
    broken: int | None
    digest: str
    found: bool


def record(
    vault: Vault, tx: Transaction, act: Act, subject: str = "", *, count: int, hour: int
) -> None:
    """Append an entry, in the transaction of what it tells."""
    last = tx.audit.last()
    number, before = (last.number + 1, last.digest) if last else (1, _BEGIN)
    entry = (number, act.value, subject, count, hour)
    tx.audit.add(*entry, _digest(vault, before, *entry))


def verify(vault: Vault, tx: Transaction, sought: str | None = None) -> Finding:
    """Go through the whole trail, and look for a digest that was written down once."""
    before, number, found = _BEGIN, 0, sought is None
    while rows := tx.audit.read(number, _PAGE):
        for row in rows:
            entry = (row.number, row.act, row.subject, row.amount, row.hour)
            if row.number != number + 1 or row.digest != _digest(vault, before, *entry):
                return Finding(number, number + 1, before.hex(), found)
            before, number = row.digest, row.number
            found |= before.hex() == sought
    return Finding(number, None, before.hex(), found)


def entries(tx: Transaction, last: int) -> Sequence[AnyRow]:
    """Give the last entries, so many at most, in their order."""
    newest = tx.audit.last()
    return [] if newest is None else tx.audit.read(max(0, newest.number - last), last)


def _digest(
    vault: Vault, before: bytes, number: int, act: str, subject: str, count: int, hour: int
) -> bytes:
    # each part behind its length, so that no two entries are written alike
    parts = [str(part).encode() for part in (number, act, subject, count, hour)]
    plain = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return vault.lookup("audit", before + plain)
