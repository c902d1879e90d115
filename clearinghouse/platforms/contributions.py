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
- **Nothing that verdicts hold back.** While an equal value is held back, it is passed over.
- **Nothing that a survivor withdrew.** A value that was withdrawn within the last 400 days is
  passed over: a contributor's copy may be from before. The answer does not tell of it. Whoever
  submits it again for herself ends that.
- **Going out.** The platform that added a hash takes it back by sending it with the feedback
  `Withdrawn` or `Deleted`; an import ends when the other side no longer holds it; the operator ends
  all of them with `clearinghouse platform withdraw`. What nobody adds to for `case_months` expires.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from clearinghouse.abuse.allowlist import LawfulList
from clearinghouse.abuse.screening import Screening, screen
from clearinghouse.database import audit
from clearinghouse.database.audit import Act
from clearinghouse.database.queries.cases import NewItem
from clearinghouse.database.queries.contributions import CONTRIBUTED, IMPORTED
from clearinghouse.database.queries.signals import NewSignals
from clearinghouse.database.store import Store
from clearinghouse.database.transaction import Transaction
from clearinghouse.errors import ContributionsFull
from clearinghouse.times import Hour, hour
from nciihash.signals import Media, Signal, Variant

KINDS: Final = (CONTRIBUTED, IMPORTED)
_MONTH: Final = timedelta(days=31)
_BATCH: Final = 500  # withdrawn in one transaction, so that writers between are not kept
_NO_VERIFIER: Final = "-"  # what no passphrase passes, since it is no Argon2 hash


@dataclass(frozen=True, slots=True)
class Contribution:
    """One hash without a survivor."""

    media: Media
    signal: Signal


def lookup_of(store: Store, signal: Signal) -> bytes:
    """Give the value under which an equal signal is found."""
    return store.vault.lookup(signal.type, signal.value)


@dataclass(frozen=True, slots=True)
class PreparedContributions:
    """Hashes made ready to be filed before the writer's lock is taken, by their look-up values.

    Each has the row of its file, reserved, and the row of its signal, and the tag by which it is
    known if a survivor has withdrawn it. Those that are lawful, or that PDQ cannot give, are left
    out.
    """

    files: dict[bytes, tuple[Media, dict[str, Any]]]
    tags: dict[bytes, bytes]
    screening: Screening


def make_ready(
    store: Store, lawful: LawfulList, hashes: Sequence[Contribution]
) -> PreparedContributions:
    """Compare hashes with the lawful list, and seal the others."""
    unique = [hash for hash in dict.fromkeys(hashes) if hash.signal.possible]
    numbers = store.reserve_items(len(unique))
    screening = screen(store, lawful, [hash.signal for hash in unique])
    files: dict[bytes, tuple[Media, dict[str, Any]]] = {}
    tags: dict[bytes, bytes] = {}
    for item, hash, is_lawful in zip(numbers, unique, screening.near, strict=True):
        if is_lawful:
            continue
        lookup = screening.vault.lookup(hash.signal.type, hash.signal.value)
        row = {
            "item_id": item,
            "ordinal": 0,
            "type": hash.signal.type.value,
            "value": screening.vault.seal(hash.signal.value, "signals", "value", item, 0),
            "lookup": lookup,
            "quality": None,
            "variant": Variant.ORIGINAL.value,
        }
        files[lookup] = (hash.media, row)
        tags[lookup] = screening.vault.tag(hash.signal.type, hash.signal.value)
    return PreparedContributions(files, tags, screening)


def contribute(
    tx: Transaction,
    platform: int,
    kind: str,
    ready: PreparedContributions,
    *,
    months: int,
    most: int,
    now: datetime,
) -> int:
    """File hashes under a platform; those that are there already, or in a case, are left alone.

    Args:
        tx: a write transaction.
        platform: its row number.
        kind: `CONTRIBUTED` or `IMPORTED`.
        ready: what to file.
        months: after how many months without a further call all of the platform's expire.
        most: how many may be live.
        now: the time.

    Returns:
        How many were new.

    Raises:
        Outdated: the lawful list or the master key has changed since they were made ready.
        ContributionsFull: more than `most` would be live; nothing is filed.
    """
    ready.screening.check(tx)
    case = _open(tx, platform, kind, expires=hour(now + months * _MONTH), now=now)
    lookups = list(ready.files)
    known = {*tx.cases.values(case, lookups), *tx.signals.held_values(lookups)}
    known |= tx.signals.held_by_survivors(lookups)
    withdrawn = tx.withdrawn.choose(list(ready.tags.values()))
    new = [
        file
        for lookup, file in ready.files.items()
        if lookup not in known and ready.tags[lookup] not in withdrawn
    ]
    live, last = tx.cases.count_items(case)
    if live + len(new) > most:
        raise ContributionsFull
    files = [
        NewItem(row["item_id"], ordinal, media.value)
        for ordinal, (media, row) in enumerate(new, last + 1)
    ]
    tx.cases.add_items(case, files, hour(now))
    tx.signals.add([NewSignals(media.value, [row]) for media, row in new], hour(now))
    return len(new)


def _open(tx: Transaction, platform: int, kind: str, *, expires: Hour, now: datetime) -> int:
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
    files = list(tx.cases.values(case, lookups).values())
    return tx.cases.withdraw_files(case, files, hour(now)) if files else 0


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
                total += tx.cases.withdraw_files(case, files, hour(now))
    with store.write() as tx:
        name = tx.platforms.name(platform)
        audit.record(tx.vault, tx, Act.PLATFORM_WITHDRAWN, name, count=total, hour=hour(now))
    return total
