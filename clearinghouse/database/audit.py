"""The trail of what operators did, each entry chained to the one before.

An entry says what was done, to which platform or advocate, to how many, and in which hour: no
value, no case. Its digest is an HMAC over itself and the digest before it, under a key that is
sealed under the master key. Each change of the master key brings another one, and the entry on the
change is the first under it. So whoever can write to the database but lacks the master key of today
can neither change an entry, nor take one out of the middle, nor put one in. An old master key and
an old copy of the database are not enough: what they forge does not lead to the entry on the next
change, and that entry must be there.

Whoever has the master key of today can write any trail, and who had an earlier one could do so
while it was in use. That the end was cut off is seen by a digest that somebody wrote down: `verify`
tells it, and looks for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from clearinghouse.database.schema import AnyRow
from clearinghouse.database.transaction import Transaction
from clearinghouse.sealing.vault import Vault
from clearinghouse.times import Hour

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
    vault: Vault, tx: Transaction, act: Act, subject: str = "", *, count: int, hour: Hour
) -> None:
    """Append an entry, in the transaction of what it tells."""
    last = tx.audit.last()
    number, before = next_number(tx), last.digest if last else _BEGIN
    entry = (number, act.value, subject, count, hour)
    tx.audit.add(*entry, _digest(vault, before, *entry))


def next_number(tx: Transaction) -> int:
    """Return the number that the next entry gets."""
    last = tx.audit.last()
    return last.number + 1 if last else 1


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
    if vault.trail and number < vault.trail[-1][0]:  # the entry on the last change of the key
        return Finding(number, number + 1, before.hex(), found)
    return Finding(number, None, before.hex(), found)


def entries(tx: Transaction, last: int) -> Sequence[AnyRow]:
    """Give the last entries, so many at most, in their order."""
    newest = tx.audit.last()
    return [] if newest is None else tx.audit.read(max(0, newest.number - last), last)


def _digest(
    vault: Vault, before: bytes, number: int, act: str, subject: str, count: int, hour: Hour
) -> bytes:
    # each part behind its length, so that no two entries are written alike
    parts = [str(part).encode() for part in (number, act, subject, count, hour)]
    plain = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return vault.chain(number, before + plain)
