"""The survivors' API: no account, but a case number and a passphrase."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.security import APIKeyHeader
from starlette.concurrency import run_in_threadpool

from clearinghouse.cases import advocates, lifecycle
from clearinghouse.cases.check_queue import CheckQueueFull, Lane
from clearinghouse.cases.idempotency import Attempt, Reply, find_reply, once
from clearinghouse.cases.intake import Intake
from clearinghouse.cases.passphrases import mint_number, mint_passphrase, read_number
from clearinghouse.database.transaction import Transaction
from clearinghouse.errors import CheckWorkNeeded, CredentialsMissing, InvalidCredentials
from clearinghouse.routes import filing
from clearinghouse.routes.dependencies import (
    AttemptDep,
    ServiceDep,
    documented,
    documented_problems,
    find_earlier,
    get_sign_in_work,
    json_response,
    parsed,
    problems,
)
from nciihash.wire import (
    CASE_SCHEME,
    AddItems,
    AddSignals,
    CaseOpened,
    CaseStatus,
    ItemsAdded,
    OpenCase,
    SignalsAdded,
    Withdrawal,
)
from nciihash.wire.advocates import Claim
from nciihash.wire.proof_of_work import SIGNALS_ASKED_MAX, Work, WorkAsked, WorkProblem

_CLOSED = documented_problems({409: "`case_closed`: the case was withdrawn or has expired."})
_NOT_NEXT = documented_problems(
    {
        409: "`not_the_next_part`: the file is complete, or the hashes do not follow the ones sent "
        "before. `case_closed`: the case was withdrawn or has expired."
    }
)
_WORK = documented_problems(
    {
        428: "A proof of work is needed. `work_needed_to_sign_in`: solve `work` and repeat the "
        "request with the solution in the header `Work`. `work_needed`: solve `work`, or get a "
        "challenge from `GET /v1/work`, and repeat the request with the solution in the field "
        "`work`."
    },
    WorkProblem,
)
_ITEM_UNKNOWN = documented_problems({404: "`item_unknown`: the case has no file with this number."})
_CODE_UNKNOWN = documented_problems({404: "`code_unknown`: the code is wrong, used or expired."})

router = APIRouter(
    prefix="/v1",
    tags=["survivors"],
    responses=problems(400, 401, 408, 413, 415, 422, 503, 429),
)


_header = APIKeyHeader(
    name="Authorization",
    scheme_name="case",
    description=f"`Authorization: {CASE_SCHEME} CREDENTIALS`, where CREDENTIALS is the base64 of "
    "`number:passphrase` in UTF-8.",
    auto_error=False,
)


@dataclass(frozen=True, slots=True)
class Holder:
    """An authenticated survivor, by the row number of her case."""

    case: int


async def authenticate(
    request: Request,
    service: ServiceDep,
    authorization: Annotated[str | None, Depends(_header)],
    work: Annotated[Work | None, Depends(get_sign_in_work)],
) -> Holder:
    """Check case number and passphrase; an unknown case takes as long as a wrong passphrase.

    Raises:
        CredentialsMissing: the header is missing or malformed.
        InvalidCredentials: there is no such case, or the passphrase is wrong.
        CheckWorkNeeded: too many checks are waiting, and this request needs a proof of work.
    """
    number, passphrase = _credentials(authorization)
    lookup = lifecycle.case_lookup(service.store, number)
    lane = Lane.WITHDRAWING if request.method == "DELETE" else Lane.OTHERS
    queue, now, effort = service.checks.queue, service.clock(), 0
    if work is not None:
        effort = await run_in_threadpool(
            service.proof_of_work.pay_for_check,
            service.store,
            work,
            queue.effort_required(lane),
            now,
        )

    def find() -> tuple[int, str] | None:
        with service.store.read() as tx:
            row = tx.cases.find(lookup)
            return None if row is None else (row.id, row.verifier)

    found = await run_in_threadpool(find)
    try:
        passed = await service.checks.passes(
            lookup, found[1] if found else None, passphrase, lane=lane, effort=effort
        )
    except CheckQueueFull as full:
        raise CheckWorkNeeded(service.proof_of_work.ask_for_check(full.effort, now)) from None
    if not passed or found is None:
        raise InvalidCredentials
    return Holder(found[0])


def _credentials(header: str | None) -> tuple[str, str]:
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.lower() != CASE_SCHEME.lower():
        raise CredentialsMissing
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except ValueError:  # not base64, or not UTF-8
        raise CredentialsMissing from None
    number, colon, passphrase = text.partition(":")
    normal = read_number(number)
    if not colon or len(passphrase) > 500:
        raise CredentialsMissing
    # a malformed number is looked up too, so that it takes as long
    return normal or number[:64], passphrase


CurrentHolder = Annotated[Holder, Depends(authenticate)]
ItemNumber = Annotated[
    int,
    Path(ge=1, le=2**31 - 1, description="The number of the file in the case, from 1."),
]


@router.get(
    "/work",
    summary="Get the proof of work that a submission needs",
    response_description="The challenge; `challenge` is null if no proof is needed.",
)
def ask_for_work(
    service: ServiceDep,
    signals: Annotated[
        int | None,
        Query(
            ge=1,
            le=SIGNALS_ASKED_MAX,
            description="The number of hashes in the request, of all its files together. The "
            "default is 1,024, the most that a request may have.",
        ),
    ] = None,
    before: Annotated[
        int,
        Query(
            ge=0,
            le=SIGNALS_ASKED_MAX,
            description="The number of hashes that the case has already.",
        ),
    ] = 0,
) -> WorkAsked:
    """Return the proof of work that a request with hashes needs at the moment.

    None is needed in normal operation. Under heavy load, or for a very large case, solve
    `challenge` first and send the solution in the field `work` of the request. It is valid for one
    request, within an hour.

    Needs no credentials.
    """
    return service.proof_of_work.ask(service.store, service.clock(), signals, before)


@router.post(
    "/cases",
    summary="Open a case",
    response_description="The case number, the passphrase and a receipt for each file.",
    status_code=201,
    response_model=CaseOpened,
    responses=_WORK,
    openapi_extra=documented(OpenCase),
)
async def open_case(
    body: Annotated[OpenCase, Depends(parsed(OpenCase))], service: ServiceDep, attempt: AttemptDep
) -> Response:
    """Open a case with the hashes of its first files, up to 1,024 hashes per request.

    The declaration must state that the sender is an adult and is depicted. The response contains
    the case number and the passphrase, which cannot be read or reset later. The receipt of each
    file says how many of its hashes were accepted, and why others were not. From then on the hashes
    match, and platforms receive them.

    Send an `Idempotency-Key`: a retry then returns the same case, and no second one is opened.

    Needs no credentials.
    """
    now = service.clock()

    def check() -> tuple[Attempt | None, Reply | None, int]:
        bare, known = find_earlier(service, attempt, body)
        if known is not None:
            return bare, known, 0
        lifecycle.check_declared(body.declaration)
        signals = lifecycle.check_usable(body.items, service.settings.matched)
        # before the queue: a request without its proof of work must not occupy it
        service.proof_of_work.check(service.store, body.work, signals=signals, now=now)
        return bare, None, signals

    bare, known, signals = await run_in_threadpool(check)
    if known is not None:
        return json_response(known)
    number, passphrase = mint_number(), mint_passphrase()
    lookup = lifecycle.case_lookup(service.store, number)
    with service.checks.opening_slot():
        await run_in_threadpool(
            service.proof_of_work.pay, service.store, body.work, signals=signals, now=now
        )
        verifier = await service.checks.make(passphrase)

    def act(tx: Transaction, intake: Intake) -> Reply:
        opened = lifecycle.open_case(
            tx,
            body.declaration,
            body.reason,
            intake,
            lookup=lookup,
            number=number,
            passphrase=passphrase,
            verifier=verifier,
            months=service.settings.case_months,
            now=now,
        )
        return Reply.of(201, opened)

    return await run_in_threadpool(filing.file_items, service, bare, body.items, act, now=now)


@router.post(
    "/claim",
    summary="Take over a case from an advocate",
    response_description="The case number, the passphrase and a receipt for each file.",
    response_model=CaseOpened,
    responses=_CODE_UNKNOWN,
)
async def claim(body: Claim, service: ServiceDep, attempt: AttemptDep) -> Response:
    """Take over a case that an advocate opened for you, with a handover code.

    The response contains a new case number and passphrase, which cannot be read or reset later. The
    advocate's access ends. A code works once, within seven days. Send an `Idempotency-Key`: a retry
    then returns the same response.

    Needs no credentials.
    """
    now = service.clock()

    def find() -> Reply | int:
        if attempt is not None and (known := find_reply(service.store, attempt)) is not None:
            return known
        with service.store.read() as tx:
            return advocates.find_claimable(service.store, tx, body.code, now=now)

    number, passphrase = mint_number(), mint_passphrase()

    def act(tx: Transaction) -> Reply:
        claimed = advocates.claim(
            service.store,
            tx,
            body.code,
            number=number,
            passphrase=passphrase,
            verifier=verifier,
            months=service.settings.case_months,
            now=now,
        )
        return Reply.of(200, claimed)

    if isinstance(found := await run_in_threadpool(find), Reply):
        return json_response(found)
    # a verifier is expensive: one per code, however many requests send it at the same time
    with service.checks.opening_slot(of=found):
        if isinstance(again := await run_in_threadpool(find), Reply):
            return json_response(again)
        verifier = await service.checks.make(passphrase)
        return json_response(await run_in_threadpool(once, service.store, attempt, now, act))


@router.get(
    "/case",
    summary="Read the case",
    response_description="The files of the case, and what each platform did about each.",
    responses=_WORK,
)
def read_case(holder: CurrentHolder, service: ServiceDep) -> CaseStatus:
    """Return the status of the case, and renew it: it expires two years after the last visit.

    For each file and platform: since when the platform has the hashes, how often uploads matched,
    its verdicts, and since when it has deleted a withdrawn file. Times are rounded to the hour;
    counts are as of the last midnight (UTC), rounded down to a power of ten.

    Needs the case number and the passphrase, like all operations on `/v1/case`.
    """
    return lifecycle.visit(
        service.store,
        lambda _tx: holder.case,
        months=service.settings.case_months,
        now=service.clock(),
    )


@router.post(
    "/case/items",
    summary="Add files",
    response_description="A receipt for each file.",
    status_code=201,
    response_model=ItemsAdded,
    responses=_CLOSED | _WORK,
    openapi_extra=documented(AddItems),
)
def add_items(
    holder: CurrentHolder,  # first: no body is parsed without valid credentials
    body: Annotated[AddItems, Depends(parsed(AddItems))],
    service: ServiceDep,
    attempt: AttemptDep,
) -> Response:
    """Add files to an open case, up to 1,024 hashes per request and 200 files per case.

    The receipt of each file says how many of its hashes were accepted, and why others were not.
    Send an `Idempotency-Key`: a retry then adds nothing.
    """
    now = service.clock()
    attempt, known = find_earlier(service, attempt, body)
    if known is not None:
        return json_response(known)
    with service.store.read() as tx:
        lifecycle.check_capacity(tx, holder.case, len(body.items))
    signals = lifecycle.check_usable(body.items, service.settings.matched)
    service.proof_of_work.pay(service.store, body.work, signals=signals, case=holder.case, now=now)

    return filing.add_items(service, attempt, body.items, _finder(holder), now=now)


@router.post(
    "/case/items/{item}/signals",
    summary="Add hashes to a video",
    response_description="How many hashes were accepted, and why others were not.",
    status_code=201,
    response_model=SignalsAdded,
    responses=_NOT_NEXT | _ITEM_UNKNOWN | _WORK,
    openapi_extra=documented(AddSignals),
)
def add_signals(
    item: ItemNumber,
    holder: CurrentHolder,
    body: Annotated[AddSignals, Depends(parsed(AddSignals))],
    service: ServiceDep,
    attempt: AttemptDep,
) -> Response:
    """Add the next hashes of a long video, which has more than fit in one request.

    Send the first hashes with the file and set its `more` to true; then send the others here, in
    order. `after` is the number of hashes of the file that were sent before, and `more` is true
    until the last request. A file has at most 2,048 hashes. Retrying a request is safe.
    """
    now = service.clock()
    attempt, known = find_earlier(service, attempt, body)
    if known is not None:
        return json_response(known)
    with service.store.read() as tx:
        file = lifecycle.find_item(tx, holder.case, item)
    paid = file.awaiting_after == body.after  # otherwise a retry, or refused below
    if paid:
        signals = len(body.signals)
        lifecycle.check_length(body.after, signals)
        service.proof_of_work.pay(
            service.store, body.work, signals=signals, case=holder.case, now=now
        )

    return filing.add_signals(service, attempt, file, body, _finder(holder), paid=paid, now=now)


@router.delete(
    "/case/items/{item}",
    summary="Withdraw a file",
    response_description="How many files were withdrawn, and how many remain.",
    responses=_ITEM_UNKNOWN | _WORK,
)
def withdraw_item(item: ItemNumber, holder: CurrentHolder, service: ServiceDep) -> Withdrawal:
    """Withdraw a file: its hashes match nothing from now on, and all platforms get a removal.

    Withdrawing the last file closes the case. The request is idempotent.
    """
    return filing.withdraw(service, _finder(holder), item)


@router.delete(
    "/case",
    summary="Withdraw the case",
    response_description="How many files were withdrawn, and how many remain.",
    responses=_WORK,
)
def withdraw_case(holder: CurrentHolder, service: ServiceDep) -> Withdrawal:
    """Withdraw all files and close the case. The request is idempotent."""
    return filing.withdraw(service, _finder(holder), None)


def _finder(holder: Holder) -> Callable[[Transaction], int]:
    return lambda _tx: holder.case
