"""Helplines' advocates: their keys, the cases that they open for others, and handing these over.

The person's consent is recorded as a yes with its hour; no name, no contact. Until it is handed
over, a case has no case number and no passphrase, so that only the advocate's key leads to it. For
the hand-over she gets a code, good once and for a week, and passes it on. Whoever enters it gets a
new case number and passphrase, and in that moment the advocate's way to the case ends: what joined
the two is deleted. A code that was used by somebody else shows, since it works only once.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from clearinghouse.cases import lifecycle
from clearinghouse.cases.intake import Intake
from clearinghouse.cases.passphrases import mint_number, read_number
from clearinghouse.database import audit
from clearinghouse.database.audit import Act
from clearinghouse.database.schema import AnyRow
from clearinghouse.database.store import Store
from clearinghouse.database.transaction import Transaction
from clearinghouse.errors import (
    CaseUnknown,
    ClearinghouseError,
    CodeUnknown,
    ConsentMissing,
    CredentialsMissing,
    CredentialsWrong,
)
from clearinghouse.platforms.keys import KEY_DAYS
from clearinghouse.times import hour, moment
from nciihash.wire import CaseOpened, CaseState, ItemReceipt, Reason
from nciihash.wire.advocates import (
    CLOCK_HOURS,
    AssistedCase,
    AssistedCases,
    HandOver,
    OpenedForOther,
    OpenForOther,
)

CODE_DAYS: Final = 7
_PREFIX: Final = "nciia_"  # makes a leaked key findable by secret scanners
_NO_VERIFIER: Final = "-"  # what no passphrase passes, since it is no Argon2 hash


class AdvocateExists(ClearinghouseError):
    """There is an advocate of this name: rotate the key instead."""


class AdvocateUnknown(ClearinghouseError):
    """There is no advocate of this name: `advocate list` shows them."""


@dataclass(frozen=True, slots=True)
class Advocate:
    """An advocate as her key let her in."""

    number: int


# --- keys ------------------------------------------------------------------------------------


def add(store: Store, name: str, now: datetime) -> str:
    """Add an advocate, such as a helpline, and give the key, which is shown this once.

    Raises:
        AdvocateExists: there is one of this name.
    """
    with store.write() as tx:
        if tx.advocates.find(name) is not None:
            raise AdvocateExists(
                f"There is an advocate of this name. `clearinghouse advocate rotate {name}` gives "
                "a new key."
            )
        key, values = _new_key(tx, now)
        tx.advocates.add(name=name, added=hour(now), **values)
        audit.record(tx.vault, tx, Act.ADVOCATE_KEY, name, count=1, hour=hour(now))
    return key


def rotate(store: Store, name: str, now: datetime) -> str:
    """Give an advocate a new key; the old one ends at once, and the cases stay.

    Raises:
        AdvocateUnknown: none has this name.
    """
    with store.write() as tx:
        key, values = _new_key(tx, now)
        tx.advocates.update(_named(tx, name).id, revoked=None, **values)
        audit.record(tx.vault, tx, Act.ADVOCATE_KEY, name, count=1, hour=hour(now))
    return key


def revoke(store: Store, name: str, now: datetime) -> None:
    """End an advocate's key. Her cases go on; a new key leads to them again.

    Raises:
        AdvocateUnknown: none has this name.
    """
    with store.write() as tx:
        tx.advocates.update(_named(tx, name).id, revoked=hour(now))
        audit.record(tx.vault, tx, Act.ADVOCATE_REVOKED, name, count=1, hour=hour(now))


def _named(tx: Transaction, name: str) -> AnyRow:
    row = tx.advocates.find(name)
    if row is None:
        raise AdvocateUnknown("There is no advocate of this name.")
    return row


def _new_key(tx: Transaction, now: datetime) -> tuple[str, dict[str, bytes | int]]:
    key = _PREFIX + secrets.token_urlsafe(32)
    expires = hour(now + timedelta(days=KEY_DAYS))
    return key, {"lookup": tx.vault.lookup("advocate", key.encode()), "expires": expires}


def admit(store: Store, key: str | None, now: datetime) -> Advocate:
    """Let an advocate in by her key.

    Raises:
        CredentialsMissing, CredentialsWrong: no key, or one that is unknown, revoked or expired.
    """
    if not key:
        raise CredentialsMissing
    with store.read() as tx:
        row = tx.advocates.find_by_key(tx.vault.lookup("advocate", key.strip().encode()))
    if row is None or row.revoked is not None or row.expires <= now.timestamp():
        raise CredentialsWrong
    return Advocate(row.id)


# --- cases -----------------------------------------------------------------------------------


def open_for_other(
    tx: Transaction,
    advocate: Advocate,
    request: OpenForOther,
    intake: Intake,
    *,
    months: int,
    now: datetime,
) -> OpenedForOther:
    """Open a case in an advocate's hands.

    Raises:
        ConsentMissing: the person did not agree.
        DeclarationMissing, NothingAccepted: as `cases.open_case`.
    """
    if not request.consent:
        raise ConsentMissing
    lookup = secrets.token_bytes(32)  # no case number leads to it
    opened = lifecycle.open_case(
        tx,
        request.declaration,
        request.reason,
        intake,
        lookup=lookup,
        number="",
        passphrase="",
        verifier=_NO_VERIFIER,
        months=months,
        now=now,
    )
    row = tx.cases.find(lookup)
    assert row is not None  # noqa: S101 - it was inserted a moment ago
    reference = mint_number()[:4]
    while tx.advocates.find_case(advocate.number, reference) is not None:
        reference = mint_number()[:4]
    tx.advocates.add_case(
        case_id=row.id, advocate_id=advocate.number, reference=reference, consent=hour(now)
    )
    return OpenedForOther(reference=reference, expires=opened.expires, items=opened.items)


def find(tx: Transaction, advocate: Advocate, reference: str) -> int:
    """Give the row number of a case in an advocate's hands.

    Raises:
        CaseUnknown: she has none with this reference.
    """
    row = tx.advocates.find_case(advocate.number, reference.upper())
    if row is None:
        raise CaseUnknown
    return int(row.case_id)


def list_cases(tx: Transaction, advocate: Advocate, *, now: datetime) -> AssistedCases:
    """List the open cases in an advocate's hands, with their clocks."""
    listed = []
    for row in tx.advocates.cases(advocate.number):
        waits = row.code_expires is not None and row.code_expires > now.timestamp()
        reported = None if row.reported is None else moment(row.reported)
        listed.append(
            AssistedCase(
                reference=row.reference,
                reason=Reason(row.reason),
                opened=moment(row.opened),
                expires=moment(row.expires),
                consent=moment(row.consent),
                files=row.files,
                reported=reported,
                due=None if reported is None else reported + timedelta(hours=CLOCK_HOURS),
                code_until=moment(row.code_expires) if waits else None,
            )
        )
    return AssistedCases(cases=tuple(listed))


def note_report(tx: Transaction, case: int, *, now: datetime) -> None:
    """Start the clock: a site was sent a notice in this hour."""
    tx.advocates.update_case(case, reported=hour(now))


# --- handing over ----------------------------------------------------------------------------


def hand_over(store: Store, tx: Transaction, case: int, *, now: datetime) -> HandOver:
    """Make the code by which the person takes the case over; an earlier one ends."""
    code = mint_number()
    until = hour(now + timedelta(days=CODE_DAYS))
    tx.advocates.update_case(case, code=_code_lookup(store, code), code_expires=until)
    return HandOver(code=code, until=moment(until))


def claimable(store: Store, tx: Transaction, code: str, *, now: datetime) -> int:
    """Give the case that a code hands over.

    Raises:
        CodeUnknown: it was never given, was used, or has run out; or the case is closed.
    """
    row = tx.advocates.find_case_by_code(_code_lookup(store, read_number(code) or ""))
    if row is None or row.code_expires is None or row.code_expires <= now.timestamp():
        raise CodeUnknown
    if tx.cases.read(row.case_id).state != CaseState.OPEN:
        raise CodeUnknown
    return int(row.case_id)


def claim(
    store: Store,
    tx: Transaction,
    code: str,
    *,
    number: str,
    passphrase: str,
    verifier: str,
    months: int,
    now: datetime,
) -> CaseOpened:
    """Hand a case over: give it a number and a passphrase, and end the advocate's way to it.

    Raises:
        CodeUnknown: as `claimable`.
    """
    case = claimable(store, tx, code, now=now)
    tx.cases.update(case, lookup=lifecycle.case_lookup(store, number), verifier=verifier)
    tx.advocates.update_case(
        case, advocate_id=None, reference=None, reported=None, code=None, code_expires=None
    )
    expires = lifecycle.renew(tx, tx.cases.read(case), months=months, now=now)
    return CaseOpened(
        case=number,
        passphrase=passphrase,
        expires=moment(expires),
        items=tuple(
            ItemReceipt(item=row.ordinal, accepted=row.signals)
            for row in tx.cases.items(case)
            if row.withdrawn is None
        ),
    )


def _code_lookup(store: Store, code: str) -> bytes:
    return store.vault.lookup("hand-over", code.encode())
