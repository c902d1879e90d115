"""Hashes that no survivor submitted: added by a platform, or imported from another clearinghouse.

They belong to nobody's case. For each platform there is at most one case of each kind, which only
`contributions` names: it has no case number and no passphrase, so that nobody can open it, and each
of its files is one hash. Everything else is as with a survivor's files: the same log, the same
removals, the same index.

- **Coming in.** A platform needs the scope `contribute`; an import is the operator's own command. A
  PDQ hash comes without its quality, since the StopNCII format has no word for it, and is taken on
  the platform's word that it looked. Only such hashes may lack it.
- **Bounds.** At most `contributions_max` hashes are live at a time for each platform and kind.
- **Nothing that PDQ cannot give.** Values that no picture has but a blank one are skipped.
- **Nothing that is known to be lawful.** What is like a picture on the operator's list is passed
  over. (What a survivor submits is held back instead, for the operator to decide.)
- **Never against a survivor.** A value that a survivor's open case holds is not filed again, so
  that her withdrawal ends it, even where a platform sends back everything that it was given.
- **Going out.** The platform that added a hash takes it back by sending it with the feedback
  `Withdrawn` or `Deleted`; an import ends when the other side no longer holds it; the operator ends
  all of them with `clearinghouse platform withdraw`. What nobody adds to for `case_months` expires.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from clearinghouse.abuse.allowlist import LawfulList
from clearinghouse.database import audit
from clearinghouse.database.audit import Act
from clearinghouse.database.queries.cases import NewItem
from clearinghouse.database.queries.contributions import CONTRIBUTED, IMPORTED
from clearinghouse.database.queries.signals import NewSignals
from clearinghouse.database.store import Store
from clearinghouse.database.transaction import Transaction
from clearinghouse.errors import ContributionsFull
from clearinghouse.times import hour
from nciihash.signals import Media, Signal, Variant

KINDS: Final = (CONTRIBUTED, IMPORTED)
_MONTH: Final = timedelta(days=31)
_BATCH: Final = 500  # withdrawn in one transaction, so that writers between are not kept
_NO_VERIFIER: Final = "-"  # what no passphrase passes, since it is no Argon2 hash


@dataclass(frozen=True, slots=True)
class Contributed:
    """One hash without a survivor."""

    media: Media
    signal: Signal


def lookup_of(store: Store, signal: Signal) -> bytes:
    """Give the value under which an equal signal is found."""
    return store.vault.lookup(signal.type, signal.value)


def contribute(
    store: Store,
    lawful: LawfulList,
    tx: Transaction,
    platform: int,
    kind: str,
    hashes: Sequence[Contributed],
    *,
    months: int,
    most: int,
    now: datetime,
) -> int:
    """File hashes under a platform; those that are there already, or in a case, are left alone.

    Args:
        store: for its vault.
        lawful: what is like one of these is not filed.
        tx: a write transaction.
        platform: its row number.
        kind: `CONTRIBUTED` or `IMPORTED`.
        hashes: what to file.
        months: after how many months without a further call all of the platform's expire.
        most: how many may be live.
        now: the time.

    Returns:
        How many were new.

    Raises:
        ContributionsFull: more than `most` would be live; nothing is filed.
    """
    case = _open(tx, platform, kind, expires=hour(now + months * _MONTH), now=now)
    wanted = {lookup_of(store, hash.signal): hash for hash in hashes}
    there = tx.cases.values(case, list(wanted))
    near = lawful.near(tx, [hash.signal for hash in wanted.values()])
    new = {
        at: hash
        for (at, hash), is_lawful in zip(wanted.items(), near, strict=True)
        if hash.signal.possible
        and at not in there
        and not is_lawful
        and not tx.signals.held_by_survivor(at)
    }
    live, last = tx.cases.count_items(case)
    if live + len(new) > most:
        raise ContributionsFull
    files = [NewItem(n, hash.media.value) for n, hash in enumerate(new.values(), last + 1)]
    numbers = tx.cases.add_items(case, files, hour(now))
    added = []
    for item, (lookup, hash) in zip(numbers, new.items(), strict=True):
        row = {
            "item_id": item,
            "ordinal": 0,
            "type": hash.signal.type.value,
            "value": store.vault.seal(hash.signal.value, "signals", "value", item, 0),
            "lookup": lookup,
            "quality": None,
            "variant": Variant.ORIGINAL.value,
        }
        added.append(NewSignals(hash.media.value, [row]))
    tx.signals.add(added, hour(now))
    return len(new)


def _open(tx: Transaction, platform: int, kind: str, *, expires: int, now: datetime) -> int:
    """Give the case of this kind, opened anew if it had expired."""
    case = tx.contributions.find(platform, kind)
    if case is not None:
        tx.cases.update(case, state="open", closed=None, expires=expires)
        return case
    case = tx.cases.add(
        # what no case number leads to
        lookup=secrets.token_bytes(32),
        verifier=_NO_VERIFIER,
        reason=kind,
        state="open",
        opened=hour(now),
        expires=expires,
    )
    tx.contributions.add(platform, kind, case)
    return case


def take_back(
    tx: Transaction, platform: int, kind: str, lookups: Sequence[bytes], *, now: datetime
) -> int:
    """Withdraw what this platform added, and give the number; others' are left alone."""
    case = tx.contributions.find(platform, kind)
    if case is None:
        return 0
    files = tx.cases.values(case, lookups)
    return sum(tx.cases.withdraw_items(case, ordinal, hour(now)) for ordinal in files.values())


def take_back_all(store: Store, platform: int, *, now: datetime) -> int:
    """Withdraw all that a platform added and all that was imported from it; give the number."""
    total = 0
    for kind in KINDS:
        while True:
            with store.write() as tx:
                case = tx.contributions.find(platform, kind)
                files = [] if case is None else tx.cases.live_items(case, _BATCH)
                if case is None or not files:
                    break
                total += sum(tx.cases.withdraw_items(case, ordinal, hour(now)) for ordinal in files)
    with store.write() as tx:
        name = tx.platforms.name(platform)
        audit.record(store.vault, tx, Act.PLATFORM_WITHDRAWN, name, count=total, hour=hour(now))
    return total
