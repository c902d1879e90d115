"""The advocates' API: authorized by a helpline's key; cases are identified by references."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from clearinghouse.cases import advocates, lifecycle
from clearinghouse.cases.advocates import Advocate
from clearinghouse.cases.idempotency import Reply, find_reply, once
from clearinghouse.cases.intake import Intake
from clearinghouse.database.transaction import Transaction
from clearinghouse.routes import filing
from clearinghouse.routes.dependencies import (
    AttemptDep,
    ServiceDep,
    documented,
    documented_problems,
    json_response,
    parsed,
    problems,
)
from nciihash.wire import (
    AddItems,
    AddSignals,
    CaseStatus,
    ItemsAdded,
    SignalsAdded,
    Withdrawal,
)
from nciihash.wire.advocates import AssistedCases, HandOver, OpenedForOther, OpenForOther

_CASE_UNKNOWN = documented_problems(
    {404: "`case_unknown`: this key has no case with this reference."}
)
_ITEM_UNKNOWN = documented_problems(
    {
        404: "`case_unknown`: this key has no case with this reference. `item_unknown`: the case "
        "has no file with this number."
    }
)
_CLOSED = documented_problems({409: "`case_closed`: the case was withdrawn or has expired."})
_NOT_NEXT = documented_problems(
    {
        409: "`not_the_next_part`: the file is complete, or the hashes do not follow the ones sent "
        "before. `case_closed`: the case was withdrawn or has expired."
    }
)

router = APIRouter(
    prefix="/v1/advocate",
    tags=["advocates"],
    responses=problems(400, 401, 408, 413, 415, 422, 503),
)

_bearer = HTTPBearer(
    scheme_name="advocate_key",
    description="The helpline's key, which the operator of the clearinghouse issues.",
    auto_error=False,
)


def _authenticate(
    service: ServiceDep, bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Advocate:
    key = bearer.credentials if bearer else None
    return advocates.authenticate(service.store, key, service.clock())


CurrentAdvocate = Annotated[Advocate, Depends(_authenticate)]
CaseReference = Annotated[
    str,
    Path(
        pattern=r"^[0-9A-Za-z]{4}$",
        description="The reference of the case, as `GET /v1/advocate/cases` lists it.",
        examples=["7KQ2"],
    ),
]
ItemNumber = Annotated[
    int, Path(ge=1, le=2**31 - 1, description="The number of the file in the case, from 1.")
]


@router.post(
    "/cases",
    summary="Open a case for somebody",
    response_description="The reference of the case, and a receipt for each file.",
    status_code=201,
    response_model=OpenedForOther,
    openapi_extra=documented(OpenForOther),
)
def open_case(
    advocate: CurrentAdvocate,  # first: no body is parsed without valid credentials
    body: Annotated[OpenForOther, Depends(parsed(OpenForOther))],
    service: ServiceDep,
    attempt: AttemptDep,
) -> Response:
    """Open a case on behalf of the person depicted, who has agreed.

    Up to 1,024 hashes per request. `consent` must be true, and the declaration must state that the
    person is an adult and is depicted. No name, no contact and no proof of work is needed. Send an
    `Idempotency-Key`: a retry then opens no second case.
    """
    now = service.clock()

    def act(tx: Transaction, intake: Intake) -> Reply:
        opened = advocates.open_for_other(
            tx,
            advocate,
            body,
            intake,
            months=service.settings.case_months,
            now=now,
        )
        return Reply.of(201, opened)

    return filing.file_items(service, attempt, body.items, act, now=now)


@router.get("/cases", summary="List cases", response_description="The open cases, oldest first.")
def list_cases(advocate: CurrentAdvocate, service: ServiceDep) -> AssistedCases:
    """Return the open cases of this key that were not handed over, with their 48-hour deadlines."""
    with service.store.read() as tx:
        return advocates.list_cases(tx, advocate, now=service.clock())


@router.get(
    "/cases/{reference}",
    summary="Read a case",
    response_description="The files of the case, and what each platform did about each.",
    responses=_CASE_UNKNOWN,
)
def read_case(
    reference: CaseReference, advocate: CurrentAdvocate, service: ServiceDep
) -> CaseStatus:
    """Return the status of a case, and renew it: it expires two years after the last visit.

    The response is that of `GET /v1/case` for survivors.
    """
    return lifecycle.visit(
        service.store,
        lambda tx: advocates.find(tx, advocate, reference),
        months=service.settings.case_months,
        now=service.clock(),
    )


@router.post(
    "/cases/{reference}/items",
    summary="Add files",
    response_description="A receipt for each file.",
    status_code=201,
    response_model=ItemsAdded,
    responses=_CASE_UNKNOWN | _CLOSED,
    openapi_extra=documented(AddItems),
)
def add_items(
    reference: CaseReference,
    advocate: CurrentAdvocate,
    body: Annotated[AddItems, Depends(parsed(AddItems))],
    service: ServiceDep,
    attempt: AttemptDep,
) -> Response:
    """Add files to an open case, up to 1,024 hashes per request and 1,000 files per case.

    Send an `Idempotency-Key`: a retry then adds nothing.
    """
    find = _finder(advocate, reference)
    return filing.add_items(service, attempt, body.items, find, now=service.clock())


@router.post(
    "/cases/{reference}/items/{item}/signals",
    summary="Add hashes to a video",
    response_description="How many hashes were accepted, and why others were not.",
    status_code=201,
    response_model=SignalsAdded,
    responses=_ITEM_UNKNOWN | _NOT_NEXT,
    openapi_extra=documented(AddSignals),
)
def add_signals(
    reference: CaseReference,
    item: ItemNumber,
    advocate: CurrentAdvocate,
    body: Annotated[AddSignals, Depends(parsed(AddSignals))],
    service: ServiceDep,
    attempt: AttemptDep,
) -> Response:
    """Add the next hashes of a long video, which has more than fit in one request.

    Send the first hashes with the file and set its `more` to true; then send the others here, in
    order. `after` is the number of hashes of the file that were sent before, and `more` is true
    until the last request. A file has at most 2,048 hashes. Retrying a request is safe.
    """
    if attempt is not None and (known := find_reply(service.store, attempt)) is not None:
        return json_response(known)
    find = _finder(advocate, reference)
    with service.store.read() as tx:
        file = lifecycle.find_item(tx, find(tx), item)
    return filing.add_signals(service, attempt, file, body, find, paid=True, now=service.clock())


@router.delete(
    "/cases/{reference}/items/{item}",
    summary="Withdraw a file",
    response_description="How many files were withdrawn, and how many remain.",
    responses=_ITEM_UNKNOWN,
)
def withdraw_item(
    reference: CaseReference,
    item: ItemNumber,
    advocate: CurrentAdvocate,
    service: ServiceDep,
) -> Withdrawal:
    """Withdraw a file: its hashes match nothing from now on, and all platforms get a removal.

    Withdrawing the last file closes the case. The request is idempotent.
    """
    return filing.withdraw(service, _finder(advocate, reference), item)


@router.delete(
    "/cases/{reference}",
    summary="Withdraw a case",
    response_description="How many files were withdrawn, and how many remain.",
    responses=_CASE_UNKNOWN,
)
def withdraw_case(
    reference: CaseReference, advocate: CurrentAdvocate, service: ServiceDep
) -> Withdrawal:
    """Withdraw all files and close the case. The request is idempotent."""
    return filing.withdraw(service, _finder(advocate, reference), None)


def _finder(advocate: Advocate, reference: str) -> Callable[[Transaction], int]:
    return lambda tx: advocates.find(tx, advocate, reference)


@router.post(
    "/cases/{reference}/reported",
    summary="Record that a site was notified",
    response_description="The open cases, oldest first.",
    responses=_CASE_UNKNOWN,
)
def note_report(
    reference: CaseReference, advocate: CurrentAdvocate, service: ServiceDep
) -> AssistedCases:
    """Record that a site was sent a takedown notice in this hour, and start its 48-hour deadline.

    A later report starts the deadline again.
    """
    now = service.clock()
    with service.store.write() as tx:
        advocates.note_report(tx, advocates.find(tx, advocate, reference), now=now)
        return advocates.list_cases(tx, advocate, now=now)


@router.post(
    "/cases/{reference}/handover",
    summary="Create a handover code",
    response_description="The code, and until when it is valid.",
    response_model=HandOver,
    responses=_CASE_UNKNOWN,
)
def hand_over(
    reference: CaseReference, advocate: CurrentAdvocate, service: ServiceDep, attempt: AttemptDep
) -> Response:
    """Create a code with which the person takes over the case on a device of their own.

    The code works once, within seven days, at `POST /v1/claim`. From then on this key has no access
    to the case. A new code replaces an earlier one. Send an `Idempotency-Key`: a retry then returns
    the same code.
    """
    now = service.clock()

    def act(tx: Transaction) -> Reply:
        case = advocates.find(tx, advocate, reference)
        return Reply.of(200, advocates.hand_over(service.store, tx, case, now=now))

    return json_response(once(service.store, attempt, now, act))
