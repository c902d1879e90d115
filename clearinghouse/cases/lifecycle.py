"""Cases: open, add, look, withdraw, renew, expire."""

import calendar
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from itertools import islice

from clearinghouse.abuse.allowlist import LawfulList
from clearinghouse.abuse.fitness import refusal
from clearinghouse.database.queries.cases import NewItem
from clearinghouse.database.queries.reviews import QUARANTINED
from clearinghouse.database.queries.signals import NewSignals
from clearinghouse.database.schema import AnyRow
from clearinghouse.database.store import Store
from clearinghouse.database.transaction import Transaction
from clearinghouse.errors import (
    CaseClosed,
    DeclarationMissing,
    ItemUnknown,
    NothingAccepted,
    TooManyItems,
)
from clearinghouse.platforms.keys import FOLLOWING, Scope, read_scopes
from clearinghouse.times import hour, moment
from nciihash.signals import MATCHED, Media, SignalType, Verdict
from nciihash.wire import (
    ITEMS_MAX,
    CaseOpened,
    CaseState,
    CaseStatus,
    ItemIn,
    ItemReceipt,
    ItemsAdded,
    ItemStatus,
    OpenCase,
    PlatformStatus,
    Reason,
    Refusal,
    TakenOut,
    Withdrawal,
)
from nciihash.wire.advocates import ASSISTED_ITEMS_MAX


def case_lookup(store: Store, number: str) -> bytes:
    """Give the value under which a case is found by its number, which is not kept."""
    return store.vault.lookup("case", number.encode())


def open_case(
    store: Store,
    lawful: LawfulList,
    tx: Transaction,
    request: OpenCase,
    *,
    number: str,
    passphrase: str,
    verifier: str,
    months: int,
    now: datetime,
    matched: Collection[SignalType] = MATCHED,
) -> CaseOpened:
    """Open a case with its first files.

    Hashes of types that are not `matched` are refused, and the others of the same file are taken.

    Raises:
        DeclarationMissing: not over 18, or not depicted.
        NothingAccepted: no signal of any file can be used; no case is opened.
    """
    if not (request.declaration.adult and request.declaration.depicted):
        raise DeclarationMissing
    expires = _months_after(now, months)
    case = tx.cases.add(
        lookup=case_lookup(store, number),
        verifier=verifier,
        reason=request.reason.value,
        state=CaseState.OPEN.value,
        opened=hour(now),
        expires=expires,
    )
    receipts = _add(store, lawful, tx, case, request.items, first=1, matched=matched, now=now)
    return CaseOpened(
        case=number, passphrase=passphrase, expires=moment(expires), items=tuple(receipts)
    )


def add_items(
    store: Store,
    lawful: LawfulList,
    tx: Transaction,
    case: int,
    new: Sequence[ItemIn],
    *,
    months: int,
    now: datetime,
    matched: Collection[SignalType] = MATCHED,
) -> ItemsAdded:
    """Add files to an open case, and renew it.

    Raises:
        CaseClosed: it was withdrawn or has expired.
        TooManyItems: it would hold more than 200 files, or 1,000 if an advocate opened it.
        NothingAccepted: no signal of any of the files can be used.
    """
    row = tx.cases.read(case)
    if row.state != CaseState.OPEN:
        raise CaseClosed
    live, last = tx.cases.count_items(case)
    if live + len(new) > (ASSISTED_ITEMS_MAX if tx.advocates.has_opened(case) else ITEMS_MAX):
        raise TooManyItems
    receipts = _add(store, lawful, tx, case, new, first=last + 1, matched=matched, now=now)
    expires = renew(tx, row, months=months, now=now)
    return ItemsAdded(expires=moment(expires), items=tuple(receipts))


def _add(
    store: Store,
    lawful: LawfulList,
    tx: Transaction,
    case: int,
    new: Sequence[ItemIn],
    *,
    first: int,
    matched: Collection[SignalType],
    now: datetime,
) -> list[ItemReceipt]:
    codes = [{s: code for s in item.signals if (code := refusal(s, matched))} for item in new]
    fit = [
        [s for s in item.signals if s not in unfit] for item, unfit in zip(new, codes, strict=True)
    ]
    near = iter(lawful.near(tx, [s.hashed.signal for kept in fit for s in kept]))
    # of what is lawful one is enough: the others are made from the same picture
    quarantined = [any(list(islice(near, len(kept)))) for kept in fit]
    numbers = tx.cases.add_items(
        case,
        [
            NewItem(ordinal, item.media.value, refused=not kept)
            for ordinal, (item, kept) in enumerate(zip(new, fit, strict=True), first)
        ],
        hour(now),
    )
    receipts, added = [], []
    for ordinal, (item, unfit, kept, held, number) in enumerate(
        zip(new, codes, fit, quarantined, numbers, strict=True), first
    ):
        refused = tuple(
            Refusal(signal=i, code=unfit.get(s, "quarantined"))
            for i, s in enumerate(item.signals)
            if held or s in unfit
        )
        accepted = 0 if held else len(kept)
        receipts.append(ItemReceipt(item=ordinal, accepted=accepted, refused=refused))
        rows = []
        for place, signal in enumerate(dict.fromkeys(kept)):
            value = bytes.fromhex(signal.value)
            rows.append(
                {
                    "item_id": number,
                    "ordinal": place,
                    "type": signal.type.value,
                    "value": store.vault.seal(value, "signals", "value", number, place),
                    "lookup": store.vault.lookup(signal.type, value),
                    "quality": signal.quality,
                    "variant": signal.variant.value,
                }
            )
        added.append(NewSignals(item.media.value, rows, held_back=held))
    tx.signals.add(added, hour(now))
    for number, held in zip(numbers, quarantined, strict=True):
        if held:
            tx.reviews.add(QUARANTINED, number, 1, hour(now))
    if not any(quarantined) and not any(receipt.accepted for receipt in receipts):
        raise NothingAccepted
    return receipts


def withdraw(tx: Transaction, case: int, ordinal: int | None, *, now: datetime) -> Withdrawal:
    """Withdraw one file, or all of them and with them the case. Repeating it changes nothing.

    Raises:
        ItemUnknown: the case never had a file with this number.
    """
    if ordinal is not None and not tx.cases.has_item(case, ordinal):
        raise ItemUnknown
    gone = tx.cases.withdraw_items(case, ordinal, hour(now))
    remaining, _ = tx.cases.count_items(case)
    state = CaseState(tx.cases.read(case).state)
    if state is CaseState.OPEN and not remaining:
        state = CaseState.WITHDRAWN
        tx.cases.update(case, state=state.value, closed=hour(now))
    return Withdrawal(withdrawn=gone, remaining=remaining, state=state)


def renew(tx: Transaction, row: AnyRow, *, months: int, now: datetime) -> int:
    """Move an open case's expiry to its full time after this visit, never back; return it.

    Args:
        tx: a write transaction.
        row: the case, read in this transaction.
        months: how long a case stays open after a visit.
        now: the time.
    """
    expires = _months_after(now, months)
    if not _moves(row, expires):
        return int(row.expires)
    tx.cases.update(row.id, expires=expires)
    return expires


def _moves(row: AnyRow, expires: int) -> bool:
    """Whether a visit moves a case's expiry to this hour."""
    return bool(row.state == CaseState.OPEN and row.expires < expires)


def visit(
    store: Store, find: Callable[[Transaction], int], *, months: int, now: datetime
) -> CaseStatus:
    """Renew a case that its holder looks at, and return what became of it.

    Only a visit that moves the expiry takes a write transaction.

    Args:
        store: where the case is.
        find: returns the case's row number. It is called again to read the case, since an
            advocate's case may be handed over in between.
        months: how long a case stays open after a visit.
        now: the time.
    """
    with store.read() as tx:
        case = find(tx)
        due = _moves(tx.cases.read(case), _months_after(now, months))
    if due:
        with store.write() as tx:
            renew(tx, tx.cases.read(case), months=months, now=now)
    with store.read() as tx:
        return status(tx, find(tx), now=now)


def status(tx: Transaction, case: int, *, now: datetime) -> CaseStatus:
    """Tell what became of a case."""
    row = tx.cases.read(case)
    listed = _Platforms(tx, case, now)
    marks = tx.reviews.marks(case)
    return CaseStatus(
        state=CaseState(row.state),
        reason=Reason(row.reason),
        opened=moment(row.opened),
        expires=moment(row.expires),
        items=tuple(
            ItemStatus(
                item=item.ordinal,
                media=Media(item.media),
                signals=item.signals,
                added=moment(item.added),
                withdrawn=_moment(item.withdrawn),
                held_back=marks[item.id][0],
                taken_out=_taken_out(marks[item.id][1]),
                platforms=listed.about(item),
            )
            for item in tx.cases.items(case)
        ),
    )


class _Platforms:
    """What every platform did about the files of one case."""

    def __init__(self, tx: Transaction, case: int, now: datetime) -> None:
        self._scopes: dict[int, set[Scope]] = defaultdict(set)
        for key in tx.platforms.list_keys():
            if key.revoked is None and key.expires > hour(now):
                self._scopes[key.platform_id] |= set(read_scopes(key.scopes))
        self._confirmed = {
            (item, platform): (_moment(has), _moment(gone))
            for item, platform, has, gone in tx.cases.confirmations(case)
        }
        self._verdicts: dict[tuple[int, int], dict[Verdict, int]] = defaultdict(dict)
        for item, platform, verdict, count in tx.cases.verdicts(case):
            self._verdicts[item, platform][Verdict(verdict)] = count
        self._matches = {(item, by): count for item, by, count in tx.cases.matches(case)}
        self._names = [(row.id, row.name) for row in tx.platforms.all()]

    def about(self, item: AnyRow) -> tuple[PlatformStatus, ...]:
        """List those that take part, and those that took part and know something of this file."""
        rows = []
        for platform, name in self._names:
            scopes = self._scopes.get(platform, set())
            follows = not FOLLOWING.isdisjoint(scopes)
            # a file that is held back stands in no log
            has, gone = self._confirmed.get((item.id, platform), (None, None))
            verdicts = self._verdicts.get((item.id, platform), {})
            met = self._matches.get((item.id, platform), 0)
            if platform not in self._scopes and not (has or met or verdicts):
                continue
            rows.append(
                PlatformStatus(
                    platform=name,
                    # one whose key ended may still hold what it once confirmed
                    follows=follows or has is not None,
                    veiled=follows and Scope.FEED not in scopes,
                    has_it_since=has,
                    matches=met,
                    verdicts=verdicts,
                    deletion_acknowledged=gone,
                )
            )
        return tuple(rows)


def _taken_out(by: str | None) -> TakenOut | None:
    return None if by is None else TakenOut(by)


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else moment(seconds)


def _months_after(now: datetime, months: int) -> int:
    """Give the hour some calendar months later; the 31st becomes a shorter month's last day."""
    years, month = divmod(now.month - 1 + months, 12)
    year = now.year + years
    day = min(now.day, calendar.monthrange(year, month + 1)[1])
    return hour(now.replace(year=year, month=month + 1, day=day))
