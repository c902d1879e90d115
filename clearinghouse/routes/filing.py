"""Use cases shared by the survivors' and the advocates' routes: add files and hashes, withdraw."""

from collections.abc import Callable, Sequence
from datetime import datetime

from fastapi import Response

from clearinghouse.cases import lifecycle
from clearinghouse.cases.idempotency import Attempt, Reply
from clearinghouse.cases.intake import Intake, prepare, prepare_part, submit
from clearinghouse.database.schema import AnyRow
from clearinghouse.database.transaction import Transaction
from clearinghouse.routes.dependencies import json_response
from clearinghouse.service import Service
from nciihash.wire import AddSignals, ItemIn, Withdrawal

Act = Callable[[Transaction, Intake], Reply]
Find = Callable[[Transaction], int]


def file_items(
    service: Service, attempt: Attempt | None, items: Sequence[ItemIn], act: Act, *, now: datetime
) -> Response:
    """Prepare files, store them by `act` in one transaction, and wake the readers of the feed."""

    def prepare_items() -> Intake:
        return prepare(service.store, service.lawful, items, service.settings.matched)

    return _submit(service, attempt, prepare_items, act, now)


def add_items(
    service: Service,
    attempt: Attempt | None,
    items: Sequence[ItemIn],
    find: Find,
    *,
    now: datetime,
) -> Response:
    """Add files to an open case.

    Args:
        service: the service.
        attempt: from the idempotency key of the request; None if it has none.
        items: the files.
        find: returns the row number of the case.
        now: the time.
    """
    months = service.settings.case_months

    def act(tx: Transaction, intake: Intake) -> Reply:
        added = lifecycle.add_items(tx, find(tx), intake, months=months, now=now)
        return Reply.of(201, added)

    return file_items(service, attempt, items, act, now=now)


def add_signals(
    service: Service,
    attempt: Attempt | None,
    file: AnyRow,
    body: AddSignals,
    find: Find,
    *,
    paid: bool,
    now: datetime,
) -> Response:
    """Add the next hashes of a long video.

    Args:
        service: the service.
        attempt: from the idempotency key of the request; None if it has none.
        file: the row of the file.
        body: the request.
        find: returns the row number of the case.
        paid: whether the proof of work was spent, or none is required.
        now: the time.
    """
    months = service.settings.case_months

    def prepare_signals() -> Intake:
        part = ItemIn(media=file.media, signals=body.signals, more=body.more)
        return prepare_part(
            service.store, service.lawful, file.id, body.after, part, service.settings.matched
        )

    def act(tx: Transaction, intake: Intake) -> Reply:
        [part] = intake.files
        added = lifecycle.add_signals(
            tx, find(tx), file.ordinal, body.after, part, paid=paid, months=months, now=now
        )
        return Reply.of(201, added)

    return _submit(service, attempt, prepare_signals, act, now)


def _submit(
    service: Service,
    attempt: Attempt | None,
    prepare_intake: Callable[[], Intake],
    act: Act,
    now: datetime,
) -> Response:
    reply = submit(service.store, attempt, now, prepare_intake, act)
    service.waiters.poke()
    return json_response(reply)


def withdraw(service: Service, find: Find, item: int | None) -> Withdrawal:
    """Withdraw a file, or the whole case if `item` is None, and wake the readers of the feed."""
    withdrawal = lifecycle.withdraw(service.store, find, item, now=service.clock)
    service.waiters.poke()
    return withdrawal
