"""Hashes that no survivor submitted: contributed by a platform or imported from a clearinghouse.

They are stored as items of a case of their own, one case for each platform and kind (`CONTRIBUTED`,
`IMPORTED`), one hash per item. The case has no case number and no passphrase, so nobody can open
it; only the table `contributions` refers to it. Everything else works as for a survivor's files:
the same log, removals and index.

- **Who may add.** A platform needs the scope `contribute`; imports are made by the operator's
  command. PDQ hashes arrive without a quality, because the StopNCII format has no field for it; the
  contributor is trusted to have checked it. No other hashes may lack a quality.
- **Limit.** At most `contributions_max` hashes are live per platform and kind.
- **Implausible values** (`Signal.possible`) are skipped: no picture of quality 50 or more has them.
- **Lawful pictures** are skipped: hashes near one on the operator's allowlist. (A survivor's file
  is quarantined instead.)
- **A survivor's hashes** are skipped: a value in an open case is not stored a second time, so that
  her withdrawal removes it even if a platform sends back everything it received from the feed.
- **Disputed hashes** are skipped while an equal value is on hold after verdicts.
- **Withdrawn hashes** are skipped for 400 days after a survivor withdrew an equal value, because
  the contributor's copy may be older than her withdrawal. The reply does not reveal it. The value
  is no longer skipped once somebody submits it again in a case of her own.
- **Removal.** The contributor withdraws a hash by sending it with the feedback `Withdrawn` or
  `Deleted`. An imported hash is withdrawn when the other clearinghouse no longer lists it. The
  operator withdraws all hashes of a platform with `clearinghouse platform withdraw`. All hashes of
  a case expire when none was added to it for `case_months`.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from clearinghouse.abuse.allowlist import AllowlistIndex
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
_BATCH: Final = 500  # hashes per write transaction, so that other writers get their turn
_NO_VERIFIER: Final = "-"  # not an Argon2 hash, so no passphrase matches


@dataclass(frozen=True, slots=True)
class Contribution:
    """A hash that no survivor submitted."""

    media: Media
    signal: Signal


def lookup_of(store: Store, signal: Signal) -> bytes:
    """Return the keyed hash by which signals of equal type and value are found."""
    return store.vault.lookup(signal.type, signal.value)


@dataclass(frozen=True, slots=True)
class PreparedContributions:
    """Hashes that were screened, numbered and sealed before the write lock is taken.

    Implausible hashes and those near a lawful picture are omitted.

    Attributes:
        rows: the media type and the row of the signal, by lookup value.
        tags: the tag that identifies the value among withdrawn ones, by lookup value.
        screening: the versions of the allowlist and of the master key that were used.
    """

    rows: dict[bytes, tuple[Media, dict[str, Any]]]
    tags: dict[bytes, bytes]
    screening: Screening


def prepare(
    store: Store, lawful: AllowlistIndex, hashes: Sequence[Contribution]
) -> PreparedContributions:
    """Screen hashes against the allowlist, reserve item numbers and seal the values."""
    unique = [
        contribution for contribution in dict.fromkeys(hashes) if contribution.signal.possible
    ]
    numbers = store.reserve_items(len(unique))
    screening = screen(store, lawful, [contribution.signal for contribution in unique])
    rows: dict[bytes, tuple[Media, dict[str, Any]]] = {}
    tags: dict[bytes, bytes] = {}
    for item, contribution, is_lawful in zip(numbers, unique, screening.near, strict=True):
        if is_lawful:
            continue
        lookup = screening.vault.lookup(contribution.signal.type, contribution.signal.value)
        row = {
            "item_id": item,
            "ordinal": 0,
            "type": contribution.signal.type.value,
            "value": screening.vault.seal(contribution.signal.value, "signals", "value", item, 0),
            "lookup": lookup,
            "quality": None,
            "variant": Variant.ORIGINAL.value,
        }
        rows[lookup] = (contribution.media, row)
        tags[lookup] = screening.vault.tag(contribution.signal.type, contribution.signal.value)
    return PreparedContributions(rows, tags, screening)


def contribute(
    tx: Transaction,
    platform: int,
    kind: str,
    prepared: PreparedContributions,
    *,
    months: int,
    most: int,
    now: datetime,
) -> int:
    """Add a platform's hashes, and renew the expiry of all that it added before.

    Skips values that are stored already, that an open case of a survivor contains, that are on hold
    after verdicts, or that a survivor withdrew.

    Args:
        tx: a write transaction.
        platform: the platform's row number.
        kind: `CONTRIBUTED` or `IMPORTED`.
        prepared: the hashes.
        months: months until all of them expire, unless this is called again.
        most: how many hashes of this platform and kind may be live.
        now: the time.

    Returns:
        The number of hashes added.

    Raises:
        Outdated: the allowlist or the master key has changed since `prepare`.
        ContributionsFull: more than `most` would be live; nothing is added.
    """
    prepared.screening.check(tx)
    case = _open_case(tx, platform, kind, expires=hour(now + months * _MONTH), now=now)
    lookups = list(prepared.rows)
    known = {*tx.cases.values(case, lookups), *tx.signals.filter_held(lookups)}
    known |= tx.signals.filter_submitted(lookups)
    withdrawn = tx.withdrawn.filter_existing(list(prepared.tags.values()))
    new = [
        row
        for lookup, row in prepared.rows.items()
        if lookup not in known and prepared.tags[lookup] not in withdrawn
    ]
    live, last = tx.cases.count_items(case)
    if live + len(new) > most:
        raise ContributionsFull
    items = [
        NewItem(row["item_id"], ordinal, media.value)
        for ordinal, (media, row) in enumerate(new, last + 1)
    ]
    tx.cases.add_items(case, items, hour(now))
    tx.signals.add([NewSignals(media.value, [row]) for media, row in new], hour(now))
    return len(new)


def _open_case(tx: Transaction, platform: int, kind: str, *, expires: Hour, now: datetime) -> int:
    """Return the case of this platform and kind; open it if it is new or has expired."""
    case = tx.contributions.find(platform, kind)
    if case is not None:
        tx.cases.update(case, state="open", closed=None, expires=expires)
        return case
    case = tx.cases.add(
        lookup=secrets.token_bytes(32),  # of no case number
        verifier=_NO_VERIFIER,
        reason=kind,
        state="open",
        opened=hour(now),
        expires=expires,
    )
    tx.contributions.add(platform, kind, case)
    return case


def withdraw_contributions(
    tx: Transaction, platform: int, kind: str, lookups: Sequence[bytes], *, now: datetime
) -> int:
    """Withdraw hashes that this platform added itself, and return how many there were."""
    case = tx.contributions.find(platform, kind)
    if case is None:
        return 0
    files = list(tx.cases.values(case, lookups).values())
    return tx.cases.withdraw_files(case, files, hour(now)) if files else 0


def withdraw_all_contributions(store: Store, platform: int, *, now: datetime) -> int:
    """Withdraw all that a platform contributed or that was imported under its name; count it."""
    total = 0
    for kind in KINDS:
        while True:
            with store.write() as tx:
                case = tx.contributions.find(platform, kind)
                files = [] if case is None else tx.cases.list_live_items(case, _BATCH)
                if case is None or not files:
                    break
                total += tx.cases.withdraw_files(case, files, hour(now))
    with store.write() as tx:
        name = tx.platforms.name(platform)
        audit.record(tx.vault, tx, Act.PLATFORM_WITHDRAWN, name, count=total, hour=hour(now))
    return total
