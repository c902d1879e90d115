"""Advocates at helplines: their keys, the cases that they open for others, and the handover.

Only the hour of the person's consent is recorded, without name or contact. Until it is handed over,
a case has no case number and no passphrase, and only the advocate's key opens it. For the handover
she gets a code, valid once and for a week, and passes it on. The person who enters it
gets a new case number and passphrase; at that moment the advocate's access ends, and the link
between her and the case is deleted. A code that somebody else has used is noticed, since it works
only once.
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
    InvalidCredentials,
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
_NO_VERIFIER: Final = "-"  # not an Argon2 hash, so no passphrase matches it


class AdvocateExists(ClearinghouseError):
    """There is an advocate with this name; rotate the key instead."""


class AdvocateUnknown(ClearinghouseError):
    """No advocate has this name; `advocate list` shows them."""


@dataclass(frozen=True, slots=True)
class Advocate:
    """An authenticated advocate.

    Attributes:
        number: her row number.
    """

    number: int


# --- keys ------------------------------------------------------------------------------------


def add(store: Store, name: str, now: datetime) -> str:
    """Add an advocate, such as a helpline; return the key, which is shown only this once.

    Raises:
        AdvocateExists: the name is taken.
    """
    with store.write() as tx:
        if tx.advocates.find(name) is not None:
            raise AdvocateExists(
                "There is already an advocate with this name. For a new key, run "
                f"`clearinghouse advocate rotate {name}`."
            )
        key, values = _new_key(tx, now)
        tx.advocates.add(name=name, added=hour(now), **values)
        audit.record(tx.vault, tx, Act.ADVOCATE_KEY, name, count=1, hour=hour(now))
    return key


def rotate(store: Store, name: str, now: datetime) -> str:
    """Return a new key for an advocate. The old one stops working at once; her cases stay.

    Raises:
        AdvocateUnknown: no advocate has this name.
    """
    with store.write() as tx:
        key, values = _new_key(tx, now)
        tx.advocates.update(_named(tx, name).id, revoked=None, **values)
        audit.record(tx.vault, tx, Act.ADVOCATE_KEY, name, count=1, hour=hour(now))
    return key


def revoke(store: Store, name: str, now: datetime) -> None:
    """Revoke an advocate's key. Her cases stay open, and a new key opens them again.

    Raises:
        AdvocateUnknown: no advocate has this name.
    """
    with store.write() as tx:
        tx.advocates.update(_named(tx, name).id, revoked=hour(now))
        audit.record(tx.vault, tx, Act.ADVOCATE_REVOKED, name, count=1, hour=hour(now))


def _named(tx: Transaction, name: str) -> AnyRow:
    row = tx.advocates.find(name)
    if row is None:
        raise AdvocateUnknown(
            "No advocate has this name. List them with `clearinghouse advocate list`."
        )
    return row


def _new_key(tx: Transaction, now: datetime) -> tuple[str, dict[str, bytes | int]]:
    key = _PREFIX + secrets.token_urlsafe(32)
    expires = hour(now + timedelta(days=KEY_DAYS))
    return key, {"lookup": tx.vault.lookup("advocate", key.encode()), "expires": expires}


def authenticate(store: Store, key: str | None, now: datetime) -> Advocate:
    """Authenticate an advocate by her key.

    Raises:
        CredentialsMissing: there is no key.
        InvalidCredentials: the key is unknown, revoked or expired.
    """
    if not key:
        raise CredentialsMissing
    with store.read() as tx:
        row = tx.advocates.find_by_key(tx.vault.lookup("advocate", key.strip().encode()))
    if row is None or row.revoked is not None or row.expires <= now.timestamp():
        raise InvalidCredentials
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
    """Open a case for somebody else, under an advocate's reference.

    Raises:
        ConsentMissing: the request does not state that the person agreed.
        DeclarationMissing, NothingAccepted: as `lifecycle.open_case`.
    """
    if not request.consent:
        raise ConsentMissing
    lookup = secrets.token_bytes(32)  # random: no case number has this value
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
    assert row is not None  # noqa: S101 - it was just inserted
    reference = mint_number()[:4]
    while tx.advocates.find_case(advocate.number, reference) is not None:
        reference = mint_number()[:4]
    tx.advocates.add_case(
        case_id=row.id, advocate_id=advocate.number, reference=reference, consent=hour(now)
    )
    return OpenedForOther(reference=reference, expires=opened.expires, items=opened.items)


def find(tx: Transaction, advocate: Advocate, reference: str) -> int:
    """Return the row number of an advocate's case.

    Raises:
        CaseUnknown: she has no case with this reference.
    """
    row = tx.advocates.find_case(advocate.number, reference.upper())
    if row is None:
        raise CaseUnknown
    return int(row.case_id)


def list_cases(tx: Transaction, advocate: Advocate, *, now: datetime) -> AssistedCases:
    """Return an advocate's open cases, with the deadlines of notices sent to sites."""
    listed = []
    for row in tx.advocates.cases(advocate.number):
        code_valid = row.code_expires is not None and row.code_expires > now.timestamp()
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
                code_until=moment(row.code_expires) if code_valid else None,
            )
        )
    return AssistedCases(cases=tuple(listed))


def note_report(tx: Transaction, case: int, *, now: datetime) -> None:
    """Record that a site was sent a notice in this hour, which starts its deadline."""
    tx.advocates.update_case(case, reported=hour(now))


# --- handover --------------------------------------------------------------------------------


def hand_over(store: Store, tx: Transaction, case: int, *, now: datetime) -> HandOver:
    """Return a new code with which the person can claim the case. An earlier one stops working."""
    code = mint_number()
    until = hour(now + timedelta(days=CODE_DAYS))
    tx.advocates.update_case(case, code=_code_lookup(store, code), code_expires=until)
    return HandOver(code=code, until=moment(until))


def find_claimable(store: Store, tx: Transaction, code: str, *, now: datetime) -> int:
    """Return the row number of the case that a code hands over.

    Raises:
        CodeUnknown: the code is unknown, used or expired, or the case is closed.
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
    """Hand a case over: set its number and passphrase, and end the advocate's access.

    Raises:
        CodeUnknown: as `find_claimable`.
    """
    case = find_claimable(store, tx, code, now=now)
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
