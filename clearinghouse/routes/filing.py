"""What survivors and advocates do alike: send files and parts of long videos, and withdraw."""

from collections.abc import Callable, Sequence
from datetime import datetime

from fastapi import Response

from clearinghouse.cases import lifecycle
from clearinghouse.cases.idempotency import Attempt, Reply
from clearinghouse.cases.intake import Intake, prepare, prepare_part, submit
from clearinghouse.database.schema import AnyRow
from clearinghouse.database.transaction import Transaction
from clearinghouse.routes.dependencies import answer
from clearinghouse.service import Service
from nciihash.wire import AddSignals, ItemIn, Withdrawal

Act = Callable[[Transaction, Intake], Reply]
Find = Callable[[Transaction], int]


def file_items(
    serving: Service, attempt: Attempt | None, items: Sequence[ItemIn], act: Act, *, now: datetime
) -> Response:
    """Make files ready, file them by `act` and wake those who follow the feed."""

    def make_ready() -> Intake:
        return prepare(serving.store, serving.lawful, items, serving.settings.matched)

    return _filed(serving, attempt, make_ready, act, now)


def add_items(
    serving: Service,
    attempt: Attempt | None,
    items: Sequence[ItemIn],
    find: Find,
    *,
    now: datetime,
) -> Response:
    """Add files to an open case.

    Args:
        serving: the service.
        attempt: the idempotency key of the request.
        items: the files.
        find: returns the case's row number.
        now: the time.
    """
    months = serving.settings.case_months

    def act(tx: Transaction, intake: Intake) -> Reply:
        added = lifecycle.add_items(tx, find(tx), intake, months=months, now=now)
        return Reply.of(201, added)

    return file_items(serving, attempt, items, act, now=now)


def add_signals(
    serving: Service,
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
        serving: the service.
        attempt: the idempotency key of the request.
        file: the row of the file.
        body: the request.
        find: returns the case's row number.
        paid: whether the work that it takes was done, or none is asked.
        now: the time.
    """
    months = serving.settings.case_months

    def make_ready() -> Intake:
        part = ItemIn(media=file.media, signals=body.signals, more=body.more)
        return prepare_part(
            serving.store, serving.lawful, file.id, body.after, part, serving.settings.matched
        )

    def act(tx: Transaction, intake: Intake) -> Reply:
        [part] = intake.files
        added = lifecycle.add_signals(
            tx, find(tx), file.ordinal, body.after, part, paid=paid, months=months, now=now
        )
        return Reply.of(201, added)

    return _filed(serving, attempt, make_ready, act, now)


def _filed(
    serving: Service,
    attempt: Attempt | None,
    make_ready: Callable[[], Intake],
    act: Act,
    now: datetime,
) -> Response:
    reply = submit(serving.store, attempt, now, make_ready, act)
    serving.waiters.poke()
    return answer(reply)


def withdraw(serving: Service, find: Find, item: int | None) -> Withdrawal:
    """Withdraw a file or a whole case, and wake those who follow the feed."""
    withdrawal = lifecycle.withdraw(serving.store, find, item, now=serving.clock)
    serving.waiters.poke()
    return withdrawal
