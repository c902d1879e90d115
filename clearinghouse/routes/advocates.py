"""The advocates' door: a helpline's key, and cases by reference."""

from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from clearinghouse.cases import advocates, lifecycle
from clearinghouse.cases.advocates import Advocate
from clearinghouse.cases.idempotency import Reply, earlier, once
from clearinghouse.cases.intake import Intake
from clearinghouse.database.transaction import Transaction
from clearinghouse.routes import filing
from clearinghouse.routes.dependencies import Repeatable, Serving, answer, documented, parsed
from nciihash.wire import (
    AddItems,
    AddSignals,
    CaseStatus,
    ItemsAdded,
    Problem,
    SignalsAdded,
    Withdrawal,
)
from nciihash.wire.advocates import AssistedCases, HandOver, OpenedForOther, OpenForOther

_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": Problem} for status in (400, 401, 408, 413, 415, 422)
}
_UNKNOWN: Final[dict[int | str, dict[str, Any]]] = {404: {"model": Problem}}
_CLOSED: Final[dict[int | str, dict[str, Any]]] = {**_UNKNOWN, 409: {"model": Problem}}

router = APIRouter(prefix="/v1/advocate", tags=["advocates"], responses=_PROBLEMS)

_bearer = HTTPBearer(
    scheme_name="Advocate key",
    description="The key that the operator gave to the helpline.",
    auto_error=False,
)


def _admit(
    serving: Serving, bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Advocate:
    key = bearer.credentials if bearer else None
    return advocates.admit(serving.store, key, serving.clock())


Admitted = Annotated[Advocate, Depends(_admit)]
Referred = Annotated[
    str, Path(pattern=r"^[0-9A-Za-z]{4}$", description="As the list shows it.", examples=["7KQ2"])
]

Numbered = Annotated[int, Path(ge=1, le=2**31 - 1, description="The file's number in the case.")]


@router.post(
    "/cases", status_code=201, response_model=OpenedForOther, openapi_extra=documented(OpenForOther)
)
def open_case(
    advocate: Admitted,  # first, so that nothing is read for a stranger
    body: Annotated[OpenForOther, Depends(parsed(OpenForOther))],
    serving: Serving,
    repeat: Repeatable,
) -> Response:
    """Open a case for somebody who agreed. No proof of work is asked for."""
    now = serving.clock()

    def act(tx: Transaction, intake: Intake) -> Reply:
        opened = advocates.open_for_other(
            tx,
            advocate,
            body,
            intake,
            months=serving.settings.case_months,
            now=now,
        )
        return Reply.of(201, opened)

    return filing.file_items(serving, repeat, body.items, act, now=now)


@router.get("/cases")
def list_cases(advocate: Admitted, serving: Serving) -> AssistedCases:
    """List the open cases in your hands, with their clocks."""
    with serving.store.read() as tx:
        return advocates.list_cases(tx, advocate, now=serving.clock())


@router.get("/cases/{reference}", responses=_UNKNOWN)
def read_case(reference: Referred, advocate: Admitted, serving: Serving) -> CaseStatus:
    """Tell what each platform did about each file. Looking renews the case."""
    return lifecycle.visit(
        serving.store,
        lambda tx: advocates.find(tx, advocate, reference),
        months=serving.settings.case_months,
        now=serving.clock(),
    )


@router.post(
    "/cases/{reference}/items",
    status_code=201,
    response_model=ItemsAdded,
    responses=_CLOSED,
    openapi_extra=documented(AddItems),
)
def add_items(
    reference: Referred,
    advocate: Admitted,
    body: Annotated[AddItems, Depends(parsed(AddItems))],
    serving: Serving,
    repeat: Repeatable,
) -> Response:
    """Add files to an open case, up to 1,000 in all."""
    find = _finding(advocate, reference)
    return filing.add_items(serving, repeat, body.items, find, now=serving.clock())


@router.post(
    "/cases/{reference}/items/{item}/signals",
    status_code=201,
    response_model=SignalsAdded,
    responses=_CLOSED,
    openapi_extra=documented(AddSignals),
)
def add_signals(
    reference: Referred,
    item: Numbered,
    advocate: Admitted,
    body: Annotated[AddSignals, Depends(parsed(AddSignals))],
    serving: Serving,
    repeat: Repeatable,
) -> Response:
    """Add the next hashes of a long video, whose first ones were sent with `more`."""
    if repeat is not None and (known := earlier(serving.store, repeat)) is not None:
        return answer(known)
    find = _finding(advocate, reference)
    with serving.store.read() as tx:
        file = lifecycle.find_item(tx, find(tx), item)
    return filing.add_signals(serving, repeat, file, body, find, paid=True, now=serving.clock())


@router.delete("/cases/{reference}/items/{item}", responses=_UNKNOWN)
def withdraw_item(
    reference: Referred,
    item: Numbered,
    advocate: Admitted,
    serving: Serving,
) -> Withdrawal:
    """Withdraw one file."""
    return filing.withdraw(serving, _finding(advocate, reference), item)


@router.delete("/cases/{reference}", responses=_UNKNOWN)
def withdraw_case(reference: Referred, advocate: Admitted, serving: Serving) -> Withdrawal:
    """Withdraw all files and close the case. Repeating it is safe."""
    return filing.withdraw(serving, _finding(advocate, reference), None)


def _finding(advocate: Advocate, reference: str) -> Callable[[Transaction], int]:
    return lambda tx: advocates.find(tx, advocate, reference)


@router.post("/cases/{reference}/reported", responses=_UNKNOWN)
def note_report(reference: Referred, advocate: Admitted, serving: Serving) -> AssistedCases:
    """Start the case's clock of 48 hours: a site was sent a notice in this hour."""
    now = serving.clock()
    with serving.store.write() as tx:
        advocates.note_report(tx, advocates.find(tx, advocate, reference), now=now)
        return advocates.list_cases(tx, advocate, now=now)


@router.post("/cases/{reference}/handover", response_model=HandOver, responses=_UNKNOWN)
def hand_over(
    reference: Referred, advocate: Admitted, serving: Serving, repeat: Repeatable
) -> Response:
    """Make the code by which the person takes the case over, on a device of their own."""
    now = serving.clock()

    def act(tx: Transaction) -> Reply:
        case = advocates.find(tx, advocate, reference)
        return Reply.of(200, advocates.hand_over(serving.store, tx, case, now=now))

    return answer(once(serving.store, repeat, now, act))
