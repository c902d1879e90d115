"""Cases: opening, adding files, viewing, withdrawal and renewal."""

import calendar
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Final, Literal

from clearinghouse.abuse.fitness import refusal
from clearinghouse.cases.intake import File, Intake
from clearinghouse.cases.known_values import forget_withdrawals, on_hold_by_verdicts
from clearinghouse.cases.status import status
from clearinghouse.database.queries.cases import NewItem
from clearinghouse.database.queries.reviews import OPEN, QUARANTINED, RESUBMITTED
from clearinghouse.database.queries.signals import NewSignals, make_tags
from clearinghouse.database.schema import AnyRow
from clearinghouse.database.store import Store
from clearinghouse.database.transaction import Transaction
from clearinghouse.errors import (
    CaseClosed,
    DeclarationMissing,
    ItemUnknown,
    NothingAccepted,
    PartOutOfOrder,
    TooManyItems,
    TooManySignals,
)
from clearinghouse.times import Hour, hour, moment
from nciihash.signals import SignalType
from nciihash.wire import (
    ITEMS_MAX,
    SIGNALS_MAX,
    CaseOpened,
    CaseState,
    CaseStatus,
    Declaration,
    ItemIn,
    ItemReceipt,
    ItemsAdded,
    Reason,
    Refusal,
    RefusalCode,
    SignalsAdded,
    Withdrawal,
)
from nciihash.wire.advocates import ASSISTED_ITEMS_MAX

_AT_ONCE: Final = 150  # signals withdrawn in one transaction
# the refusal code for files that wait for the operator's decision
_WITHHELD: Final[dict[str, Literal["quarantined", "being_checked"]]] = {
    QUARANTINED: "quarantined",
    RESUBMITTED: "being_checked",
}


def case_lookup(store: Store, number: str) -> bytes:
    """Return the HMAC by which a case is found; its number is not stored."""
    return store.vault.lookup("case", number.encode())


def open_case(
    tx: Transaction,
    declaration: Declaration,
    reason: Reason,
    intake: Intake,
    *,
    lookup: bytes,
    number: str,
    passphrase: str,
    verifier: str,
    months: int,
    now: datetime,
) -> CaseOpened:
    """Open a case with its first files.

    Args:
        tx: a write transaction.
        declaration: the survivor's declaration.
        reason: her reason for the case.
        intake: the files.
        lookup: `case_lookup` of the number.
        number: the case number, for the receipt.
        passphrase: the passphrase, for the receipt.
        verifier: stored to check the passphrase.
        months: how long the case stays open after a visit.
        now: the time.

    Raises:
        DeclarationMissing: under 18, or not depicted.
        NothingAccepted: no signal of any file is usable; no case is opened.
    """
    check_declared(declaration)
    expires = _months_after(now, months)
    case = tx.cases.add(
        lookup=lookup,
        verifier=verifier,
        reason=reason.value,
        state=CaseState.OPEN.value,
        opened=hour(now),
        expires=expires,
    )
    receipts = _add(tx, case, intake.files, first=1, now=now)
    return CaseOpened(
        case=number, passphrase=passphrase, expires=moment(expires), items=tuple(receipts)
    )


def check_declared(declaration: Declaration) -> None:
    """Check that a case may be opened with a declaration.

    Raises:
        DeclarationMissing: under 18, or not depicted.
    """
    if not (declaration.adult and declaration.depicted):
        raise DeclarationMissing


def check_capacity(tx: Transaction, case: int, new: int) -> int:
    """Check that a case may have `new` more files; return the number of its last file.

    Raises:
        CaseClosed: it was withdrawn or has expired.
        TooManyItems: it would have more than 200 files, or 1,000 if an advocate opened it.
    """
    if tx.cases.read(case).state != CaseState.OPEN:
        raise CaseClosed
    live, last = tx.cases.count_items(case)
    if live + new > (ASSISTED_ITEMS_MAX if tx.advocates.has_opened(case) else ITEMS_MAX):
        raise TooManyItems
    return last


def check_length(before: int, new: int) -> None:
    """Check that a file may have `new` more signals.

    Raises:
        TooManySignals: it would have more than 2,048.
    """
    if before + new > SIGNALS_MAX:
        raise TooManySignals


def check_usable(new: Sequence[ItemIn], matched: Collection[SignalType]) -> int:
    """Check that at least one signal of these files is usable; return the number of all.

    Raises:
        NothingAccepted: no signal is usable.
    """
    all_signals = [signal for item in new for signal in item.signals]
    if not any(refusal(signal, matched) is None for signal in all_signals):
        raise NothingAccepted
    return len(all_signals)


def add_items(
    tx: Transaction, case: int, intake: Intake, *, months: int, now: datetime
) -> ItemsAdded:
    """Add files to an open case, and renew it.

    Raises:
        CaseClosed: it was withdrawn or has expired.
        TooManyItems: it would have more than 200 files, or 1,000 if an advocate opened it.
        NothingAccepted: no signal of any file is usable.
    """
    last = check_capacity(tx, case, len(intake.files))
    receipts = _add(tx, case, intake.files, first=last + 1, now=now)
    expires = renew(tx, tx.cases.read(case), months=months, now=now)
    return ItemsAdded(expires=moment(expires), items=tuple(receipts))


def _add(
    tx: Transaction, case: int, files: Sequence[File], *, first: int, now: datetime
) -> list[ItemReceipt]:
    withheld = [
        QUARANTINED if file.lawful else RESUBMITTED if held else None
        for file, held in zip(files, on_hold_by_verdicts(tx, files), strict=True)
    ]
    forget_withdrawals(tx, files)
    tx.cases.add_items(
        case,
        [
            NewItem(
                number=file.number,
                ordinal=ordinal,
                media=file.media.value,
                refused=not file.rows and not file.more,
                awaiting_after=file.sent if file.more else None,
            )
            for ordinal, file in enumerate(files, first)
        ],
        hour(now),
    )
    tx.signals.add(
        [_new_signals(file, why, now) for file, why in zip(files, withheld, strict=True)],
        hour(now),
    )
    for file, why in zip(files, withheld, strict=True):
        if why:
            tx.reviews.add(why, file.number, 1, hour(now))
    if not any(why or file.accepted for file, why in zip(files, withheld, strict=True)):
        raise NothingAccepted
    return [
        ItemReceipt(item=ordinal, accepted=0 if why else file.accepted, refused=_refused(file, why))
        for ordinal, (file, why) in enumerate(zip(files, withheld, strict=True), first)
    ]


def _new_signals(file: File, why: str | None, now: datetime) -> NewSignals:
    held = hour(now) if why == RESUBMITTED else None
    rows = [row | {"held": held} for row in file.rows]
    return NewSignals(file.media.value, rows, held_back=why is not None)


def _refused(file: File, why: str | None) -> tuple[Refusal, ...]:
    """Return the refused signals; all of them if the file waits for the operator's decision."""
    codes: dict[int, RefusalCode] = dict(file.unfit)
    if why:
        codes = {n: codes.get(n, _WITHHELD[why]) for n in range(file.sent)}
    return tuple(Refusal(signal=n, code=code) for n, code in codes.items())


def find_item(tx: Transaction, case: int, ordinal: int) -> AnyRow:
    """Return a file of a case to which signals may be added.

    Raises:
        CaseClosed: the case was withdrawn or has expired.
        ItemUnknown: the case has no file with this number, or the file was withdrawn.
    """
    if tx.cases.read(case).state != CaseState.OPEN:
        raise CaseClosed
    row = tx.cases.item(case, ordinal)
    if row is None or row.withdrawn is not None:
        raise ItemUnknown
    return row


def add_signals(
    tx: Transaction,
    case: int,
    ordinal: int,
    after: int,
    part: File,
    *,
    paid: bool,
    months: int,
    now: datetime,
) -> SignalsAdded:
    """Add the next part of a long video to its file, and renew the case.

    A repeated part is not added again, and gets the same receipt. If the file is held back for the
    operator's decision, so is the part.

    Args:
        tx: a write transaction.
        case: row number of the case.
        ordinal: number of the file.
        after: how many signals of the file were sent before.
        part: the part.
        paid: whether its proof of work was checked, as for every part that is not a retry.
        months: how long the case stays open after a visit.
        now: the time.

    Raises:
        CaseClosed, ItemUnknown: as `find_item`.
        PartOutOfOrder: other signals were sent at this index, or fewer before it; or the part is
            new after all, although not `paid`.
        TooManySignals: the file would have more than 2,048.
    """
    item = find_item(tx, case, ordinal)
    why = _why_withheld(tx, item.id, part)
    if item.awaiting_after != after:
        if not _is_repeated(tx, item, after, part):
            raise PartOutOfOrder
    elif not paid:
        raise PartOutOfOrder
    else:
        check_length(after, part.sent)
        forget_withdrawals(tx, [part])
        tx.signals.add([_new_signals(part, why, now)], hour(now))
        if why:
            tx.reviews.add(why, item.id, 1, hour(now))
        tx.cases.set_awaiting_after(item.id, after + part.sent if part.more else None)
    expires = renew(tx, tx.cases.read(case), months=months, now=now)
    return SignalsAdded(
        expires=moment(expires),
        item=ordinal,
        accepted=0 if why else part.accepted,
        refused=_refused(part, why),
    )


def _why_withheld(tx: Transaction, item: int, part: File) -> str | None:
    """Return the kind of question for which a further part of a file is held back; None if none.

    What the file has already continues to match.
    """
    for kind in (QUARANTINED, RESUBMITTED):
        asked = tx.reviews.last(kind, item)
        if asked is not None and asked.state == OPEN:
            return kind
    if part.lawful:
        return QUARANTINED
    return RESUBMITTED if on_hold_by_verdicts(tx, [part])[0] else None


def _is_repeated(tx: Transaction, item: AnyRow, after: int, part: File) -> bool:
    """Whether this part was sent before. Values purged since then are taken to be equal."""
    if item.awaiting_after is not None and after >= item.awaiting_after:
        return False
    known = tx.signals.lookups(item.id, after, after + part.sent)
    return all(
        row["ordinal"] in known and known[row["ordinal"]] in {None, row["lookup"]}
        for row in part.rows
    )


def withdraw(
    store: Store,
    find: Callable[[Transaction], int],
    ordinal: int | None,
    *,
    now: Callable[[], datetime],
) -> Withdrawal:
    """Withdraw one file, or all files and the case. It is idempotent.

    A large case is withdrawn in several transactions, so that other writers need not wait long.
    The function returns when nothing is left; if the process ends before, a repeated request
    continues.

    Args:
        store: the store.
        find: returns the row number of the case. It is called in each transaction, since an
            advocate's case may be handed over in between.
        ordinal: number of the file in the case; None for all files.
        now: returns the time.

    Raises:
        ItemUnknown: the case never had a file with this number.
        OSError: everything is withdrawn, but the journal of withdrawals cannot be written.
    """
    withdrawn, failure = 0, None
    while True:
        with store.read() as tx:
            tags = make_tags(tx.vault, tx.cases.list_live_signals(find(tx), ordinal, _AT_ONCE))
        done = True
        try:
            with store.write() as tx:
                case = find(tx)
                if ordinal is not None and not tx.cases.has_item(case, ordinal):
                    raise ItemUnknown
                tx.removed = True  # also if repeated: a response promises that the journal has it
                files, done = tx.cases.withdraw_some(
                    case, ordinal, hour(now()), limit=_AT_ONCE, remember=True, tags=tags
                )
                withdrawn += files
                if done:
                    remaining, state = _close_if_empty(tx, case, hour(now()))
        except OSError as error:
            # Committed, but the journal of withdrawals could not be written. The rest of the case
            # must not keep matching because of that.
            failure = error
        if done:
            break
    if failure is not None:
        raise failure
    return Withdrawal(withdrawn=withdrawn, remaining=remaining, state=state)


def _close_if_empty(tx: Transaction, case: int, now: Hour) -> tuple[int, CaseState]:
    """Close an open case without files; return how many files are left, and its state."""
    remaining, _ = tx.cases.count_items(case)
    state = CaseState(tx.cases.read(case).state)
    if state is CaseState.OPEN and not remaining:
        state = CaseState.WITHDRAWN
        tx.cases.update(case, state=state.value, closed=now)
    return remaining, state


def renew(tx: Transaction, row: AnyRow, *, months: int, now: datetime) -> Hour:
    """Extend an open case to its full time after this visit; return when it expires.

    Args:
        tx: a write transaction.
        row: the case, as read in this transaction.
        months: how long a case stays open after a visit.
        now: the time.
    """
    expires = _months_after(now, months)
    if not _extends(row, expires):
        return Hour(row.expires)
    tx.cases.update(row.id, expires=expires)
    return expires


def _extends(row: AnyRow, expires: Hour) -> bool:
    """Whether a visit extends a case until this hour."""
    return bool(row.state == CaseState.OPEN and row.expires < expires)


def visit(
    store: Store, find: Callable[[Transaction], int], *, months: int, now: datetime
) -> CaseStatus:
    """Renew a case because its holder views it, and return its status.

    Only a visit that extends the case needs a write transaction.

    Args:
        store: the store.
        find: returns the row number of the case. It is called again to read the case, since an
            advocate's case may be handed over in between.
        months: how long a case stays open after a visit.
        now: the time.
    """
    with store.read() as tx:
        case = find(tx)
        due = _extends(tx.cases.read(case), _months_after(now, months))
    if due:
        with store.write() as tx:
            renew(tx, tx.cases.read(case), months=months, now=now)
    with store.read() as tx:
        return status(tx, find(tx), now=now)


def _months_after(now: datetime, months: int) -> Hour:
    """Return the hour some calendar months later; the day is clamped to the month's last."""
    years, month = divmod(now.month - 1 + months, 12)
    year = now.year + years
    day = min(now.day, calendar.monthrange(year, month + 1)[1])
    return hour(now.replace(year=year, month=month + 1, day=day))
