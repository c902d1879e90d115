"""The survivor's door: no account, a case number and a passphrase."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.security import APIKeyHeader
from starlette.concurrency import run_in_threadpool

from clearinghouse.cases import advocates, lifecycle
from clearinghouse.cases.check_queue import CheckQueueFull, Lane
from clearinghouse.cases.idempotency import Attempt, Reply, earlier, once
from clearinghouse.cases.intake import Intake
from clearinghouse.cases.passphrases import mint_number, mint_passphrase, read_number
from clearinghouse.database.transaction import Transaction
from clearinghouse.errors import CheckWorkNeeded, CredentialsMissing, CredentialsWrong
from clearinghouse.routes import filing
from clearinghouse.routes.dependencies import (
    Repeatable,
    Serving,
    answer,
    documented,
    parsed,
    repeated,
    shown_work,
)
from nciihash.wire import (
    CASE_SCHEME,
    AddItems,
    AddSignals,
    CaseOpened,
    CaseStatus,
    ItemsAdded,
    OpenCase,
    Problem,
    SignalsAdded,
    Withdrawal,
)
from nciihash.wire.advocates import Claim
from nciihash.wire.proof_of_work import SIGNALS_ASKED_MAX, Work, WorkAsked, WorkProblem

_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": Problem},
    401: {"model": Problem},
    408: {"model": Problem},
    413: {"model": Problem},
    415: {"model": Problem},
    422: {"model": Problem},
    503: {"model": Problem},
    429: {"model": Problem},
}

_CLOSED: Final[dict[int | str, dict[str, Any]]] = {409: {"model": Problem}}
_WORK: Final[dict[int | str, dict[str, Any]]] = {428: {"model": WorkProblem}}
_UNKNOWN: Final[dict[int | str, dict[str, Any]]] = {404: {"model": Problem}}

router = APIRouter(prefix="/v1", tags=["survivors"], responses=_PROBLEMS)


_header = APIKeyHeader(
    name="Authorization",
    scheme_name="Case",
    description=f"`{CASE_SCHEME} ` and base64(number:passphrase).",
    auto_error=False,
)


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody who knows a case's number and passphrase."""

    case: int


async def admit(
    request: Request,
    serving: Serving,
    authorization: Annotated[str | None, Depends(_header)],
    work: Annotated[Work | None, Depends(shown_work)],
) -> Holder:
    """Check number and passphrase; an unknown case costs as much as a wrong passphrase."""
    number, passphrase = _credentials(authorization)
    lookup = lifecycle.case_lookup(serving.store, number)
    lane = Lane.WITHDRAWING if request.method == "DELETE" else Lane.OTHERS
    queue, now, effort = serving.checks.queue, serving.clock(), 0
    if work is not None:
        effort = await run_in_threadpool(
            serving.gate.pay_for_check, serving.store, work, queue.asked(lane), now
        )

    def find() -> tuple[int, str] | None:
        with serving.store.read() as tx:
            row = tx.cases.find(lookup)
            return None if row is None else (row.id, row.verifier)

    found = await run_in_threadpool(find)
    try:
        passed = await serving.checks.passes(
            lookup, found[1] if found else None, passphrase, lane=lane, effort=effort
        )
    except CheckQueueFull as crowded:
        raise CheckWorkNeeded(serving.gate.ask_for_check(crowded.effort, now)) from None
    if not passed or found is None:
        raise CredentialsWrong
    return Holder(found[0])


def _credentials(header: str | None) -> tuple[str, str]:
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.lower() != CASE_SCHEME.lower():
        raise CredentialsMissing
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except ValueError:  # no base64, or no UTF-8 in it
        raise CredentialsMissing from None
    number, colon, passphrase = text.partition(":")
    written = read_number(number)
    if not colon or len(passphrase) > 500:
        raise CredentialsMissing
    # A number that cannot be one is looked for all the same, and takes as long.
    return written or number[:64], passphrase


Admitted = Annotated[Holder, Depends(admit)]
Numbered = Annotated[int, Path(ge=1, le=2**31 - 1, description="The file's number in the case.")]


@router.get("/work")
def ask_for_work(
    serving: Serving,
    signals: Annotated[
        int | None,
        Query(
            ge=1,
            le=SIGNALS_ASKED_MAX,
            description="Hashes that the request will bring, of all its files. By default what "
            "opens a case of up to 1,024.",
        ),
    ] = None,
    before: Annotated[
        int, Query(ge=0, le=SIGNALS_ASKED_MAX, description="Hashes that the case has already.")
    ] = 0,
) -> WorkAsked:
    """Ask what sending hashes takes: nothing while it is quiet, else puzzles to solve."""
    return serving.gate.ask(serving.store, serving.clock(), signals, before)


@router.post(
    "/cases",
    status_code=201,
    response_model=CaseOpened,
    responses=_WORK,
    openapi_extra=documented(OpenCase),
)
async def open_case(
    body: Annotated[OpenCase, Depends(parsed(OpenCase))], serving: Serving, repeat: Repeatable
) -> Response:
    """Open a case with the hashes of its first files.

    The passphrase is in this answer and nowhere else.
    """
    now = serving.clock()

    def look() -> tuple[Attempt | None, Reply | None, int]:
        attempt, known = repeated(serving, repeat, body)
        if known is not None:
            return attempt, known, 0
        lifecycle.check_declared(body.declaration)
        signals = lifecycle.check_usable(body.items, serving.settings.matched)
        # whoever did no work takes no place
        serving.gate.look(serving.store, body.work, signals=signals, now=now)
        return attempt, None, signals

    attempt, known, signals = await run_in_threadpool(look)
    if known is not None:
        return answer(known)
    number, passphrase = mint_number(), mint_passphrase()
    lookup = lifecycle.case_lookup(serving.store, number)
    with serving.checks.place():
        await run_in_threadpool(
            serving.gate.pay, serving.store, body.work, signals=signals, now=now
        )
        verifier = await serving.checks.make(passphrase)

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
            months=serving.settings.case_months,
            now=now,
        )
        return Reply.of(201, opened)

    return await run_in_threadpool(filing.file_items, serving, attempt, body.items, act, now=now)


@router.post("/claim", response_model=CaseOpened, responses=_UNKNOWN)
async def claim(body: Claim, serving: Serving, repeat: Repeatable) -> Response:
    """Take over a case that an advocate opened for you, by the code that she gave you.

    Number and passphrase are in this answer and nowhere else, and the advocate's access ends.
    """
    now = serving.clock()

    def look() -> Reply | int:
        if repeat is not None and (known := earlier(serving.store, repeat)) is not None:
            return known
        with serving.store.read() as tx:
            return advocates.claimable(serving.store, tx, body.code, now=now)

    number, passphrase = mint_number(), mint_passphrase()

    def act(tx: Transaction) -> Reply:
        claimed = advocates.claim(
            serving.store,
            tx,
            body.code,
            number=number,
            passphrase=passphrase,
            verifier=verifier,
            months=serving.settings.case_months,
            now=now,
        )
        return Reply.of(200, claimed)

    if isinstance(found := await run_in_threadpool(look), Reply):
        return answer(found)
    # one code buys one verifier, however many requests bring it at a time
    with serving.checks.place(of=found):
        if isinstance(again := await run_in_threadpool(look), Reply):
            return answer(again)
        verifier = await serving.checks.make(passphrase)
        return answer(await run_in_threadpool(once, serving.store, repeat, now, act))


@router.get("/case", responses=_WORK)
def read_case(holder: Admitted, serving: Serving) -> CaseStatus:
    """Tell what each platform did about each file. Looking renews the case."""
    return lifecycle.visit(
        serving.store,
        lambda _tx: holder.case,
        months=serving.settings.case_months,
        now=serving.clock(),
    )


@router.post(
    "/case/items",
    status_code=201,
    response_model=ItemsAdded,
    responses=_CLOSED | _WORK,
    openapi_extra=documented(AddItems),
)
def add_items(
    holder: Admitted,  # first, so that nothing is read for a stranger
    body: Annotated[AddItems, Depends(parsed(AddItems))],
    serving: Serving,
    repeat: Repeatable,
) -> Response:
    """Add files to an open case."""
    now = serving.clock()
    attempt, known = repeated(serving, repeat, body)
    if known is not None:
        return answer(known)
    with serving.store.read() as tx:
        lifecycle.check_room(tx, holder.case, len(body.items))
    signals = lifecycle.check_usable(body.items, serving.settings.matched)
    serving.gate.pay(serving.store, body.work, signals=signals, case=holder.case, now=now)

    return filing.add_items(serving, attempt, body.items, _same(holder), now=now)


@router.post(
    "/case/items/{item}/signals",
    status_code=201,
    response_model=SignalsAdded,
    responses={409: {"model": Problem}} | _UNKNOWN | _WORK,
    openapi_extra=documented(AddSignals),
)
def add_signals(
    item: Numbered,
    holder: Admitted,
    body: Annotated[AddSignals, Depends(parsed(AddSignals))],
    serving: Serving,
    repeat: Repeatable,
) -> Response:
    """Add the next hashes of a long video, whose first ones were sent with `more`."""
    now = serving.clock()
    attempt, known = repeated(serving, repeat, body)
    if known is not None:
        return answer(known)
    with serving.store.read() as tx:
        file = lifecycle.find_item(tx, holder.case, item)
    paid = file.awaiting_after == body.after  # else it is a repetition, or refused
    if paid:
        signals = len(body.signals)
        lifecycle.check_length(body.after, signals)
        serving.gate.pay(serving.store, body.work, signals=signals, case=holder.case, now=now)

    return filing.add_signals(serving, attempt, file, body, _same(holder), paid=paid, now=now)


@router.delete("/case/items/{item}", responses=_UNKNOWN | _WORK)
def withdraw_item(item: Numbered, holder: Admitted, serving: Serving) -> Withdrawal:
    """Withdraw one file. From now on nothing matches it here, and every platform is told."""
    return filing.withdraw(serving, _same(holder), item)


@router.delete("/case", responses=_WORK)
def withdraw_case(holder: Admitted, serving: Serving) -> Withdrawal:
    """Withdraw all files and close the case. Repeating it is safe."""
    return filing.withdraw(serving, _same(holder), None)


def _same(holder: Holder) -> Callable[[Transaction], int]:
    return lambda _tx: holder.case
